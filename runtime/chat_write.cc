// Turns that the model writes.
#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "moka/loop_guard.h"
#include "runtime/chat_impl.h"
#include "runtime/chat_text.h"

namespace moka {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

// The loop of one turn: draws tokens, reads them, gives out their text, and knows when to end.
class ChatImpl::Writing {
 public:
  // `room`: tokens that the position limit leaves.
  Writing(ChatImpl* chat, const GenerateOptions& options, uint64_t room)
      : chat_(chat),
        options_(options),
        room_(room),
        text_(chat->model.tokenizer(), options.stop),
        loop_(options.loop_tokens) {}

  // A character may have been left incomplete by the turns before, which are `path`.
  void go_on_from(const std::vector<const Turn*>& path);
  Status run(ChatCall* call, Sampler* drawing, Turn* turn);

 private:
  bool is_over(uint64_t written, TurnEnd* end) const;
  bool give_out(std::string_view text, Turn* turn) const;

  ChatImpl* const chat_;
  const GenerateOptions& options_;
  const uint64_t room_;
  const Clock::time_point begin_ = Clock::now();
  TurnText text_;
  LoopGuard loop_;
};

void ChatImpl::Writing::go_on_from(const std::vector<const Turn*>& path) {
  size_t first = path.size();
  while (first > 0 && path[first - 1]->generated() && path[first - 1]->tail == 0) {
    --first;
    if (path[first]->head != 0) break;  // its text begins afresh
  }
  for (; first < path.size(); ++first) {
    const Turn& turn = *path[first];
    for (size_t i = turn.head; i < turn.tokens.size(); ++i) text_.go_on_from(turn.tokens[i]);
  }
}

bool ChatImpl::Writing::is_over(uint64_t written, TurnEnd* end) const {
  const auto is = [end](TurnEnd reason) {
    *end = reason;
    return true;
  };
  if (written >= options_.max_tokens) return is(TurnEnd::kTokenBudget);
  if (written >= room_) return is(TurnEnd::kPositionLimit);
  if (options_.max_ms == 0 || written == 0) return false;
  const auto passed = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin_);
  return static_cast<uint64_t>(passed.count()) >= options_.max_ms && is(TurnEnd::kTimeBudget);
}

// False when the callback wants no more.
bool ChatImpl::Writing::give_out(std::string_view text, Turn* turn) const {
  if (text.empty()) return true;
  turn->text.append(text);
  return !options_.on_text || options_.on_text(text);
}

Status ChatImpl::Writing::run(ChatCall* call, Sampler* drawing, Turn* turn) {
  bool listening = true;
  for (uint64_t written = 0; !is_over(written, &turn->end); ++written) {
    MOKA_ASSIGN_OR_RETURN(const TokenId token, drawing->sample(chat_->session.logits()));
    if (is_stop_token(options_, chat_->model.tokenizer(), token)) {
      turn->end = TurnEnd::kStopToken;
      break;
    }
    turn->tokens.push_back(token);
    MOKA_RETURN_IF_ERROR(call->read_drawn(token));
    listening = give_out(text_.push(token), turn);
    if (text_.stopped() || !listening) {
      turn->end = text_.stopped() ? TurnEnd::kStopText : TurnEnd::kCallback;
      break;
    }
    if (loop_.push(token)) {
      turn->end = TurnEnd::kLoop;
      break;
    }
  }
  const std::string_view rest = text_.finish();
  if (listening) {
    (void)give_out(rest, turn);  // the turn is over, whatever it answers
  } else {
    turn->text.append(rest);
  }
  return Status();
}

void ChatImpl::tell_recent(TurnId after, const std::vector<TokenId>& head, Sampler* drawing) const {
  drawing->forget();
  const size_t window = drawing->options().repeat_window;
  std::vector<TokenId> recent(head.rbegin(), head.rend());  // the newest first
  for (TurnId id = after; recent.size() < window && id != kStartOfChat; id = tree.parent(id)) {
    const std::vector<TokenId>& tokens = tree.find(id)->tokens;
    const size_t count = std::min(tokens.size(), window - recent.size());
    recent.insert(recent.end(), tokens.rbegin(),
                  tokens.rbegin() + static_cast<std::ptrdiff_t>(count));
  }
  const Span<const TokenId> first = prefix();
  for (size_t i = first.size(); i > 0 && recent.size() < window; --i)
    recent.push_back(first[i - 1]);
  for (auto token = recent.rbegin(); token != recent.rend(); ++token) drawing->accept(*token);
}

Result<ChatStep> ChatImpl::write(TurnId after, const GenerateOptions& how) {
  ChatCall call(this);
  MOKA_RETURN_IF_ERROR(check_generate(how, model.info().vocab_size));
  std::optional<Sampler> fresh;
  if (how.sampling) {
    MOKA_ASSIGN_OR_RETURN(fresh, Sampler::create(*how.sampling, model.info().outputs));
  }
  Turn turn;
  std::vector<TokenId> tail;
  MOKA_RETURN_IF_ERROR(frame(after, Role::kModel, &turn.tokens, &tail));
  if (tree.position(after) == 0 && turn.tokens.empty()) {
    return Status(StatusCode::kFailedPrecondition,
                  "nothing was read yet, and this model has no token that begins a text: append() "
                  "comes first");
  }
  const uint64_t framed = turn.tokens.size() + tail.size();
  MOKA_RETURN_IF_ERROR(check_room(after, framed + 1));
  const uint64_t limit = model.info().position_limit;
  const uint64_t room = limit == 0 ? UINT64_MAX : limit - tree.position(after) - framed;
  // Token counts of a turn have 32 bits in a file.
  constexpr uint64_t kMaxWritten = uint64_t{1} << 30;
  if (how.max_tokens > kMaxWritten) {
    return Status(StatusCode::kInvalidArgument, "max_tokens is " + std::to_string(how.max_tokens) +
                                                    ", at most " + std::to_string(kMaxWritten));
  }
  turn.id = tree.next_id();
  turn.parent = after;
  turn.role = Role::kModel;
  turn.head = static_cast<uint32_t>(turn.tokens.size());
  turn.tail = static_cast<uint32_t>(tail.size());
  tree.reserve();

  MOKA_RETURN_IF_ERROR(call.begin());
  MOKA_RETURN_IF_ERROR(call.leave(after));
  MOKA_RETURN_IF_ERROR(call.read(turn.tokens));
  Sampler* drawing = fresh ? &*fresh : &sampler;
  tell_recent(after, turn.tokens, drawing);
  Writing writing(this, how, room);
  if (turn.head == 0) writing.go_on_from(tree.path(kStartOfChat, after));
  MOKA_RETURN_IF_ERROR(writing.run(&call, drawing, &turn));
  turn.tokens.insert(turn.tokens.end(), tail.begin(), tail.end());
  MOKA_RETURN_IF_ERROR(call.read(tail));
  turn.position = tree.position(after) + turn.tokens.size();
  if (fresh) std::swap(sampler, *fresh);
  return call.commit(std::move(turn));
}

}  // namespace moka
