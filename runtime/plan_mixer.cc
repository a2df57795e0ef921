// The plan of a mixer: its fused projections, its stretch of the session state, its flags.
#include "runtime/plan_mixer.h"

#include <cmath>
#include <variant>

#include "runtime/kernels/kernels.h"

namespace moka {
namespace {

RotationUse plan_rotation(Plan* plan, const std::optional<Rotation>& rotation, size_t dh) {
  RotationUse use;
  if (!rotation.has_value() || dh < 2) return use;
  use.interleaved = rotation->style == RotationStyle::kInterleaved;
  use.sign = rotation->sign;
  for (use.table = 0; use.table < plan->rotations.size(); ++use.table) {
    const RotationPlan& known = plan->rotations[use.table];
    if (known.theta == rotation->theta && known.half == dh / 2) return use;
  }
  plan->rotations.push_back({rotation->theta, dh / 2});
  return use;
}

FrontPlan plan_front(const ModelSpec& spec, const Front& front) {
  FrontPlan plan;
  plan.kind = front.kind;
  plan.conv = front.kind == FrontKind::kConv || front.kind == FrontKind::kConvRgLru;
  plan.rglru = front.kind == FrontKind::kRgLru || front.kind == FrontKind::kConvRgLru;
  if (plan.conv) {
    plan.taps = spec.tensor(front.conv_weight)->rows();
    plan.conv_weight = floats(spec, front.conv_weight);
    plan.conv_bias = floats(spec, front.conv_bias);
  }
  if (plan.rglru) {
    plan.blocks = front.blocks;
    plan.block_width = spec.width / front.blocks;
    plan.input_gate_weight = floats(spec, front.input_gate_weight);
    plan.input_gate_bias = floats(spec, front.input_gate_bias);
    plan.a_gate_weight = floats(spec, front.a_gate_weight);
    plan.a_gate_bias = floats(spec, front.a_gate_bias);
    const float* a = floats(spec, front.a_param);
    plan.decay.resize(spec.width);
    for (size_t i = 0; i < spec.width; ++i) {
      const double z = static_cast<double>(a[i]);
      const double softplus = (z > 0.0 ? z : 0.0) + std::log1p(std::exp(-std::fabs(z)));
      plan.decay[i] = static_cast<float>(static_cast<double>(front.c) * softplus);
    }
  }
  return plan;
}

// Gives out stretches of the session state, each padded to whole 64-byte rows.
class StateAllocator {
 public:
  explicit StateAllocator(size_t* used) : used_(used) {}
  size_t take(size_t floats) {
    const size_t at = *used_;
    *used_ += pad_row(floats);
    return at;
  }

