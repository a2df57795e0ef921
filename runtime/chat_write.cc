// Turns that the model writes.
#include <algorithm>
#include <functional>
#include <string>
#include <utility>

#include "runtime/chat_impl.h"
#include "runtime/writing.h"

namespace moka {
namespace {

// A character may have been left incomplete by the turns before, which are `path`.
void go_on_from(const std::vector<const Turn*>& path, Writing* writing) {
  size_t first = path.size();
  while (first > 0 && path[first - 1]->generated() && path[first - 1]->tail == 0) {
    --first;
    if (path[first]->head != 0) break;  // its text begins afresh
  }
  for (; first < path.size(); ++first) {
    const Turn& turn = *path[first];
    for (size_t i = turn.head; i < turn.tokens.size(); ++i) writing->go_on_from(turn.tokens[i]);
  }
}

}  // namespace

// Writes one turn.
class ChatImpl::TurnWriting final : public Writing {
 public:
  TurnWriting(ChatImpl* chat, ChatCall* call, const GenerateOptions& options, Sampler* drawing,
              Turn* turn)
      : Writing(chat->session, *drawing, options),
        chat_(chat),
        call_(call),
        on_text_(options.on_text),
        turn_(turn) {}

  Status run(uint64_t most) {
    MOKA_ASSIGN_OR_RETURN(turn_->end, Writing::run(most));
    const std::string_view rest = finish();
    turn_->text.append(rest);
    // The turn is over, whatever it answers.
    if (listening() && on_text_ && !rest.empty()) (void)on_text_(rest);
    return Status();
  }

 private:
  Status before_read() override { return call_->check_cancel(); }
  bool interrupted() const override { return chat_->cancelled.load(); }
  void was_read(TokenId token) override {
    turn_->tokens.push_back(token);
    call_->count_drawn();
  }
  bool give_out(TokenId, std::string_view text) override {
    turn_->text.append(text);
    return text.empty() || !on_text_ || on_text_(text);
  }

  ChatImpl* const chat_;
  ChatCall* const call_;
  const std::function<bool(std::string_view)>& on_text_;
  Turn* const turn_;
};

// What can be looked up: the turns, but no more of them than are remembered.
Status ChatImpl::prepare_lookup(const std::vector<const Turn*>& path,
                                const std::vector<TokenId>& head, Writing* writing) const {
  size_t count = prefix().size() + head.size();
  for (const Turn* turn : path) count += turn->tokens.size();
  MOKA_RETURN_IF_ERROR(writing->reserve_lookup(count));
  writing->look_up(prefix());
  for (const Turn* turn : path) writing->look_up(turn->tokens);
  writing->look_up(head);
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
  const std::vector<TokenId> head = turn.tokens;
  const std::vector<const Turn*> path = tree.path(kStartOfChat, after);
  TurnWriting writing(this, &call, how, drawing, &turn);
  writing.keep_free(tail.size());
  if (head.empty()) go_on_from(path, &writing);
  if (how.lookup > 0) MOKA_RETURN_IF_ERROR(prepare_lookup(path, head, &writing));
  MOKA_RETURN_IF_ERROR(writing.run(how.max_tokens));
  call.count_lookups(writing.lookups());
  turn.tokens.insert(turn.tokens.end(), tail.begin(), tail.end());
  MOKA_RETURN_IF_ERROR(call.read(tail));
  turn.position = tree.position(after) + turn.tokens.size();
  if (fresh) std::swap(sampler, *fresh);
  return call.commit(std::move(turn));
}

}  // namespace moka
