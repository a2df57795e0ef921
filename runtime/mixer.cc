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
// Pieces that each thread's share of single steps is cut into, so that a late thread holds up little.
constexpr size_t kTasksPerThread = 2;

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

// Where a sequence keeps the window of a mixer: floats or halves, so bytes count.
struct WindowRing {
  char *keys, *values;
  size_t capacity;
  size_t key_bytes, value_bytes;  // of a head
  char* keys_of(size_t head) const { return keys + head * key_bytes; }
  char* values_of(size_t head) const { return values + head * value_bytes; }
};

WindowRing window_ring(const MixerPlan& mixer, const Sequence& sequence) {
  void* keys = sequence.state + mixer.state.keys;
  void* values = sequence.state + mixer.state.values;
  size_t capacity = mixer.capacity;
  if (mixer.growing) {
    capacity = sequence.cache->capacity();
    keys = sequence.cache->keys(mixer), values = sequence.cache->values(mixer);
  }
  const size_t element = mixer.half_window ? sizeof(uint16_t) : sizeof(float);
  return {static_cast<char*>(keys), static_cast<char*>(values), capacity,
          mixer.dh * pad_row(capacity) * element, capacity * mixer.dh_pad * element};
}

}  // namespace

// Heads of one sequence that one call of a HeadWork does.
struct Forward::HeadTask {
  Forward* forward;
  const MixerPlan* mixer;
  Span<const Sequence> sequences;
  HeadWork work;
  size_t group;   // heads of a call
  size_t groups;  // calls per sequence
};

void Forward::run_heads(void* context, size_t thread, size_t index) {
  const HeadTask& task = *static_cast<HeadTask*>(context);
  Forward& forward = *task.forward;
  const MixerPlan& mixer = *task.mixer;
  const size_t first = index % task.groups * task.group;
  const Heads heads = {first, std::min(task.group, mixer.heads - first), thread,
                       forward.scratch_.data() + thread * forward.scratch_floats_};
  const Sequence& sequence = task.sequences[index / task.groups];
  if (!sequence.stepwise) return (forward.*task.work)(mixer, sequence, heads);
  for (size_t t = 0; t < sequence.count; ++t) {
    (forward.*task.work)(mixer, step_of(sequence, t), heads);
  }
}

// Heads are independent of each other, so any cut gives the same bits. One thread takes all heads of
// a sequence at once; several take them one by one, or single steps in a few groups, which go
// through the steps of a stepwise sequence side by side.
void Forward::for_heads(const MixerPlan& mixer, Span<const Sequence> sequences, HeadWork work) {
  const size_t threads = static_cast<size_t>(pool_->threads());
  size_t rows = 0, capacity = mixer.capacity;
  bool steps = true;
  for (const Sequence& sequence : sequences) {
    rows += sequence.count;
    steps = steps && (sequence.stepwise || sequence.count == 1);
    if (mixer.growing) capacity = std::max(capacity, static_cast<size_t>(sequence.position));
  }
  const size_t touched = (mixer.lh + mixer.rank) * mixer.dh_pad + 2 * capacity * mixer.dh;
  HeadTask task{this, &mixer, sequences, work, mixer.heads, 1};
  if (threads == 1 || touched * mixer.heads * rows < kParallelFloats) {
    for (size_t i = 0; i < sequences.size(); ++i) run_heads(&task, 0, i);
    return;
  }
  const size_t share = mixer.heads * sequences.size() / (threads * kTasksPerThread);
  task.group = steps ? std::min(std::max(share, size_t{1}), mixer.heads) : 1;
  task.groups = (mixer.heads + task.group - 1) / task.group;
  pool_->run(task.groups * sequences.size(), &Forward::run_heads, &task);
}

