#include "runtime/forward.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "runtime/front.h"

namespace moka {

Status Forward::read(Span<Sequence> sequences) {
  size_t rows = 0;
  for (Sequence& sequence : sequences) {
    sequence.row = rows;
    rows += sequence.count;
    MOKA_RETURN_IF_ERROR(embed(sequence, x_.data() + sequence.row * plan_.width));
  }
  prepare_positions(sequences);
  for (const BlockPlan& block : plan_.blocks) {
    MOKA_RETURN_IF_ERROR(run_block(block, sequences, rows, x_.data()));
  }
  if (plan_.head.pooled) {
    for (const Sequence& sequence : sequences) pool(sequence);
  }
  return Status();
}

// x <- after_mixer(x + mixer(before_mixer(x)))
// x <- after_feed_forward(x + feed_forward(before_feed_forward(x)))
Status Forward::run_block(const BlockPlan& block, Span<const Sequence> sequences, size_t rows,
                          float* x) {
  normalise(block.before_mixer, rows, x, z_.data());
  MOKA_RETURN_IF_ERROR(run_mixer(block.mixer, sequences, rows, z_.data(), y_.data()));
  add_rows(rows, y_.data(), x);
  if (block.after_mixer.kind != NormKind::kNone) normalise(block.after_mixer, rows, x, x);

  if (block.feed_forward.kind != FeedForwardKind::kNone) {
    normalise(block.before_feed_forward, rows, x, z_.data());
    MOKA_RETURN_IF_ERROR(feed_forward(block.feed_forward, rows, z_.data(), y_.data()));
    add_rows(rows, y_.data(), x);
  }
  if (block.after_feed_forward.kind != NormKind::kNone)
    normalise(block.after_feed_forward, rows, x, x);
  return Status();
}

// The mixer of each head reads the fused projection of the normalised input and leaves its output in
// its columns of mix_; the output projection joins the heads.
Status Forward::run_mixer(const MixerPlan& mixer, Span<const Sequence> sequences, size_t rows,
                          float* x, float* y) {
  if (mixer.rank > 0) {
    for (const Sequence& sequence : sequences) {
      MOKA_RETURN_IF_ERROR(unit_rows(sequence, x + sequence.row * plan_.width));
    }
  }
  if (mixer.from_front.count > 0) {
    for (const Sequence& sequence : sequences) {
      const size_t at = sequence.row * plan_.width;
      run_front(mixer.front, kernels_, plan_.width, sequence.position, sequence.count, x + at,
                sequence.state + mixer.state.conv, sequence.state + mixer.state.hidden,
                front_.data() + at, scratch_.data());
    }
    MOKA_RETURN_IF_ERROR(dense_->run(mixer.from_front, rows, front_.data(), wide_.data()));
  }
  if (mixer.from_input.count > 0) {
    MOKA_RETURN_IF_ERROR(dense_->run(mixer.from_input, rows, x, wide_.data()));
  }
  mix_heads(mixer, sequences);
  return dense_->run(mixer.out, rows, mix_.data(), y);
}

Status Forward::feed_forward(const FeedForwardPlan& plan, size_t rows, float* z, float* y) {
  const bool silu = plan.activation == Activation::kSilu;
  const size_t width = plan.width;
  float* wide = wide_.data();
  switch (plan.kind) {
    case FeedForwardKind::kNone: break;
    case FeedForwardKind::kMlp:  // fc2(act(fc1 z))
      MOKA_RETURN_IF_ERROR(dense_->run(plan.in, rows, z, wide));
      // Row by row: where a vector's tail falls must not depend on the number of rows.
      for (size_t r = 0; r < rows; ++r) {
        float* row = wide + r * width;
        (silu ? kernels_.silu : kernels_.gelu)(row, width, row);
      }
      return dense_->run(plan.out, rows, wide, y);
    case FeedForwardKind::kGlu:  // u = gelu(z); value(u) * sigmoid(gate(u))
      for (size_t r = 0; r < rows; ++r) kernels_.gelu(z + r * width, width, z + r * width);
      MOKA_RETURN_IF_ERROR(dense_->run(plan.in, rows, z, wide));
      for (size_t r = 0; r < rows; ++r) {
        const float* row = wide + r * 2 * width;
        kernels_.sigmoid_mul(row + width, row, width, y + r * width);
      }
      break;
    case FeedForwardKind::kGated:  // down(act(gate z) * up z)
      MOKA_RETURN_IF_ERROR(dense_->run(plan.in, rows, z, wide));
      for (size_t r = 0; r < rows; ++r) {
        const float* row = wide + r * 2 * width;
        (silu ? kernels_.silu_mul : kernels_.gelu_mul)(row, row + width, width,
                                                       hidden_.data() + r * width);
      }
      return dense_->run(plan.out, rows, hidden_.data(), y);
  }
  return Status();
}

void Forward::prepare_positions(Span<const Sequence> sequences) {
  for (RotationTable& table : rotations_) {
    for (const Sequence& sequence : sequences) {
      for (size_t i = 0; i < sequence.count; ++i) {
        table.fill(sequence.row + i, sequence.position + sequence.shift + i);
      }
    }
  }
}

void Forward::normalise(const NormPlan& norm, size_t rows, const float* x, float* y) const {
  const size_t width = plan_.width;
  const float* scale = norm.scale != nullptr ? norm.scale : ones_.data();
  const float* bias = norm.bias != nullptr ? norm.bias : zeros_.data();
  for (size_t r = 0; r < rows; ++r, x += width, y += width) {
    switch (norm.kind) {
      case NormKind::kNone:
        if (x != y) std::memcpy(y, x, width * sizeof(float));
        break;
      case NormKind::kLayerNorm: kernels_.layer_norm(x, scale, bias, norm.eps, width, y); break;
      case NormKind::kRmsNorm: kernels_.rms_norm(x, scale, norm.offset, norm.eps, width, y); break;
      case NormKind::kAffine: kernels_.affine(x, scale, bias, width, y); break;
    }
  }
}

void Forward::add_rows(size_t rows, const float* y, float* x) const {
  kernels_.add(y, rows * plan_.width, x);
}

Result<std::unique_ptr<Forward>> Forward::create(const Plan& plan, const Kernels& kernels,
                                                 PackedWeights& weights, int threads,
                                                 size_t max_rows) {
  std::unique_ptr<Forward> forward(new (std::nothrow) Forward(plan, kernels));
  if (forward == nullptr) return Status(StatusCode::kOutOfMemory, "no memory for an executor");
  MOKA_RETURN_IF_ERROR(forward->allocate(weights, threads, max_rows));
  return forward;
}

Status Forward::allocate(PackedWeights& weights, int threads, size_t max_rows) {
  max_rows_ = max_rows;
  MOKA_ASSIGN_OR_RETURN(pool_, ThreadPool::create(threads));
  MOKA_ASSIGN_OR_RETURN(dense_, DenseRunner::create(weights, *pool_, max_rows));
  sinusoidal_.configure(plan_.width, plan_.positions.fp32_angles);

  size_t wide = plan_.width, hidden = 0, front = 0;
  for (const auto* blocks : {&plan_.blocks, &plan_.memory_blocks}) {
    for (const BlockPlan& block : *blocks) {
      wide = std::max({wide, block.mixer.row, block.feed_forward.in.row});
      if (block.feed_forward.kind == FeedForwardKind::kGated) {
        hidden = std::max(hidden, block.feed_forward.width);
      }
      scratch_floats_ =
          std::max(scratch_floats_, head_scratch(block.mixer, max_rows, block.mixer.capacity));
      front = std::max(front, front_scratch(block.mixer.front, plan_.width, max_rows));
    }
  }
  scratch_floats_ = pad_row(scratch_floats_);
  bool ok = allocate_rows(wide, hidden, front > 0) &&
            scratch_.allocate(std::max(scratch_floats_ * static_cast<size_t>(threads), front));
  rotations_.resize(plan_.rotations.size());
  for (size_t i = 0; ok && i < rotations_.size(); ++i) {
    ok = rotations_[i].allocate(plan_.rotations[i], max_rows);
  }
  if (!ok) {
    return Status(StatusCode::kOutOfMemory,
                  "no memory for the scratch of " + std::to_string(max_rows) + " rows");
  }
  std::fill(ones_.data(), ones_.data() + plan_.width, 1.0f);
  if (!plan_.input.convolution.layers.empty()) {
    MOKA_ASSIGN_OR_RETURN(convolution_, ConvolutionStack::create(plan_.input.convolution, *pool_));
  }
  return Status();
}

bool Forward::allocate_rows(size_t wide, size_t hidden, bool front) {
  const size_t rows = max_rows_, width = plan_.width;
  const bool pair = plan_.head.kind == HeadKind::kPair;
  return x_.allocate(rows * width) && z_.allocate(rows * width) && y_.allocate(rows * width) &&
         mix_.allocate(rows * width) && front_.allocate(front ? rows * width : 0) &&
         wide_.allocate(rows * wide) && hidden_.allocate(rows * hidden) &&
         input_.allocate(rows * plan_.input.features) &&
         pooled_.allocate(plan_.head.pooled ? rows * width : 0) &&
         pair_.allocate(pair ? 4 * width + kRowPad + plan_.head.hidden.row : 0) &&
         zeros_.allocate(width) && ones_.allocate(width);
}

Status Forward::reserve_cache(size_t capacity) {
  size_t floats = scratch_floats_;
  for (const BlockPlan& block : plan_.blocks) {
    if (block.mixer.growing) {
      floats = std::max(floats, pad_row(head_scratch(block.mixer, max_rows_, capacity)));
    }
  }
  if (floats == scratch_floats_) return Status();
  AlignedBuffer<float> larger;
  if (!larger.allocate(std::max(floats * static_cast<size_t>(pool_->threads()), scratch_.size()))) {
    return Status(StatusCode::kOutOfMemory,
                  "no memory for softmax attention over " + std::to_string(capacity) + " tokens");
  }
  scratch_ = std::move(larger);
  scratch_floats_ = floats;
  return Status();
}

size_t Forward::scratch_bytes() const {
  size_t bytes = dense_->scratch_bytes();
  for (const auto* buffer : {&x_, &z_, &y_, &front_, &wide_, &hidden_, &mix_, &input_, &pooled_,
                             &pair_, &scratch_, &zeros_, &ones_}) {
    bytes += buffer->bytes();
  }
  for (const RotationTable& table : rotations_) bytes += table.bytes();
  if (convolution_ != nullptr) bytes += convolution_->scratch_bytes();
  return bytes;
}

}  // namespace moka
