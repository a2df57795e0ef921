// Vectors of 64-bit Arm, for two tables.
struct Num {
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
  static float smallest(R v) { return vminvq_f32(v); }
  static R load_i32(const int32_t* p) { return vcvtq_f32_s32(vld1q_s32(p)); }
  static R load_bf16(const uint8_t* p) {
    const uint16x4_t half = vreinterpret_u16_u8(vld1_u8(p));
    return vreinterpretq_f32_u32(vshll_n_u16(half, 16));
  }
  static void store_i8(R v, int8_t* p) {
    const int16x4_t half = vqmovn_s32(vcvtnq_s32_f32(v));
    const int8x8_t bytes = vqmovn_s16(vcombine_s16(half, half));
    vst1_lane_s32(reinterpret_cast<int32_t*>(p), vreinterpret_s32_s8(bytes), 0);
  }
};
