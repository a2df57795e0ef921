#include "runtime/check_steps.h"

#include <cmath>
#include <string>

namespace moka {

Status check_tokens(const ModelInfo& info, Span<const TokenId> tokens) {
  if (info.input != InputKind::kTokens) {
    return Status(StatusCode::kInvalidArgument,
                  "tokens were given, but the model reads " + std::to_string(info.features) +
                      (info.features == 1 ? " number per step" : " numbers per step"));
  }
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= 0 && static_cast<uint32_t>(tokens[i]) < info.vocab_size) continue;
    return Status(StatusCode::kOutOfRange, "token " + std::to_string(i) + " is " +
                                               std::to_string(tokens[i]) + ", ids are 0 to " +
                                               std::to_string(info.vocab_size - 1));
  }
  return Status();
}

Status check_values(const ModelInfo& info, Span<const float> values) {
  if (info.input == InputKind::kTokens) {
    return Status(StatusCode::kInvalidArgument, "numbers were given, but the model reads tokens");
  }
  if (values.size() % info.features != 0) {
    return Status(StatusCode::kInvalidArgument,
                  std::to_string(values.size()) + " numbers were given, expected a multiple of " +
                      std::to_string(info.features) + ", the numbers of a step");
  }
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    return Status(StatusCode::kInvalidArgument,
                  "the number at step " + std::to_string(i / info.features) + ", feature " +
                      std::to_string(i % info.features) + ", is " + std::to_string(values[i]) +
                      ", expected a finite one");
  }
  return Status();
}

Status check_positions(const ModelInfo& info, uint64_t position, size_t count) {
  if (info.position_limit == 0 ||
      (position <= info.position_limit && count <= info.position_limit - position)) {
    return Status();
  }
  const char* unit = info.input == InputKind::kTokens ? " tokens" : " steps";
  return Status(StatusCode::kOutOfRange, "position " + std::to_string(position) + " plus " +
                                             std::to_string(count) + unit +
                                             " exceeds the model's limit of " +
                                             std::to_string(info.position_limit) + " positions");
}

}  // namespace moka
