// Kernel table for AVX-512 (F, BW, DQ, VL): sixteen floats at a time.
#include "runtime/kernels/isa.h"

#if (defined(__x86_64__) || defined(_M_X64)) && !defined(MOKA_WITHOUT_AVX512)

#include <immintrin.h>

// GCC's own AVX-512 headers pass an undefined value for the masked-out lanes of unmasked operations,
// and GCC 12 warns of it at every use (GCC bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

MOKA_TARGET_BEGIN("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")

namespace moka {
namespace isa_avx512 {

#include "runtime/kernels/vec_avx512-inl.h"

struct Vec : FloatVec {
  static R div(R a, R b) { return _mm512_div_ps(a, b); }
  static R exp2_integer(R n) {
    const __m512i biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23));
  }
  static R keep_from(R x, R limit, R value) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_GE_OQ), value);
  }
  static float sum(R v) { return _mm512_reduce_add_ps(v); }
  static R load_i8(const int8_t* p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
  }
  static R load_f16(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static void store_f16(uint16_t* p, R v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
  // 1/x within 2 units in the last place: an estimate of 14 bits and one step of Newton's. Infinity's
  // is not a number.
  static R reciprocal(R x) {
    const R estimate = _mm512_rcp14_ps(x);
    return _mm512_fmadd_ps(estimate, _mm512_fnmadd_ps(x, estimate, _mm512_set1_ps(1.0f)), estimate);
  }
  // The first n lanes of x, the others of y.
  static R first(size_t n, R x, R y) {
    return _mm512_mask_mov_ps(y, static_cast<__mmask16>((1u << n) - 1), x);
  }
  // b[j][i] = a[i][j] for 16 x 16.
  static void transpose(const float* a, size_t lda, float* b, size_t ldb) {
    R r[16], s[16];
    MOKA_UNROLL_16
    for (size_t i = 0; i < 16; ++i) r[i] = load(a + i * lda);
    MOKA_UNROLL_16
    for (size_t i = 0; i < 16; i += 2) {
      s[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
      s[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    MOKA_UNROLL_16
    for (size_t i = 0; i < 16; i += 4) {
      r[i] = low_pairs(s[i], s[i + 2]);
      r[i + 1] = high_pairs(s[i], s[i + 2]);
      r[i + 2] = low_pairs(s[i + 1], s[i + 3]);
      r[i + 3] = high_pairs(s[i + 1], s[i + 3]);
    }
    // r[4 g + j] has, in its quarter q, column 4 q + j of rows 4 g ... 4 g + 3.
    MOKA_UNROLL_16
    for (size_t j = 0; j < 4; ++j) {
      const R even = _mm512_shuffle_f32x4(r[j], r[4 + j], 0x88);
      const R odd = _mm512_shuffle_f32x4(r[j], r[4 + j], 0xdd);
      const R even2 = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0x88);
      const R odd2 = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0xdd);
      store(b + j * ldb, _mm512_shuffle_f32x4(even, even2, 0x88));
      store(b + (4 + j) * ldb, _mm512_shuffle_f32x4(odd, odd2, 0x88));
      store(b + (8 + j) * ldb, _mm512_shuffle_f32x4(even, even2, 0xdd));
      store(b + (12 + j) * ldb, _mm512_shuffle_f32x4(odd, odd2, 0xdd));
    }
  }
  static R low_pairs(R a, R b) {
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  }
  static R high_pairs(R a, R b) {
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  }
};

// Registers: 6 x 4 or 8 x 3 accumulators, a row of B, 1 of A.
constexpr size_t kTileCols = 4;
constexpr size_t tile_rows(size_t columns) { return columns >= 4 ? 6 : 8; }
constexpr char kName[] = "avx512";
constexpr uint32_t kNeeds = kCpuAvx512 | kCpuAvx2Fma;

#include "runtime/kernels/body-inl.h"

}  // namespace isa_avx512
}  // namespace moka

MOKA_TARGET_END

namespace moka {
const Kernels* kernels_avx512() { return &isa_avx512::kTable; }
}  // namespace moka

#else

namespace moka {
const Kernels* kernels_avx512() { return nullptr; }
}  // namespace moka

#endif
