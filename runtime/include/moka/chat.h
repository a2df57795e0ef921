// Chat: a conversation, or a text written in turns, that can go back to every one of its turns.
//
//   auto chat = moka::Chat::create(model);                        // check chat.ok()
//   chat.value().append(moka::Role::kUser, "Once upon a time");   // a turn that is given
//   chat.value().generate();                                      // a turn that the model writes
//   chat.value().regenerate();                                    // another one instead
//   chat.value().undo();                                          // back behind the given turn
//   chat.value().save_file("bedtime.chat");                       // goes on there after a restart
//
// Turns form a tree: what is undone, edited or written anew stays in it until remove(). One turn is
// the current one; append() and generate() put the next one behind it.
//
// Every call is a transaction. One that fails, is cancelled or is ended by ChatOptions::progress
// leaves the chat as it was, the generator of the sampler too. A turn that ended because on_text
// said so, or at a stop token or text, a loop, or a budget of tokens, time or positions stays: who
// wants to keep a text stops it there, who wants it gone calls cancel().
//
// States. The state at the end of the current turn is always at hand, and a copy that the running
// call goes back to. States of other turns are kept as far as ChatOptions::state_budget_bytes
// reach; those not used for longest are let go, and one that finds no memory is not kept. Going to
// a turn whose state is kept takes a copy of memory and gives the very bits. Going to another one
// reads again what follows its nearest kept ancestor: progress is told before it begins and while
// it goes, and ChatStep says how many tokens it was.
//
// Prefix. A chat may begin behind a prefix snapshot of the model (ChatOptions::from); its file then
// keeps the snapshot's name and a checksum of its tokens, not its state.
//
// Bits. Given tokens are read in chunks of the executor, each turn from its own start, and what the
// model wrote one token at a time, the first time and again. So reading again gives the bits of
// the first time, whatever was undone or written between, on equal instruction sets and chunks,
// with any number of threads. With another chunk or instruction set it agrees within rounding, as
// Session's do. The same holds for files: a kept state comes out of one with its bits.
//
// One thread at a time uses a Chat; cancel() alone may come from any. Callbacks run on the calling
// thread and may call cancel() and nothing else of the Chat.
#ifndef MOKA_CHAT_H_
#define MOKA_CHAT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "moka/model.h"
#include "moka/session.h"
#include "moka/turn.h"

namespace moka {

class ChatImpl;

// What stands around the text of a turn. Special tokens in it are themselves; in a text that is
// given they are plain text, so that nobody can write a role into it.
struct TurnFormat {
  std::string prefix, suffix;
};
struct ChatTemplate {
  std::string id;  // for files, which hold it: a chat continues with the template it began with
  TurnFormat system, user, model;
};

struct ReadProgress {
  uint64_t done = 0, total = 0;  // tokens
  bool again = false;            // they were read before, and their state has been let go
};

struct ChatOptions {
  ChatTemplate format;                     // none: turns follow one another as they are
  std::optional<SamplerOptions> sampling;  // nothing: info().sampling; a file brings its own
  uint64_t state_budget_bytes = uint64_t{64} << 20;
  // Kept states that a file has beside the current one: those used last. At most 4096.
  uint32_t saved_states = 2;
  // Called before tokens are read, with done 0, and every few of them; false ends the call with
  // kCancelled. May be empty.
  std::function<bool(const ReadProgress&)> progress;
  const Executor* executor = nullptr;  // null: the model's default one; used while the call runs
  // A prefix snapshot of the model, behind which the chat begins as if it had read that prefix: its
  // tokens count as positions and as recent tokens, and no token that begins a text follows them.
  // Empty: none. A file names its own, which needs not be given; given, it must be the same one.
  std::string from;
};

struct GenerateOptions {
  uint64_t max_tokens = 512;         // at least 1
  uint64_t max_ms = 0;               // of writing, not of reading before it; 0: no limit
  bool stop_at_end = true;           // the model's own tokens that end or begin a text stop it
  std::vector<TokenId> stop_tokens;  // more of them. A stop token is not read.
  std::vector<std::string> stop;     // at most 64 texts in UTF-8, of 1 to 4096 bytes
  uint32_t loop_tokens = 256;        // so many that are one cycle end it (loop_guard.h); 0: never
  // Guesses of what comes next that go through the model in one pass with a token, 0 to 16; 0: none.
  // They are looked up in what was read and written (lookup.h), and before it in `lookup_tokens`. What
  // is written is the same to the bit; a text that repeats itself is written in fewer passes.
  uint32_t lookup = 0;
  std::vector<TokenId> lookup_tokens;
  // From this turn on, with a generator that begins at their seed. Nothing: as before, and the
  // generator goes on. Recent tokens (repeat_window) are those of the current branch.
  std::optional<SamplerOptions> sampling;
  // Gets the text in whole code points; what may become a stop text is held back. False ends the
  // turn. May be empty.
  std::function<bool(std::string_view)> on_text;
};

struct ChatStep {
  TurnId turn = kStartOfChat;  // the current turn after the call
  uint64_t tokens_read = 0;    // new ones, those of the template and those written too
  uint64_t tokens_read_again = 0;
  uint64_t drafted = 0, accepted = 0;  // guesses that were tried, and that came true
};

class Chat {
 public:
  // kUnsupported: a model that is not a causal language model with a tokenizer, or that answers
  // from a second sequence. kInvalidArgument names an option out of range. kOutOfMemory. Of `from`:
  // as Session::restore_snapshot.
  static Result<Chat> create(const Model& model, const ChatOptions& options = {});

