// Vectors of 64-bit Arm, for two tables.
#include "runtime/kernels/vec_neon-inl.h"

struct Num : FloatVec {
  static float smallest(R v) { return vminvq_f32(v); }
  static R load_i32(const int32_t* p) { return vcvtq_f32_s32(vld1q_s32(p)); }
  static void store_i8(R v, int8_t* p) {
    const int16x4_t half = vqmovn_s32(vcvtnq_s32_f32(v));
    const int8x8_t bytes = vqmovn_s16(vcombine_s16(half, half));
    vst1_lane_s32(reinterpret_cast<int32_t*>(p), vreinterpret_s32_s8(bytes), 0);
  }
};

// Codes of a block of int4, for each number of 16 outputs by 4 inputs.
struct NeonCode {
  uint8x16_t multiplier[4];
  uint8x16_t zero[4];  // -zero * multiplier
};

inline NeonCode neon_code(const uint8_t* p) {
  static constexpr uint8_t kFourTimes[16] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
  const uint8x16_t codes = vld1q_u8(p), outputs = vld1q_u8(kFourTimes);
  NeonCode code;
  for (size_t i = 0; i < 4; ++i) {
    const uint8x16_t index = vaddq_u8(outputs, vdupq_n_u8(static_cast<uint8_t>(4 * i)));
    const uint8x16_t each = vqtbl1q_u8(codes, index);
    code.multiplier[i] = vandq_u8(each, vdupq_n_u8(31));
    const uint8x16_t zero = vaddq_u8(vshrq_n_u8(each, 5), vdupq_n_u8(4));
    code.zero[i] = vmlsq_u8(vdupq_n_u8(0), zero, code.multiplier[i]);
  }
  return code;
}

// 16 stored numbers as the integers that they stand for.
inline int8x16_t neon_times(uint8x16_t nibbles, const NeonCode& code, size_t i) {
  return vreinterpretq_s8_u8(vmlaq_u8(code.zero[i], nibbles, code.multiplier[i]));
}
