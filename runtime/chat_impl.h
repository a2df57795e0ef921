// ChatImpl: what a Chat points to, and ChatCall: one call of it, which is done or undone as a
// whole.
//
//   chat.cc        the calls of chat.h        chat_call.cc    going to turns, reading, undoing
//   chat_write.cc  turns the model writes     chat_text.cc    their text
//   chat_tree.cc   the turns                  chat_states.cc  states that are kept
//   chat_file.cc   a chat as bytes            chat_parse.cc   and back, from an untrusted file
#ifndef MOKA_RUNTIME_CHAT_IMPL_H_
#define MOKA_RUNTIME_CHAT_IMPL_H_

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "moka/chat.h"
#include "moka/lookup.h"
#include "runtime/chat_states.h"
#include "runtime/chat_tree.h"

namespace moka {

class Writing;

class ChatImpl {
 public:
  static Result<std::unique_ptr<ChatImpl>> create(const Model& model, const ChatOptions& options);

  // Puts a given turn behind `after`, which is there.
  Result<ChatStep> give(TurnId after, Role role, std::string_view text);
  // chat_write.cc: a turn of the model behind `after`, which is there.
  Result<ChatStep> write(TurnId after, const GenerateOptions& options);
  Result<ChatStep> go(TurnId turn);
  Status remove(TurnId turn);

  // kNotFound unless the turn, or the start, is there.
  Status check_turn(TurnId turn) const;

  // Makes the start of the chat, which has no turns, that behind a prefix snapshot of the model.
  Status begin_from(const std::string& snapshot);
  // Brings the session to the start.
  Status go_to_start();
  // The tokens that were read before the first turn.
  Span<const TokenId> prefix() const;

  Result<std::vector<uint8_t>> save() const;  // chat_file.cc
  // chat_parse.cc: into a chat that has just been created. An error leaves it unusable.
  Status parse(Span<const uint8_t> bytes);

  Model model;
  ChatOptions options;  // of `from`: what the chat began from, given or not
  uint32_t chunk;       // steps of the executor
  TokenId begin;        // what a text begins with; -1: nothing
  Session session;      // at the end of the current turn, between calls
  Session spare;        // where the running call began
  Sampler sampler;
  ChatTree tree;
  KeptStates kept;
  std::atomic<bool> cancelled{false};

 private:
  ChatImpl(const Model& model_, const ChatOptions& options_, Session first, Session second,
           Sampler drawing);

  const TurnFormat& format_of(Role role) const;
  // The turn's tokens without its text: what begins a text, and the template.
  Status frame(TurnId after, Role role, std::vector<TokenId>* head,
               std::vector<TokenId>* tail) const;
  Status check_room(TurnId after, uint64_t tokens) const;
  // What the sampler has to know of the turns up to `after` and of `head`.
  void tell_recent(TurnId after, const std::vector<TokenId>& head, Sampler* drawing) const;
  class TurnWriting;
  Status prepare_lookup(const std::vector<const Turn*>& path, const std::vector<TokenId>& head,
                        Writing* writing) const;

  friend class ChatCall;
};

// One call. Unless it was committed, its end brings the chat back to where it began.
class ChatCall {
 public:
  explicit ChatCall(ChatImpl* chat) : chat_(chat) {}
  ~ChatCall();
  ChatCall(const ChatCall&) = delete;
  ChatCall& operator=(const ChatCall&) = delete;

  Status begin();
  // Brings the session to the end of `turn`, which is there.
  Status go_to(TurnId turn);
  // The same, and keeps that state, because the call goes on from it.
  Status leave(TurnId turn);

  // Reads new tokens in chunks, telling progress.
  Status read(Span<const TokenId> tokens);
  Status check_cancel();
  // Of tokens that were drawn and read.
  void count_drawn() { ++step_.tokens_read; }
  void count_lookups(const LookupCounts& counts) {
    step_.drafted = counts.drafted;
    step_.accepted = counts.accepted;
  }

  ChatStep commit(Turn turn);  // adds it; nothing can fail any more
  ChatStep commit(TurnId turn);

 private:
  struct Reading {
    uint64_t done = 0, total = 0;
    bool again = false;
    uint64_t told = 0;  // the last `done` that progress heard of
  };
  Status tell(Reading* reading);
  Status read_chunks(Span<const TokenId> tokens, Reading* reading);
  Status read_again(TurnId from, TurnId turn);

  ChatImpl* const chat_;
  std::vector<uint8_t> sampler_;  // when the call began
  KeptStates::Stamp stamp_ = 0;
  bool begun_ = false, committed_ = false;
  TurnId start_ = kStartOfChat;  // the current turn when the call began
  ChatStep step_;
};

}  // namespace moka

#endif  // MOKA_RUNTIME_CHAT_IMPL_H_
