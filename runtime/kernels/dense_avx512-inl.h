// Vectors and the dot product of AVX-512 with VNNI, for two tables. The instruction takes one operand
// without sign: int8 weights get it by adding 128, which dense_finish takes off again.
#include "runtime/kernels/vec_avx512-inl.h"

struct Num : FloatVec {
  static float smallest(R v) { return _mm512_reduce_min_ps(v); }
  static R load_i32(const int32_t* p) { return _mm512_cvtepi32_ps(_mm512_loadu_si512(p)); }
  static void store_i8(R v, int8_t* p) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
  }
};

struct Dot {
  using Acc = __m512i;
  using W = __m512i;
  static constexpr int32_t kWeightShift = 128;
  static constexpr size_t kRows = 8, kTiles = 2, kStreams = 4, kStreamRows = 4;
  static Acc zero() { return _mm512_setzero_si512(); }
  static W weights(const uint8_t* p) {
    return _mm512_xor_si512(_mm512_loadu_si512(p), _mm512_set1_epi8(static_cast<char>(0x80)));
  }
  struct Code {
    __m512i multiplier;  // of the output, in both 16-bit halves
    __m512i zero;        // zero * multiplier, in the low half
    __m512i all_zeros;   // the same in all bytes
  };
  static Code code(const uint8_t* p) {
    const __m512i codes =
        _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    const __m512i twice = _mm512_or_si512(codes, _mm512_slli_epi32(codes, 16));
    const __m512i multiplier = _mm512_and_si512(twice, _mm512_set1_epi16(31));
    const __m512i zero = _mm512_add_epi32(_mm512_srli_epi32(codes, 5), _mm512_set1_epi32(4));
    const __m512i product = _mm512_mullo_epi16(zero, multiplier);
    const __m512i both = _mm512_or_si512(product, _mm512_slli_epi32(product, 16));
    return {multiplier, product, _mm512_mullo_epi16(both, _mm512_set1_epi16(257))};
  }
  // Products stay below 256, so that one 16-bit multiplication makes two of them.
  static void nibbles(const uint8_t* p, Code code, W* even, W* odd) {
    const __m512i both = _mm512_loadu_si512(p), low = _mm512_set1_epi8(15);
    *even = _mm512_mullo_epi16(_mm512_and_si512(both, low), code.multiplier);
    *odd = _mm512_mullo_epi16(_mm512_and_si512(_mm512_srli_epi16(both, 4), low), code.multiplier);
  }
  static void store_i8(W w, Code code, uint8_t* out) {
    _mm512_storeu_si512(out, _mm512_sub_epi8(w, code.all_zeros));
  }
  static Acc zeros(Acc acc, Code code, int32_t sum) {
    return _mm512_dpwssd_epi32(acc, code.zero, _mm512_set1_epi32(-sum));
  }
  static Acc add(Acc acc, W w, const int8_t* x) {
    int32_t four;
    std::memcpy(&four, x, sizeof(four));
    return _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(four));
  }
  static void store(Acc acc, int32_t* out) { _mm512_storeu_si512(out, acc); }
};
