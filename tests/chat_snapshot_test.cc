// Chats that begin behind a prefix snapshot of the model.
#include <string>
#include <utility>
#include <vector>

#include "converter/snapshot.h"
#include "doctest/doctest.h"
#include "moka/moka.h"
#include "runtime/snapshots.h"
#include "tests/chat_testing.h"
#include "tests/process.h"
#include "tests/task_models.h"

namespace moka {
namespace {

using test::must;
using test::new_chat;
using test::read_branch;
using test::row_of;
using test::TemporaryFolder;
using test::write_tokens;

constexpr const char* kText = "You are a patient coach.";

struct PrefixFile {
  TemporaryFolder folder;
  std::string path = folder / "m.moka";
  PrefixFile() {
    write_task_model(path, make_test_model(test::chat_model_options()));
    add("coach", kText);
    add("poet", "In rhymes.");
  }
  void add(const std::string& name, const std::string& text) const {
    SnapshotOptions options;
    options.replace = true;
    const Status status = add_snapshot(path, {name, text}, options).status();
    REQUIRE_MESSAGE(status.ok(), status.to_string());
  }
  Model open() const {
    OpenOptions options;
    options.executor.threads = 1;
    auto model = Model::open(path, options);
    REQUIRE_MESSAGE(model.ok(), model.status().to_string());
    return std::move(model).value();
  }
};

ChatOptions from(const std::string& name, double penalty = 1.3) {
  ChatOptions options;
  options.from = name;
  options.sampling = SamplerOptions{};
  options.sampling->repeat_penalty = static_cast<float>(penalty);
  options.sampling->seed = 5;
  return options;
}

// The bits of a session that reads the prefix, then what the turn's branch says.
std::vector<float> read_behind(const Model& model, const Chat& chat, TurnId turn) {
  return row_of(read_branch(model, chat, turn).logits());
}

TEST_CASE("chat: one that begins from a snapshot has the bits of reading its prefix") {
  const PrefixFile file;
  const Model model = file.open();
  Chat chat = new_chat(model, from("coach"));
  CHECK(chat.from() == "coach");
  CHECK(row_of(chat.logits()) == read_behind(model, chat, kStartOfChat));
  const uint64_t prefix = model.info().snapshots[0].tokens;

  const ChatStep given = must(chat.append(Role::kUser, "Hello"));
  CHECK(given.tokens_read == 5);  // no token that begins a text stands between
  CHECK(chat.find(given.turn)->position == prefix + 5);
  CHECK(row_of(chat.logits()) == read_behind(model, chat, given.turn));
  const ChatStep written = must(chat.generate(write_tokens(7)));
  CHECK(row_of(chat.logits()) == read_behind(model, chat, written.turn));

  // Back to the start: at once, and the same bits. The model may also write the first turn.
  const ChatStep back = must(chat.switch_to(kStartOfChat));
  CHECK(back.tokens_read_again == 0);
  CHECK(row_of(chat.logits()) == read_behind(model, chat, kStartOfChat));
  const ChatStep first = must(chat.generate(write_tokens(4)));
  CHECK(chat.find(first.turn)->head == 0);
  CHECK(row_of(chat.logits()) == read_behind(model, chat, first.turn));

  // Without kept states, what follows the prefix is read again, not the prefix.
  ChatOptions poor = from("coach");
  poor.state_budget_bytes = 0;
  Chat forgetful = new_chat(model, poor);
  const TurnId a = must(forgetful.append(Role::kUser, "Hello")).turn;
  must(forgetful.branch(kStartOfChat, Role::kUser, "Good day"));
  CHECK(must(forgetful.switch_to(a)).tokens_read_again == 5);
  CHECK(row_of(forgetful.logits()) == read_behind(model, forgetful, a));
}

TEST_CASE("chat: tokens of the prefix are recent ones") {
  const PrefixFile file;
  const Model model = file.open();
  // What a session draws that has read prefix and text, with a sampler that was told of both.
  Sampler sampler =
      std::move(Sampler::create(*from("coach").sampling, model.info().outputs)).value();
  auto session = model.new_session();
  const std::vector<TokenId>& prefix = find_snapshot(model.spec(), "coach")->tokens;
  std::vector<TokenId> text;
  REQUIRE(model.tokenizer().encode("Hi", &text, false).ok());
  REQUIRE(session.value().append(prefix).ok());
  REQUIRE(session.value().append(text).ok());
  for (const TokenId token : prefix) sampler.accept(token);
  for (const TokenId token : text) sampler.accept(token);
  std::vector<TokenId> expected;
  for (int i = 0; i < 12; ++i) expected.push_back(session.value().step(sampler).value());

  Chat chat = new_chat(model, from("coach"));
  must(chat.append(Role::kUser, "Hi"));
  CHECK(chat.find(must(chat.generate(write_tokens(12))).turn)->tokens == expected);
}

TEST_CASE("chat: a file goes on behind the same prefix, and behind no other") {
  const PrefixFile file;
  std::vector<uint8_t> bytes, plain;
  std::vector<float> row;
  {
    const Model model = file.open();
    Chat chat = new_chat(model, from("coach"));
    must(chat.append(Role::kUser, "Hello"));
    must(chat.generate(write_tokens(6)));
    row = row_of(chat.logits());
    bytes = chat.save().value();
    Chat other = new_chat(model);
    must(other.append(Role::kUser, "Hello"));
    plain = other.save().value();
  }
  CHECK(bytes[8] == 2);  // the version
  CHECK(plain[8] == 1);
  {
    const Model model = file.open();
    for (const char* given : {"", "coach"}) {
      ChatOptions options;
      options.from = given;
      auto chat = Chat::open(model, bytes, options);
      REQUIRE_MESSAGE(chat.ok(), chat.status().to_string());
      CHECK(chat.value().from() == "coach");
      CHECK(row_of(chat.value().logits()) == row);
      must(chat.value().undo());
      must(chat.value().undo());
      CHECK(chat.value().current() == kStartOfChat);
      CHECK(row_of(chat.value().logits()) == read_behind(model, chat.value(), kStartOfChat));
      const auto again = Chat::open(model, chat.value().save().value());
      REQUIRE(again.ok());
      CHECK(row_of(again.value().logits()) == row_of(chat.value().logits()));
    }
    ChatOptions options;
    options.from = "poet";
    const Status other = Chat::open(model, bytes, options).status();
    CHECK(other.code() == StatusCode::kFailedPrecondition);
    CHECK(other.message() ==
          "saved chat: it begins from the prefix snapshot 'coach', and 'poet' was given");
    const Status nothing = Chat::open(model, plain, options).status();
    CHECK(nothing.code() == StatusCode::kFailedPrecondition);
    CHECK(nothing.message() == "saved chat: it begins from nothing, and 'poet' was given");
    options.from = "nobody";
    CHECK(Chat::create(model, options).status().code() == StatusCode::kNotFound);
    for (size_t at = 0; at < bytes.size() && at < 200; ++at) {  // the head and its first turn
      std::vector<uint8_t> damaged = bytes;
      damaged[at] ^= 1;
      CHECK_FALSE(Chat::open(model, damaged).ok());
    }
    for (size_t size = 0; size < bytes.size(); size += 31) {
      CHECK_FALSE(Chat::open(model, Span<const uint8_t>(bytes.data(), size)).ok());
    }
  }
  file.add("coach", "You are another coach.");
  CHECK(Chat::open(file.open(), bytes).status().message() ==
        "saved chat: it begins from the prefix snapshot 'coach', which has other tokens in this "
        "model file");
  REQUIRE(remove_snapshot(file.path, "coach").ok());
  const Status gone = Chat::open(file.open(), bytes).status();
  CHECK(gone.code() == StatusCode::kNotFound);
  CHECK(gone.message() == "saved chat: the model has no prefix snapshot 'coach'; it has: 'poet'");
  CHECK(Chat::open(file.open(), plain).ok());
  file.add("coach", kText);  // the same tokens
  const auto opened = Chat::open(file.open(), bytes);
  REQUIRE_MESSAGE(opened.ok(), opened.status().to_string());
  CHECK(row_of(opened.value().logits()) == row);
}

}  // namespace
}  // namespace moka
