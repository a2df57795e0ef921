// Checks of what a caller gives a model to read: kinds, ids, finiteness, limits.
#ifndef MOKA_RUNTIME_CHECK_STEPS_H_
#define MOKA_RUNTIME_CHECK_STEPS_H_

#include <cstddef>
#include <cstdint>

#include "moka/model.h"
#include "moka/span.h"
#include "moka/status.h"

namespace moka {

// kInvalidArgument when the model reads something else; kOutOfRange names a token outside the
// vocabulary and its place.
Status check_tokens(const ModelInfo& info, Span<const TokenId> tokens);
// kInvalidArgument: the model reads tokens, values that are not whole steps, or one that is not
// finite, with its place.
Status check_values(const ModelInfo& info, Span<const float> values);
// kOutOfRange when `count` more steps after `position` exceed the model's limit.
Status check_positions(const ModelInfo& info, uint64_t position, size_t count);

}  // namespace moka

#endif  // MOKA_RUNTIME_CHECK_STEPS_H_
