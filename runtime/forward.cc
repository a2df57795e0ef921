#include "runtime/forward.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "runtime/front.h"

namespace moka {

namespace {

// Floats of a stretch of rows below which another thread costs more than it saves.
constexpr size_t kRowsFloats = 32768;

}  // namespace

Status Forward::read(Span<Sequence> sequences) {
  size_t rows = 0;
  for (Sequence& sequence : sequences) {
    const ProfileScope scope(profiler_, "embed", -1, sequence.count);
    sequence.row = rows;
    rows += sequence.count;
    MOKA_RETURN_IF_ERROR(embed(sequence, x_.data() + sequence.row * plan_.width));
  }
  prepare_positions(sequences);
  for (size_t i = 0; i < plan_.blocks.size(); ++i) {
    block_ = static_cast<int>(i);
    MOKA_RETURN_IF_ERROR(run_block(plan_.blocks[i], sequences, rows, x_.data()));
  }
  block_ = -1;
  if (plan_.head.pooled) {
    const ProfileScope scope(profiler_, "pool", -1, rows);
    for (const Sequence& sequence : sequences) pool(sequence);
  }
  return Status();
}

// x <- after_mixer(x + mixer(before_mixer(x)))
// x <- after_feed_forward(x + feed_forward(before_feed_forward(x)))
Status Forward::run_block(const BlockPlan& block, Span<const Sequence> sequences, size_t rows,
                          float* x) {
  const bool more = block.feed_forward.kind != FeedForwardKind::kNone;
  normalise(block.before_mixer, rows, x, z_.data());
  MOKA_RETURN_IF_ERROR(run_mixer(block.mixer, sequences, rows, z_.data(), y_.data()));
  join(rows, y_.data(), block.after_mixer, more ? &block.before_feed_forward : nullptr, x,
       z_.data());
  if (more) {
    MOKA_RETURN_IF_ERROR(feed_forward(block.feed_forward, rows, z_.data(), y_.data()));
    join(rows, y_.data(), block.after_feed_forward, nullptr, x, nullptr);
  } else if (block.after_feed_forward.kind != NormKind::kNone) {
    normalise(block.after_feed_forward, rows, x, x);
  }
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
    const ProfileScope scope(profiler_, "front", block_, rows);
    run_fronts(mixer, sequences, x);
  }
  {
    const ProfileScope scope(profiler_, "qkv", block_, rows);
    if (mixer.from_front.count > 0) {
      MOKA_RETURN_IF_ERROR(dense_->run(mixer.from_front, rows, front_.data(), wide_.data()));
    }
    if (mixer.from_input.count > 0) {
      MOKA_RETURN_IF_ERROR(dense_->run(mixer.from_input, rows, x, wide_.data()));
    }
  }
  if (keep_ != nullptr) keep_rows(mixer, rows, x);
  {
    const ProfileScope scope(profiler_, "mixer", block_, rows);
    mix_heads(mixer, sequences);
  }
  const ProfileScope scope(profiler_, "out", block_, rows);
  return dense_->run(mixer.out, rows, mix_.data(), y);
}

void Forward::run_fronts(const MixerPlan& mixer, Span<const Sequence> sequences, const float* x) {
  for (const Sequence& sequence : sequences) {
    const size_t most = sequence.stepwise ? 1 : sequence.count;
    for (size_t first = 0; first < sequence.count; first += most) {
      const size_t at = (sequence.row + first) * plan_.width;
      run_front(mixer.front, kernels_, plan_.width, sequence.position + first, most, x + at,
                sequence.state + mixer.state.conv, sequence.state + mixer.state.hidden,
                front_.data() + at, scratch_.data());
    }
  }
}

