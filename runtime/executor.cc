#include "runtime/executor.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "runtime/guard.h"
#include "runtime/state.h"

namespace moka {
namespace {

constexpr int kMaxThreads = 256;
constexpr uint32_t kMaxChunk = 1024;
constexpr int kDefaultThreads = 4;               // more rarely pays for one sequence
constexpr size_t kRowsBytes = size_t{16} << 20;  // bound on the logits kept for a sink

}  // namespace

Sequence sequence_of(SessionImpl& session, const Steps& steps) {
  Sequence sequence;
  sequence.state = session.state.data();
  sequence.cache = &session.cache;
  sequence.memory = session.memory;
  sequence.tokens = steps.tokens;
  sequence.values = steps.values;
  sequence.count = steps.count;
  return sequence;
}

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
      options.threads > 0 ? options.threads : std::min(fast_cores(), kDefaultThreads);
  std::shared_ptr<ExecutorImpl> executor(new (std::nothrow) ExecutorImpl());
  if (executor == nullptr) return Status(StatusCode::kOutOfMemory, "no memory for an executor");
  MOKA_ASSIGN_OR_RETURN(
      executor->forward_,
      Forward::create(model->plan, *model->kernels, *model->weights, threads, options.chunk));
  executor->model_ = std::move(model);
  return executor;
}

Status ExecutorImpl::reserve_spare(size_t states) {
  const size_t floats = model_->plan.state_floats;
  const bool countable = floats == 0 || states <= SIZE_MAX / floats;
  // A state of no floats, softmax attention alone, still gets an address.
  if (countable && spare_.data() != nullptr && spare_.size() >= states * floats) return Status();
  if (!countable || !spare_.allocate(states * floats)) {
    return Status(StatusCode::kOutOfMemory,
                  "no memory for spare copies of " + std::to_string(states) +
                      (states == 1 ? " session state, " : " session states, ") +
                      std::to_string(floats * sizeof(float)) + " bytes each");
  }
  return Status();
}

void ExecutorImpl::keep_state(const SessionImpl& session, size_t slot) {
  std::memcpy(spare_.data() + slot * session.state.size(), session.state.data(),
              session.state.bytes());
}

void ExecutorImpl::bring_back(SessionImpl& session, size_t slot) const {
  std::memcpy(session.state.data(), spare_.data() + slot * session.state.size(),
              session.state.bytes());
}

Status ExecutorImpl::append(SessionImpl& session, const Steps& steps, const LogitsSink* sink) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (session.cancelled.exchange(false)) {
    return Status(StatusCode::kCancelled, "cancelled before the first token was read");
  }
  if (model_->plan.cache_floats > 0) {
    MOKA_RETURN_IF_ERROR(
        session.cache.reserve(model_->plan, session.position + steps.count, session.position));
    MOKA_RETURN_IF_ERROR(forward_->reserve_cache(session.cache.capacity()));
  }
  // A single chunk is not interrupted, so without a sink nothing can stop it half-way.
  const bool undoable = steps.count > forward_->max_rows() || sink != nullptr;
  if (undoable) {
    MOKA_RETURN_IF_ERROR(reserve_spare(1));
    keep_state(session);
  }
  const Status status =
      guarded("reading the steps", [&] { return read_chunks(session, steps, sink); });
  if (status.ok()) {
    session.position += steps.count;
  } else if (undoable) {
    bring_back(session);
  } else {
    session.broken = true;
  }
  return status;
}

Status ExecutorImpl::read_chunks(SessionImpl& session, const Steps& steps, const LogitsSink* sink) {
  Sequence all = sequence_of(session, steps);
  all.position = session.position;
  Sequence part;
  for (size_t first = 0; first < steps.count; first += part.count) {
    if (first > 0 && session.cancelled.exchange(false)) {
      return Status(StatusCode::kCancelled, "cancelled after " + std::to_string(first) + " of " +
                                                std::to_string(steps.count) + " tokens");
    }
    const size_t count = std::min(forward_->max_rows(), steps.count - first);
    part = part_of(all, {first, count, 0}, model_->plan.input.features);
    MOKA_RETURN_IF_ERROR(forward_->read(Span<Sequence>(&part, 1)));
    if (sink == nullptr) continue;
    MOKA_RETURN_IF_ERROR(send_rows(
        first, part.count, *sink,
        [this](size_t row, size_t rows, float* out) { return forward_->logits(row, rows, out); }));
  }
  return forward_->logits(part.count - 1, 1, session.logits.data());
}

