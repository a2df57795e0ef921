// Every rule is run as a Split: a pattern, what becomes of its matches, and whether matches and
// gaps change places. The behaviours are those of Hugging Face's tokenizers.
#include "runtime/text/split.h"

#include "runtime/text/sentence_rules.h"

namespace moka::text {

namespace {

constexpr size_t kMaxRules = 32;  // also bounds the recursion of cut_from()

// Walks matches and gaps of one text in order and turns them into pieces.
class PieceMaker {
 public:
  PieceMaker(std::string_view text, SplitBehavior behavior, const SplitRun::Sink& sink)
      : text_(text), behavior_(behavior), sink_(sink) {}

  Status add(size_t begin, size_t end, bool is_match) {
    const bool was_match = was_match_;
    was_match_ = is_match;
    switch (behavior_) {
      case SplitBehavior::kIsolated: return emit(begin, end);
      case SplitBehavior::kRemoved: return is_match ? Status() : emit(begin, end);
      case SplitBehavior::kMergedWithPrevious:
        // The first match of a run goes to the gap before it, the others stand alone.
        return is_match && !was_match ? extend(begin, end) : replace(begin, end);
      case SplitBehavior::kMergedWithNext:
        // The last match of a run goes to the gap after it.
        return !is_match && was_match ? extend(begin, end) : replace(begin, end);
      case SplitBehavior::kContiguous:
        return is_match == was_match ? extend(begin, end) : replace(begin, end);
    }
    return Status();
  }

  Status finish() { return held_ ? emit(begin_, end_) : Status(); }

 private:
  Status emit(size_t begin, size_t end) {
    return begin == end ? Status() : sink_(text_.substr(begin, end - begin));
  }
  Status extend(size_t begin, size_t end) {
    if (!held_) begin_ = begin;
    held_ = true;
    end_ = end;
    return Status();
  }
  Status replace(size_t begin, size_t end) {
    Status status = finish();
    held_ = true;
    begin_ = begin;
    end_ = end;
    return status;
  }

