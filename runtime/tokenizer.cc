// A Tokenizer is put together here: what the spec says becomes tables. The way of a text to ids is
// in text/encode.cc.
#include "moka/tokenizer.h"

#include <algorithm>
#include <utility>

#include "runtime/guard.h"
#include "runtime/model_spec.h"
#include "runtime/text/sentence_rules.h"
#include "runtime/text/tokenizer_check.h"
#include "runtime/tokenizer_impl.h"

namespace moka {

namespace {

constexpr size_t kMaxText = size_t{1} << 30;  // bytes per call; positions fit in 32 bits

// The byte of a piece such as "<0x0A>", or -1.
int byte_of_piece(std::string_view piece) {
  if (piece.size() != 6 || piece.substr(0, 3) != "<0x" || piece[5] != '>') return -1;
  int byte = 0;
  for (const char c : piece.substr(3, 2)) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit && (c < 'A' || c > 'F')) return -1;
    byte = byte * 16 + (digit ? c - '0' : c - 'A' + 10);
  }
  return byte;
}

bool is_favoured(const SpecialToken& token) { return token.normalized && !token.in_text; }

std::string with_spaces(std::string_view marked) {
  std::string text;
  for (size_t i = 0; i < marked.size();) {
    if (marked.substr(i, text::kSpaceMark.size()) == text::kSpaceMark) {
      text.push_back(' ');
      i += text::kSpaceMark.size();
    } else {
      text.push_back(marked[i++]);
    }
  }
  return text;
}

}  // namespace

// Which ids text may become, and what special tokens are; before the normalizer is made.
Status Tokenizer::Impl::add_special_tokens() {
  const size_t count = spec.piece_ends.size();
  is_control.resize(count);
  is_special.resize(count);
  favoured.resize(count);
  std::vector<std::pair<std::string_view, uint32_t>> pieces;
  for (const SpecialToken& token : spec.special_tokens) {
    is_control[token.id] = token.control;
    is_special[token.id] = true;
    favoured[token.id] = is_favoured(token);
    special_texts[token.id] = token.text;
    if (favoured[token.id]) pieces.emplace_back(text::piece_of(spec, token.id), token.id);
  }
  kept.build(std::move(pieces));
  in_text.resize(count);
  const size_t parts = spec.scores.size() / count;
  for (size_t id = 0; id < count; ++id) {
    const bool never = parts != 0 && spec.scores[id * parts] <= text::kNeverInText;
    in_text[id] = !is_special[id] && !never;
  }
  return Status();
}

// The special tokens that are cut out of the text; a normalized one is looked for in its own form.
Status Tokenizer::Impl::add_tokens_in_text() {
  for (const SpecialToken& token : spec.special_tokens) {
    if (!token.in_text) continue;
    if (token.normalized) {
      MOKA_ASSIGN_OR_RETURN(const std::string form, normalizer.apply(token.text));
      MOKA_RETURN_IF_ERROR(normalized_tokens.add(token, form));
    } else {
      MOKA_RETURN_IF_ERROR(raw_tokens.add(token, token.text));
    }
  }
  return Status();
}

// How the rules write spaces, and what they put in front of a text.
void Tokenizer::Impl::find_rules() {
  bool front = false, collapse = false;
  for (const Normalizer& rule : spec.normalizers) {
    marks_spaces = marks_spaces || rule.kind == NormalizerKind::kSpacesToUnderline;
    collapse = collapse || rule.kind == NormalizerKind::kCollapseSpaces;
    front = front || (rule.kind == NormalizerKind::kPrepend &&
                      (rule.content == " " || rule.content == text::kSpaceMark));
  }
  for (const PreTokenizer& rule : spec.pre_tokenizers) {
    if (rule.kind != PreTokenizerKind::kMetaspace) continue;
    if (rule.pattern.empty() || rule.pattern == text::kSpaceMark) marks_spaces = true;
    front = front || rule.add_prefix_space;
  }
  by_characters = spec.kind == TokenizerKind::kBpe && (spec.byte_fallback || !spec.scores.empty());
  if (!marks_spaces) return;
  front_spaces = collapse ? FrontSpaces::kDropped
                 : front  ? FrontSpaces::kOneDropped
                          : FrontSpaces::kKept;
}

void Tokenizer::Impl::index_bytes() {
  byte_ids.fill(-1);
  for (size_t id = spec.piece_ends.size(); id-- > 0;) {  // downwards: the lowest id stays
    const std::string_view piece = text::piece_of(spec, id);
    if (piece.empty() || is_special[id]) continue;
    int byte = piece.size() == 1 ? static_cast<uint8_t>(piece[0]) : -1;
    if (spec.byte_fallback) byte = byte_of_piece(piece);
    if (byte >= 0) byte_ids[static_cast<size_t>(byte)] = static_cast<int32_t>(id);
  }
}