Status Forward::feed_forward(const FeedForwardPlan& plan, size_t rows, float* z, float* y) {
  float* wide = wide_.data();
  if (plan.kind == FeedForwardKind::kGlu) {  // u = gelu(z); value(u) * sigmoid(gate(u))
    const ProfileScope scope(profiler_, "activation", block_, rows);
    for_rows(rows, plan.width, [&](size_t first, size_t count) {
      for (size_t r = first; r < first + count; ++r) {
        kernels_.gelu(z + r * plan.width, plan.width, z + r * plan.width);
      }
    });
  }
  {
    const ProfileScope scope(profiler_, plan.kind == FeedForwardKind::kMlp ? "up" : "gate_up",
                             block_, rows);
    MOKA_RETURN_IF_ERROR(dense_->run(plan.in, rows, z, wide));
  }
  float* out = plan.kind == FeedForwardKind::kGlu     ? y
               : plan.kind == FeedForwardKind::kGated ? hidden_.data()
                                                      : wide;
  {
    const ProfileScope scope(profiler_, "activation", block_, rows);
    activate(plan, rows, wide, out);
  }
  if (plan.kind == FeedForwardKind::kGlu) return Status();
  const ProfileScope scope(profiler_, "down", block_, rows);
  return dense_->run(plan.out, rows, out, y);
}

// Row by row: where a vector's tail falls must not depend on the number of rows.
void Forward::activate(const FeedForwardPlan& plan, size_t rows, float* wide, float* out) const {
  const bool silu = plan.activation == Activation::kSilu;
  const size_t width = plan.width;
  for_rows(rows, 3 * width, [&](size_t first, size_t count) {
    for (size_t r = first; r < first + count; ++r) {
      const float* pair = wide + r * 2 * width;
      float* to = out + r * width;
      switch (plan.kind) {
        case FeedForwardKind::kNone: break;
        case FeedForwardKind::kMlp: (silu ? kernels_.silu : kernels_.gelu)(to, width, to); break;
        case FeedForwardKind::kGlu: kernels_.sigmoid_mul(pair + width, pair, width, to); break;
        case FeedForwardKind::kGated:
          (silu ? kernels_.silu_mul : kernels_.gelu_mul)(pair, pair + width, width, to);
          break;
      }
    }
  });
}

void Forward::prepare_positions(Span<const Sequence> sequences) {
  if (rotations_.empty()) return;
  const ProfileScope scope(profiler_, "positions");
  for (RotationTable& table : rotations_) {
    for (const Sequence& sequence : sequences) {
      for (size_t i = 0; i < sequence.count; ++i) {
        table.fill(sequence.row + i, sequence.position + sequence.shift + i);
      }
    }
  }
}

template <class Work>
void Forward::for_rows(size_t rows, size_t floats, const Work& work) const {
  const size_t threads = static_cast<size_t>(pool_->threads());
  const size_t pieces = std::min({threads, rows, 1 + rows * floats / kRowsFloats});
  if (pieces <= 1) return work(size_t{0}, rows);
  struct Task {
    const Work* work;
    size_t rows, pieces;
  } task = {&work, rows, pieces};
  pool_->run(
      pieces,
      [](void* context, size_t, size_t index) {
        const Task& t = *static_cast<const Task*>(context);
        const size_t first = t.rows * index / t.pieces, last = t.rows * (index + 1) / t.pieces;
        (*t.work)(first, last - first);
      },
      &task);
}

void Forward::normalise_rows(const NormPlan& norm, size_t rows, const float* x, float* y) const {
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

void Forward::normalise(const NormPlan& norm, size_t rows, const float* x, float* y) const {
  const ProfileScope scope(profiler_, "norm", block_, rows);
  const size_t width = plan_.width;
  for_rows(rows, width, [&](size_t first, size_t count) {
    normalise_rows(norm, count, x + first * width, y + first * width);
  });
}

void Forward::join(size_t rows, const float* y, const NormPlan& after, const NormPlan* next,
                   float* x, float* z) const {
  const ProfileScope scope(profiler_, "add_norm", block_, rows);
  const size_t width = plan_.width;
  for_rows(rows, 2 * width, [&](size_t first, size_t count) {
    for (size_t at = first * width; at < (first + count) * width; at += width) {
      kernels_.add(y + at, width, x + at);
      if (after.kind != NormKind::kNone) normalise_rows(after, 1, x + at, x + at);
      if (next != nullptr) normalise_rows(*next, 1, x + at, z + at);
    }
  });
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
