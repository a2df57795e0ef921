// A model file is one protobuf message: pieces, how they were trained, how text is normalized. The
// little of protobuf that it needs is read here: numbered fields, each a varint, 4 or 8 bytes, or
// bytes with a length in front.
#include "converter/sentencepiece.h"

#include <cmath>
#include <cstring>
#include <unordered_set>
#include <utility>

#include "converter/file.h"
#include "converter/json.h"
#include "converter/tokenizer_parts.h"
#include "runtime/text/tokenizer_check.h"
#include "runtime/text/unigram.h"

namespace moka {

namespace {

constexpr size_t kMaxPiece = 4096;  // bytes; the format's bound

struct Field {
  uint32_t number = 0;
  uint32_t wire = 0;       // 0 varint, 1 eight bytes, 2 bytes, 5 four bytes
  uint64_t value = 0;      // of wire 0, 1, 5
  std::string_view bytes;  // of wire 2
};

// Reads the fields of one message, which is part of `file`.
class Message {
 public:
  Message(std::string_view file, std::string_view bytes, const std::string& name)
      : file_(file), bytes_(bytes), name_(name) {}

  bool more() const { return at_ < bytes_.size(); }

  Result<Field> next() {
    Field field;
    const size_t begin = at_;
    MOKA_ASSIGN_OR_RETURN(const uint64_t key, varint());
    field.wire = static_cast<uint32_t>(key & 7);
    if (key >> 3 == 0 || key >> 3 > 0x1FFFFFFF) return corrupt(begin, "is no field of protobuf");
    field.number = static_cast<uint32_t>(key >> 3);
    switch (field.wire) {
      case 0: {
        MOKA_ASSIGN_OR_RETURN(field.value, varint());
        return field;
      }
      case 1: {
        MOKA_ASSIGN_OR_RETURN(field.value, fixed(8));
        return field;
      }
      case 5: {
        MOKA_ASSIGN_OR_RETURN(field.value, fixed(4));
        return field;
      }
      case 2: {
        MOKA_ASSIGN_OR_RETURN(const uint64_t size, varint());
        if (size > bytes_.size() - at_) {
          return corrupt(begin, "is a field of " + std::to_string(size) + " bytes, but only " +
                                    std::to_string(bytes_.size() - at_) + " are left");
        }
        field.bytes = bytes_.substr(at_, static_cast<size_t>(size));
        at_ += static_cast<size_t>(size);
        return field;
      }
      default: return corrupt(begin, "has wire type " + std::to_string(field.wire));
    }
  }

  // What field `number` must be; says so when it is not.
  Status expect(const Field& field, uint32_t wire, const char* what) const {
    if (field.wire == wire) return Status();
    return Status(StatusCode::kCorrupt, name_ + ": " + what + " has wire type " +
                                            std::to_string(field.wire) + ", expected " +
                                            std::to_string(wire));
  }

 private:
  Status corrupt(size_t at, const std::string& what) const {
    const auto offset = static_cast<size_t>(bytes_.data() - file_.data()) + at;
    return Status(StatusCode::kCorrupt, name_ + ": byte " + std::to_string(offset) + " " + what +
                                            "; this is no SentencePiece model, or a damaged one");
  }

