// ExecutorImpl: what an Executor handle points to: one caller's Forward behind a lock, and the spare
// copy of a session's state that makes calls undoable.
#ifndef MOKA_RUNTIME_EXECUTOR_H_
#define MOKA_RUNTIME_EXECUTOR_H_

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "moka/session.h"
#include "runtime/aligned_buffer.h"
#include "runtime/forward.h"
#include "runtime/model_data.h"

namespace moka {

// One session: see session.h for what a user sees of it.
struct SessionImpl {
  Model model;
  std::shared_ptr<ExecutorImpl> executor;
  AlignedBuffer<float> state;
  AlignedBuffer<float> logits;
  uint64_t position = 0;
  std::atomic<bool> cancelled{false};
  bool broken = false;  // a defect stopped a call half-way; only reset() and restore() help
};

class ExecutorImpl {
 public:
  // kInvalidArgument names the option that is out of range.
  static Result<std::shared_ptr<ExecutorImpl>> create(std::shared_ptr<const ModelData> model,
                                                      const ExecutorOptions& options);

  // Session::append: reads in chunks; undone as a whole when it fails or is cancelled. `sink` may
  // be null.
  Status append(SessionImpl& session, Span<const TokenId> tokens, const LogitsSink* sink);

  const ModelData& model() const { return *model_; }
  const Forward& forward() const { return *forward_; }

 private:
  ExecutorImpl() = default;
  Status read_chunks(SessionImpl& session, Span<const TokenId> tokens, const LogitsSink* sink);
  Status send_rows(size_t first, size_t rows, const LogitsSink& sink);

  std::shared_ptr<const ModelData> model_;
  std::unique_ptr<Forward> forward_;
  std::mutex mutex_;
  AlignedBuffer<float> spare_;  // state before the running call; made when first needed
  AlignedBuffer<float> rows_;   // logits on their way to a sink; made when first needed
  size_t rows_capacity_ = 0;    // rows that fit
};

}  // namespace moka

#endif  // MOKA_RUNTIME_EXECUTOR_H_
