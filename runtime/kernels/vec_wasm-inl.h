// Float vectors of WebAssembly's SIMD128: what the kernel table and the dense kernels share. Included once
// inside each namespace of theirs. There is no fused multiply-add; products are rounded first, as in the
// scalar table.
struct FloatVec {
  using R = v128_t;
  static constexpr size_t kWidth = 4;
  static R load(const float* p) { return wasm_v128_load(p); }
  static void store(float* p, R v) { wasm_v128_store(p, v); }
  static R set(float v) { return wasm_f32x4_splat(v); }
  static R add(R a, R b) { return wasm_f32x4_add(a, b); }
  static R sub(R a, R b) { return wasm_f32x4_sub(a, b); }
  static R mul(R a, R b) { return wasm_f32x4_mul(a, b); }
  static R fma(R a, R b, R c) { return wasm_f32x4_add(wasm_f32x4_mul(a, b), c); }
  // a > b ? a : b and a < b ? a : b, which are one instruction on every CPU: those that order zeros and
  // spread NaN are several on x86.
  static R max(R a, R b) { return wasm_f32x4_pmax(b, a); }
  static R min(R a, R b) { return wasm_f32x4_pmin(b, a); }
  static R round(R v) { return wasm_f32x4_nearest(v); }
  static R swap_halves(R v) { return wasm_i32x4_shuffle(v, v, 2, 3, 0, 1); }
  static float largest(R v) {
    const R pairs = max(v, swap_halves(v));
    return wasm_f32x4_extract_lane(max(pairs, wasm_i32x4_shuffle(pairs, pairs, 1, 0, 3, 2)), 0);
  }
};
