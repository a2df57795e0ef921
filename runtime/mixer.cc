// The mixing of one head: latent attention over all that was read, window attention over the last
// tokens, and the gate that blends them (Macchiato). The second half of Forward.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/forward.h"

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
};

void Forward::run_head(void* context, size_t thread, size_t index) {
  const HeadTask& task = *static_cast<HeadTask*>(context);
  Forward& forward = *task.forward;
  const size_t heads = task.mixer->heads;
  forward.mix_head(*task.mixer, task.sequences[index / heads], index % heads,
                   forward.scratch_.data() + thread * forward.scratch_floats_);
}

void Forward::mix_heads(const MixerPlan& mixer, Span<const Sequence> sequences) {
  HeadTask task{this, &mixer, sequences};
  const size_t count = mixer.heads * sequences.size();
  const size_t touched = mixer.lh * mixer.dh_pad + 2 * mixer.capacity * mixer.dh;
  size_t rows = 0;
  for (const Sequence& sequence : sequences) rows += sequence.count;
  if (pool_->threads() == 1 || touched * mixer.heads * rows < kParallelFloats) {
    for (size_t i = 0; i < count; ++i) run_head(&task, 0, i);
  } else {
    pool_->run(count, &Forward::run_head, &task);
  }
}

size_t Forward::head_scratch(const MixerPlan& mixer, size_t rows) {
  const size_t values = 3 * rows * mixer.dh_pad;  // padded v, rotated v, local y
  const size_t latent = mixer.latent ? rows * pad_row(mixer.lh) + pad_row(rows) : 0;
  const size_t kernel =
      std::max(mixer.latent ? latent_scratch(rows, mixer.lh) : 0,
               mixer.window ? std::max(window_scratch(rows, mixer.capacity, mixer.dh, mixer.dh_pad),
                                       window_scratch(1, mixer.capacity, mixer.dh, mixer.dh_pad))
                            : 0);
  return values + rows * mixer.dh_pad + latent + kernel;
}

// Reads its columns of the fused projection in wide_, writes its columns of mix_.
void Forward::mix_head(const MixerPlan& mixer, const Sequence& sequence, size_t head,
                       float* scratch) {
  const size_t n = sequence.count, dh = mixer.dh, dp = mixer.dh_pad, lh = mixer.lh;
  float* rows = wide_.data() + sequence.row * mixer.row;
  float* y = scratch;
  scratch += n * dp;

  // Values, padded to whole vectors. A head width that is whole already is used where it stands.
  const float* v = rows + mixer.v + head * dh;
  size_t v_stride = mixer.row;
  if (dp != dh) {
    for (size_t t = 0; t < n; ++t) {
      std::memcpy(scratch + t * dp, v + t * mixer.row, dh * sizeof(float));
      std::fill(scratch + t * dp + dh, scratch + (t + 1) * dp, 0.0f);
    }
    v = scratch;
    v_stride = dp;
    scratch += n * dp;
  }

  float* p_gate = nullptr;
  if (mixer.latent) {
    float* q = rows + mixer.q + head * lh;
    float* k = rows + mixer.k + head * lh;
    effective_keys(mixer.score_scale, mixer.key_eps, n, mixer.row, lh, k);
    const size_t lp = pad_row(lh);
    float* p = scratch;
    scratch += n * lp;
    if (mixer.window) {
      p_gate = scratch;
      scratch += pad_row(n);
    }
    for (size_t t = 0; t < n; ++t) {
      const float* gate = mixer.window ? rows + t * mixer.row + mixer.gate + head : nullptr;
      kernels_.mixture(q + t * mixer.row, gate, mixer.score_scale, lh, p + t * lp,
                       mixer.window ? p_gate + t : nullptr);
    }

    // VAPOR: values enter turned back by their position, the result is turned on by the reader's.
    const float* values = v;
    size_t values_stride = v_stride;
    if (mixer.vapor) {
      const RotationTable& table = rotations_[mixer.vapor.table];
      for (size_t t = 0; t < n; ++t) {
        std::memcpy(scratch + t * dp, v + t * v_stride, dp * sizeof(float));
        kernels_.rotate(scratch + t * dp, table.cosine(sequence.row + t),
                        table.sine(sequence.row + t, -mixer.vapor.sign), table.half(),
                        mixer.vapor.interleaved);
      }
      values = scratch;
      values_stride = dp;
      scratch += n * dp;
    }

    LatentArgs a;
    a.n = n, a.lh = lh, a.dh_pad = dp;
    a.p = p, a.p_stride = lp;
    a.k = k, a.k_stride = mixer.row;
    a.v = values, a.v_stride = values_stride;
    a.m = sequence.state + mixer.state.maximum + head * lh;
    a.z = sequence.state + mixer.state.norm + head * lh;
    a.s = sequence.state + mixer.state.sum + head * lh * dp;
    a.y = y, a.y_stride = dp;
    a.scratch = scratch;
    kernels_.latent(a);

    if (mixer.vapor) {
      const RotationTable& table = rotations_[mixer.vapor.table];
      for (size_t t = 0; t < n; ++t) {
        kernels_.rotate(y + t * dp, table.cosine(sequence.row + t),
                        table.sine(sequence.row + t, mixer.vapor.sign), table.half(),
                        mixer.vapor.interleaved);
      }
    }
  }
  if (mixer.window) mix_window(mixer, sequence, head, v, v_stride, p_gate, y, scratch);

  for (size_t t = 0; t < n; ++t) {
    std::memcpy(mix_.data() + (sequence.row + t) * plan_.width + head * dh, y + t * dp,
                dh * sizeof(float));
  }
}

// Window attention; alone it is y, in Macchiato y += p(local) * it.
void Forward::mix_window(const MixerPlan& mixer, const Sequence& sequence, size_t head,
                         const float* v, size_t v_stride, const float* p_gate, float* y,
                         float* scratch) {
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
  w.n = n, w.dh = dh, w.dh_pad = dp, w.capacity = mixer.capacity;
  w.position = sequence.position;
  w.q = q, w.q_stride = mixer.row;
  w.k = k, w.k_stride = mixer.row;
  w.v = v, w.v_stride = v_stride;
  w.ring_k = sequence.state + mixer.state.keys + head * dh * pad_row(mixer.capacity);
  w.ring_v = sequence.state + mixer.state.values + head * mixer.capacity * dp;
  w.scale = mixer.local_scale, w.softcap = mixer.softcap;
  w.y = local, w.y_stride = dp;
  w.scratch = scratch;
  kernels_.window(w);
  if (!mixer.latent) return;
  for (size_t t = 0; t < n; ++t) kernels_.add_scaled(local + t * dp, p_gate[t], dp, y + t * dp);
}

}  // namespace moka
