// Dense kernels for 64-bit Arm without dot product instructions (Cortex-A53, A72: Raspberry Pi 3, 4).
#include "runtime/kernels/dense_isa.h"

#if defined(__aarch64__) && !defined(MOKA_WITHOUT_NEON)

#include <arm_neon.h>

namespace moka {
namespace dense_neon_isa {

#include "runtime/kernels/dense_neon-inl.h"

struct Dot {
  struct Acc {
    int32x4_t v[8];  // outputs 2 i and 2 i + 1, two partial sums each
  };
  struct W {
    int8x8_t v[8];
  };
  static constexpr int32_t kWeightShift = 0;
  static constexpr size_t kRows = 2, kTiles = 1, kStreams = 4, kStreamRows = 1;
  static Acc zero() {
    Acc acc;
    for (size_t i = 0; i < 8; ++i) acc.v[i] = vdupq_n_s32(0);
    return acc;
  }
  static W weights(const uint8_t* p) {
    W w;
    for (size_t i = 0; i < 8; ++i) w.v[i] = vreinterpret_s8_u8(vld1_u8(p + 8 * i));
    return w;
  }
  using Code = NeonCode;
  static Code code(const uint8_t* p) { return neon_code(p); }
  static void nibbles(const uint8_t* p, const Code& code, W* even, W* odd) {
    for (size_t i = 0; i < 4; ++i) {
      const uint8x16_t both = vld1q_u8(p + 16 * i);
      const int8x16_t low = neon_times(vandq_u8(both, vdupq_n_u8(15)), code, i);
      const int8x16_t high = neon_times(vshrq_n_u8(both, 4), code, i);
      even->v[2 * i] = vget_low_s8(low);
      even->v[2 * i + 1] = vget_high_s8(low);
      odd->v[2 * i] = vget_low_s8(high);
      odd->v[2 * i + 1] = vget_high_s8(high);
    }
  }
  static void store_i8(const W& w, const Code&, uint8_t* out) {
    for (size_t i = 0; i < 8; ++i) vst1_u8(out + 8 * i, vreinterpret_u8_s8(w.v[i]));
  }
  static Acc zeros(const Acc& acc, const Code&, int32_t) { return acc; }
  // A product of two int8 fits in 16 bits, -128 * -128 included; pairs are added up in 32.
  static Acc add(Acc acc, const W& w, const int8_t* x) {
    int32_t four;
    std::memcpy(&four, x, sizeof(four));
    const int8x8_t group = vreinterpret_s8_s32(vdup_n_s32(four));
    for (size_t i = 0; i < 8; ++i) acc.v[i] = vpadalq_s16(acc.v[i], vmull_s8(w.v[i], group));
    return acc;
  }
  static void store(const Acc& acc, int32_t* out) {
    for (size_t i = 0; i < 4; ++i) {
      vst1q_s32(out + 4 * i, vpaddq_s32(acc.v[2 * i], acc.v[2 * i + 1]));
    }
  }
};

#include "runtime/kernels/dense-inl.h"

constexpr DenseKernels kTable = {"neon",     "neon",     kCpuNeon,    dense_quantise,
                                 dense_int8, dense_int4, 0, kUnpackBytes};

}  // namespace dense_neon_isa

const DenseKernels* dense_neon() { return &dense_neon_isa::kTable; }

}  // namespace moka

#else

namespace moka {
const DenseKernels* dense_neon() { return nullptr; }
}  // namespace moka

#endif
