// The layout of a model: tensors, and the blocks that they make.
#include "converter/latte_layout.h"

#include <algorithm>
#include <utility>

#include "converter/json.h"
#include "converter/latte_layout_builder.h"
#include "converter/storage.h"

namespace moka {
namespace {

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

// ---- names of the "latte" folder ---------------------------------------------------------------

std::string LatteNames::fused_queries(const std::string& name, const SourceMap& map) const {
  const char* ends[] = {"mixer.q.weight", "mixer.gate.weight"};
  for (const std::string end : ends) {
    if (!config_.gate_fused || !ends_with(name, end)) continue;
    const std::string prefix = name.substr(0, name.size() - end.size());
    const SourceTensor* queries = map.find(prefix + "mixer.q.weight");
    const uint64_t fused = uint64_t{config_.latents} + config_.heads;
    const bool apart = map.find(prefix + "mixer.gate.weight") != nullptr;
    if (queries == nullptr || apart || queries->shape.size() != 2) return "";
    return queries->shape[0] == fused ? queries->name : "";
  }
  return "";
}

Recipe LatteNames::recipe(const std::string& name, const Shape& shape, const SourceMap& map) const {
  if (name.rfind("embed.conv.", 0) == 0 && shape.size() == 4) {
    return permuted(name, {shape[0], shape[3], shape[1], shape[2]}, {0, 2, 3, 1},
                    "kernel (out, in, 3, 3) to (out, 3, 3, in)");
  }
  const std::string queries = fused_queries(name, map);
  if (queries.empty()) return copied(name, shape);
  const uint32_t each = config_.latents / config_.heads;
  return ends_with(name, "gate.weight")
             ? gate_rows(queries, config_.heads, each, config_.width, config_.gate_last)
             : ungated_rows(queries, config_.heads, each, config_.width, config_.gate_last);
}

// ---- tensors -----------------------------------------------------------------------------------

Result<LatteLayout> LayoutBuilder::build(const std::string& where) {
  ModelSpec& spec = layout_.spec;
  spec.width = config_.width;
  spec.input = input();
  spec.positions = positions();
  add_memory();
  spec.blocks = layers();
  if (config_.final_norm) spec.final_norm = norm("final_norm");
  spec.head = head();
  report_unused();
  MOKA_RETURN_IF_ERROR(map_.problems().status(where));
  return std::move(layout_);
}

TensorIndex LayoutBuilder::add(const std::string& name, const Shape& shape, bool is_matrix) {
  const Recipe wanted = names_.recipe(name, shape, map_);
  const bool could_be_tied =
      config_.head == LatteOutput::kLanguage && wanted.uses.front().name == "head.weight";
  std::optional<TensorRecipe> recipe =
      map_.resolve(wanted, could_be_tied ? " (or tie_word_embeddings true in config.json)" : "");
  if (!recipe) return kNoTensor;
  Tensor tensor;
  tensor.name = name;
  tensor.shape = shape;
  set_stored_type(is_matrix ? stored_type(weights_, name, shape[0], shape[1]) : WeightType::kF32,
                  &tensor);
  layout_.spec.tensors.push_back(std::move(tensor));
  layout_.recipes.push_back(std::move(*recipe));
  return static_cast<TensorIndex>(layout_.spec.tensors.size() - 1);
}

Linear LayoutBuilder::linear(const std::string& name, uint32_t out, uint32_t in, bool bias) {
  Linear result;
  result.weight = matrix(name + ".weight", out, in);
  if (bias) result.bias = floats(name + ".bias", {out});
  return result;
}

void LayoutBuilder::report_unused() {
  const bool tied = config_.tied && map_.find("head.weight") != nullptr;
  map_.report_unused("head.weight", tied ? "tie_word_embeddings is true" : "");
}

// ---- blocks ------------------------------------------------------------------------------------

std::vector<Block> LayoutBuilder::layers() {
  std::vector<Block> blocks;
  std::vector<size_t> begins;  // of each layer in `blocks`
  for (uint32_t i = 0; i < config_.layers && !map_.enough(); ++i) {
    const uint32_t owner = config_.owners.empty() ? i : config_.owners[i];
    begins.push_back(blocks.size());
    if (owner == i) {
      const std::vector<Block> own = layer("blocks." + std::to_string(i) + ".");
      blocks.insert(blocks.end(), own.begin(), own.end());
    } else {  // the same tensors, by index
      const size_t first = begins[owner], end = begins[owner + 1];
      for (size_t b = first; b < end; ++b) blocks.push_back(Block(blocks[b]));
    }
  }
  return blocks;
}

// The norms of a layer, which begins with the mixer of `front` and ends with the feed-forward of
// `back`: two blocks where something stands between, else one and the same.
void LayoutBuilder::place_norms(const Norm& first, const Norm& second, Block* front,
                                Block* back) const {
  if (config_.prenorm) {
    front->before_mixer = first;
    back->before_feed_forward = second;
  } else if (config_.block == LatteBlock::kGlu) {
    back->after_feed_forward = first;
  } else {
    front->after_mixer = first;
    back->after_feed_forward = second;
  }
}

std::vector<Block> LayoutBuilder::layer(const std::string& prefix) {
  const bool crossing = config_.memory_layers != 0;
  const Norm first = norm(prefix + "norm1");
  const Norm between = crossing ? norm(prefix + "norm_cross") : Norm();
  const Norm second = config_.block == LatteBlock::kGlu ? Norm() : norm(prefix + "norm2");
  Block self;
  self.mixer = mixer(prefix + "mixer.");
  if (!crossing) {
    place_norms(first, second, &self, &self);
    self.feed_forward = feed_forward(prefix);
    return {self};
  }
  Block cross;
  LatteMixer reading = latte(prefix + "cross.", false);
  reading.source = Source::kMemory;
  cross.mixer = reading;
  (config_.prenorm ? cross.before_mixer : cross.after_mixer) = between;
  cross.feed_forward = feed_forward(prefix);
  place_norms(first, second, &self, &cross);
  return {self, cross};
}

void LayoutBuilder::add_memory() {
  if (config_.memory_layers == 0) return;
  MemoryEncoder memory;
  for (uint32_t i = 0; i < config_.memory_layers && !map_.enough(); ++i) {
    const std::string prefix = "memory.blocks." + std::to_string(i) + ".";
    Block block;
    const Norm first = norm(prefix + "norm1");
    const Norm second = config_.block == LatteBlock::kGlu ? Norm() : norm(prefix + "norm2");
    block.mixer = latte(prefix + "mixer.", config_.memory_causal);
    place_norms(first, second, &block, &block);
    block.feed_forward = feed_forward(prefix);
    memory.blocks.push_back(block);
  }
  if (config_.prenorm) memory.final_norm = norm("memory.final_norm");
  layout_.spec.memory = std::move(memory);
}

Norm LayoutBuilder::norm(const std::string& name) {
  Norm result;
  result.kind = config_.norm;
  result.eps = config_.norm_eps;
  result.unit_offset = config_.unit_offset;
  if (!config_.norm_parameters) return result;
  result.scale = floats(name + ".weight", {config_.width});
  if (config_.norm != NormKind::kRmsNorm) result.bias = floats(name + ".bias", {config_.width});
  return result;
}

FeedForward LayoutBuilder::feed_forward(const std::string& prefix) {
  const uint32_t d = config_.width, f = config_.hidden;
  switch (config_.block) {
    case LatteBlock::kTransformer: {
      MlpFeedForward mlp;
      mlp.fc1 = linear(prefix + "fc1", f, d, true);
      mlp.fc2 = linear(prefix + "fc2", d, f, true);
      mlp.activation = config_.activation;
      return mlp;
    }
    case LatteBlock::kGlu: {
      GluFeedForward glu;
      glu.value = linear(prefix + "value", d, d, true);
      glu.gate = linear(prefix + "gate", d, d, true);
      return glu;
    }
    default: {
      GatedFeedForward gated;
      gated.gate = linear(prefix + "gate", f, d);
      gated.up = linear(prefix + "up", f, d);
      gated.down = linear(prefix + "down", d, f);
      gated.activation = config_.activation;
      return gated;
    }
  }
}

// ---- mixers ------------------------------------------------------------------------------------

Mixer LayoutBuilder::mixer(const std::string& prefix) {
  switch (config_.mixer) {
    case LatteMixing::kLatteBid: return latte(prefix, false);
    case LatteMixing::kMacchiato: return macchiato(prefix);
    case LatteMixing::kWindow: return window(prefix);
    case LatteMixing::kStandardCausal: return softmax(prefix);
    case LatteMixing::kLinformer: return linformer(prefix);
    default: {
      LatteMixer m = latte(prefix, true);
      m.vapor = config_.vapor;
      m.front = front(prefix);
      return m;
    }
  }
}

LatteMixer LayoutBuilder::latte(const std::string& prefix, bool causal) {
  const uint32_t d = config_.width, l = config_.latents;
  LatteMixer m;
  m.heads = config_.heads;
  m.latents = l;
  m.causal = causal;
  m.q = linear(prefix + "q", l, d, config_.mixer_bias);
  m.k = linear(prefix + "k", l, d, config_.mixer_bias);
  m.v = linear(prefix + "v", d, d, config_.mixer_bias);
  m.o = linear(prefix + "o", d, d, config_.mixer_bias);
  m.score_scale = config_.score_scale;
  m.key_eps = config_.key_eps;
  return m;
}

MacchiatoMixer LayoutBuilder::macchiato(const std::string& prefix) {
  const uint32_t d = config_.width, l = config_.latents;
  MacchiatoMixer m;
  m.heads = m.kv_heads = config_.heads;
  m.latents = l;
  m.q = linear(prefix + "q", l, d);
  m.k = linear(prefix + "k", l, d);
  m.gate = linear(prefix + "gate", config_.heads, d);
  m.local_q = linear(prefix + "local_q", d, d);
  m.local_k = linear(prefix + "local_k", d, d);
  m.v = linear(prefix + "v", d, d);
  m.o = linear(prefix + "o", d, d);
  m.window = config_.window;
  m.score_scale = config_.score_scale;
  m.key_eps = config_.key_eps;
  m.vapor = config_.vapor;
  m.front = front(prefix);
  return m;
}

WindowMixer LayoutBuilder::window(const std::string& prefix) {
  const uint32_t d = config_.width;
  WindowMixer m;
  m.heads = m.kv_heads = config_.heads;
  m.local_q = linear(prefix + "local_q", d, d);
  m.local_k = linear(prefix + "local_k", d, d);
  m.v = linear(prefix + "v", d, d);
  m.o = linear(prefix + "o", d, d);
  m.window = config_.window;
  return m;
}

SoftmaxMixer LayoutBuilder::softmax(const std::string& prefix) {
  const uint32_t d = config_.width;
  SoftmaxMixer m;
  m.heads = config_.heads;
  m.q = linear(prefix + "q", d, d);
  m.k = linear(prefix + "k", d, d);
  m.v = linear(prefix + "v", d, d);
  m.o = linear(prefix + "o", d, d);
  m.scale = config_.softmax_scale;
  return m;
}

LinformerMixer LayoutBuilder::linformer(const std::string& prefix) {
  const uint32_t d = config_.width;
  LinformerMixer m;
  m.heads = config_.heads;
  m.rank = config_.latents;
  m.max_length = config_.trained_length;
  m.q = linear(prefix + "q", d, d, true);
  m.k = linear(prefix + "k", d, d, true);
  m.v = linear(prefix + "v", d, d, true);
  m.o = linear(prefix + "o", d, d, true);
  const Shape shape = {m.max_length, m.heads, m.rank};
  m.low_rank_k = floats(prefix + "low_rank_k", shape);
  m.low_rank_v = floats(prefix + "low_rank_v", shape);
  return m;
}

Front LayoutBuilder::front(const std::string& prefix) {
  Front result;
  result.kind = config_.front;
  result.feeds_value = config_.front_feeds_value;
  result.feeds_local = config_.front_feeds_local;
  const uint32_t d = config_.width;
  if (result.kind == FrontKind::kConv || result.kind == FrontKind::kConvRgLru) {
    const std::string name = prefix + "conv1d.weight";
    result.conv_weight = floats(name, {taps(name), d});
    result.conv_bias = floats(prefix + "conv1d.bias", {d});
  }
  if (result.kind == FrontKind::kRgLru || result.kind == FrontKind::kConvRgLru) {
    const uint32_t n = config_.rglru_blocks, part = d / n;
    result.blocks = n;
    result.a_param = floats(prefix + "rg_lru.a_param", {d});
    result.input_gate_weight = floats(prefix + "rg_lru.input_gate.weight", {n, part, part});
    result.input_gate_bias = floats(prefix + "rg_lru.input_gate.bias", {n, part});
    result.a_gate_weight = floats(prefix + "rg_lru.a_gate.weight", {n, part, part});
    result.a_gate_bias = floats(prefix + "rg_lru.a_gate.bias", {n, part});
  }
  return result;
}

// Only the tensor tells how far the convolution reaches; 4 is what is usual.
uint32_t LayoutBuilder::taps(const std::string& name) const {
  const SourceTensor* found = map_.find(name);
  const bool plausible = found != nullptr && found->shape.size() == 2 && found->shape[0] >= 2 &&
                         found->shape[0] <= 4096;
  return plausible ? static_cast<uint32_t>(found->shape[0]) : 4;
}

Result<LatteLayout> latte_layout(const LatteConfig& config, const TensorNames& names,
                                 const Checkpoint& checkpoint, WeightType weights,
                                 const std::string& where) {
  return LayoutBuilder(config, names, checkpoint, weights).build(where);
}

}  // namespace moka