Status ExecutorImpl::append_memory(SessionImpl& session, const Steps& steps) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (session.cancelled.exchange(false)) {
    return Status(StatusCode::kCancelled, "cancelled before the memory was read");
  }
  MOKA_RETURN_IF_ERROR(reserve_spare(1));
  keep_state(session);
  const Status status =
      guarded("reading the memory", [&] { return read_memory_chunks(session, steps); });
  if (status.ok()) {
    session.memory += steps.count;
  } else {
    bring_back(session);
  }
  return status;
}

Status ExecutorImpl::read_memory_chunks(SessionImpl& session, const Steps& steps) {
  Sequence all = sequence_of(session, steps);
  all.position = session.memory;  // 0 for an encoder that sees ahead: it reads once
  const std::vector<Piece> pieces = cut_pieces(0, steps.count, 0, forward_->max_rows());
  if (model_->plan.memory_whole) {
    MOKA_RETURN_IF_ERROR(reserve_hidden(steps.count));
    return forward_->read_whole_memory(all, pieces, hidden_.data(),
                                       [&session] { return !session.cancelled.exchange(false); });
  }
  for (const Piece& piece : pieces) {
    if (piece.first > 0 && session.cancelled.exchange(false)) {
      return Status(StatusCode::kCancelled, "cancelled");
    }
    Sequence part = part_of(all, piece, model_->plan.input.features);
    MOKA_RETURN_IF_ERROR(forward_->read_memory(part));
  }
  return Status();
}

Result<TokenId> ExecutorImpl::sample(Span<const float> logits, Sampler& sampler) {
  if (!profiling_.load()) return sampler.sample(logits);
  const std::lock_guard<std::mutex> lock(mutex_);
  const ProfileScope scope(profiler_.get(), "sample", -1, 1);
  return sampler.sample(logits);
}

Status ExecutorImpl::start_profile(size_t spans) {
  MOKA_ASSIGN_OR_RETURN(std::unique_ptr<Profiler> profiler,
                        Profiler::create(static_cast<size_t>(forward_->pool().threads()), spans));
  const std::lock_guard<std::mutex> lock(mutex_);
  forward_->set_profiler(profiler.get());
  profiler_ = std::move(profiler);
  profiling_.store(true);
  return Status();
}

Profile ExecutorImpl::stop_profile() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (profiler_ == nullptr) return {};
  profiling_.store(false);
  forward_->set_profiler(nullptr);
  const std::unique_ptr<Profiler> ended = std::move(profiler_);
  return ended->take();
}

// Room for logits on their way: up to max_rows() of them, fewer when they are wide.
Status ExecutorImpl::reserve_rows(size_t rows) {
  const size_t outputs = model_->plan.outputs;
  const size_t most =
      std::clamp<size_t>(kRowsBytes / (outputs * sizeof(float)), 1, forward_->max_rows());
  const size_t capacity = std::min(rows, most);
  if (rows_capacity_ >= capacity) return Status();
  rows_capacity_ = 0;
  if (!rows_.allocate(capacity * outputs)) {
    return Status(StatusCode::kOutOfMemory,
                  "no memory for " + std::to_string(capacity) + " rows of logits");
  }
  rows_capacity_ = capacity;
  return Status();
}

template <class Make>
Status ExecutorImpl::send_rows(size_t first, size_t rows, const LogitsSink& sink,
                               const Make& make) {
  const size_t outputs = model_->plan.outputs;
  MOKA_RETURN_IF_ERROR(reserve_rows(rows));
  for (size_t row = 0; row < rows; row += rows_capacity_) {
    const size_t count = std::min(rows_capacity_, rows - row);
    MOKA_RETURN_IF_ERROR(make(row, count, rows_.data()));
    MOKA_RETURN_IF_ERROR(sink(first + row, count, rows_.data(), outputs));
  }
  return Status();
}

// ---- whole sequences -------------------------------------------------------------------------

std::vector<Piece> cut_pieces(size_t first, size_t count, uint64_t shift, size_t most) {
  std::vector<Piece> pieces;
  for (size_t done = 0; done < count; done += most) {
    pieces.push_back({first + done, std::min(most, count - done), shift});
  }
  return pieces;
}

Status ExecutorImpl::reserve_hidden(size_t rows) {
  const size_t width = model_->plan.width;
  const bool countable = rows <= SIZE_MAX / width;
  if (countable && hidden_.size() >= rows * width) return Status();
  if (!countable || !hidden_.allocate(rows * width)) {
    return Status(StatusCode::kOutOfMemory,
                  "no memory for the hidden states of " + std::to_string(rows) + " steps, " +
                      std::to_string(model_->plan.width * sizeof(float)) + " bytes each");
  }
  return Status();
}

