// The second half of Pattern::compile: syntax tree to program.
//
//   x|y    split L1, L2; L1: x; jump end; L2: y; end:
//   x*     L: split body, end; body: x; jump L; end:        (x is a group; lazy: the split turns)
//   c*     one loop instruction for a single character or class
//   x{2,3} x; x; split body, end; body: x; end:
//   (?=x)  look end; x; look-end; end:
#include <algorithm>
#include <map>

#include "runtime/text/pattern_parser.h"

namespace moka::text {

namespace {

constexpr size_t kMaxProgram = 1 << 16;  // instructions

constexpr uint32_t kFirstOfPattern = 0;  // index in Pattern::firsts_
constexpr uint32_t kFirstAny = 1;

bool can_be_empty(const Node& node) {
  auto child_can = [](const Node& child) { return can_be_empty(child); };
  switch (node.kind) {
    case Node::Kind::kLiteral:
    case Node::Kind::kClass: return false;
    case Node::Kind::kConcat:
      return std::all_of(node.children.begin(), node.children.end(), child_can);
    case Node::Kind::kAlternate:
      return std::any_of(node.children.begin(), node.children.end(), child_can);
    case Node::Kind::kRepeat: return node.min == 0 || can_be_empty(node.children[0]);
    case Node::Kind::kAtomic: return can_be_empty(node.children[0]);
    default: return true;
  }
}

}  // namespace

class Compiler {
 public:
  Compiler(std::string_view expression, SyntaxTree tree) : tree_(std::move(tree)) {
    pattern_.expression_ = std::string(expression);
    pattern_.classes_ = std::move(tree_.classes);
    pattern_.possessive_interval_ = tree_.possessive_interval;
  }

  Result<Pattern> compile();

 private:
  uint32_t here() const { return static_cast<uint32_t>(pattern_.program_.size()); }
  Instruction& at(uint32_t pc) { return pattern_.program_[pc]; }
  uint32_t emit(Op op, uint32_t a = 0);
  uint32_t emit_split(uint32_t first);
  void emit_node(const Node& node);
  void emit_alternate(const Node& node);
  void emit_repeat(const Node& node);
  void emit_loop(const Node& node, uint32_t class_index);
  void emit_group_repeat(const Node& node);
  void emit_lookahead(const Node& node);
  void aim_split(uint32_t split, uint32_t body, uint32_t end, Greed greed);
  uint32_t class_of_literal(CodePoint c);
  uint32_t add_first(const ByteSet& set);
  ByteSet first_of(const Node& node) const;
  void settle_loops();
  void fail_size() {
    fail("its repetitions unroll to more than " + std::to_string(kMaxProgram) + " instructions");
  }
  void fail(const std::string& what) {
    if (error_.empty()) error_ = "pattern \"" + pattern_.expression_.substr(0, 200) + "\": " + what;
  }

