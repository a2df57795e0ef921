// Recursive descent over
//   alternation = sequence { "|" sequence }
//   sequence    = { atom [ quantifier ] }
//   atom        = literal | class | group | assertion
// Every parse function returns false after fail(), which keeps the first reason.
#include "runtime/text/pattern_parser.h"

#include <algorithm>
#include <cstdio>

namespace moka::text {

namespace {

constexpr uint32_t kMaxRepeat = 1000;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_ascii_punctuation(char c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
         (c >= '{' && c <= '~');
}

class Parser {
 public:
  explicit Parser(std::string_view expression) : text_(expression) {}

  Result<SyntaxTree> parse();

 private:
  bool fail(size_t position, const std::string& what);
  bool at_end() const { return position_ >= text_.size(); }
  char peek(size_t ahead = 0) const {
    return position_ + ahead < text_.size() ? text_[position_ + ahead] : '\0';
  }
  bool starts(std::string_view prefix) const {
    return text_.substr(position_, prefix.size()) == prefix;
  }
  bool accept(std::string_view prefix) {
    if (!starts(prefix)) return false;
    position_ += prefix.size();
    return true;
  }

  bool alternation(Node* out, int depth);
  bool sequence(Node* out, int depth);
  bool atom(Node* out, int depth);
  bool group(Node* out, int depth);
  bool quantifier(Node* target, size_t start);
  bool interval(uint32_t* min, uint32_t* max, bool* exact);
  bool number(uint32_t* out);

  bool escape(Node* out);
  bool escaped_character(CodePoint* out);
  bool hex_digits(size_t most, char close, CodePoint* out);
  bool shorthand(CharClass* out);  // after a backslash: p P s S d D w W
  bool bracket(Node* out);
  bool bracket_member(CharClass* out);
  bool bracket_character(CodePoint* out);
  bool character(CodePoint* out);

  bool finish_class(CharClass c, Node* out);
  bool literal(CodePoint c, Node* out);
  bool to_class(const Node& node, size_t start, uint32_t* index);
  const CaseTable& cases() {
    if (!cases_) cases_ = make_case_table();
    return *cases_;
  }

