#include "moka/session.h"

#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "runtime/atomic_file.h"
#include "runtime/executor.h"
#include "runtime/file_map.h"
#include "runtime/state.h"

namespace moka {
namespace {

Status check_tokens(const SessionImpl& session, Span<const TokenId> tokens) {
  const ModelInfo& info = session.model.info();
  if (session.broken) {
    return Status(
        StatusCode::kFailedPrecondition,
        "an earlier call failed inside the runtime; reset() or restore() the session first");
  }
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= 0 && static_cast<uint32_t>(tokens[i]) < info.vocab_size) continue;
    return Status(StatusCode::kOutOfRange, "token " + std::to_string(i) + " is " +
                                               std::to_string(tokens[i]) + ", ids are 0 to " +
                                               std::to_string(info.vocab_size - 1));
  }
  if (info.position_limit != 0 && tokens.size() > info.position_limit - session.position) {
    return Status(StatusCode::kOutOfRange, "position " + std::to_string(session.position) +
                                               " plus " + std::to_string(tokens.size()) +
                                               " tokens exceeds the model's limit of " +
                                               std::to_string(info.position_limit) + " positions");
  }
  return Status();
}

}  // namespace

Session::Session(std::unique_ptr<SessionImpl> impl) : impl_(std::move(impl)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

Status Session::append(Span<const TokenId> tokens) {
  MOKA_RETURN_IF_ERROR(check_tokens(*impl_, tokens));
  if (tokens.empty()) return Status();
  return impl_->executor->append(*impl_, tokens, nullptr);
}

Status Session::append(Span<const TokenId> tokens, const LogitsSink& sink) {
  MOKA_RETURN_IF_ERROR(check_tokens(*impl_, tokens));
  if (tokens.empty()) return Status();
  return impl_->executor->append(*impl_, tokens, &sink);
}

Result<TokenId> Session::step(Sampler& sampler) {
  if (impl_->position == 0) {
    return Status(StatusCode::kFailedPrecondition,
                  "nothing was read yet: append() a token before step()");
  }
  MOKA_ASSIGN_OR_RETURN(const TokenId token, sampler.sample(logits()));
  MOKA_RETURN_IF_ERROR(append(Span<const TokenId>(&token, 1)));
  return token;
}

Span<const float> Session::logits() const {
  if (impl_->position == 0) return Span<const float>();
  return Span<const float>(impl_->logits.data(), impl_->logits.size());
}

uint64_t Session::position() const { return impl_->position; }
const Model& Session::model() const { return impl_->model; }
void Session::cancel() noexcept { impl_->cancelled.store(true); }

Result<Session> Session::fork() const {
  MOKA_ASSIGN_OR_RETURN(Session copy, impl_->model.new_session(Executor(impl_->executor)));
  std::memcpy(copy.impl_->state.data(), impl_->state.data(), impl_->state.bytes());
  std::memcpy(copy.impl_->logits.data(), impl_->logits.data(), impl_->logits.bytes());
  copy.impl_->position = impl_->position;
  copy.impl_->broken = impl_->broken;
  return copy;
}

void Session::reset() {
  reset_state(impl_->executor->model().plan, impl_->state.data());
  impl_->position = 0;
  impl_->broken = false;
}

Result<std::vector<uint8_t>> Session::save() const {
  if (impl_->broken) {
    return Status(StatusCode::kFailedPrecondition,
                  "an earlier call failed inside the runtime; the session cannot be saved");
  }
  SessionRecord record;
  record.fingerprint = impl_->model.info().fingerprint;
  record.position = impl_->position;
  const Span<const float> row = logits();
  record.logits.assign(row.begin(), row.end());
  return save_state(impl_->executor->model().plan, impl_->state.data(), record);
}

Status Session::restore(Span<const uint8_t> bytes) {
  SessionRecord record;
  record.fingerprint = impl_->model.info().fingerprint;
  MOKA_RETURN_IF_ERROR(
      restore_state(impl_->executor->model().plan, bytes, impl_->state.data(), &record));
  if (!record.logits.empty()) {
    std::memcpy(impl_->logits.data(), record.logits.data(), record.logits.size() * sizeof(float));
  }
  impl_->position = record.position;
  impl_->broken = false;
  return Status();
}

Status Session::save_file(const std::string& path) const {
  MOKA_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, save());
  MOKA_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path, Existing::kReplace));
  MOKA_RETURN_IF_ERROR(file.write(bytes.data(), bytes.size()));
  return file.commit();
}

Status Session::restore_file(const std::string& path) {
  MOKA_ASSIGN_OR_RETURN(const std::shared_ptr<FileMap> map, FileMap::open(path));
  const Status status = restore(map->bytes());
  return status.ok() ? status : Status(status.code(), path + ": " + status.message());
}

}  // namespace moka