  SyntaxTree tree_;
  Pattern pattern_;
  std::map<CodePoint, uint32_t> literal_classes_;
  size_t visits_ = 0;  // nodes emitted, those that emit nothing included
  std::string error_;
};

uint32_t Compiler::emit(Op op, uint32_t a) {
  if (pattern_.program_.size() >= kMaxProgram) {
    fail_size();
    return 0;  // The program is given up; further instructions overwrite nothing that is run.
  }
  Instruction instruction;
  instruction.op = op;
  instruction.a = a;
  pattern_.program_.push_back(instruction);
  return here() - 1;
}

uint32_t Compiler::emit_split(uint32_t first) {
  const uint32_t pc = emit(Op::kSplit);
  at(pc).first = first;
  return pc;
}

uint32_t Compiler::add_first(const ByteSet& set) {
  if (set.empty_match) return kFirstAny;
  pattern_.firsts_.push_back(set);
  return static_cast<uint32_t>(pattern_.firsts_.size() - 1);
}

ByteSet Compiler::first_of(const Node& node) const {
  ByteSet set;
  auto merge = [&set](const ByteSet& other) {
    for (int i = 0; i < 4; ++i) set.bits[i] |= other.bits[i];
  };
  switch (node.kind) {
    case Node::Kind::kLiteral: {
      std::string utf8;
      append_utf8(node.literal, &utf8);
      set.add(static_cast<uint8_t>(utf8[0]));
      return set;
    }
    case Node::Kind::kClass: {
      const CharClass& c = pattern_.classes_[node.index];
      for (uint32_t byte = 0; byte < 256; ++byte) {
        if (c.may_begin_with(static_cast<uint8_t>(byte))) set.add(static_cast<uint8_t>(byte));
      }
      return set;
    }
    case Node::Kind::kConcat: {
      set.empty_match = true;
      for (const Node& child : node.children) {
        const ByteSet first = first_of(child);
        merge(first);
        set.empty_match = first.empty_match;
        if (!set.empty_match) break;
      }
      return set;
    }
    case Node::Kind::kAlternate:
      for (const Node& child : node.children) {
        const ByteSet first = first_of(child);
        merge(first);
        set.empty_match |= first.empty_match;
      }
      return set;
    case Node::Kind::kRepeat:
      set = first_of(node.children[0]);
      set.empty_match |= node.min == 0;
      return set;
    case Node::Kind::kAtomic: return first_of(node.children[0]);
    default: set.empty_match = true; return set;
  }
}

uint32_t Compiler::class_of_literal(CodePoint c) {
  const auto known = literal_classes_.find(c);
  if (known != literal_classes_.end()) return known->second;
  CharClass one;
  one.add_range(c, c);
  one.seal();
  const auto index = static_cast<uint32_t>(pattern_.classes_.size());
  pattern_.classes_.push_back(std::move(one));
  literal_classes_.emplace(c, index);
  return index;
}

void Compiler::emit_node(const Node& node) {
  if (++visits_ > 4 * kMaxProgram) fail_size();
  if (!error_.empty()) return;
  switch (node.kind) {
    case Node::Kind::kEmpty: return;
    case Node::Kind::kLiteral: emit(Op::kLiteral, node.literal); return;
    case Node::Kind::kClass: emit(Op::kClass, node.index); return;
    case Node::Kind::kConcat:
      for (const Node& child : node.children) emit_node(child);
      return;
    case Node::Kind::kAlternate: emit_alternate(node); return;
    case Node::Kind::kRepeat: emit_repeat(node); return;
    case Node::Kind::kAtomic:
      emit(Op::kAtomic);
      emit_node(node.children[0]);
      emit(Op::kCut);
      return;
    case Node::Kind::kLookahead: emit_lookahead(node); return;
    case Node::Kind::kBehind: at(emit(Op::kBehindClass, node.index)).negated = node.negated; return;
    case Node::Kind::kAssert: emit(node.assertion); return;
  }
}

void Compiler::emit_alternate(const Node& node) {
  std::vector<uint32_t> jumps;
  for (size_t i = 0; i + 1 < node.children.size() && error_.empty(); ++i) {
    const uint32_t split = emit_split(add_first(first_of(node.children[i])));
    at(split).a = here();
    emit_node(node.children[i]);
    jumps.push_back(emit(Op::kJump));
    at(split).b = here();
  }
  emit_node(node.children.back());
  for (uint32_t jump : jumps) at(jump).a = here();
}

void Compiler::emit_repeat(const Node& node) {
  const Node& body = node.children[0];
  if (body.kind == Node::Kind::kClass) return emit_loop(node, body.index);
  if (body.kind == Node::Kind::kLiteral) return emit_loop(node, class_of_literal(body.literal));
  if (node.max == kNoBound && can_be_empty(body)) {
    return fail("it repeats without end a group that can match nothing");
  }
  if (node.greed != Greed::kPossessive) return emit_group_repeat(node);
  emit(Op::kAtomic);
  emit_group_repeat(node);
  emit(Op::kCut);
}

void Compiler::emit_loop(const Node& node, uint32_t class_index) {
  Instruction& loop = at(emit(Op::kLoop, class_index));
  loop.min = node.min;
  loop.max = node.max;
  loop.greed = node.greed;
}

void Compiler::aim_split(uint32_t split, uint32_t body, uint32_t end, Greed greed) {
  at(split).a = greed == Greed::kLazy ? end : body;
  at(split).b = greed == Greed::kLazy ? body : end;
}

void Compiler::emit_group_repeat(const Node& node) {
  const Node& body = node.children[0];
  const uint32_t first = node.greed == Greed::kLazy ? kFirstAny : add_first(first_of(body));
  for (uint32_t i = 0; i < node.min && error_.empty(); ++i) emit_node(body);
  if (node.max == kNoBound) {
    const uint32_t split = emit_split(first);
    const uint32_t start = here();
    emit_node(body);
    emit(Op::kJump, split);
    aim_split(split, start, here(), node.greed);
    return;
  }
  std::vector<uint32_t> splits;
  for (uint32_t i = node.min; i < node.max && error_.empty(); ++i) {
    splits.push_back(emit_split(first));
    emit_node(body);
  }
  for (uint32_t split : splits) aim_split(split, split + 1, here(), node.greed);
}

void Compiler::emit_lookahead(const Node& node) {
  const Node& body = node.children[0];
  if (body.kind == Node::Kind::kClass || body.kind == Node::Kind::kLiteral) {
    const uint32_t index =
        body.kind == Node::Kind::kClass ? body.index : class_of_literal(body.literal);
    at(emit(Op::kLookClass, index)).negated = node.negated;
    return;
  }
  const uint32_t look = emit(Op::kLook);
  emit_node(body);
  emit(Op::kLookEnd);
  at(look).negated = node.negated;
  at(look).a = here();
}

// A greedy loop that nothing can fail behind need not remember how to give characters back.
void Compiler::settle_loops() {
  for (uint32_t pc = 0; pc < here(); ++pc) {
    Instruction& loop = at(pc);
    if (loop.op != Op::kLoop || loop.greed != Greed::kGreedy) continue;
    uint32_t next = pc + 1;
    while (at(next).op == Op::kJump && at(next).a > next) next = at(next).a;
    const Op op = at(next).op;
    if (op == Op::kMatch || op == Op::kCut || op == Op::kLookEnd) loop.greed = Greed::kPossessive;
  }
}

Result<Pattern> Compiler::compile() {
  pattern_.firsts_.resize(2);
  pattern_.firsts_[kFirstOfPattern] = first_of(tree_.root);
  pattern_.firsts_[kFirstAny].empty_match = true;
  emit_node(tree_.root);
  emit(Op::kMatch);
  if (!error_.empty()) return Status(StatusCode::kUnsupported, error_);
  settle_loops();
  return std::move(pattern_);
}

Result<Pattern> Pattern::compile(std::string_view expression) {
  MOKA_ASSIGN_OR_RETURN(SyntaxTree tree, parse_pattern(expression));
  return Compiler(expression, std::move(tree)).compile();
}

Result<Pattern> Pattern::literal(std::string_view text) {
  if (text.size() > kMaxExpression) {
    return Status(StatusCode::kUnsupported, "literal pattern of " + std::to_string(text.size()) +
                                                " bytes, at most " +
                                                std::to_string(kMaxExpression) + " are read");
  }
  SyntaxTree tree;
  tree.root.kind = Node::Kind::kConcat;
  for (size_t i = 0; i < text.size();) {
    const Decoded d = decode(text, i);
    i += d.length;
    Node character;
    character.kind = Node::Kind::kLiteral;
    character.literal = d.code_point;
    tree.root.children.push_back(std::move(character));
  }
  return Compiler(text, std::move(tree)).compile();
}

}  // namespace moka::text
