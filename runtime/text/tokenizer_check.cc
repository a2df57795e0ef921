#include "runtime/text/tokenizer_check.h"

#include <cmath>
#include <string>
#include <vector>

namespace moka::text {

namespace {

Status corrupt(const std::string& what) {
  return Status(StatusCode::kCorrupt, "tokenizer: " + what);
}

Status check_kind(const TokenizerSpec& spec) {
  const bool known = static_cast<uint8_t>(spec.kind) <= static_cast<uint8_t>(TokenizerKind::kWords);
  if (!known || spec.kind == TokenizerKind::kNone) {
    const std::string kind = known ? "None" : std::to_string(static_cast<int>(spec.kind));
    return Status(
        StatusCode::kUnsupported,
        "tokenizer: kind " + kind + " cannot be run; Bytes, Bpe, Unigram, Chars and Words can");
  }
  const bool whole = spec.kind == TokenizerKind::kBytes || spec.kind == TokenizerKind::kWords;
  if (whole && spec.byte_fallback) {
    return corrupt("byte_fallback is set, but no piece of its kind falls back to bytes");
  }
  if (spec.ignore_merges && spec.kind != TokenizerKind::kBpe) {
    return corrupt("ignore_merges is set, but it is no bpe tokenizer");
  }
  const bool by_bytes =
      spec.kind == TokenizerKind::kBpe && !spec.byte_fallback && spec.scores.empty();
  for (size_t i = 0; i < spec.pre_tokenizers.size() && by_bytes; ++i) {
    if (spec.pre_tokenizers[i].kind != PreTokenizerKind::kMetaspace) continue;
    return Status(StatusCode::kUnsupported, "tokenizer: pre-tokenizer " + std::to_string(i) +
                                                ": Metaspace before byte-level BPE");
  }
  return Status();
}

// How many scores each piece has: unigram one, or two or three whose sum counts; BPE none or one.
Status check_scores(const TokenizerSpec& spec) {
  const size_t count = spec.piece_ends.size(), scores = spec.scores.size();
  const bool unigram = spec.kind == TokenizerKind::kUnigram;
  const bool right = unigram ? scores % count == 0 && scores / count >= 1 && scores / count <= 3
                             : scores == 0 || (spec.kind == TokenizerKind::kBpe && scores == count);
  if (!right) {
    return corrupt("there are " + std::to_string(scores) + " scores of " + std::to_string(count) +
                   " pieces");
  }
  for (size_t i = 0; i < scores; ++i) {
    if (!std::isfinite(spec.scores[i])) {
      return corrupt("scores[" + std::to_string(i) + "] is not finite");
    }
  }
  if (scores != 0 && !spec.merges.empty()) {
    return corrupt("there are both scores and merges");
  }
  return Status();
}

Status check_pieces(const TokenizerSpec& spec) {
  const size_t count = spec.piece_ends.size();
  if (count == 0 || count > kMaxVocabulary) {
    return corrupt("piece_ends has " + std::to_string(count) + " pieces, not 1 to " +
                   std::to_string(kMaxVocabulary));
  }
  uint32_t previous = 0;
  for (size_t id = 0; id < count; ++id) {
    if (spec.piece_ends[id] < previous) {
      return corrupt("piece_ends[" + std::to_string(id) + "] is " +
                     std::to_string(spec.piece_ends[id]) + ", less than the one before it, " +
                     std::to_string(previous));
    }
    previous = spec.piece_ends[id];
  }
  if (previous != spec.pieces.size()) {
    return corrupt("piece_ends ends at " + std::to_string(previous) + ", pieces has " +
                   std::to_string(spec.pieces.size()) + " bytes");
  }
  return Status();
}

Status check_bytes(const TokenizerSpec& spec) {
  for (size_t byte = 0; byte < 256; ++byte) {
    if (byte >= spec.piece_ends.size() || piece_of(spec, byte).size() != 1 ||
        static_cast<unsigned char>(piece_of(spec, byte)[0]) != byte) {
      return corrupt("of kind Bytes, but piece " + std::to_string(byte) + " is not that byte");
    }
  }
  if (!spec.pre_tokenizers.empty())
    return corrupt("of kind Bytes, but pre_tokenizers is not empty");
  return Status();
}

Status check_merges(const TokenizerSpec& spec) {
  if (!spec.merges.empty() && spec.kind != TokenizerKind::kBpe) {
    return corrupt("there are merges, but it is no bpe tokenizer");
  }
  if (spec.merges.size() % 3 != 0) {
    return corrupt("merges has " + std::to_string(spec.merges.size()) +
                   " numbers, not 3 per merge");
  }
  const size_t count = spec.piece_ends.size();
  for (size_t i = 0; i < spec.merges.size(); i += 3) {
    const std::string where = "merges[" + std::to_string(i / 3) + "]";
    for (size_t j = i; j < i + 3; ++j) {
      if (spec.merges[j] >= count) {
        return corrupt(where + " names piece " + std::to_string(spec.merges[j]) + " of " +
                       std::to_string(count));
      }
    }
    const std::string_view left = piece_of(spec, spec.merges[i]);
    const std::string_view right = piece_of(spec, spec.merges[i + 1]);
    const std::string_view whole = piece_of(spec, spec.merges[i + 2]);
    if (left.empty() || right.empty() || whole.size() != left.size() + right.size() ||
        whole.substr(0, left.size()) != left || whole.substr(left.size()) != right) {
      return corrupt(where + ": piece " + std::to_string(spec.merges[i + 2]) + " is not piece " +
                     std::to_string(spec.merges[i]) + " followed by piece " +
                     std::to_string(spec.merges[i + 1]));
    }
  }
  return Status();
}

Status check_ids(const TokenizerSpec& spec) {
  const auto count = static_cast<int64_t>(spec.piece_ends.size());
  const struct {
    const char* name;
    int32_t id;
  } named[] = {{"unknown_id", spec.unknown_id},
               {"bos_id", spec.bos_id},
               {"eos_id", spec.eos_id},
               {"pad_id", spec.pad_id}};
  for (const auto& field : named) {
    if (field.id < -1 || field.id >= count) {
      return corrupt(std::string(field.name) + " is " + std::to_string(field.id) +
                     ", not -1 or an id below " + std::to_string(count));
    }
  }
  std::vector<bool> seen(spec.piece_ends.size());
  for (size_t i = 0; i < spec.special_tokens.size(); ++i) {
    const uint32_t id = spec.special_tokens[i].id;
    if (id >= spec.piece_ends.size() || seen[id]) {
      return corrupt("special_tokens[" + std::to_string(i) + "].id is " + std::to_string(id) +
                     (id >= spec.piece_ends.size() ? ", not below " + std::to_string(count)
                                                   : ", an earlier one's"));
    }
    seen[id] = true;
  }
  return Status();
}

}  // namespace

std::string_view piece_of(const TokenizerSpec& spec, size_t id) {
  const size_t begin = id == 0 ? 0 : spec.piece_ends[id - 1];
  return {reinterpret_cast<const char*>(spec.pieces.data()) + begin, spec.piece_ends[id] - begin};
}

Status check_tokenizer(const TokenizerSpec& spec) {
  MOKA_RETURN_IF_ERROR(check_kind(spec));
  MOKA_RETURN_IF_ERROR(check_pieces(spec));
  if (spec.kind == TokenizerKind::kBytes) MOKA_RETURN_IF_ERROR(check_bytes(spec));
  MOKA_RETURN_IF_ERROR(check_scores(spec));
  MOKA_RETURN_IF_ERROR(check_merges(spec));
  return check_ids(spec);
}

}  // namespace moka::text
