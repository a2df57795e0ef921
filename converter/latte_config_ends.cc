// config.json with model_type "latte": what a model reads and what it gives out.
#include <algorithm>
#include <map>

#include "converter/latte_config_reader.h"

namespace moka {
namespace {

using nlohmann::json;

constexpr double kMaxNumber = 1e30;
constexpr uint32_t kMaxPixels = 1u << 15;  // in a row or column of an image

// id2label, as Hugging Face writes it, in the order of ids; empty unless ids are 0, 1, 2, ...
std::vector<std::string> labels_of_ids(const json& ids) {
  std::vector<std::string> labels(ids.size());
  std::vector<bool> seen(ids.size(), false);
  for (const auto& [key, value] : ids.items()) {
    const bool number =
        !key.empty() && key.size() <= 6 &&
        std::all_of(key.begin(), key.end(), [](char c) { return c >= '0' && c <= '9'; });
    const size_t id = number ? static_cast<size_t>(std::stoul(key)) : ids.size();
    if (id >= ids.size() || seen[id] || !value.is_string()) return {};
    seen[id] = true;
    labels[id] = value.get<std::string>();
  }
  return labels;
}

}  // namespace

std::vector<float> LatteConfigReader::floats(const char* key, double low, size_t count) {
  std::vector<float> result;
  for (const double number : fields_.numbers(key, low, kMaxNumber, count)) {
    result.push_back(static_cast<float>(number));
  }
  return result;
}

void LatteConfigReader::read_input() {
  config_.input = fields_.choice<LatteInput>("input",
                                             {
                                                 {"tokens", LatteInput::kTokens},
                                                 {"values", LatteInput::kValues},
                                                 {"pixels", LatteInput::kPixels},
                                                 {"pixels_conv", LatteInput::kPixelsConv},
                                             },
                                             LatteInput::kTokens);
  const bool tokens = config_.input == LatteInput::kTokens;
  const bool values = config_.input == LatteInput::kValues;
  const std::optional<uint32_t> none = tokens ? std::nullopt : std::optional<uint32_t>(0);
  config_.vocab_size = fields_.integer("vocab_size", tokens ? 1 : 0, 1u << 24, none);
  if (!tokens) config_.vocab_size = 0;
  const std::optional<uint32_t> no_values = values ? std::nullopt : std::optional<uint32_t>(0);
  config_.features = fields_.integer("num_features", values ? 1 : 0, kMaxExtent, no_values);
  if (values) {
    config_.input_mean = floats("input_mean", -kMaxNumber, config_.features);
    config_.input_deviation = floats("input_deviation", 1e-30, config_.features);
  } else {
    const double mean = fields_.number("input_mean", -kMaxNumber, kMaxNumber, 0.0);
    const double deviation = fields_.number("input_deviation", 1e-30, kMaxNumber, 1.0);
    config_.input_mean = {static_cast<float>(mean)};
    config_.input_deviation = {static_cast<float>(deviation)};
  }
  read_image();
}

void LatteConfigReader::read_image() {
  const bool pixels =
      config_.input == LatteInput::kPixels || config_.input == LatteInput::kPixelsConv;
  if (!fields_.has("image_size")) {
    if (pixels) fields_.missing("image_size", "[width, height] of the image");
    return;
  }
  const std::vector<uint32_t> size = fields_.integers("image_size", 1, kMaxPixels, 2);
  if (size.size() != 2) return;
  if (config_.input == LatteInput::kValues) {
    conflict("image_size is set, input \"values\" is no image");
    return;
  }
  config_.image_width = size[0];
  config_.image_height = size[1];
}

void LatteConfigReader::read_positions() {
  Positions& positions = config_.positions;
  positions.kind =
      fields_.choice<PositionKind>("positions", {
                                                    {"none", PositionKind::kNone},
                                                    {"sinusoidal", PositionKind::kSinusoidal},
                                                    {"learned", PositionKind::kLearned},
                                                });
  config_.trained_length = fields_.integer("max_position_embeddings", 1, 1u << 30, 0);
  const bool fp32_angles = fields_.boolean("positions_fp32_angles", false);
  const bool linformer = config_.mixer == LatteMixing::kLinformer;
  if (config_.trained_length == 0 && (positions.kind != PositionKind::kNone || linformer)) {
    const char* with = linformer                                  ? "linformer mixers"
                       : positions.kind == PositionKind::kLearned ? "learned positions"
                                                                  : "sinusoidal positions";
    fields_.missing("max_position_embeddings",
                    std::string("the number of positions, with ") + with);
  }
  if (positions.kind == PositionKind::kNone) return;
  positions.max_length = config_.trained_length;
  if (positions.kind != PositionKind::kSinusoidal) return;
  positions.fp32_angles = fp32_angles;
  if (config_.width % 2 != 0) {
    conflict("hidden_size is " + std::to_string(config_.width) +
             ", sinusoidal positions need an even one");
  }
}

int32_t LatteConfigReader::token_id(const char* key) {
  if (!fields_.has(key)) return -1;
  const uint32_t last = config_.vocab_size == 0 ? 0 : config_.vocab_size - 1;
  return static_cast<int32_t>(fields_.integer(key, 0, last));
}

void LatteConfigReader::read_head() {
  config_.head = fields_.choice<LatteOutput>("head",
                                             {
                                                 {"language", LatteOutput::kLanguage},
                                                 {"classifier", LatteOutput::kClassifier},
                                                 {"pair", LatteOutput::kPair},
                                                 {"regression", LatteOutput::kRegression},
                                                 {"embedding", LatteOutput::kEmbedding},
                                                 {"none", LatteOutput::kNone},
                                             },
                                             LatteOutput::kLanguage);
  read_language_head();
  read_classes();
  const std::optional<Pooling> no_pooling =
      config_.pools() ? std::nullopt : std::optional<Pooling>(Pooling::kMean);
  config_.pooling = fields_.choice<Pooling>(
      "pooling", {{"mean", Pooling::kMean}, {"last", Pooling::kLast}, {"first", Pooling::kFirst}},
      no_pooling);
  config_.unit_length = fields_.boolean("unit_length", false);
  read_regression();
  read_final_norm();
  if (config_.input == LatteInput::kTokens) {
    config_.bos_id = token_id("bos_token_id");
    config_.eos_id = token_id("eos_token_id");
    config_.pad_id = token_id("pad_token_id");
  } else {
    // Programs that write every key write these too; nothing reads them.
    for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) fields_.ignore(key);
  }
}