  Result<uint64_t> varint() {
    uint64_t value = 0;
    const size_t begin = at_;
    for (unsigned shift = 0; shift < 70; shift += 7) {
      if (at_ >= bytes_.size()) return corrupt(begin, "begins a number that has no end");
      const auto byte = static_cast<uint8_t>(bytes_[at_++]);
      if (shift == 63 && byte > 1) break;
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    return corrupt(begin, "begins a number of more than 64 bits");
  }

  Result<uint64_t> fixed(size_t size) {
    if (bytes_.size() - at_ < size) return corrupt(at_, "begins a number that has no end");
    uint64_t value = 0;
    for (size_t i = 0; i < size; ++i) {
      value |= uint64_t{static_cast<uint8_t>(bytes_[at_ + i])} << (8 * i);
    }
    at_ += size;
    return value;
  }

  std::string_view file_, bytes_;
  const std::string& name_;
  size_t at_ = 0;
};

enum PieceType : uint64_t {
  kNormal = 1,
  kUnknownPiece = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

struct Piece {
  std::string_view text;
  float score = 0;
  uint64_t type = kNormal;
};

struct Trainer {
  uint64_t model_type = 1;
  bool byte_fallback = false, space_behind = false;
  std::string_view bos = "<s>", eos = "</s>", pad = "<pad>";
  std::string_view unknown_shown = " \xE2\x81\x87 ";
};

struct Rules {
  std::string_view map;
  bool space_in_front = true, collapse = true, underline = true;
};

class ModelReader {
 public:
  ModelReader(std::string_view file, const std::string& name) : file_(file), name_(name) {}

  Status read() {
    Message message(file_, file_, name_);
    while (message.more()) {
      MOKA_ASSIGN_OR_RETURN(const Field field, message.next());
      if (field.number > 5) continue;  // extensions; they do not change ids
      MOKA_RETURN_IF_ERROR(message.expect(field, 2, "a part of the model"));
      switch (field.number) {
        case 1: MOKA_RETURN_IF_ERROR(read_piece(field.bytes)); break;
        case 2: MOKA_RETURN_IF_ERROR(read_trainer(field.bytes)); break;
        case 3: MOKA_RETURN_IF_ERROR(read_rules(field.bytes, "normalizer_spec", &rules_)); break;
        case 5: {
          Rules backwards;
          MOKA_RETURN_IF_ERROR(read_rules(field.bytes, "denormalizer_spec", &backwards));
          if (!backwards.map.empty()) {
            return unsupported("denormalizer_spec has a table, which changes decoded text");
          }
          break;
        }
        default: break;  // 4, the self test
      }
    }
    return Status();
  }

  Result<TokenizerSpec> make() const;

 private:
  Status corrupt(const std::string& what) const {
    return Status(StatusCode::kCorrupt, name_ + ": " + what);
  }
  Status unsupported(const std::string& what) const {
    return Status(StatusCode::kUnsupported, name_ + ": " + what);
  }

  Status read_piece(std::string_view bytes) {
    if (pieces_.size() >= text::kMaxVocabulary) {
      return corrupt("there are more than " + std::to_string(text::kMaxVocabulary) + " pieces");
    }
    const std::string what = "piece " + std::to_string(pieces_.size());
    Piece piece;
    Message message(file_, bytes, name_);
    while (message.more()) {
      MOKA_ASSIGN_OR_RETURN(const Field field, message.next());
      if (field.number == 1) {
        MOKA_RETURN_IF_ERROR(message.expect(field, 2, (what + ".piece").c_str()));
        piece.text = field.bytes;
      } else if (field.number == 2) {
        MOKA_RETURN_IF_ERROR(message.expect(field, 5, (what + ".score").c_str()));
        const auto bits = static_cast<uint32_t>(field.value);
        std::memcpy(&piece.score, &bits, sizeof bits);
      } else if (field.number == 3) {
        MOKA_RETURN_IF_ERROR(message.expect(field, 0, (what + ".type").c_str()));
        piece.type = field.value;
      }
    }
    if (piece.text.empty() || piece.text.size() > kMaxPiece) {
      return corrupt(what + " has " + std::to_string(piece.text.size()) + " bytes, expected 1 to " +
                     std::to_string(kMaxPiece));
    }
    if (!std::isfinite(piece.score)) return corrupt(what + " has a score that is not finite");
    if (piece.type < kNormal || piece.type > kByte) {
      return unsupported(what + " has type " + std::to_string(piece.type) + ", expected 1 to 6");
    }
    pieces_.push_back(piece);
    return Status();
  }

