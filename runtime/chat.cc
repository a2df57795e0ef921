#include "moka/chat.h"

#include <algorithm>
#include <string>
#include <utility>

#include "runtime/atomic_file.h"
#include "runtime/chat_format.h"
#include "runtime/chat_impl.h"
#include "runtime/file_map.h"
#include "runtime/guard.h"
#include "runtime/snapshots.h"

namespace moka {
namespace {

constexpr uint64_t kMaxTurnBytes = uint64_t{1} << 30;
constexpr size_t kMaxFormatBytes = size_t{1} << 20;

constexpr char kATurn[] = "a turn of the chat";  // what there was no memory for

Status check_model(const Model& model) {
  const ModelInfo& info = model.info();
  const auto unsupported = [](const char* why) {
    return Status(StatusCode::kUnsupported, std::string("a chat needs a causal language model "
                                                        "with a tokenizer; this model ") +
                                                why);
  };
  if (info.output != OutputKind::kLanguage) return unsupported("does not predict tokens");
  if (!model.has_tokenizer()) return unsupported("has no tokenizer");
  if (!info.causal) return unsupported("sees ahead");
  if (info.reads_memory) return unsupported("answers from a second sequence");
  return Status();
}

Status check_format(const ChatTemplate& format) {
  const std::pair<const char*, const std::string*> texts[] = {
      {"id", &format.id},
      {"system.prefix", &format.system.prefix},
      {"system.suffix", &format.system.suffix},
      {"user.prefix", &format.user.prefix},
      {"user.suffix", &format.user.suffix},
      {"model.prefix", &format.model.prefix},
      {"model.suffix", &format.model.suffix}};
  for (const auto& [name, text] : texts) {
    if (text->size() <= kMaxFormatBytes) continue;
    return Status(StatusCode::kInvalidArgument,
                  std::string("format.") + name + " has " + std::to_string(text->size()) +
                      " bytes, at most " + std::to_string(kMaxFormatBytes));
  }
  return Status();
}

Status check_options(const ChatOptions& options) {
  MOKA_RETURN_IF_ERROR(check_format(options.format));
  if (options.saved_states <= kMaxSavedStates) return Status();
  return Status(StatusCode::kInvalidArgument, "saved_states is " +
                                                  std::to_string(options.saved_states) +
                                                  ", at most " + std::to_string(kMaxSavedStates));
}

}  // namespace

const char* turn_end_name(TurnEnd end) {
  switch (end) {
    case TurnEnd::kGiven: return "given";
    case TurnEnd::kStopToken: return "stop_token";
    case TurnEnd::kStopText: return "stop_text";
    case TurnEnd::kTokenBudget: return "token_budget";
    case TurnEnd::kTimeBudget: return "time_budget";
    case TurnEnd::kCallback: return "callback";
    case TurnEnd::kPositionLimit: return "position_limit";
    case TurnEnd::kLoop: return "loop";
  }
  return "unknown";
}

// ---- ChatImpl ----------------------------------------------------------------------------------

ChatImpl::ChatImpl(const Model& model_, const ChatOptions& options_, Session first, Session second,
                   Sampler drawing)
    : model(model_),
      options(options_),
      chunk((options_.executor == nullptr ? model.executor() : *options_.executor).chunk()),
      begin(model.tokenizer().begin_id()),
      session(std::move(first)),
      spare(std::move(second)),
      sampler(std::move(drawing)),
      kept(options_.state_budget_bytes) {
  options.executor = nullptr;  // the sessions hold it; the handle may be gone tomorrow
}

Result<std::unique_ptr<ChatImpl>> ChatImpl::create(const Model& model, const ChatOptions& options) {
  MOKA_RETURN_IF_ERROR(check_model(model));
  MOKA_RETURN_IF_ERROR(check_options(options));
  const SamplerOptions& sampling = options.sampling ? *options.sampling : model.info().sampling;
  MOKA_ASSIGN_OR_RETURN(Sampler sampler, Sampler::create(sampling, model.info().outputs));
  const Executor& executor = options.executor == nullptr ? model.executor() : *options.executor;
  MOKA_ASSIGN_OR_RETURN(Session session, model.new_session(executor));
  MOKA_ASSIGN_OR_RETURN(Session spare, model.new_session(executor));
  std::unique_ptr<ChatImpl> chat(
      new ChatImpl(model, options, std::move(session), std::move(spare), std::move(sampler)));
  if (!options.from.empty()) MOKA_RETURN_IF_ERROR(chat->begin_from(options.from));
  return chat;
}

Status ChatImpl::begin_from(const std::string& snapshot) {
  MOKA_RETURN_IF_ERROR(session.restore_snapshot(snapshot));
  options.from = snapshot;
  tree.set_root(session.position());
  return Status();
}

Status ChatImpl::go_to_start() {
  if (!options.from.empty()) return session.restore_snapshot(options.from);
  session.reset();
  return Status();
}

Span<const TokenId> ChatImpl::prefix() const {
  const PrefixSnapshot* snapshot =
      options.from.empty() ? nullptr : find_snapshot(model.spec(), options.from);
  return snapshot == nullptr ? Span<const TokenId>() : Span<const TokenId>(snapshot->tokens);
}

const TurnFormat& ChatImpl::format_of(Role role) const {
  switch (role) {
    case Role::kSystem: return options.format.system;
    case Role::kUser: return options.format.user;
    default: return options.format.model;
  }
}

Status ChatImpl::check_turn(TurnId turn) const {
  if (tree.has(turn)) return Status();
  return Status(StatusCode::kNotFound, "the chat has no turn " + std::to_string(turn));
}

Status ChatImpl::frame(TurnId after, Role role, std::vector<TokenId>* head,
                       std::vector<TokenId>* tail) const {
  if (after == kStartOfChat && begin >= 0 && options.from.empty()) head->push_back(begin);
  const TurnFormat& format = format_of(role);
  const auto encode = [this](const char* name, const std::string& text,
                             std::vector<TokenId>* tokens) {
    const Status status = model.tokenizer().encode(text, tokens);
    if (status.ok()) return status;
    return Status(status.code(), std::string("the template's ") + name + ": " + status.message());
  };
  MOKA_RETURN_IF_ERROR(encode("prefix", format.prefix, head));
  return encode("suffix", format.suffix, tail);
}

// Before anything is read, also again.
Status ChatImpl::check_room(TurnId after, uint64_t tokens) const {
  const uint64_t limit = model.info().position_limit;
  const uint64_t position = tree.position(after);
  if (limit == 0 || (position <= limit && tokens <= limit - position)) return Status();
  return Status(StatusCode::kOutOfRange, "the turn has " + std::to_string(tokens) +
                                             " tokens behind " + std::to_string(position) +
                                             "; the model reads at most " + std::to_string(limit));
}

Result<ChatStep> ChatImpl::give(TurnId after, Role role, std::string_view text) {
  ChatCall call(this);
  if (role > Role::kModel) {
    return Status(StatusCode::kInvalidArgument,
                  "role is " + std::to_string(static_cast<int>(role)) + ", not 0 to 2");
  }
  if (text.size() > kMaxTurnBytes) {
    return Status(StatusCode::kOutOfRange, "the text has " + std::to_string(text.size()) +
                                               " bytes, a turn at most " +
                                               std::to_string(kMaxTurnBytes));
  }
  Turn turn;
  std::vector<TokenId> tail;
  MOKA_RETURN_IF_ERROR(frame(after, role, &turn.tokens, &tail));
  turn.head = static_cast<uint32_t>(turn.tokens.size());
  turn.tail = static_cast<uint32_t>(tail.size());
  const Status encoded = model.tokenizer().encode(text, &turn.tokens, false);
  if (!encoded.ok()) return Status(encoded.code(), "the text: " + encoded.message());
  turn.tokens.insert(turn.tokens.end(), tail.begin(), tail.end());
  if (turn.tokens.empty()) {
    return Status(StatusCode::kInvalidArgument, "the text has no tokens");
  }
  MOKA_RETURN_IF_ERROR(check_room(after, turn.tokens.size()));
  turn.id = tree.next_id();
  turn.parent = after;
  turn.role = role;
  turn.text = text;
  turn.position = tree.position(after) + turn.tokens.size();
  tree.reserve();

  MOKA_RETURN_IF_ERROR(call.begin());
  MOKA_RETURN_IF_ERROR(call.leave(after));
  MOKA_RETURN_IF_ERROR(call.read(turn.tokens));
  return call.commit(std::move(turn));
}

Result<ChatStep> ChatImpl::go(TurnId turn) {
  ChatCall call(this);
  MOKA_RETURN_IF_ERROR(check_turn(turn));
  MOKA_RETURN_IF_ERROR(call.begin());
  MOKA_RETURN_IF_ERROR(call.go_to(turn));
  return call.commit(turn);
}

Status ChatImpl::remove(TurnId turn) {
  if (turn == kStartOfChat) {
    return Status(StatusCode::kInvalidArgument, "the start of the chat is no turn to remove");
  }
  MOKA_RETURN_IF_ERROR(check_turn(turn));
  const std::vector<TurnId> family = tree.family(turn);
  if (std::binary_search(family.begin(), family.end(), tree.current())) {
    return Status(StatusCode::kFailedPrecondition,
                  "turn " + std::to_string(turn) + " leads to the current turn " +
                      std::to_string(tree.current()) + "; switch to another branch first");
  }
  for (const TurnId id : family) kept.drop(id);
  tree.remove(family);
  return Status();
}

// ---- Chat --------------------------------------------------------------------------------------

Chat::Chat(std::unique_ptr<ChatImpl> impl) : impl_(std::move(impl)) {}
Chat::Chat(Chat&&) noexcept = default;
Chat& Chat::operator=(Chat&&) noexcept = default;
Chat::~Chat() = default;

Result<Chat> Chat::create(const Model& model, const ChatOptions& options) {
  return guarded(kATurn, [&]() -> Result<Chat> {
    MOKA_ASSIGN_OR_RETURN(std::unique_ptr<ChatImpl> impl, ChatImpl::create(model, options));
    return Chat(std::move(impl));
  });
}

Result<Chat> Chat::open(const Model& model, Span<const uint8_t> bytes, const ChatOptions& options) {
  return guarded(kATurn, [&]() -> Result<Chat> {
    MOKA_ASSIGN_OR_RETURN(std::unique_ptr<ChatImpl> impl, ChatImpl::create(model, options));
    MOKA_RETURN_IF_ERROR(impl->parse(bytes));
    return Chat(std::move(impl));
  });
}

Result<Chat> Chat::open_file(const Model& model, const std::string& path,
                             const ChatOptions& options) {
  return guarded(kATurn, [&]() -> Result<Chat> {
    MOKA_ASSIGN_OR_RETURN(std::unique_ptr<ChatImpl> impl, ChatImpl::create(model, options));
    MOKA_ASSIGN_OR_RETURN(const std::shared_ptr<FileMap> map, FileMap::open(path));
    const Status parsed = impl->parse(map->bytes());
    if (!parsed.ok()) return Status(parsed.code(), path + ": " + parsed.message());
    return Chat(std::move(impl));
  });
}

Result<std::vector<uint8_t>> Chat::save() const {
  return guarded(kATurn, [&] { return impl_->save(); });
}

Status Chat::save_file(const std::string& path) const {
  MOKA_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, save());
  return guarded(kATurn, [&] { return write_file(path, Existing::kReplace, bytes); });
}

