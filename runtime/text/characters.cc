#include "runtime/text/characters.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "runtime/text/tokenizer_check.h"

namespace moka::text {

void Characters::put(CodePoint character, uint32_t symbol) {
  if (character < ascii_.size()) {
    if (ascii_[character] == kNone) ascii_[character] = symbol;
  } else {
    others_.emplace(character, symbol);
  }
}

void Characters::build(const TokenizerSpec& spec, const std::vector<bool>& in_text) {
  vocabulary_ = static_cast<uint32_t>(spec.piece_ends.size());
  for (uint32_t id = 0; id < vocabulary_; ++id) {
    const std::string_view piece = piece_of(spec, id);
    if (!in_text[id] || piece.empty()) continue;
    const Decoded d = decode(piece, 0);
    if (d.length == piece.size()) put(d.code_point, id);
  }
}

namespace {

// Ranks by falling score; equal scores share one.
std::vector<uint32_t> ranks_of(const std::vector<float>& scores) {
  std::vector<uint32_t> order(scores.size()), ranks(scores.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
  });
  uint32_t rank = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && scores[order[i]] != scores[order[i - 1]]) ++rank;
    ranks[order[i]] = rank;
  }
  return ranks;
}

}  // namespace

Status Characters::build_merges(const TokenizerSpec& spec, const std::vector<bool>& in_text,
                                const std::vector<bool>& favoured, MergeTable* table) {
  // A piece of n characters is cut in n - 1 places, and each half is looked up.
  constexpr size_t kMaxPiece = 512;
  std::vector<std::pair<std::string_view, uint32_t>> pieces, whole;
  std::vector<bool> merged(vocabulary_);
  for (uint32_t id = 0; id < vocabulary_; ++id) {
    const std::string_view piece = piece_of(spec, id);
    merged[id] = in_text[id] || favoured[id];
    if (!merged[id]) continue;
    if (piece.size() > kMaxPiece) {
      return Status(StatusCode::kUnsupported, "tokenizer: piece " + std::to_string(id) + " has " +
                                                  std::to_string(piece.size()) +
                                                  " bytes; with merges by score at most " +
                                                  std::to_string(kMaxPiece) + " are read");
    }
    pieces.emplace_back(piece, id);
    if (favoured[id]) whole.emplace_back(piece, id);
  }
  PieceTrie trie;
  trie.build(std::move(pieces));
  favoured_.build(std::move(whole));

  // Characters that are no pieces but part of one.
  for (uint32_t id = 0; id < vocabulary_; ++id) {
    if (!merged[id]) continue;
    const std::string_view piece = piece_of(spec, id);
    for (size_t i = 0; i < piece.size();) {
      const Decoded d = decode(piece, i);
      if (symbol(d.code_point) == kNone) {
        put(d.code_point, vocabulary_ + static_cast<uint32_t>(extra_.size()));
        extra_.push_back(d.code_point);
      }
      i += d.length;
    }
  }
  frozen_begin_ = vocabulary_ + static_cast<uint32_t>(extra_.size());

  auto symbol_of = [&](std::string_view part) {
    const Decoded d = decode(part, 0);
    if (d.length == part.size()) return symbol(d.code_point);
    const int32_t id = trie.find(part);
    return id < 0 ? kNone : static_cast<uint32_t>(id);
  };
  const std::vector<uint32_t> score_ranks = ranks_of(spec.scores);
  std::vector<uint32_t> merges, ranks;
  for (uint32_t id = 0; id < vocabulary_; ++id) {
    if (!merged[id]) continue;
    const std::string_view piece = piece_of(spec, id);
    if (trie.find(piece) != static_cast<int32_t>(id)) continue;  // the twin of an earlier piece
    for (size_t i = decode(piece, 0).length; i < piece.size(); i += decode(piece, i).length) {
      const uint32_t left = symbol_of(piece.substr(0, i)), right = symbol_of(piece.substr(i));
      if (left == kNone || right == kNone) continue;
      merges.insert(merges.end(), {left, right, id});
      ranks.push_back(score_ranks[id]);
    }
  }
  size_t repeated = 0;
  if (table->build(merges, &repeated, &ranks)) return Status();
  return Status(StatusCode::kInternal, "tokenizer: two pieces are made of the same two");
}

}  // namespace moka::text
