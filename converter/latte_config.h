// A model of the Latte family as numbers and choices: what a configuration says, whatever form it
// had. Read here from config.json with model_type "latte"; authors_config.h and sibling_config.h
// read the others.
//
// README.md lists every key with its values and defaults. Unknown keys and values are refused,
// never ignored: a key that changes what a model computes must not be lost on the way.
#ifndef MOKA_CONVERTER_LATTE_CONFIG_H_
#define MOKA_CONVERTER_LATTE_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "moka/status.h"
#include "nlohmann/json.hpp"
#include "runtime/model_spec.h"

namespace moka {

enum class LatteBlock : uint8_t { kTransformer, kGlu, kRmsSwiglu };
enum class LatteMixing : uint8_t {
  kLatteCausal,
  kLatteBid,
  kMacchiato,
  kWindow,
  kStandardCausal,
  kLinformer,
};
enum class LatteInput : uint8_t { kTokens, kValues, kPixels, kPixelsConv };
enum class LatteOutput : uint8_t {
  kLanguage,
  kClassifier,
  kPair,
  kRegression,
  kEmbedding,
  kNone,
};

// Channels between the convolutions of LatteInput::kPixelsConv; the last one gives the width.
constexpr uint32_t kConvChannels[] = {24, 48, 96};

struct LatteConfig {
  uint32_t width = 0, layers = 0, heads = 0;
  uint32_t latents = 0;  // over all heads, of linformer per head; 0 where the mixer has none
  LatteBlock block = LatteBlock::kTransformer;
  LatteMixing mixer = LatteMixing::kLatteCausal;
  bool mixer_bias = false;  // latte: q, k, v and o have biases
  bool prenorm = true;
  NormKind norm = NormKind::kLayerNorm;  // kAffine: a folded BatchNorm
  bool norm_parameters = true;           // false: scale 1, bias 0, no tensors
  float norm_eps = 1e-6f;
  bool unit_offset = false;
  bool final_norm = true;
  uint32_t hidden = 0;  // width inside the feed-forward
  Activation activation = Activation::kGeluTanh;
  Positions positions;
  uint32_t trained_length = 0;  // max_position_embeddings; 0: not said
  Window window;
  float softmax_scale = 0.0f;  // of standard_causal; 0: 1/sqrt(Dh)
  float score_scale = 1.0f, key_eps = 0.0f;
  std::optional<Rotation> vapor;
  FrontKind front = FrontKind::kNone;
  bool front_feeds_value = false, front_feeds_local = false;
  uint32_t rglru_blocks = 0;
  bool gate_fused = false;  // macchiato: the gates may be rows of the query matrix,
  bool gate_last = false;   // the last of each head and not the first

  std::vector<uint32_t> owners;  // of the weights of each layer; empty: each has its own
  uint32_t memory_layers = 0;    // of the encoder that cross reading reads; 0: none
  bool memory_causal = false;

  LatteInput input = LatteInput::kTokens;
  uint32_t vocab_size = 0;  // of tokens
  uint32_t features = 0;    // of values
  std::vector<float> input_mean, input_deviation;
  uint32_t image_width = 0, image_height = 0;

  LatteOutput head = LatteOutput::kLanguage;
  bool tied = false;
  bool head_bias = false;
  uint32_t classes = 0;  // of classifier and pair
  std::vector<std::string> labels;
  Pooling pooling = Pooling::kMean;
  bool unit_length = false;
  uint32_t outputs = 0, forecast_steps = 1;  // of regression
  std::vector<float> quantiles, output_mean, output_deviation;

  int32_t bos_id = -1, eos_id = -1, pad_id = -1;

  bool pools() const {
    return head == LatteOutput::kClassifier || head == LatteOutput::kPair ||
           head == LatteOutput::kEmbedding;
  }
  // Numbers in a row of a regression head.
  uint32_t row_numbers() const;
};

// `where` begins messages. kInvalidArgument: missing or unknown keys, values that cannot be right.
// kUnsupported: values that are valid and that no Moka model computes. Up to 20 problems in one
// message.
Result<LatteConfig> parse_latte_config(const nlohmann::json& config, const std::string& where);
// The same from a file; also kNotFound, kIo, kCorrupt.
Result<LatteConfig> read_latte_config(const std::string& path);

// generation_config.json: what its author recommends for sampling. Errors as above.
Result<SamplerOptions> parse_sampling(const nlohmann::json& config, const std::string& where);
Result<SamplerOptions> read_sampling(const std::string& path);

constexpr uint64_t kMaxConfigBytes = uint64_t{1} << 20;
constexpr uint32_t kMaxExtent = 1u << 20;  // widths, latents, windows

}  // namespace moka

#endif  // MOKA_CONVERTER_LATTE_CONFIG_H_
