// The way of a text to ids:
//
//   text -> added tokens cut out -> normalized -> added tokens marked `normalized` cut out
//        -> a space in front, if the model wants it -> pre-tokenizers -> the model per piece -> ids
//
// The model is BPE over bytes or characters, unigram, single characters or whole words. Control
// tokens are looked for only with `parse_special`; added tokens that are not control tokens are
// ordinary vocabulary and always are.
#include <algorithm>
#include <cstdio>
#include <utility>

#include "runtime/text/sentence_rules.h"
#include "runtime/text/unicode.h"
#include "runtime/tokenizer_impl.h"

namespace moka {

// One call of encode(): the scratch and the place in the text.
class Tokenizer::Impl::Encoder {
 public:
  Encoder(const Impl& impl, bool parse_special, std::vector<TokenId>* ids)
      : impl_(impl),
        parse_special_(parse_special),
        ids_(ids),
        cut_(impl.splitter),
        merger_(impl.merges),
        unigram_(impl.unigram) {}

  Status run(std::string_view text) {
    text_ = text;
    return between_tokens(impl_.raw_tokens, text, true, [this](std::string_view part, bool first) {
      return normalize(part, first);
    });
  }

 private:
  // Ids of the tokens found in `text`, and `plain` for what lies between them. `first`: the text to
  // be encoded begins with `text`.
  template <class Plain>
  Status between_tokens(const text::SpecialTokens& tokens, std::string_view text, bool first,
                        const Plain& plain) {
    size_t done = 0;
    text::SpecialTokens::Found found{};
    while (tokens.find(text, done, parse_special_, &found)) {
      MOKA_RETURN_IF_ERROR(plain(text.substr(done, found.begin - done), first && done == 0));
      ids_->push_back(static_cast<TokenId>(found.id));
      done = found.end;
    }
    return plain(text.substr(done), first && done == 0);
  }

  Status normalize(std::string_view part, bool first) {
    if (part.empty()) return Status();
    std::string normalized;
    if (!impl_.normalizer.empty()) {
      // A text whose beginning was left out does not begin here for Metaspace, either.
      bool front_removed = false;
      MOKA_ASSIGN_OR_RETURN(normalized, impl_.normalizer.apply(part, &front_removed));
      first = first && !front_removed;
      part = normalized;
    }
    return between_tokens(
        impl_.normalized_tokens, part, first,
        [this](std::string_view plain, bool at_start) { return split(plain, at_start); });
  }

  Status split(std::string_view plain, bool first) {
    if (plain.empty()) return Status();
    if (impl_.spec.kind == TokenizerKind::kBytes) {
      for (char c : plain) ids_->push_back(static_cast<uint8_t>(c));
      return Status();
    }
    std::string spaced;
    const bool add_space = impl_.spec.add_prefix_space && plain[0] != ' ';
    if (add_space) {
      spaced.reserve(plain.size() + 1);
      spaced.append(1, ' ').append(plain);
      plain = spaced;
    }
    split_text_ = plain;
    split_text_is_original_ = impl_.normalizer.empty() && !add_space;
    return cut_.cut(plain, first, [this](std::string_view piece) { return encode_piece(piece); });
  }

  Status encode_piece(std::string_view piece) {
    after_unknown_ = false;
    switch (impl_.spec.kind) {
      case TokenizerKind::kUnigram: return encode_unigram(piece);
      case TokenizerKind::kChars: return encode_characters(piece);
      case TokenizerKind::kWords: return encode_word(piece);
      default: break;
    }
    if (impl_.spec.ignore_merges) {
      const auto whole = impl_.whole_pieces.find(piece);
      if (whole != impl_.whole_pieces.end()) {
        ids_->push_back(static_cast<TokenId>(whole->second));
        return Status();
      }
    }
    if (!impl_.by_characters) return merge_bytes(piece);
    // Where no piece goes on over the beginning of a word, a long text need not be merged at once.
    while (!piece.empty()) {
      const std::string_view word =
          piece.substr(0, impl_.marks_lead ? word_end(piece) : piece.size());
      MOKA_RETURN_IF_ERROR(impl_.spec.scores.empty() ? merge_characters(word)
                                                     : merge_by_score(word));
      piece.remove_prefix(word.size());
    }
    return Status();
  }

