#include "converter/flat_yaml.h"

#include <charconv>
#include <cstdlib>
#include <string>

#include "converter/file.h"
#include "converter/json.h"

namespace moka {
namespace {

using nlohmann::json;

constexpr const char* kBlanks = " \t";

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// One line: what is left of it to read, and how to complain about it.
class Line {
 public:
  Line(std::string_view text, const std::string& where, size_t number)
      : rest_(text), where_(where), number_(number) {}

  Status fail(StatusCode code, const std::string& what) const {
    return Status(code, where_ + ": line " + std::to_string(number_) + " " + what);
  }
  Status other_yaml(const std::string& what) const {
    return fail(StatusCode::kUnsupported, what + ", expected `key: value`");
  }

  // Nothing but blanks or a comment.
  bool empty() const {
    const size_t first = rest_.find_first_not_of(kBlanks);
    return first == std::string_view::npos || rest_[first] == '#';
  }

  // "key" of "key: value"; the value is left.
  Result<std::string> key() {
    if (rest_.find_first_of(kBlanks) == 0) return other_yaml("is indented");
    const char first = rest_.front();
    if (rest_.rfind("- ", 0) == 0 || rest_ == "-") return other_yaml("is an entry of a list");
    if (first == '"' || first == '\'') {
      MOKA_ASSIGN_OR_RETURN(const std::string name, quoted());
      if (rest_.empty() || rest_.front() != ':') return no_key();
      rest_.remove_prefix(1);
      return name;
    }
    if (std::string_view("[]{},&*!|>%@`?").find(first) != std::string_view::npos) {
      return other_yaml("begins with '" + std::string(1, first) + "'");
    }
    for (size_t i = 0; i < rest_.size(); ++i) {
      if (rest_[i] == '#' && (rest_[i - 1] == ' ' || rest_[i - 1] == '\t')) break;
      if (rest_[i] != ':') continue;
      if (i + 1 < rest_.size() && rest_[i + 1] != ' ' && rest_[i + 1] != '\t') continue;
      std::string name(rest_.substr(0, i));
      name.erase(name.find_last_not_of(kBlanks) + 1);
      rest_.remove_prefix(i + 1);
      return name;
    }
    return no_key();
  }

  Result<json> value() {
    skip_blanks();
    if (rest_.empty() || rest_.front() == '#') return json();
    const char first = rest_.front();
    if (first == '"' || first == '\'') {
      MOKA_ASSIGN_OR_RETURN(const std::string text, quoted());
      if (!empty()) {
        return fail(StatusCode::kCorrupt, "has more after the quoted value: " + in_quotes(rest_));
      }
      return json(text);
    }
    if (std::string_view("[]{},&*!|>%@`").find(first) != std::string_view::npos) {
      return other_yaml("has a value that begins with '" + std::string(1, first) + "'");
    }
    return plain();
  }

 private:
  Status no_key() const {
    return fail(StatusCode::kCorrupt, "is " + in_quotes(rest_) + ", expected `key: value`");
  }

  void skip_blanks() {
    const size_t first = rest_.find_first_not_of(kBlanks);
    rest_.remove_prefix(first == std::string_view::npos ? rest_.size() : first);
  }

  // A string in quotes at the beginning of what is left.
  Result<std::string> quoted() {
    const char quote = rest_.front();
    std::string text;
    for (size_t i = 1; i < rest_.size(); ++i) {
      const char c = rest_[i];
      const char next = i + 1 < rest_.size() ? rest_[i + 1] : '\0';
      if (quote == '\'' && c == '\'' && next == '\'') {
        text += c;
        ++i;
      } else if (c == quote) {
        rest_.remove_prefix(i + 1);
        return text;
      } else if (quote == '"' && c == '\\') {
        if (next != '\\' && next != '"' && next != '/') {
          return other_yaml("has the escape \\" + std::string(1, next));
        }
        text += next;
        ++i;
      } else {
        text += c;
      }
    }
    return fail(StatusCode::kCorrupt, "opens a quote that it does not close");
  }

  // A value without quotes, up to a comment.
  Result<json> plain() {
    std::string_view text = rest_;
    for (size_t i = 1; i < text.size(); ++i) {
      if (text[i] == '#' && (text[i - 1] == ' ' || text[i - 1] == '\t')) text = text.substr(0, i);
    }
    text = text.substr(0, text.find_last_not_of(kBlanks) + 1);
    if (text.find(": ") != std::string_view::npos || text.back() == ':') {
      return fail(StatusCode::kCorrupt, "has a second key in its value " + in_quotes(text));
    }
    for (const char* word : {"~", "null", "Null", "NULL"}) {
      if (text == word) return json();
    }
    for (const char* word : {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"}) {
      if (text == word) return json(true);
    }
    for (const char* word : {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"}) {
      if (text == word) return json(false);
    }
    return number_or_text(text);
  }

  // YAML 1.1 reads 010 as 8, 1:30 as 90 and 1_000 as 1000. Nobody writes such a number on purpose.
  Result<json> number_or_text(std::string_view text) const {
    const std::string digits(text.substr(text.front() == '-' || text.front() == '+' ? 1 : 0));
    if (digits.empty() || !(is_digit(digits.front()) || digits.front() == '.')) {
      return json(std::string(text));
    }
    const bool integer = digits.find_first_not_of("0123456789") == std::string::npos;
    if (integer && (digits == "0" || digits.front() != '0')) {
      int64_t value = 0;
      const char* begin = text.data() + (text.front() == '+' ? 1 : 0);
      const auto read = std::from_chars(begin, text.data() + text.size(), value);
      if (read.ec == std::errc()) {
        return value < 0 ? json(value) : json(static_cast<uint64_t>(value));
      }
    }
    const bool odd_number =
        integer ||
        (digits.front() != '.' && digits.find_first_not_of("0123456789_:") == std::string::npos);
    if (odd_number) {
      return other_yaml("has the number " + in_quotes(text) +
                        ", which programs read in different ways");
    }
    if (digits.find_first_not_of("0123456789.eE+-") == std::string::npos) {
      char* end = nullptr;
      const std::string copy(text);
      const double value = std::strtod(copy.c_str(), &end);
      if (*end == '\0') return json(value);
    }
    return json(std::string(text));
  }

  std::string_view rest_;
  const std::string& where_;
  const size_t number_;
};

}  // namespace

Result<json> parse_flat_yaml(std::string_view text, const std::string& where) {
  json object = json::object();
  if (text.rfind("\xef\xbb\xbf", 0) == 0) text.remove_prefix(3);
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = text.find('\n');
    std::string_view raw = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (!raw.empty() && raw.back() == '\r') raw.remove_suffix(1);
    Line line(raw, where, number);
    if (line.empty() || (raw == "---" && object.empty())) continue;
    if (raw.find('\0') != std::string_view::npos) {
      return line.fail(StatusCode::kCorrupt, "is no text");
    }
    if (raw == "---" || raw == "...") return line.other_yaml("begins another document");
    MOKA_ASSIGN_OR_RETURN(const std::string key, line.key());
    MOKA_ASSIGN_OR_RETURN(json value, line.value());
    if (!object.emplace(key, std::move(value)).second) {
      return line.fail(StatusCode::kCorrupt, "repeats the key " + in_quotes(key));
    }
  }
  return object;
}

Result<json> read_config_file(const std::string& path, uint64_t max_bytes) {
  MOKA_ASSIGN_OR_RETURN(const std::string text, read_text_file(path, max_bytes));
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first != std::string::npos && text[first] == '{') return parse_json(text, path);
  return parse_flat_yaml(text, path);
}

}  // namespace moka
