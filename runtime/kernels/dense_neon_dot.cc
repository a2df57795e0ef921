// Dense kernels for 64-bit Arm with the dot product instructions (Cortex-A55, A76 and later).
#include "runtime/kernels/dense_isa.h"

#if defined(__aarch64__) && !defined(MOKA_WITHOUT_NEON)

#include <arm_neon.h>

#if defined(__clang__)
MOKA_TARGET_BEGIN("dotprod")
#else
MOKA_TARGET_BEGIN("arch=armv8.2-a+dotprod")
#endif

namespace moka {
namespace dense_neon_dot_isa {

#include "runtime/kernels/dense_neon-inl.h"

struct Dot {
  struct Acc {
    int32x4_t v[4];
  };
  struct W {
    int8x16_t v[4];
  };
  static constexpr int32_t kWeightShift = 0;
  static constexpr size_t kRows = 4, kTiles = 1, kStreams = 4, kStreamRows = 1;
  static Acc zero() {
    const int32x4_t none = vdupq_n_s32(0);
    return {{none, none, none, none}};
  }
  static W weights(const uint8_t* p) {
    W w;
    for (size_t i = 0; i < 4; ++i) w.v[i] = vreinterpretq_s8_u8(vld1q_u8(p + 16 * i));
    return w;
  }
  using Code = NeonCode;
  static Code code(const uint8_t* p) { return neon_code(p); }
  static void nibbles(const uint8_t* p, const Code& code, W* even, W* odd) {
    for (size_t i = 0; i < 4; ++i) {
      const uint8x16_t both = vld1q_u8(p + 16 * i);
      even->v[i] = neon_times(vandq_u8(both, vdupq_n_u8(15)), code, i);
      odd->v[i] = neon_times(vshrq_n_u8(both, 4), code, i);
    }
  }
  static void store_i8(const W& w, const Code&, uint8_t* out) {
    for (size_t i = 0; i < 4; ++i) vst1q_u8(out + 16 * i, vreinterpretq_u8_s8(w.v[i]));
  }
  static Acc zeros(const Acc& acc, const Code&, int32_t) { return acc; }
  static Acc add(Acc acc, const W& w, const int8_t* x) {
    int32_t four;
    std::memcpy(&four, x, sizeof(four));
    const int8x16_t group = vreinterpretq_s8_s32(vdupq_n_s32(four));
    for (size_t i = 0; i < 4; ++i) acc.v[i] = vdotq_s32(acc.v[i], w.v[i], group);
    return acc;
  }
  static void store(const Acc& acc, int32_t* out) {
    for (size_t i = 0; i < 4; ++i) vst1q_s32(out + 4 * i, acc.v[i]);
  }
};

#include "runtime/kernels/dense-inl.h"

constexpr DenseKernels kTable = {"neon_dot",     "neon",     kCpuNeon | kCpuNeonDot,
                                 dense_quantise, dense_int8, dense_int4,
                                 0, kUnpackBytes};

}  // namespace dense_neon_dot_isa
}  // namespace moka

MOKA_TARGET_END

namespace moka {
const DenseKernels* dense_neon_dot() { return &dense_neon_dot_isa::kTable; }
}  // namespace moka

#else

namespace moka {
const DenseKernels* dense_neon_dot() { return nullptr; }
}  // namespace moka

#endif
