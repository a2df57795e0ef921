// Dense kernels for WebAssembly's SIMD128: numbers are widened to 16 bits and multiplied in pairs, which is
// an instruction of x86 and two or three of Arm. (Its products of bytes would be unpacked by engines first.)
#include "runtime/kernels/dense_isa.h"

#if defined(__wasm_simd128__) && !defined(MOKA_WITHOUT_WASM)

#include <wasm_simd128.h>

namespace moka {
namespace dense_wasm_isa {

#include "runtime/kernels/vec_wasm-inl.h"

struct Num : FloatVec {
  static float smallest(R v) {
    const R pairs = min(v, swap_halves(v));
    return wasm_f32x4_extract_lane(min(pairs, wasm_i32x4_shuffle(pairs, pairs, 1, 0, 3, 2)), 0);
  }
  static R load_i32(const int32_t* p) { return wasm_f32x4_convert_i32x4(wasm_v128_load(p)); }
  // The float 3 * 2^22 + n has n at its lowest bits.
  static void store_i8(R v, int8_t* p) {
    const R n = add(v, set(12582912.0f));
    const R bytes = wasm_i8x16_shuffle(n, n, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
    wasm_v128_store32_lane(p, bytes, 0);
  }
};

// Of each output's 4 inputs, numbers 0 and 2 lie in the low bytes of two 16-bit lanes and 1 and 3 in the high
// ones: shifts widen them. (Extending loads do it in one instruction, and take three times as long in V8.)
struct Dot {
  struct Acc {
    v128_t v[4];  // 4 outputs each
  };
  struct W {
    v128_t even[4], odd[4];  // int16: inputs 0 and 2, 1 and 3
  };
  static constexpr int32_t kWeightShift = 0;
  // Engines on x86 have 15 registers: 8 sums, and what they are made of.
  static constexpr size_t kRows = 2, kTiles = 1, kStreams = 1, kStreamRows = 1;
  static Acc zero() {
    Acc acc;
    MOKA_UNROLL
    for (size_t i = 0; i < 4; ++i) acc.v[i] = wasm_i32x4_splat(0);
    return acc;
  }
  static v128_t low(v128_t bytes) { return wasm_i16x8_shr(wasm_i16x8_shl(bytes, 8), 8); }
  static v128_t high(v128_t bytes) { return wasm_i16x8_shr(bytes, 8); }
  static W weights(const uint8_t* p) {
    W w;
    MOKA_UNROLL
    for (size_t i = 0; i < 4; ++i) {
      const v128_t bytes = wasm_v128_load(p + 16 * i);
      w.even[i] = low(bytes);
      w.odd[i] = high(bytes);
    }
    return w;
  }
  struct Code {
    v128_t multiplier[4], zero[4];  // zero * multiplier; int16, two lanes of each output
  };
  static Code code(const uint8_t* p) {
    const v128_t codes = wasm_v128_load(p);
    // An index beyond 15 gives 0.
    const v128_t twice =
        wasm_i8x16_const(0, 64, 0, 64, 1, 64, 1, 64, 2, 64, 2, 64, 3, 64, 3, 64);
    Code code;
    MOKA_UNROLL
    for (size_t i = 0; i < 4; ++i) {
      const v128_t index = wasm_i8x16_add(twice, wasm_i8x16_splat(static_cast<int8_t>(4 * i)));
      const v128_t each = wasm_i8x16_swizzle(codes, index);
      code.multiplier[i] = wasm_v128_and(each, wasm_i16x8_splat(31));
      const v128_t zero = wasm_i16x8_add(wasm_u16x8_shr(each, 5), wasm_i16x8_splat(4));
      code.zero[i] = wasm_i16x8_mul(zero, code.multiplier[i]);
    }
    return code;
  }
  static v128_t times(v128_t lanes, const Code& code, size_t i) {
    const v128_t nibbles = wasm_v128_and(lanes, wasm_i16x8_splat(15));
    return wasm_i16x8_sub(wasm_i16x8_mul(nibbles, code.multiplier[i]), code.zero[i]);
  }
  static void nibbles(const uint8_t* p, const Code& code, W* even, W* odd) {
    MOKA_UNROLL
    for (size_t i = 0; i < 4; ++i) {
      const v128_t both = wasm_v128_load(p + 16 * i);
      even->even[i] = times(both, code, i);
      even->odd[i] = times(wasm_u16x8_shr(both, 8), code, i);
      odd->even[i] = times(wasm_u16x8_shr(both, 4), code, i);
      odd->odd[i] = times(wasm_u16x8_shr(both, 12), code, i);
    }
  }
  static void store_i8(const W& w, const Code&, uint8_t* out) {
    MOKA_UNROLL
    for (size_t i = 0; i < 4; ++i) {
      const v128_t lows = wasm_v128_and(w.even[i], wasm_i16x8_splat(255));
      wasm_v128_store(out + 16 * i, wasm_v128_or(lows, wasm_i16x8_shl(w.odd[i], 8)));
    }
  }
  static Acc zeros(const Acc& acc, const Code&, int32_t) { return acc; }
  static Acc add(Acc acc, const W& w, const int8_t* x) {
    const v128_t bytes = wasm_v128_load32_splat(x);
    const v128_t even = low(bytes), odd = high(bytes);
    MOKA_UNROLL
    for (size_t i = 0; i < 4; ++i) {
      acc.v[i] = wasm_i32x4_add(acc.v[i], wasm_i32x4_dot_i16x8(w.even[i], even));
      acc.v[i] = wasm_i32x4_add(acc.v[i], wasm_i32x4_dot_i16x8(w.odd[i], odd));
    }
    return acc;
  }
  static void store(const Acc& acc, int32_t* out) {
    MOKA_UNROLL
    for (size_t i = 0; i < 4; ++i) wasm_v128_store(out + 4 * i, acc.v[i]);
  }
};

#include "runtime/kernels/dense-inl.h"

constexpr DenseKernels kTable = {"wasm",     "wasm",     kCpuWasmSimd, dense_quantise,
                                 dense_int8, dense_int4, kUnpackBytes};

}  // namespace dense_wasm_isa

const DenseKernels* dense_wasm() { return &dense_wasm_isa::kTable; }

}  // namespace moka

#else

namespace moka {
const DenseKernels* dense_wasm() { return nullptr; }
}  // namespace moka

#endif
