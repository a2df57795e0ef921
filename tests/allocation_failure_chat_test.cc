// Memory that runs out in a chat: the call says kOutOfMemory and the chat is as it was, to the bytes that
// it saves; the same call then does what it always does. allocation_trial.h says how.
#include <doctest/doctest.h>

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "converter/snapshot.h"
#include "moka/moka.h"
#include "tests/allocation_trial.h"
#include "tests/chat_testing.h"
#include "tests/checkpoint_builder.h"
#include "tests/process.h"
#include "tests/task_models.h"

namespace moka {
namespace {

using test::must;
using test::run_trial;

using Bytes = std::vector<uint8_t>;

Bytes saved(const Chat& chat) {
  auto bytes = chat.save();
  REQUIRE_MESSAGE(bytes.ok(), bytes.status().to_string());
  return std::move(bytes).value();
}

// A model file with a prefix snapshot.
struct ModelFile {
  explicit ModelFile(const test::TestModel& made) {
    test::write_task_model(path, made);
    SnapshotOptions one;
    one.threads = 1;
    REQUIRE(add_snapshot(path, {"coach", "You are a coach."}, one).ok());
  }
  Model open() const {
    OpenOptions options;
    options.executor.threads = 1;
    options.executor.chunk = 16;
    auto model = Model::open(path, options);
    REQUIRE_MESSAGE(model.ok(), model.status().to_string());
    return std::move(model).value();
  }

  test::TemporaryFolder folder;
  std::string path = folder / "m.moka";
};

ChatOptions plain() {
  ChatOptions options;
  options.saved_states =
      0;  // kept states are let go where memory is short, which a file would show
  options.format.id = "test";
  options.format.user = {"Q: ", "\n"};
  options.format.model = {"A: ", "\n"};
  options.sampling = SamplerOptions();
  options.sampling->seed = 3;
  options.sampling->repeat_penalty = 1.1f;
  return options;
}

ChatOptions behind_prefix() {
  ChatOptions options = plain();
  options.from = "coach";
  return options;
}

// Nothing is kept: every way back is read again.
ChatOptions forgetful() {
  ChatOptions options = plain();
  options.state_budget_bytes = 0;
  return options;
}

GenerateOptions writing() {
  GenerateOptions options = test::write_tokens(6);
  options.stop = {"never in it, for it is far too long"};
  options.on_text = [](std::string_view) { return true; };
  return options;
}

// A chat of four turns, "Hello" 1, an answer 2, "More?" 3, an answer 4, and what is done to it.
class Subject {
 public:
  // `also`: what is done to it before memory runs short.
  Subject(const ModelFile& file, ChatOptions options, std::function<void(Chat&)> also = {})
      : file_(file), options_(std::move(options)), also_(std::move(also)), write(writing()) {}
  void prepare() {
    model.emplace(file_.open());
    chat.emplace(test::new_chat(*model, options_));
    must(chat->append(Role::kUser, "Hello"));
    must(chat->generate(write));
    must(chat->append(Role::kUser, "More?"));
    must(chat->generate(write));
    if (also_) also_(*chat);
    before_ = saved(*chat);
  }
  void drop() {
    chat.reset();
    model.reset();
    before_ = {};
  }
  // Whether the call did all or nothing. After nothing, it does all.
  void check(bool ok, const Bytes& want, const std::function<Status(Subject&)>& call) {
    if (!ok) {
      CHECK(saved(*chat) == before_);
      CHECK(call(*this).ok());
    }
    CHECK(saved(*chat) == want);
  }

 private:
  const ModelFile& file_;
  const ChatOptions options_;
  const std::function<void(Chat&)> also_;
  Bytes before_;

