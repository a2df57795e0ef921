#include "runtime/features.h"

#include <algorithm>
#include <iterator>
#include <set>

namespace moka {
namespace {

// Sorted; kept in step with the table in schema/README.md.
constexpr std::string_view kKnown[] = {
    "affine_norm",
    "classifier_head",
    "embedding_head",
    "float_input",
    "front_conv",
    "front_conv_rglru",
    "front_rglru",
    "gated_ff",
    "glu_ff",
    "language_head",
    "latents_outside_window",
    "latte_bidirectional",
    "latte_causal",
    "latte_memory",
    "layer_norm",
    "linformer",
    "macchiato",
    "mlp_ff",
    "pair_head",
    "pixel_conv_input",
    "pixel_dense_input",
    "positions_learned",
    "positions_sinusoidal",
    "regression_head",
    "rms_norm",
    "shared_kv_heads",
    "softmax",
    "tiles",
    "token_input",
    "tokenizer_bpe",
    "tokenizer_bytes",
    "tokenizer_chars",
    "tokenizer_unigram",
    "tokenizer_words",
    "vapor",
    "vapor_on_local",
    "weights_bf16",
    "weights_f16",
    "weights_f32",
    "weights_i4",
    "weights_i8",
    "window",
};

// Gathers the names that a spec uses.
class Features {
 public:
  void add_input(const Input& input) {
    static constexpr const char* kNames[] = {"token_input", "float_input", "pixel_dense_input",
                                             "pixel_conv_input"};
    static_assert(std::size(kNames) == std::variant_size_v<Input>);
    names_.insert(kNames[input.index()]);
    if (const auto* pixels = std::get_if<PixelConvInput>(&input)) add_norm(pixels->norm);
  }

  void add_positions(const Positions& positions) {
    if (positions.kind == PositionKind::kSinusoidal) names_.insert("positions_sinusoidal");
    if (positions.kind == PositionKind::kLearned) names_.insert("positions_learned");
  }

  void add_norm(const Norm& norm) {
    if (norm.kind == NormKind::kLayerNorm) names_.insert("layer_norm");
    if (norm.kind == NormKind::kRmsNorm) names_.insert("rms_norm");
    if (norm.kind == NormKind::kAffine) names_.insert("affine_norm");
  }

  void add_front(const Front& front) {
    if (front.kind == FrontKind::kConv) names_.insert("front_conv");
    if (front.kind == FrontKind::kRgLru) names_.insert("front_rglru");
    if (front.kind == FrontKind::kConvRgLru) names_.insert("front_conv_rglru");
  }

  void add_mixer(const LatteMixer& mixer) {
    if (mixer.source == Source::kMemory) {
      names_.insert("latte_memory");
    } else {
      names_.insert(mixer.causal ? "latte_causal" : "latte_bidirectional");
    }
    if (mixer.vapor) names_.insert("vapor");
    add_front(mixer.front);
  }

  void add_mixer(const WindowMixer& mixer) {
    names_.insert("window");
    add_kv_heads(mixer.heads, mixer.kv_heads);
  }

  void add_mixer(const MacchiatoMixer& mixer) {
    names_.insert("macchiato");
    add_kv_heads(mixer.heads, mixer.kv_heads);
    if (mixer.latent_scope == LatentScope::kOutsideWindow) names_.insert("latents_outside_window");
    if (mixer.vapor) names_.insert("vapor");
    if (mixer.vapor_on_local) names_.insert("vapor_on_local");
    add_front(mixer.front);
  }

  void add_mixer(const SoftmaxMixer&) { names_.insert("softmax"); }
  void add_mixer(const LinformerMixer&) { names_.insert("linformer"); }

  void add_feed_forward(const FeedForward& feed_forward) {
    static constexpr const char* kNames[] = {"", "mlp_ff", "glu_ff", "gated_ff"};
    static_assert(std::size(kNames) == std::variant_size_v<FeedForward>);
    if (feed_forward.index() != 0) names_.insert(kNames[feed_forward.index()]);
  }

  void add_head(const Head& head) {
    static constexpr const char* kNames[] = {"",          "language_head",   "classifier_head",
                                             "pair_head", "regression_head", "embedding_head"};
    static_assert(std::size(kNames) == std::variant_size_v<Head>);
    if (head.index() != 0) names_.insert(kNames[head.index()]);
  }

  void add_tensor(const Tensor& tensor) {
    const std::string name = std::string("weights_") + dtype_name(tensor.dtype);
    const bool is_matrix = tensor.shape.size() == 2 || tensor.dtype != DType::kF32;
    if (is_matrix && is_known_feature(name)) names_.insert(name);
    if (tensor.layout == TensorLayout::kTiles) names_.insert("tiles");
  }

  void add_tokenizer(TokenizerKind kind) {
    static constexpr const char* kNames[] = {"",
                                             "tokenizer_bytes",
                                             "tokenizer_bpe",
                                             "tokenizer_unigram",
                                             "tokenizer_chars",
                                             "tokenizer_words"};
    const size_t index = static_cast<size_t>(kind);
    if (index > 0 && index < std::size(kNames)) names_.insert(kNames[index]);
  }

  void add_blocks(const std::vector<Block>& blocks) {
    for (const Block& block : blocks) {
      add_norm(block.before_mixer);
      std::visit([this](const auto& mixer) { add_mixer(mixer); }, block.mixer);
      add_norm(block.after_mixer);
      add_norm(block.before_feed_forward);
      add_feed_forward(block.feed_forward);
      add_norm(block.after_feed_forward);
    }
  }

  std::vector<std::string> take() { return {names_.begin(), names_.end()}; }

 private:
  void add_kv_heads(uint32_t heads, uint32_t kv_heads) {
    if (kv_heads != 0 && kv_heads != heads) names_.insert("shared_kv_heads");
  }

  std::set<std::string> names_;
};

}  // namespace

std::vector<std::string> features_of(const ModelSpec& spec) {
  Features features;
  features.add_input(spec.input);
  features.add_positions(spec.positions);
  features.add_blocks(spec.blocks);
  features.add_norm(spec.final_norm);
  if (spec.memory) {
    features.add_blocks(spec.memory->blocks);
    features.add_norm(spec.memory->final_norm);
  }
  features.add_head(spec.head);
  for (const Tensor& tensor : spec.tensors) features.add_tensor(tensor);
  if (spec.tokenizer) features.add_tokenizer(spec.tokenizer->kind);
  return features.take();
}

bool is_known_feature(std::string_view name) {
  return std::binary_search(std::begin(kKnown), std::end(kKnown), name);
}

const char* member_name(const Input& input) {
  static constexpr const char* kNames[] = {"tokens", "floats", "pixels", "convolved pixels"};
  static_assert(std::size(kNames) == std::variant_size_v<Input>);
  return kNames[input.index()];
}

const char* member_name(const Mixer& mixer) {
  static constexpr const char* kNames[] = {"latte", "window", "macchiato", "softmax", "linformer"};
  static_assert(std::size(kNames) == std::variant_size_v<Mixer>);
  return kNames[mixer.index()];
}

const char* member_name(const FeedForward& feed_forward) {
  static constexpr const char* kNames[] = {"none", "mlp", "glu", "gated"};
  static_assert(std::size(kNames) == std::variant_size_v<FeedForward>);
  return kNames[feed_forward.index()];
}

const char* member_name(const Head& head) {
  static constexpr const char* kNames[] = {"none", "language",   "classifier",
                                           "pair", "regression", "embedding"};
  static_assert(std::size(kNames) == std::variant_size_v<Head>);
  return kNames[head.index()];
}

}  // namespace moka
