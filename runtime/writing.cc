#include "runtime/writing.h"

#include <algorithm>

namespace moka {
namespace {

constexpr uint32_t kLeastHistory = 1024, kMostHistory = 65536;

}  // namespace

Writing::Writing(Session& session, Sampler& sampler, const GenerateOptions& options)
    : session_(session),
      sampler_(sampler),
      options_(options),
      tokenizer_(session.model().tokenizer()),
      text_(tokenizer_, options.stop),
      loop_(options.loop_tokens) {}

Status Writing::reserve_lookup(size_t count) {
  if (options_.lookup == 0) return Status();
  LookupOptions wanted;
  wanted.guesses = options_.lookup;
  // No more than this text needs.
  const uint64_t tokens = options_.lookup_tokens.size() + uint64_t{count} +
                          std::min<uint64_t>(options_.max_tokens, kMostHistory);
  wanted.history = static_cast<uint32_t>(std::clamp<uint64_t>(tokens, kLeastHistory, kMostHistory));
  MOKA_ASSIGN_OR_RETURN(lookup_, Lookup::create(wanted));
  look_up(options_.lookup_tokens);
  return Status();
}

void Writing::look_up(Span<const TokenId> tokens) {
  if (!lookup_) return;
  for (const TokenId token : tokens) lookup_->push(token);
}

// Steps that the position limit leaves.
uint64_t Writing::room() const {
  const uint64_t limit = session_.model().info().position_limit;
  if (limit == 0) return UINT64_MAX;
  const uint64_t used = session_.position() + kept_free_;
  return used < limit ? limit - used : 0;
}

bool Writing::is_over(uint64_t most) {
  if (end_ != TurnEnd::kGiven) return true;
  if (written_ >= most) return ends(TurnEnd::kTokenBudget);
  if (!goes_on()) return ends(TurnEnd::kCallback);
  if (room() == 0) return ends(TurnEnd::kPositionLimit);
  if (options_.max_ms == 0 || written_ == 0) return false;
  const auto passed = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - begin_);
  return static_cast<uint64_t>(passed.count()) >= options_.max_ms && ends(TurnEnd::kTimeBudget);
}

// What may follow `token`, so that at most `most` tokens are written. A token that would stop the
// writing is not among them: it is not read, so it is always drawn by itself.
Span<const TokenId> Writing::guesses(TokenId token, uint64_t most) {
  if (!lookup_) return Span<const TokenId>();
  most = std::min({most - written_, room(), uint64_t{Session::kMostGuesses} + 1}) - 1;
  const Span<const TokenId> all = lookup_->guess(token, static_cast<size_t>(most));
  size_t count = 0;
  while (count < all.size() && !is_stop_token(options_, tokenizer_, all[count])) ++count;
  return all.subspan(0, count);
}

// Of a token that has been read; false: none after it, or something is to be looked at first.
bool Writing::take(TokenId token) {
  ++written_;
  was_read(token);
  if (lookup_) lookup_->push(token);
  listening_ = give_out(token, text_.push(token));
  if (text_.stopped() || !listening_) {
    end_ = text_.stopped() ? TurnEnd::kStopText : TurnEnd::kCallback;
  } else if (loop_.push(token)) {
    end_ = TurnEnd::kLoop;
  }
  return end_ == TurnEnd::kGiven && !interrupted();
}

// Reads a token that was drawn, and what came true of the guesses about the next ones.
Status Writing::read(TokenId token, uint64_t most) {
  MOKA_RETURN_IF_ERROR(before_read());
  const Span<const TokenId> tried = guesses(token, most);
  MOKA_ASSIGN_OR_RETURN(const size_t read,
                        session_.append_with_guesses(token, tried, sampler_,
                                                     [this](TokenId next) { return take(next); }));
  if (lookup_) lookup_->record(tried.size(), read - 1);
  return Status();
}

Result<TurnEnd> Writing::run(uint64_t most) {
  const uint64_t last = most > UINT64_MAX - written_ ? UINT64_MAX : written_ + most;
  end_ = TurnEnd::kGiven;
  while (!is_over(last)) {
    const Sampler::Mark before = sampler_.mark();
    MOKA_ASSIGN_OR_RETURN(const TokenId token, sampler_.sample(session_.logits()));
    if (is_stop_token(options_, tokenizer_, token)) {
      stop_token_ = token;
      return TurnEnd::kStopToken;
    }
    const uint64_t written = written_;
    const Status status = read(token, last);
    if (!status.ok()) {
      // Unless text or callback failed: the token was read then.
      if (written_ == written) sampler_.back_to(before);
      return status;
    }
  }
  return end_;
}

}  // namespace moka
