// Batches: the next steps of several sessions through one read of the weights. A part of ExecutorImpl.
//
// Steps are cut for each session as if it were alone, so that its bits do not depend on its mates. A
// round takes the next piece of as many sessions as there are rows for; the outputs of all sessions
// are projected together after the last round.
#include <algorithm>
#include <cstring>
#include <functional>
#include <new>
#include <string>

#include "runtime/check_steps.h"
#include "runtime/executor.h"
#include "runtime/guard.h"

namespace moka {
namespace {

constexpr size_t kMaxBatch = size_t{1} << 20;

Status at_place(size_t place, const Status& status, size_t* culprit) {
  *culprit = place;
  return Status(status.code(), "session " + std::to_string(place) + ": " + status.message());
}

Status no_executor() {
  return Status(StatusCode::kInvalidArgument, "the executor is empty; take a model's");
}

}  // namespace

Status Executor::append(Span<const SessionSteps> batch, size_t* culprit) const {
  size_t place = batch.size();
  const Status status = guarded("reading the batch", [&] {
    return impl_ == nullptr ? no_executor() : impl_->append_batch(batch, &place);
  });
  if (culprit != nullptr) *culprit = place;
  return status;
}

Status Executor::step(Span<SessionDraw> batch, size_t* culprit) const {
  size_t place = batch.size();
  const Status status = guarded("a step of the batch", [&] {
    return impl_ == nullptr ? no_executor() : impl_->step_batch(batch, &place);
  });
  if (culprit != nullptr) *culprit = place;
  return status;
}

// Ends a batch in every case, memory that ran out in the middle of it too.
struct ExecutorImpl::Leaver {
  explicit Leaver(ExecutorImpl* of) : executor(of) {}
  Leaver(const Leaver&) = delete;
  Leaver& operator=(const Leaver&) = delete;
  ~Leaver() {
    // Backwards, because a sampler may serve several sessions.
    std::vector<Part>& parts = executor->parts_;
    for (size_t i = undraw ? parts.size() : 0; i-- > 0;) parts[i].sampler->back_to(parts[i].mark);
    executor->leave_batch();
  }
  ExecutorImpl* executor;
  bool undraw = false;  // the samplers go back to where they were
};

Status ExecutorImpl::append_batch(Span<const SessionSteps> batch, size_t* culprit) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const ModelInfo& info = model_->info;
  MOKA_RETURN_IF_ERROR(begin_batch(batch.size()));
  const Leaver leaver(this);
  Status status;
  for (size_t i = 0; i < batch.size() && status.ok(); ++i) {
    const SessionSteps& entry = batch[i];
    status = add_part(entry.session);
    if (!status.ok()) break;
    Steps& steps = parts_.back().steps;
    const bool values = !entry.values.empty();
    if (values && !entry.tokens.empty()) {
      status = Status(StatusCode::kInvalidArgument,
                      "tokens and values were given; a model reads "
                      "one of them");
    } else if (values) {
      status = check_values(info, entry.values);
      if (status.ok()) {
        steps = {nullptr, entry.values.data(), entry.values.size() / info.features};
      }
    } else if (!entry.tokens.empty()) {
      status = check_tokens(info, entry.tokens);
      steps = {entry.tokens.data(), nullptr, entry.tokens.size()};
    }
    if (status.ok()) status = check_append(*parts_.back().session, steps.count);
  }
  if (!status.ok()) status = at_place(parts_.size() - 1, status, culprit);
  if (status.ok()) status = read_batch(culprit);
  return status;
}

Status ExecutorImpl::step_batch(Span<SessionDraw> batch, size_t* culprit) {
  const std::lock_guard<std::mutex> lock(mutex_);
  MOKA_RETURN_IF_ERROR(begin_batch(batch.size()));
  Leaver leaver(this);
  Status status;
  for (size_t i = 0; i < batch.size() && status.ok(); ++i) {
    status = add_part(batch[i].session);
    if (!status.ok()) break;
    Part& part = parts_.back();
    part.steps = {&part.drawn, nullptr, 1};
    part.sampler = batch[i].sampler;
    if (part.sampler == nullptr) {
      status = Status(StatusCode::kInvalidArgument, "its sampler is null");
    } else if (part.session->position == 0) {
      status = Status(StatusCode::kFailedPrecondition,
                      "nothing was read yet: append() a token before step()");
    } else {
      status = check_tokens(model_->info, Span<const TokenId>());
    }
    if (status.ok()) status = check_append(*part.session, 1);
  }
  if (!status.ok()) {
    status = at_place(parts_.size() - 1, status, culprit);
  } else {
    for (Part& part : parts_) part.mark = part.sampler->mark();
    leaver.undraw = true;
    status = draw_all(culprit);
    if (status.ok()) status = read_batch(culprit);
    leaver.undraw = !status.ok();
    for (size_t i = 0; i < batch.size() && status.ok(); ++i) batch[i].token = parts_[i].drawn;
  }
  return status;
}

