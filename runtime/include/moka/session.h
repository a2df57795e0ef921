// Session: one sequence being read and written: a position and one flat state of constant size.
//
//   auto model = moka::Model::open("stories.moka");             // check model.ok()
//   auto session = model.value().new_session();
//   std::vector<moka::TokenId> ids;
//   model.value().tokenizer().encode("Once upon a time", &ids);
//   session.value().append(ids);
//   auto sampler = moka::Sampler::create({}, model.value().info().vocab_size);
//   auto token = session.value().step(sampler.value());          // samples and reads it
//
// Models that read numbers take append_values(), those that answer from a second sequence
// append_memory() first. For every causal model logits() is the output for all that was read so far;
// a classifier's or an embedding's too, so an endless stream can be classified in constant memory.
//
// One thread at a time uses a Session, no matter which; cancel() alone may come from any thread. A
// Session keeps its Model and Executor alive. A call that fails or is cancelled leaves the session
// as it was before the call. step() and append() of up to a chunk allocate nothing, except that a
// model with softmax attention makes room for its keys and values now and then. Every token counts,
// the one for padding too: leaving padding out is what reading.h does.
#ifndef MOKA_SESSION_H_
#define MOKA_SESSION_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "moka/model.h"
#include "moka/sampler.h"
#include "moka/span.h"
#include "moka/status.h"

namespace moka {

struct SessionImpl;

// Receives `rows` rows of output, row i that of the step at `first + i` of those that were given.
// Rows are `stride` floats apart. Return a failure to end the call with it.
using LogitsSink =
    std::function<Status(size_t first, size_t rows, const float* logits, size_t stride)>;
// Receives a token that was read; false: no more.
using TokenSink = std::function<bool(TokenId token)>;

class Session {
 public:
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  // Reads tokens; afterwards logits() is the row of the last one. Reads in chunks; a chunk is the
  // unit in which cancel() is noticed. kOutOfRange names a token outside the vocabulary or the
  // position limit of the model.
  Status append(Span<const TokenId> tokens);
  // The same, and every row goes to `sink`. A call that the sink ends leaves the session as it was.
  Status append(Span<const TokenId> tokens, const LogitsSink& sink);

  // The same for models that read numbers: `values` is [steps][info().features], in the units of the
  // data (the model holds its scaling).
  Status append_values(Span<const float> values);
  Status append_values(Span<const float> values, const LogitsSink& sink);

  // Reads (more of) the sequence that the model answers from; before the first append(). A memory
  // encoder that looks ahead reads its sequence in one call; a causal one in any number of pieces.
  // Forks question one memory many times.
  Status append_memory(Span<const TokenId> tokens);
  Status append_memory_values(Span<const float> values);

  // Samples from logits(), reads the sampled token, returns it. kFailedPrecondition before the
  // first append. A call that fails leaves the sampler as it was, too.
  Result<TokenId> step(Sampler& sampler);

  // append() of a token that `sampler` drew, and guesses of what follows it, all in one pass over the
  // weights. Then draws, and as long as the draw is the next of `guesses`, at most kMostGuesses, that
  // token has been read too. Returns how many were, from 1 on. Session and sampler are then, to the
  // bit, what append() and so many step() less one make of them, whatever was guessed, and the next
  // draw is still to come: lookup.h has a loop.
  //
  // `taken` gets each token in turn, before the next is drawn, and may be empty; false: that was the
  // last one. It must not use session or sampler, except for cancel(), which then ends this call too
  // (successfully; the next one is cancelled). Guesses beyond the position limit or the chunk of the
  // executor are left out, and a draw that fails ends the call like a wrong guess, to fail again.
  // kUnsupported: no language model. Errors are those of append(), and leave the sampler as it was.
  // The first calls allocate room: another state, and a row of output for each token.
  Result<size_t> append_with_guesses(TokenId token, Span<const TokenId> guesses, Sampler& sampler,
                                     const TokenSink& taken = {});
  static constexpr size_t kMostGuesses = 16;

  // Scores of the next token: info().outputs floats, valid until the next call that changes the
  // session. Empty before the first append.
  Span<const float> logits() const;