size_t Forward::head_scratch(const MixerPlan& mixer, size_t rows, size_t capacity) {
  const size_t lp = pad_row(mixer.lh), dp = mixer.dh_pad;
  const size_t wide = std::max(rows, mixer.heads);  // rows of one head, or one row of all heads
  const size_t values = dp != mixer.dh ? 2 * wide * dp : 0;  // padded v and y
  const size_t gates = mixer.latent && mixer.window ? pad_row(wide) : 0;
  const size_t chunk = std::min(rows, kLatentChunk);
  const size_t latent =
      mixer.latent ? std::max(chunk, mixer.heads) * lp + (mixer.vapor ? chunk * dp : 0) +
                         std::max(latent_scratch(chunk, mixer.lh), latent_scratch(1, mixer.lh))
                   : 0;
  const size_t window =
      mixer.window ? std::max(window_scratch(rows, capacity, mixer.dh, dp, mixer.half_window),
                              window_scratch(1, capacity, mixer.dh, dp))
                   : 0;
  return values + gates + std::max({latent, window, linformer_scratch(mixer, rows)});
}

// Values of heads as whole vectors: where they stand when a head's width is whole already, else
// copied to `room` and padded with zeros.
Forward::HeadRows Forward::head_values(const MixerPlan& mixer, const Sequence& sequence,
                                       const Heads& heads, float* room) {
  const size_t n = sequence.count, dh = mixer.dh, dp = mixer.dh_pad;
  float* v = wide_.data() + sequence.row * mixer.row + mixer.v + heads.first * dh;
  if (dp == dh) return {v, mixer.row, dh};
  for (size_t h = 0; h < heads.count; ++h) {
    for (size_t t = 0; t < n; ++t) {
      float* row = room + (h * n + t) * dp;
      std::memcpy(row, v + t * mixer.row + h * dh, dh * sizeof(float));
      std::fill(row + dh, row + dp, 0.0f);
    }
  }
  return {room, dp, n * dp};
}

// Where heads write whole vectors: to mix_ when that is what their width is, else to `room`, and
// store_heads() copies what counts.
Forward::HeadRows Forward::head_outputs(const MixerPlan& mixer, const Sequence& sequence,
                                        const Heads& heads, float* room) {
  const size_t dp = mixer.dh_pad, width = plan_.width;
  if (dp != mixer.dh) return {room, dp, sequence.count * dp};
  return {mix_.data() + sequence.row * width + heads.first * mixer.dh, width, mixer.dh};
}

void Forward::store_heads(const MixerPlan& mixer, const Sequence& sequence, const Heads& heads,
                          const HeadRows& y) {
  if (mixer.dh_pad == mixer.dh) return;
  for (size_t h = 0; h < heads.count; ++h) {
    for (size_t t = 0; t < sequence.count; ++t) {
      std::memcpy(mix_.data() + (sequence.row + t) * plan_.width + (heads.first + h) * mixer.dh,
                  y.row(h, t), mixer.dh * sizeof(float));
    }
  }
}

// Causal. Reads the heads' columns of the fused projection in wide_, writes their columns of mix_.
// Several heads of one step go together, several steps head by head.
void Forward::mix_heads_of(const MixerPlan& mixer, const Sequence& sequence, const Heads& heads) {
  if (sequence.count > 1 && heads.count > 1) {
    for (size_t h = 0; h < heads.count; ++h) {
      mix_heads_of(mixer, sequence, {heads.first + h, 1, heads.thread, heads.scratch});
    }
    return;
  }
  const size_t rows = sequence.count * heads.count;
  float* scratch = heads.scratch;
  const HeadRows v = head_values(mixer, sequence, heads, scratch);
  const HeadRows y = head_outputs(mixer, sequence, heads, scratch + rows * mixer.dh_pad);
  if (mixer.dh_pad != mixer.dh) scratch += 2 * rows * mixer.dh_pad;
  float* p_gate = nullptr;
  if (mixer.latent && mixer.window) {
    p_gate = scratch;
    scratch += pad_row(rows);
  }
  if (mixer.latent) {
    const ProfilePart part(profiler_, "mixer.latent", block_, sequence.count, heads.thread);
    mix_latents(mixer, sequence, heads, v, p_gate, y, scratch);
  }
  if (mixer.window) {
    const ProfilePart part(profiler_, "mixer.window", block_, sequence.count, heads.thread);
    mix_window(mixer, sequence, heads, v, p_gate, y, scratch);
  }
  store_heads(mixer, sequence, heads, y);
}

