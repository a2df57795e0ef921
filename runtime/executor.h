// ExecutorImpl: what an Executor handle points to: one caller's Forward behind a lock, and the spare
// copies of states that make calls undoable.
//
//   executor.cc   one session, whole sequences     batch.cc   several sessions at once
//   guesses.cc    a token and guesses of what follows it
#ifndef MOKA_RUNTIME_EXECUTOR_H_
#define MOKA_RUNTIME_EXECUTOR_H_

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "moka/session.h"
#include "runtime/aligned_buffer.h"
#include "runtime/forward.h"
#include "runtime/model_data.h"
#include "runtime/profile.h"

namespace moka {

// Of a session whose guesses are being tried: what there was before the pass, and what came of it. It
// is the session's own, so that the executor serves others while the caller looks at the tokens.
struct GuessRoom {
  size_t steps = 0;              // that there is room for
  AlignedBuffer<float> state;    // before the pass
  AlignedBuffer<float> kept;     // Forward::read_keeping
  AlignedBuffer<float> outputs;  // [steps][outputs] behind each step
};

// One session: see session.h for what a user sees of it.
struct SessionImpl {
  Model model;
  std::shared_ptr<ExecutorImpl> executor;
  AlignedBuffer<float> state;
  AlignedBuffer<float> logits;
  SoftmaxCache cache;   // stays empty unless the model has softmax attention
  GuessRoom guesses{};  // stays empty until the first guess
  uint64_t position = 0;
  uint64_t memory = 0;  // steps read of the memory
  std::atomic<bool> cancelled{false};
  bool broken = false;     // a defect stopped a call half-way; only reset() and restore() help
  size_t batch_place = 0;  // 1 + its place in the batch that is being checked; 0: in none
};

// Steps to be read: token ids, or numbers.
struct Steps {
  const TokenId* tokens = nullptr;
  const float* values = nullptr;  // [count][features]
  size_t count = 0;
};

// Everything that a session can refuse about `count` more steps, which have been checked as such;
// session.cc.
Status check_append(const SessionImpl& session, size_t count);

// All steps of a call, for a session; its position is that of the session or of its memory.
Sequence sequence_of(SessionImpl& session, const Steps& steps);

// Pieces of at most `most` steps that cover [first, first + count).
std::vector<Piece> cut_pieces(size_t first, size_t count, uint64_t shift, size_t most);

// A whole sequence to be read from an empty memory; everything in it has been checked.
struct WholeRead {
  Steps steps;
  std::vector<Piece> pieces;  // of the steps, without padding
  size_t last = 0;            // row for last-token pooling
  Steps memory;
  std::vector<Piece> memory_pieces;
  const LogitsSink* sink = nullptr;  // rows of output, or
  float* pooled = nullptr;           // the vector of a pooled head [D]
  const std::atomic<bool>* cancel = nullptr;
  const std::function<void(double)>* progress = nullptr;
};

class ExecutorImpl {
 public:
  // kInvalidArgument names the option that is out of range.
  static Result<std::shared_ptr<ExecutorImpl>> create(std::shared_ptr<const ModelData> model,
                                                      const ExecutorOptions& options);

  // Session::append: reads in chunks; undone as a whole when it fails or is cancelled. `sink` may
  // be null.
  Status append(SessionImpl& session, const Steps& steps, const LogitsSink* sink);
  // Session::append_memory; undone likewise.
  Status append_memory(SessionImpl& session, const Steps& steps);

  // Executor::append and step, for batches: all sessions move, or none. An error names the place in
  // the batch and sets *culprit to it, or to the size of the batch when no session is to blame.
  Status append_batch(Span<const SessionSteps> batch, size_t* culprit);
  Status step_batch(Span<SessionDraw> batch, size_t* culprit);

  // Draws from a row of logits, and records the time.
  Result<TokenId> sample(Span<const float> logits, Sampler& sampler);

  // guesses.cc: reads `tokens` as so many single steps would, so that session.guesses has their rows
  // of output; until settle() the session stays where it is but for its state.
  Status read_guesses(SessionImpl& session, Span<const TokenId> tokens);
  // The first `count` of them, at least one, are read and the others never were. Does not fail.
  void settle(SessionImpl& session, Span<const TokenId> tokens, size_t count);

  Status start_profile(size_t spans);
  Profile stop_profile();

  // Reads a whole sequence: read_sequence and the halves of read_pair.
  Status read_whole(const WholeRead& read);
  // Output of pooled vectors: one, or two for a pair model.
  Status project(const float* first, const float* second, float* out);

  const ModelData& model() const { return *model_; }
  const Forward& forward() const { return *forward_; }

 private:
  ExecutorImpl() = default;
  Status read_chunks(SessionImpl& session, const Steps& steps, const LogitsSink* sink);
  Status read_memory_chunks(SessionImpl& session, const Steps& steps);
  // Makes rows of output, `make(row, rows, out)` each, and sends them.
  template <class Make>
  Status send_rows(size_t first, size_t rows, const LogitsSink& sink, const Make& make);
  Status reserve_rows(size_t rows);
  // Room for so many states in spare_.
  Status reserve_spare(size_t states);
  void keep_state(const SessionImpl& session, size_t slot = 0);
  void bring_back(SessionImpl& session, size_t slot = 0) const;

  // batch.cc: one session of a batch, while the batch is read. Its index is its place in the batch.
  struct Part {
    SessionImpl* session = nullptr;
    Steps steps;
    size_t done = 0;     // steps read
    size_t piece = 0;    // steps in the running round
    bool moved = false;  // its state is no longer that before the call
    Sampler* sampler = nullptr;
    TokenId drawn = -1;  // by its sampler, which was at `mark` before
    Sampler::Mark mark{};
    Status status;  // of the drawing
  };
  struct Leaver;
  Status begin_batch(size_t size);
  Status add_part(Session* session);
  static void draw(void* context, size_t thread, size_t index);
  Status draw_all(size_t* culprit);
  Status read_batch(size_t* culprit);
  Status look_for_cancel(size_t* culprit);
  Status reserve_caches(size_t* culprit);
  Status read_rounds(bool undoable, size_t* culprit);
  void take_hidden(size_t first);
  Status project_batch();
  void leave_batch();

  Status read_pieces(const WholeRead& read, const Sequence& sequence, const PieceDone& done);
  Status read_ahead(const WholeRead& read, const Sequence& sequence, const PieceDone& done);
  Status read_whole_memory(const WholeRead& read, Sequence* sequence, const PieceDone& done);
  Status reserve_hidden(size_t rows);

  std::shared_ptr<const ModelData> model_;
  std::unique_ptr<Forward> forward_;
  std::mutex mutex_;
  AlignedBuffer<float> spare_;  // states before the running call; made when first needed
  AlignedBuffer<float> rows_;   // logits on their way to a sink; made when first needed
  size_t rows_capacity_ = 0;    // rows that fit
  // Of whole sequences: a state, a cache, and all hidden states; made when first needed.
  AlignedBuffer<float> whole_state_;
  SoftmaxCache whole_cache_;
  AlignedBuffer<float> hidden_;  // [steps][D]; of a batch: that of each session's last step
  // The running batch; they keep their memory.
  std::vector<Part> parts_;
  std::vector<Sequence> round_;
  std::vector<const Sampler*> samplers_;
  std::unique_ptr<Profiler> profiler_;
  std::atomic<bool> profiling_{false};
};

}  // namespace moka

#endif  // MOKA_RUNTIME_EXECUTOR_H_
