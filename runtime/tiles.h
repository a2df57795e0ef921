// Tiles: how quantised matrices lie in a model file and in memory, ready for the dense kernels.
//
// A matrix [out, in] is cut into tiles of 16 outputs. Inside a tile the inputs follow each other in
// groups of 4, and a group holds the 4 numbers of each of the 16 outputs, 64 bytes: what one
// dot-product instruction of any CPU reads. Rows and inputs that only fill up a tile are zeros with
// scale 1; int8 scales are positive, int4 scales have either sign. The
// kernels of every instruction set read this one layout, so a mapped file needs no packing.
//
// int8 (per channel)
//   data    [tile][group of 4 inputs][16 outputs][4]        int8
//   scales  [tile]{ float scale[16]; int32 sum[16]; }       sum: of the row's int8 numbers
// int4 (per block of 32 inputs)
//   data    [tile][block][4 pairs of groups][16 outputs][4] uint8: q + 8 of the pair's even group in
//                                                           the low half, of its odd one in the high
//   scales  [tile]{ bfloat16 scale[blocks][16]; float sum[16]; }  sum over blocks of scale * sum of q
#ifndef MOKA_RUNTIME_TILES_H_
#define MOKA_RUNTIME_TILES_H_

#include <cstddef>
#include <cstdint>

#include "runtime/model_spec.h"

namespace moka {

constexpr size_t kTileOutputs = 16;
constexpr size_t kTileGroup = 4;   // inputs that lie together
constexpr size_t kTileBlock = 32;  // inputs that share a scale, int4

constexpr size_t tile_count(size_t outputs) { return (outputs + kTileOutputs - 1) / kTileOutputs; }
constexpr size_t tile_blocks(size_t inputs) { return (inputs + kTileBlock - 1) / kTileBlock; }

// Inputs of a row with what fills up the last group or block.
constexpr size_t tile_inputs(DType dtype, size_t inputs) {
  return dtype == DType::kI4 ? tile_blocks(inputs) * kTileBlock
                             : (inputs + kTileGroup - 1) / kTileGroup * kTileGroup;
}

// Bytes of one tile's numbers, and of its scales and sums. kI8 or kI4; inputs below 2^32.
constexpr uint64_t tile_data_bytes(DType dtype, uint64_t inputs) {
  return tile_inputs(dtype, inputs) * kTileOutputs / (dtype == DType::kI4 ? 2 : 1);
}
constexpr uint64_t tile_scale_bytes(DType dtype, uint64_t inputs) {
  return dtype == DType::kI4 ? kTileOutputs * (tile_blocks(inputs) * sizeof(uint16_t) + 4)
                             : kTileOutputs * (sizeof(float) + sizeof(int32_t));
}

// Packs up to 16 rows of int8 numbers, `stride` apart, into one tile. scale: one per row.
void pack_tile_i8(const int8_t* q, size_t stride, const float* scale, size_t rows, size_t inputs,
                  int8_t* data, void* scales);

// Packs up to 16 rows of numbers -8 to 7, `stride` apart, into one tile. scale: bfloat16, row r's
// blocks at scale + r * tile_blocks(inputs).
void pack_tile_i4(const int8_t* q, size_t stride, const uint16_t* scale, size_t rows, size_t inputs,
                  uint8_t* data, void* scales);

// Row `row` of a tiled tensor as float32, to out[columns].
void read_tile_row(const Tensor& tensor, size_t row, float* out);

}  // namespace moka

#endif  // MOKA_RUNTIME_TILES_H_
