// The rules of a tokenizer.json (everything but vocabulary and merges) as members of TokenizerSpec.
// Used by tokenizer_json.cc alone.
#ifndef MOKA_CONVERTER_TOKENIZER_RULES_H_
#define MOKA_CONVERTER_TOKENIZER_RULES_H_

#include <initializer_list>
#include <string>

#include "moka/status.h"
#include "nlohmann/json.hpp"
#include "runtime/model_spec.h"

namespace moka::tokenizer_json {

using Json = nlohmann::json;

// A place in the document, for messages: "tokenizer.json: model.vocab".
struct Place {
  std::string file, path;
  Place operator/(const std::string& member) const {
    return {file, path.empty() ? member : path + "." + member};
  }
  Place operator[](size_t index) const { return {file, path + "[" + std::to_string(index) + "]"}; }
  Status error(StatusCode code, const std::string& what) const {
    return Status(code, file + ": " + (path.empty() ? "" : path + ": ") + what);
  }
  Status corrupt(const std::string& what) const { return error(StatusCode::kCorrupt, what); }
  Status unsupported(const std::string& what) const {
    return error(StatusCode::kUnsupported, what);
  }
};

// kCorrupt if `object` is no object, kUnsupported for a member that is not in `known`.
Status only_members(const Json& object, const Place& place,
                    std::initializer_list<const char*> known);

// Members with a default for absent and null ones; kCorrupt for another type.
Result<bool> bool_member(const Json& object, const Place& place, const char* name, bool absent);
Result<std::string> string_member(const Json& object, const Place& place, const char* name,
                                  const std::string& absent);

// GPT-2's split rule, which ByteLevel has built in.
extern const char kGpt2Pattern[];

Status read_normalizer(const Json& json, const Place& place, TokenizerSpec* spec);
// With `byte_level` it ends with ByteLevel; without, it has none and may have Metaspace.
Status read_pre_tokenizer(const Json& json, const Place& place, bool byte_level,
                          TokenizerSpec* spec);
// ByteLevel and templates that put one token in front and one behind: add_bos, add_eos and, where
// they are still -1, bos_id and eos_id.
Status read_post_processor(const Json& json, const Place& place, TokenizerSpec* spec);
// With `byte_level` it is ByteLevel; without, what turns marks into spaces and bytes into text.
Status read_decoder(const Json& json, const Place& place, bool byte_level);

}  // namespace moka::tokenizer_json

#endif  // MOKA_CONVERTER_TOKENIZER_RULES_H_
