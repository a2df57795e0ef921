// Tokenizer files in, TokenizerSpec out: Hugging Face's tokenizer.json and GPT-2's own file pair.
//
// Only rules that give the same ids as the program that made the file are accepted; a member that
// would change the ids and is not understood is kUnsupported, named by its place in the file
// ("pre_tokenizer.pretokenizers[1].type"). Any thread.
#ifndef MOKA_CONVERTER_TOKENIZER_JSON_H_
#define MOKA_CONVERTER_TOKENIZER_JSON_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "moka/status.h"
#include "runtime/model_spec.h"

namespace moka {

// Ids that a tokenizer file does not say and config.json may; -1: not given.
struct TokenizerIds {
  int32_t bos = -1;
  int32_t eos = -1;
  int32_t pad = -1;
};

// Reads a tokenizer.json: byte-level BPE; BPE with byte_fallback and Unigram, over text in which
// U+2581 is a space. The file is at most 64 MiB.
// kNotFound, kIo: the file cannot be read. kCorrupt: not JSON, a missing member, ids that are
// repeated or leave holes, a merge of pieces that are not in the vocabulary. kUnsupported: a rule
// that Moka does not know. kInvalidArgument: an id of `ids` outside the vocabulary.
Result<TokenizerSpec> read_tokenizer_json(const std::string& path, const TokenizerIds& ids);

// The same from text; `name` begins messages.
Result<TokenizerSpec> parse_tokenizer_json(std::string_view text, const std::string& name,
                                           const TokenizerIds& ids);

// Reads GPT-2's vocabulary (vocab.json or encoder.json) and merges (merges.txt or vocab.bpe). The
// split rule is GPT-2's; "<|endoftext|>", if it is in the vocabulary, is the special token and
// stands for bos and eos where `ids` does not name them. Errors as above.
Result<TokenizerSpec> read_gpt2_tokenizer(const std::string& vocab_path,
                                          const std::string& merges_path, const TokenizerIds& ids);

// Raw bytes (260 ids): 0 to 255 are the bytes, then pad 256, unk 257, bos 258, eos 259.
TokenizerSpec bytes_tokenizer_spec();

}  // namespace moka

#endif  // MOKA_CONVERTER_TOKENIZER_JSON_H_
