// Dense kernels for AVX2: numbers are widened to 16 bits and multiplied in pairs.
#include "runtime/kernels/dense_isa.h"

#if (defined(__x86_64__) || defined(_M_X64)) && !defined(MOKA_WITHOUT_AVX2)

#include <immintrin.h>

MOKA_TARGET_BEGIN("avx2,fma,f16c")

namespace moka {
namespace dense_avx2_isa {

#include "runtime/kernels/dense_avx2-inl.h"

struct Dot {
  struct Acc {
    __m256i v[4];  // outputs 4 i to 4 i + 3, two partial sums each
  };
  struct W {
    __m256i v[4];  // int16
  };
  static constexpr int32_t kWeightShift = 0;
  static constexpr size_t kRows = 2, kTiles = 1, kStreams = 4, kStreamRows = 1;
  static Acc zero() {
    const __m256i none = _mm256_setzero_si256();
    return {{none, none, none, none}};
  }
  static W weights(const uint8_t* p) {
    W w;
    for (size_t i = 0; i < 4; ++i) {
      w.v[i] = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16 * i)));
    }
    return w;
  }
  struct Code {
    __m256i multiplier[4], zero[4];  // zero * multiplier; int16, of the output of each number
  };
  static Code code(const uint8_t* p) {
    const __m256i words = _mm256_set1_epi64x(static_cast<int64_t>(0x8000800080008000u));
    Code code;
    for (size_t i = 0; i < 4; ++i) {
      int32_t four;
      std::memcpy(&four, p + 4 * i, sizeof(four));
      // Output 0 and 1 in one half, 2 and 3 in the other; shuffled bytes 0 and 8 to four words each.
      const __m256i wide = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128(four));
      const __m256i second = _mm256_set_epi64x(0x0008000800080008, 0, 0x0008000800080008, 0);
      const __m256i codes = _mm256_shuffle_epi8(wide, _mm256_or_si256(words, second));
      code.multiplier[i] = _mm256_and_si256(codes, _mm256_set1_epi16(31));
      const __m256i zero = _mm256_add_epi16(_mm256_srli_epi16(codes, 5), _mm256_set1_epi16(4));
      code.zero[i] = _mm256_mullo_epi16(zero, code.multiplier[i]);
    }
    return code;
  }
  static void nibbles(const uint8_t* p, const Code& code, W* even, W* odd) {
    const __m256i low = _mm256_set1_epi16(15);
    for (size_t i = 0; i < 4; ++i) {
      const __m256i both =
          _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16 * i)));
      even->v[i] = times(_mm256_and_si256(both, low), code, i);
      odd->v[i] = times(_mm256_srli_epi16(both, 4), code, i);
    }
  }
  static __m256i times(__m256i nibbles, const Code& code, size_t i) {
    return _mm256_sub_epi16(_mm256_mullo_epi16(nibbles, code.multiplier[i]), code.zero[i]);
  }
  static void store_i8(const W& w, const Code&, uint8_t* out) {
    for (size_t i = 0; i < 2; ++i) {
      const __m256i bytes = _mm256_packs_epi16(w.v[2 * i], w.v[2 * i + 1]);  // by 128-bit halves
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 32 * i),
                          _mm256_permute4x64_epi64(bytes, 0xd8));
    }
  }
  static Acc zeros(const Acc& acc, const Code&, int32_t) { return acc; }
  static Acc add(Acc acc, const W& w, const int8_t* x) {
    int32_t four;
    std::memcpy(&four, x, sizeof(four));
    const __m256i group = _mm256_broadcastq_epi64(_mm_cvtepi8_epi16(_mm_cvtsi32_si128(four)));
    for (size_t i = 0; i < 4; ++i) {
      acc.v[i] = _mm256_add_epi32(acc.v[i], _mm256_madd_epi16(w.v[i], group));
    }
    return acc;
  }
  static void store(const Acc& acc, int32_t* out) {
    for (size_t i = 0; i < 2; ++i) {
      // Pairs of v[2i] and v[2i + 1], joined by 128-bit halves: outputs 0 1 4 5 2 3 6 7.
      const __m256i joined = _mm256_hadd_epi32(acc.v[2 * i], acc.v[2 * i + 1]);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 8 * i),
                          _mm256_permute4x64_epi64(joined, 0xd8));
    }
  }
};

#include "runtime/kernels/dense-inl.h"

constexpr DenseKernels kTable = {"avx2",     "avx2",     kCpuAvx2Fma, dense_quantise,
                                 dense_int8, dense_int4, 0, kUnpackBytes};

}  // namespace dense_avx2_isa
}  // namespace moka

MOKA_TARGET_END

namespace moka {
const DenseKernels* dense_avx2() { return &dense_avx2_isa::kTable; }
}  // namespace moka

#else

namespace moka {
const DenseKernels* dense_avx2() { return nullptr; }
}  // namespace moka

#endif
