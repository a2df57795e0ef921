// Any weights, activations and extents to every table of dense kernels that this CPU runs: each must
// agree with double precision over the same integers, stay inside its memory (run it with the address
// sanitizer) and, where a multiply-add rounds once, give the bits of the first table.
//
// Bytes: weight type, extents, then the numbers, one byte each; what is missing reads as zero.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "runtime/aligned_buffer.h"
#include "runtime/kernels/dense.h"
#include "runtime/tiles.h"
#include "tests/fuzz/choices.h"
#include "tests/fuzz/targets.h"
#include "tests/kernel_testing.h"

namespace {

using moka::DenseArgs;
using moka::DenseKernels;
using moka::DenseRows;
using moka::DType;
using moka::fuzz::Choices;
using moka::fuzz::require;
using moka::test::Floats;
using moka::test::kEps;

// A matrix in tiles, and the integers that its numbers stand for.
struct Matrix {
  DType dtype = DType::kI8;
  size_t outputs = 0, inputs = 0;
  std::vector<int8_t> q;     // [outputs][inputs]
  std::vector<float> scale;  // [outputs]
  moka::AlignedBuffer<uint8_t> data, scales;
};

// Brings an integer among those that a nibble with this code can say.
int8_t sayable(int8_t wanted, uint8_t code) {
  const int multiplier = moka::code_multiplier(code), zero = moka::code_zero(code);
  const int nibble = static_cast<int>(static_cast<uint8_t>(wanted) & 15u);
  return static_cast<int8_t>((nibble - zero) * multiplier);
}

Matrix matrix(Choices* in) {
  Matrix m;
  m.dtype = in->below(2) == 0 ? DType::kI8 : DType::kI4;
  m.outputs = 1 + in->below(50), m.inputs = 1 + in->below(150);
  const size_t blocks = moka::tile_blocks(m.inputs), tiles = moka::tile_count(m.outputs);
  const auto data_bytes = static_cast<size_t>(moka::tile_data_bytes(m.dtype, m.inputs));
  const auto scale_bytes = static_cast<size_t>(moka::tile_scale_bytes(m.dtype, m.inputs));
  if (!m.data.allocate(tiles * data_bytes) || !m.scales.allocate(tiles * scale_bytes)) std::abort();
  std::vector<uint8_t> code(m.outputs * blocks);
  for (uint8_t& c : code) {
    const int zero = moka::kMinZero + static_cast<int>(in->below(8));
    const int most = moka::max_multiplier(zero);
    c = moka::tile_code(1 + static_cast<int>(in->below(static_cast<size_t>(most))), zero);
  }
  for (size_t o = 0; o < m.outputs; ++o) {
    m.scale.push_back(static_cast<float>(1 + in->byte()) / 1024.0f);
    for (size_t i = 0; i < m.inputs; ++i) {
      const int8_t any = in->int8();
      m.q.push_back(m.dtype == DType::kI8 ? any
                                          : sayable(any, code[o * blocks + i / moka::kTileBlock]));
    }
  }
  for (size_t t = 0; t < tiles; ++t) {
    const size_t first = t * moka::kTileOutputs;
    const size_t rows = std::min(moka::kTileOutputs, m.outputs - first);
    const int8_t* q = m.q.data() + first * m.inputs;
    uint8_t* data = m.data.data() + t * data_bytes;
    uint8_t* scales = m.scales.data() + t * scale_bytes;
    if (m.dtype == DType::kI8) {
      moka::pack_tile_i8(q, m.inputs, m.scale.data() + first, rows, m.inputs,
                         reinterpret_cast<int8_t*>(data), scales);
    } else {
      moka::pack_tile_i4(q, m.inputs, m.scale.data() + first, code.data() + first * blocks, rows,
                         m.inputs, data, scales);
    }
  }
  return m;
}

// Activations quantised by one table, with their memory.
struct Rows {
  Rows(const DenseKernels& table, const Matrix& m, const Floats& x, size_t count) {
    const size_t inputs = moka::tile_inputs(m.dtype, m.inputs);
    rows.stride = (inputs + moka::kDenseRowPad - 1) / moka::kDenseRowPad * moka::kDenseRowPad;
    const size_t room = count + moka::kDenseRowTile;
    const size_t blocks = rows.stride / moka::kDenseBlock;
    if (!q.allocate(room * rows.stride) || !step.allocate(room) || !zero.allocate(room) ||
        !sum.allocate(room) || !block_sum.allocate(room * blocks)) {
      std::abort();
    }
    rows.q = q.data(), rows.step = step.data(), rows.zero = zero.data(), rows.sum = sum.data();
    rows.block_sum = block_sum.data();
    for (size_t r = 0; r < count; ++r) {
      table.quantise(x.data() + r * m.inputs, m.inputs, r, rows);
      int32_t total = 0;
      for (size_t i = 0; i < rows.stride; ++i) {
        require(i < m.inputs || rows.q[r * rows.stride + i] == 0, table, "padding is not zero");
        total += rows.q[r * rows.stride + i];
      }
      require(total == rows.sum[r], table, "the sum of a row is not that of its numbers");
    }
  }
  DenseRows rows;
  moka::AlignedBuffer<int8_t> q;
  moka::AlignedBuffer<float> step;
  moka::AlignedBuffer<int32_t> zero, sum, block_sum;
};

void check(const DenseKernels& table, const Matrix& m, const Rows& x, const Floats& bias,
           const Floats& y, size_t y_stride, size_t count) {
  for (size_t r = 0; r < count; ++r) {
    const int8_t* q = x.rows.q + r * x.rows.stride;
    const double step = x.rows.step[r];
    for (size_t o = 0; o < y_stride; ++o) {
      const float got = y[r * y_stride + o];
      if (o >= m.outputs) {
        require(got == -5.0f, table, "wrote beyond the outputs of its matrix");
        continue;
      }
      int64_t total = 0;
      for (size_t i = 0; i < m.inputs; ++i) {
        total += int64_t{q[i] - x.rows.zero[r]} * m.q[o * m.inputs + i];
      }
      const double product = step * static_cast<double>(total) * static_cast<double>(m.scale[o]);
      const double want = product + static_cast<double>(bias[o]);
      const double allowed = 8 * kEps * (std::fabs(product) + std::fabs(double{bias[o]}));
      require(std::fabs(got - want) <= allowed, table,
              "row " + std::to_string(r) + ", output " + std::to_string(o) + " is " +
                  std::to_string(got) + ", expected " + std::to_string(want));
    }
  }
}

}  // namespace

