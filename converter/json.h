// JSON of unknown origin: parsed with bounds, read with types, all mistakes told at once.
#ifndef MOKA_CONVERTER_JSON_H_
#define MOKA_CONVERTER_JSON_H_

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "moka/status.h"
#include "nlohmann/json.hpp"

namespace moka {

// The text in quotes for a message: control characters escaped, cut after 80 bytes.
std::string in_quotes(std::string_view text);

// What is wrong with an input, gathered so that a person mends it in one go. Keeps the first 20.
class Problems {
 public:
  void add(StatusCode code, std::string message);
  size_t size() const { return count_; }
  // The code of the first problem; `where` begins the message. Ok when there is none.
  Status status(const std::string& where) const;

 private:
  StatusCode code_ = StatusCode::kOk;
  std::vector<std::string> messages_;
  size_t count_ = 0;
};

// kCorrupt with the byte where `text` stops being JSON, nests deeper than 32, or repeats a key in
// one object (which readers would understand in different ways).
Result<nlohmann::json> parse_json(std::string_view text, const std::string& where);

// The same from a file of at most `max_bytes`; also kNotFound, kIo, kOutOfRange.
Result<nlohmann::json> read_json_file(const std::string& path, uint64_t max_bytes);

// A named value of an enum. One that is not `supported` is valid and refused by its name.
template <class E>
struct Choice {
  const char* name;
  E value;
  bool supported = true;
};

// Reads the keys of one object. Absent and null are the same. Without a fallback a key is required.
// Every mistake goes to `problems`, and the call returns the fallback or the type's zero.
class JsonFields {
 public:
  // `object` and `problems` outlive the reader.
  JsonFields(const nlohmann::json& object, Problems* problems);

  bool has(const char* key);      // present and not null
  bool is_null(const char* key);  // present and null
  uint32_t integer(const char* key, uint32_t low, uint32_t high,
                   std::optional<uint32_t> fallback = std::nullopt);
  double number(const char* key, double low, double high,
                std::optional<double> fallback = std::nullopt);
  bool boolean(const char* key, std::optional<bool> fallback = std::nullopt);
  std::string text(const char* key, const std::string& fallback);
  const nlohmann::json* object(const char* key);  // null when absent or no object
  // Lists; empty when absent or wrong. `count` 0: any number of entries.
  std::vector<double> numbers(const char* key, double low, double high, size_t count);
  std::vector<uint32_t> integers(const char* key, uint32_t low, uint32_t high, size_t count);
  std::vector<std::string> strings(const char* key, size_t count);

  template <class E>
  E choice(const char* key, std::initializer_list<Choice<E>> choices,
           std::optional<E> fallback = std::nullopt) {
    std::string expected;
    for (const Choice<E>& c : choices) {
      if (c.supported) expected += (expected.empty() ? "\"" : ", \"") + std::string(c.name) + "\"";
    }
    const nlohmann::json* value = take(key);
    if (value == nullptr) {
      if (!fallback) missing(key, "one of " + expected);
      return fallback.value_or(E{});
    }
    for (const Choice<E>& c : choices) {
      if (!value->is_string() || value->get_ref<const std::string&>() != c.name) continue;
      if (!c.supported) wrong(StatusCode::kUnsupported, key, *value, "one of " + expected);
      return c.value;
    }
    wrong(StatusCode::kInvalidArgument, key, *value, "one of " + expected);
    return fallback.value_or(E{});
  }

  // Says that a key has the value shown and what would be right.
  void wrong(StatusCode code, const std::string& key, const nlohmann::json& value,
             const std::string& expected);
  void missing(const std::string& key, const std::string& expected);
  // Lets a key be there without reading it.
  void ignore(const char* key) { known_.insert(key); }
  // Every key that nobody asked for is a problem.
  void finish();

 private:
  const nlohmann::json* take(const char* key);
  // The entries of a list; null when absent, or wrong, which then is a problem.
  const nlohmann::json* list(const char* key, size_t count, const std::string& of_what);
  void wrong_entry(const char* key, size_t index, const nlohmann::json& value,
                   const std::string& expected);

  const nlohmann::json& object_;
  Problems* problems_;
  std::set<std::string> known_;
};

}  // namespace moka

#endif  // MOKA_CONVERTER_JSON_H_
