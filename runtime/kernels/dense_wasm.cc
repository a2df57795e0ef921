// Dense kernels for WebAssembly's SIMD128: numbers are widened to 16 bits and multiplied in pairs, which is
// an instruction of x86 and two or three of Arm. (Its products of bytes would be unpacked by engines first.)
// Many rows widen the weights of a tile once for them all.
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
// ones. With 128 added, which flips their highest bits, a mask and a shift widen them. (Extending loads do it
// in one instruction, but V8 starts all of them before it uses one, and runs out of registers.)
struct Dot {
  struct Acc {
    v128_t v[4];  // 4 outputs each
  };
  struct W {
    v128_t even[4], odd[4];  // int16: inputs 0 and 2, 1 and 3
  };
  static constexpr int32_t kWeightShift = 128;
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
      const v128_t bytes = wasm_v128_xor(wasm_v128_load(p + 16 * i), wasm_i8x16_splat(-128));
      w.even[i] = wasm_v128_and(bytes, wasm_i16x8_splat(255));
      w.odd[i] = wasm_u16x8_shr(bytes, 8);
    }
    return w;
  }
  struct Code {
    v128_t multiplier[4], zero[4];  // zero * multiplier; int16, two lanes of each output
  };
  static Code code(const uint8_t* p) {
    const v128_t codes = wasm_v128_load(p);
    // An index beyond 15 gives 0.
    const v128_t twice = wasm_i8x16_const(0, 64, 0, 64, 1, 64, 1, 64, 2, 64, 2, 64, 3, 64, 3, 64);
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
    return add(acc, w, low(bytes), high(bytes));
  }
  static Acc add(Acc acc, const W& w, v128_t even, v128_t odd) {
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

// ---- many rows ---------------------------------------------------------------------------------

// A widened tile: for each 4 inputs 16 outputs x 4 int16, in order.
constexpr size_t kWideBytes = 32;  // for each input
constexpr size_t kWideRows = 4;    // from which on it pays

void widen_int8(const DenseArgs& a, size_t tile) {
  const uint8_t* w = a.data + tile * 16 * a.inputs;
  uint8_t* out = a.scratch;
  for (size_t k = 0; k < 16 * a.inputs; k += 16, w += 16, out += 32) {
    const v128_t bytes = wasm_v128_load(w);
    wasm_v128_store(out, wasm_i16x8_extend_low_i8x16(bytes));
    wasm_v128_store(out + 16, wasm_i16x8_extend_high_i8x16(bytes));
  }
}

void widen_int4(const DenseArgs& a, size_t tile) {
  const uint8_t* w = a.data + tile * 8 * a.inputs;
  const uint8_t* codes = a.scales + tile * dense_code_strip(a) + kScales;
  uint8_t* out = a.scratch;
  for (size_t b = 0; b < a.inputs / kDenseBlock; ++b) {
    const Dot::Code code = Dot::code(codes + 16 * b);
    for (size_t pair = 0; pair < 4; ++pair, w += 64) {
      Dot::W groups[2];
      Dot::nibbles(w, code, &groups[0], &groups[1]);
      for (const Dot::W& group : groups) {
        MOKA_UNROLL
        for (size_t i = 0; i < 4; ++i, out += 32) {
          const v128_t even = group.even[i], odd = group.odd[i];
          wasm_v128_store(out, wasm_i16x8_shuffle(even, odd, 0, 8, 1, 9, 2, 10, 3, 11));
          wasm_v128_store(out + 16, wasm_i16x8_shuffle(even, odd, 4, 12, 5, 13, 6, 14, 7, 15));
        }
      }
    }
  }
}

// kR rows by 8 outputs, the first or second half of the tile: sums of 2 and 2 inputs of 2 outputs each.
template <size_t kR>
void wide_half(const DenseArgs& a, const int8_t* x, size_t half, int32_t (&sums)[kR][16]) {
  const uint8_t* w = a.scratch + 64 * half;
  v128_t acc[kR][4];
  MOKA_UNROLL
  for (size_t r = 0; r < kR; ++r) {
    MOKA_UNROLL
    for (size_t i = 0; i < 4; ++i) acc[r][i] = wasm_i32x4_splat(0);
  }
  for (size_t k = 0; k < a.inputs; k += 4, w += 128) {
    v128_t inputs[kR];
    MOKA_UNROLL
    for (size_t r = 0; r < kR; ++r) {
      inputs[r] = wasm_i16x8_extend_low_i8x16(wasm_v128_load32_splat(x + r * a.x.stride + k));
    }
    MOKA_UNROLL
    for (size_t i = 0; i < 4; ++i) {
      const v128_t weights = wasm_v128_load(w + 16 * i);
      MOKA_UNROLL
      for (size_t r = 0; r < kR; ++r) {
        acc[r][i] = wasm_i32x4_add(acc[r][i], wasm_i32x4_dot_i16x8(weights, inputs[r]));
      }
    }
  }
  MOKA_UNROLL
  for (size_t r = 0; r < kR; ++r) {
    MOKA_UNROLL
    for (size_t i = 0; i < 4; i += 2) {
      const v128_t first = wasm_i32x4_shuffle(acc[r][i], acc[r][i + 1], 0, 2, 4, 6);
      const v128_t second = wasm_i32x4_shuffle(acc[r][i], acc[r][i + 1], 1, 3, 5, 7);
      wasm_v128_store(sums[r] + 8 * half + 2 * i, wasm_i32x4_add(first, second));
    }
  }
}

// Rows by the tile in the scratch, whose scales are kStrip(a) apart.
template <size_t (*kStrip)(const DenseArgs&)>
struct DenseWide {
  template <size_t kR, size_t kT>
  static void part(const DenseArgs& a, size_t row, size_t tile, size_t) {
    alignas(64) int32_t sums[kR][16];
    for (size_t half = 0; half < 2; ++half) {
      wide_half<kR>(a, a.x.q + row * a.x.stride, half, sums);
    }
    dense_finish<kR>(a, row, tile, a.scales + tile * kStrip(a), sums, 0);
  }
};

size_t int8_strip(const DenseArgs&) { return kScales; }

// ---- one row -----------------------------------------------------------------------------------

// One row widens its activations once for all tiles: of each 4 inputs 0 and 2 to `even`, 1 and 3 to `odd`.
void one_int8(const DenseArgs& a) {
  const size_t padded = (a.inputs + kDenseRowPad - 1) / kDenseRowPad * kDenseRowPad;
  uint8_t* const even = a.scratch;
  uint8_t* const odd = even + padded;
  for (size_t k = 0; k < padded; k += 16) {
    const v128_t bytes = wasm_v128_load(a.x.q + k);
    wasm_v128_store(even + k, Dot::low(bytes));
    wasm_v128_store(odd + k, Dot::high(bytes));
  }
  const uint8_t* w = a.data + a.first * 16 * a.inputs;
  for (size_t tile = a.first; tile < a.last; ++tile) {
    Dot::Acc acc = Dot::zero();
    for (size_t k = 0; k < a.inputs; k += 4, w += 64) {
      acc = Dot::add(acc, Dot::weights(w), wasm_v128_load32_splat(even + k),
                     wasm_v128_load32_splat(odd + k));
    }
    alignas(64) int32_t sums[1][16];
    Dot::store(acc, sums[0]);
    dense_finish<1>(a, 0, tile, a.scales + tile * kScales, sums, Dot::kWeightShift);
  }
}

// ---- the table -----------------------------------------------------------------------------------

void wide_int8(const DenseArgs& a) {
  if (a.rows == 1) return one_int8(a);
  if (a.rows < kWideRows) return dense_int8(a);
  for (size_t tile = a.first; tile < a.last; ++tile) {
    widen_int8(a, tile);
    dense_down<DenseWide<int8_strip>, 2, 1>(a, 0, tile, 1);
  }
}

void wide_int4(const DenseArgs& a) {
  if (a.rows < kWideRows) return dense_int4(a);
  for (size_t tile = a.first; tile < a.last; ++tile) {
    widen_int4(a, tile);
    dense_down<DenseWide<dense_code_strip>, 2, 1>(a, 0, tile, 1);
  }
}

constexpr DenseKernels kTable = {"wasm",    "wasm",    kCpuWasmSimd, dense_quantise,
                                 wide_int8, wide_int4, kWideBytes,   kWideBytes};

}  // namespace dense_wasm_isa

const DenseKernels* dense_wasm() { return &dense_wasm_isa::kTable; }

}  // namespace moka

#else

namespace moka {
const DenseKernels* dense_wasm() { return nullptr; }
}  // namespace moka

#endif
