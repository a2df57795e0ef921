#include "converter/quantize.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "converter/storage.h"
#include "doctest/doctest.h"
#include "runtime/half.h"
#include "runtime/tiles.h"
#include "tests/checkpoint_builder.h"
#include "tests/kernel_testing.h"

namespace moka {
namespace {

TEST_CASE("quantize: a row is rounded to 127 steps of its largest magnitude") {
  const std::vector<float> row = {-127.0f, 0.0f, 1.0f, 1.4f, 63.7f, 127.0f};
  std::vector<int8_t> q(row.size());
  CHECK(quantize_row_int8(row.data(), row.size(), q.data()) == 1.0f);
  CHECK(q == std::vector<int8_t>{-127, 0, 1, 1, 64, 127});
}

TEST_CASE("quantize: halves go to the even neighbour") {
  const std::vector<float> row = {127.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f};
  std::vector<int8_t> q(row.size());
  CHECK(quantize_row_int8(row.data(), row.size(), q.data()) == 1.0f);
  CHECK(q == std::vector<int8_t>{127, 0, 2, 2, 0, -2, -2});
}

TEST_CASE("quantize: zeros and the smallest numbers give scale 1 and zeros") {
  std::vector<float> row(5, 0.0f);
  std::vector<int8_t> q(row.size(), 77);
  CHECK(quantize_row_int8(row.data(), row.size(), q.data()) == 1.0f);
  CHECK(q == std::vector<int8_t>(5, 0));

  row[2] = std::numeric_limits<float>::denorm_min();
  q.assign(5, 77);
  CHECK(quantize_row_int8(row.data(), row.size(), q.data()) == 1.0f);
  CHECK(q == std::vector<int8_t>(5, 0));

  row[2] = std::numeric_limits<float>::min() * 126.0f;  // its scale would be subnormal
  CHECK(quantize_row_int8(row.data(), row.size(), q.data()) == 1.0f);
  CHECK(q[2] == 0);
  row[2] = std::numeric_limits<float>::min() * 128.0f;  // and this one's is the first normal
  CHECK(std::isnormal(quantize_row_int8(row.data(), row.size(), q.data())));
  CHECK(q[2] == 127);
}

TEST_CASE("quantize: the largest floats neither overflow nor leave the range") {
  const float most = std::numeric_limits<float>::max();
  const std::vector<float> row = {most, -most, most / 2, 0.0f};
  std::vector<int8_t> q(row.size());
  const float scale = quantize_row_int8(row.data(), row.size(), q.data());
  CHECK(scale == most / 127);
  CHECK(q[0] == 127);
  CHECK(q[1] == -127);
  CHECK(std::abs(q[2] - 64) <= 1);
}

TEST_CASE("quantize: no number is further off than half a step") {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    const std::vector<float> row = test::test_numbers(97, seed % 2 == 0 ? 0.02f : 30.0f, seed);
    std::vector<int8_t> q(row.size());
    const float scale = quantize_row_int8(row.data(), row.size(), q.data());
    int largest = 0;
    for (size_t i = 0; i < row.size(); ++i) {
      CHECK(std::fabs(static_cast<float>(q[i]) * scale - row[i]) <= 0.5f * scale * 1.00001f);
      largest = std::max(largest, std::abs(static_cast<int>(q[i])));
    }
    CHECK(largest == 127);
  }
}

// ---- int4 --------------------------------------------------------------------------------------

struct Int4Row {
  std::vector<int8_t> q;
  std::vector<uint16_t> scales;
  double squared_error = 0;
};

Int4Row int4_row(const std::vector<float>& row) {
  Int4Row result;
  result.q.assign(row.size(), 77);
  result.scales.assign(tile_blocks(row.size()) + 1, 0xabcd);
  quantize_row_int4(row.data(), row.size(), result.q.data(), result.scales.data());
  CHECK(result.scales.back() == 0xabcd);  // one per block, no more
  result.scales.pop_back();
  for (size_t c = 0; c < row.size(); ++c) {
    const double scale = bfloat16_to_float(result.scales[c / 32]);
    CHECK(result.q[c] >= -8);
    CHECK(result.q[c] <= 7);
    CHECK(std::isnormal(scale));
    const double difference = result.q[c] * scale - row[c];
    result.squared_error += difference * difference;
  }
  return result;
}

TEST_CASE("quantize: int4 keeps sixteen numbers that lie evenly, whatever their sign and size") {
  // The smallest and the largest power that leave scales and sums of squares in range.
  for (const float unit : {0.5f, -0.5f, 1.0f, 0x1p-118f, -0x1p-118f, 0x1p120f}) {
    std::vector<float> row;
    for (int i = 0; i < 45; ++i) row.push_back(unit * static_cast<float>(i % 16 - 8));
    const Int4Row result = int4_row(row);
    CHECK(result.squared_error == 0);
    REQUIRE(result.scales.size() == 2);
    for (const uint16_t scale : result.scales) CHECK(bfloat16_to_float(scale) == unit);
    for (int i = 0; i < 45; ++i) CHECK(result.q[static_cast<size_t>(i)] == i % 16 - 8);
  }
}

TEST_CASE("quantize: int4 blocks of zeros and of the smallest numbers have scale 1 and zeros") {
  std::vector<float> row(40, 0.0f);
  Int4Row result = int4_row(row);
  CHECK(result.q == std::vector<int8_t>(40, 0));
  CHECK(result.scales == std::vector<uint16_t>(2, 0x3f80));

  row[3] = std::numeric_limits<float>::denorm_min();
  row[35] = -15 * std::numeric_limits<float>::min();
  result = int4_row(row);
  CHECK(result.q == std::vector<int8_t>(40, 0));
  CHECK(result.scales == std::vector<uint16_t>(2, 0x3f80));

  row[35] = -16 * std::numeric_limits<float>::min();  // from here on scales are normal
  result = int4_row(row);
  CHECK(result.q[35] <= -6);
  CHECK(bfloat16_to_float(result.scales[1]) > std::numeric_limits<float>::min());
}

TEST_CASE("quantize: int4 of the largest floats stays finite") {
  const float largest = std::numeric_limits<float>::max();
  const Int4Row result = int4_row({largest, -largest, 0.5f * largest, 1.0f});
  CHECK(std::isfinite(bfloat16_to_float(result.scales[0])));
  CHECK(result.q[0] == -result.q[1]);
  CHECK(result.q[3] == 0);
}

// What a search of the scale must beat: the magnitude of the largest becomes 7, or itself -8.
double plain_error(const std::vector<float>& row, bool signed_extreme) {
  double total = 0;
  for (size_t begin = 0; begin < row.size(); begin += 32) {
    const size_t end = std::min(row.size(), begin + 32);
    float extreme = 0;
    for (size_t c = begin; c < end; ++c) {
      if (std::fabs(row[c]) > std::fabs(extreme)) extreme = row[c];
    }
    const double scale = signed_extreme ? extreme / -8.0 : std::fabs(extreme) / 7.0;
    for (size_t c = begin; c < end; ++c) {
      const double q = std::min(7.0, std::max(-8.0, std::nearbyint(row[c] / scale)));
      total += (q * scale - row[c]) * (q * scale - row[c]);
    }
  }
  return total;
}

TEST_CASE("quantize: the search of int4 scales lowers the squared error of normal rows") {
  test::Random random(3);
  std::vector<float> row(32 * 400);
  for (float& value : row) value = random.normal();
  const double error = int4_row(row).squared_error;
  CHECK(error < 0.92 * plain_error(row, true));
  CHECK(error < 0.75 * plain_error(row, false));
  // And no block is worse than either by more than its scale's rounding to bfloat16 costs.
  for (size_t block = 0; block < 400; ++block) {
    const std::vector<float> one(row.begin() + static_cast<ptrdiff_t>(block * 32),
                                 row.begin() + static_cast<ptrdiff_t>(block * 32 + 32));
    const double found = int4_row(one).squared_error;
    CHECK(found < 1.02 * plain_error(one, true));
  }
}

TEST_CASE("quantize: int4 is the same for a block alone and in a row, and for the same row again") {
  test::Random random(4);
  std::vector<float> row(100);
  for (float& value : row) value = random.normal();
  const Int4Row whole = int4_row(row);
  const Int4Row again = int4_row(row);
  CHECK(whole.q == again.q);
  CHECK(whole.scales == again.scales);
  const Int4Row part = int4_row({row.begin() + 64, row.begin() + 96});
  CHECK(part.scales[0] == whole.scales[2]);
  CHECK(std::equal(part.q.begin(), part.q.end(), whole.q.begin() + 64));
}

TEST_CASE("quantize: which matrices int4 leaves at int8") {
  const auto int4 = [](const char* name, uint32_t rows, uint32_t columns) {
    return stored_type(WeightType::kInt4, name, rows, columns);
  };
  CHECK(int4("embed.weight", 8192, 448) == WeightType::kInt8);
  CHECK(int4("head.weight", 8192, 448) == WeightType::kInt8);
  CHECK(int4("blocks.3.mixer.gate.weight", 12, 448) == WeightType::kInt8);
  CHECK(int4("blocks.3.mixer.q.weight", 63, 448) == WeightType::kInt8);
  CHECK(int4("blocks.3.mixer.q.weight", 64, 448) == WeightType::kInt4);
  CHECK(int4("blocks.3.gate.weight", 1280, 448) == WeightType::kInt4);
  CHECK(int4("blocks.3.gate.weight", 1280, 12) == WeightType::kInt8);  // 352 bytes, not 320
  CHECK(int4("blocks.3.gate.weight", 1280, 13) == WeightType::kInt4);  // 352 bytes, not 384

  // The search may narrow the ends as well, but no matrix that is not worth it.
  CHECK(stored_type(WeightType::kAuto, "embed.weight", 8192, 448) == WeightType::kInt4);
  CHECK(stored_type(WeightType::kAuto, "blocks.3.mixer.q.weight", 63, 448) == WeightType::kInt8);
  for (const WeightType type : {WeightType::kF32, WeightType::kF16, WeightType::kInt8}) {
    CHECK(stored_type(type, "blocks.0.fc1.weight", 512, 448) == type);
  }
}

TEST_CASE("quantize: errors are gathered") {
  QuantizationError error;
  CHECK(error.relative_rms() == 0.0);
  error.add(3.0f, 3.5f);
  error.add(-4.0f, -4.0f);
  CHECK(error.max_abs == 0.5);
  CHECK(error.relative_rms() == doctest::Approx(0.1));
}

TEST_CASE("quantize: weight types have names") {
  for (const WeightType type : {WeightType::kF32, WeightType::kF16, WeightType::kInt8,
                                WeightType::kInt4, WeightType::kAuto}) {
    CHECK(parse_weight_type(weight_type_name(type)) == type);
  }
  CHECK_FALSE(parse_weight_type("int5"));
  CHECK_FALSE(parse_weight_type("F32"));
  CHECK_FALSE(parse_weight_type(""));
}

}  // namespace
}  // namespace moka
