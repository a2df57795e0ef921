// How equal results on every platform are kept: weights and candidates stay in the order of ids,
// sums run in an order that the source fixes, and library algorithms only find elements that
// better() determines uniquely.
#include "moka/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>

#include "runtime/checksum.h"
#include "runtime/guard.h"
#include "runtime/portable_exp.h"

namespace moka {

namespace {

constexpr uint32_t kMaxWindow = 1u << 20;
constexpr float kMaxTemperature = 100.0f;
constexpr float kMaxPenalty = 100.0f;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

constexpr size_t kBlock = 64;  // weights in one sum

constexpr uint32_t kSaveMagic = 0x504D534D;  // "MSMP"
constexpr uint32_t kSaveVersion = 1;
constexpr size_t kSaveHead = 4 + 4 + 8 + 8 + 8 + 4 * 8;
constexpr size_t kSaveChecksum = 8;

Status bad_option(const std::string& name, double value, const std::string& range) {
  char number[32];
  std::snprintf(number, sizeof number, "%.9g", value);
  return Status(StatusCode::kInvalidArgument,
                "sampler: " + name + " is " + number + ", not " + range);
}

uint64_t splitmix64(uint64_t* state) {
  uint64_t z = (*state += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

uint64_t rotate_left(uint64_t x, int n) { return x << n | x >> (64 - n); }

void put(std::vector<uint8_t>* out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out->push_back(static_cast<uint8_t>(value >> (8 * i)));
}

uint64_t get(const uint8_t* bytes, int count) {
  uint64_t value = 0;
  for (int i = 0; i < count; ++i) value |= uint64_t{bytes[i]} << (8 * i);
  return value;
}

// Weights from 1 down to 2^-64 in 16 classes per power of two: class 0 holds the largest, the last
// one everything smaller.
constexpr size_t kWeightClasses = 1024;
size_t weight_class(double weight) {
  uint64_t bits;
  std::memcpy(&bits, &weight, sizeof bits);
  constexpr uint64_t kOne = 0x3FF0;  // the upper bits of 1.0: exponent and 4 bits of the fraction
  const uint64_t upper = bits >> 48;
  return upper >= kOne ? 0
                       : static_cast<size_t>(std::min<uint64_t>(kOne - upper, kWeightClasses - 1));
}

}  // namespace

Status Sampler::check(const SamplerOptions& options, size_t vocab_size) {
  if (vocab_size == 0 || vocab_size > 0x7FFFFFFF) {
    return Status(StatusCode::kInvalidArgument,
                  "sampler: vocab_size is " + std::to_string(vocab_size) + ", not 1 to 2147483647");
  }
  // Each condition is false for NaN.
  if (!(options.temperature >= 0.0f && options.temperature <= kMaxTemperature)) {
    return bad_option("temperature", options.temperature, "0 to 100");
  }
  if (!(options.top_p > 0.0f && options.top_p <= 1.0f)) {
    return bad_option("top_p", options.top_p, "above 0 and at most 1");
  }
  if (!(options.min_p >= 0.0f && options.min_p <= 1.0f)) {
    return bad_option("min_p", options.min_p, "0 to 1");
  }
  if (!(options.repeat_penalty > 0.0f && options.repeat_penalty <= kMaxPenalty)) {
    return bad_option("repeat_penalty", options.repeat_penalty, "above 0 and at most 100");
  }
  if (options.repeat_window > kMaxWindow) {
    return bad_option("repeat_window", options.repeat_window, "0 to " + std::to_string(kMaxWindow));
  }
  for (size_t i = 0; i < options.bias.size(); ++i) {
    const LogitBias& entry = options.bias[i];
    const std::string name = "bias[" + std::to_string(i) + "]";
    if (entry.token < 0 || static_cast<size_t>(entry.token) >= vocab_size) {
      return Status(StatusCode::kInvalidArgument, "sampler: " + name + ".token is " +
                                                      std::to_string(entry.token) + ", not 0 to " +
                                                      std::to_string(vocab_size - 1));
    }
    if (!(entry.bias < std::numeric_limits<float>::infinity())) {
      return bad_option(name + ".bias", entry.bias, "a number or -infinity");
    }
  }
  return Status();
}

Result<Sampler> Sampler::create(const SamplerOptions& options, size_t vocab_size) {
  return guarded("the sampler", [&]() -> Result<Sampler> {
    MOKA_RETURN_IF_ERROR(check(options, vocab_size));
    Sampler sampler;
    sampler.options_ = options;
    sampler.vocab_size_ = vocab_size;
    sampler.recent_.resize(options.repeat_window);
    if (options.repeat_penalty != 1.0f) sampler.penalised_.resize(vocab_size);
    sampler.weights_.resize(vocab_size);
    if (options.temperature > 0.0f) {
      sampler.block_sums_.resize((vocab_size + kBlock - 1) / kBlock);
      sampler.candidates_.reserve(vocab_size);
      sampler.scratch_.reserve(vocab_size);
    }
    if (!options.bias.empty()) {
      std::vector<bool> seen(vocab_size);
      for (const LogitBias& entry : options.bias) {
        const auto token = static_cast<size_t>(entry.token);
        if (seen[token]) {
          return Status(StatusCode::kInvalidArgument,
                        "sampler: bias names token " + std::to_string(entry.token) + " twice");
        }
        seen[token] = true;
      }
    }
    sampler.reset();
    return sampler;
  });
}

void Sampler::reset() {
  uint64_t state = options_.seed;
  for (uint64_t& word : random_) word = splitmix64(&state);
  recent_count_ = 0;
}

// xoshiro256**; the upper 53 bits as a number from 0 to below 1.
double Sampler::next_uniform() {
  uint64_t* s = random_;
  const uint64_t result = rotate_left(s[1] * 5, 7) * 9;
  const uint64_t t = s[1] << 17;
  s[2] ^= s[0];
  s[3] ^= s[1];
  s[1] ^= s[2];
  s[0] ^= s[3];
  s[2] ^= t;
  s[3] = rotate_left(s[3], 45);
  return static_cast<double>(result >> 11) * 0x1.0p-53;
}

void Sampler::accept(TokenId token) {
  if (recent_.empty() || token < 0 || static_cast<size_t>(token) >= vocab_size_) return;
  recent_[recent_count_ % recent_.size()] = token;
  // Only whether the ring is full, and the place in it, matter: the count stays below two rings.
  if (++recent_count_ == 2 * recent_.size()) recent_count_ = recent_.size();
}

Sampler::Mark Sampler::mark() const {
  Mark mark{};
  std::copy(random_, random_ + 4, mark.random);
  mark.recent_count = recent_count_;
  if (!recent_.empty()) mark.recent = recent_[recent_count_ % recent_.size()];
  return mark;
}

void Sampler::back_to(const Mark& mark) {
  std::copy(mark.random, mark.random + 4, random_);
  recent_count_ = mark.recent_count;
  if (!recent_.empty()) recent_[recent_count_ % recent_.size()] = mark.recent;
}

// Logits with bias and penalty into weights_.
Status Sampler::load(Span<const float> logits) {
  if (logits.size() != vocab_size_) {
    return Status(StatusCode::kInvalidArgument, "sampler: " + std::to_string(logits.size()) +
                                                    " logits, not " + std::to_string(vocab_size_));
  }
  const float* row = logits.data();
  double* weights = weights_.data();
  unsigned bad = 0;  // without a branch, so that compilers use vectors
  for (size_t i = 0; i < vocab_size_; ++i) {
    bad |= static_cast<unsigned>(!(row[i] < std::numeric_limits<float>::infinity()));
    weights[i] = row[i];
  }
  for (size_t i = 0; bad != 0 && i < vocab_size_; ++i) {
    if (row[i] < std::numeric_limits<float>::infinity()) continue;
    return Status(StatusCode::kInvalidArgument, "sampler: logit " + std::to_string(i) + " is " +
                                                    (std::isnan(row[i]) ? "NaN" : "infinity") +
                                                    ", not a number or -infinity");
  }
  for (const LogitBias& entry : options_.bias) weights[entry.token] += entry.bias;
  penalise_recent();
  return Status();
}

void Sampler::penalise_recent() {
  if (penalised_.empty()) return;
  const double penalty = options_.repeat_penalty;
  const size_t count = std::min(recent_count_, recent_.size());
  for (size_t i = 0; i < count; ++i) {
    const auto token = static_cast<size_t>(recent_[i]);
    double& weight = weights_[token];
    if (penalised_[token] == 0) weight = weight > 0.0 ? weight / penalty : weight * penalty;
    penalised_[token] = 1;  // once, however often it is in the window
  }
  for (size_t i = 0; i < count; ++i) penalised_[static_cast<size_t>(recent_[i])] = 0;
}

// The lowest of the highest logits, -1 when one is not a number or all are -infinity. Several maxima
// at once, so that compilers use vectors.
TokenId Sampler::most_likely(Span<const float> logits) const {
  constexpr float kLimit = std::numeric_limits<float>::infinity();
  constexpr size_t kLanes = 16;
  std::array<float, kLanes> highest;
  highest.fill(-kLimit);
  std::array<unsigned, kLanes> bad{};
  const float* row = logits.data();
  size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float logit = row[i + lane];
      bad[lane] |= static_cast<unsigned>(!(logit < kLimit));
      highest[lane] = logit > highest[lane] ? logit : highest[lane];
    }
  }
  for (; i < logits.size(); ++i) {
    bad[0] |= static_cast<unsigned>(!(row[i] < kLimit));
    highest[0] = row[i] > highest[0] ? row[i] : highest[0];
  }
  if (std::any_of(bad.begin(), bad.end(), [](unsigned b) { return b != 0; })) return -1;
  const float best = *std::max_element(highest.begin(), highest.end());
  if (best == -kLimit) return -1;
  return static_cast<TokenId>(std::find(logits.begin(), logits.end(), best) - logits.begin());
}

Result<TokenId> Sampler::sample(Span<const float> logits) {
  return guarded("the sampler", [&]() -> Result<TokenId> {
    // Greedy on the logits as they are, which is common, needs nothing of what follows.
    const bool plain = options_.temperature == 0.0f && options_.bias.empty() && penalised_.empty();
    if (plain && logits.size() == vocab_size_) {
      const TokenId token = most_likely(logits);
      if (token >= 0) {
        accept(token);
        return token;
      }
    }
    MOKA_RETURN_IF_ERROR(load(logits));
    std::array<double, 4> highest;  // several at once: one alone waits for itself
    highest.fill(-kInfinity);
    for (size_t i = 0; i < vocab_size_; ++i) {
      double& lane = highest[i % highest.size()];
      lane = weights_[i] > lane ? weights_[i] : lane;
    }
    const double best = *std::max_element(highest.begin(), highest.end());
    if (best == -kInfinity) {
      return Status(StatusCode::kFailedPrecondition,
                    "sampler: every token is banned (all logits with their bias are -infinity)");
    }
    MOKA_ASSIGN_OR_RETURN(const TokenId token, pick(best));
    accept(token);
    return token;
  });
}

Result<TokenId> Sampler::pick(double best) {
  if (options_.temperature == 0.0f) {
    return static_cast<TokenId>(std::find(weights_.begin(), weights_.end(), best) -
                                weights_.begin());
  }
  double total = 0.0;
  if (options_.top_k > 0 && options_.top_k < vocab_size_) {
    keep_top_k();
    const double scale = 1.0 / options_.temperature;
    for (Candidate& c : candidates_) total += c.weight = portable_exp((c.weight - best) * scale);
  } else {
    total = weigh_all(best);
    if (options_.top_p == 1.0f && options_.min_p == 0.0f) return draw_from_all(total);
    if (options_.top_p < 1.0f) {
      keep_enough(total);
    } else {
      keep_at_least(options_.min_p);
    }
  }
  if (options_.top_p < 1.0f) keep_top_p(total);
  if (options_.min_p > 0.0f) {
    const double least = options_.min_p;  // the most likely weighs exactly 1
    candidates_.erase(std::remove_if(candidates_.begin(), candidates_.end(),
                                     [least](const Candidate& c) { return c.weight < least; }),
                      candidates_.end());
  }
  return draw_from_candidates();
}

// The order of likelihood; no two candidates are equal in it.
bool Sampler::better(const Candidate& a, const Candidate& b) {
  return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
}

void Sampler::keep_top_k() {
  const size_t k = options_.top_k;
  // The best k so far and some room; what is worse than the k-th is not even looked at again.
  const size_t room = std::min(vocab_size_, std::max<size_t>(2 * k, 512));
  auto cut = [this, k] {
    std::nth_element(scratch_.begin(), scratch_.begin() + static_cast<std::ptrdiff_t>(k - 1),
                     scratch_.end(), better);
    scratch_.resize(k);
  };
  scratch_.clear();
  double least = -kInfinity;  // ids rise, so an equal weight comes too late
  bool full = false;
  for (size_t i = 0; i < vocab_size_; ++i) {
    if (full && weights_[i] <= least) continue;
    scratch_.push_back({weights_[i], static_cast<TokenId>(i)});
    if (scratch_.size() < room) continue;
    cut();
    least = scratch_.back().weight;
    full = true;
  }
  if (scratch_.size() > k) cut();
  std::sort(scratch_.begin(), scratch_.end(),
            [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
  candidates_.swap(scratch_);
}

// Logits to weights relative to the best; returns their sum.
double Sampler::weigh_all(double best) {
  const double scale = 1.0 / options_.temperature;
  double total = 0.0;
  for (size_t block = 0; block < block_sums_.size(); ++block) {
    const size_t end = std::min(vocab_size_, (block + 1) * kBlock);
    std::array<double, 4> lanes{};
    for (size_t i = block * kBlock; i < end; ++i) {
      weights_[i] = portable_exp((weights_[i] - best) * scale);
      lanes[i % lanes.size()] += weights_[i];
    }
    block_sums_[block] = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
    total += block_sums_[block];
  }
  return total;
}

double Sampler::keep_at_least(double weight) {
  candidates_.clear();
  double sum = 0.0;
  for (size_t i = 0; i < vocab_size_; ++i) {
    if (!(weights_[i] >= weight)) continue;
    candidates_.push_back({weights_[i], static_cast<TokenId>(i)});
    sum += weights_[i];
  }
  return sum;
}

// Leaves more than top-p wants, but far fewer than all: it wants the likeliest, and sorts.
void Sampler::keep_enough(double total) {
  constexpr double kMargin = 1.0 + 1e-9;  // sums in another order differ by less
  const double target = static_cast<double>(options_.top_p) * total * kMargin;
  for (double weight : {1.0 / 64, 1.0 / 4096}) {
    if (keep_at_least(weight) >= target) return;
  }
  // All that weigh less than this weigh together at most half of what top-p may leave out.
  keep_at_least((1.0 - options_.top_p) / 2 * total / static_cast<double>(vocab_size_));
}

void Sampler::keep_top_p(double total) {
  std::array<double, kWeightClasses> mass{};
  for (const Candidate& c : candidates_) mass[weight_class(c.weight)] += c.weight;
  const double target = static_cast<double>(options_.top_p) * total;
  double sum = 0.0;
  size_t cls = 0;
  while (cls + 1 < kWeightClasses && sum + mass[cls] < target) sum += mass[cls++];
  // The last one kept is in this class (or, if rounding was unkind, in one of the next).
  for (; cls < kWeightClasses; ++cls) {
    scratch_.clear();
    for (const Candidate& c : candidates_) {
      if (weight_class(c.weight) == cls) scratch_.push_back(c);
    }
    std::sort(scratch_.begin(), scratch_.end(), better);
    for (const Candidate& last : scratch_) {
      sum += last.weight;
      if (sum < target) continue;
      candidates_.erase(std::remove_if(candidates_.begin(), candidates_.end(),
                                       [&last](const Candidate& c) { return better(last, c); }),
                        candidates_.end());
      return;
    }
  }
}

TokenId Sampler::draw_from_all(double total) {
  const double mark = next_uniform() * total;
  double sum = 0.0;
  size_t block = 0;
  size_t last_block = 0;  // that weighs anything: where the mark is if it was rounded up to total
  for (; block < block_sums_.size() && sum + block_sums_[block] <= mark; ++block) {
    sum += block_sums_[block];
    if (block_sums_[block] > 0.0) last_block = block;
  }
  if (block == block_sums_.size()) block = last_block;
  size_t last = block * kBlock;
  for (size_t i = block * kBlock; i < std::min(vocab_size_, (block + 1) * kBlock); ++i) {
    if (weights_[i] > 0.0) last = i;
    sum += weights_[i];
    if (sum > mark) break;
  }
  return static_cast<TokenId>(last);
}

TokenId Sampler::draw_from_candidates() {
  double total = 0.0;
  for (const Candidate& c : candidates_) total += c.weight;
  const double mark = next_uniform() * total;
  double sum = 0.0;
  TokenId last = candidates_[0].token;
  for (const Candidate& c : candidates_) {
    sum += c.weight;
    if (c.weight > 0.0) last = c.token;
    if (sum > mark) break;
  }
  return last;
}

std::vector<uint8_t> Sampler::save() const {
  std::vector<uint8_t> bytes;
  bytes.reserve(kSaveHead + 4 * recent_.size() + kSaveChecksum);
  put(&bytes, kSaveMagic, 4);
  put(&bytes, kSaveVersion, 4);
  put(&bytes, vocab_size_, 8);
  put(&bytes, recent_.size(), 8);
  put(&bytes, recent_count_, 8);
  for (uint64_t word : random_) put(&bytes, word, 8);
  const size_t count = std::min(recent_count_, recent_.size());
  for (size_t i = 0; i < recent_.size(); ++i) {
    put(&bytes, i < count ? static_cast<uint32_t>(recent_[i]) : 0, 4);
  }
  put(&bytes, xxh3_64(bytes.data(), bytes.size()), 8);
  return bytes;
}

Status Sampler::restore(Span<const uint8_t> bytes) {
  return guarded("the sampler", [&]() -> Status {
    auto corrupt = [](const std::string& what) {
      return Status(StatusCode::kCorrupt, "saved sampler: " + what);
    };
    const uint8_t* p = bytes.data();
    if (bytes.size() < kSaveHead + kSaveChecksum || get(p, 4) != kSaveMagic) {
      return corrupt("not the bytes of Sampler::save()");
    }
    if (get(p + 4, 4) != kSaveVersion) {
      return Status(StatusCode::kVersion,
                    "saved sampler: version " + std::to_string(get(p + 4, 4)) +
                        ", this library knows " + std::to_string(kSaveVersion));
    }
    if (get(p + bytes.size() - kSaveChecksum, 8) != xxh3_64(p, bytes.size() - kSaveChecksum)) {
      return corrupt("the checksum does not fit the bytes");
    }
    const uint64_t vocab = get(p + 8, 8), window = get(p + 16, 8), count = get(p + 24, 8);
    if (vocab != vocab_size_ || window != recent_.size()) {
      return Status(StatusCode::kFailedPrecondition,
                    "saved sampler: made for vocab_size " + std::to_string(vocab) +
                        " and repeat_window " + std::to_string(window) + ", this one has " +
                        std::to_string(vocab_size_) + " and " + std::to_string(recent_.size()));
    }
    if (bytes.size() != kSaveHead + 4 * recent_.size() + kSaveChecksum) {
      return corrupt(std::to_string(bytes.size()) + " bytes for a window of " +
                     std::to_string(window));
    }
    if (count >= 2 * window && count > 0) {
      return corrupt(std::to_string(count) + " recent tokens in a window of " +
                     std::to_string(window));
    }
    const uint8_t* tokens = p + kSaveHead;
    for (size_t i = 0; i < recent_.size(); ++i) {
      if (get(tokens + 4 * i, 4) >= vocab_size_) {
        return corrupt("recent token " + std::to_string(get(tokens + 4 * i, 4)) + " is not below " +
                       std::to_string(vocab_size_));
      }
    }
    uint64_t random[4];
    for (size_t i = 0; i < 4; ++i) random[i] = get(p + 32 + 8 * i, 8);
    if ((random[0] | random[1] | random[2] | random[3]) == 0) {
      return corrupt("the generator's state is zero, which it never is");
    }
    std::copy(random, random + 4, random_);
    recent_count_ = static_cast<size_t>(count);
    for (size_t i = 0; i < recent_.size(); ++i) {
      recent_[i] = static_cast<TokenId>(get(tokens + 4 * i, 4));
    }
    return Status();
  });
}

}  // namespace moka
