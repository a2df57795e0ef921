#include "platforms/cli/describe.h"

#include <algorithm>

#include "platforms/cli/terminal.h"
#include "runtime/features.h"

namespace moka::cli {
namespace {

template <class... Handlers>
struct Overload : Handlers... {
  using Handlers::operator()...;
};
template <class... Handlers>
Overload(Handlers...) -> Overload<Handlers...>;

std::string counted(uint64_t count, const std::string& what) {
  return with_commas(count) + " " + what + (count == 1 ? "" : "s");
}

std::string rotation_words(const std::string& name, const std::optional<Rotation>& rotation) {
  if (!rotation) return "";
  return ", " + name + " theta " + short_number(rotation->theta) +
         (rotation->style == RotationStyle::kInterleaved ? " interleaved" : "") +
         (rotation->sign < 0 ? " negative" : "");
}

std::string window_words(const Window& window) {
  return "window of " + with_commas(window.size) + rotation_words("rope", window.rope) +
         (window.scale != 0.0f ? ", scale " + short_number(window.scale) : "") +
         (window.softcap != 0.0f ? ", softcap " + short_number(window.softcap) : "");
}

std::string front_words(const Front& front) {
  switch (front.kind) {
    case FrontKind::kNone: return "";
    case FrontKind::kConv: return ", short convolution in front";
    case FrontKind::kRgLru: return ", RG-LRU in front";
    case FrontKind::kConvRgLru: return ", short convolution and RG-LRU in front";
  }
  return "";
}

std::string kv_words(uint32_t kv_heads, uint32_t heads) {
  return kv_heads == 0 || kv_heads == heads ? "" : ", " + counted(kv_heads, "key-value head");
}

std::string scoring_words(float scale, float eps) {
  return (scale != 1.0f ? ", score scale " + short_number(scale) : "") +
         (eps != 0.0f ? ", key eps " + short_number(eps) : "");
}

const char* activation_name(Activation activation) {
  return activation == Activation::kGeluTanh ? "gelu" : "silu";
}

std::string pooling_words(Pooling pooling) {
  switch (pooling) {
    case Pooling::kMean: return "mean of all positions";
    case Pooling::kLast: return "last position";
    case Pooling::kFirst: return "first position";
  }
  return "";
}

std::string padding_words(TokenId pad_id) {
  return pad_id < 0 ? "" : ", without padding (id " + std::to_string(pad_id) + ")";
}

// "3 classes (cat, dog, cow)", the first few by name.
std::string class_words(const ModelSpec& spec, const Linear& projection,
                        const std::vector<std::string>& labels) {
  const Tensor* tensor = spec.tensor(projection.weight);
  const uint64_t count = tensor == nullptr ? labels.size() : tensor->rows();
  std::string words = with_commas(count) + (count == 1 ? " class" : " classes");
  constexpr size_t kShown = 6;
  for (size_t i = 0; i < std::min(kShown, labels.size()); i++) {
    words += (i == 0 ? " (" : ", ") + labels[i];
  }
  if (labels.size() > kShown) words += ", ...";
  return words + (labels.empty() ? "" : ")");
}

std::string hidden_width(const ModelSpec& spec, const Linear& linear) {
  const Tensor* tensor = spec.tensor(linear.weight);
  return tensor == nullptr ? "?" : with_commas(tensor->rows());
}

std::string norms_words(const Block& block) {
  std::string words;
  const auto add = [&](const char* place, const Norm& norm) {
    if (norm.kind != NormKind::kNone)
      words += (words.empty() ? "" : ", ") + norm_words(norm) + " " + place;
  };
  add("before mixer", block.before_mixer);
  add("after mixer", block.after_mixer);
  add("before feed-forward", block.before_feed_forward);
  add("after feed-forward", block.after_feed_forward);
  return words.empty() ? "none" : words;
}

}  // namespace

std::string input_words(const ModelSpec& spec) {
  return std::visit(
      Overload{[](const TokenInput& in) {
                 return "tokens, vocabulary of " + with_commas(in.vocab_size) +
                        (in.image_width == 0
                             ? ""
                             : ": grey levels of images of " + std::to_string(in.image_width) +
                                   " x " + std::to_string(in.image_height));
               },
               [](const FloatInput& in) { return counted(in.features, "number") + " per step"; },
               [](const PixelDenseInput& in) {
                 return "grey images of " + std::to_string(in.width) + " x " +
                        std::to_string(in.height) + ", one pixel per step";
               },
               [](const PixelConvInput& in) {
                 return "images of " + std::to_string(in.width) + " x " +
                        std::to_string(in.height) + ", " +
                        counted(in.kernels.size(), "3x3 convolution");
               }},
      spec.input);
}

std::string positions_words(const Positions& positions) {
  std::string words;
  switch (positions.kind) {
    case PositionKind::kNone: return "none";
    case PositionKind::kSinusoidal: words = "sinusoidal"; break;
    case PositionKind::kLearned: words = "learned"; break;
  }
  if (positions.max_length != 0) {
    words += ", " + with_commas(positions.max_length) + " positions";
    if (positions.allow_extrapolation) words += ", more are allowed";
  }
  return words;
}

std::string norm_words(const Norm& norm) {
  switch (norm.kind) {
    case NormKind::kNone: return "none";
    case NormKind::kLayerNorm: return "layer norm";
    case NormKind::kRmsNorm: return "rms norm";
    case NormKind::kAffine: return "affine";
  }
  return "unknown";
}

std::string mixer_words(const Mixer& mixer) {
  const std::string name = member_name(mixer);
  return std::visit(
      Overload{[&](const LatteMixer& m) {
                 return name + (m.causal ? "" : " (bidirectional)") + ", " +
                        counted(m.heads, "head") + ", " + counted(m.latents, "latent") +
                        scoring_words(m.score_scale, m.key_eps) + rotation_words("vapor", m.vapor) +
                        front_words(m.front) +
                        (m.source == Source::kMemory ? ", reads another sequence" : "");
               },
               [&](const WindowMixer& m) {
                 return name + ", " + counted(m.heads, "head") + kv_words(m.kv_heads, m.heads) +
                        ", " + window_words(m.window);
               },
               [&](const MacchiatoMixer& m) {
                 return name + ", " + counted(m.heads, "head") + kv_words(m.kv_heads, m.heads) +
                        ", " + counted(m.latents, "latent") + ", " + window_words(m.window) +
                        (m.latent_scope == LatentScope::kOutsideWindow
                             ? ", latents outside the window"
                             : "") +
                        scoring_words(m.score_scale, m.key_eps) + rotation_words("vapor", m.vapor) +
                        front_words(m.front);
               },
               [&](const SoftmaxMixer& m) {
                 return name + ", " + counted(m.heads, "head") + rotation_words("rope", m.rope) +
                        " (memory grows with the text)";
               },
               [&](const LinformerMixer& m) {
                 return name + ", " + counted(m.heads, "head") + ", rank " + with_commas(m.rank) +
                        ", at most " + with_commas(m.max_length) + " positions";
               }},
      mixer);
}

std::string feed_forward_words(const ModelSpec& spec, const FeedForward& feed_forward) {
  const std::string from = with_commas(spec.width) + " to ";
  return std::visit(Overload{[](const std::monostate&) { return std::string("none"); },
                             [&](const MlpFeedForward& f) {
                               return std::string("mlp ") + activation_name(f.activation) + ", " +
                                      from + hidden_width(spec, f.fc1);
                             },
                             [&](const GluFeedForward&) { return std::string("glu"); },
                             [&](const GatedFeedForward& f) {
                               return std::string("gated ") + activation_name(f.activation) + ", " +
                                      from + hidden_width(spec, f.up);
                             }},
                    feed_forward);
}

std::string head_words(const ModelSpec& spec) {
  return std::visit(
      Overload{
          [](const std::monostate&) { return std::string("none: hidden states are the output"); },
          [&](const LanguageHead& head) {
            const auto* tokens = std::get_if<TokenInput>(&spec.input);
            const bool tied = tokens != nullptr && tokens->table == head.projection.weight;
            return std::string("language model, one score per token") +
                   (tied ? ", weights shared with the token table" : "");
          },
          [&](const ClassifierHead& head) {
            return "classifier, " + class_words(spec, head.projection, head.labels) + ", " +
                   pooling_words(head.pooling) + padding_words(head.pad_id);
          },
          [&](const PairHead& head) {
            return "comparison of two sequences, " +
                   class_words(spec, head.projection, head.labels) + ", " +
                   pooling_words(head.pooling) + padding_words(head.pad_id);
          },
          [](const RegressionHead& head) {
            std::string levels;
            for (const float level : head.quantiles) {
              levels += (levels.empty() ? " (" : ", ") + float_text(level);
            }
            return "forecast, " + counted(head.outputs, "number") + " per step" +
                   (levels.empty()
                        ? ", the mean"
                        : ", " + counted(head.quantiles.size(), "quantile") + levels + ")") +
                   (head.steps == 1 ? "" : ", " + counted(head.steps, "step") + " at once");
          },
          [](const EmbeddingHead& head) {
            return "embedding, " + pooling_words(head.pooling) + padding_words(head.pad_id) +
                   (head.unit_length ? ", unit length" : "");
          }},
      spec.head);
}

std::string tokenizer_words(const TokenizerSpec& tokenizer) {
  std::string words;
  switch (tokenizer.kind) {
    case TokenizerKind::kNone: return "none";
    case TokenizerKind::kBytes: words = "bytes"; break;
    case TokenizerKind::kBpe:
      words = "BPE, " + counted(tokenizer.merges.size() / 3, "merge");
      break;
    case TokenizerKind::kUnigram: words = "unigram"; break;
    case TokenizerKind::kChars: words = "characters"; break;
    case TokenizerKind::kWords: words = "words"; break;
  }
  if (!tokenizer.piece_ends.empty()) words += ", " + counted(tokenizer.piece_ends.size(), "piece");
  if (tokenizer.special_tokens.empty()) return words;
  words += ", special:";
  const size_t shown = std::min<size_t>(tokenizer.special_tokens.size(), 4);
  for (size_t i = 0; i < shown; i++) {
    words += " " + tokenizer.special_tokens[i].text + " (" +
             std::to_string(tokenizer.special_tokens[i].id) + ")";
  }
  if (shown < tokenizer.special_tokens.size()) {
    words += " and " + with_commas(tokenizer.special_tokens.size() - shown) + " more";
  }
  return words;
}

std::vector<BlockRun> block_runs(const ModelSpec& spec, const std::vector<Block>& blocks) {
  std::vector<BlockRun> runs;
  for (size_t i = 0; i < blocks.size(); i++) {
    const Block& block = blocks[i];
    BlockRun run{i, i, mixer_words(block.mixer), feed_forward_words(spec, block.feed_forward),
                 norms_words(block)};
    if (!runs.empty() && runs.back().mixer == run.mixer &&
        runs.back().feed_forward == run.feed_forward && runs.back().norms == run.norms) {
      runs.back().last = i;
    } else {
      runs.push_back(std::move(run));
    }
  }
  return runs;
}

std::string reading_words(const ModelSpec& spec) {
  bool ahead = std::holds_alternative<PixelConvInput>(spec.input);
  for (const Block& block : spec.blocks) ahead = ahead || sees_ahead(block.mixer);
  const Positions& positions = spec.positions;
  const bool bounded = positions.kind != PositionKind::kNone && positions.max_length != 0 &&
                       !positions.allow_extrapolation;
  std::string words = ahead     ? "whole sequences; it sees ahead"
                      : bounded ? "one step at a time (causal), sequences of at most " +
                                      std::to_string(positions.max_length)
                                : "one step at a time (causal), sequences without an end too";
  if (std::holds_alternative<PairHead>(spec.head)) {
    words = ahead ? "two whole sequences; it sees ahead" : "two sequences (causal)";
  }
  if (spec.memory) words += "; before that a memory, a second sequence that it answers from";
  return words;
}

std::vector<std::string> labels_of(const ModelSpec& spec) {
  if (const auto* head = std::get_if<ClassifierHead>(&spec.head)) return head->labels;
  if (const auto* head = std::get_if<PairHead>(&spec.head)) return head->labels;
  return {};
}

TokenId pad_id_of(const ModelSpec& spec) {
  if (const auto* head = std::get_if<ClassifierHead>(&spec.head)) return head->pad_id;
  if (const auto* head = std::get_if<PairHead>(&spec.head)) return head->pad_id;
  if (const auto* head = std::get_if<EmbeddingHead>(&spec.head)) return head->pad_id;
  return -1;
}

uint64_t count_parameters(const ModelSpec& spec) {
  uint64_t count = 0;
  for (const Tensor& tensor : spec.tensors) count += tensor.elements();
  return count;
}

uint64_t count_weight_bytes(const ModelSpec& spec) {
  uint64_t bytes = 0;
  for (const Tensor& tensor : spec.tensors) bytes += tensor.size + tensor.scale_size;
  return bytes;
}

}  // namespace moka::cli
