#include "converter/tokenizer_parts.h"

#include <utility>

#include "moka/tokenizer.h"
#include "runtime/checksum.h"

namespace moka {

std::string hash_of(std::string_view text) {
  return checksum_text(xxh3_64(text.data(), text.size()));
}

uint32_t add_piece(std::string_view piece, TokenizerSpec* spec) {
  const auto id = static_cast<uint32_t>(spec->piece_ends.size());
  spec->pieces.insert(spec->pieces.end(), piece.begin(), piece.end());
  spec->piece_ends.push_back(static_cast<uint32_t>(spec->pieces.size()));
  return id;
}

uint32_t add_special_piece(std::string_view piece, std::string_view text, bool control,
                           bool looked_up, TokenizerSpec* spec) {
  SpecialToken token;
  token.id = add_piece(piece, spec);
  token.text = text;
  token.in_text = false;
  token.control = control;
  token.normalized = looked_up;
  spec->special_tokens.push_back(token);
  return token.id;
}

Status set_ids(const TokenizerIds& ids, const std::string& name, TokenizerSpec* spec) {
  const struct {
    const char* name;
    int32_t given;
    int32_t* id;
  } fields[] = {{"bos", ids.bos, &spec->bos_id},
                {"eos", ids.eos, &spec->eos_id},
                {"pad", ids.pad, &spec->pad_id}};
  const auto count = static_cast<int64_t>(spec->piece_ends.size());
  for (const auto& field : fields) {
    if (field.given == -1) continue;
    if (field.given < 0 || field.given >= count) {
      return Status(StatusCode::kInvalidArgument,
                    name + ": the " + field.name + " id was given as " +
                        std::to_string(field.given) + ", but ids are 0 to " +
                        std::to_string(count - 1));
    }
    *field.id = field.given;
  }
  return Status();
}

Result<TokenizerSpec> checked_tokenizer(TokenizerSpec spec, const std::string& name) {
  const auto tokenizer = Tokenizer::create(spec);
  if (!tokenizer.ok()) {
    return Status(tokenizer.status().code(), name + ": " + tokenizer.status().message());
  }
  return spec;
}

}  // namespace moka