  Status read_trainer(std::string_view bytes) {
    Message message(file_, bytes, name_);
    while (message.more()) {
      MOKA_ASSIGN_OR_RETURN(const Field field, message.next());
      const struct {
        uint32_t number;
        std::string_view* text;
      } texts[] = {{44, &trainer_.unknown_shown},
                   {46, &trainer_.bos},
                   {47, &trainer_.eos},
                   {48, &trainer_.pad}};
      for (const auto& entry : texts) {
        if (field.number != entry.number) continue;
        MOKA_RETURN_IF_ERROR(message.expect(field, 2, "a text of trainer_spec"));
        *entry.text = field.bytes;
      }
      if (field.number != 3 && field.number != 24 && field.number != 35) continue;
      MOKA_RETURN_IF_ERROR(message.expect(field, 0, "a number of trainer_spec"));
      if (field.number == 3) trainer_.model_type = field.value;
      if (field.number == 24) trainer_.space_behind = field.value != 0;
      if (field.number == 35) trainer_.byte_fallback = field.value != 0;
    }
    return Status();
  }

  Status read_rules(std::string_view bytes, const char* what, Rules* rules) const {
    Message message(file_, bytes, name_);
    while (message.more()) {
      MOKA_ASSIGN_OR_RETURN(const Field field, message.next());
      bool* flags[] = {&rules->space_in_front, &rules->collapse, &rules->underline};
      if (field.number == 2) {
        MOKA_RETURN_IF_ERROR(message.expect(field, 2, what));
        rules->map = field.bytes;
      } else if (field.number >= 3 && field.number <= 5) {
        MOKA_RETURN_IF_ERROR(message.expect(field, 0, what));
        *flags[field.number - 3] = field.value != 0;
      } else if (field.number > 6 && field.number < 200) {
        return unsupported(std::string(what) + " has field " + std::to_string(field.number) +
                           ", which is not known");
      }
    }
    return Status();
  }

  Status check() const;
  void add_rules(TokenizerSpec* spec) const;
  void add_pieces(TokenizerSpec* spec) const;

