// Kernel table for AVX2 with FMA and F16C: eight floats at a time.
#include "runtime/kernels/isa.h"

#if (defined(__x86_64__) || defined(_M_X64)) && !defined(MOKA_WITHOUT_AVX2)

#include <immintrin.h>

MOKA_TARGET_BEGIN("avx2,fma,f16c")

namespace moka {
namespace isa_avx2 {

#include "runtime/kernels/vec_avx2-inl.h"

struct Vec : FloatVec {
  static R div(R a, R b) { return _mm256_div_ps(a, b); }
  static R exp2_integer(R n) {
    const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
  }
  static R keep_from(R x, R limit, R value) {
    return _mm256_and_ps(_mm256_cmp_ps(x, limit, _CMP_GE_OQ), value);
  }
  static float sum(R v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
  static R load_i8(const int8_t* p) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
  }
  static R load_f16(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static void store_f16(uint16_t* p, R v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
  static R reciprocal(R x) { return div(set(1.0f), x); }
  // The first n lanes of x, the others of y.
  static R first(size_t n, R x, R y) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i taken = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane);
    return _mm256_blendv_ps(y, x, _mm256_castsi256_ps(taken));
  }
  // b[j][i] = a[i][j] for 8 x 8.
  static void transpose(const float* a, size_t lda, float* b, size_t ldb) {
    R r[8], s[8];
    MOKA_UNROLL
    for (size_t i = 0; i < 8; ++i) r[i] = load(a + i * lda);
    MOKA_UNROLL
    for (size_t i = 0; i < 8; i += 2) {
      s[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
      s[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    MOKA_UNROLL
    for (size_t i = 0; i < 8; i += 4) {
      r[i] = _mm256_shuffle_ps(s[i], s[i + 2], 0x44);
      r[i + 1] = _mm256_shuffle_ps(s[i], s[i + 2], 0xee);
      r[i + 2] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0x44);
      r[i + 3] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0xee);
    }
    MOKA_UNROLL
    for (size_t j = 0; j < 4; ++j) {
      store(b + j * ldb, _mm256_permute2f128_ps(r[j], r[4 + j], 0x20));
      store(b + (4 + j) * ldb, _mm256_permute2f128_ps(r[j], r[4 + j], 0x31));
    }
  }
};

// Registers: 6 x 2 accumulators, a row of B, 1 of A.
constexpr size_t kTileCols = 2;
constexpr size_t tile_rows(size_t) { return 6; }
constexpr char kName[] = "avx2";
constexpr uint32_t kNeeds = kCpuAvx2Fma;

#include "runtime/kernels/body-inl.h"

}  // namespace isa_avx2
}  // namespace moka

MOKA_TARGET_END

namespace moka {
const Kernels* kernels_avx2() { return &isa_avx2::kTable; }
}  // namespace moka

#else

namespace moka {
const Kernels* kernels_avx2() { return nullptr; }
}  // namespace moka

#endif
