// What is done to text before it is cut: Unicode forms, lower case, replacements.
#ifndef MOKA_RUNTIME_TEXT_NORMALIZER_H_
#define MOKA_RUNTIME_TEXT_NORMALIZER_H_

#include <string>
#include <string_view>
#include <vector>

#include "moka/status.h"
#include "runtime/model_spec.h"
#include "runtime/text/pattern.h"

namespace moka::text {

// Immutable; any thread.
class TextNormalizer {
 public:
  // kUnsupported names the rule by its number and kind.
  static Result<TextNormalizer> create(const std::vector<Normalizer>& rules);

  bool empty() const { return steps_.empty(); }
  // Every step in turn. Bytes that are not UTF-8 pass through.
  Result<std::string> apply(std::string_view text) const;

 private:
  struct Step {
    NormalizerKind kind;
    std::string content;
    std::vector<Pattern> pattern;  // one for kReplace, else none
  };
  static Result<Step> make_step(const Normalizer& rule);
  static Status run(const Step& step, std::string_view text, std::string* out);

  std::vector<Step> steps_;
};

}  // namespace moka::text

#endif  // MOKA_RUNTIME_TEXT_NORMALIZER_H_