void moka::fuzz::dense_fuzz(const uint8_t* data, size_t size) {
  Choices in(data, size);
  const size_t count = 1 + in.below(20);
  const float spread = std::ldexp(1.0f, static_cast<int>(in.below(40)) - 24);
  const Matrix m = matrix(&in);
  // 16 bytes after the end are readable, and no more.
  Floats x(count * m.inputs + 4), bias(m.outputs);
  for (size_t i = 0; i < count * m.inputs; ++i) x[i] = static_cast<float>(in.int8()) * spread;
  for (float& value : bias) value = static_cast<float>(in.int8()) / 16.0f;
  const size_t y_stride = m.outputs + in.below(3);
  std::vector<float> first;
  for (const DenseKernels* table : moka::compiled_dense_kernels()) {
    if (!moka::runs_here(*table)) continue;
    const Rows rows(*table, m, x, count);
    Floats y = moka::test::outputs(count * y_stride);
    std::fill(y.begin(), y.end(), -5.0f);
    DenseArgs args;
    args.x = rows.rows, args.rows = count;
    args.inputs = moka::tile_inputs(m.dtype, m.inputs);
    args.data = m.data.data(), args.scales = m.scales.data();
    args.first = 0, args.last = moka::tile_count(m.outputs);
    args.outputs = m.outputs, args.bias = bias.data();
    args.y = y.data(), args.y_stride = y_stride;
    moka::AlignedBuffer<uint8_t> scratch;
    const size_t each = std::max(table->int8_scratch, table->int4_scratch);
    if (!scratch.allocate(each * args.inputs)) std::abort();
    args.scratch = scratch.data();
    (m.dtype == DType::kI8 ? table->int8 : table->int4)(args);
    require(y.intact(), *table, "wrote outside of its rows");
    check(*table, m, rows, bias, y, y_stride, count);
    if (std::strcmp(table->name, "scalar") == 0) continue;
    if (first.empty()) first.assign(y.begin(), y.end());
    require(moka::test::same_bits(y.data(), first.data(), y.size()), *table,
            "gives other bits than the first table");
  }
}
