#include "platforms/cli/sample.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "platforms/cli/batch.h"
#include "platforms/cli/csv.h"
#include "platforms/cli/image.h"
#include "platforms/cli/input.h"
#include "platforms/cli/terminal.h"
#include "runtime/model_spec.h"

namespace moka::cli {
namespace {

constexpr char kNpyMagic[] = "\x93NUMPY";

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

bool is_npy(std::string_view bytes) { return bytes.substr(0, 6) == std::string_view(kNpyMagic, 6); }

Status invalid(const std::string& name, const std::string& words) {
  return Status(StatusCode::kInvalidArgument, name + ": " + words);
}

// UTF-16 looks like text and would be read as nonsense.
bool is_utf16(std::string_view text) {
  return text.substr(0, 2) == "\xff\xfe" || text.substr(0, 2) == "\xfe\xff";
}

bool reads_bytes(const TokenizerSpec& tokenizer) { return tokenizer.kind == TokenizerKind::kBytes; }

// A number from -2^31 to 2^31 - 1 that is whole.
bool to_id(const Json& value, TokenId* id) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned() && value.get<uint64_t>() > INT32_MAX) return false;
  const auto number = value.get<int64_t>();
  if (number < INT32_MIN || number > INT32_MAX) return false;
  *id = static_cast<TokenId>(number);
  return true;
}

}  // namespace

SequenceInput Sample::input() const {
  if (!tokens.empty()) return Span<const TokenId>(tokens);
  return Span<const float>(values);
}

std::string_view without_newline(std::string_view text) {
  if (ends_with(text, "\n")) text.remove_suffix(1);
  if (ends_with(text, "\r")) text.remove_suffix(1);
  return text;
}

Status check_reads_text(const Model& model, const std::string& name) {
  const ModelInfo& info = model.info();
  if (info.input != InputKind::kTokens || info.image_width != 0) {
    return invalid(name, "this model reads " + reads_words(info) + ", not text");
  }
  if (!model.has_tokenizer()) {
    return invalid(name, "the model has no tokenizer, so it cannot read text; give token ids");
  }
  return Status();
}

Status check_text(const Model& model, std::string_view text, const std::string& name) {
  MOKA_RETURN_IF_ERROR(check_reads_text(model, name));
  if (text.empty()) return invalid(name, "the text is empty");
  if (is_utf16(text) && !reads_bytes(*model.spec().tokenizer)) {
    return invalid(name, "the text is UTF-16; models read UTF-8 (iconv -f UTF-16 -t UTF-8)");
  }
  return Status();
}

size_t SampleReader::token_limit() const {
  const auto& tokenizer = model_->spec().tokenizer;
  const uint64_t position_limit = model_->info().position_limit;
  const uint64_t training = tokenizer && truncate_ ? tokenizer->max_length : 0;
  if (position_limit == 0 || training == 0) return static_cast<size_t>(position_limit + training);
  return static_cast<size_t>(std::min(position_limit, training));
}

Result<Sample> SampleReader::from_text(std::string_view text, const std::string& name) const {
  MOKA_RETURN_IF_ERROR(check_text(*model_, text, name));
  const TokenizerSpec& rules = *model_->spec().tokenizer;
  Sample sample;
  sample.name = name;
  if (rules.add_bos && rules.bos_id >= 0) sample.tokens.push_back(rules.bos_id);
  const Status encoded = model_->tokenizer().encode(text, &sample.tokens, false);
  if (!encoded.ok()) return Status(encoded.code(), name + ": " + encoded.message());
  const bool eos = rules.add_eos && rules.eos_id >= 0;
  if (eos) sample.tokens.push_back(rules.eos_id);
  if (sample.tokens.empty()) return invalid(name, "the text has no tokens");
  const size_t limit = token_limit();
  if (truncate_ && limit != 0 && sample.tokens.size() > limit) {
    sample.tokens.resize(limit);
    if (eos) sample.tokens.back() = rules.eos_id;
  }
  MOKA_RETURN_IF_ERROR(check_length(sample.tokens.size(), name));
  note_length(sample.tokens.size());
  return sample;
}

