#include "runtime/plan.h"

#include <cmath>
#include <variant>

#include "runtime/kernels/kernels.h"

namespace moka {
namespace {

const float* floats(const ModelSpec& spec, TensorIndex index) {
  const Tensor* tensor = spec.tensor(index);
  return tensor == nullptr ? nullptr : static_cast<const float*>(tensor->data);
}

NormPlan plan_norm(const ModelSpec& spec, const Norm& norm) {
  NormPlan plan;
  plan.kind = norm.kind;
  plan.scale = floats(spec, norm.scale);
  plan.bias = floats(spec, norm.bias);
  plan.eps = norm.eps;
  plan.offset = norm.unit_offset ? 1.0f : 0.0f;
  return plan;
}

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

// One part of the fused projection.
struct Part {
  const Linear* linear;
  size_t width;
  size_t* column;
  bool from_front;
};

// Puts the parts that read the front's output first, so that each source fills one stretch.
void plan_projection(const ModelSpec& spec, PackedWeights& weights, const std::vector<Part>& parts,
                     MixerPlan* plan) {
  std::vector<Linear> from_front, from_input;
  size_t column = 0;
  for (const bool front : {true, false}) {
    for (const Part& part : parts) {
      if (part.from_front != front) continue;
      *part.column = column;
      column += part.width;
      (front ? from_front : from_input).push_back(*part.linear);
    }
  }
  plan->row = column;
  size_t front_width = 0;
  for (const Part& part : parts) front_width += part.from_front ? part.width : 0;
  if (!from_front.empty()) plan->from_front = weights.add(spec, from_front, spec.width, 0, column);
  if (!from_input.empty()) {
    plan->from_input = weights.add(spec, from_input, spec.width, front_width, column);
  }
}

void plan_window(Plan* plan, const Window& window, MixerPlan* mixer, StateAllocator* state) {
  mixer->window = true;
  mixer->capacity = window.size;
  mixer->local_scale = window.scale != 0.0f
                           ? window.scale
                           : static_cast<float>(1.0 / std::sqrt(static_cast<double>(mixer->dh)));
  mixer->softcap = window.softcap;
  mixer->rope = plan_rotation(plan, window.rope, mixer->dh);
  mixer->state.keys = state->take(mixer->heads * mixer->dh * pad_row(mixer->capacity));
  mixer->state.values = state->take(mixer->heads * mixer->capacity * mixer->dh_pad);
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
  if (mixer->front.conv) mixer->state.conv = state->take((mixer->front.taps - 1) * spec.width);
  if (mixer->front.rglru) mixer->state.hidden = state->take(spec.width);
}

void set_heads(const ModelSpec& spec, size_t heads, const char* name, MixerPlan* mixer) {
  mixer->name = name;
  mixer->heads = heads;
  mixer->dh = spec.width / heads;
  mixer->dh_pad = pad_row(mixer->dh);
}

MixerPlan plan_mixer(const ModelSpec& spec, const Mixer& mixer, PackedWeights& weights,
                     Plan* plan) {
  MixerPlan out;
  StateAllocator state(&plan->state_floats);
  const size_t d = spec.width;
  const Linear* projection = nullptr;
  if (const auto* m = std::get_if<LatteMixer>(&mixer)) {
    set_heads(spec, m->heads, "latte", &out);
    plan_latents(spec, plan, *m, &out, &state);
    const bool front = m->front.kind != FrontKind::kNone;
    plan_projection(spec, weights,
                    {{&m->q, m->latents, &out.q, front},
                     {&m->k, m->latents, &out.k, front},
                     {&m->v, d, &out.v, front && m->front.feeds_value}},
                    &out);
    projection = &m->o;
  } else if (const auto* w = std::get_if<WindowMixer>(&mixer)) {
    set_heads(spec, w->heads, "window", &out);
    plan_window(plan, w->window, &out, &state);
    plan_projection(spec, weights,
                    {{&w->v, d, &out.v, false},
                     {&w->local_q, d, &out.local_q, false},
                     {&w->local_k, d, &out.local_k, false}},
                    &out);
    projection = &w->o;
  } else if (const auto* c = std::get_if<MacchiatoMixer>(&mixer)) {
    set_heads(spec, c->heads, "macchiato", &out);
    plan_latents(spec, plan, *c, &out, &state);
    plan_window(plan, c->window, &out, &state);
    const bool front = c->front.kind != FrontKind::kNone;
    const bool local = front && c->front.feeds_local;
    plan_projection(spec, weights,
                    {{&c->q, c->latents, &out.q, front},
                     {&c->k, c->latents, &out.k, front},
                     {&c->gate, c->heads, &out.gate, front},
                     {&c->v, d, &out.v, front && c->front.feeds_value},
                     {&c->local_q, d, &out.local_q, local},
                     {&c->local_k, d, &out.local_k, local}},
                    &out);
    projection = &c->o;
  }
  out.out = weights.add(spec, {*projection}, d, 0, d);
  return out;
}

FeedForwardPlan plan_feed_forward(const ModelSpec& spec, const FeedForward& feed_forward,
                                  PackedWeights& weights) {
  FeedForwardPlan plan;
  const size_t d = spec.width;
  if (const auto* mlp = std::get_if<MlpFeedForward>(&feed_forward)) {
    plan.kind = FeedForwardKind::kMlp;
    plan.activation = mlp->activation;
    plan.width = spec.tensor(mlp->fc1.weight)->rows();
    plan.in = weights.add(spec, {mlp->fc1}, d, 0, plan.width);
    plan.out = weights.add(spec, {mlp->fc2}, plan.width, 0, d);
  } else if (const auto* glu = std::get_if<GluFeedForward>(&feed_forward)) {
    plan.kind = FeedForwardKind::kGlu;
    plan.width = d;
    plan.in = weights.add(spec, {glu->value, glu->gate}, d, 0, 2 * d);
  } else if (const auto* gated = std::get_if<GatedFeedForward>(&feed_forward)) {
    plan.kind = FeedForwardKind::kGated;
    plan.activation = gated->activation;
    plan.width = spec.tensor(gated->gate.weight)->rows();
    plan.in = weights.add(spec, {gated->gate, gated->up}, d, 0, 2 * plan.width);
    plan.out = weights.add(spec, {gated->down}, plan.width, 0, d);
  }
  return plan;
}

}  // namespace

Plan make_plan(const ModelSpec& spec, PackedWeights& weights) {
  Plan plan;
  plan.width = spec.width;
  if (const auto* tokens = std::get_if<TokenInput>(&spec.input)) {
    plan.vocab_size = tokens->vocab_size;
    plan.token_table = spec.tensor(tokens->table);
  }
  plan.positions = spec.positions;
  plan.position_table = spec.tensor(spec.positions.table);
  const bool bounded =
      spec.positions.kind == PositionKind::kLearned ||
      (spec.positions.kind == PositionKind::kSinusoidal && !spec.positions.allow_extrapolation);
  plan.position_limit = bounded ? spec.positions.max_length : 0;
  for (const Block& block : spec.blocks) {
    BlockPlan out;
    out.before_mixer = plan_norm(spec, block.before_mixer);
    out.after_mixer = plan_norm(spec, block.after_mixer);
    out.before_feed_forward = plan_norm(spec, block.before_feed_forward);
    out.after_feed_forward = plan_norm(spec, block.after_feed_forward);
    out.mixer = plan_mixer(spec, block.mixer, weights, &plan);
    out.feed_forward = plan_feed_forward(spec, block.feed_forward, weights);
    plan.blocks.push_back(std::move(out));
  }
  plan.final_norm = plan_norm(spec, spec.final_norm);
  plan.outputs = spec.width;
  if (const auto* head = std::get_if<LanguageHead>(&spec.head)) {
    plan.has_head = true;
    plan.outputs = spec.tensor(head->projection.weight)->rows();
    plan.head = weights.add(spec, {head->projection}, spec.width, 0, plan.outputs);
  }
  return plan;
}

}  // namespace moka
