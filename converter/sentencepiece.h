// SentencePiece models (tokenizer.model, spiece.model) of type UNIGRAM or BPE, as TokenizerSpec.
//
// The ids are SentencePiece's for every text. What cannot be had exactly is refused: WORD and CHAR
// models, spaces behind words (treat_whitespace_as_suffix), a denormalizer, unused pieces of BPE.
// Control pieces are never made from text, as in SentencePiece. Any thread.
#ifndef MOKA_CONVERTER_SENTENCEPIECE_H_
#define MOKA_CONVERTER_SENTENCEPIECE_H_

#include <string>
#include <string_view>

#include "converter/tokenizer_json.h"
#include "moka/status.h"
#include "runtime/model_spec.h"

namespace moka {

// The file is at most 64 MiB. kNotFound, kIo: it cannot be read. kCorrupt: no such model, or one
// that contradicts itself; the byte or the piece is named. kUnsupported: as above.
// kInvalidArgument: an id of `ids` outside the vocabulary.
Result<TokenizerSpec> read_sentencepiece(const std::string& path, const TokenizerIds& ids);

// The same from bytes; `name` begins messages.
Result<TokenizerSpec> parse_sentencepiece(std::string_view bytes, const std::string& name,
                                          const TokenizerIds& ids);

}  // namespace moka

#endif  // MOKA_CONVERTER_SENTENCEPIECE_H_
