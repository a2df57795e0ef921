// What is done to text before it is cut: Unicode forms, lower case, replacements.
#ifndef MOKA_RUNTIME_TEXT_NORMALIZER_H_
#define MOKA_RUNTIME_TEXT_NORMALIZER_H_

#include <string>
#include <string_view>
#include <vector>

#include "moka/status.h"
#include "runtime/model_spec.h"
#include "runtime/text/chars_map.h"
#include "runtime/text/pattern.h"
#include "runtime/text/piece_trie.h"
#include "runtime/text/sentence_rules.h"

namespace moka::text {

// Immutable; any thread.
class TextNormalizer {
 public:
  // kUnsupported, kCorrupt: name the rule by its number and kind. `kept`, which may be null and
  // outlives the normalizer, has pieces that SentencePiece's rules leave as they are.
  static Result<TextNormalizer> create(const std::vector<Normalizer>& rules,
                                       const PieceTrie* kept = nullptr);

  bool empty() const { return steps_.empty(); }
  // Every step in turn. Bytes that are not UTF-8 pass through. Sets `*front_removed`, if given, when
  // a step leaves out what the text begins with.
  Result<std::string> apply(std::string_view text, bool* front_removed = nullptr) const;

 private:
  struct Step {
    NormalizerKind kind = NormalizerKind::kNfc;
    std::string content;
    std::vector<Pattern> pattern;         // one for kReplace and kRemoveText, else none
    std::vector<SentenceRules> sentence;  // one for a run of SentencePiece's rules
    std::vector<CharsMap> map;            // one for kPrecompiledMap by clusters
  };
  static Result<Step> make_step(const Normalizer& rule);
  static Status run(const Step& step, std::string_view text, std::string* out, bool* front_removed);

  std::vector<Step> steps_;
};

}  // namespace moka::text

#endif  // MOKA_RUNTIME_TEXT_NORMALIZER_H_
