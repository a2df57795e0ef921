// Cosines and sines of rotary angles, and sinusoidal positions: what depends on the position alone.
#ifndef MOKA_RUNTIME_ROTATION_H_
#define MOKA_RUNTIME_ROTATION_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/aligned_buffer.h"
#include "runtime/plan.h"

namespace moka {

// Rows of cos, sin and -sin of position * theta^(-2i / (2 half)), i = 0 ... half - 1, for the rows of
// a chunk. Angles are formed and reduced in double: in float32 the angle at position 10^6 would be
// off by up to 0.06 rad.
class RotationTable {
 public:
  [[nodiscard]] bool allocate(const RotationPlan& plan, size_t rows);
  void fill(size_t row, uint64_t position);

  size_t half() const { return frequency_.size(); }
  const float* cosine(size_t row) const { return cosine_.data() + row * half(); }
  // sine of the angle times `sign`.
  const float* sine(size_t row, int sign) const {
    return (sign >= 0 ? sine_ : negative_).data() + row * half();
  }
  size_t bytes() const { return cosine_.bytes() + sine_.bytes() + negative_.bytes(); }

 private:
  std::vector<double> frequency_;
  AlignedBuffer<float> cosine_, sine_, negative_;
};

// Adds pe[2i] = sin(t f_i), pe[2i+1] = cos(t f_i), f_i = 10000^(-2i/D). With fp32_angles the
// frequencies and angles are rounded to float32, as the models' training code did.
class SinusoidalPositions {
 public:
  void configure(size_t width, bool fp32_angles);
  void add(uint64_t position, float* x) const;

 private:
  bool fp32_angles_ = false;
  std::vector<double> frequency_;
};

}  // namespace moka

#endif  // MOKA_RUNTIME_ROTATION_H_