Result<ChatStep> Chat::append(Role role, std::string_view text) {
  return branch(impl_->tree.current(), role, text);
}

Result<ChatStep> Chat::branch(TurnId after, Role role, std::string_view text) {
  return guarded(kATurn, [&]() -> Result<ChatStep> {
    MOKA_RETURN_IF_ERROR(impl_->check_turn(after));
    return impl_->give(after, role, text);
  });
}

Result<ChatStep> Chat::edit(TurnId turn, std::string_view text) {
  return guarded(kATurn, [&]() -> Result<ChatStep> {
    if (turn == kStartOfChat) {
      return Status(StatusCode::kInvalidArgument, "the start of the chat is no turn to edit");
    }
    MOKA_RETURN_IF_ERROR(impl_->check_turn(turn));
    const Turn& old = *impl_->tree.find(turn);
    return impl_->give(old.parent, old.role, text);
  });
}

Result<ChatStep> Chat::generate(const GenerateOptions& options) {
  return guarded(kATurn, [&] { return impl_->write(impl_->tree.current(), options); });
}

Result<ChatStep> Chat::regenerate(const GenerateOptions& options) {
  return guarded(kATurn, [&]() -> Result<ChatStep> {
    const Turn* turn = impl_->tree.find(impl_->tree.current());
    if (turn == nullptr || !turn->generated()) {
      return Status(StatusCode::kFailedPrecondition,
                    turn == nullptr ? "nothing was generated yet: the chat is at its start"
                                    : "turn " + std::to_string(turn->id) +
                                          " was given, not generated; generate() goes on from it");
    }
    return impl_->write(turn->parent, options);
  });
}

