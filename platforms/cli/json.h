// JSON on stdout. Keys keep the order in which they are set; bytes that are not UTF-8 become
// U+FFFD.
#ifndef MOKA_PLATFORMS_CLI_JSON_H_
#define MOKA_PLATFORMS_CLI_JSON_H_

#include <cmath>
#include <cstdlib>
#include <string>

#include "moka/span.h"
#include "nlohmann/json.hpp"
#include "platforms/cli/terminal.h"

namespace moka::cli {

using Json = nlohmann::ordered_json;

// One object on one line, for streams of objects.
inline std::string json_line(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

// One document, indented.
inline std::string json_document(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

// float32 numbers as the shortest decimals that read back as the same float32; null for what JSON
// cannot write.
inline Json float_json(float value) {
  return std::isfinite(value) ? Json(std::strtod(float_text(value).c_str(), nullptr)) : Json();
}
inline Json floats_json(Span<const float> values) {
  Json json = Json::array();
  for (const float value : values) json.push_back(float_json(value));
  return json;
}

}  // namespace moka::cli

#endif  // MOKA_PLATFORMS_CLI_JSON_H_
