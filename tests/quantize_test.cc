#include "converter/quantize.h"

#include <cmath>
#include <limits>
#include <vector>

#include "doctest/doctest.h"
#include "tests/checkpoint_builder.h"

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

TEST_CASE("quantize: errors are gathered") {
  QuantizationError error;
  CHECK(error.relative_rms() == 0.0);
  error.add(3.0f, 3.5f);
  error.add(-4.0f, -4.0f);
  CHECK(error.max_abs == 0.5);
  CHECK(error.relative_rms() == doctest::Approx(0.1));
}

TEST_CASE("quantize: weight types have names") {
  for (const WeightType type : {WeightType::kF32, WeightType::kF16, WeightType::kInt8}) {
    CHECK(parse_weight_type(weight_type_name(type)) == type);
  }
  CHECK_FALSE(parse_weight_type("int4"));
  CHECK_FALSE(parse_weight_type("F32"));
  CHECK_FALSE(parse_weight_type(""));
}

}  // namespace
}  // namespace moka