// p = softmax of the queries of heads for `rows` steps from `first` on, with the logit of the local
// component when p_gate is given. One step of several heads, or several steps of one.
void Forward::head_mixture(const MixerPlan& mixer, const Sequence& sequence, const Heads& heads,
                           size_t first, size_t rows, float* p, float* p_gate) const {
  const float* wide = wide_.data() + (sequence.row + first) * mixer.row;
  const bool step = rows == 1;
  MixtureArgs a;
  a.rows = step ? heads.count : rows, a.n = mixer.lh;
  a.q = wide + mixer.q + heads.first * mixer.lh;
  a.q_stride = step ? mixer.lh : mixer.row;
  if (p_gate != nullptr) {
    a.gate = wide + mixer.gate + heads.first;
    a.gate_stride = step ? 1 : mixer.row;
    a.p_gate = p_gate;
  }
  a.scale = mixer.score_scale;
  a.p = p, a.p_stride = pad_row(mixer.lh);
  kernels_.mixtures(a);
}

// Turns `rows` rows of a head by the angles of their positions, from that of `row` on.
void Forward::rotate_heads(const RotationUse& use, int sign, size_t row, size_t rows,
                           const HeadRows& x) const {
  const RotationTable& table = rotations_[use.table];
  RotateArgs a;
  a.rows = rows;
  a.x = x.data, a.x_stride = x.stride;
  a.cosine = table.cosine(row), a.sine = table.sine(row, sign);
  a.angle_stride = a.half = table.half();
  a.interleaved = use.interleaved;
  kernels_.rotate_rows(a);
}

// Turns one step of several heads.
void Forward::rotate_step(const RotationUse& use, size_t row, size_t heads,
                          const HeadRows& x) const {
  const RotationTable& table = rotations_[use.table];
  RotateArgs a;
  a.rows = heads;
  a.x = x.data, a.x_stride = x.head;
  a.cosine = table.cosine(row), a.sine = table.sine(row, use.sign);
  a.half = table.half();
  a.interleaved = use.interleaved;
  kernels_.rotate_rows(a);
}

// While the latents of steps first ... first + n compute, the rows of the steps after them are asked
// for, at the end those of the next head's first ones; and what the window of this head reads.
void Forward::set_upcoming(const MixerPlan& mixer, const Sequence& sequence, size_t head,
                           size_t first, size_t n, UpcomingRows* next) const {
  const float* rows = wide_.data() + (sequence.row + first) * mixer.row;
  next->rows = n, next->stride = mixer.row;
  if (mixer.window) {
    next->add(rows + mixer.local_q + head * mixer.dh, mixer.dh);
    next->add(rows + mixer.local_k + head * mixer.dh, mixer.dh);
  }
  if (first + n < sequence.count) {
    next->rows = std::min(n, sequence.count - first - n);
    rows += n * mixer.row;
  } else if (head + 1 < mixer.heads) {
    rows -= first * mixer.row;
    ++head;
  } else {
    return;
  }
  next->add(rows + mixer.q + head * mixer.lh, mixer.lh);
  next->add(rows + mixer.k + head * mixer.lh, mixer.lh);
  next->add(rows + mixer.v + head * mixer.dh, mixer.dh);
}