  std::string_view text_;
  SplitBehavior behavior_;
  const SplitRun::Sink& sink_;
  bool was_match_ = false;
  bool held_ = false;  // text_[begin_, end_) may still grow
  size_t begin_ = 0, end_ = 0;
};

struct BuiltIn {
  const char* expression;
  bool invert;
  SplitBehavior behavior;
};

// What the kinds without a pattern of their own mean.
BuiltIn built_in(const PreTokenizer& rule) {
  switch (rule.kind) {
    case PreTokenizerKind::kDigits:
      return {"\\p{N}", false,
              rule.individual_digits ? SplitBehavior::kIsolated : SplitBehavior::kContiguous};
    case PreTokenizerKind::kPunctuation: return {"[\\p{P}!-/:-@\\[-`{-~]", false, rule.behavior};
    case PreTokenizerKind::kWhitespace:
      // Made with Rust's \w, which has the two joiners.
      return {"[\\w\\x{200C}\\x{200D}]+|[^\\w\\s\\x{200C}\\x{200D}]+", true,
              SplitBehavior::kRemoved};
    case PreTokenizerKind::kWhitespaceSplit: return {"\\s", false, SplitBehavior::kRemoved};
    default: return {nullptr, false, SplitBehavior::kIsolated};
  }
}

// `text` with marks for spaces, and one in front.
void mark_spaces(std::string_view text, const std::string& mark, bool prefix, std::string* out) {
  out->clear();
  out->reserve(text.size() + mark.size());
  if (prefix && text[0] != ' ' && text.substr(0, mark.size()) != mark) out->append(mark);
  for (const char c : text) {
    if (c == ' ') {
      out->append(mark);
    } else {
      out->push_back(c);
    }
  }
}

}  // namespace

Result<Splitter::Step> Splitter::make_step(const PreTokenizer& rule) {
  if (rule.kind == PreTokenizerKind::kSplit) {
    if (rule.literal) {
      MOKA_ASSIGN_OR_RETURN(Pattern pattern, Pattern::literal(rule.pattern));
      return Step{std::move(pattern), rule.behavior, rule.invert, rule.pattern.empty(), ""};
    }
    MOKA_ASSIGN_OR_RETURN(Pattern pattern, Pattern::compile(rule.pattern));
    return Step{std::move(pattern), rule.behavior, rule.invert, false, ""};
  }
  if (rule.kind == PreTokenizerKind::kMetaspace) {
    const std::string mark = rule.pattern.empty() ? std::string(kSpaceMark) : rule.pattern;
    MOKA_ASSIGN_OR_RETURN(Pattern pattern, Pattern::literal(mark));
    Step step{std::move(pattern), SplitBehavior::kMergedWithNext, false, false, mark};
    step.whole = rule.behavior != SplitBehavior::kMergedWithNext;
    step.prefix = rule.add_prefix_space;
    step.only_first = rule.literal;
    return step;
  }
  const BuiltIn known = built_in(rule);
  if (known.expression == nullptr) {
    return Status(StatusCode::kUnsupported,
                  "kind " + std::to_string(static_cast<int>(rule.kind)) + " is not known");
  }
  MOKA_ASSIGN_OR_RETURN(Pattern pattern, Pattern::compile(known.expression));
  return Step{std::move(pattern), known.behavior, known.invert, false, ""};
}

Result<Splitter> Splitter::create(const std::vector<PreTokenizer>& rules) {
  if (rules.size() > kMaxRules) {
    return Status(StatusCode::kUnsupported, "tokenizer: " + std::to_string(rules.size()) +
                                                " pre-tokenizers, at most " +
                                                std::to_string(kMaxRules) + " are run");
  }
  Splitter splitter;
  for (size_t i = 0; i < rules.size(); ++i) {
    const std::string where = "tokenizer: pre-tokenizer " + std::to_string(i) + ": ";
    if (static_cast<uint8_t>(rules[i].behavior) >
        static_cast<uint8_t>(SplitBehavior::kContiguous)) {
      return Status(StatusCode::kUnsupported,
                    where + "split behavior " +
                        std::to_string(static_cast<int>(rules[i].behavior)) + " is not known");
    }
    auto step = make_step(rules[i]);
    if (!step.ok()) return Status(step.status().code(), where + step.status().message());
    splitter.steps_.push_back(std::move(step).value());
  }
  return splitter;
}

SplitRun::SplitRun(const Splitter& splitter)
    : splitter_(splitter), marked_(splitter.steps_.size()) {
  for (const Splitter::Step& step : splitter.steps_) matchers_.emplace_back(step.pattern);
}

Status SplitRun::cut(std::string_view text, bool first, const Sink& sink) {
  return cut_from(0, text, first, sink);
}

Status SplitRun::cut_from(size_t index, std::string_view text, bool first, const Sink& sink) {
  if (text.empty()) return Status();
  if (index == splitter_.steps_.size()) return sink(text);
  const Splitter::Step& step = splitter_.steps_[index];
  if (!step.mark.empty()) {
    mark_spaces(text, step.mark, step.prefix && (first || !step.only_first), &marked_[index]);
    text = marked_[index];
  }
  const bool last = index + 1 == splitter_.steps_.size();
  Sink next;
  if (!last) {
    next = [this, index, first, begin = text.data(), &sink](std::string_view piece) {
      return cut_from(index + 1, piece, first && piece.data() == begin, sink);
    };
  }
  PieceMaker pieces(text, step.behavior, last ? sink : next);
  Matcher& matcher = matchers_[index];
  matcher.start(text);
  size_t done = 0;  // everything before it is in `pieces`
  size_t from = 0;  // where the next search begins; may be ahead of `done` after an empty match
  size_t last_end = std::string_view::npos;  // of the last match
  while (!step.whole && from <= text.size()) {
    Match match;
    MOKA_ASSIGN_OR_RETURN(const bool found, matcher.find(from, &match));
    if (!found) break;
    if (match.begin == match.end && match.end == last_end) {
      // An empty match right behind the last one does not count; go on one character further.
      from += from < text.size() ? decode(text, from).length : 1;
      continue;
    }
    if (match.begin > done) MOKA_RETURN_IF_ERROR(pieces.add(done, match.begin, step.invert));
    MOKA_RETURN_IF_ERROR(pieces.add(match.begin, match.end, !step.invert));
    done = from = last_end = match.end;
  }
  if (done < text.size()) MOKA_RETURN_IF_ERROR(pieces.add(done, text.size(), step.invert));
  return pieces.finish();
}

}  // namespace moka::text
