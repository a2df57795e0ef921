// How turns of a chat end, and what a call that does not get to its end leaves: nothing.
#include <atomic>
#include <chrono>
#include <new>
#include <thread>

#include "doctest/doctest.h"
#include "tests/chat_testing.h"
#include "tests/task_models.h"

namespace moka {
namespace {

using test::chat_model_options;
using test::must;
using test::new_chat;
using test::open_chat_model;
using test::read_branch;
using test::row_of;
using test::TestModel;
using test::write_tokens;

struct ByteModel {
  TestModel made = test::make_test_model(chat_model_options());
  Model model = open_chat_model(made);
};

// Draws this token and no other.
SamplerOptions only(TokenId token) {
  SamplerOptions options;
  options.temperature = 0.0f;
  options.bias = {{token, 1e6f}};
  return options;
}

// Writes the bytes of `text`, a turn for each.
void write_bytes(Chat* chat, const std::string& text) {
  for (const char byte : text) {
    GenerateOptions options = write_tokens(1);
    options.sampling = only(static_cast<unsigned char>(byte));
    must(chat->generate(options));
  }
}

std::string last_text(const Chat& chat) { return chat.find(chat.current())->text; }

// What a chat shows of itself, and what it would write next.
struct Snapshot {
  TurnId current;
  size_t turns;
  std::vector<float> logits;
  std::vector<TokenId> next;

  explicit Snapshot(const Chat& chat)
      : current(chat.current()), turns(chat.turns().size()), logits(row_of(chat.logits())) {}
};

// `chat` must be as it was; the same generator as `twin`, which took the same road without the
// call.
void check_unchanged(Chat* chat, const Snapshot& before, Chat* twin) {
  CHECK(chat->current() == before.current);
  CHECK(chat->turns().size() == before.turns);
  CHECK(row_of(chat->logits()) == before.logits);
  must(chat->generate(write_tokens(20)));
  must(twin->generate(write_tokens(20)));
  CHECK(chat->find(chat->current())->tokens == twin->find(twin->current())->tokens);
  CHECK(row_of(chat->logits()) == row_of(twin->logits()));
}

}  // namespace

TEST_CASE_FIXTURE(ByteModel, "chat: a turn ends at its tokens, its time, or when on_text says so") {
  Chat chat = new_chat(model);
  must(chat.append(Role::kUser, "a"));
  GenerateOptions options = write_tokens(4);
  options.sampling = only('z');
  std::string heard;
  options.on_text = [&heard](std::string_view text) {
    heard.append(text);
    return true;
  };
  must(chat.generate(options));
  CHECK(chat.find(2)->end == TurnEnd::kTokenBudget);
  CHECK(chat.find(2)->text == "zzzz");
  CHECK(heard == "zzzz");
  options.on_text = [&heard](std::string_view text) {
    heard.append(text);
    return heard.size() < 7;
  };
  options.max_tokens = 1000;
  must(chat.generate(options));
  CHECK(chat.find(3)->end == TurnEnd::kCallback);
  CHECK(chat.find(3)->text == "zzz");  // it stays
  CHECK(chat.find(3)->tokens.size() == 3);
  options.on_text = [](std::string_view) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    return true;
  };
  options.max_ms = 1;
  must(chat.generate(options));
  CHECK(chat.find(4)->end == TurnEnd::kTimeBudget);
  CHECK(chat.find(4)->tokens.size() == 1);  // there is always one
}