void Forward::mix_latents(const MixerPlan& mixer, const Sequence& sequence, const Heads& heads,
                          const HeadRows& v, float* p_gate, const HeadRows& y, float* scratch) {
  const size_t dp = mixer.dh_pad, lh = mixer.lh, lp = pad_row(lh);
  const size_t most = std::min(sequence.count, kLatentChunk);
  float* p = scratch;
  float* turned = p + std::max(most, heads.count) * lp;
  float* room = turned + (mixer.vapor ? most * dp : 0);
  float* keys = wide_.data() + sequence.row * mixer.row + mixer.k + heads.first * lh;
  for (size_t first = 0; first < sequence.count; first += most) {
    const size_t n = std::min(most, sequence.count - first);
    head_mixture(mixer, sequence, heads, first, n, p, p_gate != nullptr ? p_gate + first : nullptr);
    for (size_t h = 0; h < heads.count; ++h) {
      LatentArgs a;
      set_latents(mixer, sequence.state, sequence.position, heads.first + h, &a);
      a.n = n;
      a.p = p + h * lp, a.p_stride = lp;
      a.k = keys + first * mixer.row + h * lh, a.k_stride = mixer.row;
      effective_keys(mixer.score_scale, mixer.key_eps, n, mixer.row, lh,
                     keys + first * mixer.row + h * lh);
      a.v = v.row(h, first), a.v_stride = v.stride;
      a.y = y.row(h, first), a.y_stride = y.stride;
      a.scratch = room;
      if (h + 1 < heads.count) {
        a.ahead = a.s + lh * dp;
      } else if (mixer.window && !mixer.growing) {
        a.ahead = window_ring(mixer, sequence).keys_of(heads.first);
      }
      if (heads.count == 1) set_upcoming(mixer, sequence, heads.first, first, n, &a.next);
      if (mixer.vapor) {
        // VAPOR: values enter turned back by their position; the reader's turns the result on.
        for (size_t t = 0; t < n; ++t) {
          std::memcpy(turned + t * dp, v.row(h, first + t), dp * sizeof(float));
        }
        rotate_heads(mixer.vapor, -mixer.vapor.sign, sequence.row + first, n, {turned, dp, 0});
        a.v = turned, a.v_stride = dp;
      }
      kernels_.latent(a);
      if (mixer.vapor) {
        rotate_heads(mixer.vapor, mixer.vapor.sign, sequence.row + first, n,
                     {y.row(h, first), y.stride, 0});
      }
    }
  }
  archive_latents(mixer, sequence.state, sequence.position, sequence.position + sequence.count,
                  heads.first, heads.count);
}

// Window attention; alone it is y, in Macchiato y += p(local) * it.
void Forward::mix_window(const MixerPlan& mixer, const Sequence& sequence, const Heads& heads,
                         const HeadRows& v, const float* p_gate, const HeadRows& y,
                         float* scratch) {
  const size_t dh = mixer.dh, dp = mixer.dh_pad;
  float* rows = wide_.data() + sequence.row * mixer.row + heads.first * dh;
  const HeadRows q = {rows + mixer.local_q, mixer.row, dh};
  const HeadRows k = {rows + mixer.local_k, mixer.row, dh};
  const WindowRing ring = window_ring(mixer, sequence);
  WindowArgs w;
  w.n = sequence.count, w.dh = dh, w.dh_pad = dp;
  w.position = sequence.position;
  w.q_stride = w.k_stride = mixer.row;
  w.v_stride = v.stride, w.y_stride = y.stride;
  w.scale = mixer.local_scale, w.softcap = mixer.softcap;
  w.scratch = scratch;
  w.half = mixer.half_window;
  w.capacity = ring.capacity;
  if (mixer.rope) {
    if (sequence.count == 1) {
      rotate_step(mixer.rope, sequence.row, heads.count, q);
      rotate_step(mixer.rope, sequence.row, heads.count, k);
    } else {
      rotate_heads(mixer.rope, mixer.rope.sign, sequence.row, sequence.count, q);
      rotate_heads(mixer.rope, mixer.rope.sign, sequence.row, sequence.count, k);
    }
  }
  for (size_t h = 0; h < heads.count; ++h) {
    w.q = q.row(h, 0), w.k = k.row(h, 0), w.v = v.row(h, 0), w.y = y.row(h, 0);
    w.blend = p_gate != nullptr ? p_gate + h : nullptr;
    w.ring_k = ring.keys_of(heads.first + h);
    w.ring_v = ring.values_of(heads.first + h);
    w.ahead = h + 1 < heads.count ? ring.keys_of(heads.first + h + 1) : nullptr;
    kernels_.window(w);
  }
}

