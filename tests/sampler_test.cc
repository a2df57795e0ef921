// Sampling: the order of steps, equal draws everywhere, refusals, saved state.
#include "moka/sampler.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "runtime/portable_exp.h"
#include "tests/allocation_counter.h"

namespace {

using moka::Sampler;
using moka::SamplerOptions;
using moka::StatusCode;
using moka::TokenId;
using Tokens = std::vector<TokenId>;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr size_t kVocabulary = 1000;

// Step `n` of a made-up model: multiples of 1/256 from -8 to 8, shuffled.
std::vector<float> row(size_t n) {
  std::vector<float> logits(kVocabulary);
  for (size_t i = 0; i < kVocabulary; ++i) {
    logits[i] = static_cast<float>((i * 7919 + n * 104729) % 4096) / 256.0f - 8.0f;
  }
  return logits;
}

Sampler make(const SamplerOptions& options, size_t vocab_size = kVocabulary) {
  auto sampler = Sampler::create(options, vocab_size);
  REQUIRE_MESSAGE(sampler.ok(), sampler.status().message());
  return std::move(sampler).value();
}

TokenId draw(Sampler& sampler, const std::vector<float>& logits) {
  auto token = sampler.sample(logits);
  REQUIRE_MESSAGE(token.ok(), token.status().message());
  return token.value();
}

Tokens draw_rows(Sampler& sampler, size_t count, size_t first = 0) {
  Tokens tokens;
  for (size_t n = first; n < first + count; ++n) tokens.push_back(draw(sampler, row(n)));
  return tokens;
}

Tokens draw_rows(const SamplerOptions& options) {
  Sampler sampler = make(options);
  return draw_rows(sampler, 12);
}

// The message of the refusal, whose code must be kInvalidArgument.
std::string refusal(const SamplerOptions& options, size_t vocab_size = kVocabulary) {
  auto sampler = Sampler::create(options, vocab_size);
  if (sampler.ok()) return "accepted";
  CHECK(sampler.status().code() == StatusCode::kInvalidArgument);
  return sampler.status().message();
}

}  // namespace

// The expected tokens come from a separate program in Python (sorting, math.exp); every platform
// must draw these.
TEST_CASE("sampler: the same tokens for the same seed") {
  SamplerOptions o;
  CHECK(draw_rows(o) == Tokens{632, 775, 123, 461, 770, 991, 460, 570, 879, 903, 131, 64});
  o.seed = 42;
  o.temperature = 1.0f;
  CHECK(draw_rows(o) == Tokens{91, 414, 708, 926, 995, 793, 743, 870, 789, 602, 702, 259});
  o.min_p = 0.05f;
  CHECK(draw_rows(o) == Tokens{91, 414, 708, 926, 995, 793, 743, 870, 789, 602, 702, 259});
  o.min_p = 0.0f;
  o.top_k = 40;
  CHECK(draw_rows(o) == Tokens{451, 639, 813, 956, 995, 868, 847, 915, 879, 737, 806, 319});
  o.top_k = 0;
  o.temperature = 1.5f;
  o.top_p = 0.9f;
  CHECK(draw_rows(o) == Tokens{91, 414, 709, 927, 995, 793, 757, 870, 789, 603, 716, 274});
}

TEST_CASE("sampler: the same tokens with everything at once") {
  SamplerOptions o;
  o.seed = 7;
  o.temperature = 0.7f;
  o.top_k = 100;
  o.top_p = 0.95f;
  o.min_p = 0.02f;
  o.repeat_penalty = 1.3f;
  o.repeat_window = 8;
  CHECK(draw_rows(o) == Tokens{766, 339, 874, 986, 995, 898, 82, 120, 489, 182, 611, 604});
  SamplerOptions biased;
  biased.seed = 1;
  biased.temperature = 1.0f;
  biased.bias = {{999, 6.5f}, {3, -kInf}};
  CHECK(draw_rows(biased) == Tokens{723, 999, 618, 417, 800, 163, 146, 406, 999, 572, 941, 997});
}