void ExecutorImpl::draw(void* context, size_t, size_t index) {
  const ExecutorImpl& executor = *static_cast<ExecutorImpl*>(context);
  Part& part = static_cast<ExecutorImpl*>(context)->parts_[index];
  part.mark = part.sampler->mark();
  const AlignedBuffer<float>& logits = part.session->logits;
  // Guarded here, because a thread of the pool may run it.
  part.status = guarded("a draw", [&]() -> Status {
    MOKA_ASSIGN_OR_RETURN(part.drawn,
                          part.sampler->sample(Span<const float>(logits.data(), logits.size())));
    return check_tokens(executor.model_->info, Span<const TokenId>(&part.drawn, 1));
  });
}

// Every sampler draws, also after one that fails: then all go back to their marks.
Status ExecutorImpl::draw_all(size_t* culprit) {
  const ProfileScope scope(profiler_.get(), "sample", -1, parts_.size());
  samplers_.clear();
  for (const Part& part : parts_) samplers_.push_back(part.sampler);
  std::sort(samplers_.begin(), samplers_.end(), std::less<const Sampler*>());
  const bool shared = std::adjacent_find(samplers_.begin(), samplers_.end()) != samplers_.end();
  if (shared || forward_->pool().threads() == 1) {
    for (size_t i = 0; i < parts_.size(); ++i) draw(this, 0, i);
  } else {
    forward_->pool().run(parts_.size(), &ExecutorImpl::draw, this);
  }
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (!parts_[i].status.ok()) return at_place(i, parts_[i].status, culprit);
  }
  return Status();
}

Status ExecutorImpl::begin_batch(size_t size) {
  if (size > kMaxBatch) {
    return Status(StatusCode::kInvalidArgument, "a batch of " + std::to_string(size) +
                                                    " sessions; at most " +
                                                    std::to_string(kMaxBatch) + " go together");
  }
  try {  // a vector has no other way to say that there is no memory
    parts_.clear();
    parts_.reserve(size);
    samplers_.reserve(size);
    round_.reserve(std::min(size, forward_->max_rows()));
    return Status();
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::kOutOfMemory,
                  "no memory for a batch of " + std::to_string(size) + " sessions");
  }
}

// Adds a part in any case; leave_batch() takes its mark away.
Status ExecutorImpl::add_part(Session* session) {
  parts_.emplace_back();
  Part& part = parts_.back();
  if (session == nullptr || session->impl_ == nullptr) {
    return Status(StatusCode::kInvalidArgument,
                  session == nullptr ? "it is null" : "it was moved from");
  }
  SessionImpl& impl = *session->impl_;
  if (&impl.executor->model() != model_.get()) {
    return Status(StatusCode::kInvalidArgument, "it belongs to another model than the executor");
  }
  if (impl.batch_place != 0) {
    return Status(StatusCode::kInvalidArgument,
                  "it is the same session as session " + std::to_string(impl.batch_place - 1));
  }
  part.session = &impl;
  impl.batch_place = parts_.size();
  return Status();
}

void ExecutorImpl::leave_batch() {
  for (Part& part : parts_) {
    if (part.session != nullptr) part.session->batch_place = 0;
  }
  parts_.clear();
}

// Everything in parts_ has been checked.
Status ExecutorImpl::read_batch(size_t* culprit) {
  MOKA_RETURN_IF_ERROR(look_for_cancel(culprit));
  size_t total = 0, longest = 0;
  for (const Part& part : parts_) {
    total += std::min(part.steps.count, SIZE_MAX - total);
    longest = std::max(longest, part.steps.count);
  }
  if (total == 0) return Status();
  MOKA_RETURN_IF_ERROR(reserve_caches(culprit));
  MOKA_RETURN_IF_ERROR(reserve_hidden(parts_.size()));
  MOKA_RETURN_IF_ERROR(reserve_rows(parts_.size()));
  // One round, or one step of each session, is not interrupted, so nothing can stop it half-way.
  const bool undoable = total > forward_->max_rows() && longest > 1;
  if (undoable) MOKA_RETURN_IF_ERROR(reserve_spare(parts_.size()));
  const Status status = guarded("reading the batch", [&]() -> Status {
    MOKA_RETURN_IF_ERROR(read_rounds(undoable, culprit));
    return project_batch();
  });
  for (size_t i = 0; i < parts_.size(); ++i) {
    SessionImpl& session = *parts_[i].session;
    if (status.ok()) {
      session.position += parts_[i].steps.count;
    } else if (parts_[i].moved && undoable) {
      bring_back(session, i);
    } else if (parts_[i].moved) {
      session.broken = true;
    }
  }
  return status;
}

