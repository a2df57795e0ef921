#include "runtime/rotation.h"

#include <cmath>

namespace moka {

bool RotationTable::allocate(const RotationPlan& plan, size_t rows) {
  frequency_.resize(plan.half);
  for (size_t i = 0; i < plan.half; ++i) {
    frequency_[i] = std::pow(plan.theta, -static_cast<double>(i) / static_cast<double>(plan.half));
  }
  return cosine_.allocate(rows * plan.half) && sine_.allocate(rows * plan.half) &&
         negative_.allocate(rows * plan.half);
}

void RotationTable::fill(size_t row, uint64_t position) {
  const size_t n = half();
  for (size_t i = 0; i < n; ++i) {
    const double angle = static_cast<double>(position) * frequency_[i];
    const float sine = static_cast<float>(std::sin(angle));
    cosine_.data()[row * n + i] = static_cast<float>(std::cos(angle));
    sine_.data()[row * n + i] = sine;
    negative_.data()[row * n + i] = -sine;
  }
}

void SinusoidalPositions::configure(size_t width, bool fp32_angles) {
  fp32_angles_ = fp32_angles;
  frequency_.resize(width / 2);
  const double log_base = -std::log(10000.0) / static_cast<double>(width);
  for (size_t i = 0; i < frequency_.size(); ++i) {
    const double even = static_cast<double>(2 * i);
    if (fp32_angles) {
      const float exponent = static_cast<float>(even) * static_cast<float>(log_base);
      frequency_[i] =
          static_cast<double>(static_cast<float>(std::exp(static_cast<double>(exponent))));
    } else {
      frequency_[i] = std::exp(even * log_base);
    }
  }
}

void SinusoidalPositions::add(uint64_t position, float* x) const {
  for (size_t i = 0; i < frequency_.size(); ++i) {
    double angle = static_cast<double>(position) * frequency_[i];
    if (fp32_angles_) {
      angle = static_cast<double>(static_cast<float>(position) * static_cast<float>(frequency_[i]));
    }
    x[2 * i] += static_cast<float>(std::sin(angle));
    x[2 * i + 1] += static_cast<float>(std::cos(angle));
  }
}

}  // namespace moka
