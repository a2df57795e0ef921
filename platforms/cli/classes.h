// How the classes of a classifier or of a comparison are shown.
#ifndef MOKA_PLATFORMS_CLI_CLASSES_H_
#define MOKA_PLATFORMS_CLI_CLASSES_H_

#include <cstddef>
#include <string>
#include <vector>

#include "moka/tasks.h"
#include "platforms/cli/json.h"

namespace moka::cli {

// {"label": "cat", "class": 3, "probability": 0.9, "probabilities": [...], "logits": [...]}, lists
// in the order of the classes.
Json classification_json(const Classification& result, const std::vector<std::string>& names);

// A table of the `top` most likely classes, best first.
std::string classification_table(const Classification& result,
                                 const std::vector<std::string>& names, size_t top);

// The same on one line, for many inputs: name, label, probability, label, probability, ...,
// between tabs.
std::string classification_line(const std::string& name, const Classification& result,
                                const std::vector<std::string>& names, size_t top);

}  // namespace moka::cli

#endif  // MOKA_PLATFORMS_CLI_CLASSES_H_