// A request is used up by the call that it ends.
Status ExecutorImpl::look_for_cancel(size_t* culprit) {
  for (size_t i = 0; i < parts_.size(); ++i) {
    const Part& part = parts_[i];
    if (part.steps.count == 0 || !part.session->cancelled.exchange(false)) continue;
    const std::string when = part.done == 0
                                 ? "cancelled before the first token was read"
                                 : "cancelled after " + std::to_string(part.done) + " of " +
                                       std::to_string(part.steps.count) + " tokens";
    return at_place(i, Status(StatusCode::kCancelled, when), culprit);
  }
  return Status();
}

Status ExecutorImpl::reserve_caches(size_t* culprit) {
  if (model_->plan.cache_floats == 0) return Status();
  size_t capacity = 0;
  for (size_t i = 0; i < parts_.size(); ++i) {
    SessionImpl& session = *parts_[i].session;
    const Status status = session.cache.reserve(
        model_->plan, session.position + parts_[i].steps.count, session.position);
    if (!status.ok()) return at_place(i, status, culprit);
    capacity = std::max(capacity, session.cache.capacity());
  }
  return forward_->reserve_cache(capacity);
}

Status ExecutorImpl::read_rounds(bool undoable, size_t* culprit) {
  size_t first = 0;  // parts before it are read
  for (bool begun = false;; begun = true) {
    while (first < parts_.size() && parts_[first].done == parts_[first].steps.count) ++first;
    if (first == parts_.size()) return Status();
    if (begun && undoable) MOKA_RETURN_IF_ERROR(look_for_cancel(culprit));
    size_t room = forward_->max_rows();
    round_.clear();
    for (size_t i = first; i < parts_.size() && room > 0; ++i) {
      Part& part = parts_[i];
      part.piece = std::min(part.steps.count - part.done, forward_->max_rows());
      if (part.piece > room) part.piece = 0;
      if (part.piece == 0) continue;
      room -= part.piece;
      if (!part.moved && undoable) keep_state(*part.session, i);
      part.moved = true;
      Sequence all = sequence_of(*part.session, part.steps);
      all.position = part.session->position;
      round_.push_back(part_of(all, {part.done, part.piece, 0}, model_->plan.input.features));
    }
    MOKA_RETURN_IF_ERROR(forward_->read(round_));
    take_hidden(first);
  }
}

// Counts the round as read. What the output is made of is kept for the sessions that end with it.
void ExecutorImpl::take_hidden(size_t first) {
  const size_t width = model_->plan.width;
  const bool pooled = model_->plan.head.pooled;
  size_t index = 0;  // in the round
  for (size_t i = first; i < parts_.size() && index < round_.size(); ++i) {
    Part& part = parts_[i];
    if (part.piece == 0) continue;
    const Sequence& sequence = round_[index++];
    part.done += part.piece;
    part.piece = 0;
    if (part.done < part.steps.count) continue;
    const size_t row = sequence.row + sequence.count - 1;
    std::memcpy(hidden_.data() + i * width, pooled ? forward_->pooled(row) : forward_->hidden(row),
                width * sizeof(float));
  }
}

Status ExecutorImpl::project_batch() {
  const size_t width = model_->plan.width, outputs = model_->plan.outputs;
  for (size_t i = 0, rows = 0; i < parts_.size(); i += rows) {
    rows = std::min(rows_capacity_, parts_.size() - i);
    const float* from = hidden_.data() + i * width;
    MOKA_RETURN_IF_ERROR(model_->plan.head.pooled
                             ? forward_->project_pooled(from, rows, rows_.data())
                             : forward_->project_rows(from, rows, rows_.data()));
    for (size_t r = 0; r < rows; ++r) {
      if (parts_[i + r].steps.count == 0) continue;
      std::memcpy(parts_[i + r].session->logits.data(), rows_.data() + r * outputs,
                  outputs * sizeof(float));
    }
  }
  return Status();
}

}  // namespace moka
