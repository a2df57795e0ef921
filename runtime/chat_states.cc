#include "runtime/chat_states.h"

#include <algorithm>
#include <new>
#include <string>
#include <utility>

namespace moka {

uint64_t session_bytes(const Session& session) {
  const ModelInfo& info = session.model().info();
  return info.state_bytes + uint64_t{info.outputs} * sizeof(float) +
         info.state_bytes_per_token * session.position();
}

void KeptStates::drop(TurnId turn) {
  const auto at = kept_.find(turn);
  if (at == kept_.end()) return;
  bytes_ -= at->second.bytes;
  kept_.erase(at);
}

bool KeptStates::make_room(uint64_t bytes, Stamp stamp, TurnId live,
                           std::optional<Session>* freed) {
  if (bytes > budget_) return false;
  while (bytes_ > budget_ - bytes) {
    auto victim = kept_.find(live);
    if (victim == kept_.end()) {
      victim = std::min_element(kept_.begin(), kept_.end(), [](const auto& a, const auto& b) {
        return a.second.stamp < b.second.stamp;
      });
      if (victim->second.stamp > stamp) return false;
    }
    *freed = std::move(victim->second.session);
    drop(victim->first);
  }
  return true;
}

void KeptStates::keep(TurnId turn, const Session& session, Stamp stamp, TurnId live) {
  const auto at = kept_.find(turn);
  if (at != kept_.end()) {
    at->second.stamp = std::max(at->second.stamp, stamp);
    return;
  }
  const uint64_t bytes = session_bytes(session);
  std::optional<Session> copy;
  if (!make_room(bytes, stamp, live, &copy)) return;
  try {
    if (copy && !copy->copy_from(session).ok()) return;
    if (!copy) {
      Result<Session> fork = session.fork();
      if (!fork.ok()) return;
      copy.emplace(std::move(fork).value());
    }
    kept_.emplace(turn, Kept{stamp, bytes, std::move(copy), {}});
    bytes_ += bytes;
  } catch (const std::bad_alloc&) {  // not kept, then
  }
}

void KeptStates::keep_saved(TurnId turn, Span<const uint8_t> bytes, Stamp stamp) {
  std::optional<Session> freed;
  if (has(turn) || !make_room(bytes.size(), stamp, kStartOfChat, &freed)) return;
  try {
    kept_.emplace(turn, Kept{stamp, bytes.size(), std::nullopt,
                             std::vector<uint8_t>(bytes.begin(), bytes.end())});
    bytes_ += bytes.size();
  } catch (const std::bad_alloc&) {  // not kept, then
  }
}

Status KeptStates::unpack(Kept* kept, uint64_t position, const Session& like) {
  MOKA_ASSIGN_OR_RETURN(Session session, like.fork());
  MOKA_RETURN_IF_ERROR(session.restore(kept->saved));
  if (session.position() != position) {
    return Status(StatusCode::kCorrupt, "the state was saved at position " +
                                            std::to_string(session.position()) + ", not " +
                                            std::to_string(position));
  }
  bytes_ -= kept->bytes;
  kept->bytes = session_bytes(session);
  bytes_ += kept->bytes;
  kept->session.emplace(std::move(session));
  kept->saved = {};
  return Status();
}

Status KeptStates::restore(TurnId turn, uint64_t position, Session* session) {
  const auto at = kept_.find(turn);
  if (at == kept_.end()) return Status(StatusCode::kNotFound, "the state is not kept");
  Kept& kept = at->second;
  Status status = kept.session ? Status() : unpack(&kept, position, *session);
  if (status.ok()) status = session->copy_from(*kept.session);
  if (status.ok()) kept.stamp = now();
  // A session may take more than its bytes did; whoever restored it has a copy.
  const bool over = status.ok() && bytes_ > budget_;
  if (over || (!status.ok() && status.code() != StatusCode::kOutOfMemory)) drop(turn);
  return status;
}

std::vector<TurnId> KeptStates::recent() const {
  std::vector<std::pair<Stamp, TurnId>> order;
  for (const auto& [turn, kept] : kept_) order.emplace_back(kept.stamp, turn);
  std::sort(order.rbegin(), order.rend());
  std::vector<TurnId> turns;
  for (const auto& [stamp, turn] : order) turns.push_back(turn);
  return turns;
}

Result<std::vector<uint8_t>> KeptStates::save(TurnId turn) const {
  const auto at = kept_.find(turn);
  if (at == kept_.end()) return Status(StatusCode::kNotFound, "the state is not kept");
  if (at->second.session) return at->second.session->save();
  return at->second.saved;
}

}  // namespace moka
