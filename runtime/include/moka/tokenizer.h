// Tokenizer: text to token ids and back, by the rules that the model file carries.
//
// Immutable after create(); any number of threads may use one.
#ifndef MOKA_TOKENIZER_H_
#define MOKA_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "moka/span.h"
#include "moka/status.h"

namespace moka {

using TokenId = int32_t;

struct TokenizerSpec;  // runtime/model_spec.h

class Tokenizer {
 public:
  // kUnsupported names the rule that this build cannot run; kCorrupt names the inconsistent field.
  static Result<Tokenizer> create(TokenizerSpec spec);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Number of ids, special tokens included.
  size_t vocab_size() const;

  // Appends the ids of `text` to `ids`. Bytes that are not UTF-8 are encoded as they are where the
  // vocabulary has all bytes; otherwise kInvalidArgument gives their offset. With `parse_special`,
  // special tokens that appear in the text (such as <|endoftext|>) become their ids; without it
  // they are plain text. No bos or eos is added.
  Status encode(std::string_view text, std::vector<TokenId>* ids, bool parse_special = true) const;

  // Appends the ids of a whole document as the model saw it in training: bos and eos where the
  // model wants them, special tokens in the text as plain text, and, with `max_length` above 0, cut
  // so that all of it, bos and eos included, has at most `max_length` ids (a cut may split a UTF-8
  // sequence). The length of training, if there is one, is TokenizerSpec::max_length; nothing is
  // cut unless asked. Errors as encode(); kInvalidArgument if bos and eos alone are longer.
  Status encode_document(std::string_view text, std::vector<TokenId>* ids,
                         uint32_t max_length = 0) const;

  // Bytes of the ids, one after the other; control tokens are left out. Not necessarily UTF-8. The
  // space that some tokenizers put in front of every text is taken away again; words, of tokenizers
  // that cut text into words, get a space between them.
  Result<std::string> decode(Span<const TokenId> ids) const;

  // Bytes of one token; a special token's text. Empty for an id that is out of range.
  std::string_view piece(TokenId id) const;
  bool is_control(TokenId id) const;  // left out of decoded text
  bool separates_words() const;       // decoded text has a space between two tokens

  // -1 where the model has none.
  TokenId bos_id() const;
  TokenId eos_id() const;
  // What a text begins with: bos, or eos where there is none; -1 where there is neither.
  TokenId begin_id() const { return bos_id() >= 0 ? bos_id() : eos_id(); }
  TokenId pad_id() const;
  TokenId unknown_id() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Gathers the bytes of streamed tokens and gives them out in whole UTF-8 code points only. A byte
// that can never become UTF-8 is given out as U+FFFD. One stream serves one thread.
class TextStream {
 public:
  explicit TextStream(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}
  // The text that `id` completes; may be empty. The view is valid until the next call.
  std::string_view push(TokenId id);
  // What is left when the stream ends: an incomplete code point becomes U+FFFD.
  std::string_view finish();

 private:
  const Tokenizer* tokenizer_;
  std::string pending_;
  std::string out_;
  bool begun_ = false;  // a token has been pushed
};

}  // namespace moka

#endif  // MOKA_TOKENIZER_H_