// Greedy without bias and penalty takes a shorter way; a bias of 0 forces the long one.
TEST_CASE("sampler: greedy takes the same token both ways") {
  for (const size_t size : {1, 7, 15, 16, 17, 33, 1000}) {
    SamplerOptions o;
    o.temperature = 0.0f;
    Sampler quick = make(o, size);
    o.bias = {{0, 0.0f}};
    Sampler slow = make(o, size);
    for (size_t n = 0; n < 60; ++n) {
      std::vector<float> logits = row(n);
      logits.resize(size);
      if (n % 3 == 1) std::fill(logits.begin(), logits.end() - 1, -kInf);
      if (n % 3 == 2) logits[(n * 5) % size] = logits[(n * 11) % size];  // equals, perhaps
      CHECK(draw(quick, logits) == draw(slow, logits));
      logits[n % size] = n % 2 == 0 ? std::nanf("") : kInf;
      CHECK(quick.sample(logits).status().message() == slow.sample(logits).status().message());
      CHECK(quick.sample(logits).status().code() == StatusCode::kInvalidArgument);
    }
    const std::vector<float> banned(size, -kInf);
    CHECK(quick.sample(banned).status().code() == StatusCode::kFailedPrecondition);
    CHECK(quick.save() == slow.save());
  }
}

TEST_CASE("sampler: greedy takes the lowest id of equals and leaves the generator alone") {
  SamplerOptions o;
  o.temperature = 0.0f;
  CHECK(draw_rows(o) == Tokens{991, 999, 993, 986, 995, 988, 997, 990, 999, 962, 986, 724});
  Sampler sampler = make(o, 4);
  const std::vector<uint8_t> before = sampler.save();
  CHECK(draw(sampler, {1.0f, 2.0f, 2.0f, -kInf}) == 1);
  CHECK(draw(sampler, {-kInf, -kInf, -1e30f, -kInf}) == 2);
  const std::vector<uint8_t> after = sampler.save();
  CHECK(
      std::equal(before.begin() + 32, before.begin() + 64, after.begin() + 32));  // xoshiro's words
}

TEST_CASE("sampler: repetition penalty over the window") {
  SamplerOptions o;
  o.temperature = 0.0f;
  o.repeat_penalty = 2.0f;
  o.repeat_window = 2;
  Sampler sampler = make(o, 8);
  const std::vector<float> logits = {1.0f, 3.0f, 2.5f, 2.5f, 0.0f, 0.0f, -1.0f, -1.0f};
  Tokens tokens;
  for (int i = 0; i < 6; ++i) tokens.push_back(draw(sampler, logits));
  CHECK(tokens == Tokens{1, 2, 3, 1, 2, 3});

  sampler.reset();
  sampler.accept(1);
  sampler.accept(-1);  // not tokens: ignored
  sampler.accept(8);
  CHECK(draw(sampler, logits) == 2);

  // Negative logits are multiplied: a penalised -1 loses to -1.5.
  sampler.reset();
  sampler.accept(0);
  std::vector<float> negative(8, -kInf);
  negative[0] = -1.0f;
  negative[1] = -1.5f;
  CHECK(draw(sampler, negative) == 1);
}

TEST_CASE("sampler: bias comes before the penalty, and -infinity bans") {
  SamplerOptions o;
  o.temperature = 0.0f;
  o.repeat_penalty = 10.0f;
  o.bias = {{0, 3.0f}, {2, -kInf}};
  Sampler sampler = make(o, 3);
  CHECK(draw(sampler, {0.0f, 2.0f, 9.0f}) == 0);
  // (0 + 3) / 10 is less than 2; penalising 0 first would have left 3.
  CHECK(draw(sampler, {0.0f, 2.0f, 9.0f}) == 1);
}

