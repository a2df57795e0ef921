#include "runtime/tiles.h"

#include <cstring>
#include <vector>

#include "doctest/doctest.h"
#include "tests/kernel_testing.h"

namespace moka {
namespace {

using test::Random;

// A tiled matrix made row by row, and its numbers as they went in.
struct Matrix {
  Tensor tensor;
  std::vector<int8_t> q;       // [rows][columns]
  std::vector<float> scales;   // [rows]
  std::vector<uint8_t> codes;  // [rows][blocks] of int4
  std::vector<uint8_t> data, tile_scales;

  float expected(size_t row, size_t column) const {
    return static_cast<float>(q[row * tensor.shape[1] + column]) * scales[row];
  }
};

Matrix make_matrix(DType dtype, uint32_t rows, uint32_t columns, uint64_t seed) {
  Random random(seed);
  Matrix m;
  const bool i4 = dtype == DType::kI4;
  const size_t blocks = tile_blocks(size_t{columns});
  m.q.resize(size_t{rows} * columns);
  for (size_t i = 0; i < rows * blocks; ++i) {
    const int zero = kMinZero + static_cast<int>(random.below(kMaxZero - kMinZero + 1));
    const auto most = static_cast<uint32_t>(max_multiplier(zero));
    m.codes.push_back(tile_code(1 + static_cast<int>(random.below(most)), zero));
  }
  for (size_t i = 0; i < m.q.size(); ++i) {
    const uint8_t code = m.codes[i / columns * blocks + i % columns / kTileBlock];
    const int nibble = static_cast<int>(random.below(16));
    const int wide = static_cast<int>(random.below(255)) - 127;
    m.q[i] = static_cast<int8_t>(i4 ? (nibble - code_zero(code)) * code_multiplier(code) : wide);
  }
  for (size_t r = 0; r < rows; ++r) m.scales.push_back(random.uniform(0.01f, 2.0f));
  const auto tile_bytes = static_cast<size_t>(tile_data_bytes(dtype, columns));
  const auto scale_bytes = static_cast<size_t>(tile_scale_bytes(dtype, columns));
  m.data.assign(tile_count(rows) * tile_bytes, 0xee);
  m.tile_scales.assign(tile_count(rows) * scale_bytes, 0xee);
  for (size_t t = 0; t < tile_count(rows); ++t) {
    const size_t first = t * kTileOutputs;
    const size_t count = rows - first < kTileOutputs ? rows - first : kTileOutputs;
    const int8_t* q = m.q.data() + first * columns;
    uint8_t* data = m.data.data() + t * tile_bytes;
    uint8_t* scales = m.tile_scales.data() + t * scale_bytes;
    if (i4) {
      pack_tile_i4(q, columns, m.scales.data() + first, m.codes.data() + first * blocks, count,
                   columns, data, scales);
    } else {
      pack_tile_i8(q, columns, m.scales.data() + first, count, columns,
                   reinterpret_cast<int8_t*>(data), scales);
    }
  }
  m.tensor.name = "m";
  m.tensor.dtype = dtype;
  m.tensor.shape = {rows, columns};
  m.tensor.data = m.data.data();
  m.tensor.scales = m.tile_scales.data();
  return m;
}

const std::vector<uint32_t> kColumns = {1, 3, 4, 5, 8, 31, 32, 33, 36, 63, 64, 100, 288};

TEST_CASE("tiles: every row reads back as it was packed") {
  for (const DType dtype : {DType::kI8, DType::kI4}) {
    for (const uint32_t rows : {1u, 2u, 15u, 16u, 17u, 40u}) {
      for (const uint32_t columns : kColumns) {
        const Matrix m = make_matrix(dtype, rows, columns, rows * 1000 + columns);
        std::vector<float> row(columns + 1, 1234.5f);
        size_t wrong = 0;
        for (size_t r = 0; r < rows; ++r) {
          read_tile_row(m.tensor, r, row.data());
          for (size_t c = 0; c < columns; ++c) wrong += row[c] != m.expected(r, c);
        }
        CAPTURE(dtype_name(dtype));
        CAPTURE(rows);
        CAPTURE(columns);
        CHECK(wrong == 0);
        CHECK(row[columns] == 1234.5f);
      }
    }
  }
}

TEST_CASE("tiles: int8 numbers, scales and sums lie where the kernels read them") {
  constexpr uint32_t kRows = 18, kInputs = 6;
  const Matrix m = make_matrix(DType::kI8, kRows, kInputs, 5);
  REQUIRE(tile_data_bytes(DType::kI8, kInputs) == 2 * 64);
  REQUIRE(tile_scale_bytes(DType::kI8, kInputs) == 128);
  for (size_t r = 0; r < 32; ++r) {
    int32_t expected_sum = 0;
    for (size_t c = 0; c < 8; ++c) {
      const size_t at = r / 16 * 128 + c / 4 * 64 + r % 16 * 4 + c % 4;
      const int8_t expected = r < kRows && c < kInputs ? m.q[r * kInputs + c] : int8_t{0};
      CHECK(static_cast<int8_t>(m.data[at]) == expected);
      expected_sum += expected;
    }
    const uint8_t* tile = m.tile_scales.data() + r / 16 * 128;
    float scale = 0;
    int32_t sum = -1;
    std::memcpy(&scale, tile + r % 16 * 4, 4);
    std::memcpy(&sum, tile + 64 + r % 16 * 4, 4);
    CHECK(scale == (r < kRows ? m.scales[r] : 1.0f));
    CHECK(sum == expected_sum);
  }
}

TEST_CASE("tiles: int4 numbers, scales, sums and codes lie where the kernels read them") {
  constexpr uint32_t kRows = 18, kInputs = 45, kBlocks = 2;
  const Matrix m = make_matrix(DType::kI4, kRows, kInputs, 6);
  REQUIRE(tile_data_bytes(DType::kI4, kInputs) == kBlocks * 4 * 64);
  REQUIRE(tile_scale_bytes(DType::kI4, kInputs) == 128 + kBlocks * 16);
  for (size_t r = 0; r < 32; ++r) {
    const uint8_t* scales = m.tile_scales.data() + r / 16 * (128 + kBlocks * 16);
    int32_t expected_sum = 0;
    for (size_t c = 0; c < kBlocks * 32; ++c) {
      const size_t block = c / 32, group = c % 32 / 4;
      const size_t at = r / 16 * 512 + block * 256 + group / 2 * 64 + r % 16 * 4 + c % 4;
      const int half = group % 2 == 0 ? m.data[at] & 15 : m.data[at] >> 4;
      const int code = scales[128 + block * 16 + r % 16];
      CHECK(code == (r < kRows ? m.codes[r * kBlocks + block] : 0x81));
      const int32_t expected = r < kRows && c < kInputs ? m.q[r * kInputs + c] : 0;
      CHECK((half - (code / 32 + 4)) * (code % 32) == expected);
      expected_sum += expected;
    }
    float scale = 0;
    std::memcpy(&scale, scales + r % 16 * 4, 4);
    CHECK(scale == (r < kRows ? m.scales[r] : 1.0f));
    int32_t sum = -1;
    std::memcpy(&sum, scales + 64 + r % 16 * 4, 4);
    CHECK(sum == expected_sum);
  }
}

TEST_CASE("tiles: every code that is allowed stands for int8 numbers, and the next one does not") {
  for (int zero = kMinZero; zero <= kMaxZero; ++zero) {
    const int most = max_multiplier(zero);
    CHECK((most <= 16 && most >= 11));
    for (int multiplier = 1; multiplier <= most; ++multiplier) {
      const uint8_t code = tile_code(multiplier, zero);
      CHECK(code_multiplier(code) == multiplier);
      CHECK(code_zero(code) == zero);
    }
    CHECK((-zero * most >= -128 && (15 - zero) * most <= 127));
    CHECK((-zero * (most + 1) < -128 || (15 - zero) * (most + 1) > 127));
  }
}

TEST_CASE("tiles: rows may lie further apart than their length") {
  std::vector<int8_t> q(2 * 10, 9);
  for (size_t r = 0; r < 2; ++r) {
    for (size_t c = 0; c < 5; ++c) q[r * 10 + c] = static_cast<int8_t>(r * 5 + c) - 5;
  }
  const float scales[2] = {0.5f, 2.0f};
  std::vector<int8_t> data(static_cast<size_t>(tile_data_bytes(DType::kI8, 5)), 77);
  std::vector<uint8_t> tile_scales(128);
  pack_tile_i8(q.data(), 10, scales, 2, 5, data.data(), tile_scales.data());
  Tensor tensor;
  tensor.dtype = DType::kI8;
  tensor.shape = {2, 5};
  tensor.data = data.data();
  tensor.scales = tile_scales.data();
  std::vector<float> row(5);
  read_tile_row(tensor, 1, row.data());
  CHECK(row == std::vector<float>{0, 2, 4, 6, 8});
  read_tile_row(tensor, 0, row.data());
  CHECK(row == std::vector<float>{-2.5f, -2.0f, -1.5f, -1.0f, -0.5f});
}

}  // namespace
}  // namespace moka
