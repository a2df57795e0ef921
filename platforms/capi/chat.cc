// Chats.
#include "moka/chat.h"

#include <optional>
#include <string>

#include "platforms/capi/border.h"
#include "platforms/capi/handles.h"

// A chat and the executor that its options point to.
struct moka_chat {
  std::optional<moka::Executor> executor;
  std::optional<moka::Chat> chat;
};

namespace moka::capi {
namespace {

moka_chat_options default_chat() {
  const ChatOptions defaults;
  moka_chat_options options{};
  options.struct_size = sizeof options;
  options.saved_states = defaults.saved_states;
  options.state_budget_bytes = defaults.state_budget_bytes;
  return options;
}

std::string string_of(const char* text) { return text == nullptr ? std::string() : text; }

Status chat_options(const moka_chat_options* given, const Model& model, moka_chat* handle,
                    ChatOptions* options) {
  moka_chat_options read = default_chat();
  MOKA_RETURN_IF_ERROR(read_options(given, "moka_chat_options", &read));
  options->saved_states = read.saved_states;
  options->state_budget_bytes = read.state_budget_bytes;
  options->from = string_of(read.from);
  options->format.id = string_of(read.template_id);
  options->format.system = {string_of(read.system_prefix), string_of(read.system_suffix)};
  options->format.user = {string_of(read.user_prefix), string_of(read.user_suffix)};
  options->format.model = {string_of(read.model_prefix), string_of(read.model_suffix)};
  if (read.sampling != nullptr) {
    MOKA_ASSIGN_OR_RETURN(options->sampling, sampling_from(read.sampling, model));
  }
  if (read.executor != nullptr) {
    handle->executor = read.executor->executor;
    options->executor = &*handle->executor;
  }
  if (read.progress != nullptr) {
    options->progress = [fn = read.progress,
                         user = read.progress_user](const ReadProgress& progress) {
      return fn(user, progress.done, progress.total, progress.again ? 1 : 0) == 0;
    };
  }
  return Status();
}

// Makes a chat with `make(model, options)` and hands it out.
template <class Make>
Status make_chat(const moka_model* model, const moka_chat_options* given, moka_chat** out,
                 const Make& make) {
  MOKA_RETURN_IF_ERROR(begin_out(out));
  MOKA_RETURN_IF_ERROR(need(model, "model"));
  auto handle = std::make_unique<moka_chat>();
  ChatOptions options;
  MOKA_RETURN_IF_ERROR(chat_options(given, model->model(), handle.get(), &options));
  MOKA_ASSIGN_OR_RETURN(handle->chat, make(model->model(), options));
  *out = handle.release();
  return Status();
}

Status read_role(int32_t given, Role* role) {
  if (given < MOKA_ROLE_SYSTEM || given > MOKA_ROLE_MODEL) {
    return invalid("role is " + std::to_string(given) + ", must be one of MOKA_ROLE_SYSTEM (0), " +
                   "MOKA_ROLE_USER (1) and MOKA_ROLE_MODEL (2)");
  }
  *role = static_cast<Role>(given);
  return Status();
}

constexpr const char* kStepName = "moka_chat_step";

// Does `run(chat)`, which gives a ChatStep, and tells the caller of it. A step that cannot be told is
// refused before anything is done.
template <class Run>
moka_status step_of(moka_chat* chat, moka_chat_step* out, moka_error* error,
                    const Run& run) noexcept {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(chat, "chat"));
    if (out != nullptr) {
      MOKA_RETURN_IF_ERROR(check_size(out->struct_size, alignof(uint32_t), kStepName, "sizeof"));
    }
    MOKA_ASSIGN_OR_RETURN(const ChatStep step, run(*chat->chat));
    if (out == nullptr) return Status();
    return write_struct(moka_chat_step{sizeof(moka_chat_step), 0, step.turn, step.tokens_read,
                                       step.tokens_read_again, step.drafted, step.accepted},
                        kStepName, out);
  });
}

Result<GenerateOptions> generate_options(const Chat& chat, const moka_generate_options* given,
                                         const moka_sampler_options* sampling) {
  GenerateOptions options;
  MOKA_RETURN_IF_ERROR(read_generate(given, &options));
  if (sampling != nullptr) {
    MOKA_ASSIGN_OR_RETURN(options.sampling, sampling_from(sampling, chat.model()));
  }
  return options;
}

