// Vocabularies whose smallest pieces are characters: which symbol each character is, and, for BPE
// by scores (SentencePiece), which symbols merge.
#ifndef MOKA_RUNTIME_TEXT_CHARACTERS_H_
#define MOKA_RUNTIME_TEXT_CHARACTERS_H_

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "moka/status.h"
#include "runtime/model_spec.h"
#include "runtime/text/bpe.h"
#include "runtime/text/piece_trie.h"
#include "runtime/text/unicode.h"

namespace moka::text {

// From characters to symbols. A symbol below the vocabulary's size is an id; others stand for what
// is no piece or must not merge, and id() tells what becomes of them. Immutable once built; any
// thread.
class Characters {
 public:
  static constexpr uint32_t kNone = 0xFFFFFFFF;

  Characters() { ascii_.fill(kNone); }

  // The pieces that are one character and for which `in_text` holds; the lowest id of equals.
  void build(const TokenizerSpec& spec, const std::vector<bool>& in_text);

  // BPE by scores: two neighbours merge when what they make is a piece, the best score first, the
  // leftmost of equals. A character that is no piece takes part in such merges, too. Favoured
  // pieces (user-defined symbols) are taken whole and never merge.
  Status build_merges(const TokenizerSpec& spec, const std::vector<bool>& in_text,
                      const std::vector<bool>& favoured, MergeTable* table);

  uint32_t symbol(CodePoint character) const {
    if (character < ascii_.size()) return ascii_[character];
    const auto found = others_.find(character);
    return found == others_.end() ? kNone : found->second;
  }
  // The symbol of the favoured piece that begins at `begin`, or kNone.
  uint32_t favoured(std::string_view text, size_t begin, size_t* end) const {
    if (favoured_.empty()) return kNone;
    const int32_t id = favoured_.longest(text, begin, end);
    return id < 0 ? kNone : frozen_begin_ + static_cast<uint32_t>(id);
  }
  // The id of a symbol; kNone: a character that is no piece, which character() tells.
  uint32_t id(uint32_t symbol) const {
    if (symbol < vocabulary_) return symbol;
    return symbol >= frozen_begin_ ? symbol - frozen_begin_ : kNone;
  }
  CodePoint character(uint32_t symbol) const { return extra_[symbol - vocabulary_]; }

 private:
  void put(CodePoint character, uint32_t symbol);

  uint32_t vocabulary_ = 0;
  std::vector<CodePoint> extra_;   // of the symbols from vocabulary_ on: no pieces, but mergeable
  uint32_t frozen_begin_ = kNone;  // symbol of favoured piece i: frozen_begin_ + i
  std::array<uint32_t, 128> ascii_;
  std::unordered_map<CodePoint, uint32_t> others_;
  PieceTrie favoured_;
};

}  // namespace moka::text

#endif  // MOKA_RUNTIME_TEXT_CHARACTERS_H_