TEST_CASE_FIXTURE(ByteModel,
                  "chat: a turn that goes round in circles ends, unless that is wanted") {
  Chat chat = new_chat(model);
  must(chat.append(Role::kUser, "a"));
  GenerateOptions options = write_tokens(300);
  options.sampling = only('z');
  must(chat.generate(options));
  CHECK(chat.find(2)->end == TurnEnd::kLoop);
  CHECK(chat.find(2)->text == std::string(256, 'z'));
  options.loop_tokens = 8;
  must(chat.generate(options));
  CHECK(chat.find(3)->end == TurnEnd::kLoop);
  CHECK(chat.find(3)->text == "zzzzzzzz");  // what came before the turn does not count
  CHECK(turn_end_name(chat.find(3)->end) == std::string("loop"));
  options.loop_tokens = 0;
  must(chat.generate(options));
  CHECK(chat.find(4)->end == TurnEnd::kTokenBudget);
  CHECK(chat.find(4)->tokens.size() == 300);
  options.loop_tokens = 65537;
  const Status status = chat.generate(options).status();
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message() == "loop_tokens is 65537, must be at most 65536");
}

TEST_CASE_FIXTURE(ByteModel, "chat: a stop token is not read, and a turn may have no text") {
  Chat chat = new_chat(model);
  must(chat.append(Role::kUser, "a"));
  const std::vector<float> before = row_of(chat.logits());
  GenerateOptions options;
  for (const TokenId end : {258, 259, 77}) {
    options.sampling = only(end);
    options.stop_tokens = {5, 77};
    const ChatStep step = must(chat.generate(options));
    const Turn& turn = *chat.find(step.turn);
    CHECK(turn.end == TurnEnd::kStopToken);
    CHECK(turn.tokens.empty());
    CHECK(turn.text == "");
    CHECK(row_of(chat.logits()) == before);
  }
  options.sampling = only(259);
  options.stop_at_end = false;
  options.max_tokens = 2;
  must(chat.generate(options));
  CHECK(chat.find(5)->tokens == std::vector<TokenId>{259, 259});
  CHECK(chat.find(5)->text == "");  // control tokens have none
}

TEST_CASE_FIXTURE(ByteModel, "chat: a stop text is read, but held back from the text") {
  Chat chat = new_chat(model);
  must(chat.append(Role::kUser, "a"));
  GenerateOptions options = write_tokens(50);
  options.sampling = only('z');
  options.stop = {"yy", "zzzz"};
  std::vector<std::string> heard;
  options.on_text = [&heard](std::string_view text) {
    heard.emplace_back(text);
    return true;
  };
  must(chat.generate(options));
  CHECK(chat.find(2)->end == TurnEnd::kStopText);
  CHECK(chat.find(2)->text == "");
  CHECK(chat.find(2)->tokens.size() == 4);
  CHECK(heard.empty());
  // What never becomes a stop text comes out in the end.
  options.max_tokens = 3;
  must(chat.generate(options));
  CHECK(chat.find(3)->end == TurnEnd::kTokenBudget);
  CHECK(chat.find(3)->text == "zzz");
  CHECK(heard == std::vector<std::string>{"zzz"});
  options.stop = {"zq"};
  options.max_tokens = 4;
  heard.clear();
  must(chat.generate(options));
  CHECK(heard == std::vector<std::string>{"z", "z", "z", "z"});
  CHECK(row_of(chat.logits()) == row_of(read_branch(model, chat, 4).logits()));
}

TEST_CASE_FIXTURE(ByteModel, "chat: characters come out whole, also across generated turns") {
  Chat chat = new_chat(model);
  must(chat.append(Role::kUser, "a"));
  write_bytes(&chat, "\xE2\x82\xAC");
  CHECK(chat.find(2)->text == "");
  CHECK(chat.find(3)->text == "");
  CHECK(last_text(chat) == "\xE2\x82\xAC");
  write_bytes(&chat, "\xF0\x9F");
  must(chat.append(Role::kUser, "b"));  // the model's character stays incomplete
  write_bytes(&chat, "c");
  CHECK(last_text(chat) == "c");
  write_bytes(&chat, "\xE2");
  write_bytes(&chat, "c");  // what the byte began will never be a character
  CHECK(last_text(chat) ==
        "\xEF\xBF\xBD"
        "c");
  // From the start, where the model writes the first turn too.
  must(chat.switch_to(kStartOfChat));
  write_bytes(&chat, "\xC3\xA9");
  CHECK(last_text(chat) == "\xC3\xA9");
  CHECK(chat.find(chat.path().front())->tokens == std::vector<TokenId>{258, 0xC3});
}

