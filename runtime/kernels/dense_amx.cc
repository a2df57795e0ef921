// Dense kernels for AMX: batches of 16 rows by 16 outputs by 64 inputs in one instruction. A few rows
// are left to AVX-512 VNNI. The sums are the same integers either way.
#include "runtime/kernels/dense_isa.h"

#if defined(__x86_64__) && defined(__linux__) && !defined(MOKA_WITHOUT_AVX512)

#include <immintrin.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

MOKA_TARGET_BEGIN("amx-tile,amx-int8,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")

namespace moka {
namespace dense_amx_isa {

#include "runtime/kernels/dense_avx512-inl.h"

// needs what stands above
#include "runtime/kernels/dense-inl.h"

// Up to here the plain kernels are faster (measured).
constexpr size_t kFewRowsInt8 = 4, kFewRowsInt4 = 4;
constexpr size_t kTileRows = 16;

// The instructions by name, with the memory that they touch: the compiler's own macros do not tell
// it, and GCC 12 then moves stores past them.
template <int kTile>
inline void tile_load(const void* p, size_t stride) {
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(stride), "i"(kTile) : "memory");
}
template <int kTile>
inline void tile_store(void* p, size_t stride) {
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(p), "r"(stride), "i"(kTile) : "memory");
}
template <int kTile>
inline void tile_zero() {
  __asm__ volatile("tilezero %%tmm%c0" ::"i"(kTile));
}
template <int kSum, int kRows, int kWeights>
inline void tile_multiply() {
  __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kRows), "i"(kWeights));
}

// Shapes of the eight tiles, as the hardware wants them.
struct alignas(64) TileShapes {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Tiles 0 to 3 are sums. Tile 4 is 16 rows of activations and tile 5 the weights of 64 inputs; 6 and 7
// are the same for the `rest` of the inputs, a multiple of 4.
inline void shape_tiles(size_t rest) {
  TileShapes shapes;
  for (size_t i = 0; i < 8; ++i) {
    shapes.rows[i] = kTileRows;
    shapes.row_bytes[i] = 64;
  }
  if (rest != 0) {
    shapes.row_bytes[6] = static_cast<uint16_t>(rest);
    shapes.rows[7] = static_cast<uint8_t>(rest / 4);
  }
  __asm__ volatile("ldtilecfg %0" ::"m"(shapes));
}
inline void release_tiles() { __asm__ volatile("tilerelease" ::); }

// dense_finish for up to 16 rows, step by step the same arithmetic.
inline void finish_tile(const DenseArgs& a, size_t row, size_t tile, const uint8_t* scales,
                        const int32_t* sums) {
  const size_t rows = a.rows - row < kTileRows ? a.rows - row : kTileRows;
  const size_t at = 16 * tile, n = a.outputs - at < 16 ? a.outputs - at : 16;
  const __mmask16 mask = static_cast<__mmask16>((1u << n) - 1);
  const __m512 scale = _mm512_loadu_ps(scales);
  const __m512i of_weights = _mm512_loadu_si512(scales + 64);
  const __m512 bias =
      a.bias != nullptr ? _mm512_maskz_loadu_ps(mask, a.bias + at) : _mm512_setzero_ps();
  for (size_t r = 0; r < rows; ++r) {
    const __m512i zeros = _mm512_mullo_epi32(_mm512_set1_epi32(a.x.zero[row + r]), of_weights);
    const __m512i exact = _mm512_sub_epi32(_mm512_load_si512(sums + 16 * r), zeros);
    const __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(exact), _mm512_set1_ps(a.x.step[row + r]));
    _mm512_mask_storeu_ps(a.y + (row + r) * a.y_stride + at, mask, _mm512_fmadd_ps(v, scale, bias));
  }
}

// One step of 32 rows by two tiles, with `kX` and `kW` for activations and weights.
template <bool kSecondRows, bool kSecondTile, int kX, int kW>
inline void multiply_int8(const int8_t* x, size_t stride, const uint8_t* w, size_t strip) {
  tile_load<kX>(x, stride);
  tile_load<kW>(w, 64);
  tile_multiply<0, kX, kW>();
  if (kSecondTile) {
    tile_load<kW>(w + strip, 64);
    tile_multiply<1, kX, kW>();
  }
  if (!kSecondRows) return;
  tile_load<kX>(x + kTileRows * stride, stride);
  if (kSecondTile) {
    tile_multiply<3, kX, kW>();
    tile_load<kW>(w, 64);
  }
  tile_multiply<2, kX, kW>();
}

template <bool kSecondRows, bool kSecondTile>
inline void part_int8(const DenseArgs& a, size_t row, size_t tile, const uint8_t* w,
                      const uint8_t* scales, size_t scale_strip) {
  const size_t strip = 16 * a.inputs, whole = a.inputs / 64 * 64;
  const int8_t* x = a.x.q + row * a.x.stride;
  tile_zero<0>();
  if (kSecondTile) tile_zero<1>();
  if (kSecondRows) tile_zero<2>();
  if (kSecondRows && kSecondTile) tile_zero<3>();
  for (size_t k = 0; k < whole; k += 64) {
    if (!kSecondRows) {
      for (size_t line = 0; line < 1024; line += 64) {
        dense_prefetch(w + 16 * k + line + kAhead);
        if (kSecondTile) dense_prefetch(w + strip + 16 * k + line + kAhead);
      }
    }
    multiply_int8<kSecondRows, kSecondTile, 4, 5>(x + k, a.x.stride, w + 16 * k, strip);
  }
  if (whole < a.inputs) {
    multiply_int8<kSecondRows, kSecondTile, 6, 7>(x + whole, a.x.stride, w + 16 * whole, strip);
  }
  alignas(64) int32_t sums[256];
  tile_store<0>(sums, 64);
  finish_tile(a, row, tile, scales, sums);
  if (kSecondTile) {
    tile_store<1>(sums, 64);
    finish_tile(a, row, tile + 1, scales + scale_strip, sums);
  }
  if (kSecondRows) {
    tile_store<2>(sums, 64);
    finish_tile(a, row + kTileRows, tile, scales, sums);
  }
  if (kSecondRows && kSecondTile) {
    tile_store<3>(sums, 64);
    finish_tile(a, row + kTileRows, tile + 1, scales + scale_strip, sums);
  }
}

