// Lookup: guesses how a text goes on by looking up where its last tokens stood before. Texts that
// repeat themselves, names, lists, quotations, code, answers about a given text, are written in fewer
// passes over the weights this way, and what is written is the same to the bit:
//
//   moka::Lookup lookup = moka::Lookup::create({}).value();
//   for (moka::TokenId id : prompt) lookup.push(id);              // what the session has read
//   while (...) {
//     auto token = sampler.sample(session.logits());              // the next one, for certain
//     auto read = session.append_with_guesses(token.value(), lookup.guess(token.value(), 16), sampler,
//                                             [&](moka::TokenId id) { lookup.push(id); return true; });
//   }
//
// Guessing costs: every guess that is wrong has gone through the model for nothing. So a Lookup keeps
// count of how often it would have been right lately, by the length of what was found, and guesses so
// many tokens as are likely enough to come true; where a text does not repeat itself, none.
//
// One thread at a time. Everything is allocated by create(): 4 bytes per token of history and 8 more for
// each length between `shortest` and `longest`, up to the next power of two.
#ifndef MOKA_LOOKUP_H_
#define MOKA_LOOKUP_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "moka/session.h"
#include "moka/span.h"
#include "moka/status.h"
#include "moka/tokenizer.h"

namespace moka {

struct LookupOptions {
  uint32_t guesses = 8;  // the most at a time, 1 to Session::kMostGuesses
  // Tokens at the end of the text that must have stood together before: as many as possible, from
  // `longest` down to `shortest`, both 1 to 8.
  uint32_t longest = 4, shortest = 2;
  uint32_t history = 65536;  // tokens that are remembered, the last ones; 16 to 2^24
  bool always = false;       // guess all that is found, however seldom it came true
};

struct LookupCounts {
  uint64_t passes = 0;    // with guesses
  uint64_t drafted = 0;   // guesses that were tried
  uint64_t accepted = 0;  // of these came true
};

class Lookup {
 public:
  // kInvalidArgument names an option out of range; kOutOfMemory.
  static Result<Lookup> create(const LookupOptions& options);

  // The text goes on with `token`.
  void push(TokenId token);

  // What may follow the text and `next`, which comes now and is pushed afterwards: at most `most` tokens,
  // often none. It is what followed the latest place where the last tokens stood together, and where
  // that reaches the end of the text, what was guessed there. Valid until the next call.
  Span<const TokenId> guess(TokenId next, size_t most);
  // For counts() alone: so many of the last guess() went through the model, and came true.
  void record(size_t tried, size_t accepted);

  const LookupCounts& counts() const { return counts_; }

  // Forgets the text. What was learnt of guessing, and the counts, stay.
  void reset();

 private:
  // Places of equal hash: where the latest ends, and for each place where the one before it ends.
  struct Index {
    std::vector<uint32_t> latest, earlier;
  };

  Lookup() = default;
  size_t slot(uint64_t place) const { return static_cast<size_t>(place & mask_); }
  TokenId at(uint64_t place) const { return text_[slot(place)]; }
  uint32_t hash(uint32_t length, TokenId last, uint64_t end) const;
  bool find(uint32_t length, TokenId next, uint64_t* follows) const;
  void compare(TokenId token);

  LookupOptions options_;
  uint64_t mask_ = 0;
  uint64_t count_ = 0;          // tokens pushed
  uint64_t size_ = 0;           // of them remembered
  std::vector<TokenId> text_;   // a ring
  std::vector<Index> indices_;  // by length, from the shortest on
  // What was guessed, or would have been if it were more likely, and how much of it has been compared
  // with what came.
  std::array<TokenId, Session::kMostGuesses> guesses_{};
  size_t guessed_ = 0, compared_ = 0;
  uint32_t length_ = 0;        // of what was found for it
  bool next_comes_ = false;    // its `next` has not been pushed yet
  std::vector<double> rates_;  // by length: share of guesses that came true lately
  LookupCounts counts_;
};

}  // namespace moka

#endif  // MOKA_LOOKUP_H_
