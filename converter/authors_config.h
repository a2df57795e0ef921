// config.yaml of the Latte authors' code, and what it and the tree of parameters tell together:
// specification 13, 14, 17.1, 18 and 19.3.
#ifndef MOKA_CONVERTER_AUTHORS_CONFIG_H_
#define MOKA_CONVERTER_AUTHORS_CONFIG_H_

#include <optional>
#include <string>

#include "converter/authors_tree.h"
#include "converter/model_source.h"
#include "moka/status.h"
#include "nlohmann/json.hpp"

namespace moka {

// `config` is the file at `path` as an object; `pad_id` is what the caller was told, if anything.
// kInvalidArgument: unknown keys, values that cannot be right or contradict the weights (both are
// shown), keys without which the model is not determined. kUnsupported: models whose code does not
// exist or does not compute what it says. Up to 20 problems in one message.
Result<ModelSource> read_authors_config(const AuthorsTree& tree, const nlohmann::json& config,
                                        const std::string& path, std::optional<int32_t> pad_id);

}  // namespace moka

#endif  // MOKA_CONVERTER_AUTHORS_CONFIG_H_
