// Writing: the checks of its options, and TurnText, the text of a turn that the model writes, as it
// comes.
//
// Given out are whole code points only, and nothing that may still become a stop text: the tokens
// are read by then, but the text of the turn ends before it.
#ifndef MOKA_RUNTIME_CHAT_TEXT_H_
#define MOKA_RUNTIME_CHAT_TEXT_H_

#include <string>
#include <string_view>
#include <vector>

#include "moka/chat.h"

namespace moka {

// What is wrong with the options, if anything: kInvalidArgument and kOutOfRange name one.
Status check_generate(const GenerateOptions& options, uint32_t vocab_size);

// Whether a token, once drawn, ends the writing without being read.
bool is_stop_token(const GenerateOptions& options, const Tokenizer& tokenizer, TokenId token);

class TurnText {
 public:
  // `stop` was checked and outlives this.
  TurnText(const Tokenizer& tokenizer, const std::vector<std::string>& stop)
      : stream_(tokenizer), stop_(&stop) {}

  // A token of the turns before, whose text was given out; a character that it began goes on here.
  void go_on_from(TokenId token) { (void)stream_.push(token); }

  // The text that `token` makes certain; may be empty. Valid until the next call. Not to be called
  // once stopped().
  std::string_view push(TokenId token);
  bool stopped() const { return stopped_; }

  // The text that was held back, once no token follows; empty when stopped.
  std::string_view finish();
  // After it, where the text ends for good: U+FFFD for a character that is not whole, or nothing.
  std::string_view finish_character() { return stream_.finish(); }

 private:
  TextStream stream_;
  const std::vector<std::string>* stop_;
  std::string held_;  // the longest end of the text that begins a stop text
  std::string out_;
  bool stopped_ = false;
};

}  // namespace moka

#endif  // MOKA_RUNTIME_CHAT_TEXT_H_