void Tokenizer::Impl::look_at_marks() {
  for (size_t id = 0; id < spec.piece_ends.size() && marks_lead; ++id) {
    const bool by_score = !spec.scores.empty();  // else a merge may make any piece
    if (by_score && !in_text[id] && !favoured[id]) continue;
    std::string_view piece = text::piece_of(spec, id);
    while (piece.substr(0, text::kSpaceMark.size()) == text::kSpaceMark) {
      piece.remove_prefix(text::kSpaceMark.size());
    }
    marks_lead = piece.find(text::kSpaceMark) == std::string_view::npos;
  }
}

void Tokenizer::Impl::index_whole_pieces() {
  const bool words = spec.kind == TokenizerKind::kWords;
  if (!words && !spec.ignore_merges) return;
  for (size_t id = spec.piece_ends.size(); id-- > 0;) {  // downwards: the lowest id stays
    const std::string_view piece = text::piece_of(spec, id);
    if (piece.empty() || (!in_text[id] && !favoured[id])) continue;
    whole_pieces[piece] = static_cast<uint32_t>(id);
  }
}

// The pieces as decoding writes them, where that is not what the spec has.
void Tokenizer::Impl::show_pieces() {
  if (!marks_spaces && !spec.byte_fallback) return;
  shown.reserve(spec.piece_ends.empty() ? 0 : static_cast<size_t>(spec.piece_ends.back()));
  shown_ends.reserve(spec.piece_ends.size());
  for (uint32_t id = 0; id < spec.piece_ends.size(); ++id) {
    const std::string_view piece = text::piece_of(spec, id);
    const int byte = spec.byte_fallback && !is_special[id] ? byte_of_piece(piece) : -1;
    if (byte >= 0) {
      shown.push_back(static_cast<char>(byte));
    } else if (is_special[id] && !favoured[id]) {
      shown.append(special_texts[id]);
    } else {
      shown.append(marks_spaces ? with_spaces(piece) : std::string(piece));
    }
    shown_ends.push_back(shown.size());
  }
}

Status Tokenizer::Impl::build() {
  MOKA_RETURN_IF_ERROR(add_special_tokens());
  find_rules();
  MOKA_ASSIGN_OR_RETURN(
      normalizer, text::TextNormalizer::create(spec.normalizers, kept.empty() ? nullptr : &kept));
  MOKA_ASSIGN_OR_RETURN(splitter, text::Splitter::create(spec.pre_tokenizers));
  MOKA_RETURN_IF_ERROR(add_tokens_in_text());
  index_bytes();
  if (by_characters) look_at_marks();
  index_whole_pieces();
  show_pieces();
  if (spec.kind == TokenizerKind::kUnigram) unigram.build(spec, in_text, favoured);
  if (spec.kind == TokenizerKind::kChars || by_characters) characters.build(spec, in_text);
  if (by_characters && !spec.scores.empty()) {
    MOKA_RETURN_IF_ERROR(characters.build_merges(spec, in_text, favoured, &merges));
  } else {
    size_t repeated = 0;
    if (!merges.build(spec.merges, &repeated)) {
      return Status(StatusCode::kCorrupt, "tokenizer: merges[" + std::to_string(repeated) +
                                              "] joins the same pieces as an earlier one");
    }
  }
  spec.merges = std::vector<uint32_t>();  // the tables have them
  spec.scores = std::vector<float>(spec.scores.empty() ? 0 : 1);
  return Status();
}