  // The first place where a mark stands behind another character, or the end.
  static size_t word_end(std::string_view piece) {
    size_t at = 0;
    while (piece.substr(at, text::kSpaceMark.size()) == text::kSpaceMark) {
      at += text::kSpaceMark.size();
    }
    return std::min(piece.find(text::kSpaceMark, at), piece.size());
  }

  // ---- BPE -------------------------------------------------------------------------------------

  Status merge_bytes(std::string_view piece) {
    symbols_.clear();
    bool after_unknown = false;
    for (const char& c : piece) {
      const int32_t id = impl_.byte_ids[static_cast<uint8_t>(c)];
      if (id < 0 && impl_.spec.unknown_id < 0) return missing_byte(&c);
      const bool skip = id < 0 && after_unknown && impl_.spec.fuse_unknown;
      after_unknown = id < 0;
      if (!skip) symbols_.push_back(static_cast<uint32_t>(id < 0 ? impl_.spec.unknown_id : id));
    }
    merger_.merge(&symbols_);
    ids_->insert(ids_->end(), symbols_.begin(), symbols_.end());
    return Status();
  }

  // Characters that are no pieces become bytes or the unknown token before anything merges.
  Status merge_characters(std::string_view piece) {
    const size_t before = ids_->size();
    MOKA_RETURN_IF_ERROR(encode_characters(piece));
    symbols_.clear();
    for (size_t i = before; i < ids_->size(); ++i) {
      symbols_.push_back(static_cast<uint32_t>((*ids_)[i]));
    }
    ids_->resize(before);
    merger_.merge(&symbols_);
    ids_->insert(ids_->end(), symbols_.begin(), symbols_.end());
    return Status();
  }

  // SentencePiece's BPE: what is still no piece after merging becomes bytes or the unknown token.
  Status merge_by_score(std::string_view piece) {
    constexpr uint32_t kForeign = 0x80000000;  // character i of foreign_, which merges with nothing
    symbols_.clear();
    foreign_.clear();
    for (size_t i = 0; i < piece.size();) {
      size_t end = i;
      uint32_t symbol = impl_.characters.favoured(piece, i, &end);
      if (symbol == text::Characters::kNone) {
        const text::Decoded d = text::decode(piece, i);
        end = i + d.length;
        symbol = impl_.characters.symbol(d.code_point);
        if (symbol == text::Characters::kNone) {
          symbol = kForeign + static_cast<uint32_t>(foreign_.size());
          foreign_.push_back(d.code_point);
        }
      }
      symbols_.push_back(symbol);
      i = end;
    }
    merger_.merge(&symbols_);
    for (const uint32_t symbol : symbols_) {
      const uint32_t id =
          symbol >= kForeign ? text::Characters::kNone : impl_.characters.id(symbol);
      if (id != text::Characters::kNone) {
        known(id);
        continue;
      }
      character_.clear();
      text::append_utf8(
          symbol >= kForeign ? foreign_[symbol - kForeign] : impl_.characters.character(symbol),
          &character_);
      MOKA_RETURN_IF_ERROR(unknown(character_));
    }
    return Status();
  }

  // ---- unigram, characters, words --------------------------------------------------------------

  Status encode_unigram(std::string_view piece) {
    Status status;
    size_t begin = 0, end = 0;  // of the unknown characters that stand together
    auto flush = [&] {
      if (end > begin && status.ok()) status = unknown(piece.substr(begin, end - begin));
      begin = end;
    };
    unigram_.cut(piece, [&](const text::UnigramRun::Piece& found) {
      if (found.id == text::UnigramRun::kUnknown) {
        if (end != found.begin || !impl_.spec.fuse_unknown) flush();
        if (end == begin) begin = found.begin;
        end = found.end;
        return;
      }
      flush();
      known(static_cast<uint32_t>(found.id));
    });
    flush();
    return status;
  }

