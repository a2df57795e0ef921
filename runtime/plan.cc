#include "runtime/plan.h"

#include <algorithm>
#include <variant>

#include "runtime/kernels/kernels.h"
#include "runtime/plan_mixer.h"

namespace moka {
namespace {

NormPlan plan_norm(const ModelSpec& spec, const Norm& norm) {
  NormPlan plan;
  plan.kind = norm.kind;
  plan.scale = floats(spec, norm.scale);
  plan.bias = floats(spec, norm.bias);
  plan.eps = norm.eps;
  plan.offset = norm.unit_offset ? 1.0f : 0.0f;
  return plan;
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

BlockPlan plan_block(const ModelSpec& spec, const Block& block, PackedWeights& weights,
                     Plan* plan) {
  BlockPlan out;
  out.before_mixer = plan_norm(spec, block.before_mixer);
  out.after_mixer = plan_norm(spec, block.after_mixer);
  out.before_feed_forward = plan_norm(spec, block.before_feed_forward);
  out.after_feed_forward = plan_norm(spec, block.after_feed_forward);
  out.mixer = plan_mixer(spec, block.mixer, weights, plan);
  out.feed_forward = plan_feed_forward(spec, block.feed_forward, weights);
  return out;
}

bool any_sees_ahead(const std::vector<BlockPlan>& blocks) {
  for (const BlockPlan& block : blocks) {
    if (block.mixer.reach == Reach::kAll) return true;
  }
  return false;
}

InputPlan plan_input(const ModelSpec& spec, PackedWeights& weights) {
  InputPlan plan;
  if (const auto* tokens = std::get_if<TokenInput>(&spec.input)) {
    plan.vocab_size = tokens->vocab_size;
    plan.token_table = spec.tensor(tokens->table);
    plan.image_width = tokens->image_width, plan.image_height = tokens->image_height;
  } else if (const auto* values = std::get_if<FloatInput>(&spec.input)) {
    plan.features = values->features;
    plan.mean = values->mean, plan.deviation = values->deviation;
    plan.projection = weights.add(spec, {values->projection}, plan.features, 0, spec.width);
  } else if (const auto* dense = std::get_if<PixelDenseInput>(&spec.input)) {
    plan.features = 1;
    plan.image_width = dense->width, plan.image_height = dense->height;
    plan.mean = {dense->mean}, plan.deviation = {dense->deviation};
    plan.projection = weights.add(spec, {dense->projection}, 1, 0, spec.width);
  } else if (const auto* pixels = std::get_if<PixelConvInput>(&spec.input)) {
    plan.features = 1;
    plan.image_width = pixels->width, plan.image_height = pixels->height;
    plan.mean = {pixels->mean}, plan.deviation = {pixels->deviation};
    plan.convolution.width = pixels->width, plan.convolution.height = pixels->height;
    for (size_t i = 0; i < pixels->kernels.size(); ++i) {
      const Tensor* kernel = spec.tensor(pixels->kernels[i]);
      plan.convolution.layers.push_back({kernel->shape[3], kernel->shape[0],
                                         floats(spec, pixels->kernels[i]),
                                         floats(spec, pixels->biases[i])});
    }
    plan.convolution_norm = plan_norm(spec, pixels->norm);
  }
  return plan;
}

// Fills plan->head and plan->outputs.
void plan_head(const ModelSpec& spec, PackedWeights& weights, Plan* plan) {
  HeadPlan& head = plan->head;
  plan->outputs = spec.width;
  const auto project = [&](const Linear& linear, size_t in) {
    plan->outputs = spec.tensor(linear.weight)->rows();
    head.projection = weights.add(spec, {linear}, in, 0, plan->outputs);
  };
  const auto pool = [&](const auto& from) {
    head.pooled = true;
    head.pooling = from.pooling;
    head.pad_id = from.pad_id;
  };
  if (const auto* language = std::get_if<LanguageHead>(&spec.head)) {
    head.kind = HeadKind::kLanguage;
    project(language->projection, spec.width);
  } else if (const auto* classifier = std::get_if<ClassifierHead>(&spec.head)) {
    head.kind = HeadKind::kClassifier;
    pool(*classifier);
    project(classifier->projection, spec.width);
  } else if (const auto* pair = std::get_if<PairHead>(&spec.head)) {
    head.kind = HeadKind::kPair;
    pool(*pair);
    const size_t hidden = spec.tensor(pair->hidden.weight)->rows();
    head.hidden = weights.add(spec, {pair->hidden}, 4 * size_t{spec.width}, 0, hidden);
    project(pair->projection, hidden);
  } else if (const auto* regression = std::get_if<RegressionHead>(&spec.head)) {
    head.kind = HeadKind::kRegression;
    head.outputs = regression->outputs;
    head.numbers = regression->quantiles.empty() ? 1 : regression->quantiles.size();
    head.mean = regression->mean, head.deviation = regression->deviation;
    project(regression->projection, spec.width);
  } else if (const auto* embedding = std::get_if<EmbeddingHead>(&spec.head)) {
    head.kind = HeadKind::kEmbedding;
    pool(*embedding);
    head.unit_length = embedding->unit_length;
  }
  if (!head.pooled) return;
  head.pool = plan->state_floats;
  plan->state_floats += pad_row(spec.width);
  head.carry = plan->state_floats;
  if (head.pooling == Pooling::kMean) plan->state_floats += pad_row(spec.width);
}

}  // namespace

Plan make_plan(const ModelSpec& spec, PackedWeights& weights) {
  Plan plan;
  plan.width = spec.width;
  plan.input = plan_input(spec, weights);
  plan.positions = spec.positions;
  plan.position_table = spec.tensor(spec.positions.table);
  const bool bounded =
      spec.positions.kind == PositionKind::kLearned ||
      (spec.positions.kind == PositionKind::kSinusoidal && !spec.positions.allow_extrapolation);
  plan.position_limit = bounded ? spec.positions.max_length : 0;
  for (const Block& block : spec.blocks) {
    plan.blocks.push_back(plan_block(spec, block, weights, &plan));
  }
  plan.final_norm = plan_norm(spec, spec.final_norm);
  if (spec.memory) {
    for (const Block& block : spec.memory->blocks) {
      plan.memory_blocks.push_back(plan_block(spec, block, weights, &plan));
    }
    plan.memory_norm = plan_norm(spec, spec.memory->final_norm);
  }
  for (const auto* blocks : {&plan.blocks, &plan.memory_blocks}) {
    for (const BlockPlan& block : *blocks) {
      const uint64_t longest = block.mixer.max_length;
      if (longest == 0) continue;
      plan.position_limit =
          plan.position_limit == 0 ? longest : std::min(plan.position_limit, longest);
    }
  }
  const bool convolved = !plan.input.convolution.layers.empty();
  plan.whole = convolved || any_sees_ahead(plan.blocks);
  plan.memory_whole = convolved || any_sees_ahead(plan.memory_blocks);
  plan_head(spec, weights, &plan);
  return plan;
}

}  // namespace moka