Status give_turn(const Chat& chat, const Turn& turn, moka_turn* out) {
  moka_turn value{};
  value.struct_size = sizeof value;
  value.role = static_cast<int32_t>(turn.role);
  value.end = static_cast<int32_t>(turn.end);
  value.kept = chat.is_kept(turn.id) ? 1 : 0;
  value.id = turn.id;
  value.parent = turn.parent;
  value.position = turn.position;
  value.text = turn.text.c_str();
  value.text_size = turn.text.size();
  value.tokens = turn.tokens.data();
  value.token_count = turn.tokens.size();
  value.template_head = turn.head;
  value.template_tail = turn.tail;
  return write_struct(value, "moka_turn", out);
}

static_assert(MOKA_START_OF_CHAT == kStartOfChat);
static_assert(MOKA_ROLE_SYSTEM == static_cast<int>(Role::kSystem));
static_assert(MOKA_ROLE_USER == static_cast<int>(Role::kUser));
static_assert(MOKA_ROLE_MODEL == static_cast<int>(Role::kModel));

}  // namespace
}  // namespace moka::capi

using namespace moka::capi;  // NOLINT: every function below is one of the C interface
using moka::Chat;
using moka::ChatOptions;
using moka::ChatStep;
using moka::Model;
using moka::Result;
using moka::Role;
using moka::Span;
using moka::Status;
using moka::StatusCode;
using moka::Turn;

void moka_chat_options_init(moka_chat_options* options, uint32_t struct_size) {
  init_struct(default_chat(), options, struct_size);
}

moka_status moka_chat_create(const moka_model* model, const moka_chat_options* options,
                             moka_chat** out, moka_error* error) {
  return border(error, [&]() -> Status {
    return make_chat(model, options, out,
                     [](const Model& m, const ChatOptions& o) { return Chat::create(m, o); });
  });
}

moka_status moka_chat_open(const moka_model* model, const void* bytes, size_t size,
                           const moka_chat_options* options, moka_chat** out, moka_error* error) {
  return border(error, [&]() -> Status {
    return make_chat(model, options, out,
                     [&](const Model& m, const ChatOptions& o) -> Result<Chat> {
                       MOKA_ASSIGN_OR_RETURN(const auto span, bytes_of(bytes, size, "bytes"));
                       return Chat::open(m, span, o);
                     });
  });
}

moka_status moka_chat_open_file(const moka_model* model, const char* path,
                                const moka_chat_options* options, moka_chat** out,
                                moka_error* error) {
  return border(error, [&]() -> Status {
    return make_chat(model, options, out,
                     [&](const Model& m, const ChatOptions& o) -> Result<Chat> {
                       MOKA_RETURN_IF_ERROR(need(path, "path"));
                       return Chat::open_file(m, path, o);
                     });
  });
}

moka_status moka_chat_save(const moka_chat* chat, void* bytes, size_t capacity, size_t* needed,
                           moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(chat, "chat"));
    MOKA_ASSIGN_OR_RETURN(const std::vector<uint8_t> saved, chat->chat->save());
    return give_bytes(saved, bytes, capacity, needed, "bytes");
  });
}

moka_status moka_chat_save_file(const moka_chat* chat, const char* path, moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(chat, "chat"));
    MOKA_RETURN_IF_ERROR(need(path, "path"));
    return chat->chat->save_file(path);
  });
}

void moka_chat_free(moka_chat* chat) { delete chat; }

moka_status moka_chat_append(moka_chat* chat, int32_t role, const char* text, size_t size,
                             moka_chat_step* step, moka_error* error) {
  return step_of(chat, step, error, [&](Chat& c) -> Result<ChatStep> {
    Role read = Role::kUser;
    MOKA_RETURN_IF_ERROR(read_role(role, &read));
    MOKA_ASSIGN_OR_RETURN(const std::string_view view, text_of(text, size, "text"));
    return c.append(read, view);
  });
}

moka_status moka_chat_branch(moka_chat* chat, moka_turn_id after, int32_t role, const char* text,
                             size_t size, moka_chat_step* step, moka_error* error) {
  return step_of(chat, step, error, [&](Chat& c) -> Result<ChatStep> {
    Role read = Role::kUser;
    MOKA_RETURN_IF_ERROR(read_role(role, &read));
    MOKA_ASSIGN_OR_RETURN(const std::string_view view, text_of(text, size, "text"));
    return c.branch(after, read, view);
  });
}

