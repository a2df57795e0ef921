#include "converter/latte_config.h"

#include "converter/json.h"

namespace moka {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxConfigBytes = uint64_t{1} << 20;
constexpr uint32_t kMaxExtent = 1u << 20;  // widths, latents, windows
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
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "gradient_checkpointing",
    "is_decoder",
};

class ConfigReader {
 public:
  ConfigReader(const json& config, const std::string& where)
      : fields_(config, &problems_), where_(where) {}

  Result<LatteConfig> read() {
    fields_.choice<int>("model_type", {{"latte", 0}});
    read_sizes();
    read_blocks();
    read_positions();
    read_window();
    read_latents();
    read_front();
    read_head();
    for (const char* key : kHarmlessKeys) fields_.ignore(key);
    fields_.finish();
    MOKA_RETURN_IF_ERROR(problems_.status(where_));
    return config_;
  }

 private:
  // A problem that lies in two keys together.
  void conflict(const std::string& what) { problems_.add(StatusCode::kInvalidArgument, what); }

  void divides(const char* key, uint32_t value) {
    if (config_.heads != 0 && value % config_.heads != 0) {
      conflict(std::string(key) + " is " + std::to_string(value) +
               ", expected a multiple of num_attention_heads, which is " +
               std::to_string(config_.heads));
    }
  }

  bool latent() const { return config_.mixer != LatteMixing::kWindow; }
  bool windowed() const { return config_.mixer != LatteMixing::kLatteCausal; }

  void read_sizes() {
    config_.vocab_size = fields_.integer("vocab_size", 1, 1u << 24);
    config_.width = fields_.integer("hidden_size", 1, kMaxExtent);
    config_.layers = fields_.integer("num_hidden_layers", 1, 4096);
    config_.heads = fields_.integer("num_attention_heads", 1, kMaxExtent);
    divides("hidden_size", config_.width);
    const uint32_t kv_heads = fields_.integer("n_kv_heads", 1, kMaxExtent, config_.heads);
    if (kv_heads != config_.heads) {
      problems_.add(StatusCode::kUnsupported,
                    "n_kv_heads is " + std::to_string(kv_heads) +
                        ", expected num_attention_heads, which is " +
                        std::to_string(config_.heads) +
                        "; values shared between heads are not supported");
    }
    config_.mixer = fields_.choice<LatteMixing>(
        "mixer", {
                     {"latte_causal", LatteMixing::kLatteCausal},
                     {"macchiato", LatteMixing::kMacchiato},
                     {"window", LatteMixing::kWindow},
                     {"standard_causal", LatteMixing::kWindow, false},
                     {"scan_standard_causal", LatteMixing::kWindow, false},
                     {"bid_latte", LatteMixing::kLatteCausal, false},
                     {"linformer", LatteMixing::kWindow, false},
                     {"latte", LatteMixing::kLatteCausal, false},
                 });
    const std::optional<uint32_t> none = latent() ? std::nullopt : std::optional<uint32_t>(0);
    config_.latents = fields_.integer("num_latents", latent() ? 1 : 0, kMaxExtent, none);
    if (latent()) divides("num_latents", config_.latents);
  }

