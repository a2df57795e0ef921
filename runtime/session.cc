#include "moka/session.h"

#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "runtime/atomic_file.h"
#include "runtime/check_steps.h"
#include "runtime/executor.h"
#include "runtime/file_map.h"
#include "runtime/guard.h"
#include "runtime/model_data.h"
#include "runtime/snapshots.h"
#include "runtime/state.h"

namespace moka {
namespace {

constexpr char kReading[] = "reading the steps";

Status check_usable(const SessionImpl& session) {
  if (!session.broken) return Status();
  return Status(
      StatusCode::kFailedPrecondition,
      "an earlier call failed inside the runtime; reset() or restore() the session first");
}

// `steps` have been checked as such.
Status append_steps(SessionImpl& session, const Steps& steps, const LogitsSink* sink) {
  MOKA_RETURN_IF_ERROR(check_usable(session));
  if (sink != nullptr && !*sink) {
    return Status(StatusCode::kInvalidArgument, "the sink of the rows is empty");
  }
  MOKA_RETURN_IF_ERROR(check_append(session, steps.count));
  if (steps.count == 0) return Status();
  return session.executor->append(session, steps, sink);
}

Status append_memory_steps(SessionImpl& session, const Steps& steps) {
  const ModelInfo& info = session.model.info();
  MOKA_RETURN_IF_ERROR(check_usable(session));
  if (!info.reads_memory) {
    return Status(StatusCode::kInvalidArgument, "the model reads one sequence; it has no memory");
  }
  if (session.position != 0) {
    return Status(StatusCode::kFailedPrecondition,
                  "append_memory() after append(): the memory is read before the first " +
                      std::string("question; fork() a session to ask several"));
  }
  const bool whole = session.executor->model().plan.memory_whole;
  if (whole && session.memory != 0 && steps.count != 0) {
    return Status(StatusCode::kFailedPrecondition,
                  "the memory was read already: its encoder sees ahead, so it takes all of it in "
                  "one call; reset() begins anew");
  }
  MOKA_RETURN_IF_ERROR(check_positions(info, session.memory, steps.count));
  if (steps.count == 0) return Status();
  return session.executor->append_memory(session, steps);
}

// `record` says where the bytes have to be; that they are of the session's model is added here.
Status restore_record(SessionImpl& session, Span<const uint8_t> bytes, SessionRecord record) {
  record.fingerprint = session.model.info().fingerprint;
  MOKA_RETURN_IF_ERROR(restore_state(session.executor->model().plan, bytes, session.state.data(),
                                     &session.cache, &record));
  if (!record.logits.empty()) {
    std::memcpy(session.logits.data(), record.logits.data(), record.logits.size() * sizeof(float));
  }
  session.position = record.position;
  session.memory = record.memory;
  session.broken = false;
  return Status();
}

Steps steps_of(Span<const TokenId> tokens) { return {tokens.data(), nullptr, tokens.size()}; }
Steps steps_of(const ModelInfo& info, Span<const float> values) {
  return {nullptr, values.data(), values.size() / info.features};
}

}  // namespace

Status check_append(const SessionImpl& session, size_t count) {
  const ModelInfo& info = session.model.info();
  MOKA_RETURN_IF_ERROR(check_usable(session));
  MOKA_RETURN_IF_ERROR(check_positions(info, session.position, count));
  if (count > 0 && info.reads_memory && session.memory == 0) {
    return Status(StatusCode::kFailedPrecondition,
                  "the model answers from a second sequence: append_memory() comes first");
  }
  return Status();
}

Session::Session(std::unique_ptr<SessionImpl> impl) : impl_(std::move(impl)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

Status Session::append(Span<const TokenId> tokens) {
  return guarded(kReading, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(check_tokens(impl_->model.info(), tokens));
    return append_steps(*impl_, steps_of(tokens), nullptr);
  });
}

Status Session::append(Span<const TokenId> tokens, const LogitsSink& sink) {
  return guarded(kReading, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(check_tokens(impl_->model.info(), tokens));
    return append_steps(*impl_, steps_of(tokens), &sink);
  });
}

Status Session::append_values(Span<const float> values) {
  return guarded(kReading, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(check_values(impl_->model.info(), values));
    return append_steps(*impl_, steps_of(impl_->model.info(), values), nullptr);
  });
}

Status Session::append_values(Span<const float> values, const LogitsSink& sink) {
  return guarded(kReading, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(check_values(impl_->model.info(), values));
    return append_steps(*impl_, steps_of(impl_->model.info(), values), &sink);
  });
}

Status Session::append_memory(Span<const TokenId> tokens) {
  return guarded(kReading, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(check_tokens(impl_->model.info(), tokens));
    return append_memory_steps(*impl_, steps_of(tokens));
  });
}

