// From tokens, numbers and pixels to the first hidden states. A part of Forward.
#include <algorithm>
#include <cstring>

#include "runtime/forward.h"
#include "runtime/half.h"
#include "runtime/tiles.h"

namespace moka {
namespace {

// Row `index` of a matrix stored in any type, as float32.
void gather_row(const Kernels& kernels, const Tensor& table, size_t index, size_t width,
                float* out) {
  if (table.layout == TensorLayout::kTiles) return read_tile_row(table, index, out);
  const size_t at = index * width;
  switch (table.dtype) {
    case DType::kI8:
      kernels.widen_i8(static_cast<const int8_t*>(table.data) + at,
                       static_cast<const float*>(table.scales)[index], width, out);
      break;
    case DType::kF16:
      kernels.widen_f16(static_cast<const uint16_t*>(table.data) + at, width, out);
      break;
    case DType::kBF16:
      for (size_t i = 0; i < width; ++i) {
        out[i] = bfloat16_to_float(static_cast<const uint16_t*>(table.data)[at + i]);
      }
      break;
    default: std::memcpy(out, static_cast<const float*>(table.data) + at, width * sizeof(float));
  }
}

// (f - mean) / deviation, feature by feature; absent lists are 0 and 1.
void scale_values(const InputPlan& plan, const float* values, size_t count, float* out) {
  for (size_t i = 0; i < count; ++i) {
    const size_t feature = i % plan.features;
    const float mean = plan.mean.empty() ? 0.0f : plan.mean[feature];
    const float deviation = plan.deviation.empty() ? 1.0f : plan.deviation[feature];
    out[i] = (values[i] - mean) / deviation;
  }
}

}  // namespace

Status Forward::embed(const Sequence& sequence, float* x) {
  const InputPlan& input = plan_.input;
  if (input.features > 0) {
    MOKA_RETURN_IF_ERROR(embed_values(sequence, x));
  } else {
    for (size_t i = 0; i < sequence.count; ++i) {
      gather_row(kernels_, *input.token_table, static_cast<size_t>(sequence.tokens[i]), plan_.width,
                 x + i * plan_.width);
    }
  }
  add_positions(sequence, x);
  return Status();
}

Status Forward::embed_values(const Sequence& sequence, float* x) {
  scale_values(plan_.input, sequence.values, sequence.count * plan_.input.features, input_.data());
  return dense_->run(plan_.input.projection, sequence.count, input_.data(), x);
}

Status Forward::embed_image(const Sequence& sequence, float* x) {
  float* pixels = convolution_->input();
  scale_values(plan_.input, sequence.values, sequence.count, pixels);
  MOKA_RETURN_IF_ERROR(convolution_->run(x));
  normalise(plan_.input.convolution_norm, sequence.count, x, x);
  add_positions(sequence, x);
  return Status();
}

void Forward::add_positions(const Sequence& sequence, float* x) {
  if (plan_.positions.kind == PositionKind::kNone) return;
  for (size_t i = 0; i < sequence.count; ++i, x += plan_.width) {
    const uint64_t position = sequence.position + sequence.shift + i;
    if (plan_.positions.kind == PositionKind::kSinusoidal) {
      sinusoidal_.add(position, x);
    } else {
      gather_row(kernels_, *plan_.position_table, static_cast<size_t>(position), plan_.width,
                 z_.data());
      kernels_.add(z_.data(), plan_.width, x);
    }
  }
}

}  // namespace moka
