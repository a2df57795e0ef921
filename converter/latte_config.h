// config.json of a folder with model_type "latte": read, checked, as numbers.
//
// README.md lists every key with its values and defaults. Unknown keys and values are refused,
// never ignored: a key that changes what a model computes must not be lost on the way.
#ifndef MOKA_CONVERTER_LATTE_CONFIG_H_
#define MOKA_CONVERTER_LATTE_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>

#include "moka/status.h"
#include "nlohmann/json.hpp"
#include "runtime/model_spec.h"

namespace moka {

enum class LatteBlock : uint8_t { kTransformer, kGlu, kRmsSwiglu };
enum class LatteMixing : uint8_t { kLatteCausal, kMacchiato, kWindow };

struct LatteConfig {
  uint32_t vocab_size = 0, width = 0, layers = 0, heads = 0;
  uint32_t latents = 0;  // over all heads; 0 for the window mixer
  LatteBlock block = LatteBlock::kTransformer;
  LatteMixing mixer = LatteMixing::kLatteCausal;
  bool prenorm = true;
  NormKind norm = NormKind::kLayerNorm;
  float norm_eps = 1e-6f;
  bool unit_offset = false;
  uint32_t hidden = 0;  // width inside the feed-forward
  Activation activation = Activation::kGeluTanh;
  Positions positions;
  uint32_t trained_length = 0;  // max_position_embeddings; 0: not said
  Window window;
  float score_scale = 1.0f, key_eps = 0.0f;
  std::optional<Rotation> vapor;
  FrontKind front = FrontKind::kNone;
  bool front_feeds_value = false, front_feeds_local = false;
  uint32_t rglru_blocks = 0;
  bool tied = true;
  bool head_bias = false;
  int32_t bos_id = -1, eos_id = -1, pad_id = -1;
};

// `where` begins messages. kInvalidArgument: missing or unknown keys, values that cannot be right.
// kUnsupported: values that are valid and not built yet. Up to 20 problems in one message.
Result<LatteConfig> parse_latte_config(const nlohmann::json& config, const std::string& where);
// The same from a file; also kNotFound, kIo, kCorrupt.
Result<LatteConfig> read_latte_config(const std::string& path);

// generation_config.json: what its author recommends for sampling. Errors as above.
Result<SamplerOptions> parse_sampling(const nlohmann::json& config, const std::string& where);
Result<SamplerOptions> read_sampling(const std::string& path);

}  // namespace moka

#endif  // MOKA_CONVERTER_LATTE_CONFIG_H_
