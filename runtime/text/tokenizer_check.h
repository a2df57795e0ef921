// Consistency of a TokenizerSpec, before a Tokenizer believes it.
#ifndef MOKA_RUNTIME_TEXT_TOKENIZER_CHECK_H_
#define MOKA_RUNTIME_TEXT_TOKENIZER_CHECK_H_

#include <string_view>

#include "moka/status.h"
#include "runtime/model_spec.h"

namespace moka::text {

constexpr size_t kMaxVocabulary = size_t{1} << 24;

// The bytes of piece `id`; the spec has passed check_tokenizer() or at least its check of pieces.
std::string_view piece_of(const TokenizerSpec& spec, size_t id);

// kUnsupported: a kind or a pair of rules that cannot be run, by name. kCorrupt: pieces, scores,
// merges, special tokens or ids that contradict each other, by field and index.
Status check_tokenizer(const TokenizerSpec& spec);

}  // namespace moka::text

#endif  // MOKA_RUNTIME_TEXT_TOKENIZER_CHECK_H_
