// SentencePiece's way from a text to the string that its models cut: one pass that replaces
// characters, tidies spaces, puts one in front and writes spaces as U+2581.
#ifndef MOKA_RUNTIME_TEXT_SENTENCE_RULES_H_
#define MOKA_RUNTIME_TEXT_SENTENCE_RULES_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "moka/status.h"
#include "runtime/model_spec.h"
#include "runtime/text/chars_map.h"
#include "runtime/text/piece_trie.h"

namespace moka::text {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581

// The four rules belong together: whether a space is dropped depends on what the map made of the
// characters before it, and the space in front is put there before the spaces at the end go.
// Immutable; any thread.
class SentenceRules {
 public:
  // Takes from `rules`, beginning with rule `first`, those that are in SentencePiece's order:
  // PrecompiledMap (literal), CollapseSpaces, Prepend of a space, SpacesToUnderline. `*count` is
  // how many were taken; 0 when none of the others stands there (Prepend alone is not taken).
  // kCorrupt: the map is damaged. `kept`, which may be null and outlives the object, has pieces
  // that no rule changes.
  static Result<SentenceRules> take(const std::vector<Normalizer>& rules, size_t first,
                                    const PieceTrie* kept, size_t* count);

  // A byte that is not UTF-8 becomes U+FFFD where there is a map or a space rule to run.
  void apply(std::string_view text, std::string* out) const;

 private:
  // What stands at the start of `text`, which is not empty, and how many bytes of it that was.
  std::string_view next(std::string_view text, size_t* length) const;

  std::shared_ptr<const CharsMap> map_;
  const PieceTrie* kept_ = nullptr;
  bool collapse_ = false, space_in_front_ = false, underline_ = false;
};

}  // namespace moka::text

#endif  // MOKA_RUNTIME_TEXT_SENTENCE_RULES_H_
