// What the readers of all tokenizer files share.
#ifndef MOKA_CONVERTER_TOKENIZER_PARTS_H_
#define MOKA_CONVERTER_TOKENIZER_PARTS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "converter/tokenizer_json.h"
#include "moka/status.h"
#include "runtime/model_spec.h"

namespace moka {

constexpr uint64_t kMaxTokenizerFile = uint64_t{64} << 20;

// XXH3-64 as 16 hexadecimal digits, for source_hash.
std::string hash_of(std::string_view text);

// Appends a piece; its id is the number of pieces before.
uint32_t add_piece(std::string_view piece, TokenizerSpec* spec);

// Appends a piece that is a special token no text is searched for; `looked_up`: the model itself
// may give it for a part of the text (a word that is "<unk>", a user-defined symbol).
uint32_t add_special_piece(std::string_view piece, std::string_view text, bool control,
                           bool looked_up, TokenizerSpec* spec);

// The given ids replace those of the file. kInvalidArgument for one outside the vocabulary.
Status set_ids(const TokenizerIds& ids, const std::string& name, TokenizerSpec* spec);

// What the parts say together: a tokenizer that the runtime would refuse is refused here.
Result<TokenizerSpec> checked_tokenizer(TokenizerSpec spec, const std::string& name);

}  // namespace moka

#endif  // MOKA_CONVERTER_TOKENIZER_PARTS_H_
