// generation_config.json: recommended sampling.
#include "converter/json.h"
#include "converter/latte_config.h"

namespace moka {

using nlohmann::json;

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