  // A saved chat; its current turn is there at once (or, where another Moka kept states otherwise,
  // read again, telling progress). Files are not trusted. kCorrupt says what is wrong, kVersion and
  // kFailedPrecondition (another model, template or prefix) name what is in the file and what was
  // expected. kNotFound: the model no longer has the prefix snapshot that it began from.
  static Result<Chat> open(const Model& model, Span<const uint8_t> bytes,
                           const ChatOptions& options = {});
  static Result<Chat> open_file(const Model& model, const std::string& path,
                                const ChatOptions& options = {});

  Chat(Chat&&) noexcept;
  Chat& operator=(Chat&&) noexcept;
  ~Chat();

  // Puts a given turn behind the current one. kInvalidArgument: a text that cannot be encoded or
  // has no tokens; kOutOfRange: beyond the position limit of the model, or of 2^30 bytes.
  Result<ChatStep> append(Role role, std::string_view text);
  // The same behind any turn, which need not be the current one.
  Result<ChatStep> branch(TurnId after, Role role, std::string_view text);
  // A sibling of any turn with another text and its role. What follows the old one stays there.
  Result<ChatStep> edit(TurnId turn, std::string_view text);

  // Lets the model write a turn behind the current one. kFailedPrecondition: nothing was read yet,
  // and the model has no token that begins a text. kOutOfRange: no room for a token.
  Result<ChatStep> generate(const GenerateOptions& options = {});
  // Writes a sibling of the current turn, which must have been generated; the generator goes on.
  Result<ChatStep> regenerate(const GenerateOptions& options = {});

  // To the parent of the current turn; kFailedPrecondition at the start.
  Result<ChatStep> undo();
  // To any turn, or to kStartOfChat. kNotFound.
  Result<ChatStep> switch_to(TurnId turn);
  // Removes a turn and all that follow it. kFailedPrecondition when the current one is among them.
  Status remove(TurnId turn);

  // By rising id, so parents come first; null if there is none. Valid until the chat changes.
  Span<const Turn> turns() const;
  const Turn* find(TurnId turn) const;
  TurnId current() const;
  std::vector<TurnId> path() const;  // from the first turn to the current one
  // Whether switch_to() has nothing to read again.
  bool is_kept(TurnId turn) const;
  uint64_t kept_state_bytes() const;  // of memory, within the budget

  // All turns, the sampler with its generator, the template's id, the current state and some of the
  // kept ones. The file is written under a temporary name, synced and renamed.
  Result<std::vector<uint8_t>> save() const;
  Status save_file(const std::string& path) const;

  // Ends the running call with kCancelled at its next chunk or token; if none runs, the next one. A
  // request that comes too late for its call is used up by it. Any thread.
  void cancel() noexcept;

  Span<const float> logits() const;  // as Session's, at the end of the current turn
  const SamplerOptions& sampling() const;
  const std::string& from() const;  // the prefix snapshot that it began from; empty: none
  const Model& model() const;

 private:
  explicit Chat(std::unique_ptr<ChatImpl> impl);
  std::unique_ptr<ChatImpl> impl_;
};

}  // namespace moka

#endif  // MOKA_CHAT_H_