Result<ChatStep> Chat::undo() {
  return guarded(kATurn, [&]() -> Result<ChatStep> {
    if (impl_->tree.current() == kStartOfChat) {
      return Status(StatusCode::kFailedPrecondition, "the chat is at its start");
    }
    return impl_->go(impl_->tree.parent(impl_->tree.current()));
  });
}

Result<ChatStep> Chat::switch_to(TurnId turn) {
  return guarded(kATurn, [&] { return impl_->go(turn); });
}

Status Chat::remove(TurnId turn) {
  return guarded(kATurn, [&] { return impl_->remove(turn); });
}

Span<const Turn> Chat::turns() const { return impl_->tree.turns(); }
const Turn* Chat::find(TurnId turn) const { return impl_->tree.find(turn); }
TurnId Chat::current() const { return impl_->tree.current(); }

std::vector<TurnId> Chat::path() const {
  std::vector<TurnId> ids;
  for (const Turn* turn : impl_->tree.path(kStartOfChat, impl_->tree.current())) {
    ids.push_back(turn->id);
  }
  return ids;
}

bool Chat::is_kept(TurnId turn) const {
  return turn == kStartOfChat || turn == impl_->tree.current() || impl_->kept.has(turn);
}

uint64_t Chat::kept_state_bytes() const { return impl_->kept.bytes(); }
void Chat::cancel() noexcept { impl_->cancelled.store(true); }
Span<const float> Chat::logits() const { return impl_->session.logits(); }
const SamplerOptions& Chat::sampling() const { return impl_->sampler.options(); }
const std::string& Chat::from() const { return impl_->options.from; }
const Model& Chat::model() const { return impl_->model; }

}  // namespace moka
