#include "converter/json.h"

#include <cmath>
#include <cstdio>
#include <unordered_set>
#include <utility>

#include "converter/file.h"

namespace moka {
namespace {

using nlohmann::json;

constexpr size_t kMaxProblems = 20;
constexpr size_t kMaxDepth = 32;
constexpr size_t kMaxQuoted = 80;

// Walks the text without keeping it: syntax, depth, repeated keys.
class Validator : public nlohmann::json_sax<json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override { return enter(); }
  bool start_array(size_t) override { return enter(); }
  bool end_object() override { return leave(); }
  bool end_array() override { return leave(); }

  bool key(string_t& name) override {
    if (keys_.back().insert(name).second) return true;
    message_ = "the key " + in_quotes(name) + " appears twice in one object";
    return false;
  }

  bool parse_error(size_t position, const std::string& token,
                   const nlohmann::detail::exception&) override {
    message_ = "is not JSON at byte " + std::to_string(position) + ", near " + in_quotes(token);
    return false;
  }

  const std::string& message() const { return message_; }

 private:
  bool enter() {
    keys_.emplace_back();
    if (keys_.size() <= kMaxDepth) return true;
    message_ = "nests deeper than " + std::to_string(kMaxDepth);
    return false;
  }
  bool leave() {
    keys_.pop_back();
    return true;
  }

  std::vector<std::unordered_set<std::string>> keys_;  // one per open object or array
  std::string message_;
};

std::string shown(const json& value) {
  if (value.is_string()) return in_quotes(value.get_ref<const std::string&>());
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array";
  return value.dump(-1, ' ', true, json::error_handler_t::replace);
}

std::string number_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

}  // namespace

std::string in_quotes(std::string_view text) {
  std::string out = "\"";
  for (const char c : text.substr(0, kMaxQuoted)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f || c == '"' || c == '\\') {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\x%02x", static_cast<unsigned>(byte));
      out += escape;
    } else {
      out += c;
    }
  }
  return out + (text.size() > kMaxQuoted ? "...\"" : "\"");
}

void Problems::add(StatusCode code, std::string message) {
  if (count_ == 0) code_ = code;
  ++count_;
  if (messages_.size() < kMaxProblems) messages_.push_back(std::move(message));
}

Status Problems::status(const std::string& where) const {
  if (count_ == 0) return Status();
  if (count_ == 1) return Status(code_, where + ": " + messages_[0]);
  std::string text = where + ": " + std::to_string(count_) + " problems:";
  for (const std::string& message : messages_) text += "\n  " + message;
  if (count_ > messages_.size()) {
    text += "\n  and " + std::to_string(count_ - messages_.size()) + " more";
  }
  return Status(code_, text);
}

Result<json> parse_json(std::string_view text, const std::string& where) {
  Validator validator;
  if (!json::sax_parse(text.begin(), text.end(), &validator)) {
    return Status(StatusCode::kCorrupt, where + ": " + validator.message());
  }
  json value = json::parse(text.begin(), text.end(), nullptr, false);
  if (value.is_discarded()) return Status(StatusCode::kCorrupt, where + ": is not JSON");
  return value;
}

Result<json> read_json_file(const std::string& path, uint64_t max_bytes) {
  MOKA_ASSIGN_OR_RETURN(const std::string text, read_text_file(path, max_bytes));
  return parse_json(text, path);
}

JsonFields::JsonFields(const json& object, Problems* problems)
    : object_(object), problems_(problems) {}

