// Chats through moka.h. What a Chat does is tested in C++ (chat_test.cc); here, that it gets across.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/capi_testing.h"
#include "tests/task_models.h"
#include "tests/temp_folder.h"

namespace moka::test {
namespace {

Handle<moka_chat> new_chat(const CModel& model, const moka_chat_options* options = nullptr) {
  moka_chat* chat = nullptr;
  CAPI_OK(moka_chat_create(model.get(), options, &chat, &error));
  return Handle<moka_chat>(chat);
}

moka_chat_step say(moka_chat* chat, const std::string& text) {
  moka_chat_step step{};
  step.struct_size = sizeof step;
  CAPI_OK(moka_chat_append(chat, MOKA_ROLE_USER, text.data(), text.size(), &step, &error));
  return step;
}

moka_turn turn_of(const moka_chat* chat, moka_turn_id id) {
  moka_turn turn{};
  turn.struct_size = sizeof turn;
  CAPI_OK(moka_chat_find_turn(chat, id, &turn, &error));
  return turn;
}

std::vector<moka_turn_id> path_of(const moka_chat* chat) {
  size_t needed = 0;
  CAPI_OK(moka_chat_path(chat, nullptr, 0, &needed, &error));
  std::vector<moka_turn_id> path(needed);
  CAPI_OK(moka_chat_path(chat, path.data(), path.size(), nullptr, &error));
  return path;
}

std::vector<float> logits_of(const moka_chat* chat) {
  const float* row = nullptr;
  size_t count = 0;
  CAPI_OK(moka_chat_logits(chat, &row, &count, &error));
  return std::vector<float>(row, row + count);
}

moka_generate_options short_answer() {
  moka_generate_options options;
  moka_generate_options_init(&options, sizeof options);
  options.max_tokens = 6;
  options.stop_at_end = 0;
  return options;
}

}  // namespace

TEST_CASE("capi: a chat with turns that are written, undone, edited and chosen again") {
  CModel model = open_test_model(byte_language_model().spec);
  const Handle<moka_chat> chat = new_chat(model);
  CHECK(moka_chat_current(chat.get()) == MOKA_START_OF_CHAT);
  const moka_chat_step first = say(chat.get(), "hello");
  CHECK(first.turn == 1);
  CHECK(first.tokens_read >= 5);
  CHECK(first.tokens_read_again == 0);

  const moka_generate_options how = short_answer();
  moka_sampler_options sampling;
  moka_sampler_options_init(&sampling, sizeof sampling, model.get());
  sampling.temperature = 1.0f;
  sampling.seed = 4;
  moka_chat_step step{};
  step.struct_size = sizeof step;
  CAPI_OK(moka_chat_generate(chat.get(), &how, &sampling, &step, &error));
  const moka_turn answer = turn_of(chat.get(), step.turn);
  CHECK(answer.role == MOKA_ROLE_MODEL);
  CHECK(answer.end == MOKA_END_TOKENS);
  CHECK(answer.parent == first.turn);
  CHECK(answer.token_count - answer.template_head - answer.template_tail == 6);
  CHECK(answer.kept == 1);
  CHECK(moka_chat_kept_state_bytes(chat.get()) > 0);
  const std::string answer_text(answer.text, answer.text_size);
  const std::vector<float> after = logits_of(chat.get());

  CAPI_OK(moka_chat_regenerate(chat.get(), &how, nullptr, &step, &error));
  CHECK(step.turn == 3);
  CHECK(turn_of(chat.get(), 3).parent == first.turn);
  CAPI_OK(moka_chat_undo(chat.get(), &step, &error));
  CHECK(step.turn == first.turn);
  CAPI_OK(moka_chat_switch_to(chat.get(), answer.id, nullptr, &error));
  CHECK(logits_of(chat.get()) == after);
  CHECK(path_of(chat.get()) == std::vector<moka_turn_id>{1, 2});

  CAPI_OK(moka_chat_edit(chat.get(), first.turn, "good day", 8, &step, &error));
  CHECK(step.turn == 4);
  const moka_turn edited = turn_of(chat.get(), 4);
  CHECK(edited.parent == MOKA_START_OF_CHAT);
  CHECK(edited.role == MOKA_ROLE_USER);
  CHECK(edited.end == MOKA_END_NONE);
  CHECK(std::string(edited.text, edited.text_size) == "good day");
  CAPI_OK(moka_chat_branch(chat.get(), 2, MOKA_ROLE_SYSTEM, "go on", 5, &step, &error));
  CHECK(path_of(chat.get()) == std::vector<moka_turn_id>{1, 2, 5});
  CHECK(moka_chat_turn_count(chat.get()) == 5);
  moka_turn turn{};
  turn.struct_size = sizeof turn;
  CAPI_OK(moka_chat_turn_at(chat.get(), 1, &turn, &error));
  CHECK(std::string(turn.text, turn.text_size) == answer_text);
  CAPI_FAILS_WITH(moka_chat_remove(chat.get(), 1, &error), MOKA_FAILED_PRECONDITION, "");
  CAPI_OK(moka_chat_remove(chat.get(), 4, &error));
  CHECK(moka_chat_turn_count(chat.get()) == 4);

  model.handle.reset();  // the chat keeps its model
  say(chat.get(), "still here");
}

TEST_CASE("capi: chats are saved and opened") {
  const TempFolder folder;
  const CModel model = open_test_model(byte_language_model().spec);
  moka_chat_options options;
  moka_chat_options_init(&options, sizeof options);
  options.template_id = "brackets";
  options.user_prefix = "[";
  options.user_suffix = "]";
  const Handle<moka_chat> chat = new_chat(model, &options);
  say(chat.get(), "hi");
  const moka_turn turn = turn_of(chat.get(), 1);
  CHECK(turn.template_tail == 1);
  size_t needed = 0;
  CAPI_OK(moka_chat_save(chat.get(), nullptr, 0, &needed, &error));
  std::vector<uint8_t> bytes(needed);
  CAPI_OK(moka_chat_save(chat.get(), bytes.data(), bytes.size(), nullptr, &error));
  const std::string path = folder.file("chat");
  CAPI_OK(moka_chat_save_file(chat.get(), path.c_str(), &error));

  moka_chat* opened = nullptr;
  CAPI_OK(moka_chat_open(model.get(), bytes.data(), bytes.size(), &options, &opened, &error));
  const Handle<moka_chat> from_bytes(opened);
  CAPI_OK(moka_chat_open_file(model.get(), path.c_str(), &options, &opened, &error));
  const Handle<moka_chat> from_file(opened);
  say(chat.get(), "and on");
  for (moka_chat* other : {from_bytes.get(), from_file.get()}) {
    say(other, "and on");
    CHECK(logits_of(other) == logits_of(chat.get()));
  }
  CAPI_FAILS_WITH(moka_chat_open(model.get(), bytes.data(), bytes.size(), nullptr, &opened, &error),
                  MOKA_FAILED_PRECONDITION, "brackets");
  CHECK(opened == nullptr);
  bytes[bytes.size() / 2] ^= 1;
  CHECK(moka_chat_open(model.get(), bytes.data(), bytes.size(), &options, &opened, nullptr) ==
        MOKA_CORRUPT);
  CAPI_FAILS_WITH(
      moka_chat_open_file(model.get(), folder.file("none").c_str(), &options, &opened, &error),
      MOKA_NOT_FOUND, "none: cannot open");
}

TEST_CASE("capi: a chat tells its progress, and is cancelled by it") {
  const CModel model = open_test_model(byte_language_model().spec);
  moka_executor* created = nullptr;
  CAPI_OK(moka_executor_create(model.get(), nullptr, &created, &error));
  struct Seen {
    uint64_t done = 0, total = 0;
    int32_t again = 0, answer = 0;
  } seen;
  moka_chat_options options;
  moka_chat_options_init(&options, sizeof options);
  options.executor = created;
  options.state_budget_bytes = 0;
  options.progress = [](void* user, uint64_t done, uint64_t total, int32_t again) -> int32_t {
    Seen& all = *static_cast<Seen*>(user);
    all.done = done;
    all.total = total;
    all.again |= again;
    return all.answer;
  };
  options.progress_user = &seen;
  const Handle<moka_chat> chat = new_chat(model, &options);
  moka_executor_free(created);  // the chat keeps its executor
  say(chat.get(), "one");
  CHECK(seen.done == seen.total);
  CHECK(seen.total >= 3);
  CHECK(seen.again == 0);
  say(chat.get(), "two");
  moka_chat_step step{};
  step.struct_size = sizeof step;
  CHECK(turn_of(chat.get(), 1).kept == 0);
  CAPI_OK(moka_chat_undo(chat.get(), &step, &error));
  CHECK(seen.again == 1);
  CHECK(step.tokens_read_again >= 3);

  seen.answer = 1;
  CAPI_FAILS_WITH(moka_chat_append(chat.get(), MOKA_ROLE_USER, "x", 1, nullptr, &error),
                  MOKA_CANCELLED, "");
  CHECK(moka_chat_current(chat.get()) == 1);
  seen.answer = 0;
  moka_chat_cancel(chat.get());
  CHECK(moka_chat_append(chat.get(), MOKA_ROLE_USER, "x", 1, nullptr, nullptr) == MOKA_CANCELLED);
  say(chat.get(), "x");
}

TEST_CASE("capi: chats refuse what cannot be") {
  const CModel model = open_test_model(byte_language_model().spec);
  const Handle<moka_chat> chat = new_chat(model);
  CAPI_FAILS(moka_chat_append(chat.get(), 3, "a", 1, nullptr, &error), MOKA_INVALID_ARGUMENT,
             "role is 3, must be one of MOKA_ROLE_SYSTEM (0), MOKA_ROLE_USER (1) and "
             "MOKA_ROLE_MODEL (2)");
  CAPI_FAILS(moka_chat_append(chat.get(), MOKA_ROLE_USER, nullptr, 1, nullptr, &error),
             MOKA_INVALID_ARGUMENT, "text is NULL, but has 1 elements");
  moka_chat_step step{};
  CAPI_FAILS(moka_chat_append(chat.get(), MOKA_ROLE_USER, "a", 1, &step, &error),
             MOKA_INVALID_ARGUMENT,
             "moka_chat_step.struct_size is 0, which is no size of this struct; set it with "
             "sizeof");
  CHECK(moka_chat_turn_count(chat.get()) == 0);  // refused before anything was read
  CHECK(moka_chat_undo(chat.get(), nullptr, nullptr) == MOKA_FAILED_PRECONDITION);
  CHECK(moka_chat_switch_to(chat.get(), 7, nullptr, nullptr) == MOKA_NOT_FOUND);
  moka_turn turn{};
  turn.struct_size = sizeof turn;
  CAPI_FAILS(moka_chat_find_turn(chat.get(), 7, &turn, &error), MOKA_NOT_FOUND,
             "the chat has no turn 7");
  CAPI_FAILS(moka_chat_turn_at(chat.get(), 0, &turn, &error), MOKA_OUT_OF_RANGE,
             "index is 0, the chat has 0 turns");
  moka_chat* none = chat.get();
  const CModel classes = open_test_model(classifier_model().spec);
  CHECK(moka_chat_create(classes.get(), nullptr, &none, nullptr) == MOKA_UNSUPPORTED);
  CHECK(none == nullptr);
  CHECK(moka_chat_create(nullptr, nullptr, &none, nullptr) == MOKA_INVALID_ARGUMENT);
  CHECK(moka_chat_open(model.get(), nullptr, 4, nullptr, &none, nullptr) == MOKA_INVALID_ARGUMENT);
  for (const moka_status status :
       {moka_chat_append(nullptr, 0, "a", 1, nullptr, nullptr),
        moka_chat_generate(nullptr, nullptr, nullptr, nullptr, nullptr),
        moka_chat_save(nullptr, nullptr, 0, nullptr, nullptr),
        moka_chat_save_file(chat.get(), nullptr, nullptr), moka_chat_remove(nullptr, 1, nullptr),
        moka_chat_path(nullptr, nullptr, 0, nullptr, nullptr),
        moka_chat_turn_at(nullptr, 0, &turn, nullptr),
        moka_chat_logits(chat.get(), nullptr, nullptr, nullptr)}) {
    CHECK(status == MOKA_INVALID_ARGUMENT);
  }
  CHECK(moka_chat_turn_count(nullptr) == 0);
  CHECK(moka_chat_current(nullptr) == MOKA_START_OF_CHAT);
  CHECK(moka_chat_kept_state_bytes(nullptr) == 0);
  moka_chat_cancel(nullptr);
  moka_chat_free(nullptr);
}

}  // namespace moka::test
