// LoopGuard: notices a text that has become an exact cycle. A small model at a low temperature writes
// one and the same line for ever now and then; no one wants to read or pay for it.
//
//   moka::LoopGuard guard(256);
//   while (...) {
//     auto token = session.step(sampler);
//     if (guard.push(token.value())) break;   // the last 256 tokens are one cycle of guard.period()
//   }
#ifndef MOKA_LOOP_GUARD_H_
#define MOKA_LOOP_GUARD_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "moka/tokenizer.h"

namespace moka {

class LoopGuard {
 public:
  static constexpr uint32_t kRounds = 4;          // a cycle counts when it is gone through as often
  static constexpr uint32_t kMostTokens = 65536;  // that options accept

  // Looks for `tokens` tokens in a row that repeat a cycle of at most tokens / kRounds. Fewer than
  // kRounds: never finds one.
  explicit LoopGuard(uint32_t tokens);

  // Takes the next token; true while the last `tokens` of them are a cycle. Costs tokens / kRounds
  // comparisons and allocates nothing.
  bool push(TokenId token);

  // Of the cycle that push() found, in tokens: the shortest one. 0: none.
  uint32_t period() const { return period_; }

  void reset();

 private:
  uint32_t tokens_;
  std::vector<TokenId> recent_;   // a ring of the last tokens, as many as the longest cycle has
  std::vector<uint32_t> agreed_;  // [p - 1]: so many tokens in a row equal the p-th before them
  uint64_t count_ = 0;
  uint32_t period_ = 0;
};

}  // namespace moka

#endif  // MOKA_LOOP_GUARD_H_
