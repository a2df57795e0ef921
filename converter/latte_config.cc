// config.json with model_type "latte": the order of reading, blocks and mixers.
#include "converter/latte_config.h"

#include "converter/json.h"
#include "converter/latte_config_reader.h"

namespace moka {
namespace {

using nlohmann::json;

constexpr double kMaxScale = 1e6;

// Keys that Hugging Face tools and training programs write and that change nothing that a trained
// model computes. README.md lists them for the user.
constexpr const char* kHarmlessKeys[] = {
    "_name_or_path",
    "architectures",
    "auto_map",
    "dtype",
    "initializer_range",
    "torch_dtype",
    "transformers_version",
    "use_cache",
    "dropout",
    "attention_dropout",
    "embedding_dropout",
    "hidden_dropout",
    "resid_dropout",
    "classifier_dropout",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "gradient_checkpointing",
    "is_decoder",
    "label2id",
    "problem_type",
};

const std::initializer_list<Choice<RotationStyle>> kRotationStyles = {
    {"half", RotationStyle::kHalf}, {"interleaved", RotationStyle::kInterleaved}};

}  // namespace

uint32_t LatteConfig::row_numbers() const {
  const auto levels = static_cast<uint32_t>(quantiles.empty() ? 1 : quantiles.size());
  return forecast_steps * outputs * levels;
}

Result<LatteConfig> LatteConfigReader::read() {
  fields_.choice<int>("model_type", {{"latte", 0}});
  read_sizes();
  read_blocks();
  read_input();
  read_positions();
  read_window();
  read_latents();
  read_front();
  read_sharing();
  read_memory();
  read_head();
  for (const char* key : kHarmlessKeys) fields_.ignore(key);
  fields_.finish();
  MOKA_RETURN_IF_ERROR(problems_.status(where_));
  return config_;
}

void LatteConfigReader::divides(const char* key, uint32_t value) {
  if (config_.heads != 0 && value % config_.heads != 0) {
    conflict(std::string(key) + " is " + std::to_string(value) +
             ", expected a multiple of num_attention_heads, which is " +
             std::to_string(config_.heads));
  }
}

const char* LatteConfigReader::mixer_name() const {
  switch (config_.mixer) {
    case LatteMixing::kLatteCausal: return "latte_causal";
    case LatteMixing::kLatteBid: return "latte_bid";
    case LatteMixing::kMacchiato: return "macchiato";
    case LatteMixing::kWindow: return "window";
    case LatteMixing::kStandardCausal: return "standard_causal";
    default: return "linformer";
  }
}

LatteMixing LatteConfigReader::read_mixer() {
  return fields_.choice<LatteMixing>("mixer", {
                                                  {"latte_causal", LatteMixing::kLatteCausal},
                                                  {"latte_bid", LatteMixing::kLatteBid},
                                                  {"macchiato", LatteMixing::kMacchiato},
                                                  {"window", LatteMixing::kWindow},
                                                  {"standard_causal", LatteMixing::kStandardCausal},
                                                  {"linformer", LatteMixing::kLinformer},
                                              });
}

void LatteConfigReader::read_sizes() {
  config_.width = fields_.integer("hidden_size", 1, kMaxExtent);
  config_.layers = fields_.integer("num_hidden_layers", 1, 4096);
  config_.heads = fields_.integer("num_attention_heads", 1, kMaxExtent);
  divides("hidden_size", config_.width);
  const uint32_t kv_heads = fields_.integer("n_kv_heads", 1, kMaxExtent, config_.heads);
  if (kv_heads != config_.heads) {
    unsupported("n_kv_heads is " + std::to_string(kv_heads) +
                ", expected num_attention_heads, which is " + std::to_string(config_.heads) +
                "; values shared between heads are not supported");
  }
  config_.mixer = read_mixer();
  config_.memory_layers = fields_.integer("num_memory_layers", 0, 4096, 0);
  const bool linformer = config_.mixer == LatteMixing::kLinformer;
  const bool needed = latent() || linformer || config_.memory_layers != 0;
  const std::optional<uint32_t> none = needed ? std::nullopt : std::optional<uint32_t>(0);
  config_.latents = fields_.integer("num_latents", needed ? 1 : 0, kMaxExtent, none);
  if (needed && !linformer) divides("num_latents", config_.latents);
}

void LatteConfigReader::read_blocks() {
  config_.block =
      fields_.choice<LatteBlock>("block_type", {
                                                   {"transformer", LatteBlock::kTransformer},
                                                   {"glu", LatteBlock::kGlu},
                                                   {"rms_swiglu", LatteBlock::kRmsSwiglu},
                                               });
  const bool swiglu = config_.block == LatteBlock::kRmsSwiglu;
  read_norms(swiglu);
  config_.activation =
      fields_.choice<Activation>("hidden_act",
                                 {
                                     {"silu", Activation::kSilu},
                                     {"gelu_tanh", Activation::kGeluTanh},
                                 },
                                 swiglu ? Activation::kSilu : Activation::kGeluTanh);
  if (!swiglu && config_.activation != Activation::kGeluTanh) {
    conflict("hidden_act is \"silu\", transformer and glu blocks have \"gelu_tanh\"");
  }
  read_hidden();
}

void LatteConfigReader::read_norms(bool swiglu) {
  const auto implied = [&](auto value) { return swiglu ? std::optional(value) : std::nullopt; };
  config_.prenorm = fields_.boolean("prenorm", implied(true));
  config_.norm = fields_.choice<NormKind>("norm",
                                          {
                                              {"layernorm", NormKind::kLayerNorm},
                                              {"rmsnorm", NormKind::kRmsNorm},
                                              {"batchnorm", NormKind::kAffine, false},
                                          },
                                          implied(NormKind::kRmsNorm));
  if (swiglu && !config_.prenorm) conflict("prenorm is false, a rms_swiglu block has true");
  if (swiglu && config_.norm == NormKind::kLayerNorm) {
    conflict("norm is \"layernorm\", a rms_swiglu block has \"rmsnorm\"");
  }
  config_.norm_eps = static_cast<float>(fields_.number("norm_eps", 1e-30, 1.0, 1e-6));
  config_.unit_offset = fields_.boolean("unit_offset", false);
  if (config_.unit_offset && config_.norm == NormKind::kLayerNorm) {
    conflict("unit_offset is true, which belongs to norm \"rmsnorm\"");
  }
  if (fields_.boolean("post_sublayer_norms", false)) {
    unsupported(
        "post_sublayer_norms is true, expected false; a norm after the mixer or the feed-forward "
        "besides the one before it is not part of these blocks");
  }
}

void LatteConfigReader::read_hidden() {
  // 0 is how some programs write "the usual width".
  config_.hidden = fields_.integer("intermediate_size", 0, kMaxExtent, 0);
  switch (config_.block) {
    case LatteBlock::kTransformer:
      if (config_.hidden == 0) config_.hidden = 4 * config_.width;
      break;
    case LatteBlock::kGlu:
      if (config_.hidden != 0 && config_.hidden != config_.width) {
        conflict("intermediate_size is " + std::to_string(config_.hidden) +
                 ", a glu block has hidden_size, which is " + std::to_string(config_.width));
      }
      config_.hidden = config_.width;
      break;
    case LatteBlock::kRmsSwiglu:
      if (config_.hidden == 0) {
        fields_.missing("intermediate_size", "the width inside the feed-forward of rms_swiglu");
      }
      break;
  }
}

void LatteConfigReader::read_window() {
  const std::optional<uint32_t> none = windowed() ? std::nullopt : std::optional<uint32_t>(0);
  const uint32_t size = fields_.integer("window", 1, kMaxExtent - 1, none);
  const bool one_more = fields_.choice<bool>("window_extent", {{"w", false}, {"w+1", true}}, false);
  // Absent, RoPE is as the specification has it by default; null says that there is none.
  const bool rope = !fields_.is_null("rope_theta");
  const double theta = fields_.number("rope_theta", 1.0, 1e12, 10000.0);
  const RotationStyle style =
      fields_.choice<RotationStyle>("rope_style", kRotationStyles, RotationStyle::kHalf);
  const double scale = fields_.number("local_scale", 1e-6, kMaxScale, 0.0);
  const double softcap = fields_.number("logit_softcap", 0.0, kMaxScale, 0.0);
  if (!windowed()) return;
  config_.window.size = size + (one_more ? 1 : 0);
  if (rope) config_.window.rope = Rotation{theta, style, 1};
  config_.window.scale = static_cast<float>(scale);
  config_.window.softcap = static_cast<float>(softcap);
}

void LatteConfigReader::read_latents() {
  config_.score_scale = static_cast<float>(fields_.number("score_scale", 1e-6, kMaxScale, 1.0));
  config_.key_eps = static_cast<float>(fields_.number("key_eps", 0.0, 1.0, 0.0));
  fields_.choice<LatentScope>("latent_scope",
                              {
                                  {"all", LatentScope::kAll},
                                  {"outside_window", LatentScope::kOutsideWindow, false},
                              },
                              LatentScope::kAll);
  if (fields_.boolean("vapor_on_local", false)) {
    unsupported("vapor_on_local is true, expected false");
  }
  config_.gate_last =
      fields_.choice<bool>("gate_column", {{"first", false}, {"last", true}}, false);
  config_.gate_fused = config_.mixer == LatteMixing::kMacchiato;
  read_vapor();
}

void LatteConfigReader::read_vapor() {
  const json* vapor = fields_.object("vapor");
  if (vapor == nullptr) return;
  if (config_.mixer == LatteMixing::kLatteBid) {
    unsupported(
        "vapor is set, expected null with mixer \"latte_bid\"; values are rotated by their "
        "age, which needs a causal mixer");
  } else if (!latent()) {
    conflict(std::string("vapor is set, the ") + mixer_name() + " mixer has no latents");
  }
  Problems inside;
  JsonFields fields(*vapor, &inside);
  Rotation rotation;
  rotation.theta = fields.number("theta", 1.0, 1e12, 10000.0);
  rotation.style = fields.choice<RotationStyle>("style", kRotationStyles, RotationStyle::kHalf);
  const double sign = fields.number("sign", -1, 1, 1);
  if (sign != 1 && sign != -1) inside.add(StatusCode::kInvalidArgument, "sign is no 1 or -1");
  rotation.sign = static_cast<int>(sign);
  fields.finish();
  const Status status = inside.status("vapor");
  if (!status.ok()) problems_.add(status.code(), status.message());
  config_.vapor = rotation;
}

void LatteConfigReader::read_front() {
  config_.front = fields_.choice<FrontKind>("recurrent",
                                            {
                                                {"none", FrontKind::kNone},
                                                {"conv", FrontKind::kConv},
                                                {"rglru", FrontKind::kRgLru},
                                                {"conv_rglru", FrontKind::kConvRgLru},
                                            },
                                            FrontKind::kNone);
  const bool value = fields_.choice<bool>("recurrent_feeds", {{"qk", false}, {"qkv", true}}, false);
  const bool local =
      fields_.choice<bool>("local_input", {{"x", false}, {"recurrent", true}}, false);
  const uint32_t blocks = fields_.integer("rglru_blocks", 1, kMaxExtent, config_.heads);
  if (config_.front == FrontKind::kNone) return;
  if (config_.mixer == LatteMixing::kLatteBid) {
    unsupported(
        "recurrent is set, expected \"none\" with mixer \"latte_bid\"; a recurrence needs "
        "a causal mixer");
  } else if (!latent()) {
    conflict(std::string("recurrent is set, the ") + mixer_name() +
             " mixer has no recurrence before it");
  }
  config_.front_feeds_value = value;
  config_.front_feeds_local = local && config_.mixer == LatteMixing::kMacchiato;
  if (config_.front == FrontKind::kConv) return;
  config_.rglru_blocks = blocks;
  if (blocks == 0 || config_.width % blocks != 0) {
    conflict("rglru_blocks is " + std::to_string(blocks) +
             ", expected a divisor of hidden_size, which is " + std::to_string(config_.width));
  }
}

void LatteConfigReader::read_sharing() {
  if (!fields_.has("shared_layers")) return;
  config_.owners = fields_.integers("shared_layers", 0, 4095, config_.layers);
  for (size_t i = 0; i < config_.owners.size(); ++i) {
    const uint32_t owner = config_.owners[i];
    if (owner <= i && config_.owners[owner] == owner) continue;
    conflict("shared_layers[" + std::to_string(i) + "] is " + std::to_string(owner) +
             ", expected " + std::to_string(i) +
             " or the index of an earlier layer that has weights of its own");
    return;
  }
}

void LatteConfigReader::read_memory() {
  config_.memory_causal =
      fields_.choice<bool>("memory_mixer", {{"latte_bid", false}, {"latte_causal", true}}, false);
  if (config_.memory_layers == 0) return;
  if (config_.mixer == LatteMixing::kLinformer) {
    unsupported("num_memory_layers is " + std::to_string(config_.memory_layers) +
                ", expected 0 with mixer \"linformer\"");
  }
  if (config_.vapor) unsupported("vapor is set, expected null with num_memory_layers");
  if (config_.front != FrontKind::kNone) {
    unsupported("recurrent is set, expected \"none\" with num_memory_layers");
  }
}

Result<LatteConfig> parse_latte_config(const json& config, const std::string& where) {
  if (!config.is_object()) {
    return Status(StatusCode::kCorrupt,
                  where + ": is no JSON object, expected one of keys and values");
  }
  return LatteConfigReader(config, where).read();
}

Result<LatteConfig> read_latte_config(const std::string& path) {
  MOKA_ASSIGN_OR_RETURN(const json config, read_json_file(path, kMaxConfigBytes));
  return parse_latte_config(config, path);
}

}  // namespace moka
