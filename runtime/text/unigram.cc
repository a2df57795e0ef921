#include "runtime/text/unigram.h"

#include <algorithm>
#include <utility>

#include "runtime/text/tokenizer_check.h"
#include "runtime/text/unicode.h"

namespace moka::text {

namespace {

// What an unknown character costs beyond the worst piece.
constexpr double kUnknownPenalty = 10.0;
// Pieces are given out at the first place behind so many bytes where no piece crosses.
constexpr size_t kStretch = 4096;

}  // namespace

void UnigramModel::build(const TokenizerSpec& spec, const std::vector<bool>& in_text,
                         const std::vector<bool>& favoured) {
  const size_t count = spec.piece_ends.size();
  const size_t parts = count == 0 ? 1 : spec.scores.size() / count;
  single_ = parts == 1;
  favoured_ = favoured;
  scores_.resize(count);
  std::vector<std::pair<std::string_view, uint32_t>> pieces;
  pieces.reserve(count);
  double worst = std::numeric_limits<double>::infinity();
  // SentencePiece begins its search for the best score here, and not at minus infinity.
  best_score_ = static_cast<double>(std::numeric_limits<float>::min());
  for (size_t id = 0; id < count; ++id) {
    // Highest part first; the double holds the sum exactly.
    for (size_t p = 0; p < parts; ++p) {
      scores_[id] += static_cast<double>(spec.scores[id * parts + p]);
    }
    const bool possible = spec.scores[id * parts] > kNeverInText;
    if (possible) {
      worst = std::min(worst, scores_[id]);
      best_score_ = std::max(best_score_, scores_[id]);
    }
    if (favoured[id] || in_text[id]) {
      pieces.emplace_back(piece_of(spec, id), static_cast<uint32_t>(id));
    }
  }
  if (worst > std::numeric_limits<double>::max()) worst = 0;
  unknown_score_ = worst - kUnknownPenalty;
  if (single_) unknown_score_ = static_cast<double>(static_cast<float>(unknown_score_));
  trie_.build(std::move(pieces));
}

void UnigramRun::begin(std::string_view text) {
  text_ = text;
  start_ = reach_ = 0;
  score_ = 0;
}

// SentencePiece compares the sum in double with what it stored in float.
void UnigramRun::offer(size_t from, size_t to, double score, int32_t id) {
  if (to - start_ >= best_.size()) best_.resize(to - start_ + 1, Best{0, kNowhere, kUnknown});
  Best& best = best_[to - start_];
  if (best.begin != kNowhere && score <= best.score) return;
  best = {model_.single_ ? static_cast<double>(static_cast<float>(score)) : score, from, id};
  reach_ = std::max(reach_, to);
}

// Everything that may begin at `from`, where a character of `character` bytes stands.
void UnigramRun::walk(size_t from, size_t character) {
  const double here = best_[from - start_].score;
  bool whole_character = false;
  uint32_t node = PieceTrie::kRoot;
  for (size_t end = from; end < text_.size();) {
    node = model_.trie_.child(node, static_cast<uint8_t>(text_[end]));
    if (node == PieceTrie::kNoNode) break;
    ++end;
    const int32_t id = model_.trie_.value(node);
    if (id < 0) continue;
    const auto index = static_cast<size_t>(id);
    double score = model_.scores_[index];
    if (model_.favoured_[index]) {
      // SentencePiece's formula, with its float product and its double difference.
      const auto length = static_cast<float>(end - from);
      score = static_cast<double>(length * static_cast<float>(model_.best_score_)) - 0.1;
    }
    offer(from, end, score + here, id);
    whole_character = whole_character || end - from == character;
  }
  if (whole_character) return;
  double sum = model_.unknown_score_ + here;
  if (model_.single_) sum = static_cast<double>(static_cast<float>(sum));
  offer(from, from + character, sum, kUnknown);
}

bool UnigramRun::next() {
  found_.clear();
  if (start_ >= text_.size()) return false;
  best_.assign(1, Best{score_, start_, kUnknown});
  reach_ = start_;
  size_t at = start_;
  do {
    const size_t character = decode(text_, at).length;
    walk(at, character);
    at += character;
  } while (at < text_.size() && (at < reach_ || at - start_ < kStretch));
  score_ = best_[at - start_].score;
  for (size_t end = at; end > start_;) {
    const Best& best = best_[end - start_];
    found_.push_back({best.begin, end, best.id});
    end = best.begin;
  }
  start_ = at;
  return true;
}

}  // namespace moka::text
