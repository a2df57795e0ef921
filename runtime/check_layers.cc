// The checks of blocks: norms, mixers, feed-forwards, and the parts that they are made of.
#include <cmath>
#include <string>

#include "runtime/features.h"
#include "runtime/spec_checker.h"

namespace moka {

// ---- parts -----------------------------------------------------------------------------------

Status SpecChecker::shape(const std::string& field, TensorIndex index, Extents shape,
                          bool may_be_narrow) {
  if (index == kNoTensor) return fail(field + " is missing");
  const Tensor* tensor = spec_.tensor(index);
  if (tensor == nullptr) {
    return fail(field + " names tensor " + std::to_string(index) + ", but the model has " +
                std::to_string(spec_.tensors.size()) + " tensors");
  }
  used_[static_cast<size_t>(index)] = true;
  const std::string name = field + " '" + tensor->name + "'";
  bool equal = tensor->shape.size() == shape.size();
  std::string expected, meanings;
  size_t i = 0;
  for (const Extent& extent : shape) {
    equal = equal && tensor->shape[i] == extent.value;
    expected += (i == 0 ? "" : ", ") + std::to_string(extent.value);
    meanings += std::string(i == 0 ? "" : ", ") + extent.meaning;
    ++i;
  }
  if (!equal) {
    return fail(name + " has shape " + tensor->shape_string() + ", expected [" + expected + "] (" +
                meanings + ")");
  }
  if (tensor->dtype == DType::kI32 || (!may_be_narrow && tensor->dtype != DType::kF32)) {
    return fail(name + " has type " + dtype_name(tensor->dtype) + ", expected " +
                (may_be_narrow ? "f32, f16, bf16, i8 or i4" : "f32"));
  }
  return Status();
}

Status SpecChecker::matrix(const std::string& field, TensorIndex index, Extent out, Extent in) {
  return shape(field, index, {out, in}, true);
}

Status SpecChecker::floats(const std::string& field, TensorIndex index, Extents extents) {
  return shape(field, index, extents, false);
}

Status SpecChecker::linear(const char* field, const Linear& linear, Extent out, Extent in) {
  MOKA_RETURN_IF_ERROR(matrix(std::string(field) + ".weight", linear.weight, out, in));
  if (linear.bias == kNoTensor) return Status();
  return floats(std::string(field) + ".bias", linear.bias, {out});
}

Status SpecChecker::absent(const std::string& field, TensorIndex index) const {
  return require(index == kNoTensor, field + " names tensor " + std::to_string(index) +
                                         ", but has no use here and must be -1");
}

uint64_t SpecChecker::rows_of(const Linear& linear) const {
  const Tensor* tensor = spec_.tensor(linear.weight);
  return tensor == nullptr ? 0 : tensor->rows();
}

Status SpecChecker::range(const char* field, uint64_t value, uint64_t low, uint64_t high) const {
  return require(value >= low && value <= high,
                 std::string(field) + " is " + std::to_string(value) + ", expected " +
                     std::to_string(low) + " to " + std::to_string(high));
}

Status SpecChecker::finite(const char* field, double value, double low, bool low_allowed) const {
  // Written so that NaN fails.
  const bool good = std::isfinite(value) && (low_allowed ? value >= low : value > low);
  return require(good, std::string(field) + " is " + std::to_string(value) +
                           ", expected a number " + (low_allowed ? "of at least " : "above ") +
                           std::to_string(low));
}

Status SpecChecker::scaling(const std::vector<float>& mean, const std::vector<float>& deviation,
                            uint64_t count, const char* of_what) const {
  for (const std::vector<float>* values : {&mean, &deviation}) {
    const char* field = values == &mean ? "mean" : "deviation";
    MOKA_RETURN_IF_ERROR(require(values->empty() || values->size() == count,
                                 std::string(field) + " has " + std::to_string(values->size()) +
                                     " numbers, expected none or " + std::to_string(count) +
                                     ", one per " + of_what));
  }
  for (const float value : mean) {
    MOKA_RETURN_IF_ERROR(require(std::isfinite(value), "mean has a number that is not finite"));
  }
  for (const float value : deviation) MOKA_RETURN_IF_ERROR(finite("deviation", value, 0, false));
  return Status();
}

// ---- blocks ----------------------------------------------------------------------------------

Status SpecChecker::check_norm(const char* field, const Norm& norm, uint64_t width) {
  const std::string name = field;
  const Extent extent{width, width == spec_.width ? "width" : "channels"};
  MOKA_RETURN_IF_ERROR(finite((name + ".eps").c_str(), norm.eps, 0, false));
  MOKA_RETURN_IF_ERROR(require(!norm.unit_offset || norm.kind == NormKind::kRmsNorm,
                               name + ".unit_offset is set, but belongs to rms norms only"));
  switch (norm.kind) {
    case NormKind::kNone:
      MOKA_RETURN_IF_ERROR(absent(name + ".scale", norm.scale));
      return absent(name + ".bias", norm.bias);
    case NormKind::kLayerNorm:  // Either may be absent: scale 1, bias 0.
      break;
    case NormKind::kRmsNorm: MOKA_RETURN_IF_ERROR(absent(name + ".bias", norm.bias)); break;
    case NormKind::kAffine:
      MOKA_RETURN_IF_ERROR(floats(name + ".scale", norm.scale, {extent}));
      return floats(name + ".bias", norm.bias, {extent});
  }
  if (norm.scale != kNoTensor) MOKA_RETURN_IF_ERROR(floats(name + ".scale", norm.scale, {extent}));
  if (norm.bias != kNoTensor) MOKA_RETURN_IF_ERROR(floats(name + ".bias", norm.bias, {extent}));
  return Status();
}

Status SpecChecker::check_blocks() {
  MOKA_RETURN_IF_ERROR(check_blocks_of("", spec_.blocks));
  place_ = "final norm";
  MOKA_RETURN_IF_ERROR(check_norm("final_norm", spec_.final_norm, spec_.width));
  bool reads_memory = false;
  for (size_t i = 0; i < spec_.blocks.size(); ++i) {
    reads_memory = reads_memory || reads_from_memory(spec_.blocks[i].mixer);
  }
  place_ = "memory";
  MOKA_RETURN_IF_ERROR(require(reads_memory == spec_.memory.has_value(),
                               reads_memory
                                   ? "a block reads the memory, but there is no memory encoder"
                                   : "there is a memory encoder, but no block reads the memory"));
  return spec_.memory ? check_memory(*spec_.memory) : Status();
}

Status SpecChecker::check_memory(const MemoryEncoder& memory) {
  MOKA_RETURN_IF_ERROR(check_blocks_of("memory ", memory.blocks));
  for (size_t i = 0; i < memory.blocks.size(); ++i) {
    place_ = "memory block " + std::to_string(i);
    MOKA_RETURN_IF_ERROR(require(!reads_from_memory(memory.blocks[i].mixer),
                                 "source is 'memory', but the memory itself reads one sequence"));
  }
  place_ = "memory final norm";
  return check_norm("final_norm", memory.final_norm, spec_.width);
}

Status SpecChecker::check_blocks_of(const std::string& prefix, const std::vector<Block>& blocks) {
  const size_t count = blocks.size();
  place_ = prefix;
  while (!place_.empty() && place_.back() == ' ') place_.pop_back();
  MOKA_RETURN_IF_ERROR(range("the number of blocks", count, 1, kMaxLayers));
  for (size_t i = 0; i < count; ++i) {
    const Block& block = blocks[i];
    const std::string name = prefix + "block " + std::to_string(i);
    place_ = name;
    MOKA_RETURN_IF_ERROR(check_norm("before_mixer", block.before_mixer, spec_.width));
    MOKA_RETURN_IF_ERROR(check_norm("after_mixer", block.after_mixer, spec_.width));
    MOKA_RETURN_IF_ERROR(check_norm("before_feed_forward", block.before_feed_forward, spec_.width));
    MOKA_RETURN_IF_ERROR(check_norm("after_feed_forward", block.after_feed_forward, spec_.width));
    place_ = name + " mixer (" + member_name(block.mixer) + ")";
    MOKA_RETURN_IF_ERROR(
        std::visit([this](const auto& mixer) { return check_mixer(mixer); }, block.mixer));
    place_ = name + " feed-forward (" + member_name(block.feed_forward) + ")";
    MOKA_RETURN_IF_ERROR(
        std::visit([this](const auto& ff) { return check_feed_forward(ff); }, block.feed_forward));
  }
  return Status();
}

Status SpecChecker::check_heads(uint32_t heads, const char* field, uint64_t divided,
                                const char* divided_name) const {
  return require(heads >= 1 && heads <= divided && divided % heads == 0,
                 std::string(field) + " is " + std::to_string(heads) +
                     ", which does not divide the " + divided_name + " " + std::to_string(divided));
}

Status SpecChecker::check_kv_heads(uint32_t heads, uint32_t kv_heads) const {
  return require(kv_heads == 0 || (kv_heads <= heads && heads % kv_heads == 0),
                 "kv_heads is " + std::to_string(kv_heads) + ", which does not divide heads " +
                     std::to_string(heads));
}

Status SpecChecker::check_rotation(const char* field,
                                   const std::optional<Rotation>& rotation) const {
  if (!rotation) return Status();
  const std::string name = field;
  MOKA_RETURN_IF_ERROR(finite((name + ".theta").c_str(), rotation->theta, 0, false));
  return require(rotation->sign == 1 || rotation->sign == -1,
                 name + ".sign is " + std::to_string(rotation->sign) + ", expected 1 or -1");
}

Status SpecChecker::check_window(const Window& window) const {
  MOKA_RETURN_IF_ERROR(range("window.size", window.size, 1, kMaxWidth));
  MOKA_RETURN_IF_ERROR(finite("window.scale", window.scale, 0, true));
  MOKA_RETURN_IF_ERROR(finite("window.softcap", window.softcap, 0, true));
  return check_rotation("window.rope", window.rope);
}

Status SpecChecker::check_scores(float score_scale, float key_eps) const {
  MOKA_RETURN_IF_ERROR(finite("score_scale", score_scale, 0, false));
  return finite("key_eps", key_eps, 0, true);
}

Status SpecChecker::check_front_convolution(const Front& front) {
  const Tensor* weight = spec_.tensor(front.conv_weight);
  const uint64_t taps = weight == nullptr ? 0 : weight->rows();
  MOKA_RETURN_IF_ERROR(floats("front.conv_weight", front.conv_weight, {{taps, "taps"}, width()}));
  MOKA_RETURN_IF_ERROR(range("taps of front.conv_weight", taps, 2, kMaxConvTaps));
  if (front.conv_bias == kNoTensor) return Status();
  return floats("front.conv_bias", front.conv_bias, {width()});
}

Status SpecChecker::check_front_recurrence(const Front& front) {
  MOKA_RETURN_IF_ERROR(check_heads(front.blocks, "front.blocks", spec_.width, "width"));
  MOKA_RETURN_IF_ERROR(finite("front.c", front.c, 0, false));
  const Extent blocks{front.blocks, "blocks"};
  const Extent in{spec_.width / front.blocks, "width / blocks"};
  MOKA_RETURN_IF_ERROR(floats("front.a_param", front.a_param, {width()}));
  MOKA_RETURN_IF_ERROR(
      floats("front.input_gate_weight", front.input_gate_weight, {blocks, in, in}));
  MOKA_RETURN_IF_ERROR(floats("front.input_gate_bias", front.input_gate_bias, {blocks, in}));
  MOKA_RETURN_IF_ERROR(floats("front.a_gate_weight", front.a_gate_weight, {blocks, in, in}));
  return floats("front.a_gate_bias", front.a_gate_bias, {blocks, in});
}

Status SpecChecker::check_front(const Front& front) {
  const bool convolves = front.kind == FrontKind::kConv || front.kind == FrontKind::kConvRgLru;
  const bool recurs = front.kind == FrontKind::kRgLru || front.kind == FrontKind::kConvRgLru;
  if (convolves) {
    MOKA_RETURN_IF_ERROR(check_front_convolution(front));
  } else {
    MOKA_RETURN_IF_ERROR(absent("front.conv_weight", front.conv_weight));
    MOKA_RETURN_IF_ERROR(absent("front.conv_bias", front.conv_bias));
  }
  if (recurs) {
    MOKA_RETURN_IF_ERROR(check_front_recurrence(front));
  } else {
    MOKA_RETURN_IF_ERROR(absent("front.a_param", front.a_param));
    MOKA_RETURN_IF_ERROR(absent("front.input_gate_weight", front.input_gate_weight));
    MOKA_RETURN_IF_ERROR(absent("front.input_gate_bias", front.input_gate_bias));
    MOKA_RETURN_IF_ERROR(absent("front.a_gate_weight", front.a_gate_weight));
    MOKA_RETURN_IF_ERROR(absent("front.a_gate_bias", front.a_gate_bias));
    MOKA_RETURN_IF_ERROR(require(std::isfinite(front.c), "front.c is not finite"));
  }
  return require(front.kind != FrontKind::kNone || (!front.feeds_value && !front.feeds_local),
                 "front.feeds_value or feeds_local is set, but there is no front");
}

Status SpecChecker::check_mixer(const LatteMixer& mixer) {
  const Extent latents{mixer.latents, "latents"};
  MOKA_RETURN_IF_ERROR(range("latents", mixer.latents, 1, kMaxWidth));
  MOKA_RETURN_IF_ERROR(check_heads(mixer.heads, "heads", spec_.width, "width"));
  MOKA_RETURN_IF_ERROR(check_heads(mixer.heads, "heads", mixer.latents, "latents"));
  MOKA_RETURN_IF_ERROR(linear("q", mixer.q, latents, width()));
  MOKA_RETURN_IF_ERROR(linear("k", mixer.k, latents, width()));
  MOKA_RETURN_IF_ERROR(linear("v", mixer.v, width(), width()));
  MOKA_RETURN_IF_ERROR(linear("o", mixer.o, width(), width()));
  MOKA_RETURN_IF_ERROR(check_scores(mixer.score_scale, mixer.key_eps));
  MOKA_RETURN_IF_ERROR(check_rotation("vapor", mixer.vapor));
  MOKA_RETURN_IF_ERROR(check_front(mixer.front));
  if (mixer.source == Source::kMemory) {
    return require(!mixer.vapor && mixer.front.kind == FrontKind::kNone,
                   "vapor or front is set, but the mixer reads the memory");
  }
  // Rotations by age and recurrences have a direction; without one they mean nothing.
  MOKA_RETURN_IF_ERROR(
      require(mixer.causal || !mixer.vapor, "vapor is set, but the mixer is not causal"));
  return require(mixer.causal || mixer.front.kind == FrontKind::kNone,
                 "front is set, but the mixer is not causal");
}

Status SpecChecker::check_mixer(const WindowMixer& mixer) {
  MOKA_RETURN_IF_ERROR(check_heads(mixer.heads, "heads", spec_.width, "width"));
  MOKA_RETURN_IF_ERROR(check_kv_heads(mixer.heads, mixer.kv_heads));
  const uint32_t kv_heads = mixer.kv_heads == 0 ? mixer.heads : mixer.kv_heads;
  const Extent kv{uint64_t{spec_.width} / mixer.heads * kv_heads, "width of the kv heads"};
  MOKA_RETURN_IF_ERROR(linear("local_q", mixer.local_q, width(), width()));
  MOKA_RETURN_IF_ERROR(linear("local_k", mixer.local_k, kv, width()));
  MOKA_RETURN_IF_ERROR(linear("v", mixer.v, kv, width()));
  MOKA_RETURN_IF_ERROR(linear("o", mixer.o, width(), width()));
  return check_window(mixer.window);
}

Status SpecChecker::check_mixer(const MacchiatoMixer& mixer) {
  const Extent latents{mixer.latents, "latents"};
  MOKA_RETURN_IF_ERROR(range("latents", mixer.latents, 1, kMaxWidth));
  MOKA_RETURN_IF_ERROR(check_heads(mixer.heads, "heads", spec_.width, "width"));
  MOKA_RETURN_IF_ERROR(check_heads(mixer.heads, "heads", mixer.latents, "latents"));
  MOKA_RETURN_IF_ERROR(check_kv_heads(mixer.heads, mixer.kv_heads));
  const uint32_t kv_heads = mixer.kv_heads == 0 ? mixer.heads : mixer.kv_heads;
  const Extent kv{uint64_t{spec_.width} / mixer.heads * kv_heads, "width of the kv heads"};
  MOKA_RETURN_IF_ERROR(linear("q", mixer.q, latents, width()));
  MOKA_RETURN_IF_ERROR(linear("k", mixer.k, latents, width()));
  MOKA_RETURN_IF_ERROR(linear("gate", mixer.gate, {mixer.heads, "heads"}, width()));
  MOKA_RETURN_IF_ERROR(linear("local_q", mixer.local_q, width(), width()));
  MOKA_RETURN_IF_ERROR(linear("local_k", mixer.local_k, kv, width()));
  MOKA_RETURN_IF_ERROR(linear("v", mixer.v, kv, width()));
  MOKA_RETURN_IF_ERROR(linear("o", mixer.o, width(), width()));
  MOKA_RETURN_IF_ERROR(check_window(mixer.window));
  MOKA_RETURN_IF_ERROR(check_scores(mixer.score_scale, mixer.key_eps));
  MOKA_RETURN_IF_ERROR(check_rotation("vapor", mixer.vapor));
  MOKA_RETURN_IF_ERROR(
      require(mixer.vapor || !mixer.vapor_on_local, "vapor_on_local is set, but vapor is not"));
  return check_front(mixer.front);
}

Status SpecChecker::check_mixer(const SoftmaxMixer& mixer) {
  MOKA_RETURN_IF_ERROR(check_heads(mixer.heads, "heads", spec_.width, "width"));
  MOKA_RETURN_IF_ERROR(linear("q", mixer.q, width(), width()));
  MOKA_RETURN_IF_ERROR(linear("k", mixer.k, width(), width()));
  MOKA_RETURN_IF_ERROR(linear("v", mixer.v, width(), width()));
  MOKA_RETURN_IF_ERROR(linear("o", mixer.o, width(), width()));
  MOKA_RETURN_IF_ERROR(finite("scale", mixer.scale, 0, true));
  return check_rotation("rope", mixer.rope);
}

Status SpecChecker::check_mixer(const LinformerMixer& mixer) {
  MOKA_RETURN_IF_ERROR(check_heads(mixer.heads, "heads", spec_.width, "width"));
  MOKA_RETURN_IF_ERROR(range("rank", mixer.rank, 1, kMaxWidth));
  MOKA_RETURN_IF_ERROR(range("max_length", mixer.max_length, 1, kMaxPositions));
  MOKA_RETURN_IF_ERROR(linear("q", mixer.q, width(), width()));
  MOKA_RETURN_IF_ERROR(linear("k", mixer.k, width(), width()));
  MOKA_RETURN_IF_ERROR(linear("v", mixer.v, width(), width()));
  MOKA_RETURN_IF_ERROR(linear("o", mixer.o, width(), width()));
  const Extents low_rank = {
      {mixer.max_length, "max_length"}, {mixer.heads, "heads"}, {mixer.rank, "rank"}};
  MOKA_RETURN_IF_ERROR(floats("low_rank_k", mixer.low_rank_k, low_rank));
  return floats("low_rank_v", mixer.low_rank_v, low_rank);
}

Status SpecChecker::check_feed_forward(const MlpFeedForward& ff) {
  const Extent hidden{rows_of(ff.fc1), "hidden width"};
  MOKA_RETURN_IF_ERROR(linear("fc1", ff.fc1, hidden, width()));
  MOKA_RETURN_IF_ERROR(range("the hidden width", hidden.value, 1, kMaxWidth));
  return linear("fc2", ff.fc2, width(), hidden);
}

Status SpecChecker::check_feed_forward(const GluFeedForward& ff) {
  MOKA_RETURN_IF_ERROR(linear("value", ff.value, width(), width()));
  return linear("gate", ff.gate, width(), width());
}

Status SpecChecker::check_feed_forward(const GatedFeedForward& ff) {
  const Extent hidden{rows_of(ff.gate), "hidden width"};
  MOKA_RETURN_IF_ERROR(linear("gate", ff.gate, hidden, width()));
  MOKA_RETURN_IF_ERROR(range("the hidden width", hidden.value, 1, kMaxWidth));
  MOKA_RETURN_IF_ERROR(linear("up", ff.up, hidden, width()));
  return linear("down", ff.down, width(), hidden);
}

}  // namespace moka
