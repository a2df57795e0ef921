// The pre-tokenizer: cuts text into the pieces inside which BPE merges, or that are words.
//
// Metaspace is the one rule that changes the text: it writes spaces as a mark. In PreTokenizer its
// members mean: pattern, the mark (empty: U+2581); add_prefix_space, a mark is put before a text
// that does not begin with one; literal, it is put only where the text to be encoded begins;
// behavior, MergedWithNext to cut before each mark, Contiguous not to cut.
#ifndef MOKA_RUNTIME_TEXT_SPLIT_H_
#define MOKA_RUNTIME_TEXT_SPLIT_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "moka/status.h"
#include "runtime/model_spec.h"
#include "runtime/text/pattern.h"

namespace moka::text {

// Immutable; each thread that cuts uses a Run of its own.
class Splitter {
 public:
  // kUnsupported names the rule by its number and kind.
  static Result<Splitter> create(const std::vector<PreTokenizer>& rules);

  bool empty() const { return steps_.empty(); }

 private:
  friend class SplitRun;
  struct Step {
    Pattern pattern;
    SplitBehavior behavior;
    bool invert;
    bool whole;        // the text is not cut: an empty literal, Metaspace without cutting
    std::string mark;  // of Metaspace; empty: another rule
    bool prefix = false, only_first = false;
  };
  static Result<Step> make_step(const PreTokenizer& rule);

  std::vector<Step> steps_;
};

// Cuts texts by a Splitter, which outlives it. One thread.
class SplitRun {
 public:
  using Sink = std::function<Status(std::string_view piece)>;

  explicit SplitRun(const Splitter& splitter);
  // Gives the non-empty pieces of `text` to `sink` in order; the first failure ends the call. With
  // Metaspace the pieces are no parts of `text`. `first`: what is to be encoded begins here.
  Status cut(std::string_view text, bool first, const Sink& sink);

 private:
  Status cut_from(size_t step, std::string_view text, bool first, const Sink& sink);

  const Splitter& splitter_;
  std::vector<std::string> marked_;  // per step: the text that Metaspace made
  std::vector<Matcher> matchers_;    // one per step: a step is in use while the next ones run
};

}  // namespace moka::text

#endif  // MOKA_RUNTIME_TEXT_SPLIT_H_
