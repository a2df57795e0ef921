// Writing: the loop over the steps of a session that is behind every text that Moka writes: chats, the C
// interface, `moka run`. It draws tokens, reads them, turns them into text, and knows when to end; with
// GenerateOptions::lookup it guesses, and reads several in a pass. Who uses it says where they go.
#ifndef MOKA_RUNTIME_WRITING_H_
#define MOKA_RUNTIME_WRITING_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "moka/chat.h"
#include "moka/lookup.h"
#include "moka/loop_guard.h"
#include "runtime/chat_text.h"

namespace moka {

class Writing {
 public:
  // All of them outlive this; `options` were checked. Time begins to run.
  Writing(Session& session, Sampler& sampler, const GenerateOptions& options);
  virtual ~Writing() = default;
  Writing(const Writing&) = delete;
  Writing& operator=(const Writing&) = delete;

  // Steps at the end that are not to be written: the position limit is nearer by so many.
  void keep_free(uint64_t steps) { kept_free_ = steps; }
  // A token of the turns before, whose text was given out; a character that it began goes on here.
  void go_on_from(TokenId token) { text_.go_on_from(token); }
  // If guesses are wanted: `count` tokens come that are looked up, to be told one after the other.
  Status reserve_lookup(size_t count);
  void look_up(Span<const TokenId> tokens);

  // Writes at most `most` tokens more. After an error the sampler is behind the last token that was read.
  Result<TurnEnd> run(uint64_t most);
  // The text that was held back, when no token follows.
  std::string_view finish() { return text_.finish(); }
  // After it, where the text ends for good: U+FFFD for a character that is not whole, or nothing.
  std::string_view finish_character() { return text_.finish_character(); }
  // A new text begins: what was written before is no loop.
  void begin_text() { loop_.reset(); }

  uint64_t written() const { return written_; }  // tokens, in all runs
  const LoopGuard& loop() const { return loop_; }
  TokenId stop_token() const { return stop_token_; }  // that was drawn last; -1: none
  LookupCounts lookups() const { return lookup_ ? lookup_->counts() : LookupCounts(); }
  bool stopped() const { return text_.stopped(); }  // at a stop text
  bool listening() const { return listening_; }     // give_out() never said no

 protected:
  // Before each draw; false ends the writing as give_out() does.
  virtual bool goes_on() { return true; }
  // Before a drawn token is read; an error ends the writing with it.
  virtual Status before_read() { return Status(); }
  // Whether one of the two would say no now: asked within a pass.
  virtual bool interrupted() const { return false; }
  // Of each token that was read, first of all.
  virtual void was_read(TokenId token) = 0;
  // The text that it makes certain, which may be empty. False ends the writing.
  virtual bool give_out(TokenId token, std::string_view text) = 0;

 private:
  bool is_over(uint64_t most);
  uint64_t room() const;
  Span<const TokenId> guesses(TokenId token, uint64_t most);
  Status read(TokenId token, uint64_t most);
  bool take(TokenId token);
  bool ends(TurnEnd reason) {
    end_ = reason;
    return true;
  }

  Session& session_;
  Sampler& sampler_;
  const GenerateOptions& options_;
  const Tokenizer& tokenizer_;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  TurnText text_;
  LoopGuard loop_;
  std::optional<Lookup> lookup_;
  uint64_t kept_free_ = 0;
  uint64_t written_ = 0;
  TurnEnd end_ = TurnEnd::kGiven;  // kGiven: it goes on
  bool listening_ = true;
  TokenId stop_token_ = -1;
};

}  // namespace moka

#endif  // MOKA_RUNTIME_WRITING_H_
