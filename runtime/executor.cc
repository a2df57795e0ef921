#include "runtime/executor.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>

namespace moka {
namespace {

constexpr int kMaxThreads = 256;
constexpr uint32_t kMaxChunk = 1024;
constexpr int kDefaultThreads = 4;               // more rarely pays for one sequence
constexpr size_t kRowsBytes = size_t{16} << 20;  // bound on the logits kept for a sink

}  // namespace

Result<std::shared_ptr<ExecutorImpl>> ExecutorImpl::create(std::shared_ptr<const ModelData> model,
                                                           const ExecutorOptions& options) {
  if (options.threads < 0 || options.threads > kMaxThreads) {
    return Status(StatusCode::kInvalidArgument, "threads is " + std::to_string(options.threads) +
                                                    ", must be 0 (automatic) to " +
                                                    std::to_string(kMaxThreads));
  }
  if (options.chunk < 1 || options.chunk > kMaxChunk) {
    return Status(StatusCode::kInvalidArgument, "chunk is " + std::to_string(options.chunk) +
                                                    ", must be 1 to " + std::to_string(kMaxChunk));
  }
  const int threads =
      options.threads > 0 ? options.threads : std::min(available_cores(), kDefaultThreads);
  std::shared_ptr<ExecutorImpl> executor(new (std::nothrow) ExecutorImpl());
  if (executor == nullptr) return Status(StatusCode::kOutOfMemory, "no memory for an executor");
  MOKA_ASSIGN_OR_RETURN(
      executor->forward_,
      Forward::create(model->plan, *model->kernels, *model->weights, threads, options.chunk));
  executor->model_ = std::move(model);
  return executor;
}

Status ExecutorImpl::append(SessionImpl& session, Span<const TokenId> tokens,
                            const LogitsSink* sink) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (session.cancelled.exchange(false)) {
    return Status(StatusCode::kCancelled, "cancelled before the first token was read");
  }
  // A single chunk is not interrupted, so without a sink nothing can stop it half-way.
  const bool undoable = tokens.size() > forward_->max_rows() || sink != nullptr;
  if (undoable) {
    if (spare_.size() == 0 && !spare_.allocate(session.state.size())) {
      return Status(StatusCode::kOutOfMemory, "no memory for a spare copy of the session state, " +
                                                  std::to_string(session.state.bytes()) + " bytes");
    }
    std::memcpy(spare_.data(), session.state.data(), session.state.bytes());
  }
  const Status status = read_chunks(session, tokens, sink);
  if (status.ok()) {
    session.position += tokens.size();
  } else if (undoable) {
    std::memcpy(session.state.data(), spare_.data(), session.state.bytes());
  } else {
    session.broken = true;
  }
  return status;
}

Status ExecutorImpl::read_chunks(SessionImpl& session, Span<const TokenId> tokens,
                                 const LogitsSink* sink) {
  Sequence sequence;
  sequence.state = session.state.data();
  for (size_t first = 0; first < tokens.size(); first += sequence.count) {
    if (first > 0 && session.cancelled.exchange(false)) {
      return Status(StatusCode::kCancelled, "cancelled after " + std::to_string(first) + " of " +
                                                std::to_string(tokens.size()) + " tokens");
    }
    sequence.position = session.position + first;
    sequence.tokens = tokens.data() + first;
    sequence.count = std::min(forward_->max_rows(), tokens.size() - first);
    MOKA_RETURN_IF_ERROR(forward_->read(Span<Sequence>(&sequence, 1)));
    if (sink != nullptr) MOKA_RETURN_IF_ERROR(send_rows(first, sequence.count, *sink));
  }
  return forward_->logits(sequence.count - 1, 1, session.logits.data());
}

Status ExecutorImpl::send_rows(size_t first, size_t rows, const LogitsSink& sink) {
  const size_t outputs = model_->plan.outputs;
  if (rows_capacity_ == 0) {
    const size_t capacity =
        std::clamp<size_t>(kRowsBytes / (outputs * sizeof(float)), 1, forward_->max_rows());
    if (!rows_.allocate(capacity * outputs)) {
      return Status(StatusCode::kOutOfMemory,
                    "no memory for " + std::to_string(capacity) + " rows of logits");
    }
    rows_capacity_ = capacity;
  }
  for (size_t row = 0; row < rows; row += rows_capacity_) {
    const size_t count = std::min(rows_capacity_, rows - row);
    MOKA_RETURN_IF_ERROR(forward_->logits(row, count, rows_.data()));
    MOKA_RETURN_IF_ERROR(sink(first + row, count, rows_.data(), outputs));
  }
  return Status();
}

}  // namespace moka
