#include "converter/test_vector.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "moka/session.h"
#include "moka/tokenizer.h"

namespace moka {
namespace {

constexpr size_t kTokens = 32;

constexpr const char* kPrompts[] = {
    "Once upon a time there was",
    "The old man opened the door and",
    "In the morning the children went to the river, where",
    "It was the best day of the year, because",
};

// How far the best logit must be above the next. Logits of instruction sets differ by 1e-4 with
// float weights; with int8 a number may be rounded the other way, which moves logits by 1e-2.
constexpr float kClearFloat = 0.01f;
constexpr float kClearInt8 = 0.1f;

bool has_int8(const ModelSpec& spec) {
  return std::any_of(spec.tensors.begin(), spec.tensors.end(),
                     [](const Tensor& tensor) { return tensor.dtype == DType::kI8; });
}

// The most likely token, or nothing when another is almost as likely.
std::optional<TokenId> clear_winner(Span<const float> logits, float margin) {
  size_t best = 0;
  for (size_t i = 1; i < logits.size(); ++i) {
    if (logits[i] > logits[best]) best = i;
  }
  for (size_t i = 0; i < logits.size(); ++i) {
    if (i != best && !(logits[best] - logits[i] >= margin)) return std::nullopt;
  }
  return static_cast<TokenId>(best);
}

}  // namespace

Result<std::optional<TestVector>> make_test_vector(
    const Model& model, const std::function<Status(uint64_t done, uint64_t total)>& progress) {
  if (!model.has_tokenizer()) {
    return Status(StatusCode::kFailedPrecondition,
                  "the model has no tokenizer, which a test vector needs");
  }
  const Tokenizer& tokenizer = model.tokenizer();
  const TokenId first = tokenizer.begin_id();
  const float margin = has_int8(model.spec()) ? kClearInt8 : kClearFloat;
  MOKA_ASSIGN_OR_RETURN(Session session, model.new_session());
  std::optional<TestVector> best;
  uint64_t done = 0;
  for (const char* prompt : kPrompts) {
    TestVector candidate;
    if (first >= 0) candidate.prompt.push_back(first);
    // Vocabularies of symbols, such as those of enwik8, cannot spell English.
    const Status encoded = tokenizer.encode(prompt, &candidate.prompt, false);
    if (encoded.code() == StatusCode::kOutOfMemory) return encoded;
    if (!encoded.ok()) continue;
    const uint64_t limit = model.info().position_limit;
    if (limit != 0 && candidate.prompt.size() + kTokens > limit) continue;
    session.reset();
    MOKA_RETURN_IF_ERROR(session.append(candidate.prompt));
    while (candidate.expected.size() < kTokens) {
      MOKA_RETURN_IF_ERROR(progress(++done, kTokens * std::size(kPrompts)));
      const std::optional<TokenId> next = clear_winner(session.logits(), margin);
      if (!next) break;
      candidate.expected.push_back(*next);
      MOKA_RETURN_IF_ERROR(session.append(Span<const TokenId>(&candidate.expected.back(), 1)));
    }
    const size_t length = candidate.expected.size();
    if (length > (best ? best->expected.size() : 0)) best = std::move(candidate);
    if (length == kTokens) break;
  }
  MOKA_RETURN_IF_ERROR(progress(kTokens * std::size(kPrompts), kTokens * std::size(kPrompts)));
  return best;
}

}  // namespace moka