TEST_CASE("sampler: top-k, top-p and min-p keep what they should") {
  // Weights 8, 4, 2, 2, 1 and nothing: shares of 17.
  const float l2 = std::log(2.0f);
  const std::vector<float> logits = {l2, 3 * l2, l2, 2 * l2, 0.0f, -kInf};
  auto seen = [&](const SamplerOptions& options) {
    Sampler sampler = make(options, 6);
    std::vector<bool> drawn(6);
    for (int i = 0; i < 2000; ++i) drawn[static_cast<size_t>(draw(sampler, logits))] = true;
    std::string marks;
    for (bool d : drawn) marks += d ? 'x' : '-';
    return marks;
  };
  SamplerOptions o;
  o.temperature = 1.0f;
  CHECK(seen(o) == "xxxxx-");
  o.top_k = 3;
  CHECK(seen(o) == "xx-x--");  // of the two equal ones the lower id
  o.top_k = 6;
  CHECK(seen(o) == "xxxxx-");
  o.top_k = 0;
  o.top_p = 0.45f;  // 8/17 = 0.47
  CHECK(seen(o) == "-x----");
  o.top_p = 0.5f;
  CHECK(seen(o) == "-x-x--");
  o.top_p = 0.8f;  // 14/17 = 0.82
  CHECK(seen(o) == "xx-x--");
  o.top_k = 2;  // 8/12 = 0.67: the share is of what top-k kept
  o.top_p = 0.66f;
  CHECK(seen(o) == "-x----");
  o.top_k = 0;
  o.top_p = 1.0f;
  o.min_p = 0.2f;  // 2/8 stays, 1/8 goes
  CHECK(seen(o) == "xxxx--");
}

