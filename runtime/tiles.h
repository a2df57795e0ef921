// Tiles: how quantised matrices lie in a model file and in memory, ready for the dense kernels.
//
// A matrix [out, in] is cut into tiles of 16 outputs. Inside a tile the inputs follow each other in
// groups of 4, and a group holds the 4 numbers of each of the 16 outputs, 64 bytes: what one
// dot-product instruction of any CPU reads. Rows and inputs that only fill up a tile are zeros; such
// rows have scale 1. The kernels of every instruction set read this one layout, so a mapped file needs
// no packing.
//
// int8 (per channel)
//   data    [tile][group of 4 inputs][16 outputs][4]        int8
//   scales  [tile]{ float scale[16]; int32 sum[16]; }       sum: of the row's int8 numbers
// int4 (two levels: per channel, and integers per block of 32 inputs)
//   data    [tile][block][4 pairs of groups][16 outputs][4] uint8: the nibble of the pair's even group
//                                                           in the low half, of its odd one in the high
//   scales  [tile]{ float scale[16]; int32 sum[16]; uint8 code[blocks][16]; }
//   A nibble stands for the integer (nibble - zero) * multiplier, which fits in int8; `sum` is of
//   those. A code holds the multiplier in its low 5 bits and zero - 4 in its high 3.
#ifndef MOKA_RUNTIME_TILES_H_
#define MOKA_RUNTIME_TILES_H_

#include <cstddef>
#include <cstdint>

#include "runtime/model_spec.h"

namespace moka {

constexpr size_t kTileOutputs = 16;
constexpr size_t kTileGroup = 4;   // inputs that lie together
constexpr size_t kTileBlock = 32;  // inputs that share a code, int4

constexpr size_t tile_count(size_t outputs) { return (outputs + kTileOutputs - 1) / kTileOutputs; }
// Size: size_t, or uint64_t of what a file says.
template <class Size>
constexpr Size tile_blocks(Size inputs) {
  static_assert(sizeof(Size) >= sizeof(size_t), "sums of small types overflow");
  return (inputs + kTileBlock - 1) / kTileBlock;
}

// Inputs of a row with what fills up the last group or block.
template <class Size>
constexpr Size tile_inputs(DType dtype, Size inputs) {
  static_assert(sizeof(Size) >= sizeof(size_t), "sums of small types overflow");
  return dtype == DType::kI4 ? tile_blocks(inputs) * kTileBlock
                             : (inputs + kTileGroup - 1) / kTileGroup * kTileGroup;
}

// Codes of blocks of int4. Zero is 4 to 11; the multiplier is at least 1 and at most
// max_multiplier(zero), so that every nibble stands for an int8.
constexpr int kMinZero = 4, kMaxZero = 11;
constexpr uint8_t tile_code(int multiplier, int zero) {
  return static_cast<uint8_t>(multiplier | ((zero - kMinZero) << 5));
}
constexpr int code_multiplier(uint8_t code) { return code & 31; }
constexpr int code_zero(uint8_t code) { return kMinZero + (code >> 5); }
constexpr int max_multiplier(int zero) {
  return 128 / zero < 127 / (15 - zero) ? 128 / zero : 127 / (15 - zero);
}

// Bytes of one tile's numbers, and of its scales, sums and codes. kI8 or kI4; inputs below 2^32.
constexpr uint64_t tile_data_bytes(DType dtype, uint64_t inputs) {
  return tile_inputs(dtype, inputs) * kTileOutputs / (dtype == DType::kI4 ? 2 : 1);
}
constexpr uint64_t tile_scale_bytes(DType dtype, uint64_t inputs) {
  return kTileOutputs *
         (sizeof(float) + sizeof(int32_t) + (dtype == DType::kI4 ? tile_blocks(inputs) : 0));
}

// Packs up to 16 rows of int8 numbers, `stride` apart, into one tile. scale: one per row.
void pack_tile_i8(const int8_t* q, size_t stride, const float* scale, size_t rows, size_t inputs,
                  int8_t* data, void* scales);

// The same for int4: q are the integers that the nibbles will stand for, so each must be one that its
// block's code can say. code: row r's blocks at code + r * tile_blocks(inputs).
void pack_tile_i4(const int8_t* q, size_t stride, const float* scale, const uint8_t* code,
                  size_t rows, size_t inputs, uint8_t* data, void* scales);

// Row `row` of a tiled tensor as float32, to out[columns].
void read_tile_row(const Tensor& tensor, size_t row, float* out);

}  // namespace moka

#endif  // MOKA_RUNTIME_TILES_H_
