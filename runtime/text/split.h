// The pre-tokenizer: cuts text into the pieces inside which BPE merges.
#ifndef MOKA_RUNTIME_TEXT_SPLIT_H_
#define MOKA_RUNTIME_TEXT_SPLIT_H_

#include <functional>
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
    bool whole;  // an empty literal: the text is not cut
  };
  static Result<Step> make_step(const PreTokenizer& rule);

  std::vector<Step> steps_;
};

// Cuts texts by a Splitter, which outlives it. One thread.
class SplitRun {
 public:
  using Sink = std::function<Status(std::string_view piece)>;

  explicit SplitRun(const Splitter& splitter);
  // Gives the non-empty pieces of `text` to `sink` in order; the first failure ends the call.
  Status cut(std::string_view text, const Sink& sink);

 private:
  Status cut_from(size_t step, std::string_view text, const Sink& sink);

  const Splitter& splitter_;
  std::vector<Matcher> matchers_;  // one per step: a step is in use while the next ones run
};

}  // namespace moka::text

#endif  // MOKA_RUNTIME_TEXT_SPLIT_H_
