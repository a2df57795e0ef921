#include "moka/lookup.h"

#include <algorithm>
#include <string>

#include "runtime/guard.h"

namespace moka {
namespace {

constexpr uint32_t kMostLength = 8;
constexpr uint32_t kLeastHistory = 16, kMostHistory = uint32_t{1} << 24;
// Places of equal hash that are looked at: nearly always the first is right, and texts that are made to
// collide cost no more than this.
constexpr int kMostPlaces = 16;

// How likely guesses have to be. With the first, a pass has two rows instead of one, and when it is wrong
// the state before it is taken back: it pays from one half on. The others add a row each.
constexpr double kWorthAPass = 0.6, kWorthARow = 0.35;
// Products take so many rows together, so some more cost as much as a whole group.
constexpr size_t kRowGroup = 4;
// Below kWorthAPass: some guesses are right in silence before one is tried.
constexpr double kFirstRate = 0.45;
constexpr double kRateStep = 1.0 / 8;

Status check(const char* name, uint32_t value, uint32_t low, uint32_t high) {
  if (value >= low && value <= high) return Status();
  return Status(StatusCode::kInvalidArgument,
                std::string("lookup: ") + name + " is " + std::to_string(value) + ", must be " +
                    std::to_string(low) + " to " + std::to_string(high));
}

}  // namespace

Result<Lookup> Lookup::create(const LookupOptions& options) {
  return guarded("look-ups", [&]() -> Result<Lookup> {
    MOKA_RETURN_IF_ERROR(check("guesses", options.guesses, 1, Session::kMostGuesses));
    MOKA_RETURN_IF_ERROR(check("longest", options.longest, 1, kMostLength));
    MOKA_RETURN_IF_ERROR(check("shortest", options.shortest, 1, options.longest));
    MOKA_RETURN_IF_ERROR(check("history", options.history, kLeastHistory, kMostHistory));
    Lookup lookup;
    lookup.options_ = options;
    size_t places = kLeastHistory;
    while (places < options.history) places *= 2;
    lookup.mask_ = places - 1;
    lookup.text_.resize(places);
    lookup.indices_.resize(options.longest - options.shortest + 1);
    for (Index& index : lookup.indices_) {
      index.latest.resize(places);
      index.earlier.resize(places);
    }
    lookup.rates_.assign(lookup.indices_.size(), kFirstRate);
    return lookup;
  });
}

// Of the `length` tokens that end with `last`, the others ending before place `end`.
uint32_t Lookup::hash(uint32_t length, TokenId last, uint64_t end) const {
  uint64_t h = static_cast<uint32_t>(last);
  for (uint32_t i = 1; i < length; ++i) {
    h = h * 0x9e3779b97f4a7c15u + static_cast<uint32_t>(at(end - i)) + 1;
    h ^= h >> 29;
  }
  h *= 0x9e3779b97f4a7c15u;
  return static_cast<uint32_t>((h >> 32) & mask_);
}

void Lookup::push(TokenId token) {
  if (!next_comes_) compare(token);
  next_comes_ = false;
  // Places are known by their low 32 bits: a text has no end.
  const auto place = static_cast<uint32_t>(count_);
  for (size_t i = 0; i < indices_.size(); ++i) {
    const uint32_t length = options_.shortest + static_cast<uint32_t>(i);
    if (size_ + 1 < length) break;
    uint32_t& latest = indices_[i].latest[hash(length, token, count_)];
    indices_[i].earlier[slot(count_)] = latest;
    latest = place;
  }
  text_[slot(count_)] = token;
  ++count_;
  size_ = std::min<uint64_t>(size_ + 1, options_.history);
}

// Where the token stands that followed the last `length` tokens, `next` among them, the last time.
bool Lookup::find(uint32_t length, TokenId next, uint64_t* follows) const {
  if (size_ + 1 < length) return false;
  const Index& index = indices_[length - options_.shortest];
  uint32_t place = index.latest[hash(length, next, count_)];
  uint64_t nearer = 0;
  for (int i = 0; i < kMostPlaces; ++i) {
    const uint64_t back = static_cast<uint32_t>(static_cast<uint32_t>(count_) - place);
    // Beyond what is remembered, or not a place of this chain any more.
    if (back <= nearer || back + length - 1 > size_) return false;
    const uint64_t end = count_ - back;
    bool same = at(end) == next;
    for (uint32_t t = 1; t < length && same; ++t) same = at(end - t) == at(count_ - t);
    if (same) {
      *follows = end + 1;
      return true;
    }
    nearer = back;
    place = index.earlier[slot(end)];
  }
  return false;
}

// Learns from the next token of the text, whether or not it was guessed aloud.
void Lookup::compare(TokenId token) {
  if (compared_ == guessed_) return;
  const bool right = guesses_[compared_] == token;
  double& rate = rates_[length_ - options_.shortest];
  rate += ((right ? 1.0 : 0.0) - rate) * kRateStep;
  compared_ = right ? compared_ + 1 : guessed_;
}

Span<const TokenId> Lookup::guess(TokenId next, size_t most) {
  if (!next_comes_) compare(next);
  next_comes_ = true;
  guessed_ = compared_ = 0;
  uint64_t from = 0;
  length_ = options_.longest;
  while (!find(length_, next, &from)) {
    if (length_-- == options_.shortest) return Span<const TokenId>();
  }
  for (; guessed_ < options_.guesses; ++guessed_, ++from) {
    guesses_[guessed_] = from < count_    ? at(from)
                         : from == count_ ? next
                                          : guesses_[static_cast<size_t>(from - count_ - 1)];
  }
  most = std::min(most, guessed_);
  size_t worth = options_.always ? most : 0;
  const double rate = rates_[length_ - options_.shortest];
  for (double likely = rate; worth < most && likely >= (worth == 0 ? kWorthAPass : kWorthARow);
       likely *= rate) {
    ++worth;
  }
  // With the token before them, whole groups of rows.
  if (!options_.always && worth >= kRowGroup) worth -= (worth + 1) % kRowGroup;
  return Span<const TokenId>(guesses_.data(), worth);
}

void Lookup::record(size_t tried, size_t accepted) {
  if (tried == 0) return;
  ++counts_.passes;
  counts_.drafted += tried;
  counts_.accepted += accepted;
}

void Lookup::reset() {
  size_ = count_ = 0;
  guessed_ = compared_ = 0;
  next_comes_ = false;
}

}  // namespace moka