void LatteConfigReader::read_language_head() {
  config_.tied = fields_.boolean("tie_word_embeddings", false);
  config_.head_bias = fields_.boolean("head_bias", false);
  if (config_.head != LatteOutput::kLanguage) {
    config_.tied = config_.head_bias = false;
    return;
  }
  if (config_.input != LatteInput::kTokens) {
    conflict("head is \"language\", which needs input \"tokens\"");
  }
  if (ahead()) {
    unsupported(std::string("mixer is \"") + mixer_name() +
                "\" with head \"language\": each token would see the next one, which it is to "
                "predict");
  }
}

void LatteConfigReader::read_classes() {
  const bool classes =
      config_.head == LatteOutput::kClassifier || config_.head == LatteOutput::kPair;
  config_.classes = fields_.integer("num_labels", 1, kMaxExtent, 0);
  read_labels();
  if (!classes) {
    config_.classes = 0;
    config_.labels.clear();
    return;
  }
  if (config_.classes == 0) config_.classes = static_cast<uint32_t>(config_.labels.size());
  if (config_.classes == 0) fields_.missing("num_labels", "the number of classes");
  if (!config_.labels.empty() && config_.labels.size() != config_.classes) {
    conflict("num_labels is " + std::to_string(config_.classes) + ", but there are " +
             std::to_string(config_.labels.size()) + " labels");
  }
}

void LatteConfigReader::read_labels() {
  config_.labels = fields_.strings("labels", 0);
  const json* ids = fields_.object("id2label");
  if (ids == nullptr) return;
  const std::vector<std::string> named = labels_of_ids(*ids);
  if (named.empty()) {
    conflict("id2label is expected to give every id from 0 on a name");
  } else if (config_.labels.empty()) {
    config_.labels = named;
  } else if (config_.labels != named) {
    conflict("labels and id2label give different names");
  }
}

void LatteConfigReader::read_regression() {
  const bool regression = config_.head == LatteOutput::kRegression;
  const std::optional<uint32_t> none = regression ? std::nullopt : std::optional<uint32_t>(0);
  config_.outputs = fields_.integer("num_outputs", regression ? 1 : 0, kMaxExtent, none);
  config_.forecast_steps = fields_.integer("forecast_steps", 1, kMaxExtent, 1);
  for (const double level : fields_.numbers("quantiles", 0.0, 1.0, 0)) {
    config_.quantiles.push_back(static_cast<float>(level));
  }
  config_.output_mean = floats("output_mean", -kMaxNumber, config_.outputs);
  config_.output_deviation = floats("output_deviation", 1e-30, config_.outputs);
  if (!regression) return;
  const uint64_t levels = std::max<uint64_t>(1, config_.quantiles.size());
  const uint64_t row = uint64_t{config_.forecast_steps} * config_.outputs;
  if (row > kMaxExtent || row * levels > kMaxExtent) {
    conflict("forecast_steps times num_outputs times quantiles is " + std::to_string(row) +
             " times " + std::to_string(levels) + ", expected at most " +
             std::to_string(kMaxExtent));
  }
}

void LatteConfigReader::read_final_norm() {
  const bool classes =
      config_.head == LatteOutput::kClassifier || config_.head == LatteOutput::kPair;
  config_.final_norm = fields_.boolean("final_norm", config_.prenorm && !classes);
}

}  // namespace moka
