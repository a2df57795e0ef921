#include "moka/loop_guard.h"

#include <doctest/doctest.h>

#include <vector>

namespace moka {
namespace {

// How many tokens it takes until a guard speaks; 0: it does not.
size_t found_after(LoopGuard* guard, const std::vector<TokenId>& tokens) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (guard->push(tokens[i])) return i + 1;
  }
  return 0;
}

// `lead` tokens that never repeat, then a cycle of `period`, `length` tokens of it.
std::vector<TokenId> looping(size_t lead, size_t period, size_t length) {
  std::vector<TokenId> tokens;
  for (size_t i = 0; i < lead; ++i) tokens.push_back(static_cast<TokenId>(1000 + i));
  for (size_t i = 0; i < length; ++i) tokens.push_back(static_cast<TokenId>(i % period));
  return tokens;
}

TEST_CASE("loop guard: speaks when so many tokens are one cycle, not a token sooner") {
  for (const uint32_t tokens : {4u, 32u, 33u, 256u}) {
    for (size_t period = 1; period <= tokens / 4; ++period) {
      for (const size_t lead : {size_t{0}, size_t{7}, size_t{300}}) {
        CAPTURE(tokens);
        CAPTURE(period);
        CAPTURE(lead);
        LoopGuard guard(tokens);
        CHECK(found_after(&guard, looping(lead, period, tokens - 1)) == 0);
        CHECK(guard.period() == 0);
        LoopGuard again(tokens);
        CHECK(found_after(&again, looping(lead, period, tokens)) == lead + tokens);
        CHECK(again.period() == period);
      }
    }
  }
}

TEST_CASE("loop guard: longer cycles, broken ones and none are left alone") {
  LoopGuard guard(64);
  CHECK(found_after(&guard, looping(3, 17, 1000)) == 0);
  guard.reset();
  std::vector<TokenId> broken = looping(0, 5, 62);
  broken.push_back(99);
  for (size_t i = 0; i < 63; ++i) broken.push_back(static_cast<TokenId>(i % 5));
  CHECK(found_after(&guard, broken) == 0);
  CHECK(guard.push(63 % 5));
  CHECK(guard.period() == 5);
  CHECK_FALSE(guard.push(77));
  CHECK(guard.period() == 0);
  for (const uint32_t tokens : {0u, 1u, 3u}) {
    LoopGuard never(tokens);
    CHECK(found_after(&never, std::vector<TokenId>(500, 7)) == 0);
  }
}

TEST_CASE("loop guard: reset() forgets") {
  LoopGuard guard(40);
  CHECK(found_after(&guard, looping(0, 3, 39)) == 0);
  guard.reset();
  CHECK(found_after(&guard, looping(0, 3, 39)) == 0);
  CHECK(guard.push(39 % 3));
}

}  // namespace
}  // namespace moka