TEST_CASE_FIXTURE(ByteModel, "chat: a template stands around every turn") {
  ChatOptions options;
  options.format.id = "test";
  options.format.user = {"<bos>U:", "<eos>"};
  options.format.model = {"M:", "<eos>."};
  options.state_budget_bytes = 0;
  Chat chat = new_chat(model, options);
  must(chat.append(Role::kUser, "<eos>"));
  CHECK(chat.find(1)->tokens ==
        std::vector<TokenId>{258, 258, 'U', ':', '<', 'e', 'o', 's', '>', 259});
  CHECK(chat.find(1)->head == 4);
  CHECK(chat.find(1)->tail == 1);
  CHECK(chat.find(1)->text == "<eos>");
  GenerateOptions write = write_tokens(3);
  write.sampling = only('z');
  CHECK(must(chat.generate(write)).tokens_read == 7);
  CHECK(chat.find(2)->tokens == std::vector<TokenId>{'M', ':', 'z', 'z', 'z', 259, '.'});
  CHECK(chat.find(2)->text == "zzz");
  CHECK(chat.find(2)->head == 2);
  CHECK(chat.find(2)->tail == 2);
  write.stop_at_end = true;
  write.sampling = only(259);
  must(chat.regenerate(write));  // however a turn ends, its end is the template's
  CHECK(chat.find(3)->tokens == std::vector<TokenId>{'M', ':', 259, '.'});
  CHECK(must(chat.append(Role::kUser, "")).turn == 4);  // the template has tokens
  must(chat.switch_to(2));
  CHECK(row_of(chat.logits()) == row_of(read_branch(model, chat, 2).logits()));
}

TEST_CASE_FIXTURE(ByteModel, "chat: progress that ends a call undoes it") {
  for (const uint64_t budget : {uint64_t{0}, uint64_t{1} << 24}) {
    int left = 1000;
    ChatOptions options;
    options.state_budget_bytes = budget;
    options.progress = [&left](const ReadProgress&) { return --left != 0; };
    Chat chat = new_chat(model, options);
    Chat twin = new_chat(model);
    for (Chat* each : {&chat, &twin}) {
      must(each->append(Role::kUser, "begin"));
      must(each->generate(write_tokens(40)));
    }
    const Snapshot before(chat);
    for (const int at : {1, 2, 3}) {
      left = at;
      const auto step = chat.append(Role::kUser, std::string(100, 'x'));
      REQUIRE_FALSE(step.ok());
      CHECK(step.status().code() == StatusCode::kCancelled);
    }
    CHECK(chat.append(Role::kUser, "").status().code() == StatusCode::kInvalidArgument);
    left = 2;
    const auto step = chat.undo();
    CHECK(step.ok() == (budget != 0));  // a kept state needs no reading
    if (!step.ok()) {
      CHECK(step.status().message().rfind("ended by the progress callback at 6 of 6 tokens", 0) ==
            0);
    } else {
      must(chat.switch_to(2));
    }
    left = 1000;
    check_unchanged(&chat, before, &twin);
  }
}

TEST_CASE_FIXTURE(ByteModel, "chat: cancel from another thread undoes what is being read") {
  std::atomic<bool> reading{false};
  ChatOptions options;
  options.progress = [&reading](const ReadProgress&) {
    reading.store(true);
    return true;
  };
  Chat chat = new_chat(model, options);
  Chat twin = new_chat(model);
  for (Chat* each : {&chat, &twin}) must(each->append(Role::kUser, "begin"));
  const Snapshot before(chat);
  reading.store(false);
  std::thread other([&] {
    while (!reading.load()) std::this_thread::yield();
    chat.cancel();
  });
  const auto step = chat.append(Role::kUser, std::string(4 << 20, 'x'));  // some seconds of reading
  other.join();
  REQUIRE_FALSE(step.ok());
  CHECK(step.status().code() == StatusCode::kCancelled);
  CHECK(step.status().message() == "cancelled; the chat is at its last turn");
  check_unchanged(&chat, before, &twin);
}

