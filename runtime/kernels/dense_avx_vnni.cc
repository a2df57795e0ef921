// Dense kernels for AVX-VNNI: the dot products of AVX-512 in 32 bytes, on CPUs without AVX-512.
#include "runtime/kernels/dense_isa.h"

#if (defined(__x86_64__) || defined(_M_X64)) && !defined(MOKA_WITHOUT_AVX2)

#include <immintrin.h>

MOKA_TARGET_BEGIN("avxvnni,avx2,fma,f16c")

namespace moka {
namespace dense_avx_vnni_isa {

#include "runtime/kernels/dense_avx2-inl.h"

struct Dot {
  struct Acc {
    __m256i v[2];
  };
  using W = Acc;
  static constexpr int32_t kWeightShift = 128;
  static constexpr size_t kRows = 4, kTiles = 1, kStreams = 4, kStreamRows = 1;
  static Acc zero() { return {{_mm256_setzero_si256(), _mm256_setzero_si256()}}; }
  static W weights(const uint8_t* p) {
    const __m256i shift = _mm256_set1_epi8(static_cast<char>(0x80));
    return {{_mm256_xor_si256(load_bytes(p), shift), _mm256_xor_si256(load_bytes(p + 32), shift)}};
  }
  struct Code {
    __m256i multiplier[2];  // of the output, in both 16-bit halves
    __m256i zero[2];        // zero * multiplier, in the low half
    __m256i all_zeros[2];   // the same in all bytes
  };
  static Code code(const uint8_t* p) {
    Code code;
    for (size_t i = 0; i < 2; ++i) {
      const __m256i codes =
          _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8 * i)));
      const __m256i twice = _mm256_or_si256(codes, _mm256_slli_epi32(codes, 16));
      code.multiplier[i] = _mm256_and_si256(twice, _mm256_set1_epi16(31));
      const __m256i zero = _mm256_add_epi32(_mm256_srli_epi32(codes, 5), _mm256_set1_epi32(4));
      code.zero[i] = _mm256_mullo_epi16(zero, code.multiplier[i]);
      const __m256i both = _mm256_or_si256(code.zero[i], _mm256_slli_epi32(code.zero[i], 16));
      code.all_zeros[i] = _mm256_mullo_epi16(both, _mm256_set1_epi16(257));
    }
    return code;
  }
  // Products stay below 256, so that one 16-bit multiplication makes two of them.
  static void nibbles(const uint8_t* p, const Code& code, W* even, W* odd) {
    const __m256i low = _mm256_set1_epi8(15);
    for (size_t i = 0; i < 2; ++i) {
      const __m256i both = load_bytes(p + 32 * i);
      even->v[i] = _mm256_mullo_epi16(_mm256_and_si256(both, low), code.multiplier[i]);
      odd->v[i] =
          _mm256_mullo_epi16(_mm256_and_si256(_mm256_srli_epi16(both, 4), low), code.multiplier[i]);
    }
  }
  static void store_i8(const W& w, const Code& code, uint8_t* out) {
    for (size_t i = 0; i < 2; ++i) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 32 * i),
                          _mm256_sub_epi8(w.v[i], code.all_zeros[i]));
    }
  }
  static Acc zeros(Acc acc, const Code& code, int32_t sum) {
    const __m256i negative = _mm256_set1_epi32(-sum);
    acc.v[0] = _mm256_dpwssd_avx_epi32(acc.v[0], code.zero[0], negative);
    acc.v[1] = _mm256_dpwssd_avx_epi32(acc.v[1], code.zero[1], negative);
    return acc;
  }
  static Acc add(Acc acc, const W& w, const int8_t* x) {
    int32_t four;
    std::memcpy(&four, x, sizeof(four));
    const __m256i group = _mm256_set1_epi32(four);
    acc.v[0] = _mm256_dpbusd_avx_epi32(acc.v[0], w.v[0], group);
    acc.v[1] = _mm256_dpbusd_avx_epi32(acc.v[1], w.v[1], group);
    return acc;
  }
  static void store(const Acc& acc, int32_t* out) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), acc.v[0]);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 8), acc.v[1]);
  }
};

#include "runtime/kernels/dense-inl.h"

constexpr DenseKernels kTable = {"avx_vnni",     "avx2",     kCpuAvx2Fma | kCpuAvxVnni,
                                 dense_quantise, dense_int8, dense_int4,
                                 0, kUnpackBytes};

}  // namespace dense_avx_vnni_isa
}  // namespace moka

MOKA_TARGET_END

namespace moka {
const DenseKernels* dense_avx_vnni() { return &dense_avx_vnni_isa::kTable; }
}  // namespace moka

#else

namespace moka {
const DenseKernels* dense_avx_vnni() { return nullptr; }
}  // namespace moka

#endif
