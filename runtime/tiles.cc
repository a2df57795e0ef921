#include "runtime/tiles.h"

#include <cstring>

#include "runtime/half.h"

namespace moka {
namespace {

constexpr size_t kBytesPerGroup = kTileOutputs * kTileGroup;
constexpr int kI4Offset = 8;        // a stored half byte is q + 8
constexpr uint8_t kI4Zeros = 0x88;  // two numbers 0
constexpr uint16_t kBFloat16One = 0x3f80;

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

void pack_tile_i4(const int8_t* q, size_t stride, const uint16_t* scale, size_t rows, size_t inputs,
                  uint8_t* data, void* scales) {
  std::memset(data, kI4Zeros, static_cast<size_t>(tile_data_bytes(DType::kI4, inputs)));
  const size_t blocks = tile_blocks(inputs);
  auto* sums = static_cast<uint8_t*>(scales) + blocks * kTileOutputs * sizeof(uint16_t);
  for (size_t r = 0; r < kTileOutputs; ++r) {
    double total = 0;  // products of a bfloat16 and a small integer are exact in it
    for (size_t b = 0; b < blocks; ++b) {
      const uint16_t block_scale = r < rows ? scale[r * blocks + b] : kBFloat16One;
      store(scales, b * kTileOutputs + r, block_scale);
      if (r >= rows) continue;
      const size_t end = (b + 1) * kTileBlock < inputs ? (b + 1) * kTileBlock : inputs;
      int sum = 0;
      for (size_t c = b * kTileBlock; c < end; ++c) {
        const int value = q[r * stride + c];
        uint8_t& byte = data[i4_place(c) + r * kTileGroup];
        const auto half = static_cast<unsigned>(value + kI4Offset) & 15u;
        byte =
            static_cast<uint8_t>(i4_high(c) ? (byte & 0x0fu) | (half << 4) : (byte & 0xf0u) | half);
        sum += value;
      }
      total += static_cast<double>(bfloat16_to_float(block_scale)) * sum;
    }
    store(sums, r, static_cast<float>(total));
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
  const bool i4 = tensor.dtype == DType::kI4;
  float scale = i4 ? 1.0f : load<float>(scales, r);
  for (size_t c = 0; c < inputs; c += kTileGroup) {
    const size_t count = inputs - c < kTileGroup ? inputs - c : kTileGroup;
    const uint8_t* group = data + (i4 ? i4_place(c) : i8_place(c));
    if (i4 && c % kTileBlock == 0) {
      scale = bfloat16_to_float(load<uint16_t>(scales, c / kTileBlock * kTileOutputs + r));
    }
    const unsigned shift = i4_high(c) ? 4 : 0;
    for (size_t i = 0; i < count; ++i) {
      const int value = i4 ? static_cast<int>((group[i] >> shift) & 15u) - kI4Offset
                           : static_cast<int>(static_cast<int8_t>(group[i]));
      out[c + i] = static_cast<float>(value) * scale;
    }
  }
}

}  // namespace moka
