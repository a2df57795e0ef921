// Pattern: the regular expressions of tokenizers, matched over UTF-8 code points.
//
// What is understood
//   x|y  (x)  (?:x)  (?>x)  (?i:x)  (?i)         alternatives are tried from the left, as in Perl
//   [a-z\p{L}]  [^...]  .                        . is everything but \n
//   \p{L} \p{Lu} \P{N} \pL \p{^L} ...            general categories, short or long names
//   \s \S \d \D \w \W                            White_Space, Nd, word characters of Unicode
//   \n \r \t \f \v \a \e \x41 \x{1F600} \u00E9   and \ before any ASCII punctuation
//   ? * + {m} {m,} {m,n}, then ? lazy or + possessive
//   (?=x) (?!x) (?<=c) (?<!c)                    c: one character or class
//   ^ $ \A \z                                    ^ and $ at every line, as in Oniguruma, for which
//                                                tokenizer.json files are written
// Groups do not capture. Everything else is refused by name and position, so a pattern never means
// something other than what its author tested.
//
// Matching does not recurse and its work is bounded: a call that would need more steps than a few
// per byte of text and instruction of the pattern ends with an error. A Pattern is immutable; any
// number of threads may use one, each with its own Matcher.
#ifndef MOKA_RUNTIME_TEXT_PATTERN_H_
#define MOKA_RUNTIME_TEXT_PATTERN_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "moka/status.h"
#include "runtime/text/char_class.h"

namespace moka::text {

enum class Op : uint8_t {
  kMatch,        // the end: accept
  kLiteral,      // code point `a`
  kClass,        // one member of class `a`
  kLoop,         // `a`: class; min to max members, greedy, lazy or possessive
  kJump,         // to `a`
  kSplit,        // try `a`, then `b`; `first` tells bytes with which `a` may begin
  kAtomic,       // opens a group whose alternatives are dropped at kCut
  kCut,          // closes it
  kLook,         // opens a lookahead; after it `a`; `negated`
  kLookEnd,      // closes it
  kLookClass,    // the next character is (`negated`: is not) a member of class `a`
  kBehindClass,  // the previous one
  kTextStart,
  kTextEnd,
  kLineStart,
  kLineEnd,
};

enum class Greed : uint8_t { kGreedy, kLazy, kPossessive };

// The bytes with which a match may begin.
struct ByteSet {
  uint64_t bits[4] = {0, 0, 0, 0};
  bool empty_match = false;  // may match without reading a byte
  void add(uint8_t byte) { bits[byte / 64] |= uint64_t{1} << (byte % 64); }
  bool has(uint8_t byte) const { return (bits[byte / 64] >> (byte % 64) & 1) != 0; }
};

constexpr uint32_t kNoBound = 0xFFFFFFFF;

struct Instruction {
  Op op = Op::kMatch;
  Greed greed = Greed::kGreedy;
  bool negated = false;
  uint32_t a = 0, b = 0;
  uint32_t min = 0, max = kNoBound;
  uint32_t first = 0;  // index of a ByteSet
};

class Pattern {
 public:
  // kUnsupported gives what was found and its byte offset in `expression`.
  static Result<Pattern> compile(std::string_view expression);
  // Matches `text` itself, character for character.
  static Result<Pattern> literal(std::string_view text);

  const std::string& expression() const { return expression_; }

  // Offset of a + after {m,n}, or npos. This engine takes it as possessive, as PCRE, Java and
  // tiktoken do; Oniguruma repeats the whole. A reader of files for the latter must refuse it.
  size_t possessive_interval() const { return possessive_interval_; }

 private:
  friend class Matcher;
  friend class Compiler;
  std::string expression_;
  std::vector<Instruction> program_;
  std::vector<CharClass> classes_;
  std::vector<ByteSet> firsts_;  // [0]: of the whole pattern
  size_t possessive_interval_ = std::string_view::npos;
};

// Where a match is: text[begin, end).
struct Match {
  size_t begin = 0, end = 0;
};

// Runs one Pattern over one text after the other; both outlive its use of them. Memory is kept from
// text to text.
class Matcher {
 public:
  explicit Matcher(const Pattern& pattern) : pattern_(&pattern) {}

  // Begins with a text of less than 4 GiB and renews the work allowed.
  void start(std::string_view text);

  // The first match that begins at or after `start`, a boundary between code points. False: none.
  // kOutOfRange: the work allowed for this text is used up.
  Result<bool> find(size_t start_at, Match* match);

 private:
  enum class Kind : uint8_t { kRetry, kShrink, kGrow, kGroup };
  // One way to go on after a failure, or the opening of an atomic group or lookahead.
  struct Frame {
    Kind kind;
    uint32_t pc;      // kRetry: where to go on; otherwise the instruction
    size_t position;  // kShrink, kGrow: end of the loop's current reading
    size_t limit;     // kShrink: shortest allowed end; kGrow: count so far; kGroup: the outer group
  };
  enum class Outcome { kMatched, kFailed, kExhausted };

  Outcome match_at(size_t start, size_t* end);
  bool run_loop(const Instruction& loop, uint32_t pc, size_t* position);
  bool test(const Instruction& instruction, size_t* position) const;
  bool test_context(const Instruction& instruction, size_t position) const;
  bool resume(uint32_t* pc, size_t* position);
  bool grow(Frame* frame, size_t* position);
  void push(Kind kind, uint32_t pc, size_t position, size_t limit);
  void spend(uint64_t steps) { steps_left_ = steps_left_ > steps ? steps_left_ - steps : 0; }

  const Pattern* pattern_;
  std::string_view text_;
  std::vector<Frame> stack_;
  size_t group_ = 0;  // stack size at the opening of the innermost open group, its frame included
  uint64_t steps_left_ = 0;
};

}  // namespace moka::text

#endif  // MOKA_RUNTIME_TEXT_PATTERN_H_