  std::string_view file_;
  const std::string& name_;
  std::vector<Piece> pieces_;
  Trainer trainer_;
  Rules rules_;
};

bool is_byte_name(std::string_view text) {
  auto digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); };
  return text.size() == 6 && text.substr(0, 3) == "<0x" && digit(text[3]) && digit(text[4]) &&
         text[5] == '>';
}

Status ModelReader::check() const {
  if (pieces_.empty()) return corrupt("there are no pieces; this is no SentencePiece model");
  constexpr const char* kTypes[] = {"", "UNIGRAM", "BPE", "WORD", "CHAR"};
  if (trainer_.model_type != 1 && trainer_.model_type != 2) {
    const uint64_t type = trainer_.model_type;
    return unsupported("trainer_spec.model_type is " +
                       (type == 3 || type == 4 ? std::string(kTypes[type]) : std::to_string(type)) +
                       "; UNIGRAM and BPE are read");
  }
  if (trainer_.space_behind) {
    return unsupported(
        "trainer_spec.treat_whitespace_as_suffix is true; only spaces before words "
        "are known");
  }
  // Text becomes pieces of one kind; the others have names of their own.
  std::unordered_set<std::string_view> in_text, others;
  size_t unknown = 0, byte_count = 0;
  for (size_t id = 0; id < pieces_.size(); ++id) {
    const Piece& piece = pieces_[id];
    const std::string what = "piece " + std::to_string(id) + " " + in_quotes(piece.text);
    const bool text = piece.type == kNormal || piece.type == kUserDefined || piece.type == kUnused;
    if (!(text ? in_text : others).insert(piece.text).second) {
      return corrupt(what + " is there twice");
    }
    if (piece.type == kUnknownPiece && ++unknown > 1) {
      return corrupt(what + " is a second unknown piece");
    }
    if (piece.type == kUnused && trainer_.model_type == 2) {
      return unsupported(what + " is an unused piece of a BPE model");
    }
    if (piece.type != kByte) continue;
    if (!trainer_.byte_fallback) {
      return corrupt(what + " is a byte piece, but trainer_spec.byte_fallback is false");
    }
    if (!is_byte_name(piece.text)) {
      return corrupt(what + " is a byte piece, but not <0x00> to <0xFF>");
    }
    ++byte_count;  // no two are the same
  }
  if (unknown == 0) return corrupt("there is no unknown piece");
  if (trainer_.byte_fallback && byte_count != 256) {
    return corrupt("trainer_spec.byte_fallback is true, but there are " +
                   std::to_string(byte_count) + " byte pieces of 256");
  }
  return Status();
}

void ModelReader::add_rules(TokenizerSpec* spec) const {
  auto add = [&](NormalizerKind kind) -> Normalizer& {
    spec->normalizers.emplace_back();
    spec->normalizers.back().kind = kind;
    return spec->normalizers.back();
  };
  if (!rules_.map.empty()) {
    Normalizer& map = add(NormalizerKind::kPrecompiledMap);
    map.literal = true;  // the longest entry anywhere, as SentencePiece itself does
    map.data.assign(rules_.map.begin(), rules_.map.end());
  }
  if (rules_.collapse) add(NormalizerKind::kCollapseSpaces);
  if (rules_.space_in_front) add(NormalizerKind::kPrepend).content = " ";
  if (rules_.underline) add(NormalizerKind::kSpacesToUnderline);
}

void ModelReader::add_pieces(TokenizerSpec* spec) const {
  const bool bpe = trainer_.model_type == 2;
  for (const Piece& piece : pieces_) {
    float score = text::kNeverInText;
    switch (piece.type) {
      case kUnknownPiece: {
        const bool shown =
            !trainer_.unknown_shown.empty() && trainer_.unknown_shown.size() <= kMaxPiece;
        spec->unknown_id = static_cast<int32_t>(add_special_piece(
            piece.text, shown ? trainer_.unknown_shown : piece.text, !shown, false, spec));
        break;
      }
      case kControl: {
        const uint32_t id = add_special_piece(piece.text, piece.text, true, false, spec);
        if (piece.text == trainer_.bos) spec->bos_id = static_cast<int32_t>(id);
        if (piece.text == trainer_.eos) spec->eos_id = static_cast<int32_t>(id);
        if (piece.text == trainer_.pad) spec->pad_id = static_cast<int32_t>(id);
        break;
      }
      case kUserDefined:
        add_special_piece(piece.text, piece.text, false, true, spec);
        if (bpe) score = piece.score;
        break;
      default:
        add_piece(piece.text, spec);
        if (piece.type == kNormal) score = piece.score;
        break;
    }
    spec->scores.push_back(score);
  }
}

Result<TokenizerSpec> ModelReader::make() const {
  MOKA_RETURN_IF_ERROR(check());
  TokenizerSpec spec;
  spec.kind = trainer_.model_type == 2 ? TokenizerKind::kBpe : TokenizerKind::kUnigram;
  spec.byte_fallback = trainer_.byte_fallback;
  spec.fuse_unknown = true;
  add_pieces(&spec);
  add_rules(&spec);
  return spec;
}

}  // namespace

Result<TokenizerSpec> parse_sentencepiece(std::string_view bytes, const std::string& name,
                                          const TokenizerIds& ids) {
  ModelReader reader(bytes, name);
  MOKA_RETURN_IF_ERROR(reader.read());
  MOKA_ASSIGN_OR_RETURN(TokenizerSpec spec, reader.make());
  MOKA_RETURN_IF_ERROR(set_ids(ids, name, &spec));
  spec.source_hash = hash_of(bytes);
  return checked_tokenizer(std::move(spec), name);
}

Result<TokenizerSpec> read_sentencepiece(const std::string& path, const TokenizerIds& ids) {
  MOKA_ASSIGN_OR_RETURN(const std::string bytes, read_text_file(path, kMaxTokenizerFile));
  return parse_sentencepiece(bytes, path, ids);
}

}  // namespace moka