  void read_blocks() {
    config_.block =
        fields_.choice<LatteBlock>("block_type", {
                                                     {"transformer", LatteBlock::kTransformer},
                                                     {"glu", LatteBlock::kGlu},
                                                     {"rms_swiglu", LatteBlock::kRmsSwiglu},
                                                 });
    const bool swiglu = config_.block == LatteBlock::kRmsSwiglu;
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

  void read_hidden() {
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

  void read_positions() {
    Positions& positions = config_.positions;
    positions.kind =
        fields_.choice<PositionKind>("positions", {
                                                      {"none", PositionKind::kNone},
                                                      {"sinusoidal", PositionKind::kSinusoidal},
                                                      {"learned", PositionKind::kLearned, false},
                                                  });
    config_.trained_length = fields_.integer("max_position_embeddings", 1, 1u << 30, 0);
    const bool fp32_angles = fields_.boolean("positions_fp32_angles", false);
    if (positions.kind != PositionKind::kSinusoidal) return;
    positions.fp32_angles = fp32_angles;
    positions.max_length = config_.trained_length;
    if (config_.trained_length == 0) {
      fields_.missing("max_position_embeddings",
                      "the number of positions, with sinusoidal positions");
    }
    if (config_.width % 2 != 0) {
      conflict("hidden_size is " + std::to_string(config_.width) +
               ", sinusoidal positions need an even one");
    }
  }

  void read_window() {
    const std::optional<uint32_t> none = windowed() ? std::nullopt : std::optional<uint32_t>(0);
    const uint32_t size = fields_.integer("window", 1, kMaxExtent - 1, none);
    const bool one_more =
        fields_.choice<bool>("window_extent", {{"w", false}, {"w+1", true}}, false);
    // Absent, RoPE is as the specification has it by default; null says that there is none.
    const bool rope = !fields_.is_null("rope_theta");
    const double theta = fields_.number("rope_theta", 1.0, 1e12, 10000.0);
    const RotationStyle style = fields_.choice<RotationStyle>(
        "rope_style",
        {{"half", RotationStyle::kHalf}, {"interleaved", RotationStyle::kInterleaved}},
        RotationStyle::kHalf);
    const double scale = fields_.number("local_scale", 1e-6, kMaxScale, 0.0);
    const double softcap = fields_.number("logit_softcap", 0.0, kMaxScale, 0.0);
    if (!windowed()) return;
    config_.window.size = size + (one_more ? 1 : 0);
    if (rope) config_.window.rope = Rotation{theta, style, 1};
    config_.window.scale = static_cast<float>(scale);
    config_.window.softcap = static_cast<float>(softcap);
  }

  void read_latents() {
    config_.score_scale = static_cast<float>(fields_.number("score_scale", 1e-6, kMaxScale, 1.0));
    config_.key_eps = static_cast<float>(fields_.number("key_eps", 0.0, 1.0, 0.0));
    fields_.choice<LatentScope>("latent_scope",
                                {
                                    {"all", LatentScope::kAll},
                                    {"outside_window", LatentScope::kOutsideWindow, false},
                                },
                                LatentScope::kAll);
    if (fields_.boolean("vapor_on_local", false)) {
      problems_.add(StatusCode::kUnsupported, "vapor_on_local is true, expected false");
    }
    const json* vapor = fields_.object("vapor");
    if (vapor == nullptr) return;
    if (!latent()) conflict("vapor is set, the window mixer has no latents");
    Problems inside;
    JsonFields fields(*vapor, &inside);
    Rotation rotation;
    rotation.theta = fields.number("theta", 1.0, 1e12, 10000.0);
    rotation.style = fields.choice<RotationStyle>(
        "style", {{"half", RotationStyle::kHalf}, {"interleaved", RotationStyle::kInterleaved}},
        RotationStyle::kHalf);
    const double sign = fields.number("sign", -1, 1, 1);
    if (sign != 1 && sign != -1) inside.add(StatusCode::kInvalidArgument, "sign is no 1 or -1");
    rotation.sign = static_cast<int>(sign);
    fields.finish();
    const Status status = inside.status("vapor");
    if (!status.ok()) problems_.add(status.code(), status.message());
    config_.vapor = rotation;
  }

  void read_front() {
    config_.front = fields_.choice<FrontKind>("recurrent",
                                              {
                                                  {"none", FrontKind::kNone},
                                                  {"conv", FrontKind::kConv},
                                                  {"rglru", FrontKind::kRgLru},
                                                  {"conv_rglru", FrontKind::kConvRgLru},
                                              },
                                              FrontKind::kNone);
    const bool value =
        fields_.choice<bool>("recurrent_feeds", {{"qk", false}, {"qkv", true}}, false);
    const bool local =
        fields_.choice<bool>("local_input", {{"x", false}, {"recurrent", true}}, false);
    const uint32_t blocks = fields_.integer("rglru_blocks", 1, kMaxExtent, config_.heads);
    if (config_.front == FrontKind::kNone) return;
    if (!latent()) conflict("recurrent is set, the window mixer has no recurrence before it");
    config_.front_feeds_value = value;
    config_.front_feeds_local = local && config_.mixer == LatteMixing::kMacchiato;
    if (config_.front == FrontKind::kConv) return;
    config_.rglru_blocks = blocks;
    if (blocks == 0 || config_.width % blocks != 0) {
      conflict("rglru_blocks is " + std::to_string(blocks) +
               ", expected a divisor of hidden_size, which is " + std::to_string(config_.width));
    }
  }

  void read_head() {
    config_.tied = fields_.boolean("tie_word_embeddings", false);
    config_.head_bias = fields_.boolean("head_bias", false);
    config_.bos_id = token_id("bos_token_id");
    config_.eos_id = token_id("eos_token_id");
    config_.pad_id = token_id("pad_token_id");
  }

  int32_t token_id(const char* key) {
    if (!fields_.has(key)) return -1;
    const uint32_t last = config_.vocab_size == 0 ? 0 : config_.vocab_size - 1;
    return static_cast<int32_t>(fields_.integer(key, 0, last));
  }

  Problems problems_;
  JsonFields fields_;
  const std::string& where_;
  LatteConfig config_;
};

}  // namespace

Result<LatteConfig> parse_latte_config(const json& config, const std::string& where) {
  if (!config.is_object()) {
    return Status(StatusCode::kCorrupt,
                  where + ": is no JSON object, expected one of keys and values");
  }
  return ConfigReader(config, where).read();
}

Result<LatteConfig> read_latte_config(const std::string& path) {
  MOKA_ASSIGN_OR_RETURN(const json config, read_json_file(path, kMaxConfigBytes));
  return parse_latte_config(config, path);
}

Result<SamplerOptions> parse_sampling(const json& config, const std::string& where) {
  if (!config.is_object()) {
    return Status(StatusCode::kCorrupt,
                  where + ": is no JSON object, expected one of keys and values");
  }
  Problems problems;
  JsonFields fields(config, &problems);
  SamplerOptions sampling;
  sampling.temperature =
      static_cast<float>(fields.number("temperature", 0.0, 100.0, sampling.temperature));
  sampling.top_k = fields.integer("top_k", 0, 1u << 24, sampling.top_k);
  sampling.top_p = static_cast<float>(fields.number("top_p", 1e-6, 1.0, sampling.top_p));
  sampling.min_p = static_cast<float>(fields.number("min_p", 0.0, 1.0, sampling.min_p));
  sampling.repeat_penalty =
      static_cast<float>(fields.number("repetition_penalty", 1e-3, 100.0, sampling.repeat_penalty));
  sampling.repeat_window = fields.integer("repeat_window", 0, 1u << 20, sampling.repeat_window);
  if (!fields.boolean("do_sample", true)) sampling.temperature = 0.0f;  // greedy
  for (const char* key :
       {"_from_model_config", "transformers_version", "bos_token_id", "eos_token_id",
        "pad_token_id", "max_length", "max_new_tokens", "use_cache"}) {
    fields.ignore(key);
  }
  fields.finish();
  MOKA_RETURN_IF_ERROR(problems.status(where));
  return sampling;
}

Result<SamplerOptions> read_sampling(const std::string& path) {
  MOKA_ASSIGN_OR_RETURN(const json config, read_json_file(path, kMaxConfigBytes));
  return parse_sampling(config, path);
}

}  // namespace moka