// All rows by one or two tiles, whose int8 numbers follow each other from `w` on.
template <bool kSecondTile>
inline void column_int8(const DenseArgs& a, size_t tile, const uint8_t* w, const uint8_t* scales,
                        size_t scale_strip) {
  size_t row = 0;
  for (; row + kTileRows < a.rows; row += 2 * kTileRows) {
    part_int8<true, kSecondTile>(a, row, tile, w, scales, scale_strip);
  }
  if (row < a.rows) part_int8<false, kSecondTile>(a, row, tile, w, scales, scale_strip);
}

template <int kSum, int kX, int kW>
inline void multiply_strip(const uint8_t* w, size_t bytes) {
  for (size_t line = 0; line < bytes; line += 64) dense_prefetch(w + line + kAhead);
  tile_load<kW>(w, 64);
  tile_multiply<kSum, kX, kW>();
}

template <int kSum>
inline void finish_strip(const DenseArgs& a, size_t tile) {
  alignas(64) int32_t sums[256];
  tile_store<kSum>(sums, 64);
  finish_tile(a, 0, tile, a.scales + tile * kScales, sums);
}

// Up to 16 rows, limited by memory: four tiles far apart, as few rows are read elsewhere.
inline void streams_int8(const DenseArgs& a, size_t tile, size_t apart) {
  const size_t strip = 16 * a.inputs, whole = a.inputs / 64 * 64, far = apart * strip;
  const uint8_t* w = a.data + tile * strip;
  tile_zero<0>();
  tile_zero<1>();
  tile_zero<2>();
  tile_zero<3>();
  for (size_t k = 0; k < whole; k += 64) {
    tile_load<4>(a.x.q + k, a.x.stride);
    multiply_strip<0, 4, 5>(w + 16 * k, 1024);
    multiply_strip<1, 4, 5>(w + far + 16 * k, 1024);
    multiply_strip<2, 4, 5>(w + 2 * far + 16 * k, 1024);
    multiply_strip<3, 4, 5>(w + 3 * far + 16 * k, 1024);
  }
  if (whole < a.inputs) {
    const size_t rest = 16 * (a.inputs - whole);
    tile_load<6>(a.x.q + whole, a.x.stride);
    multiply_strip<0, 6, 7>(w + 16 * whole, rest);
    multiply_strip<1, 6, 7>(w + far + 16 * whole, rest);
    multiply_strip<2, 6, 7>(w + 2 * far + 16 * whole, rest);
    multiply_strip<3, 6, 7>(w + 3 * far + 16 * whole, rest);
  }
  finish_strip<0>(a, tile);
  finish_strip<1>(a, tile + apart);
  finish_strip<2>(a, tile + 2 * apart);
  finish_strip<3>(a, tile + 3 * apart);
}

inline void amx_int8(const DenseArgs& a) {
  if (a.rows <= kFewRowsInt8) return dense_int8(a);
  shape_tiles(a.inputs % 64);
  size_t tile = a.first;
  if (a.rows <= kTileRows) {
    const size_t apart = (a.last - a.first) / 4;
    for (; tile < a.first + apart; ++tile) streams_int8(a, tile, apart);
    tile = a.first + 4 * apart;
  }
  const size_t strip = 16 * a.inputs;
  for (; tile + 2 <= a.last; tile += 2) {
    column_int8<true>(a, tile, a.data + tile * strip, a.scales + tile * kScales, kScales);
  }
  if (tile < a.last) {
    column_int8<false>(a, tile, a.data + tile * strip, a.scales + tile * kScales, kScales);
  }
  release_tiles();
}

// ---- int4 --------------------------------------------------------------------------------------

inline void amx_int4(const DenseArgs& a) {
  if (a.rows <= kFewRowsInt4) return dense_int4(a);
  shape_tiles(a.inputs % 64);
  const size_t strip = 16 * a.inputs, code_strip = dense_code_strip(a);
  size_t tile = a.first;
  for (; tile + 2 <= a.last; tile += 2) {
    dense_unpack(a, tile, a.scratch);
    dense_unpack(a, tile + 1, a.scratch + strip);
    column_int8<true>(a, tile, a.scratch, a.scales + tile * code_strip, code_strip);
  }
  if (tile < a.last) {
    dense_unpack(a, tile, a.scratch);
    column_int8<false>(a, tile, a.scratch, a.scales + tile * code_strip, code_strip);
  }
  release_tiles();
}

constexpr DenseKernels kTable = {
    "amx",          "avx512", kCpuAvx512 | kCpuAvx2Fma | kCpuAvx512Vnni | kCpuAmxInt8,
    dense_quantise, amx_int8, amx_int4,
    0, kUnpackBytes};

}  // namespace dense_amx_isa
}  // namespace moka

MOKA_TARGET_END

namespace moka {
const DenseKernels* dense_amx() { return &dense_amx_isa::kTable; }
}  // namespace moka

#else

namespace moka {
const DenseKernels* dense_amx() { return nullptr; }
}  // namespace moka

#endif
