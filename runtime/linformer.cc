// Linformer (spec: baselines): keys and values are projected along time to `rank` rows per head, and
// queries attend to those. Bidirectional, bounded in length by its projections. A part of Forward.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "runtime/forward.h"

namespace moka {

// y, then either of: E transposed and a head's values; K^ transposed and the weights of the rows.
size_t Forward::linformer_scratch(const MixerPlan& mixer, size_t rows) {
  if (mixer.rank == 0) return 0;
  const size_t low = pad_row(mixer.rank);
  return rows * mixer.dh_pad + mixer.rank * pad_row(rows) + mixer.dh * low + 2 * rows * low;
}

// K^ += E^T K and V^ += F^T V for the tokens of the sequence; padding never comes here.
void Forward::gather_low_rank(const MixerPlan& mixer, const Sequence& sequence,
                              const Heads& heads) {
  const ProfilePart profiled(profiler_, "mixer.gather", block_, sequence.count, heads.thread);
  for (size_t head = heads.first; head < heads.first + heads.count; ++head) {
    gather_low_rank_head(mixer, sequence, head, heads.scratch);
  }
}

void Forward::gather_low_rank_head(const MixerPlan& mixer, const Sequence& sequence, size_t head,
                                   float* scratch) {
  const size_t n = sequence.count, np = pad_row(n), dh = mixer.dh, dp = mixer.dh_pad;
  const size_t first = static_cast<size_t>(sequence.position + sequence.shift);
  float* e = scratch;
  float* padded = e + mixer.rank * np;
  const float* rows = wide_.data() + sequence.row * mixer.row + head * dh;
  const struct {
    const float* low_rank;
    size_t column, state;
  } parts[] = {{mixer.low_rank_k, mixer.k, mixer.state.low_rank_k},
               {mixer.low_rank_v, mixer.v, mixer.state.low_rank_v}};
  for (const auto& part : parts) {
    for (size_t t = 0; t < n; ++t) {
      const float* row = part.low_rank + ((first + t) * mixer.heads + head) * mixer.rank;
      for (size_t r = 0; r < mixer.rank; ++r) e[r * np + t] = row[r];
      std::memcpy(padded + t * dp, rows + t * mixer.row + part.column, dh * sizeof(float));
      std::fill(padded + t * dp + dh, padded + (t + 1) * dp, 0.0f);
    }
    GemmArgs g;
    g.m = mixer.rank, g.n = dp, g.k = n;
    g.a = e, g.lda = np;
    g.b = padded, g.ldb = dp;
    g.c = sequence.state + part.state + head * mixer.rank * dp, g.ldc = dp;
    g.accumulate = true;
    kernels_.gemm(g);
  }
}

// y = softmax(Q K^^T / sqrt(Dh)) V^
void Forward::read_low_rank(const MixerPlan& mixer, const Sequence& sequence, const Heads& heads) {
  const ProfilePart profiled(profiler_, "mixer.read", block_, sequence.count, heads.thread);
  for (size_t head = heads.first; head < heads.first + heads.count; ++head) {
    read_low_rank_head(mixer, sequence, head, heads.scratch);
  }
}

void Forward::read_low_rank_head(const MixerPlan& mixer, const Sequence& sequence, size_t head,
                                 float* scratch) {
  const size_t n = sequence.count, dh = mixer.dh, dp = mixer.dh_pad, low = pad_row(mixer.rank);
  const Heads one = {head, 1, 0, scratch};
  const HeadRows out = head_outputs(mixer, sequence, one, scratch);
  float* keys = scratch + n * dp;
  float* scores = keys + dh * low;
  float* weights = scores + n * low;
  const float* k = sequence.state + mixer.state.low_rank_k + head * mixer.rank * dp;
  for (size_t d = 0; d < dh; ++d) {
    for (size_t r = 0; r < low; ++r) keys[d * low + r] = r < mixer.rank ? k[r * dp + d] : 0.0f;
  }
  GemmArgs s;
  s.m = n, s.n = low, s.k = dh;
  s.a = wide_.data() + sequence.row * mixer.row + mixer.q + head * dh, s.lda = mixer.row;
  s.b = keys, s.ldb = low;
  s.c = scores, s.ldc = low;
  kernels_.gemm(s);
  MixtureArgs m;
  m.rows = n, m.n = mixer.rank;
  m.q = scores, m.q_stride = low;
  m.scale = mixer.local_scale;
  m.p = weights, m.p_stride = low;
  kernels_.mixtures(m);
  GemmArgs g;
  g.m = n, g.n = dp, g.k = mixer.rank;
  g.a = weights, g.lda = low;
  g.b = sequence.state + mixer.state.low_rank_v + head * mixer.rank * dp, g.ldb = dp;
  g.c = out.data, g.ldc = out.stride;
  kernels_.gemm(g);
  store_heads(mixer, sequence, one, out);
}

// x / |x| row by row, without an epsilon: a row of zeros has no direction, and the training code made
// NaN of it.
Status Forward::unit_rows(const Sequence& sequence, float* x) const {
  for (size_t t = 0; t < sequence.count; ++t) {
    float* row = x + t * plan_.width;
    double square = 0.0;
    for (size_t i = 0; i < plan_.width; ++i) square += static_cast<double>(row[i]) * row[i];
    if (!(square > 0.0)) {
      return Status(StatusCode::kOutOfRange,
                    "the input of a linformer layer is zero at position " +
                        std::to_string(sequence.position + sequence.shift + t) +
                        ": it is divided by its length, so the output is not defined");
    }
    const float factor = static_cast<float>(1.0 / std::sqrt(square));
    for (size_t i = 0; i < plan_.width; ++i) row[i] *= factor;
  }
  return Status();
}

}  // namespace moka