const json* JsonFields::take(const char* key) {
  known_.insert(key);
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

bool JsonFields::has(const char* key) { return take(key) != nullptr; }

bool JsonFields::is_null(const char* key) {
  known_.insert(key);
  const auto found = object_.find(key);
  return found != object_.end() && found->is_null();
}

void JsonFields::wrong(StatusCode code, const std::string& key, const json& value,
                       const std::string& expected) {
  problems_->add(code, key + " is " + shown(value) + ", expected " + expected);
}

void JsonFields::missing(const std::string& key, const std::string& expected) {
  problems_->add(StatusCode::kInvalidArgument, key + " is missing, expected " + expected);
}

uint32_t JsonFields::integer(const char* key, uint32_t low, uint32_t high,
                             std::optional<uint32_t> fallback) {
  const std::string expected =
      "an integer from " + std::to_string(low) + " to " + std::to_string(high);
  const json* value = take(key);
  if (value == nullptr) {
    if (!fallback) missing(key, expected);
    return fallback.value_or(0);
  }
  if (value->is_number_unsigned()) {
    const auto number = value->get<uint64_t>();
    if (number >= low && number <= high) return static_cast<uint32_t>(number);
  }
  wrong(StatusCode::kInvalidArgument, key, *value, expected);
  return fallback.value_or(low);
}

double JsonFields::number(const char* key, double low, double high,
                          std::optional<double> fallback) {
  const std::string expected = "a number from " + number_text(low) + " to " + number_text(high);
  const json* value = take(key);
  if (value == nullptr) {
    if (!fallback) missing(key, expected);
    return fallback.value_or(0.0);
  }
  if (value->is_number()) {
    const auto number = value->get<double>();
    if (number >= low && number <= high) return number;
  }
  wrong(StatusCode::kInvalidArgument, key, *value, expected);
  return fallback.value_or(low);
}

bool JsonFields::boolean(const char* key, std::optional<bool> fallback) {
  const json* value = take(key);
  if (value == nullptr) {
    if (!fallback) missing(key, "true or false");
    return fallback.value_or(false);
  }
  if (value->is_boolean()) return value->get<bool>();
  wrong(StatusCode::kInvalidArgument, key, *value, "true or false");
  return fallback.value_or(false);
}

std::string JsonFields::text(const char* key, const std::string& fallback) {
  const json* value = take(key);
  if (value == nullptr) return fallback;
  if (value->is_string()) return value->get<std::string>();
  wrong(StatusCode::kInvalidArgument, key, *value, "a string");
  return fallback;
}

const json* JsonFields::object(const char* key) {
  const json* value = take(key);
  if (value == nullptr || value->is_object()) return value;
  wrong(StatusCode::kInvalidArgument, key, *value, "an object or null");
  return nullptr;
}

const json* JsonFields::list(const char* key, size_t count, const std::string& of_what) {
  const json* value = take(key);
  if (value == nullptr) return nullptr;
  const std::string size = count == 0 ? "" : std::to_string(count) + " ";
  if (!value->is_array()) {
    wrong(StatusCode::kInvalidArgument, key, *value, "a list of " + size + of_what);
    return nullptr;
  }
  if (count != 0 && value->size() != count) {
    problems_->add(StatusCode::kInvalidArgument, std::string(key) + " has " +
                                                     std::to_string(value->size()) +
                                                     " entries, expected " + size + of_what);
    return nullptr;
  }
  return value;
}

void JsonFields::wrong_entry(const char* key, size_t index, const json& value,
                             const std::string& expected) {
  wrong(StatusCode::kInvalidArgument, std::string(key) + "[" + std::to_string(index) + "]", value,
        expected);
}

std::vector<double> JsonFields::numbers(const char* key, double low, double high, size_t count) {
  const json* value = list(key, count, "numbers");
  std::vector<double> result;
  for (size_t i = 0; value != nullptr && i < value->size(); ++i) {
    const json& entry = (*value)[i];
    const double number = entry.is_number() ? entry.get<double>() : std::nan("");
    if (!(number >= low && number <= high)) {
      wrong_entry(key, i, entry, "a number from " + number_text(low) + " to " + number_text(high));
      return {};
    }
    result.push_back(number);
  }
  return result;
}

std::vector<uint32_t> JsonFields::integers(const char* key, uint32_t low, uint32_t high,
                                           size_t count) {
  const json* value = list(key, count, "integers");
  std::vector<uint32_t> result;
  for (size_t i = 0; value != nullptr && i < value->size(); ++i) {
    const json& entry = (*value)[i];
    const bool right =
        entry.is_number_unsigned() && entry.get<uint64_t>() >= low && entry.get<uint64_t>() <= high;
    if (!right) {
      wrong_entry(key, i, entry,
                  "an integer from " + std::to_string(low) + " to " + std::to_string(high));
      return {};
    }
    result.push_back(static_cast<uint32_t>(entry.get<uint64_t>()));
  }
  return result;
}

std::vector<std::string> JsonFields::strings(const char* key, size_t count) {
  const json* value = list(key, count, "strings");
  std::vector<std::string> result;
  for (size_t i = 0; value != nullptr && i < value->size(); ++i) {
    if (!(*value)[i].is_string()) {
      wrong_entry(key, i, (*value)[i], "a string");
      return {};
    }
    result.push_back((*value)[i].get<std::string>());
  }
  return result;
}

void JsonFields::finish() {
  for (const auto& [key, value] : object_.items()) {
    if (known_.count(key) == 0) {
      problems_->add(StatusCode::kInvalidArgument,
                     "the key " + in_quotes(key) + " is not known (its value is " + shown(value) +
                         "); remove it if it does not change what the model computes");
    }
  }
}

}  // namespace moka