Status Session::append_memory_values(Span<const float> values) {
  return guarded(kReading, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(check_values(impl_->model.info(), values));
    return append_memory_steps(*impl_, steps_of(impl_->model.info(), values));
  });
}

Result<TokenId> Session::step(Sampler& sampler) {
  const Sampler::Mark mark = sampler.mark();
  Result<TokenId> token = guarded("a step", [&]() -> Result<TokenId> {
    if (impl_->position == 0) {
      return Status(StatusCode::kFailedPrecondition,
                    "nothing was read yet: append() a token before step()");
    }
    MOKA_ASSIGN_OR_RETURN(const TokenId drawn, impl_->executor->sample(logits(), sampler));
    MOKA_RETURN_IF_ERROR(append(Span<const TokenId>(&drawn, 1)));
    return drawn;
  });
  if (!token.ok()) sampler.back_to(mark);
  return token;
}

Span<const float> Session::logits() const {
  if (impl_->position == 0) return Span<const float>();
  return Span<const float>(impl_->logits.data(), impl_->logits.size());
}

uint64_t Session::position() const { return impl_->position; }
uint64_t Session::memory_position() const { return impl_->memory; }
const Model& Session::model() const { return impl_->model; }
void Session::cancel() noexcept { impl_->cancelled.store(true); }

Result<Session> Session::fork() const {
  return guarded("a copy of the session", [&]() -> Result<Session> {
    MOKA_ASSIGN_OR_RETURN(Session copy, impl_->model.new_session(Executor(impl_->executor)));
    MOKA_RETURN_IF_ERROR(copy.copy_from(*this));
    return copy;
  });
}

Status Session::copy_from(const Session& other) {
  if (&other == this) return Status();
  const SessionImpl& from = *other.impl_;
  const ModelData& model = impl_->executor->model();
  if (&from.executor->model() != &model) {
    return Status(StatusCode::kInvalidArgument, "the session to copy belongs to another model");
  }
  MOKA_RETURN_IF_ERROR(impl_->cache.copy(model.plan, from.cache, from.position));
  const bool empty = impl_->position == 0 && impl_->memory == 0 && !impl_->broken;
  if (empty && from.memory == 0 && !from.broken) {
    copy_to_empty_state(model.plan, from.state.data(), from.position, impl_->state.data());
  } else {
    std::memcpy(impl_->state.data(), from.state.data(), from.state.bytes());
  }
  std::memcpy(impl_->logits.data(), from.logits.data(), from.logits.bytes());
  impl_->position = from.position;
  impl_->memory = from.memory;
  impl_->broken = from.broken;
  return Status();
}

void Session::reset() {
  reset_state(impl_->executor->model().plan, impl_->state.data());
  impl_->position = 0;
  impl_->memory = 0;
  impl_->broken = false;
}

Result<std::vector<uint8_t>> Session::save() const {
  return guarded("the bytes of the session", [&]() -> Result<std::vector<uint8_t>> {
    if (impl_->broken) {
      return Status(StatusCode::kFailedPrecondition,
                    "an earlier call failed inside the runtime; the session cannot be saved");
    }
    SessionRecord record;
    record.fingerprint = impl_->model.info().fingerprint;
    record.position = impl_->position;
    record.memory = impl_->memory;
    const Span<const float> row = logits();
    record.logits.assign(row.begin(), row.end());
    return save_state(impl_->executor->model().plan, impl_->state.data(), &impl_->cache, record);
  });
}

Status Session::restore(Span<const uint8_t> bytes) {
  return guarded("restoring the session",
                 [&]() -> Status { return restore_record(*impl_, bytes, {}); });
}

Status Session::restore_snapshot(std::string_view name) {
  return guarded("restoring the session", [&]() -> Status {
    const ModelSpec& spec = impl_->executor->model().spec;
    MOKA_ASSIGN_OR_RETURN(const PrefixSnapshot* snapshot, usable_snapshot(spec, name));
    SessionRecord expected;
    expected.expected_position = snapshot->position;
    const Span<const uint8_t> bytes(static_cast<const uint8_t*>(snapshot->data),
                                    static_cast<size_t>(snapshot->size));
    const Status status = restore_record(*impl_, bytes, std::move(expected));
    if (status.ok() || status.code() == StatusCode::kOutOfMemory) return status;
    return Status(status.code(), "prefix snapshot '" + snapshot->name + "': " + status.message());
  });
}

Status Session::save_file(const std::string& path) const {
  return guarded("saving the session", [&]() -> Status {
    MOKA_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, save());
    return write_file(path, Existing::kReplace, bytes);
  });
}

Status Session::restore_file(const std::string& path) {
  return guarded("restoring the session", [&]() -> Status {
    MOKA_ASSIGN_OR_RETURN(const std::shared_ptr<FileMap> map, FileMap::open(path));
    const Status status = restore(map->bytes());
    return status.ok() ? status : Status(status.code(), path + ": " + status.message());
  });
}

}  // namespace moka
