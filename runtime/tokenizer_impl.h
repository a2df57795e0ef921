// The parts of a Tokenizer; tokenizer.cc puts them together, text/encode.cc uses them.
#ifndef MOKA_RUNTIME_TOKENIZER_IMPL_H_
#define MOKA_RUNTIME_TOKENIZER_IMPL_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "moka/tokenizer.h"
#include "runtime/model_spec.h"
#include "runtime/text/bpe.h"
#include "runtime/text/characters.h"
#include "runtime/text/normalizer.h"
#include "runtime/text/piece_trie.h"
#include "runtime/text/special_tokens.h"
#include "runtime/text/split.h"
#include "runtime/text/unigram.h"

namespace moka {

struct Tokenizer::Impl {
  // What the spaces in front of a decoded text are: some tokenizers put one before every text, and
  // decoding takes it away again.
  enum class FrontSpaces : uint8_t { kKept, kOneDropped, kDropped };

  TokenizerSpec spec;
  // The id of each byte: of the piece that is the byte, or with byte_fallback of the piece "<0x41>".
  // -1: the vocabulary lacks it.
  std::array<int32_t, 256> byte_ids{};
  bool by_characters = false;  // BPE whose smallest pieces are characters
  // No piece has a mark (U+2581) behind another character: BPE may go word by word.
  bool marks_lead = true;
  std::vector<bool> is_control, is_special;  // per id
  // Per id: text may become the piece; the piece is looked for before all others (a special token
  // that is `normalized` and not `in_text`).
  std::vector<bool> in_text, favoured;
  std::unordered_map<uint32_t, std::string> special_texts;
  text::SpecialTokens raw_tokens, normalized_tokens;
  text::PieceTrie kept;  // the favoured pieces
  text::TextNormalizer normalizer;
  text::Splitter splitter;
  text::MergeTable merges;
  text::Characters characters;
  text::UnigramModel unigram;
  std::unordered_map<std::string_view, uint32_t> whole_pieces;  // words, or with ignore_merges

  // With spaces written as marks: the pieces with spaces again.
  bool marks_spaces = false;
  FrontSpaces front_spaces = FrontSpaces::kKept;
  std::string shown;
  std::vector<size_t> shown_ends;

  class Encoder;

  Status build();
  std::string_view shown_piece(uint32_t id) const;
  // Appends the ids of `text`.
  Status encode(std::string_view text, bool parse_special, std::vector<TokenId>* ids) const;

 private:
  Status add_special_tokens();
  Status add_tokens_in_text();
  void find_rules();
  void index_bytes();
  void look_at_marks();
  void index_whole_pieces();
  void show_pieces();
};

}  // namespace moka

#endif  // MOKA_RUNTIME_TOKENIZER_IMPL_H_
