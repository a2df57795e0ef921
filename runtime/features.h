// Features: names of what a model uses, by which an older reader refuses a file that it cannot run.
//
// A name is added when the format gains a member or field whose neglect would change the output;
// names are never changed or removed. schema/README.md lists them.
#ifndef MOKA_RUNTIME_FEATURES_H_
#define MOKA_RUNTIME_FEATURES_H_

#include <string_view>

#include "runtime/model_spec.h"

namespace moka {

// Whether this version knows the feature. Knowing is not running: check_supported has that word.
bool is_known_feature(std::string_view name);

// Names of the members as messages and features write them: "tokens", "macchiato", "gated".
const char* member_name(const Input& input);
const char* member_name(const Mixer& mixer);
const char* member_name(const FeedForward& feed_forward);
const char* member_name(const Head& head);

}  // namespace moka

#endif  // MOKA_RUNTIME_FEATURES_H_