TEST_CASE_FIXTURE(ByteModel, "chat: cancel from another thread undoes what is being written") {
  Chat chat = new_chat(model);
  Chat twin = new_chat(model);
  for (Chat* each : {&chat, &twin}) {
    must(each->append(Role::kUser, "begin"));
    must(each->generate(write_tokens(10)));
  }
  const Snapshot before(chat);
  std::atomic<int> texts{0};
  GenerateOptions options = write_tokens(uint64_t{1} << 30);
  options.sampling = only('z');
  options.loop_tokens = 0;
  options.on_text = [&texts](std::string_view) {
    texts.fetch_add(1);
    return true;
  };
  std::thread other([&] {
    while (texts.load() < 50) std::this_thread::yield();
    chat.cancel();
  });
  const auto step = chat.generate(options);
  other.join();
  REQUIRE_FALSE(step.ok());
  CHECK(step.status().code() == StatusCode::kCancelled);
  CHECK(chat.sampling().bias.empty());  // the sampling that came with it is gone, too
  check_unchanged(&chat, before, &twin);
}

TEST_CASE_FIXTURE(ByteModel, "chat: a cancel without a call ends the next one, and no other") {
  Chat chat = new_chat(model);
  chat.cancel();
  chat.cancel();
  CHECK(chat.append(Role::kUser, "a").status().code() == StatusCode::kCancelled);
  must(chat.append(Role::kUser, "a"));
  GenerateOptions options = write_tokens(3);
  options.on_text = [&chat, n = 0](std::string_view) mutable {
    if (++n == 3) chat.cancel();  // too late: the turn is complete
    return true;
  };
  options.sampling = only('z');
  must(chat.generate(options));
  must(chat.append(Role::kUser, "b"));
}

TEST_CASE_FIXTURE(ByteModel, "chat: lack of memory in the middle of a turn undoes it") {
  Chat chat = new_chat(model);
  Chat twin = new_chat(model);
  for (Chat* each : {&chat, &twin}) must(each->append(Role::kUser, "begin"));
  const Snapshot before(chat);
  GenerateOptions options = write_tokens(20);
  options.on_text = [n = 0](std::string_view) mutable {
    if (++n == 5) throw std::bad_alloc();
    return true;
  };
  const auto step = chat.generate(options);
  REQUIRE_FALSE(step.ok());
  CHECK(step.status().code() == StatusCode::kOutOfMemory);
  check_unchanged(&chat, before, &twin);
}