Status ExecutorImpl::read_whole(const WholeRead& read) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const Plan& plan = model_->plan;
  if (whole_state_.size() == 0 && !whole_state_.allocate(plan.state_floats)) {
    return Status(
        StatusCode::kOutOfMemory,
        "no memory for a state of " + std::to_string(plan.state_floats * sizeof(float)) + " bytes");
  }
  reset_state(plan, whole_state_.data());
  Sequence sequence;
  sequence.state = whole_state_.data();
  sequence.cache = &whole_cache_;
  if (plan.cache_floats > 0) {
    MOKA_RETURN_IF_ERROR(whole_cache_.reserve(plan, read.steps.count, 0));
    MOKA_RETURN_IF_ERROR(forward_->reserve_cache(whole_cache_.capacity()));
  }
  // Work is counted in pieces: per layer, twice where a mixer gathers first.
  const auto layers = [](const std::vector<BlockPlan>& blocks, bool whole) {
    size_t passes = whole ? 0 : 1;
    for (const BlockPlan& block : blocks) {
      if (whole) passes += block.mixer.reach == Reach::kAll ? 2 : 1;
    }
    return passes;
  };
  const size_t total = read.pieces.size() * layers(plan.blocks, plan.whole) +
                       read.memory_pieces.size() * layers(plan.memory_blocks, plan.memory_whole);
  size_t finished = 0;
  const PieceDone done = [&] {
    ++finished;
    if (read.progress != nullptr && *read.progress) {
      (*read.progress)(static_cast<double>(finished) / static_cast<double>(total));
    }
    return read.cancel == nullptr || !read.cancel->load(std::memory_order_relaxed);
  };
  if (!read.memory_pieces.empty()) {
    MOKA_RETURN_IF_ERROR(read_whole_memory(read, &sequence, done));
  }
  sequence.tokens = read.steps.tokens;
  sequence.values = read.steps.values;
  sequence.count = read.steps.count;
  return plan.whole ? read_ahead(read, sequence, done) : read_pieces(read, sequence, done);
}

Status ExecutorImpl::read_whole_memory(const WholeRead& read, Sequence* sequence,
                                       const PieceDone& done) {
  sequence->tokens = read.memory.tokens;
  sequence->values = read.memory.values;
  sequence->count = sequence->memory = read.memory.count;
  if (model_->plan.memory_whole) {
    MOKA_RETURN_IF_ERROR(reserve_hidden(read.memory.count));
    return forward_->read_whole_memory(*sequence, read.memory_pieces, hidden_.data(), done);
  }
  for (const Piece& piece : read.memory_pieces) {
    Sequence part = part_of(*sequence, piece, model_->plan.input.features);
    MOKA_RETURN_IF_ERROR(forward_->read_memory(part));
    if (!done()) return Status(StatusCode::kCancelled, "cancelled");
  }
  return Status();
}

// A causal model: piece after piece in constant memory.
Status ExecutorImpl::read_pieces(const WholeRead& read, const Sequence& sequence,
                                 const PieceDone& done) {
  const auto make = [this](size_t row, size_t rows, float* out) {
    return forward_->logits(row, rows, out);
  };
  for (const Piece& piece : read.pieces) {
    Sequence part = part_of(sequence, piece, model_->plan.input.features);
    MOKA_RETURN_IF_ERROR(forward_->read(Span<Sequence>(&part, 1)));
    if (read.sink != nullptr) {
      MOKA_RETURN_IF_ERROR(send_rows(piece.first, piece.count, *read.sink, make));
    } else if (piece.first <= read.last && read.last < piece.first + piece.count) {
      std::memcpy(read.pooled, forward_->pooled(read.last - piece.first),
                  model_->plan.width * sizeof(float));
    }
    if (!done()) return Status(StatusCode::kCancelled, "cancelled");
  }
  return Status();
}

// A model that sees ahead: all rows of a layer, then the next layer.
Status ExecutorImpl::read_ahead(const WholeRead& read, const Sequence& sequence,
                                const PieceDone& done) {
  MOKA_RETURN_IF_ERROR(reserve_hidden(sequence.count));
  float* x = hidden_.data();
  MOKA_RETURN_IF_ERROR(forward_->read_whole(sequence, read.pieces, x, done));
  if (read.sink == nullptr) {
    forward_->pool_rows(x, sequence.count, read.last, read.pooled);
    return Status();
  }
  const size_t width = model_->plan.width;
  for (const Piece& piece : read.pieces) {
    const auto make = [&](size_t row, size_t rows, float* out) {
      return forward_->project_rows(x + (piece.first + row) * width, rows, out);
    };
    MOKA_RETURN_IF_ERROR(send_rows(piece.first, piece.count, *read.sink, make));
  }
  return Status();
}

Status ExecutorImpl::project(const float* first, const float* second, float* out) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return second == nullptr ? forward_->project_pooled(first, 1, out)
                           : forward_->project_pair(first, second, out);
}

}  // namespace moka
