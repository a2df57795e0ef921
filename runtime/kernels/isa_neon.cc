// Kernel table for AArch64 Advanced SIMD (every 64-bit Arm): four floats at a time.
#include "runtime/kernels/isa.h"

#if defined(__aarch64__) && !defined(MOKA_WITHOUT_NEON)

#include <arm_neon.h>

namespace moka {
namespace isa_neon {

#include "runtime/kernels/vec_neon-inl.h"

struct Vec : FloatVec {
  static R div(R a, R b) { return vdivq_f32(a, b); }
  static R exp2_integer(R n) {
    const int32x4_t biased = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
    return vreinterpretq_f32_s32(vshlq_n_s32(biased, 23));
  }
  static R keep_from(R x, R limit, R value) {
    return vreinterpretq_f32_u32(vandq_u32(vcgeq_f32(x, limit), vreinterpretq_u32_f32(value)));
  }
  static float sum(R v) { return vaddvq_f32(v); }
  static R load_i8(const int8_t* p) {
    // Four bytes, not eight: the array may end here.
    uint32_t four;
    std::memcpy(&four, p, sizeof(four));
    const int8x8_t bytes = vreinterpret_s8_u32(vdup_n_u32(four));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))));
  }
  static R load_f16(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
  static void store_f16(uint16_t* p, R v) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v))); }
  static R reciprocal(R x) { return div(set(1.0f), x); }
  // The first n lanes of x, the others of y.
  static R first(size_t n, R x, R y) {
    const uint32_t lane[4] = {0, 1, 2, 3};
    const uint32x4_t taken = vcltq_u32(vld1q_u32(lane), vdupq_n_u32(static_cast<uint32_t>(n)));
    return vbslq_f32(taken, x, y);
  }
  // b[j][i] = a[i][j] for 4 x 4.
  static void transpose(const float* a, size_t lda, float* b, size_t ldb) {
    const float32x4x2_t upper = vtrnq_f32(load(a), load(a + lda));
    const float32x4x2_t lower = vtrnq_f32(load(a + 2 * lda), load(a + 3 * lda));
    store(b, vcombine_f32(vget_low_f32(upper.val[0]), vget_low_f32(lower.val[0])));
    store(b + ldb, vcombine_f32(vget_low_f32(upper.val[1]), vget_low_f32(lower.val[1])));
    store(b + 2 * ldb, vcombine_f32(vget_high_f32(upper.val[0]), vget_high_f32(lower.val[0])));
    store(b + 3 * ldb, vcombine_f32(vget_high_f32(upper.val[1]), vget_high_f32(lower.val[1])));
  }
};

// Registers: 6 x 4 accumulators, a row of B, 1 of A.
constexpr size_t kTileCols = 4;
constexpr size_t tile_rows(size_t columns) { return columns >= 4 ? 6 : 8; }
constexpr char kName[] = "neon";
constexpr uint32_t kNeeds = kCpuNeon;

#include "runtime/kernels/body-inl.h"

}  // namespace isa_neon

const Kernels* kernels_neon() { return &isa_neon::kTable; }

}  // namespace moka

#else

namespace moka {
const Kernels* kernels_neon() { return nullptr; }
}  // namespace moka

#endif
