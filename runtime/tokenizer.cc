// The way of a text to ids:
//
//   text -> added tokens cut out -> normalized -> added tokens marked `normalized` cut out
//        -> a space in front, if the model wants it -> pre-tokenizers -> BPE per piece -> ids
//
// Control tokens are looked for only with `parse_special`; added tokens that are not control tokens
// are ordinary vocabulary and always are.
#include "moka/tokenizer.h"

#include <array>
#include <unordered_map>
#include <utility>

#include "runtime/model_spec.h"
#include "runtime/text/bpe.h"
#include "runtime/text/normalizer.h"
#include "runtime/text/special_tokens.h"
#include "runtime/text/split.h"
#include "runtime/text/tokenizer_check.h"

namespace moka {

namespace {
constexpr size_t kMaxText = size_t{1} << 30;  // bytes per call; positions fit in 32 bits
}

struct Tokenizer::Impl {
  TokenizerSpec spec;
  std::array<int32_t, 256> byte_ids{};       // -1: the vocabulary lacks the byte
  std::vector<bool> is_control, is_special;  // per id
  std::unordered_map<uint32_t, std::string> special_texts;
  text::SpecialTokens raw_tokens, normalized_tokens;
  text::TextNormalizer normalizer;
  text::Splitter splitter;
  text::MergeTable merges;
  std::unordered_map<std::string_view, uint32_t> whole_pieces;  // only with ignore_merges

  class Encoder;