  std::string_view text_;
  size_t position_ = 0;
  bool ignore_case_ = false;
  std::optional<CaseTable> cases_;
  std::string error_;
  SyntaxTree tree_;
};

bool Parser::fail(size_t position, const std::string& what) {
  if (error_.empty()) {
    error_ = "pattern \"" + std::string(text_.substr(0, 200)) + "\": at byte " +
             std::to_string(position) + ": " + what;
  }
  return false;
}

Result<SyntaxTree> Parser::parse() {
  if (text_.size() > kMaxExpression) {
    fail(kMaxExpression, "the pattern has " + std::to_string(text_.size()) + " bytes, at most " +
                             std::to_string(kMaxExpression) + " are read");
  } else if (alternation(&tree_.root, 0) && !at_end()) {
    fail(position_, "\")\" without \"(\"");
  }
  if (!error_.empty()) return Status(StatusCode::kUnsupported, error_);
  return std::move(tree_);
}

bool Parser::alternation(Node* out, int depth) {
  if (depth > kMaxNesting) {
    return fail(position_, "groups nest deeper than " + std::to_string(kMaxNesting));
  }
  const bool outer_case = ignore_case_;
  // Only here do engines agree on what a (?i) inside a group reaches.
  if (accept("(?i)")) ignore_case_ = true;
  std::vector<Node> branches(1);
  if (!sequence(&branches[0], depth)) return false;
  while (accept("|")) {
    branches.emplace_back();
    if (!sequence(&branches.back(), depth)) return false;
  }
  ignore_case_ = outer_case;
  if (branches.size() == 1) {
    *out = std::move(branches[0]);
  } else {
    out->kind = Node::Kind::kAlternate;
    out->children = std::move(branches);
  }
  return true;
}

bool Parser::sequence(Node* out, int depth) {
  std::vector<Node> parts;
  while (!at_end() && peek() != '|' && peek() != ')') {
    const size_t start = position_;
    Node part;
    if (!atom(&part, depth) || !quantifier(&part, start)) return false;
    parts.push_back(std::move(part));
  }
  if (parts.size() == 1) {
    *out = std::move(parts[0]);
  } else if (!parts.empty()) {
    out->kind = Node::Kind::kConcat;
    out->children = std::move(parts);
  }
  return true;
}

bool Parser::atom(Node* out, int depth) {
  const size_t start = position_;
  switch (peek()) {
    case '(': return group(out, depth);
    case '[': return bracket(out);
    case '\\': return escape(out);
    case '.': {
      ++position_;
      CharClass any;
      any.add_range('\n', '\n');
      any.negate();
      return finish_class(std::move(any), out);
    }
    case '^':
    case '$':
      out->kind = Node::Kind::kAssert;
      out->assertion = peek() == '^' ? Op::kLineStart : Op::kLineEnd;
      ++position_;
      return true;
    case '*':
    case '+':
    case '?':
    case '{': return fail(start, std::string("\"") + peek() + "\" has nothing to repeat");
    default: {
      CodePoint c = 0;
      return character(&c) && literal(c, out);
    }
  }
}

bool Parser::group(Node* out, int depth) {
  const size_t start = position_;
  const bool outer_case = ignore_case_;
  Node::Kind kind = Node::Kind::kConcat;  // a plain group is its content
  if (accept("(?:")) {
  } else if (accept("(?i:")) {
    ignore_case_ = true;
  } else if (accept("(?>")) {
    kind = Node::Kind::kAtomic;
  } else if (starts("(?=") || starts("(?!")) {
    kind = Node::Kind::kLookahead;
    out->negated = peek(2) == '!';
    position_ += 3;
  } else if (starts("(?<=") || starts("(?<!")) {
    kind = Node::Kind::kBehind;
    out->negated = peek(3) == '!';
    position_ += 4;
  } else if (starts("(?")) {
    return fail(start, "\"" + std::string(text_.substr(start, 4)) +
                           "\" is a kind of group that is not understood");
  } else if (starts("(*")) {
    return fail(start, "\"(*\" is not understood");
  } else {
    ++position_;
  }
  Node body;
  if (!alternation(&body, depth + 1)) return false;
  if (!accept(")")) return fail(start, "\"(\" without \")\"");
  ignore_case_ = outer_case;
  if (kind == Node::Kind::kConcat) {
    *out = std::move(body);
    return true;
  }
  out->kind = kind;
  if (kind == Node::Kind::kBehind) return to_class(body, start, &out->index);
  out->children.push_back(std::move(body));
  return true;
}

bool Parser::number(uint32_t* out) {
  const size_t start = position_;
  uint32_t value = 0;
  while (is_digit(peek())) {
    value = value * 10 + static_cast<uint32_t>(peek() - '0');
    ++position_;
    if (value > kMaxRepeat) {
      return fail(start, "more than " + std::to_string(kMaxRepeat) + " repetitions");
    }
  }
  *out = value;
  return position_ > start;
}

// {m}, {m,} and {m,n}.
bool Parser::interval(uint32_t* min, uint32_t* max, bool* exact) {
  const size_t start = position_;
  *exact = false;
  if (accept("{") && number(min)) {
    *max = *min;
    if (accept("}")) return *exact = true;
    if (accept(",")) {
      if (!number(max)) *max = kNoBound;
      if (accept("}")) return *min <= *max || fail(start, "the bounds of {m,n} are in wrong order");
    }
  }
  return fail(start, "\"{\" begins no {m}, {m,} or {m,n}; write \\{ for the character");
}

bool Parser::quantifier(Node* target, size_t start) {
  bool exact = false, is_interval = false;
  uint32_t min = 0, max = kNoBound;
  const size_t place = position_;
  if (accept("*")) {
  } else if (accept("+")) {
    min = 1;
  } else if (accept("?")) {
    max = 1;
  } else if (peek() == '{') {
    is_interval = true;
    if (!interval(&min, &max, &exact)) return false;
  } else {
    return true;
  }
  const Node::Kind kind = target->kind;
  if (kind == Node::Kind::kLookahead || kind == Node::Kind::kBehind ||
      kind == Node::Kind::kAssert) {
    return fail(place, "a quantifier after something that reads no character");
  }
  Node repeat;
  repeat.kind = Node::Kind::kRepeat;
  repeat.min = min;
  repeat.max = max;
  if (peek() == '?') {
    if (exact) return fail(position_, "\"?\" after {m}, which engines read in different ways");
    repeat.greed = Greed::kLazy;
    ++position_;
  } else if (peek() == '+') {
    if (is_interval) tree_.possessive_interval = std::min(tree_.possessive_interval, position_);
    repeat.greed = Greed::kPossessive;
    ++position_;
  }
  if (peek() == '*' || peek() == '+' || peek() == '?' || peek() == '{') {
    return fail(position_, "a quantifier after a quantifier; write (?:" +
                               std::string(text_.substr(start, position_ - start)) + ")" + peek());
  }
  repeat.children.push_back(std::move(*target));
  *target = std::move(repeat);
  return true;
}

bool Parser::character(CodePoint* out) {
  const Decoded d = decode(text_, position_);
  if (d.code_point >= kInvalidByte) return fail(position_, "a byte that is not UTF-8");
  position_ += d.length;
  *out = d.code_point;
  return true;
}

bool Parser::hex_digits(size_t most, char close, CodePoint* out) {
  const size_t start = position_;
  CodePoint value = 0;
  size_t count = 0;
  for (; count < most && hex_value(peek()) >= 0; ++count, ++position_) {
    value = value * 16 + static_cast<CodePoint>(hex_value(peek()));
  }
  const bool whole = close == '\0' ? count == most : count > 0 && accept({&close, 1});
  if (!whole) return fail(start, "hexadecimal digits are missing");
  if (value > kMaxCodePoint || (value >= 0xD800 && value <= 0xDFFF)) {
    return fail(start, "the number is no Unicode character");
  }
  *out = value;
  return true;
}

// What follows a backslash and stands for one character.
bool Parser::escaped_character(CodePoint* out) {
  const size_t start = position_ - 1;
  const char c = peek();
  if (at_end()) return fail(start, "\"\\\" at the end");
  if (is_ascii_punctuation(c) || c == ' ') {
    ++position_;
    *out = static_cast<CodePoint>(c);
    return true;
  }
  constexpr std::string_view kNames = "nrtfvae";
  constexpr std::string_view kValues = "\n\r\t\f\v\a\x1B";
  const size_t known = kNames.find(c);
  if (known != std::string_view::npos) {
    ++position_;
    *out = static_cast<CodePoint>(kValues[known]);
    return true;
  }
  if (accept("u")) return hex_digits(4, '\0', out);
  if (accept("x{")) return hex_digits(8, '}', out);
  if (accept("x")) {
    if (!hex_digits(2, '\0', out)) return false;
    // Oniguruma reads a byte, others a code point.
    return *out < 0x80 || fail(start, "\\x80 to \\xFF are read in different ways; write \\x{..}");
  }
  return fail(start, std::string("\"\\") + c + "\" is not understood");
}

bool Parser::shorthand(CharClass* out) {
  const size_t start = position_ - 1;
  const char kind = peek();
  ++position_;
  const bool upper = kind >= 'A' && kind <= 'Z';
  switch (kind) {
    case 's':
    case 'S': out->add_spaces(upper); return true;
    case 'w':
    case 'W': out->add_words(upper); return true;
    case 'd':
    case 'D': out->add_categories(bit(kNd), upper); return true;
    default: break;
  }
  std::string_view name = text_.substr(position_, 1);
  bool negated = upper;
  if (accept("{")) {
    if (accept("^")) negated = !negated;
    const size_t end = text_.find('}', position_);
    if (end == std::string_view::npos) return fail(start, "\"{\" without \"}\"");
    name = text_.substr(position_, end - position_);
    position_ = end + 1;
  } else {
    position_ = std::min(position_ + 1, text_.size());
  }
  const CategorySet set = category_set(name);
  if (set == 0) {
    return fail(start,
                "property \"" + std::string(name) + "\" is not known; only general categories are");
  }
  out->add_categories(set, negated);
  return true;
}

bool Parser::escape(Node* out) {
  const size_t start = position_;
  ++position_;
  if (std::string_view("pPsSdDwW").find(peek()) != std::string_view::npos && !at_end()) {
    CharClass c;
    return shorthand(&c) && finish_class(std::move(c), out);
  }
  if (peek() == 'A' || peek() == 'z') {
    out->kind = Node::Kind::kAssert;
    out->assertion = peek() == 'A' ? Op::kTextStart : Op::kTextEnd;
    ++position_;
    return true;
  }
  if (is_digit(peek())) return fail(start, "references to groups are not understood");
  CodePoint c = 0;
  return escaped_character(&c) && literal(c, out);
}

bool Parser::bracket(Node* out) {
  const size_t start = position_++;
  CharClass c;
  const bool negated = accept("^");
  if (peek() == ']') return fail(position_, "an empty class; write \\] for the character");
  while (!accept("]")) {
    if (at_end()) return fail(start, "\"[\" without \"]\"");
    if (!bracket_member(&c)) return false;
  }
  if (negated) c.negate();
  return finish_class(std::move(c), out);
}

bool Parser::bracket_character(CodePoint* out) {
  if (accept("\\")) return escaped_character(out);
  return character(out);
}

bool Parser::bracket_member(CharClass* out) {
  const size_t start = position_;
  if (peek() == '[') return fail(start, "a class inside a class; write \\[ for the character");
  if (starts("&&")) return fail(start, "\"&&\" between classes is not understood");
  if (peek() == '\\' && peek(1) != '\0' &&
      std::string_view("pPsSdDwW").find(peek(1)) != std::string_view::npos) {
    ++position_;
    if (!shorthand(out)) return false;
    if (peek() == '-' && peek(1) != ']') return fail(position_, "a range that begins with a set");
    return true;
  }
  CodePoint low = 0, high = 0;
  if (!bracket_character(&low)) return false;
  high = low;
  if (peek() == '-' && peek(1) != ']' && peek(1) != '\0') {
    ++position_;
    if (peek() == '[') return fail(position_, "a range that ends with a class");
    if (!bracket_character(&high)) return false;
    if (high < low) return fail(start, "the bounds of a range are in wrong order");
  }
  out->add_range(low, high);
  return true;
}

bool Parser::finish_class(CharClass c, Node* out) {
  constexpr size_t kMaxClasses = 4096;
  if (tree_.classes.size() >= kMaxClasses) {
    return fail(position_, "more than " + std::to_string(kMaxClasses) + " classes");
  }
  if (ignore_case_ && !c.ignore_case(cases())) {
    return fail(position_,
                "(?i) with \\p{Lu}, \\p{Ll} or \\p{Lt}, which engines read in different ways");
  }
  c.seal();
  out->kind = Node::Kind::kClass;
  out->index = static_cast<uint32_t>(tree_.classes.size());
  tree_.classes.push_back(std::move(c));
  return true;
}

bool Parser::literal(CodePoint c, Node* out) {
  if (ignore_case_) {
    CharClass both;
    both.add_range(c, c);
    if (!case_variants(cases(), {{c, c}}).empty()) return finish_class(std::move(both), out);
  }
  out->kind = Node::Kind::kLiteral;
  out->literal = c;
  return true;
}

bool Parser::to_class(const Node& node, size_t start, uint32_t* index) {
  if (node.kind == Node::Kind::kClass) {
    *index = node.index;
    return true;
  }
  if (node.kind != Node::Kind::kLiteral) {
    return fail(start, "a lookbehind of more than one character is not understood");
  }
  CharClass c;
  c.add_range(node.literal, node.literal);
  Node as_class;
  if (!finish_class(std::move(c), &as_class)) return false;
  *index = as_class.index;
  return true;
}

}  // namespace

Result<SyntaxTree> parse_pattern(std::string_view expression) { return Parser(expression).parse(); }

}  // namespace moka::text