TEST_CASE("sampler: tokens are drawn as often as they are likely") {
  const std::vector<float> logits = {0.0f, 1.0f, 2.0f, -1.0f, 0.5f};
  SamplerOptions o;
  o.temperature = 2.0f;
  o.seed = 123;
  Sampler sampler = make(o, logits.size());
  constexpr int kDraws = 100000;
  std::vector<int> counts(logits.size());
  for (int i = 0; i < kDraws; ++i) ++counts[static_cast<size_t>(draw(sampler, logits))];
  double total = 0.0, chi2 = 0.0;
  for (float x : logits) total += std::exp(x / 2.0);
  for (size_t i = 0; i < logits.size(); ++i) {
    const double expected = kDraws * std::exp(logits[i] / 2.0) / total;
    chi2 += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  CHECK(chi2 < 18.5);  // 4 degrees of freedom: above it in 1 of 1000 seeds
}

TEST_CASE("sampler: a large vocabulary, cut in every way") {
  constexpr size_t kLarge = 50257;
  std::vector<float> logits(kLarge);
  for (size_t i = 0; i < kLarge; ++i) {
    logits[i] = static_cast<float>((i * 2654435761u) % 65536) / 8192.0f;  // eight units, ties
  }
  std::vector<size_t> order(kLarge);
  for (size_t i = 0; i < kLarge; ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  std::vector<size_t> rank(kLarge);
  for (size_t i = 0; i < kLarge; ++i) rank[order[i]] = i;

  for (uint32_t k : {1u, 2u, 100u, 600u, 20000u, 50256u}) {
    SamplerOptions o;
    o.temperature = 100.0f;  // nearly flat, so that the bound is touched
    o.top_k = k;
    Sampler sampler = make(o, kLarge);
    size_t worst = 0;
    for (int i = 0; i < 300; ++i)
      worst = std::max(worst, rank[static_cast<size_t>(draw(sampler, logits))]);
    CHECK(worst < k);
    CHECK(worst + 1 >= k * 9 / 10);
  }
  std::vector<double> weight(kLarge);
  double total = 0.0;
  for (size_t i = 0; i < kLarge; ++i) total += weight[i] = std::exp(logits[i] - logits[order[0]]);
  for (float p : {0.01f, 0.5f, 0.99f}) {
    size_t kept = 0;
    for (double sum = 0.0; sum < p * total;) sum += weight[order[kept++]];
    SamplerOptions o;
    o.temperature = 1.0f;
    o.top_p = p;
    Sampler sampler = make(o, kLarge);
    for (int i = 0; i < 300; ++i) CHECK(rank[static_cast<size_t>(draw(sampler, logits))] < kept);
  }
}

TEST_CASE("sampler: options out of range") {
  const float nan = std::nanf("");
  SamplerOptions o;
  auto with = [](auto change) {
    SamplerOptions changed;
    change(changed);
    return refusal(changed);
  };
  CHECK(with([](auto& s) { s.temperature = -0.5f; }) ==
        "sampler: temperature is -0.5, not 0 to 100");
  CHECK(with([&](auto& s) { s.temperature = nan; }).find("temperature is") != std::string::npos);
  CHECK(with([](auto& s) { s.temperature = 101.0f; }) ==
        "sampler: temperature is 101, not 0 to 100");
  CHECK(with([](auto& s) { s.top_p = 0.0f; }) == "sampler: top_p is 0, not above 0 and at most 1");
  CHECK(with([](auto& s) { s.top_p = 1.5f; }) ==
        "sampler: top_p is 1.5, not above 0 and at most 1");
  CHECK(with([](auto& s) { s.min_p = -1.0f; }) == "sampler: min_p is -1, not 0 to 1");
  CHECK(with([](auto& s) { s.min_p = 1.25f; }) == "sampler: min_p is 1.25, not 0 to 1");
  CHECK(with([](auto& s) { s.repeat_penalty = 0.0f; }) ==
        "sampler: repeat_penalty is 0, not above 0 and at most 100");
  CHECK(with([](auto& s) { s.repeat_window = 2000000; }) ==
        "sampler: repeat_window is 2000000, not 0 to 1048576");
  CHECK(with([](auto& s) {
          s.bias = {{1000, 1.0f}};
        }) == "sampler: bias[0].token is 1000, not 0 to 999");
  CHECK(with([](auto& s) {
          s.bias = {{-1, 1.0f}};
        }) == "sampler: bias[0].token is -1, not 0 to 999");
  CHECK(with([](auto& s) {
          s.bias = {{5, kInf}};
        }) == "sampler: bias[0].bias is inf, not a number or -infinity");
  CHECK(with([](auto& s) {
          s.bias = {{5, 1.0f}, {5, 2.0f}};
        }) == "sampler: bias names token 5 twice");
  CHECK(refusal(o, 0) == "sampler: vocab_size is 0, not 1 to 2147483647");
}

TEST_CASE("sampler: rows that cannot be drawn from change nothing") {
  for (float temperature : {0.0f, 1.0f}) {
    SamplerOptions o;
    o.temperature = temperature;
    o.repeat_penalty = 1.5f;
    Sampler sampler = make(o, 3);
    sampler.accept(1);
    const auto before = sampler.save();
    auto bad = sampler.sample(std::vector<float>{0.0f, std::nanf(""), 1.0f});
    REQUIRE_FALSE(bad.ok());
    CHECK(bad.status().code() == StatusCode::kInvalidArgument);
    CHECK(bad.status().message() == "sampler: logit 1 is NaN, not a number or -infinity");
    bad = sampler.sample(std::vector<float>{0.0f, 1.0f, kInf});
    CHECK(bad.status().message() == "sampler: logit 2 is infinity, not a number or -infinity");
    bad = sampler.sample(std::vector<float>{0.0f, 1.0f});
    CHECK(bad.status().code() == StatusCode::kInvalidArgument);
    CHECK(bad.status().message() == "sampler: 2 logits, not 3");
    bad = sampler.sample(std::vector<float>(3, -kInf));
    REQUIRE_FALSE(bad.ok());
    CHECK(bad.status().code() == StatusCode::kFailedPrecondition);
    CHECK(sampler.save() == before);
  }
}

TEST_CASE("sampler: save and restore continue exactly") {
  SamplerOptions o;
  o.seed = 99;
  o.repeat_penalty = 1.2f;
  o.repeat_window = 5;
  Sampler sampler = make(o);
  for (size_t n : {size_t{0}, size_t{3}, size_t{12}}) {
    sampler.reset();
    draw_rows(sampler, n);
    const auto saved = sampler.save();
    const Tokens expected = draw_rows(sampler, 20, n);
    Sampler other = make(o);
    REQUIRE(other.restore(saved).ok());
    CHECK(other.save() == saved);
    CHECK(draw_rows(other, 20, n) == expected);
    CHECK(other.save() == sampler.save());
  }
  sampler.reset();
  CHECK(sampler.save() == make(o).save());
}

TEST_CASE("sampler: damaged and foreign saves are refused and change nothing") {
  SamplerOptions o;
  o.repeat_window = 4;
  Sampler sampler = make(o);
  draw_rows(sampler, 6);
  const auto saved = sampler.save();
  for (size_t size = 0; size < saved.size(); ++size) {
    CHECK(sampler.restore({saved.data(), size}).code() == StatusCode::kCorrupt);
  }
  for (size_t i = 0; i < saved.size(); ++i) {
    auto flipped = saved;
    flipped[i] ^= 0x10;
    const StatusCode code = sampler.restore(flipped).code();
    CHECK(code == (i >= 4 && i < 8 ? StatusCode::kVersion : StatusCode::kCorrupt));
  }
  CHECK(sampler.save() == saved);
  CHECK(make(o, 999).restore(saved).code() == StatusCode::kFailedPrecondition);
  o.repeat_window = 3;
  CHECK(make(o).restore(saved).code() == StatusCode::kFailedPrecondition);
}

TEST_CASE("sampler: drawing allocates nothing") {
  if (!moka::test::counts_allocations()) {
    MESSAGE("skipped: allocations cannot be counted in this build");
    return;
  }
  const std::vector<float> logits = row(0);
  std::vector<SamplerOptions> all(4);
  all[0].temperature = 0.0f;
  all[1].top_k = 40;
  all[2].top_p = 0.9f;
  all[2].min_p = 0.01f;
  all[3].repeat_penalty = 1.1f;
  all[3].bias = {{1, -1.0f}};
  for (const SamplerOptions& options : all) {
    Sampler sampler = make(options);
    draw(sampler, logits);
    const uint64_t before = moka::test::allocations();
    for (int i = 0; i < 100; ++i) {
      auto token = sampler.sample(logits);
      if (!token.ok()) break;
      sampler.accept(token.value());
    }
    CHECK(moka::test::allocations() == before);
  }
}

TEST_CASE("sampler: the runtime's own exp") {
  double worst = 0.0;
  for (int i = 0; i <= 2000000; ++i) {
    const double x = -708.0 + i * (1417.0 / 2000000);
    const double expected = std::exp(x);
    worst = std::max(worst, std::abs(moka::portable_exp(x) - expected) / expected);
  }
  CHECK(worst < 1e-15);
  CHECK(moka::portable_exp(0.0) == 1.0);
  CHECK(moka::portable_exp(-0.0) == 1.0);
  CHECK(moka::portable_exp(-1e-300) == 1.0);
  CHECK(moka::portable_exp(-709.0) == 0.0);
  CHECK(moka::portable_exp(-std::numeric_limits<double>::infinity()) == 0.0);
  // Bits that every platform must give.
  CHECK(moka::portable_exp(-1.0) == 0x1.78b56362cef38p-2);
  CHECK(moka::portable_exp(-0.5) == 0x1.368b2fc6f960ap-1);
}
