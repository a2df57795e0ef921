// Any tokenizer that a checkpoint may come with, from a path or a word: one entry point.
//
// | source                        | what it is                                                     |
// | ----------------------------- | -------------------------------------------------------------- |
// | tokenizer.json                | Hugging Face's: byte-level BPE, BPE or Unigram with marks       |
// | NAME.model                    | SentencePiece: Unigram or BPE                                   |
// | vocab.bpe, merges.txt         | GPT-2's merges; encoder.json or vocab.json lies beside it       |
// | encoder.json, vocab.json      | the same pair, named by its vocabulary                          |
// | NAME.json with "tokens"       | ListOps symbols: {"tokens": {...}, "special_tokens": {...}}     |
// | NAME.json that is a list      | a stored alphabet of characters: ["\n", " ", "!", ...]          |
// | NAME.json with "symbols"      | the symbols of a charfile by falling count: {"symbols": [...]}  |
// | bytes                         | raw bytes, 260 ids                                              |
// | chars:CORPUS[,CORPUS...]      | the sorted distinct characters of text files                    |
// | charfile:FILE[,FILE...]       | symbols between white space by falling count (enwik8)           |
// | a folder                      | the first of tokenizer.json, tokenizer.model, spiece.model,     |
// |                               | sentencepiece.bpe.model, vocab.bpe, merges.txt in it            |
//
// The content decides, not the name: a file of JSON is told apart from a SentencePiece model and
// from merges by how it begins. Any thread.
#ifndef MOKA_CONVERTER_TOKENIZER_SOURCE_H_
#define MOKA_CONVERTER_TOKENIZER_SOURCE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "converter/tokenizer_json.h"
#include "moka/status.h"
#include "runtime/model_spec.h"

namespace moka {

struct TokenizerRequest {
  std::string source;  // as in the table above
  // From the configuration. They replace what tokenizer.json, SentencePiece and GPT-2's files say,
  // and must agree with the other forms, whose special tokens are fixed.
  TokenizerIds ids;
  uint32_t vocab_size = 0;  // rows of the model's token table; 0: not known, not compared
  uint32_t max_length = 0;  // tokens that a document was cut to in training, eos included; 0: none
  bool add_eos = false;     // documents of this task end with eos
  // GPT-2's files only: pad = eos = <|endoftext|> and no bos, as the authors of Latte have it.
  // Without it <|endoftext|> is bos and eos.
  bool end_of_text_is_pad = false;
};

struct TokenizerSource {
  TokenizerSpec spec;              // passes Tokenizer::create
  std::vector<std::string> files;  // paths of all that was read, in order; none for "bytes"
  std::vector<std::string> notes;  // for the report: what was assumed, rows without text
  std::string form;                // "SentencePiece Unigram", "GPT-2 BPE", "bytes", ...
};

// kNotFound, kIo: a file that cannot be read. kCorrupt: a file that contradicts itself.
// kUnsupported: a rule that Moka does not know, by its place in the file. kInvalidArgument: a
// source that is no known form, more pieces than vocab_size, ids that do not fit the form.
Result<TokenizerSource> read_tokenizer(const TokenizerRequest& request);

// The path of the tokenizer file in `folder`, by the names above; empty when there is none.
std::string find_tokenizer(const std::string& folder);

}  // namespace moka

#endif  // MOKA_CONVERTER_TOKENIZER_SOURCE_H_
