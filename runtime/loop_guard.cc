#include "moka/loop_guard.h"

#include <algorithm>

namespace moka {

LoopGuard::LoopGuard(uint32_t tokens)
    : tokens_(tokens), recent_(tokens / kRounds), agreed_(tokens / kRounds) {}

bool LoopGuard::push(TokenId token) {
  period_ = 0;
  const size_t longest = recent_.size();
  if (longest == 0) return false;
  for (size_t p = longest; p >= 1; --p) {
    const bool same = count_ >= p && recent_[(count_ - p) % longest] == token;
    // What agrees with the p-th before it makes a cycle together with the first p.
    agreed_[p - 1] = same ? std::min(agreed_[p - 1] + 1, tokens_) : 0;
    if (agreed_[p - 1] + p >= tokens_) period_ = static_cast<uint32_t>(p);
  }
  recent_[count_ % longest] = token;
  ++count_;
  return period_ != 0;
}

void LoopGuard::reset() {
  std::fill(agreed_.begin(), agreed_.end(), 0);
  count_ = 0;
  period_ = 0;
}

}  // namespace moka