  Status encode_characters(std::string_view piece) {
    for (size_t i = 0; i < piece.size();) {
      const text::Decoded d = text::decode(piece, i);
      const uint32_t symbol = impl_.characters.symbol(d.code_point);
      if (symbol != text::Characters::kNone) {
        known(symbol);
      } else {
        MOKA_RETURN_IF_ERROR(unknown(piece.substr(i, d.length)));
      }
      i += d.length;
    }
    return Status();
  }

  Status encode_word(std::string_view word) {
    const auto found = impl_.whole_pieces.find(word);
    if (found != impl_.whole_pieces.end()) {
      known(found->second);
      return Status();
    }
    if (impl_.spec.unknown_id >= 0) {
      ids_->push_back(impl_.spec.unknown_id);
      return Status();
    }
    return not_in_vocabulary("the word \"" + shortened(word) + "\"");
  }

  void known(uint32_t id) {
    ids_->push_back(static_cast<TokenId>(id));
    after_unknown_ = false;
  }

  // Characters that the vocabulary lacks: their bytes, if it has all of these; else the unknown
  // token, one for neighbours if they are fused.
  Status unknown(std::string_view missing) {
    if (impl_.spec.byte_fallback) {
      bool all = true;
      for (const char c : missing) all = all && impl_.byte_ids[static_cast<uint8_t>(c)] >= 0;
      if (all) {
        for (const char c : missing) ids_->push_back(impl_.byte_ids[static_cast<uint8_t>(c)]);
        after_unknown_ = false;
        return Status();
      }
    }
    if (impl_.spec.unknown_id < 0) {
      const text::CodePoint first = text::decode(missing, 0).code_point;
      char name[32];
      if (first > text::kMaxCodePoint) {
        std::snprintf(name, sizeof name, "the byte 0x%02X", first - text::kInvalidByte);
      } else {
        std::snprintf(name, sizeof name, "the character U+%04X", first);
      }
      return not_in_vocabulary(name);
    }
    if (!after_unknown_ || !impl_.spec.fuse_unknown) ids_->push_back(impl_.spec.unknown_id);
    after_unknown_ = true;
    return Status();
  }

  // ---- messages --------------------------------------------------------------------------------

  static std::string shortened(std::string_view text) {
    constexpr size_t kMost = 40;
    if (text.size() <= kMost) return std::string(text);
    size_t end = kMost;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    return std::string(text.substr(0, end)) + "...";
  }

  static Status not_in_vocabulary(const std::string& what) {
    return Status(
        StatusCode::kInvalidArgument,
        "tokenizer: " + what + " is not in the vocabulary, and the model has no unknown token");
  }

  Status missing_byte(const char* place) const {
    const char* start = split_text_is_original_ ? text_.data() : split_text_.data();
    return not_in_vocabulary(
        "byte " + std::to_string(static_cast<uint8_t>(*place)) + " at offset " +
        std::to_string(place - start) +
        (split_text_is_original_ ? " of the text" : " of the normalized text"));
  }

  const Impl& impl_;
  const bool parse_special_;
  std::vector<TokenId>* ids_;
  text::SplitRun cut_;
  text::Merger merger_;
  text::UnigramRun unigram_;
  std::vector<uint32_t> symbols_;
  std::vector<text::CodePoint> foreign_;
  std::string character_;
  std::string_view text_;        // of the caller
  std::string_view split_text_;  // what is being cut, for messages
  bool split_text_is_original_ = true;
  bool after_unknown_ = false;  // the last id of this piece is the unknown token
};

Status Tokenizer::Impl::encode(std::string_view text, bool parse_special,
                               std::vector<TokenId>* ids) const {
  return Encoder(*this, parse_special, ids).run(text);
}

}  // namespace moka