  uint64_t position() const;         // tokens or steps read since the start or reset()
  uint64_t memory_position() const;  // those of the memory

  // An independent copy on the same Executor.
  Result<Session> fork() const;
  // Becomes a copy of a session of the same model, on its own Executor: one copy of memory, and no
  // allocation except for models with softmax attention. kInvalidArgument: of another model.
  Status copy_from(const Session& other);

  // The session as bytes: position, state, last output, the model's fingerprint, a checksum. The
  // bytes are the same on every platform and instruction set.
  Result<std::vector<uint8_t>> save() const;
  // kCorrupt for damaged bytes, kFailedPrecondition for another model's.
  Status restore(Span<const uint8_t> bytes);
  // The same through a file, written under a temporary name, synced and renamed.
  Status save_file(const std::string& path) const;
  Status restore_file(const std::string& path);
  // Becomes a session that has read the prefix of one of info().snapshots. The cost is one pass over
  // the bytes of the state, however long the prefix; where many sessions begin there, restore one and
  // copy_from() it. The bits are those of a fresh session that reads the tokens with the chunk and the
  // instruction set that the snapshot was made with, any number of threads; with others it agrees
  // within rounding, as all sessions do. An error leaves the session as it was. kNotFound names the
  // snapshots that there are; kFailedPrecondition: it was made with other weights; kCorrupt.
  Status restore_snapshot(std::string_view name);

  void reset();

  // Ends the running append() or step() with kCancelled at the next chunk; any thread. If none is
  // running, the next one ends at once. The request is used up by the call that it ends.
  void cancel() noexcept;

  const Model& model() const;

 private:
  friend class ExecutorImpl;
  friend class Model;
  explicit Session(std::unique_ptr<SessionImpl> impl);
  std::unique_ptr<SessionImpl> impl_;
};

// Many sessions at once, as a server has them: their next steps go through one read of the weights,
// which is what a step of one session spends its time on.
//
//   std::vector<moka::SessionDraw> batch;                         // kept from step to step
//   for (Client& c : clients) batch.push_back({&c.session, &c.sampler});
//   size_t culprit = 0;
//   moka::Status status = model.executor().step(batch, &culprit);  // batch[i].token is read
//   if (!status.ok()) drop(culprit);                               // the others did not move either
//
// Executor::append reads the steps of each entry, of any number and as many as you like; step draws
// from the logits of each session, reads that token and puts it into the entry. Each session gets the
// same bits as if it were read alone by this executor, whatever its mates, and its logits() as usual.
//
// All sessions move or none: after an error every session and every sampler is as it was before the
// call, and *culprit is the place of the entry that the message names, or batch.size() when none is
// to blame. (Only kInternal, a defect of the runtime, can leave sessions for reset() and restore().)
//   kInvalidArgument     a null session, one named twice, one of another model, a null sampler,
//                        more than 2^20 entries
//   kFailedPrecondition  a session that an earlier defect left unusable, or has no logits to draw from
//   kCancelled           cancel() of one session ends the call for all
//   and what Session::append and Sampler::sample say, with "session I: " before it.
//
// Sessions may have been made for any Executor of the model; this one's threads and chunk are used.
// No other call may use one of the sessions or samplers meanwhile, and the executor is locked. One
// sampler may serve several sessions; they draw in the order of the batch.
//
// Cost: up to ExecutorOptions::chunk steps are read together; more go in rounds of that size. cancel()
// is noticed before each round, except in a batch of one step each. A batch that can be interrupted
// keeps a copy of each state; otherwise nothing is copied. Nothing is allocated, except when a batch
// has more sessions than any before.
struct SessionSteps {
  Session* session = nullptr;
  Span<const TokenId> tokens;  // what it reads next; nothing: it stays where it is
  Span<const float> values;    // or this, [steps][info().features], for models that read numbers
};

struct SessionDraw {
  Session* session = nullptr;
  Sampler* sampler = nullptr;
  TokenId token = -1;  // set by step()
};

}  // namespace moka

#endif  // MOKA_SESSION_H_
