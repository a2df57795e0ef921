// Session::append_with_guesses: one pass over a token and guesses of what follows it, of which those
// stay that the sampler draws. Forward::replay() says how the others are taken back.
#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "runtime/check_steps.h"
#include "runtime/executor.h"
#include "runtime/guard.h"

namespace moka {
namespace {

// Most texts need few steps or none, so there is twice as much room each time that it is too little.
Status reserve_guesses(const Plan& plan, const Forward& forward, size_t needed, GuessRoom* room) {
  if (room->steps >= needed) return Status();
  const size_t steps =
      std::clamp(2 * room->steps, needed, std::max(needed, Session::kMostGuesses + 1));
  const size_t kept = steps * forward.kept_floats(), outputs = steps * plan.outputs;
  const bool has_state = room->state.data() != nullptr;
  room->steps = 0;
  if ((!has_state && !room->state.allocate(plan.state_floats)) || !room->kept.allocate(kept) ||
      !room->outputs.allocate(outputs)) {
    return Status(StatusCode::kOutOfMemory,
                  "no memory for guesses, " +
                      std::to_string((plan.state_floats + kept + outputs) * sizeof(float)) +
                      " bytes");
  }
  room->steps = steps;
  return Status();
}

}  // namespace

Status ExecutorImpl::read_guesses(SessionImpl& session, Span<const TokenId> tokens) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (session.cancelled.exchange(false)) {
    return Status(StatusCode::kCancelled, "cancelled before the first token was read");
  }
  const Plan& plan = model_->plan;
  if (plan.cache_floats > 0) {
    MOKA_RETURN_IF_ERROR(
        session.cache.reserve(plan, session.position + tokens.size(), session.position));
    MOKA_RETURN_IF_ERROR(forward_->reserve_cache(session.cache.capacity()));
  }
  GuessRoom& room = session.guesses;
  MOKA_RETURN_IF_ERROR(reserve_guesses(plan, *forward_, tokens.size(), &room));
  std::memcpy(room.state.data(), session.state.data(), session.state.bytes());
  Sequence sequence = sequence_of(session, {tokens.data(), nullptr, tokens.size()});
  sequence.position = session.position;
  sequence.stepwise = true;
  const Status status = guarded("reading the steps", [&]() -> Status {
    MOKA_RETURN_IF_ERROR(forward_->read_keeping(sequence, room.kept.data()));
    return forward_->logits(0, tokens.size(), room.outputs.data());
  });
  if (!status.ok()) std::memcpy(session.state.data(), room.state.data(), session.state.bytes());
  return status;
}

void ExecutorImpl::settle(SessionImpl& session, Span<const TokenId> tokens, size_t count) {
  const GuessRoom& room = session.guesses;
  if (count < tokens.size()) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::memcpy(session.state.data(), room.state.data(), session.state.bytes());
    Sequence sequence = sequence_of(session, {tokens.data(), nullptr, tokens.size()});
    sequence.position = session.position;
    sequence.stepwise = true;
    forward_->replay(sequence, count, room.kept.data());
  }
  session.position += count;
  std::memcpy(session.logits.data(), room.outputs.data() + (count - 1) * session.logits.size(),
              session.logits.bytes());
}

Result<size_t> Session::append_with_guesses(TokenId token, Span<const TokenId> guesses,
                                            Sampler& sampler, const TokenSink& taken) {
  return guarded("a pass over guesses", [&]() -> Result<size_t> {
    SessionImpl& session = *impl_;
    ExecutorImpl& executor = *session.executor;
    const ModelInfo& info = session.model.info();
    if (info.output != OutputKind::kLanguage) {
      return Status(StatusCode::kUnsupported,
                    "only language models draw tokens, so nothing can be guessed for this one");
    }
    if (guesses.size() > kMostGuesses) {
      return Status(
          StatusCode::kInvalidArgument,
          std::to_string(guesses.size()) + " guesses, at most " + std::to_string(kMostGuesses));
    }
    MOKA_RETURN_IF_ERROR(check_tokens(info, Span<const TokenId>(&token, 1)));
    const Status checked = check_tokens(info, guesses);
    if (!checked.ok()) return Status(checked.code(), "guesses: " + checked.message());
    MOKA_RETURN_IF_ERROR(check_append(session, 1));

    // As many as fit into a pass and below the position limit: what cannot come true is not tried.
    size_t count = 1 + std::min(guesses.size(), executor.forward().max_rows() - 1);
    if (info.position_limit != 0) {
      count =
          static_cast<size_t>(std::min<uint64_t>(count, info.position_limit - session.position));
    }
    if (count == 1) {
      MOKA_RETURN_IF_ERROR(append(Span<const TokenId>(&token, 1)));
      if (taken) (void)taken(token);
      return count;
    }
    std::array<TokenId, kMostGuesses + 1> all;
    all[0] = token;
    std::copy_n(guesses.begin(), count - 1, all.begin() + 1);
    const Span<const TokenId> tokens(all.data(), count);
    MOKA_RETURN_IF_ERROR(executor.read_guesses(session, tokens));

    struct Settled {  // also when `taken` throws
      ~Settled() { executor.settle(session, tokens, read); }
      ExecutorImpl& executor;
      SessionImpl& session;
      const Span<const TokenId> tokens;
      size_t read = 1;
    } settled = {executor, session, tokens};
    while (!taken || taken(tokens[settled.read - 1])) {
      if (settled.read == count || session.cancelled.load()) break;
      const float* row =
          session.guesses.outputs.data() + (settled.read - 1) * session.logits.size();
      const Sampler::Mark mark = sampler.mark();
      const Result<TokenId> drawn =
          executor.sample(Span<const float>(row, session.logits.size()), sampler);
      // The next draw will be the same one, and say the same if it fails.
      if (!drawn.ok() || drawn.value() != tokens[settled.read]) {
        sampler.back_to(mark);
        break;
      }
      ++settled.read;
    }
    return settled.read;
  });
}

}  // namespace moka
