// Float vectors of 64-bit Arm: what the kernel table and the dense kernels share. Included once inside each
// instruction set's namespace.
struct FloatVec {
  using R = float32x4_t;
  static constexpr size_t kWidth = 4;
  static R load(const float* p) { return vld1q_f32(p); }
  static void store(float* p, R v) { vst1q_f32(p, v); }
  static R set(float v) { return vdupq_n_f32(v); }
  static R add(R a, R b) { return vaddq_f32(a, b); }
  static R sub(R a, R b) { return vsubq_f32(a, b); }
  static R mul(R a, R b) { return vmulq_f32(a, b); }
  static R fma(R a, R b, R c) { return vfmaq_f32(c, a, b); }
  static R max(R a, R b) { return vmaxq_f32(a, b); }
  static R min(R a, R b) { return vminq_f32(a, b); }
  static R round(R v) { return vrndnq_f32(v); }
  static float largest(R v) { return vmaxvq_f32(v); }
};
