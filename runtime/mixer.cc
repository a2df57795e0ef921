// The mixing of one head: latent attention over all that was read, window attention over the last
// tokens, and the gate that blends them (Macchiato). A part of Forward.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/forward.h"
#include "runtime/latents.h"

namespace moka {
namespace {

// Floats that a head touches per token below which threads cost more than they save.
constexpr size_t kParallelFloats = 16384;

// k <- log(exp(scale k) + eps), spec section "score variants".
void effective_keys(float scale, float eps, size_t rows, size_t stride, size_t n, float* k) {
  if (scale == 1.0f && eps == 0.0f) return;
  const float floor = eps > 0.0f ? std::log(eps) : 0.0f;
  for (size_t t = 0; t < rows; ++t) {
    float* row = k + t * stride;
    for (size_t l = 0; l < n; ++l) {
      row[l] *= scale;
      if (eps > 0.0f) {
        const float top = std::max(row[l], floor);
        row[l] = top + std::log1p(std::exp(-std::fabs(row[l] - floor)));
      }
    }
  }
}

}  // namespace

struct Forward::HeadTask {
  Forward* forward;
  const MixerPlan* mixer;
  Span<const Sequence> sequences;
  HeadWork work;
};

void Forward::run_head(void* context, size_t thread, size_t index) {
  const HeadTask& task = *static_cast<HeadTask*>(context);
  Forward& forward = *task.forward;
  const size_t heads = task.mixer->heads;
  (forward.*task.work)(*task.mixer, task.sequences[index / heads], index % heads,
                       forward.scratch_.data() + thread * forward.scratch_floats_);
}

void Forward::for_heads(const MixerPlan& mixer, Span<const Sequence> sequences, HeadWork work) {
  HeadTask task{this, &mixer, sequences, work};
  const size_t count = mixer.heads * sequences.size();
  size_t rows = 0, capacity = mixer.capacity;
  for (const Sequence& sequence : sequences) {
    rows += sequence.count;
    if (mixer.growing) capacity = std::max(capacity, static_cast<size_t>(sequence.position));
  }
  const size_t touched = (mixer.lh + mixer.rank) * mixer.dh_pad + 2 * capacity * mixer.dh;
  if (pool_->threads() == 1 || touched * mixer.heads * rows < kParallelFloats) {
    for (size_t i = 0; i < count; ++i) run_head(&task, 0, i);
  } else {
    pool_->run(count, &Forward::run_head, &task);
  }
}

size_t Forward::head_scratch(const MixerPlan& mixer, size_t rows, size_t capacity) {
  const size_t values = 4 * rows * mixer.dh_pad;  // padded v, rotated v, y, local y
  const size_t latent = mixer.latent ? rows * pad_row(mixer.lh) + pad_row(rows) : 0;
  const size_t kernel =
      std::max(mixer.latent ? latent_scratch(rows, mixer.lh) : 0,
               mixer.window ? std::max(window_scratch(rows, capacity, mixer.dh, mixer.dh_pad),
                                       window_scratch(1, capacity, mixer.dh, mixer.dh_pad))
                            : 0);
  return values + std::max(latent + kernel, linformer_scratch(mixer, rows));
}

// Values of a head as whole vectors: where they stand when the head's width is whole already, else
// copied to `room` and padded with zeros.
Forward::Rows Forward::head_values(const MixerPlan& mixer, const Sequence& sequence, size_t head,
                                   float* room) const {
  const size_t n = sequence.count, dh = mixer.dh, dp = mixer.dh_pad;
  const float* v = wide_.data() + sequence.row * mixer.row + mixer.v + head * dh;
  if (dp == dh) return {v, mixer.row};
  for (size_t t = 0; t < n; ++t) {
    std::memcpy(room + t * dp, v + t * mixer.row, dh * sizeof(float));
    std::fill(room + t * dp + dh, room + (t + 1) * dp, 0.0f);
  }
  return {room, dp};
}

void Forward::store_head(const MixerPlan& mixer, const Sequence& sequence, size_t head,
                         const float* y) {
  for (size_t t = 0; t < sequence.count; ++t) {
    std::memcpy(mix_.data() + (sequence.row + t) * plan_.width + head * mixer.dh,
                y + t * mixer.dh_pad, mixer.dh * sizeof(float));
  }
}

// Causal. Reads the head's columns of the fused projection in wide_, writes its columns of mix_.
void Forward::mix_head(const MixerPlan& mixer, const Sequence& sequence, size_t head,
                       float* scratch) {
  const size_t n = sequence.count, dp = mixer.dh_pad;
  float* y = scratch;
  const Rows v = head_values(mixer, sequence, head, y + n * dp);
  scratch = y + 2 * n * dp;
  float* p_gate = scratch;
  if (mixer.latent) {
    if (mixer.window) scratch += pad_row(n);
    mix_latents(mixer, sequence, head, v, mixer.window ? p_gate : nullptr, y, scratch);
  }
  if (mixer.window) mix_window(mixer, sequence, head, v, p_gate, y, scratch);
  store_head(mixer, sequence, head, y);
}

// p = softmax of the queries of a head, with the logit of the local component when p_gate is given.
void Forward::head_mixture(const MixerPlan& mixer, const Sequence& sequence, size_t head, float* p,
                           float* p_gate) const {
  const float* rows = wide_.data() + sequence.row * mixer.row;
  const float* q = rows + mixer.q + head * mixer.lh;
  for (size_t t = 0; t < sequence.count; ++t) {
    const float* gate = p_gate != nullptr ? rows + t * mixer.row + mixer.gate + head : nullptr;
    kernels_.mixture(q + t * mixer.row, gate, mixer.score_scale, mixer.lh,
                     p + t * pad_row(mixer.lh), p_gate != nullptr ? p_gate + t : nullptr);
  }
}

void Forward::mix_latents(const MixerPlan& mixer, const Sequence& sequence, size_t head, Rows v,
                          float* p_gate, float* y, float* scratch) {
  const size_t n = sequence.count, dp = mixer.dh_pad, lh = mixer.lh;
  float* k = wide_.data() + sequence.row * mixer.row + mixer.k + head * lh;
  effective_keys(mixer.score_scale, mixer.key_eps, n, mixer.row, lh, k);
  float* p = scratch;
  scratch += n * pad_row(lh);
  head_mixture(mixer, sequence, head, p, p_gate);

  // VAPOR: values enter turned back by their position, the result is turned on by the reader's.
  if (mixer.vapor) {
    const RotationTable& table = rotations_[mixer.vapor.table];
    for (size_t t = 0; t < n; ++t) {
      std::memcpy(scratch + t * dp, v.data + t * v.stride, dp * sizeof(float));
      kernels_.rotate(scratch + t * dp, table.cosine(sequence.row + t),
                      table.sine(sequence.row + t, -mixer.vapor.sign), table.half(),
                      mixer.vapor.interleaved);
    }
    v = {scratch, dp};
    scratch += n * dp;
  }

  LatentArgs a;
  set_latents(mixer, sequence.state, sequence.position, head, &a);
  a.n = n;
  a.p = p, a.p_stride = pad_row(lh);
  a.k = k, a.k_stride = mixer.row;
  a.v = v.data, a.v_stride = v.stride;
  a.y = y, a.y_stride = dp;
  a.scratch = scratch;
  kernels_.latent(a);

  if (!mixer.vapor) return;
  const RotationTable& table = rotations_[mixer.vapor.table];
  for (size_t t = 0; t < n; ++t) {
    kernels_.rotate(y + t * dp, table.cosine(sequence.row + t),
                    table.sine(sequence.row + t, mixer.vapor.sign), table.half(),
                    mixer.vapor.interleaved);
  }
}

// Window attention; alone it is y, in Macchiato y += p(local) * it.
void Forward::mix_window(const MixerPlan& mixer, const Sequence& sequence, size_t head, Rows v,
                         const float* p_gate, float* y, float* scratch) {
  const size_t n = sequence.count, dh = mixer.dh, dp = mixer.dh_pad;
  float* rows = wide_.data() + sequence.row * mixer.row;
  float* q = rows + mixer.local_q + head * dh;
  float* k = rows + mixer.local_k + head * dh;
  if (mixer.rope) {
    const RotationTable& table = rotations_[mixer.rope.table];
    for (size_t t = 0; t < n; ++t) {
      const float* cosine = table.cosine(sequence.row + t);
      const float* sine = table.sine(sequence.row + t, mixer.rope.sign);
      kernels_.rotate(q + t * mixer.row, cosine, sine, table.half(), mixer.rope.interleaved);
      kernels_.rotate(k + t * mixer.row, cosine, sine, table.half(), mixer.rope.interleaved);
    }
  }
  float* local = y;
  if (mixer.latent) {
    local = scratch;
    scratch += n * dp;
  }
  WindowArgs w;
  w.n = n, w.dh = dh, w.dh_pad = dp;
  w.position = sequence.position;
  w.q = q, w.q_stride = mixer.row;
  w.k = k, w.k_stride = mixer.row;
  w.v = v.data, w.v_stride = v.stride;
  if (mixer.growing) {
    w.capacity = sequence.cache->capacity();
    w.ring_k = sequence.cache->keys(mixer) + head * dh * w.capacity;
    w.ring_v = sequence.cache->values(mixer) + head * w.capacity * dp;
  } else {
    w.capacity = mixer.capacity;
    w.ring_k = sequence.state + mixer.state.keys + head * dh * pad_row(w.capacity);
    w.ring_v = sequence.state + mixer.state.values + head * w.capacity * dp;
  }
  w.scale = mixer.local_scale, w.softcap = mixer.softcap;
  w.y = local, w.y_stride = dp;
  w.scratch = scratch;
  kernels_.window(w);
  if (!mixer.latent) return;
  for (size_t t = 0; t < n; ++t) kernels_.add_scaled(local + t * dp, p_gate[t], dp, y + t * dp);
}

// Brings a head's latents up to date with gathered keys and values.
void Forward::gather_head(const MixerPlan& mixer, const Sequence& sequence, size_t head,
                          float* scratch) {
  float* k = wide_.data() + sequence.row * mixer.row + mixer.k + head * mixer.lh;
  effective_keys(mixer.score_scale, mixer.key_eps, sequence.count, mixer.row, mixer.lh, k);
  const Rows v = head_values(mixer, sequence, head, scratch);
  LatentArgs a;
  set_latents(mixer, sequence.state, sequence.position, head, &a);
  a.n = sequence.count;
  a.k = k, a.k_stride = mixer.row;
  a.v = v.data, a.v_stride = v.stride;
  a.scratch = scratch + sequence.count * mixer.dh_pad;
  kernels_.latent_gather(a);
}

// Reads what was gathered: of the whole sequence, or of the memory.
void Forward::read_head(const MixerPlan& mixer, const Sequence& sequence, size_t head,
                        float* scratch) {
  const size_t n = sequence.count, lp = pad_row(mixer.lh);
  float* y = scratch;
  float* p = y + n * mixer.dh_pad;
  head_mixture(mixer, sequence, head, p, nullptr);
  LatentArgs a;
  const bool memory = mixer.reach == Reach::kMemory;
  set_latents(mixer, sequence.state, memory ? sequence.memory : sequence.whole, head, &a);
  a.n = n;
  a.p = p, a.p_stride = lp;
  a.y = y, a.y_stride = mixer.dh_pad;
  a.scratch = p + n * lp;
  kernels_.latent_read(a);
  store_head(mixer, sequence, head, y);
}

Status Forward::gather(const MixerPlan& mixer, const Sequence& sequence, float* x) {
  if (mixer.rank > 0) MOKA_RETURN_IF_ERROR(unit_rows(sequence, x));
  MOKA_RETURN_IF_ERROR(
      dense_->run(mixer.gathered, sequence.count, x, wide_.data() + sequence.row * mixer.row));
  const Span<const Sequence> one(&sequence, 1);
  for_heads(mixer, one, mixer.rank > 0 ? &Forward::gather_low_rank : &Forward::gather_head);
  archive_latents(mixer, sequence.state, sequence.position, sequence.position + sequence.count);
  return Status();
}

void Forward::mix_heads(const MixerPlan& mixer, Span<const Sequence> sequences) {
  if (mixer.reach != Reach::kPast) {
    for_heads(mixer, sequences, mixer.rank > 0 ? &Forward::read_low_rank : &Forward::read_head);
    return;
  }
  for_heads(mixer, sequences, &Forward::mix_head);
  for (const Sequence& sequence : sequences) {
    archive_latents(mixer, sequence.state, sequence.position, sequence.position + sequence.count);
  }
}

}  // namespace moka
