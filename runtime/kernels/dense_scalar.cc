// Dense kernels in plain C++.
#include "runtime/kernels/dense_isa.h"

namespace moka {
namespace dense_scalar_isa {

#include "runtime/kernels/vec_scalar-inl.h"

struct Num : Scalar {
  // Nearest integer; larger numbers than 2^22 are clamped afterwards and only stay large.
  static R round(R v) { return v > -4e6f && v < 4e6f ? (v + 12582912.0f) - 12582912.0f : v; }
  static float smallest(R v) { return v; }
  static R load_i32(const int32_t* p) { return static_cast<float>(*p); }
  static void store_i8(R v, int8_t* p) { *p = static_cast<int8_t>(v); }
};

struct Dot {
  struct Acc {
    int32_t v[16];
  };
  struct W {
    int8_t v[64];
  };
  static constexpr int32_t kWeightShift = 0;
  static constexpr size_t kRows = 2, kTiles = 1, kStreams = 1, kStreamRows = 1;
  static Acc zero() { return Acc{}; }
  static W weights(const uint8_t* p) {
    W w;
    std::memcpy(w.v, p, sizeof(w.v));
    return w;
  }
  using Code = const uint8_t*;
  static Code code(const uint8_t* p) { return p; }
  static void nibbles(const uint8_t* p, Code code, W* even, W* odd) {
    for (size_t i = 0; i < 64; ++i) {
      const int multiplier = code[i / 4] & 31, zero = 4 + (code[i / 4] >> 5);
      even->v[i] = static_cast<int8_t>(((p[i] & 15) - zero) * multiplier);
      odd->v[i] = static_cast<int8_t>(((p[i] >> 4) - zero) * multiplier);
    }
  }
  static void store_i8(const W& w, Code, uint8_t* out) { std::memcpy(out, w.v, sizeof(w.v)); }
  static Acc zeros(const Acc& acc, Code, int32_t) { return acc; }
  static Acc add(Acc acc, const W& w, const int8_t* x) {
    for (size_t o = 0; o < 16; ++o) {
      const int8_t* row = w.v + 4 * o;
      acc.v[o] += row[0] * x[0] + row[1] * x[1] + row[2] * x[2] + row[3] * x[3];
    }
    return acc;
  }
  static void store(const Acc& acc, int32_t* out) { std::memcpy(out, acc.v, sizeof(acc.v)); }
};

#include "runtime/kernels/dense-inl.h"

constexpr DenseKernels kTable = {"scalar",   "scalar",   0,           dense_quantise,
                                 dense_int8, dense_int4, 0, kUnpackBytes};

}  // namespace dense_scalar_isa

const DenseKernels* dense_scalar() { return &dense_scalar_isa::kTable; }

}  // namespace moka
