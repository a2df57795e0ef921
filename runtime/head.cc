// From the last hidden states to rows of output (spec: heads). A part of Forward.
#include <cmath>
#include <cstring>
#include <vector>

#include "runtime/forward.h"

namespace moka {

Status Forward::logits(size_t row, size_t rows, float* out) {
  if (plan_.head.pooled) return project_pooled(pooled(row), rows, out);
  return project_rows(x_.data() + row * plan_.width, rows, out);
}

Status Forward::project_rows(const float* x, size_t rows, float* out) {
  if (plan_.head.projection.count == 0) {
    normalise(plan_.final_norm, rows, x, out);
    return Status();
  }
  normalise(plan_.final_norm, rows, x, z_.data());
  const ProfileScope scope(profiler_, "logits", -1, rows);
  MOKA_RETURN_IF_ERROR(dense_->run(plan_.head.projection, rows, z_.data(), out));
  scale_outputs(rows, out);
  return Status();
}

// Regression: value = mean + deviation * number. A row is [steps][outputs][numbers].
void Forward::scale_outputs(size_t rows, float* out) const {
  const HeadPlan& head = plan_.head;
  if (head.mean.empty() && head.deviation.empty()) return;
  for (size_t i = 0; i < rows * plan_.outputs; ++i) {
    const size_t output = i / head.numbers % head.outputs;
    const float mean = head.mean.empty() ? 0.0f : head.mean[output];
    const float deviation = head.deviation.empty() ? 1.0f : head.deviation[output];
    out[i] = mean + deviation * out[i];
  }
}

// Row i of pooled_ is what everything up to row i comes to. The running sum of mean pooling carries
// its rounding error along (Knuth's two-sum), so that an endless stream keeps an exact mean.
void Forward::pool(const Sequence& sequence) {
  const HeadPlan& head = plan_.head;
  const size_t width = plan_.width;
  float* sum = sequence.state + head.pool;
  float* carry = sequence.state + head.carry;
  for (size_t i = 0; i < sequence.count; ++i) {
    float* out = pooled_.data() + (sequence.row + i) * width;
    normalise_rows(plan_.final_norm, 1, x_.data() + (sequence.row + i) * width, out);
    if (head.pooling == Pooling::kLast) continue;
    if (head.pooling == Pooling::kFirst) {
      if (sequence.position + i == 0) std::memcpy(sum, out, width * sizeof(float));
      std::memcpy(out, sum, width * sizeof(float));
      continue;
    }
    const double count = static_cast<double>(sequence.position + i + 1);
    for (size_t d = 0; d < width; ++d) {
      const float before = sum[d], after = before + out[d];
      const float added = after - before;
      carry[d] += (before - (after - added)) + (out[d] - added);
      sum[d] = after;
      out[d] =
          static_cast<float>((static_cast<double>(after) + static_cast<double>(carry[d])) / count);
    }
  }
}

void Forward::pool_rows(const float* x, size_t rows, size_t last, float* pooled) {
  const size_t width = plan_.width;
  if (plan_.head.pooling != Pooling::kMean) {
    const size_t row = plan_.head.pooling == Pooling::kLast ? last : 0;
    normalise(plan_.final_norm, 1, x + row * width, pooled);
    return;
  }
  std::vector<double> sum(width, 0.0);
  for (size_t row = 0; row < rows; ++row) {
    normalise_rows(plan_.final_norm, 1, x + row * width, z_.data());
    for (size_t d = 0; d < width; ++d) sum[d] += static_cast<double>(z_.data()[d]);
  }
  for (size_t d = 0; d < width; ++d)
    pooled[d] = static_cast<float>(sum[d] / static_cast<double>(rows));
}

Status Forward::project_pooled(const float* pooled, size_t rows, float* out) {
  const ProfileScope scope(profiler_, "logits", -1, rows);
  if (plan_.head.projection.count > 0) {
    return dense_->run(plan_.head.projection, rows, pooled, out);
  }
  const size_t width = plan_.width;
  std::memcpy(out, pooled, rows * width * sizeof(float));
  if (!plan_.head.unit_length) return Status();
  for (size_t row = 0; row < rows; ++row, out += width) {
    double square = 0.0;
    for (size_t d = 0; d < width; ++d)
      square += static_cast<double>(out[d]) * static_cast<double>(out[d]);
    if (square == 0.0) continue;  // a zero vector has no direction and stays one
    const float factor = static_cast<float>(1.0 / std::sqrt(square));
    for (size_t d = 0; d < width; ++d) out[d] *= factor;
  }
  return Status();
}

// out = W2 gelu(W1 [u, v, u - v, u * v])
Status Forward::project_pair(const float* first, const float* second, float* out) {
  const ProfileScope scope(profiler_, "logits", -1, 1);
  const size_t width = plan_.width;
  float* e = pair_.data();
  float* hidden = e + pad_row(4 * width);
  std::memcpy(e, first, width * sizeof(float));
  std::memcpy(e + width, second, width * sizeof(float));
  for (size_t d = 0; d < width; ++d) {
    e[2 * width + d] = first[d] - second[d];
    e[3 * width + d] = first[d] * second[d];
  }
  MOKA_RETURN_IF_ERROR(dense_->run(plan_.head.hidden, 1, e, hidden));
  kernels_.gelu(hidden, plan_.head.hidden.row, hidden);
  return dense_->run(plan_.head.projection, 1, hidden, out);
}

}  // namespace moka