// Brings heads' latents up to date with gathered keys and values.
void Forward::gather_heads(const MixerPlan& mixer, const Sequence& sequence, const Heads& heads) {
  const ProfilePart part(profiler_, "mixer.gather", block_, sequence.count, heads.thread);
  for (size_t h = 0; h < heads.count; ++h) {
    const Heads one = {heads.first + h, 1, heads.thread, heads.scratch};
    float* k = wide_.data() + sequence.row * mixer.row + mixer.k + one.first * mixer.lh;
    effective_keys(mixer.score_scale, mixer.key_eps, sequence.count, mixer.row, mixer.lh, k);
    const HeadRows v = head_values(mixer, sequence, one, one.scratch);
    LatentArgs a;
    set_latents(mixer, sequence.state, sequence.position, one.first, &a);
    a.n = sequence.count;
    a.k = k, a.k_stride = mixer.row;
    a.v = v.data, a.v_stride = v.stride;
    a.scratch = one.scratch + (mixer.dh_pad != mixer.dh ? sequence.count * mixer.dh_pad : 0);
    kernels_.latent_gather(a);
  }
  archive_latents(mixer, sequence.state, sequence.position, sequence.position + sequence.count,
                  heads.first, heads.count);
}

// Reads what was gathered: of the whole sequence, or of the memory.
void Forward::read_heads(const MixerPlan& mixer, const Sequence& sequence, const Heads& heads) {
  const ProfilePart part(profiler_, "mixer.read", block_, sequence.count, heads.thread);
  const size_t n = sequence.count, dp = mixer.dh_pad, lp = pad_row(mixer.lh);
  const uint64_t seen = mixer.reach == Reach::kMemory ? sequence.memory : sequence.whole;
  const size_t most = std::min(n, kLatentChunk);
  for (size_t h = 0; h < heads.count; ++h) {
    const Heads one = {heads.first + h, 1, heads.thread, heads.scratch};
    const HeadRows y = head_outputs(mixer, sequence, one, one.scratch);
    float* p = one.scratch + (dp != mixer.dh ? n * dp : 0);
    LatentArgs a;
    set_latents(mixer, sequence.state, seen, one.first, &a);
    a.p = p, a.p_stride = lp;
    a.y_stride = y.stride;
    a.scratch = p + most * lp;
    for (size_t first = 0; first < n; first += most) {
      a.n = std::min(most, n - first);
      a.y = y.row(0, first);
      head_mixture(mixer, sequence, one, first, a.n, p, nullptr);
      kernels_.latent_read(a);
    }
    store_heads(mixer, sequence, one, y);
  }
}

Status Forward::gather(const MixerPlan& mixer, const Sequence& sequence, float* x) {
  const ProfileScope scope(profiler_, "gather", block_, sequence.count);
  if (mixer.rank > 0) MOKA_RETURN_IF_ERROR(unit_rows(sequence, x));
  MOKA_RETURN_IF_ERROR(
      dense_->run(mixer.gathered, sequence.count, x, wide_.data() + sequence.row * mixer.row));
  const Span<const Sequence> one(&sequence, 1);
  for_heads(mixer, one, mixer.rank > 0 ? &Forward::gather_low_rank : &Forward::gather_heads);
  return Status();
}

void Forward::mix_heads(const MixerPlan& mixer, Span<const Sequence> sequences) {
  if (mixer.reach != Reach::kPast) {
    for_heads(mixer, sequences, mixer.rank > 0 ? &Forward::read_low_rank : &Forward::read_heads);
  } else {
    for_heads(mixer, sequences, &Forward::mix_heads_of);
  }
}

}  // namespace moka
