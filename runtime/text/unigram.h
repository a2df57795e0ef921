// The unigram model: of all ways to cut a text into pieces, the one with the best sum of scores.
#ifndef MOKA_RUNTIME_TEXT_UNIGRAM_H_
#define MOKA_RUNTIME_TEXT_UNIGRAM_H_

#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

#include "moka/status.h"
#include "moka/tokenizer.h"
#include "runtime/model_spec.h"
#include "runtime/text/piece_trie.h"

namespace moka::text {

// The score of a piece that no text is ever cut into: control, unknown, byte and unused pieces.
constexpr float kNeverInText = std::numeric_limits<float>::lowest();

// Pieces and scores. Immutable after build(); any thread.
//
// Scores are added in float where the spec has one number per piece, as SentencePiece does, and in
// double where it has two or three (their sum is the score), as Hugging Face's tokenizers do: the
// rounding decides between cuts that are equally good on paper.
class UnigramModel {
 public:
  // `in_text[id]`: text may be cut into the piece. `favoured[id]`: a piece that is preferred to all
  // others (SentencePiece's user-defined symbols). The spec has passed check_tokenizer().
  void build(const TokenizerSpec& spec, const std::vector<bool>& in_text,
             const std::vector<bool>& favoured);

 private:
  friend class UnigramRun;
  PieceTrie trie_;
  std::vector<double> scores_;  // by id; of a favoured piece: unused
  std::vector<bool> favoured_;
  bool single_ = true;  // sums are rounded to float
  double unknown_score_ = 0, best_score_ = 0;
};

// Cuts one text after the other; keeps its memory. One thread.
class UnigramRun {
 public:
  static constexpr int32_t kUnknown = -1;
  struct Piece {
    size_t begin, end;  // bytes of the text
    int32_t id;         // or kUnknown: one character that begins no piece of its own length
  };

  explicit UnigramRun(const UnigramModel& model) : model_(model) {}

  // Gives every piece of `text` to sink(Piece) in order. Time is proportional to the text times the
  // longest piece; memory to the longest stretch that pieces overlap without a gap.
  template <class Sink>
  void cut(std::string_view text, const Sink& sink) {
    begin(text);
    while (next()) {
      for (size_t i = found_.size(); i-- > 0;) sink(found_[i]);
    }
  }

 private:
  struct Best {
    double score;  // of the best way to here
    size_t begin;  // of its last piece, kNowhere: no way found yet
    int32_t id;
  };
  static constexpr size_t kNowhere = ~size_t{0};

  void begin(std::string_view text);
  // Fills found_, last piece first, with the pieces up to a place that every cut must have.
  bool next();
  void offer(size_t from, size_t to, double score, int32_t id);
  void walk(size_t from, size_t character);

  const UnigramModel& model_;
  std::string_view text_;
  size_t start_ = 0;        // everything before it has been given out
  size_t reach_ = 0;        // where the pieces that were looked at end
  double score_ = 0;        // of the way to start_
  std::vector<Best> best_;  // best_[i] ends at text_[start_ + i]
  std::vector<Piece> found_;
};

}  // namespace moka::text

#endif  // MOKA_RUNTIME_TEXT_UNIGRAM_H_