std::string_view Tokenizer::Impl::shown_piece(uint32_t id) const {
  if (!shown_ends.empty()) {
    const size_t begin = id == 0 ? 0 : shown_ends[id - 1];
    return std::string_view(shown).substr(begin, shown_ends[id] - begin);
  }
  if (!is_special[id]) return text::piece_of(spec, id);
  return special_texts.find(id)->second;
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::create(TokenizerSpec spec) {
  return guarded("the tokenizer", [&]() -> Result<Tokenizer> {
    MOKA_RETURN_IF_ERROR(text::check_tokenizer(spec));
    auto impl = std::make_unique<Impl>();
    impl->spec = std::move(spec);
    MOKA_RETURN_IF_ERROR(impl->build());
    return Tokenizer(std::move(impl));
  });
}

Status Tokenizer::encode(std::string_view text, std::vector<TokenId>* ids,
                         bool parse_special) const {
  const size_t before = ids == nullptr ? 0 : ids->size();
  Status status = guarded("the tokens of the text", [&]() -> Status {
    if (ids == nullptr) return Status(StatusCode::kInvalidArgument, "encode: ids is null");
    if (text.size() > kMaxText) {
      return Status(StatusCode::kOutOfRange, "encode: text has " + std::to_string(text.size()) +
                                                 " bytes, at most " + std::to_string(kMaxText) +
                                                 " are read at once");
    }
    return impl_->encode(text, parse_special, ids);
  });
  if (!status.ok() && ids != nullptr) ids->resize(before);
  return status;
}

Status Tokenizer::encode_document(std::string_view text, std::vector<TokenId>* ids,
                                  uint32_t max_length) const {
  const size_t before = ids == nullptr ? 0 : ids->size();
  Status status = guarded("the tokens of the text", [&]() -> Status {
    if (ids == nullptr) return Status(StatusCode::kInvalidArgument, "encode_document: ids is null");
    const TokenizerSpec& spec = impl_->spec;
    const bool bos = spec.add_bos && spec.bos_id >= 0, eos = spec.add_eos && spec.eos_id >= 0;
    const size_t frame = size_t{bos} + size_t{eos};
    if (max_length != 0 && max_length < frame) {
      return Status(StatusCode::kInvalidArgument,
                    "encode_document: max_length is " + std::to_string(max_length) +
                        ", but bos and eos alone are " + std::to_string(frame) + " tokens");
    }
    if (bos) ids->push_back(spec.bos_id);
    // Of raw bytes no more is read than is kept.
    if (max_length != 0 && spec.kind == TokenizerKind::kBytes && spec.normalizers.empty()) {
      text = text.substr(0, max_length - frame);
    }
    MOKA_RETURN_IF_ERROR(encode(text, ids, false));
    const size_t most = max_length - size_t{eos};
    if (max_length != 0 && ids->size() - before > most) ids->resize(before + most);
    if (eos) ids->push_back(spec.eos_id);
    return Status();
  });
  if (!status.ok() && ids != nullptr) ids->resize(before);
  return status;
}

Result<std::string> Tokenizer::decode(Span<const TokenId> ids) const {
  return guarded("the text of the tokens", [&]() -> Result<std::string> {
    using FrontSpaces = Impl::FrontSpaces;
    std::string bytes;
    FrontSpaces front = impl_->front_spaces;
    bool first = true;
    for (size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] < 0 || static_cast<size_t>(ids[i]) >= vocab_size()) {
        return Status(StatusCode::kOutOfRange, "decode: ids[" + std::to_string(i) + "] is " +
                                                   std::to_string(ids[i]) + ", not 0 to " +
                                                   std::to_string(vocab_size() - 1));
      }
      if (is_control(ids[i])) continue;
      const auto id = static_cast<uint32_t>(ids[i]);
      std::string_view text = impl_->shown_piece(id);
      if (front != FrontSpaces::kKept && bytes.empty()) {
        // Only a mark counts: not the byte 0x20, not the space that an unknown token shows.
        const std::string_view written = text::piece_of(impl_->spec, id);
        const bool plain = !impl_->is_special[id] || impl_->favoured[id];
        if (plain && written.substr(0, text::kSpaceMark.size()) == text::kSpaceMark) {
          text.remove_prefix(1);
          if (front == FrontSpaces::kOneDropped) front = FrontSpaces::kKept;
        }
      }
      if (separates_words() && !first) bytes.push_back(' ');
      first = false;
      bytes.append(text);
    }
    return bytes;
  });
}

size_t Tokenizer::vocab_size() const { return impl_->spec.piece_ends.size(); }

std::string_view Tokenizer::piece(TokenId id) const {
  if (id < 0 || static_cast<size_t>(id) >= vocab_size()) return {};
  return impl_->shown_piece(static_cast<uint32_t>(id));
}

bool Tokenizer::separates_words() const { return impl_->spec.kind == TokenizerKind::kWords; }

bool Tokenizer::is_control(TokenId id) const {
  return id >= 0 && static_cast<size_t>(id) < vocab_size() &&
         impl_->is_control[static_cast<size_t>(id)];
}

TokenId Tokenizer::bos_id() const { return impl_->spec.bos_id; }
TokenId Tokenizer::eos_id() const { return impl_->spec.eos_id; }
TokenId Tokenizer::pad_id() const { return impl_->spec.pad_id; }
TokenId Tokenizer::unknown_id() const { return impl_->spec.unknown_id; }

}  // namespace moka