  Status add_special_tokens();
  Status index_pieces();
};

Status Tokenizer::Impl::add_special_tokens() {
  is_control.resize(spec.piece_ends.size());
  is_special.resize(spec.piece_ends.size());
  for (const SpecialToken& token : spec.special_tokens) {
    is_control[token.id] = token.control;
    is_special[token.id] = true;
    special_texts[token.id] = token.text;
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

Status Tokenizer::Impl::index_pieces() {
  byte_ids.fill(-1);
  for (size_t id = spec.piece_ends.size(); id-- > 0;) {  // downwards: the lowest id stays
    const std::string_view piece = text::piece_of(spec, id);
    if (piece.empty() || is_special[id]) continue;
    if (piece.size() == 1) byte_ids[static_cast<uint8_t>(piece[0])] = static_cast<int32_t>(id);
    if (spec.ignore_merges) whole_pieces[piece] = static_cast<uint32_t>(id);
  }
  size_t repeated = 0;
  if (!merges.build(spec.merges, &repeated)) {
    return Status(StatusCode::kCorrupt, "tokenizer: merges[" + std::to_string(repeated) +
                                            "] joins the same pieces as an earlier one");
  }
  spec.merges = std::vector<uint32_t>();  // the table has them
  return Status();
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::create(TokenizerSpec spec) {
  MOKA_RETURN_IF_ERROR(text::check_tokenizer(spec));
  auto impl = std::make_unique<Impl>();
  impl->spec = std::move(spec);
  MOKA_ASSIGN_OR_RETURN(impl->normalizer, text::TextNormalizer::create(impl->spec.normalizers));
  MOKA_ASSIGN_OR_RETURN(impl->splitter, text::Splitter::create(impl->spec.pre_tokenizers));
  MOKA_RETURN_IF_ERROR(impl->add_special_tokens());
  MOKA_RETURN_IF_ERROR(impl->index_pieces());
  return Tokenizer(std::move(impl));
}

// One call of encode(): the scratch and the place in the text.
class Tokenizer::Impl::Encoder {
 public:
  Encoder(const Impl& impl, bool parse_special, std::vector<TokenId>* ids)
      : impl_(impl),
        parse_special_(parse_special),
        ids_(ids),
        cut_(impl.splitter),
        merger_(impl.merges) {}

  Status run(std::string_view text) {
    text_ = text;
    return between_tokens(impl_.raw_tokens, text,
                          [this](std::string_view part) { return normalize(part); });
  }

 private:
  // Ids of the tokens found in `text`, and `plain` for what lies between them.
  template <class Plain>
  Status between_tokens(const text::SpecialTokens& tokens, std::string_view text,
                        const Plain& plain) {
    size_t done = 0;
    text::SpecialTokens::Found found{};
    while (tokens.find(text, done, parse_special_, &found)) {
      MOKA_RETURN_IF_ERROR(plain(text.substr(done, found.begin - done)));
      ids_->push_back(static_cast<TokenId>(found.id));
      done = found.end;
    }
    return plain(text.substr(done));
  }

  Status normalize(std::string_view part) {
    if (part.empty()) return Status();
    std::string normalized;
    if (!impl_.normalizer.empty()) {
      MOKA_ASSIGN_OR_RETURN(normalized, impl_.normalizer.apply(part));
      part = normalized;
    }
    return between_tokens(impl_.normalized_tokens, part,
                          [this](std::string_view plain) { return split(plain); });
  }

  Status split(std::string_view plain) {
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
    return cut_.cut(plain, [this](std::string_view piece) { return encode_piece(piece); });
  }

  Status encode_piece(std::string_view piece) {
    if (impl_.spec.ignore_merges) {
      const auto whole = impl_.whole_pieces.find(piece);
      if (whole != impl_.whole_pieces.end()) {
        ids_->push_back(static_cast<TokenId>(whole->second));
        return Status();
      }
    }
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

  Status missing_byte(const char* place) const {
    const char* start = split_text_is_original_ ? text_.data() : split_text_.data();
    return Status(StatusCode::kInvalidArgument,
                  "tokenizer: byte " + std::to_string(static_cast<uint8_t>(*place)) +
                      " at offset " + std::to_string(place - start) +
                      (split_text_is_original_ ? " of the text" : " of the normalized text") +
                      " is not in the vocabulary, and the model has no unknown token");
  }

  const Impl& impl_;
  const bool parse_special_;
  std::vector<TokenId>* ids_;
  text::SplitRun cut_;
  text::Merger merger_;
  std::vector<uint32_t> symbols_;
  std::string_view text_;        // of the caller
  std::string_view split_text_;  // what is being cut, for messages
  bool split_text_is_original_ = true;
};

Status Tokenizer::encode(std::string_view text, std::vector<TokenId>* ids,
                         bool parse_special) const {
  if (ids == nullptr) return Status(StatusCode::kInvalidArgument, "encode: ids is null");
  if (text.size() > kMaxText) {
    return Status(StatusCode::kOutOfRange, "encode: text has " + std::to_string(text.size()) +
                                               " bytes, at most " + std::to_string(kMaxText) +
                                               " are read at once");
  }
  const size_t before = ids->size();
  Status status = Impl::Encoder(*impl_, parse_special, ids).run(text);
  if (!status.ok()) ids->resize(before);
  return status;
}

Result<std::string> Tokenizer::decode(Span<const TokenId> ids) const {
  std::string bytes;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || static_cast<size_t>(ids[i]) >= vocab_size()) {
      return Status(StatusCode::kOutOfRange, "decode: ids[" + std::to_string(i) + "] is " +
                                                 std::to_string(ids[i]) + ", not 0 to " +
                                                 std::to_string(vocab_size() - 1));
    }
    if (!is_control(ids[i])) bytes.append(piece(ids[i]));
  }
  return bytes;
}

size_t Tokenizer::vocab_size() const { return impl_->spec.piece_ends.size(); }

std::string_view Tokenizer::piece(TokenId id) const {
  if (id < 0 || static_cast<size_t>(id) >= vocab_size()) return {};
  if (!impl_->is_special[static_cast<size_t>(id)]) {
    return text::piece_of(impl_->spec, static_cast<size_t>(id));
  }
  return impl_->special_texts.find(static_cast<uint32_t>(id))->second;
}

bool Tokenizer::is_control(TokenId id) const {
  return id >= 0 && static_cast<size_t>(id) < vocab_size() &&
         impl_->is_control[static_cast<size_t>(id)];
}

TokenId Tokenizer::bos_id() const { return impl_->spec.bos_id; }
TokenId Tokenizer::eos_id() const { return impl_->spec.eos_id; }
TokenId Tokenizer::pad_id() const { return impl_->spec.pad_id; }
TokenId Tokenizer::unknown_id() const { return impl_->spec.unknown_id; }

}  // namespace moka
