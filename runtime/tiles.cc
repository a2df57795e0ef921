#include "runtime/tiles.h"

#include <cstring>

namespace moka {
namespace {

constexpr size_t kBytesPerGroup = kTileOutputs * kTileGroup;
constexpr int kFillZero = 8;
constexpr uint8_t kFillCode = tile_code(1, kFillZero);  // of rows that fill up a tile

// Where the number of input c lies among those of output 0 in a tile of int8.
constexpr size_t i8_place(size_t c) { return c / kTileGroup * kBytesPerGroup + c % kTileGroup; }

// The byte that holds the number of input c for output 0 in a tile of int4: groups 2p and 2p + 1
// share the bytes of pair p, and blocks are whole pairs, so they need no arithmetic of their own.
constexpr size_t i4_place(size_t c) {
  return c / (2 * kTileGroup) * kBytesPerGroup + c % kTileGroup;
}
constexpr bool i4_high(size_t c) { return c / kTileGroup % 2 != 0; }

// Scales and sums as the kernels load them; memcpy, because a caller's block may lie anywhere.
template <class T>
T load(const void* array, size_t index) {
  T value;
  std::memcpy(&value, static_cast<const uint8_t*>(array) + index * sizeof(T), sizeof(T));
  return value;
}

template <class T>
void store(void* array, size_t index, T value) {
  std::memcpy(static_cast<uint8_t*>(array) + index * sizeof(T), &value, sizeof(T));
}

}  // namespace

void pack_tile_i8(const int8_t* q, size_t stride, const float* scale, size_t rows, size_t inputs,
                  int8_t* data, void* scales) {
  std::memset(data, 0, static_cast<size_t>(tile_data_bytes(DType::kI8, inputs)));
  auto* sums = static_cast<uint8_t*>(scales) + kTileOutputs * sizeof(float);
  for (size_t r = 0; r < kTileOutputs; ++r) {
    int32_t sum = 0;
    if (r < rows) {
      const int8_t* row = q + r * stride;
      int8_t* out = data + r * kTileGroup;
      for (size_t c = 0; c < inputs; ++c) {
        out[i8_place(c)] = row[c];
        sum += row[c];
      }
    }
    store(scales, r, r < rows ? scale[r] : 1.0f);
    store(sums, r, sum);
  }
}

void pack_tile_i4(const int8_t* q, size_t stride, const float* scale, const uint8_t* code,
                  size_t rows, size_t inputs, uint8_t* data, void* scales) {
  std::memset(data, 0, static_cast<size_t>(tile_data_bytes(DType::kI4, inputs)));
  const size_t blocks = tile_blocks(inputs);
  auto* sums = static_cast<uint8_t*>(scales) + kTileOutputs * sizeof(float);
  uint8_t* codes = sums + kTileOutputs * sizeof(int32_t);
  for (size_t r = 0; r < kTileOutputs; ++r) {
    int32_t sum = 0;
    for (size_t b = 0; b < blocks; ++b) {
      const uint8_t of_block = r < rows ? code[r * blocks + b] : kFillCode;
      const int multiplier = code_multiplier(of_block), zero = code_zero(of_block);
      codes[b * kTileOutputs + r] = of_block;
      for (size_t c = b * kTileBlock; c < (b + 1) * kTileBlock; ++c) {
        const int value = r < rows && c < inputs ? q[r * stride + c] : 0;
        const int nibble = value / multiplier + zero;
        uint8_t& byte = data[i4_place(c) + r * kTileGroup];
        byte = static_cast<uint8_t>(byte | (i4_high(c) ? nibble << 4 : nibble));
        sum += value;
      }
    }
    store(scales, r, r < rows ? scale[r] : 1.0f);
    store(sums, r, sum);
  }
}

// Group by group: a model gathers a row of its token table for every token that it reads.
void read_tile_row(const Tensor& tensor, size_t row, float* out) {
  const size_t inputs = tensor.shape[1];
  const size_t tile = row / kTileOutputs, r = row % kTileOutputs;
  const auto* data = static_cast<const uint8_t*>(tensor.data) +
                     tile * static_cast<size_t>(tile_data_bytes(tensor.dtype, inputs)) +
                     r * kTileGroup;
  const auto* scales = static_cast<const uint8_t*>(tensor.scales) +
                       tile * static_cast<size_t>(tile_scale_bytes(tensor.dtype, inputs));
  const uint8_t* codes = scales + kTileOutputs * (sizeof(float) + sizeof(int32_t)) + r;
  const bool i4 = tensor.dtype == DType::kI4;
  const float scale = load<float>(scales, r);
  int multiplier = 1, zero = 0;
  for (size_t c = 0; c < inputs; c += kTileGroup) {
    const size_t count = inputs - c < kTileGroup ? inputs - c : kTileGroup;
    const uint8_t* group = data + (i4 ? i4_place(c) : i8_place(c));
    if (i4 && c % kTileBlock == 0) {
      const uint8_t code = codes[c / kTileBlock * kTileOutputs];
      multiplier = code_multiplier(code);
      zero = code_zero(code);
    }
    const unsigned shift = i4_high(c) ? 4 : 0;
    for (size_t i = 0; i < count; ++i) {
      const int value = i4 ? (static_cast<int>((group[i] >> shift) & 15u) - zero) * multiplier
                           : static_cast<int>(static_cast<int8_t>(group[i]));
      out[c + i] = static_cast<float>(value) * scale;
    }
  }
}

}  // namespace moka