void SampleReader::note_length(uint64_t tokens) const {
  const auto& rules = model_->spec().tokenizer;
  if (truncate_ || !rules || rules->max_length == 0 || tokens <= rules->max_length) return;
  note_ = "longer than the " + with_commas(rules->max_length) +
          " tokens that texts were cut to in training; --truncate cuts them too";
}

Status SampleReader::check_length(size_t steps, const std::string& name) const {
  const ModelInfo& info = model_->info();
  if (info.position_limit == 0 || steps <= info.position_limit) return Status();
  const bool text = info.input == InputKind::kTokens;
  return Status(StatusCode::kOutOfRange,
                name + ": " + with_commas(steps) + (text ? " tokens" : " steps") +
                    "; the model reads at most " + with_commas(info.position_limit) +
                    (text ? " (--truncate keeps the start of a text)" : ""));
}

Result<std::vector<Sample>> SampleReader::from_array(std::string_view bytes,
                                                     const std::string& name) const {
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  MOKA_ASSIGN_OR_RETURN(const NpyArray array,
                        parse_npy(Span<const uint8_t>(data, bytes.size()), name));
  ModelInfo info = model_->info();
  info.output = OutputKind::kHidden;  // one sequence each, also for a model that compares two
  MOKA_ASSIGN_OR_RETURN(const Batch batch, batch_of(array, info, name));
  std::vector<Sample> samples(batch.sequences);
  for (size_t i = 0; i < samples.size(); i++) {
    const SequenceInput one = batch.sequence(i);
    samples[i].tokens.assign(one.tokens.begin(), one.tokens.end());
    samples[i].values.assign(one.values.begin(), one.values.end());
    samples[i].name = batch.batched ? name + "[" + std::to_string(i) + "]" : name;
  }
  return samples;
}

Result<std::vector<Sample>> SampleReader::from_file(const std::string& path) const {
  const ModelInfo& info = model_->info();
  const std::string name = path == "-" ? "standard input" : path;
  MOKA_ASSIGN_OR_RETURN(const std::string bytes, read_text(path));
  if (bytes.empty()) return invalid(name, "is empty");
  const bool text = info.input == InputKind::kTokens && info.image_width == 0;
  if (is_npy(bytes) && (!text || ends_with(path, ".npy"))) return from_array(bytes, name);
  if (ends_with(path, ".npy")) return Status(StatusCode::kCorrupt, name + ": not a .npy array");
  if (text) {
    MOKA_RETURN_IF_ERROR(check_reads_text(*model_, name));
    if (image_format(bytes) == ImageFormat::kPng && !reads_bytes(*model_->spec().tokenizer)) {
      return invalid(name, "a PNG image; this model reads text");
    }
    const std::string_view content = without_newline(bytes);
    if (content.empty()) return invalid(name, "the text is empty");
    MOKA_ASSIGN_OR_RETURN(Sample sample, from_text(content, name));
    return std::vector<Sample>{std::move(sample)};
  }
  Sample sample;
  sample.name = name;
  if (info.image_width != 0) {
    MOKA_ASSIGN_OR_RETURN(sample.values,
                          read_grey_image(bytes, name, info.image_width, info.image_height));
    if (info.input == InputKind::kTokens) {  // grey levels, cut to whole numbers as in training
      for (const float grey : sample.values) sample.tokens.push_back(static_cast<TokenId>(grey));
      sample.values.clear();
    }
  } else {
    MOKA_ASSIGN_OR_RETURN(Series series, parse_series(bytes, {}, info.features, name));
    sample.values = std::move(series.values);
    MOKA_RETURN_IF_ERROR(check_length(series.steps, name));
  }
  return std::vector<Sample>{std::move(sample)};
}

Result<Sample> SampleReader::from_ids(const Json& array, const std::string& name) const {
  const ModelInfo& info = model_->info();
  if (info.input != InputKind::kTokens) {
    return invalid(name, "this model reads " + reads_words(info) + ", not token ids");
  }
  Sample sample;
  sample.name = name;
  sample.tokens.resize(array.size());
  for (size_t i = 0; i < array.size(); i++) {
    TokenId id = 0;
    if (!to_id(array[i], &id) || id < 0 || static_cast<uint32_t>(id) >= info.vocab_size) {
      return Status(StatusCode::kOutOfRange, name + "[" + std::to_string(i) +
                                                 "]: " + array[i].dump().substr(0, 40) +
                                                 " is no token id; this model's are 0 to " +
                                                 std::to_string(info.vocab_size - 1));
    }
    sample.tokens[i] = id;
  }
  if (sample.tokens.empty()) return invalid(name, "no token ids");
  MOKA_RETURN_IF_ERROR(check_length(sample.tokens.size(), name));
  return sample;
}

