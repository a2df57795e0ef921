// The first half of Pattern::compile: text to syntax tree.
#ifndef MOKA_RUNTIME_TEXT_PATTERN_PARSER_H_
#define MOKA_RUNTIME_TEXT_PATTERN_PARSER_H_

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moka/status.h"
#include "runtime/text/pattern.h"

namespace moka::text {

struct Node {
  enum class Kind {
    kEmpty,      // matches without reading
    kLiteral,    // `literal`
    kClass,      // class `index`
    kConcat,     // children one after the other
    kAlternate,  // children, the leftmost that lets the rest match
    kRepeat,     // the only child, min to max times
    kAtomic,     // the only child
    kLookahead,  // the only child, `negated`
    kBehind,     // class `index`, `negated`
    kAssert,     // `assertion`
  };
  Kind kind = Kind::kEmpty;
  CodePoint literal = 0;
  uint32_t index = 0;
  uint32_t min = 0, max = kNoBound;
  Greed greed = Greed::kGreedy;
  bool negated = false;
  Op assertion = Op::kTextStart;
  std::vector<Node> children;
};

struct SyntaxTree {
  Node root;
  std::vector<CharClass> classes;
  size_t possessive_interval = std::string_view::npos;
};

// Deepest nesting of groups; also bounds the recursion over the tree.
constexpr int kMaxNesting = 100;
constexpr size_t kMaxExpression = 65536;  // bytes

// kUnsupported names what is not understood and where.
Result<SyntaxTree> parse_pattern(std::string_view expression);

}  // namespace moka::text

#endif  // MOKA_RUNTIME_TEXT_PATTERN_PARSER_H_