TEST_CASE_FIXTURE(ByteModel, "chat: what cannot be is refused, with code and reason") {
  Chat chat = new_chat(model);
  const auto check = [](const Status& status, StatusCode code, const std::string& message) {
    CHECK(status.code() == code);
    CHECK(status.message() == message);
  };
  check(chat.undo().status(), StatusCode::kFailedPrecondition, "the chat is at its start");
  check(chat.regenerate().status(), StatusCode::kFailedPrecondition,
        "nothing was generated yet: the chat is at its start");
  check(chat.edit(kStartOfChat, "x").status(), StatusCode::kInvalidArgument,
        "the start of the chat is no turn to edit");
  check(chat.edit(3, "x").status(), StatusCode::kNotFound, "the chat has no turn 3");
  check(chat.branch(9, Role::kUser, "x").status(), StatusCode::kNotFound, "the chat has no turn 9");
  check(chat.append(static_cast<Role>(3), "x").status(), StatusCode::kInvalidArgument,
        "role is 3, not 0 to 2");
  must(chat.append(Role::kUser, "x"));
  check(chat.append(Role::kUser, "").status(), StatusCode::kInvalidArgument,
        "the text has no tokens");
  check(chat.regenerate().status(), StatusCode::kFailedPrecondition,
        "turn 1 was given, not generated; generate() goes on from it");
  GenerateOptions options;
  options.max_tokens = 0;
  check(chat.generate(options).status(), StatusCode::kInvalidArgument,
        "max_tokens is 0, must be at least 1");
  options.max_tokens = (uint64_t{1} << 30) + 1;
  check(chat.generate(options).status(), StatusCode::kInvalidArgument,
        "max_tokens is 1073741825, at most 1073741824");
  options = {};
  options.stop_tokens = {3, 260};
  check(chat.generate(options).status(), StatusCode::kOutOfRange,
        "stop_tokens[1] is 260, ids are 0 to 259");
  options = {};
  options.stop = {"a", ""};
  check(chat.generate(options).status(), StatusCode::kInvalidArgument,
        "stop[1]: 0 bytes, not 1 to 4096");
  options.stop = {"\xE2\x82"};
  check(chat.generate(options).status(), StatusCode::kInvalidArgument,
        "stop[0]: is not UTF-8, so no text can have it");
  options.stop.assign(65, "a");
  check(chat.generate(options).status(), StatusCode::kInvalidArgument,
        "stop: 65 texts, at most 64");
  options = {};
  options.sampling = SamplerOptions{};
  options.sampling->top_p = 2.0f;
  CHECK(chat.generate(options).status().code() == StatusCode::kInvalidArgument);
  CHECK(chat.turns().size() == 1);

  ChatOptions bad;
  bad.sampling = SamplerOptions{};
  bad.sampling->temperature = -1.0f;
  CHECK(Chat::create(model, bad).status().code() == StatusCode::kInvalidArgument);
  bad = {};
  bad.format.user.suffix.resize((1 << 20) + 1);
  check(Chat::create(model, bad).status(), StatusCode::kInvalidArgument,
        "format.user.suffix has 1048577 bytes, at most 1048576");
}

TEST_CASE("chat: models that cannot chat are refused with the reason") {
  const auto refusal = [](const TestModel& made) {
    const auto model = Model::from_spec(made.spec);
    REQUIRE_MESSAGE(model.ok(), model.status().message());
    const Status status = Chat::create(model.value()).status();
    CHECK(status.code() == StatusCode::kUnsupported);
    const std::string start = "a chat needs a causal language model with a tokenizer; this model ";
    CHECK(status.message().rfind(start, 0) == 0);
    return status.message().substr(std::min(start.size(), status.message().size()));
  };
  CHECK(refusal(test::classifier_model()) == "does not predict tokens");
  CHECK(refusal(test::make_test_model()) == "has no tokenizer");
  CHECK(refusal(test::memory_model(true)) == "answers from a second sequence");
}

TEST_CASE("chat: the position limit is known before anything is read") {
  test::TestModelOptions settings = chat_model_options();
  settings.positions = PositionKind::kLearned;
  settings.max_length = 20;
  const TestModel made = test::make_test_model(settings);
  const Model model = open_chat_model(made);
  ChatOptions chat_options;
  bool asked = false;
  chat_options.progress = [&asked](const ReadProgress&) { return asked = true; };
  chat_options.format.model.suffix = "!";
  Chat chat = new_chat(model, chat_options);
  const Status status = chat.append(Role::kUser, std::string(20, 'x')).status();
  CHECK(status.code() == StatusCode::kOutOfRange);
  CHECK(status.message() == "the turn has 21 tokens behind 0; the model reads at most 20");
  CHECK_FALSE(asked);
  must(chat.append(Role::kUser, std::string(10, 'x')));
  must(chat.generate(write_tokens(100)));
  CHECK(chat.find(2)->end == TurnEnd::kPositionLimit);
  CHECK(chat.find(2)->tokens.size() == 9);
  CHECK(chat.find(2)->tokens.back() == '!');  // there was room for the template
  CHECK(chat.find(2)->position == 20);
  CHECK(chat.generate().status().code() == StatusCode::kOutOfRange);
  must(chat.undo());
  must(chat.generate(write_tokens(2)));
}

}  // namespace moka