// Flattens a list of numbers, or of lists of numbers: steps, or rows of a picture.
Result<std::vector<float>> SampleReader::numbers_of(const Json& array,
                                                    const std::string& name) const {
  if (!array.is_array()) return invalid(name, "is not a list");
  const ModelInfo& info = model_->info();
  const size_t row_size = info.input == InputKind::kPixels ? info.image_width : info.features;
  std::vector<float> numbers;
  const auto add = [&](const Json& number) {
    const float value = number.is_number() ? static_cast<float>(number.get<double>()) : NAN;
    numbers.push_back(value);
    return std::isfinite(value);
  };
  const auto no_number = [&](const Json& number, const std::string& place) {
    return invalid(place, number.dump().substr(0, 40) +
                              " is not a number of float32; models need every value");
  };
  for (size_t i = 0; i < array.size(); i++) {
    const auto place = [&] { return name + "[" + std::to_string(i) + "]"; };
    if (!array[i].is_array()) {
      if (!add(array[i])) return no_number(array[i], place());
      continue;
    }
    if (array[i].size() != row_size) {
      return invalid(place(), std::to_string(array[i].size()) +
                                  " numbers in a row; this model reads " + reads_words(info));
    }
    for (size_t j = 0; j < row_size; j++) {
      if (!add(array[i][j])) return no_number(array[i][j], place() + "[" + std::to_string(j) + "]");
    }
  }
  if (numbers.empty()) return invalid(name, "no numbers");
  if (info.input == InputKind::kValues && numbers.size() % info.features != 0) {
    return invalid(name, std::to_string(numbers.size()) +
                             " numbers are not whole steps; this model reads " + reads_words(info));
  }
  return numbers;
}

Result<Sample> SampleReader::from_values(const Json& array, const std::string& name) const {
  const ModelInfo& info = model_->info();
  if (info.input == InputKind::kTokens) {
    return invalid(name, "this model reads token ids, not numbers; give \"ids\"" +
                             std::string(model_->has_tokenizer() ? " or \"text\"" : ""));
  }
  Sample sample;
  sample.name = name;
  MOKA_ASSIGN_OR_RETURN(sample.values, numbers_of(array, name));
  const size_t count = sample.values.size();
  const size_t image = size_t{info.image_width} * info.image_height;
  if (image != 0 && count != image) {
    return invalid(name, std::to_string(count) + " numbers; this model reads " + reads_words(info) +
                             ", " + std::to_string(image) + " numbers");
  }
  if (image == 0) MOKA_RETURN_IF_ERROR(check_length(count / info.features, name));
  return sample;
}

Result<Sample> SampleReader::from_object(const Json& object) const {
  const char* found = nullptr;
  for (const char* key : {"text", "ids", "values"}) {
    if (!object.contains(key)) continue;
    if (found != nullptr) {
      return invalid("the object", std::string("has both \"") + found + "\" and \"" + key + "\"");
    }
    found = key;
  }
  if (found == nullptr) {
    return invalid("the object", "has none of \"text\", \"ids\" and \"values\"");
  }
  const std::string name = "\"" + std::string(found) + "\"";
  const Json& value = object.at(found);
  const bool text = std::strcmp(found, "text") == 0;
  if (text ? !value.is_string() : !value.is_array()) {
    return invalid(name, std::string("is not a ") + (text ? "string" : "list"));
  }
  if (text) return from_text(value.get_ref<const std::string&>(), name);
  return std::strcmp(found, "ids") == 0 ? from_ids(value, name) : from_values(value, name);
}

Result<Sample> SampleReader::from_value(const Json& value, const std::string& name) const {
  if (value.is_string()) return from_text(value.get_ref<const std::string&>(), name);
  if (!value.is_array()) return invalid(name, "is neither a text nor a list of numbers");
  if (model_->info().input == InputKind::kTokens) return from_ids(value, name);
  return from_values(value, name);
}

}  // namespace moka::cli
