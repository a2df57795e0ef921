// JSON on stdout. Keys keep the order in which they are set; bytes that are not UTF-8 become
// U+FFFD.
#ifndef MOKA_PLATFORMS_CLI_JSON_H_
#define MOKA_PLATFORMS_CLI_JSON_H_

#include <string>

#include "nlohmann/json.hpp"

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

}  // namespace moka::cli

#endif  // MOKA_PLATFORMS_CLI_JSON_H_
