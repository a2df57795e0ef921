// The matcher: a backtracking machine with its own stack.
//
// A frame on the stack is a way to go on when the current one fails. A loop over one class, which
// is nearly all of what tokenizers use, needs one frame for all its lengths, so the stack stays a
// few frames deep on ten megabytes of one letter.
#include "runtime/text/pattern.h"

namespace moka::text {

namespace {

constexpr size_t kMaxFrames = size_t{1} << 22;  // 96 MiB; only loops over groups need many
constexpr uint64_t kStepFactor = 4;

}  // namespace

void Matcher::start(std::string_view text) {
  text_ = text;
  // A matcher that remembers every (instruction, position) needs one step for each of them.
  steps_left_ = kStepFactor * (uint64_t{text.size()} + 64) * (pattern_->program_.size() + 16);
}

Result<bool> Matcher::find(size_t start_at, Match* match) {
  const ByteSet& first = pattern_->firsts_[0];
  for (size_t at = start_at; at <= text_.size();) {
    if (at < text_.size() && !first.empty_match && !first.has(static_cast<uint8_t>(text_[at]))) {
      at += decode(text_, at).length;
      continue;
    }
    size_t end = at;
    const Outcome outcome = match_at(at, &end);
    if (outcome == Outcome::kMatched) {
      *match = {at, end};
      return true;
    }
    if (outcome == Outcome::kExhausted) {
      return Status(StatusCode::kOutOfRange,
                    "pattern \"" + pattern_->expression_.substr(0, 200) + "\" at byte " +
                        std::to_string(at) + " of " + std::to_string(text_.size()) +
                        ": more work than is allowed for a text of this size");
    }
    if (at == text_.size()) break;
    at += decode(text_, at).length;
  }
  return false;
}

// A full stack ends the call: match_at() looks at steps_left_ before it does anything else.
void Matcher::push(Kind kind, uint32_t pc, size_t position, size_t limit) {
  if (stack_.size() < kMaxFrames) {
    stack_.push_back({kind, pc, position, limit});
  } else {
    steps_left_ = 0;
  }
}

Matcher::Outcome Matcher::match_at(size_t start, size_t* end) {
  stack_.clear();
  group_ = 0;
  uint32_t pc = 0;
  size_t position = start;
  for (;;) {
    if (steps_left_ == 0) return Outcome::kExhausted;
    --steps_left_;
    const Instruction& in = pattern_->program_[pc];
    bool alive = true;
    switch (in.op) {
      case Op::kMatch: *end = position; return Outcome::kMatched;
      case Op::kJump: pc = in.a; continue;
      case Op::kSplit: {
        const ByteSet& first = pattern_->firsts_[in.first];
        const bool possible =
            first.empty_match ||
            (position < text_.size() && first.has(static_cast<uint8_t>(text_[position])));
        if (possible) push(Kind::kRetry, in.b, position, 0);
        pc = possible ? in.a : in.b;
        continue;
      }
      case Op::kLoop: alive = run_loop(in, pc, &position); break;
      case Op::kAtomic:
      case Op::kLook:
        push(Kind::kGroup, pc, position, group_);
        group_ = stack_.size();
        break;
      case Op::kCut:
      case Op::kLookEnd: {
        const Frame opening = stack_[group_ - 1];
        stack_.resize(group_ - 1);
        group_ = opening.limit;
        if (in.op == Op::kLookEnd) {
          position = opening.position;
          alive = !pattern_->program_[opening.pc].negated;
        }
        break;
      }
      default: alive = test(in, &position); break;
    }
    if (alive) {
      ++pc;
    } else if (!resume(&pc, &position)) {
      return Outcome::kFailed;
    }
  }
}

bool Matcher::test(const Instruction& in, size_t* position) const {
  if (in.op != Op::kLiteral && in.op != Op::kClass) return test_context(in, *position);
  if (*position >= text_.size()) return false;
  const Decoded d = decode(text_, *position);
  const bool equal = in.op == Op::kLiteral ? d.code_point == in.a
                                           : pattern_->classes_[in.a].contains(d.code_point);
  if (equal) *position += d.length;
  return equal;
}

bool Matcher::test_context(const Instruction& in, size_t position) const {
  const bool at_end = position == text_.size();
  switch (in.op) {
    case Op::kLookClass: {
      const bool member =
          !at_end && pattern_->classes_[in.a].contains(decode(text_, position).code_point);
      return member != in.negated;
    }
    case Op::kBehindClass: {
      const bool member = position > 0 && pattern_->classes_[in.a].contains(
                                              decode(text_, step_back(text_, position)).code_point);
      return member != in.negated;
    }
    case Op::kTextStart: return position == 0;
    case Op::kTextEnd: return at_end;
    case Op::kLineStart: return position == 0 || (!at_end && text_[position - 1] == '\n');
    case Op::kLineEnd: return at_end || text_[position] == '\n';
    default: return false;
  }
}

bool Matcher::run_loop(const Instruction& loop, uint32_t pc, size_t* position) {
  const CharClass& members = pattern_->classes_[loop.a];
  const size_t start = *position;
  const uint32_t want = loop.greed == Greed::kLazy ? loop.min : loop.max;
  size_t at = start;
  size_t least = start;  // end of the shortest allowed reading
  uint32_t count = 0;
  while (count < want && at < text_.size()) {
    const Decoded d = decode(text_, at);
    if (!members.contains(d.code_point)) break;
    at += d.length;
    if (++count == loop.min) least = at;
  }
  spend(count);
  if (count < loop.min) return false;
  *position = at;
  if (loop.greed == Greed::kGreedy && at > least) push(Kind::kShrink, pc, at, least);
  if (loop.greed == Greed::kLazy && loop.max > loop.min) push(Kind::kGrow, pc, at, count);
  return true;
}

// Takes the newest other way. False when there is none.
bool Matcher::resume(uint32_t* pc, size_t* position) {
  while (!stack_.empty()) {
    spend(1);
    Frame& frame = stack_.back();
    switch (frame.kind) {
      case Kind::kRetry:
        *pc = frame.pc;
        *position = frame.position;
        stack_.pop_back();
        return true;
      case Kind::kShrink:
        frame.position = step_back(text_, frame.position);
        *pc = frame.pc + 1;
        *position = frame.position;
        if (frame.position <= frame.limit) stack_.pop_back();
        return true;
      case Kind::kGrow:
        *pc = frame.pc + 1;
        if (grow(&frame, position)) return true;
        stack_.pop_back();
        break;
      case Kind::kGroup: {
        // Nothing inside matched: that is success for a negative lookahead alone.
        const Frame opening = frame;
        stack_.pop_back();
        group_ = opening.limit;
        const Instruction& in = pattern_->program_[opening.pc];
        if (in.op == Op::kLook && in.negated) {
          *pc = in.a;
          *position = opening.position;
          return true;
        }
        break;
      }
    }
  }
  return false;
}

// One more character of a lazy loop. The frame stays for the next.
bool Matcher::grow(Frame* frame, size_t* position) {
  const Instruction& loop = pattern_->program_[frame->pc];
  if (frame->limit >= loop.max || frame->position >= text_.size()) return false;
  const Decoded d = decode(text_, frame->position);
  if (!pattern_->classes_[loop.a].contains(d.code_point)) return false;
  frame->position += d.length;
  ++frame->limit;
  *position = frame->position;
  return true;
}

}  // namespace moka::text