moka_status moka_chat_edit(moka_chat* chat, moka_turn_id turn, const char* text, size_t size,
                           moka_chat_step* step, moka_error* error) {
  return step_of(chat, step, error, [&](Chat& c) -> Result<ChatStep> {
    MOKA_ASSIGN_OR_RETURN(const std::string_view view, text_of(text, size, "text"));
    return c.edit(turn, view);
  });
}

moka_status moka_chat_generate(moka_chat* chat, const moka_generate_options* options,
                               const moka_sampler_options* sampling, moka_chat_step* step,
                               moka_error* error) {
  return step_of(chat, step, error, [&](Chat& c) -> Result<ChatStep> {
    MOKA_ASSIGN_OR_RETURN(const auto how, generate_options(c, options, sampling));
    return c.generate(how);
  });
}

moka_status moka_chat_regenerate(moka_chat* chat, const moka_generate_options* options,
                                 const moka_sampler_options* sampling, moka_chat_step* step,
                                 moka_error* error) {
  return step_of(chat, step, error, [&](Chat& c) -> Result<ChatStep> {
    MOKA_ASSIGN_OR_RETURN(const auto how, generate_options(c, options, sampling));
    return c.regenerate(how);
  });
}

moka_status moka_chat_undo(moka_chat* chat, moka_chat_step* step, moka_error* error) {
  return step_of(chat, step, error, [](Chat& c) { return c.undo(); });
}

moka_status moka_chat_switch_to(moka_chat* chat, moka_turn_id turn, moka_chat_step* step,
                                moka_error* error) {
  return step_of(chat, step, error, [&](Chat& c) { return c.switch_to(turn); });
}

moka_status moka_chat_remove(moka_chat* chat, moka_turn_id turn, moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(chat, "chat"));
    return chat->chat->remove(turn);
  });
}

void moka_chat_cancel(moka_chat* chat) {
  if (chat != nullptr) chat->chat->cancel();
}

size_t moka_chat_turn_count(const moka_chat* chat) {
  return chat == nullptr ? 0 : chat->chat->turns().size();
}

moka_status moka_chat_turn_at(const moka_chat* chat, size_t index, moka_turn* turn,
                              moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(chat, "chat"));
    const Span<const Turn> turns = chat->chat->turns();
    if (index >= turns.size()) {
      return Status(StatusCode::kOutOfRange, "index is " + std::to_string(index) +
                                                 ", the chat has " + std::to_string(turns.size()) +
                                                 " turns");
    }
    return give_turn(*chat->chat, turns[index], turn);
  });
}

moka_status moka_chat_find_turn(const moka_chat* chat, moka_turn_id id, moka_turn* turn,
                                moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(chat, "chat"));
    const Turn* found = chat->chat->find(id);
    if (found == nullptr) {
      return Status(StatusCode::kNotFound, "the chat has no turn " + std::to_string(id));
    }
    return give_turn(*chat->chat, *found, turn);
  });
}

moka_turn_id moka_chat_current(const moka_chat* chat) {
  return chat == nullptr ? MOKA_START_OF_CHAT : chat->chat->current();
}

moka_status moka_chat_path(const moka_chat* chat, moka_turn_id* turns, size_t capacity,
                           size_t* needed, moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(chat, "chat"));
    const std::vector<moka::TurnId> path = chat->chat->path();
    return give(Span<const moka_turn_id>(path), turns, capacity, needed, "turns");
  });
}

uint64_t moka_chat_kept_state_bytes(const moka_chat* chat) {
  return chat == nullptr ? 0 : chat->chat->kept_state_bytes();
}

const char* moka_chat_from(const moka_chat* chat) {
  return chat == nullptr ? nullptr : chat->chat->from().c_str();
}

moka_status moka_chat_logits(const moka_chat* chat, const float** logits, size_t* count,
                             moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(chat, "chat"));
    MOKA_RETURN_IF_ERROR(need(logits, "logits"));
    MOKA_RETURN_IF_ERROR(need(count, "count"));
    const Span<const float> row = chat->chat->logits();
    *logits = row.data();
    *count = row.size();
    return Status();
  });
}
