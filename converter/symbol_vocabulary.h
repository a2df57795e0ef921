// Vocabularies without merges or scores: characters of a corpus, symbols of a corpus, symbols of
// ListOps, and stored lists of them. Any thread.
#ifndef MOKA_CONVERTER_SYMBOL_VOCABULARY_H_
#define MOKA_CONVERTER_SYMBOL_VOCABULARY_H_

#include <string>
#include <string_view>
#include <vector>

#include "converter/json.h"
#include "moka/status.h"
#include "runtime/model_spec.h"

namespace moka {

// Characters 0 to n-1 in the order given, then unk n, pad n+1, bos n+2, eos n+3. A character that
// is not among them becomes unk. kCorrupt: an entry that is not one character, or is there twice.
Result<TokenizerSpec> characters_tokenizer(const std::vector<std::string>& characters,
                                           const std::string& name);

// The same for the sorted distinct characters of UTF-8 texts.
// kNotFound, kIo: a file. kCorrupt: bytes that are not UTF-8, with file and offset.
Result<TokenizerSpec> characters_of_texts(const std::vector<std::string>& paths);

// unk 0, pad 1, bos 2, eos 3, then the symbols in the order given. Text is lower-cased and cut at
// white space; a symbol that is not among them is an error. If all are numbers 0 to 255, they are
// bytes (enwik8), and the tokenizer reads the bytes themselves: "a" is the symbol 97. A new line
// between the numbers of a file is no symbol, so without symbol 10 new lines are left out.
// `bytes`, which may be null, tells which it was.
Result<TokenizerSpec> symbols_tokenizer(const std::vector<std::string>& symbols,
                                        const std::string& name, bool* bytes);

// The same for the symbols of UTF-8 texts by falling count, ties in the order of appearance.
Result<TokenizerSpec> symbols_of_texts(const std::vector<std::string>& paths, bool* bytes);

// ListOps: {"tokens": {symbol: id}, "special_tokens": {"unk": symbol, ...}}. Text loses "(" and
// ")", "]" becomes "X", and white space cuts. kCorrupt: ids that leave holes or are there twice.
Result<TokenizerSpec> listops_tokenizer(const nlohmann::json& json, const std::string& name);

}  // namespace moka

#endif  // MOKA_CONVERTER_SYMBOL_VOCABULARY_H_
