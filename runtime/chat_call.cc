#include <algorithm>
#include <string>

#include "runtime/chat_impl.h"

namespace moka {
namespace {

// Single steps are slow; progress hears of every so many.
constexpr uint64_t kStepsBetweenTells = 16;

}  // namespace

ChatCall::~ChatCall() {
  if (begun_ && !committed_) {
    // Neither can fail: the session had room for this state before, and the bytes are its own.
    (void)chat_->session.copy_from(chat_->spare);
    (void)chat_->sampler.restore(sampler_);
  }
  chat_->cancelled.store(false);
}

Status ChatCall::begin() {
  MOKA_RETURN_IF_ERROR(check_cancel());
  sampler_ = chat_->sampler.save();
  MOKA_RETURN_IF_ERROR(chat_->spare.copy_from(chat_->session));
  start_ = chat_->tree.current();
  stamp_ = chat_->kept.now();
  begun_ = true;
  return Status();
}

Status ChatCall::check_cancel() {
  if (!chat_->cancelled.exchange(false)) return Status();
  return Status(StatusCode::kCancelled, "cancelled; the chat is at its last turn");
}

Status ChatCall::tell(Reading* reading) {
  MOKA_RETURN_IF_ERROR(check_cancel());
  reading->told = reading->done;
  const auto& progress = chat_->options.progress;
  if (!progress || progress({reading->done, reading->total, reading->again})) return Status();
  return Status(StatusCode::kCancelled, "ended by the progress callback at " +
                                            std::to_string(reading->done) + " of " +
                                            std::to_string(reading->total) + " tokens");
}

Status ChatCall::read_chunks(Span<const TokenId> tokens, Reading* reading) {
  for (size_t done = 0; done < tokens.size();) {
    MOKA_RETURN_IF_ERROR(check_cancel());
    const size_t count = std::min<size_t>(chat_->chunk, tokens.size() - done);
    MOKA_RETURN_IF_ERROR(chat_->session.append(tokens.subspan(done, count)));
    done += count;
    reading->done += count;
    const bool due = reading->done - reading->told >= kStepsBetweenTells;
    if (due || reading->done == reading->total) MOKA_RETURN_IF_ERROR(tell(reading));
  }
  return Status();
}

Status ChatCall::read(Span<const TokenId> tokens) {
  if (tokens.empty()) return Status();
  Reading reading;
  reading.total = tokens.size();
  MOKA_RETURN_IF_ERROR(tell(&reading));
  MOKA_RETURN_IF_ERROR(read_chunks(tokens, &reading));
  step_.tokens_read += tokens.size();
  return Status();
}

// From the end of `from`, where the session is, to that of `turn`, by the steps of the first time.
Status ChatCall::read_again(TurnId from, TurnId turn) {
  const std::vector<const Turn*> path = chat_->tree.path(from, turn);
  Reading reading;
  reading.total = chat_->tree.position(turn) - chat_->tree.position(from);
  reading.again = true;
  MOKA_RETURN_IF_ERROR(tell(&reading));
  for (const Turn* at : path) {
    const Span<const TokenId> tokens(at->tokens);
    if (at->generated()) {
      const size_t end = tokens.size() - at->tail;
      MOKA_RETURN_IF_ERROR(read_chunks(tokens.subspan(0, at->head), &reading));
      for (size_t i = at->head; i < end; ++i) {
        const Span<const TokenId> one = tokens.subspan(i, 1);
        MOKA_RETURN_IF_ERROR(read_chunks(one, &reading));
      }
      MOKA_RETURN_IF_ERROR(read_chunks(tokens.subspan(end, at->tail), &reading));
    } else {
      MOKA_RETURN_IF_ERROR(read_chunks(tokens, &reading));
    }
    // The work is done, so even a call that ends here leaves something of it.
    if (at->id != turn) chat_->kept.keep(at->id, chat_->session, chat_->kept.now(), start_);
  }
  step_.tokens_read_again += reading.total;
  return Status();
}

Status ChatCall::go_to(TurnId turn) {
  for (TurnId from = turn;; from = chat_->tree.parent(from)) {
    if (from == kStartOfChat) {
      MOKA_RETURN_IF_ERROR(chat_->go_to_start());
    } else if (from != start_) {
      if (!chat_->kept.has(from)) continue;
      const Status status = chat_->kept.restore(from, chat_->tree.position(from), &chat_->session);
      if (status.code() == StatusCode::kOutOfMemory) return status;
      if (!status.ok()) continue;  // damaged in the file; it is read again like one let go
    }
    return from == turn ? Status() : read_again(from, turn);
  }
}

Status ChatCall::leave(TurnId turn) {
  MOKA_RETURN_IF_ERROR(go_to(turn));
  // The state where the call began is kept when it ends.
  if (turn != kStartOfChat && turn != start_) {
    chat_->kept.keep(turn, chat_->session, chat_->kept.now(), start_);
  }
  return Status();
}

ChatStep ChatCall::commit(Turn turn) {
  const TurnId id = turn.id;
  chat_->tree.add(std::move(turn));
  return commit(id);
}

ChatStep ChatCall::commit(TurnId turn) {
  chat_->tree.set_current(turn);
  if (start_ != kStartOfChat && start_ != turn) {
    chat_->kept.keep(start_, chat_->spare, stamp_, turn);
  }
  committed_ = true;
  step_.turn = turn;
  return step_;
}

}  // namespace moka