 private:
  size_t* used_;
};

// Where a part of the fused projection gets its input: each source has a product of its own.
enum class From { kFront, kInput, kGathered };

struct Part {
  const Linear* linear;
  size_t width;
  size_t* column;
  From from;
};

// Orders the parts by source, so that each source fills one stretch of the row. Rows are whole cache
// lines, and gates, which are not, come last.
void plan_projection(const ModelSpec& spec, PackedWeights& weights, const std::vector<Part>& parts,
                     MixerPlan* plan) {
  plan->row = 0;
  for (const Part& part : parts) plan->row += part.width;
  plan->row = pad_row(plan->row);
  size_t column = 0;
  const std::pair<From, DenseGroup*> sources[] = {{From::kInput, &plan->from_input},
                                                  {From::kFront, &plan->from_front},
                                                  {From::kGathered, &plan->gathered}};
  for (const auto& [from, group] : sources) {
    const size_t first = column;
    std::vector<Linear> linears;
    for (const Part& part : parts) {
      if (part.from != from) continue;
      *part.column = column;
      column += part.width;
      linears.push_back(*part.linear);
    }
    if (!linears.empty()) *group = weights.add(spec, linears, spec.width, first, plan->row);
  }
}

// 0 stands for 1/sqrt(Dh).
float score_scale(float scale, size_t dh) {
  return scale != 0.0f ? scale : static_cast<float>(1.0 / std::sqrt(static_cast<double>(dh)));
}

bool is_float32(const ModelSpec& spec, const Linear& linear) {
  return spec.tensor(linear.weight)->dtype == DType::kF32;
}

void plan_window(Plan* plan, const Window& window, MixerPlan* mixer, StateAllocator* state) {
  mixer->window = true;
  mixer->capacity = window.size;
  mixer->local_scale = score_scale(window.scale, mixer->dh);
  mixer->softcap = window.softcap;
  mixer->rope = plan_rotation(plan, window.rope, mixer->dh);
  mixer->state.keys =
      state->take(window_floats(*mixer, mixer->heads * mixer->dh * pad_row(mixer->capacity)));
  mixer->state.values =
      state->take(window_floats(*mixer, mixer->heads * mixer->capacity * mixer->dh_pad));
}

template <class M>
void plan_latents(const ModelSpec& spec, Plan* plan, const M& from, MixerPlan* mixer,
                  StateAllocator* state) {
  mixer->latent = true;
  mixer->lh = from.latents / from.heads;
  mixer->score_scale = from.score_scale;
  mixer->key_eps = from.key_eps;
  mixer->vapor = plan_rotation(plan, from.vapor, mixer->dh);
  mixer->front = plan_front(spec, from.front);
  mixer->state.maximum = state->take(from.latents);
  mixer->state.norm = state->take(from.latents);
  mixer->state.sum = state->take(from.latents * mixer->dh_pad);
  mixer->state.archive_maximum = state->take(from.latents);
  mixer->state.archive_norm = state->take(from.latents);
  mixer->state.archive_carry = state->take(from.latents);
  mixer->state.archive_mean = state->take(from.latents * mixer->dh_pad);
  if (mixer->front.conv) mixer->state.conv = state->take((mixer->front.taps - 1) * spec.width);
  if (mixer->front.rglru) mixer->state.hidden = state->take(spec.width);
}

void set_heads(const ModelSpec& spec, size_t heads, const char* name, MixerPlan* mixer) {
  mixer->name = name;
  mixer->heads = heads;
  mixer->dh = spec.width / heads;
  mixer->dh_pad = pad_row(mixer->dh);
}

const Linear* plan_latte(const ModelSpec& spec, const LatteMixer& m, PackedWeights& weights,
                         Plan* plan, StateAllocator* state, MixerPlan* out) {
  set_heads(spec, m.heads, "latte", out);
  plan_latents(spec, plan, m, out, state);
  if (m.source == Source::kMemory || !m.causal) {
    out->reach = m.source == Source::kMemory ? Reach::kMemory : Reach::kAll;
    plan_projection(spec, weights,
                    {{&m.q, m.latents, &out->q, From::kInput},
                     {&m.k, m.latents, &out->k, From::kGathered},
                     {&m.v, spec.width, &out->v, From::kGathered}},
                    out);
    return &m.o;
  }
  const bool front = m.front.kind != FrontKind::kNone;
  const From scores = front ? From::kFront : From::kInput;
  plan_projection(
      spec, weights,
      {{&m.q, m.latents, &out->q, scores},
       {&m.k, m.latents, &out->k, scores},
       {&m.v, spec.width, &out->v, front && m.front.feeds_value ? From::kFront : From::kInput}},
      out);
  return &m.o;
}

const Linear* plan_macchiato(const ModelSpec& spec, const MacchiatoMixer& m, PackedWeights& weights,
                             Plan* plan, StateAllocator* state, MixerPlan* out) {
  set_heads(spec, m.heads, "macchiato", out);
  plan_latents(spec, plan, m, out, state);
  out->half_window = !is_float32(spec, m.local_k) && !is_float32(spec, m.v);
  plan_window(plan, m.window, out, state);
  const bool front = m.front.kind != FrontKind::kNone;
  const From scores = front ? From::kFront : From::kInput;
  const From value = front && m.front.feeds_value ? From::kFront : From::kInput;
  const From local = front && m.front.feeds_local ? From::kFront : From::kInput;
  plan_projection(spec, weights,
                  {{&m.q, m.latents, &out->q, scores},
                   {&m.k, m.latents, &out->k, scores},
                   {&m.v, spec.width, &out->v, value},
                   {&m.local_q, spec.width, &out->local_q, local},
                   {&m.local_k, spec.width, &out->local_k, local},
                   {&m.gate, m.heads, &out->gate, scores}},
                  out);
  return &m.o;
}

// Softmax attention over everything is a window that never forgets.
const Linear* plan_softmax(const ModelSpec& spec, const SoftmaxMixer& m, PackedWeights& weights,
                           Plan* plan, MixerPlan* out) {
  set_heads(spec, m.heads, "softmax", out);
  out->window = out->growing = true;
  out->half_window = !is_float32(spec, m.k) && !is_float32(spec, m.v);
  out->local_scale = score_scale(m.scale, out->dh);
  out->rope = plan_rotation(plan, m.rope, out->dh);
  out->state.cache = plan->cache_floats;
  plan->cache_floats += window_floats(*out, out->heads * (out->dh + out->dh_pad));
  plan_projection(spec, weights,
                  {{&m.v, spec.width, &out->v, From::kInput},
                   {&m.q, spec.width, &out->local_q, From::kInput},
                   {&m.k, spec.width, &out->local_k, From::kInput}},
                  out);
  return &m.o;
}

const Linear* plan_linformer(const ModelSpec& spec, const LinformerMixer& m, PackedWeights& weights,
                             StateAllocator* state, MixerPlan* out) {
  set_heads(spec, m.heads, "linformer", out);
  out->reach = Reach::kAll;
  out->rank = m.rank;
  out->max_length = m.max_length;
  out->local_scale = score_scale(0.0f, out->dh);
  out->low_rank_k = static_cast<const float*>(spec.tensor(m.low_rank_k)->data);
  out->low_rank_v = static_cast<const float*>(spec.tensor(m.low_rank_v)->data);
  out->state.low_rank_k = state->take(out->heads * out->rank * out->dh_pad);
  out->state.low_rank_v = state->take(out->heads * out->rank * out->dh_pad);
  plan_projection(spec, weights,
                  {{&m.q, spec.width, &out->q, From::kInput},
                   {&m.k, spec.width, &out->k, From::kGathered},
                   {&m.v, spec.width, &out->v, From::kGathered}},
                  out);
  return &m.o;
}

const Linear* plan_window_mixer(const ModelSpec& spec, const WindowMixer& m, PackedWeights& weights,
                                Plan* plan, StateAllocator* state, MixerPlan* out) {
  set_heads(spec, m.heads, "window", out);
  out->half_window = !is_float32(spec, m.local_k) && !is_float32(spec, m.v);
  plan_window(plan, m.window, out, state);
  plan_projection(spec, weights,
                  {{&m.v, spec.width, &out->v, From::kInput},
                   {&m.local_q, spec.width, &out->local_q, From::kInput},
                   {&m.local_k, spec.width, &out->local_k, From::kInput}},
                  out);
  return &m.o;
}

}  // namespace

MixerPlan plan_mixer(const ModelSpec& spec, const Mixer& mixer, PackedWeights& weights,
                     Plan* plan) {
  MixerPlan out;
  StateAllocator state(&plan->state_floats);
  const Linear* projection = nullptr;
  if (const auto* m = std::get_if<LatteMixer>(&mixer)) {
    projection = plan_latte(spec, *m, weights, plan, &state, &out);
  } else if (const auto* w = std::get_if<WindowMixer>(&mixer)) {
    projection = plan_window_mixer(spec, *w, weights, plan, &state, &out);
  } else if (const auto* c = std::get_if<MacchiatoMixer>(&mixer)) {
    projection = plan_macchiato(spec, *c, weights, plan, &state, &out);
  } else if (const auto* s = std::get_if<SoftmaxMixer>(&mixer)) {
    projection = plan_softmax(spec, *s, weights, plan, &out);
  } else if (const auto* l = std::get_if<LinformerMixer>(&mixer)) {
    projection = plan_linformer(spec, *l, weights, &state, &out);
  }
  out.out = weights.add(spec, {*projection}, spec.width, 0, spec.width);
  return out;
}

}  // namespace moka
