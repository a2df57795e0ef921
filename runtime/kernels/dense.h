// Kernels of quantised dense layers y = x W^T + b, over weights in tiles (runtime/tiles.h) and
// activations quantised to int8 row by row when they are used.
//
//   q = round(x / step) + zero              one step and zero point per row
//   y = step * (sum of (q - zero) w) * scale + bias
//
// w is an integer in int4 too, with one scale per row: (nibble - zero) * multiplier, of the block. So
// sums are exact, and what follows is one rounding after another in a fixed order: a row's outputs are
// the same bits in any batch, with any number of threads and from every table here whose multiply-add
// rounds once, which all do but the scalar one and that of WebAssembly, which agree with each other.
//
// Contracts: as in kernels.h. One generic body (dense-inl.h); a file per instruction set defines the
// dot product of 16 outputs by 4 inputs.
#ifndef MOKA_RUNTIME_KERNELS_DENSE_H_
#define MOKA_RUNTIME_KERNELS_DENSE_H_

#include <cstddef>
#include <cstdint>

#include "moka/span.h"

namespace moka {

struct Kernels;

constexpr size_t kDenseRowPad = 64;   // bytes that a row of quantised activations is a multiple of
constexpr size_t kDenseRowTile = 16;  // rows that kernels may read past the batch: any bytes
constexpr size_t kDenseBlock = 32;    // inputs that share a code, int4
constexpr size_t kDenseMaxInputs = 65536;  // 255 * 128 * inputs stays below 2^31

// Quantised activations. Bytes from `inputs` to `stride` are 0.
struct DenseRows {
  int8_t* q = nullptr;           // [rows][stride]
  size_t stride = 0;             // a multiple of kDenseRowPad
  float* step = nullptr;         // [rows]
  int32_t* zero = nullptr;       // [rows], -128 to 127
  int32_t* sum = nullptr;        // [rows] sum of q
  int32_t* block_sum = nullptr;  // [rows][stride / 32] sums of q over blocks of 32
};

// Tiles first ... last of one matrix, for the rows of a batch.
struct DenseArgs {
  DenseRows x;
  size_t rows = 0;
  size_t inputs = 0;  // of the matrix, as tile_inputs() counts them
  const uint8_t* data = nullptr;
  const uint8_t* scales = nullptr;
  size_t first = 0, last = 0;   // tiles
  size_t outputs = 0;           // of the matrix: the last tile may have fewer than 16
  const float* bias = nullptr;  // [outputs] or null
  float* y = nullptr;           // [rows][y_stride], output 0 of the matrix in column 0
  size_t y_stride = 0;
  uint8_t* scratch = nullptr;  // of this thread, 64-byte aligned: see DenseKernels
};

struct DenseKernels {
  const char* name;    // "scalar", "avx2", "avx_vnni", "avx512_vnni", "amx", "neon", "neon_dot",
                       // "wasm"
  const char* family;  // the kernel table that it goes with
  uint32_t needs;      // CpuFeature bits

  // Row `row` of `x` from n floats. Zero is exact; a row of zeros has step 1. With values that are
  // not finite, the step is not.
  void (*quantise)(const float* from, size_t n, size_t row, const DenseRows& x);
  void (*int8)(const DenseArgs& args);
  void (*int4)(const DenseArgs& args);
  size_t int8_scratch, int4_scratch;  // bytes for each input
};

// Tables compiled into this library, best first within a family, whether or not this CPU runs them.
Span<const DenseKernels* const> compiled_dense_kernels();

bool runs_here(const DenseKernels& table);

// The best table of the kernels' family that this CPU runs.
const DenseKernels& select_dense_kernels(const Kernels& kernels);

}  // namespace moka

#endif  // MOKA_RUNTIME_KERNELS_DENSE_H_
