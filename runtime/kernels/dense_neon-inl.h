// Vectors of 64-bit Arm, for two tables.
#include "runtime/kernels/vec_neon-inl.h"

struct Num : FloatVec {
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