 public:
  const GenerateOptions write;
  std::optional<Model> model;
  std::optional<Chat> chat;
};

void run_on_chat(const std::string& name, const ModelFile& file, const ChatOptions& options,
                 const std::function<Status(Subject&)>& call,
                 const std::function<void(Chat&)>& also = {}) {
  Subject subject(file, options, also);
  subject.prepare();
  REQUIRE(call(subject).ok());
  const Bytes want = saved(*subject.chat);
  subject.drop();
  run_trial({name, [&] { return call(subject); }, [&](bool ok) { subject.check(ok, want, call); },
             [&] { subject.prepare(); }, [&] { subject.drop(); }});
}

void run_turns(const ModelFile& file, const ChatOptions& options) {
  run_on_chat("chat append", file, options,
              [](Subject& s) { return s.chat->append(Role::kUser, "And then?").status(); });
  run_on_chat("chat generate", file, options,
              [](Subject& s) { return s.chat->generate(s.write).status(); });
  run_on_chat("chat regenerate", file, options,
              [](Subject& s) { return s.chat->regenerate(s.write).status(); });
  run_on_chat("chat undo", file, options, [](Subject& s) { return s.chat->undo().status(); });
  run_on_chat("chat switch_to", file, options,
              [](Subject& s) { return s.chat->switch_to(1).status(); });
}

}  // namespace

TEST_CASE("allocation failure: turns of a chat are added whole or not at all") {
  if (!test::can_fail_allocations()) return;
  const ModelFile file(test::make_test_model(test::chat_model_options()));
  for (const ChatOptions& options : {plain(), forgetful(), behind_prefix()}) {
    CAPTURE(options.from);
    CAPTURE(options.state_budget_bytes);
    run_turns(file, options);
  }
  run_on_chat("chat branch", file, plain(),
              [](Subject& s) { return s.chat->branch(1, Role::kSystem, "Be brief.").status(); });
  run_on_chat("chat edit", file, plain(),
              [](Subject& s) { return s.chat->edit(1, "Good evening").status(); });
  GenerateOptions seeded = writing();
  seeded.sampling = SamplerOptions();
  seeded.sampling->seed = 9;
  run_on_chat("chat generate, other sampling", file, plain(),
              [&](Subject& s) { return s.chat->generate(seeded).status(); });
  run_on_chat(
      "chat remove", file, plain(), [](Subject& s) { return s.chat->remove(3); },
      [](Chat& chat) { must(chat.switch_to(2)); });
}

TEST_CASE("allocation failure: turns of a chat whose cache grows") {
  if (!test::can_fail_allocations()) return;
  const ModelFile file(test::softmax_model());
  run_turns(file, plain());
}

TEST_CASE("allocation failure: making, saving and opening chats") {
  if (!test::can_fail_allocations()) return;
  const ModelFile file(test::make_test_model(test::chat_model_options()));
  const Model model = file.open();
  for (const ChatOptions& options : {plain(), behind_prefix()}) {
    CAPTURE(options.from);
    run_trial({"chat create", [&] { return Chat::create(model, options).status(); }});
    Subject subject(file, options);
    subject.prepare();
    const Bytes want = saved(*subject.chat);
    const auto unchanged = [&](bool) { CHECK(saved(*subject.chat) == want); };
    run_trial({"chat save", [&] { return subject.chat->save().status(); }, unchanged});

    const std::string path = file.folder / "kept.chat";
    const std::string old = "what was there before";
    run_trial({"chat save_file", [&] { return subject.chat->save_file(path); },
               [&](bool ok) {
                 const std::string now = test::read_file(path);
                 const bool is_new = now == std::string(want.begin(), want.end());
                 CHECK((is_new || (!ok && now == old)));
                 CHECK(test::names_in(file.folder.path()).size() == 2);
               },
               [&] { test::write_file(path, old); }});

    // What opened although something failed must be the chat.
    std::optional<Chat> opened;
    const auto same = [&](bool ok) {
      if (ok) CHECK(saved(*opened) == want);
    };
    const auto drop = [&] { opened.reset(); };
    run_trial({"chat open",
               [&]() -> Status {
                 MOKA_ASSIGN_OR_RETURN(Chat chat, Chat::open(model, want, options));
                 opened.emplace(std::move(chat));
                 return Status();
               },
               same, [] {}, drop});
    test::write_file(path, std::string(want.begin(), want.end()));
    run_trial({"chat open_file",
               [&]() -> Status {
                 MOKA_ASSIGN_OR_RETURN(Chat chat, Chat::open_file(model, path, options));
                 opened.emplace(std::move(chat));
                 return Status();
               },
               same, [] {}, drop});
  }
}

}  // namespace moka
