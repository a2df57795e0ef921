// The subset of YAML that flat configurations are written in: one `key: value` per line.
//
// Values mean what PyYAML's safe_load, which the trainers use, makes of them (YAML 1.1): numbers,
// true/false/yes/no/on/off, null, strings with or without quotes; `#` begins a comment. Whatever
// else YAML has (nesting, lists, anchors, tags, block texts, several documents) is refused with its
// line, never guessed at: a key that is read wrongly gives a model that computes something else.
#ifndef MOKA_CONVERTER_FLAT_YAML_H_
#define MOKA_CONVERTER_FLAT_YAML_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "moka/status.h"
#include "nlohmann/json.hpp"

namespace moka {

// An object of numbers, booleans, nulls and strings. kCorrupt with the line that is not YAML, or
// repeats a key; kUnsupported with the line that is YAML of another kind. `where` begins messages.
Result<nlohmann::json> parse_flat_yaml(std::string_view text, const std::string& where);

// A configuration by its content: JSON when it begins with '{', else as above. Also kNotFound, kIo,
// kOutOfRange.
Result<nlohmann::json> read_config_file(const std::string& path, uint64_t max_bytes);

}  // namespace moka

#endif  // MOKA_CONVERTER_FLAT_YAML_H_
