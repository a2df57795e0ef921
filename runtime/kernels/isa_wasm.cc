// Kernel table for WebAssembly's SIMD128: four floats at a time.
#include "runtime/kernels/isa.h"

#if defined(__wasm_simd128__) && !defined(MOKA_WITHOUT_WASM)

#include <wasm_simd128.h>

namespace moka {
namespace isa_wasm {

#include "runtime/kernels/vec_wasm-inl.h"

struct Vec : FloatVec {
  static R div(R a, R b) { return wasm_f32x4_div(a, b); }
  // The float 3 * 2^22 + n has n at its lowest bits: no conversion, which is several instructions on x86.
  static R exp2_integer(R n) {
    const R shifted = wasm_i32x4_shl(add(n, set(12582912.0f)), 23);
    return wasm_i32x4_add(shifted, wasm_i32x4_splat(127 << 23));
  }
  static R keep_from(R x, R limit, R value) {
    return wasm_v128_and(wasm_f32x4_ge(x, limit), value);
  }
  static float sum(R v) {
    const R pairs = add(v, swap_halves(v));
    return wasm_f32x4_extract_lane(pairs, 0) + wasm_f32x4_extract_lane(pairs, 1);
  }
  static R load_i8(const int8_t* p) {
    const R bytes = wasm_v128_load32_zero(p);
    return wasm_f32x4_convert_i32x4(
        wasm_i32x4_extend_low_i16x8(wasm_i16x8_extend_low_i8x16(bytes)));
  }
  // As half_to_float(). Sign, exponent and mantissa at their places are the number times 2^-112.
  static R load_f16(const uint16_t* p) {
    const R fields = wasm_v128_and(wasm_i32x4_shl(wasm_i32x4_load16x4(p), 13),
                                   wasm_i32x4_splat(static_cast<int32_t>(0x8fffe000)));
    const R number = mul(fields, set(0x1p112f));
    const R special = wasm_f32x4_ge(mul(number, number), set(0x1p32f));
    return wasm_v128_or(number, wasm_v128_and(special, wasm_i32x4_splat(0x7f800000)));
  }
  // As float_to_half().
  static void store_f16(uint16_t* p, R v) {
    const R magnitude = wasm_v128_and(v, wasm_i32x4_splat(0x7fffffff));
    const R sign = wasm_u32x4_shr(wasm_v128_xor(v, magnitude), 16);
    const R odd = wasm_v128_and(wasm_u32x4_shr(magnitude, 13), wasm_i32x4_splat(1));
    const R biased = wasm_i32x4_add(magnitude, wasm_i32x4_splat(0xfff - 0x38000000));
    const R normal = wasm_u32x4_shr(wasm_i32x4_add(biased, odd), 13);
    const R subnormal = wasm_i32x4_sub(add(magnitude, set(0.5f)), wasm_i32x4_splat(0x3f000000));
    R half = wasm_v128_bitselect(subnormal, normal,
                                 wasm_i32x4_lt(magnitude, wasm_i32x4_splat(0x38800000)));
    const R infinite = wasm_i32x4_ge(magnitude, wasm_i32x4_splat(0x477ff000));
    half = wasm_v128_bitselect(wasm_i32x4_splat(0x7c00), half, infinite);
    const R nan = wasm_i32x4_gt(magnitude, wasm_i32x4_splat(0x7f800000));
    half = wasm_v128_or(wasm_v128_or(half, sign), wasm_v128_and(nan, wasm_i32x4_splat(0x200)));
    wasm_v128_store64_lane(p, wasm_u16x8_narrow_i32x4(half, half), 0);
  }
  static R reciprocal(R x) { return div(set(1.0f), x); }
  // The first n lanes of x, the others of y.
  static R first(size_t n, R x, R y) {
    const R taken =
        wasm_i32x4_lt(wasm_i32x4_const(0, 1, 2, 3), wasm_i32x4_splat(static_cast<int32_t>(n)));
    return wasm_v128_bitselect(x, y, taken);
  }
  // b[j][i] = a[i][j] for 4 x 4.
  static void transpose(const float* a, size_t lda, float* b, size_t ldb) {
    const R r0 = load(a), r1 = load(a + lda), r2 = load(a + 2 * lda), r3 = load(a + 3 * lda);
    const R low01 = wasm_i32x4_shuffle(r0, r1, 0, 4, 1, 5);
    const R high01 = wasm_i32x4_shuffle(r0, r1, 2, 6, 3, 7);
    const R low23 = wasm_i32x4_shuffle(r2, r3, 0, 4, 1, 5);
    const R high23 = wasm_i32x4_shuffle(r2, r3, 2, 6, 3, 7);
    store(b, wasm_i64x2_shuffle(low01, low23, 0, 2));
    store(b + ldb, wasm_i64x2_shuffle(low01, low23, 1, 3));
    store(b + 2 * ldb, wasm_i64x2_shuffle(high01, high23, 0, 2));
    store(b + 3 * ldb, wasm_i64x2_shuffle(high01, high23, 1, 3));
  }
};

// Engines on x86 have 15 registers: 4 x 2 accumulators, a row of B, 1 of A, 1 product.
constexpr size_t kTileCols = 2;
constexpr size_t tile_rows(size_t columns) { return columns >= 2 ? 4 : 8; }
constexpr char kName[] = "wasm";
constexpr uint32_t kNeeds = kCpuWasmSimd;

#include "runtime/kernels/body-inl.h"

}  // namespace isa_wasm

const Kernels* kernels_wasm() { return &isa_wasm::kTable; }

}  // namespace moka

#else

namespace moka {
const Kernels* kernels_wasm() { return nullptr; }
}  // namespace moka

#endif
