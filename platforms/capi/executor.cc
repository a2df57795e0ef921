// Executors, and batches of sessions on them.
#include <limits>
#include <mutex>
#include <string>

#include "platforms/capi/border.h"
#include "platforms/capi/handles.h"

namespace moka::capi {
namespace {

moka_executor_options default_executor() {
  const ExecutorOptions defaults;
  return {sizeof(moka_executor_options), defaults.threads, defaults.chunk};
}

Session* session_of(const moka_session* session) {
  return session == nullptr ? nullptr : const_cast<Session*>(&session->session);
}

// What is wrong with an entry, before the executor sees it.
Status at_place(size_t place, const Status& status, size_t* culprit) {
  if (culprit != nullptr) *culprit = place;
  return Status(status.code(), "session " + std::to_string(place) + ": " + status.message());
}

// The batch as C++ has it, in the executor's own list.
Status take_steps(Span<const moka_batch_append> batch, std::vector<SessionSteps>* steps,
                  size_t* culprit) {
  steps->clear();
  for (size_t i = 0; i < batch.size(); ++i) {
    const Result<Steps> read = steps_of(batch[i].steps, "steps");
    if (!read.ok()) return at_place(i, read.status(), culprit);
    steps->push_back({session_of(batch[i].session), read.value().tokens, read.value().values});
  }
  return Status();
}

}  // namespace
}  // namespace moka::capi

using namespace moka::capi;  // NOLINT: every function below is one of the C interface
using moka::Executor;
using moka::ExecutorOptions;
using moka::SessionDraw;
using moka::Span;
using moka::Status;

void moka_executor_options_init(moka_executor_options* options, uint32_t struct_size) {
  init_struct(default_executor(), options, struct_size);
}

moka_status moka_executor_create(const moka_model* model, const moka_executor_options* options,
                                 moka_executor** out, moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(begin_out(out));
    MOKA_RETURN_IF_ERROR(need(model, "model"));
    moka_executor_options read = default_executor();
    MOKA_RETURN_IF_ERROR(read_options(options, "moka_executor_options", &read));
    ExecutorOptions given;
    given.threads = read.threads;
    given.chunk = read.chunk;
    MOKA_ASSIGN_OR_RETURN(Executor executor, model->model().new_executor(given));
    return hand_out(out, model->shared, std::move(executor));
  });
}

moka_status moka_executor_of_model(const moka_model* model, moka_executor** out,
                                   moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(begin_out(out));
    MOKA_RETURN_IF_ERROR(need(model, "model"));
    return hand_out(out, model->shared, model->model().executor());
  });
}

int32_t moka_executor_threads(const moka_executor* executor) {
  return executor == nullptr ? 0 : executor->executor.threads();
}

uint64_t moka_executor_scratch_bytes(const moka_executor* executor) {
  return executor == nullptr ? 0 : executor->executor.scratch_bytes();
}

void moka_executor_free(moka_executor* executor) { delete executor; }

moka_status moka_executor_append(moka_executor* executor, const moka_batch_append* batch,
                                 size_t count, size_t* culprit, moka_error* error) {
  return border(error, [&]() -> Status {
    if (culprit != nullptr) *culprit = count;
    MOKA_RETURN_IF_ERROR(need(executor, "executor"));
    MOKA_ASSIGN_OR_RETURN(const auto entries, span_of(batch, count, "batch"));
    const std::lock_guard<std::mutex> lock(executor->mutex);
    MOKA_RETURN_IF_ERROR(take_steps(entries, &executor->steps, culprit));
    return executor->executor.append(executor->steps, culprit);
  });
}

moka_status moka_executor_step(moka_executor* executor, moka_batch_step* batch, size_t count,
                               size_t* culprit, moka_error* error) {
  return border(error, [&]() -> Status {
    if (culprit != nullptr) *culprit = count;
    MOKA_RETURN_IF_ERROR(need(executor, "executor"));
    MOKA_ASSIGN_OR_RETURN(const auto entries, span_of(batch, count, "batch"));
    const std::lock_guard<std::mutex> lock(executor->mutex);
    std::vector<SessionDraw>& draws = executor->draws;
    draws.clear();
    for (const moka_batch_step& entry : entries) {
      moka::Sampler* sampler = entry.sampler == nullptr ? nullptr : &entry.sampler->sampler;
      draws.push_back({session_of(entry.session), sampler, -1});
    }
    MOKA_RETURN_IF_ERROR(executor->executor.step(draws, culprit));
    for (size_t i = 0; i < count; ++i) batch[i].token = draws[i].token;
    return Status();
  });
}
