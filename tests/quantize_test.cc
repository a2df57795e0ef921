#include "converter/quantize.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "converter/storage.h"
#include "doctest/doctest.h"
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
  float scale = 0;
  std::vector<int8_t> q;
  std::vector<uint8_t> codes;
  double squared_error = 0;
};

Int4Row int4_row(const std::vector<float>& row) {
  Int4Row result;
  result.q.assign(row.size() + 1, 77);
  result.codes.assign(tile_blocks(row.size()) + 1, 0xab);
  result.scale = quantize_row_int4(row.data(), row.size(), result.q.data(), result.codes.data());
  CHECK((result.q.back() == 77 && result.codes.back() == 0xab));  // one per block, no more
  result.q.pop_back();
  result.codes.pop_back();
  CHECK((std::isnormal(result.scale) && result.scale > 0));
  for (const uint8_t code : result.codes) {
    CHECK((code_multiplier(code) >= 1 && code_multiplier(code) <= max_multiplier(code_zero(code))));
  }
  for (size_t c = 0; c < row.size(); ++c) {
    const uint8_t code = result.codes[c / 32];
    const int nibble = result.q[c] / code_multiplier(code) + code_zero(code);
    CHECK(result.q[c] % code_multiplier(code) == 0);
    CHECK((nibble >= 0 && nibble <= 15));
    const double difference = result.q[c] * static_cast<double>(result.scale) - row[c];
    result.squared_error += difference * difference;
  }
  return result;
}

TEST_CASE("quantize: int4 keeps sixteen numbers that lie evenly, whatever their sign and size") {
  // The smallest and the largest power that leave scales in range.
  for (const float unit : {0.5f, -0.5f, 1.0f, 0x1p-118f, -0x1p-118f, 0x1p120f}) {
    std::vector<float> row;
    for (int i = 0; i < 45; ++i) row.push_back(unit * static_cast<float>(i % 16 - 8));
    const Int4Row result = int4_row(row);
    double squares = 0;
    for (const float value : row)
      squares += static_cast<double>(value) * static_cast<double>(value);
    CHECK(result.squared_error < 1e-10 * squares);  // the scale is rounded once
  }
}

TEST_CASE("quantize: int4 rows of zeros and of the smallest numbers have scale 1 and zeros") {
  std::vector<float> row(40, 0.0f);
  Int4Row result = int4_row(row);
  CHECK(result.q == std::vector<int8_t>(40, 0));
  CHECK(result.codes == std::vector<uint8_t>(2, tile_code(1, 8)));
  CHECK(result.scale == 1.0f);

  row[3] = std::numeric_limits<float>::denorm_min();
  row[35] = -511 * std::numeric_limits<float>::min();
  result = int4_row(row);
  CHECK(result.q == std::vector<int8_t>(40, 0));
  CHECK(result.scale == 1.0f);

  row[35] = -512 * std::numeric_limits<float>::min();  // from here on scales are normal
  result = int4_row(row);
  CHECK(result.q[35] < -6);
  CHECK(result.scale < 1.0f);
}

TEST_CASE("quantize: int4 of the largest floats stays finite") {
  const float largest = std::numeric_limits<float>::max();
  const Int4Row result = int4_row({largest, -largest, 0.5f * largest, 1.0f});
  CHECK(std::isfinite(result.scale));
  CHECK(result.q[0] > 0);
  CHECK(result.q[1] < 0);
  CHECK(result.q[3] == 0);
}

TEST_CASE("quantize: int4 blocks of very different size in one row") {
  // The smaller block is worth 1/12 of the row's scale at most, so it has multiplier 1.
  std::vector<float> row(96, 0.0f);
  for (size_t i = 0; i < 32; ++i) row[i] = static_cast<float>(i) - 15.5f;
  for (size_t i = 32; i < 64; ++i) row[i] = 0.02f * (static_cast<float>(i) - 47.5f);
  const Int4Row result = int4_row(row);
  CHECK(code_multiplier(result.codes[0]) >= 12);
  CHECK(code_multiplier(result.codes[1]) == 1);
  for (size_t i = 64; i < 96; ++i) CHECK(result.q[i] == 0);
}

// What one scale per block in any precision leaves (no row scale): the magnitude of the largest
// becomes 7, or itself -8.
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

TEST_CASE("quantize: the search of int4 codes lowers the squared error of normal rows") {
  test::Random random(3);
  double error = 0, with_sign = 0, without = 0;
  for (size_t row = 0; row < 20; ++row) {
    std::vector<float> numbers(32 * 24);
    for (float& value : numbers) value = random.normal();
    const double found = int4_row(numbers).squared_error;
    CHECK(found < 0.95 * plain_error(numbers, true));
    error += found;
    with_sign += plain_error(numbers, true);
    without += plain_error(numbers, false);
  }
  CHECK(error < 0.87 * with_sign);
  CHECK(error < 0.68 * without);
}

TEST_CASE("quantize: int4 of a row is the same again, and scales with the row") {
  test::Random random(4);
  std::vector<float> row(100), larger;
  for (float& value : row) value = random.normal();
  for (const float value : row) larger.push_back(value * 0x1p10f);
  const Int4Row whole = int4_row(row), again = int4_row(row), scaled = int4_row(larger);
  CHECK(whole.q == again.q);
  CHECK(whole.codes == again.codes);
  CHECK(whole.scale == again.scale);
  CHECK(whole.q == scaled.q);
  CHECK(whole.codes == scaled.codes);
  CHECK(whole.scale * 0x1p10f == scaled.scale);
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
  CHECK(int4("blocks.3.gate.weight", 1280, 16) == WeightType::kInt8);  // 400 bytes, not 384
  CHECK(int4("blocks.3.gate.weight", 1280, 17) == WeightType::kInt4);  // 400 bytes, not 448

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
