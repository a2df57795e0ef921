// Saved chats: they go on as if they had never been away, and nothing that is wrong in a file gets
// in.
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>

#include "doctest/doctest.h"
#include "runtime/checksum.h"
#include "tests/chat_testing.h"
#include "tests/process.h"
#include "tests/task_models.h"

namespace moka {
namespace {

using Bytes = std::vector<uint8_t>;
using test::chat_model_options;
using test::must;
using test::new_chat;
using test::open_chat_model;
using test::read_branch;
using test::row_of;
using test::TestModel;
using test::write_tokens;

template <class T>
void put(Bytes* bytes, size_t at, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) (*bytes)[at + i] = static_cast<uint8_t>(value >> (8 * i));
}

uint64_t get(const Bytes& bytes, size_t at, size_t size) {
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) value |= uint64_t{bytes[at + i]} << (8 * i);
  return value;
}

// Where things lie in the file of the chat below, by the layout in runtime/chat_format.h.
struct Places {
  size_t version = 8, length = 12, fingerprint = 20;
  size_t name, format, temperature, biases, sampler, next, current, turns;
  std::vector<size_t> turn;  // its id; then parent, role, end, head, tail, tokens, text
  size_t states, head_end, first_state;

  explicit Places(const Bytes& bytes) {
    const auto after_text = [&bytes](size_t at) { return at + 4 + get(bytes, at, 4); };
    name = fingerprint + 8;
    format = after_text(name);
    temperature = after_text(format);
    biases = temperature + 6 * 4 + 8;
    sampler = biases + 4 + 8 * get(bytes, biases, 4);
    next = after_text(sampler);
    current = next + 8;
    turns = current + 8;
    size_t at = turns + 4;
    for (uint64_t i = 0; i < get(bytes, turns, 4); ++i) {
      turn.push_back(at);
      at = after_text(at + 30) + 4 * get(bytes, at + 26, 4);
    }
    states = at;
    head_end = at + 4 + 16 * get(bytes, states, 4);
    first_state = head_end + 8;
  }
};

void seal_state(Bytes* bytes, size_t at, size_t size) {
  put(bytes, at + size - 8, xxh3_64(bytes->data() + at, size - 8));
}

// Three turns, the second generated, and the states of all: 3 (current), 2, 1.
struct SavedChat {
  TestModel made;
  Model model;
  Chat chat;
  Bytes bytes;

  SavedChat()
      : made(test::make_test_model(settings())),
        model(open_chat_model(made)),
        chat(new_chat(model, options())) {
    must(chat.append(Role::kUser, "one"));
    GenerateOptions write = write_tokens(5);
    write.sampling = SamplerOptions{};
    write.sampling->repeat_penalty = 1.2f;
    write.sampling->repeat_window = 8;
    write.sampling->bias = {{'e', 0.5f}};
    must(chat.generate(write));
    must(chat.append(Role::kUser, "two"));
    auto saved = chat.save();
    REQUIRE(saved.ok());
    bytes = std::move(saved).value();
  }

  static test::TestModelOptions settings() {
    test::TestModelOptions small = chat_model_options();
    small.layers = 1, small.width = 8, small.heads = 1, small.latents = 2, small.hidden = 8;
    small.window = 2;
    return small;
  }
  static ChatOptions options() {
    ChatOptions options;
    options.format.id = "plain";
    return options;
  }
  Result<Chat> open(const Bytes& from) const { return Chat::open(model, from, options()); }
};

void check_equal_turns(const Chat& a, const Chat& b) {
  REQUIRE(a.turns().size() == b.turns().size());
  for (size_t i = 0; i < a.turns().size(); ++i) {
    const Turn& x = a.turns()[i];
    const Turn& y = b.turns()[i];
    CHECK(x.id == y.id);
    CHECK(x.parent == y.parent);
    CHECK(x.role == y.role);
    CHECK(x.end == y.end);
    CHECK(x.head == y.head);
    CHECK(x.tail == y.tail);
    CHECK(x.position == y.position);
    CHECK(x.text == y.text);
    CHECK(x.tokens == y.tokens);
  }
  CHECK(a.current() == b.current());
  CHECK(row_of(a.logits()) == row_of(b.logits()));
}

}  // namespace

TEST_CASE("chat: a saved chat goes on with the same bytes as one that was never closed") {
  std::vector<TestModel> models = {test::make_test_model(chat_model_options()),
                                   test::softmax_model()};
  for (const TestModel& made : models) {
    const Model model = open_chat_model(made);
    ChatOptions options;
    options.sampling = SamplerOptions{};
    options.sampling->temperature = 1.2f;
    options.sampling->repeat_penalty = 1.3f;
    options.sampling->seed = 99;
    Chat chat = new_chat(model, options);
    must(chat.append(Role::kUser, "Once upon a time there was a text of more than a chunk."));
    must(chat.generate(write_tokens(30)));
    must(chat.regenerate(write_tokens(30)));
    must(chat.append(Role::kUser, "more"));
    must(chat.generate(write_tokens(3)));
    const auto bytes = chat.save();
    REQUIRE(bytes.ok());
    auto opened = Chat::open(model, bytes.value());
    REQUIRE_MESSAGE(opened.ok(), opened.status().message());
    Chat& other = opened.value();
    check_equal_turns(chat, other);
    CHECK(other.sampling().temperature == 1.2f);
    CHECK(other.save().value() == bytes.value());
    for (Chat* each : {&chat, &other}) {
      must(each->generate(write_tokens(40)));
      must(each->regenerate(write_tokens(40)));
      must(each->undo());
      must(each->switch_to(3));
      must(each->generate(write_tokens(40)));
    }
    check_equal_turns(chat, other);
  }
}

TEST_CASE_FIXTURE(SavedChat,
                  "chat: a file has the states used last, and the others are read again") {
  for (const uint32_t states : {0u, 1u, 2u}) {
    ChatOptions some = options();
    some.saved_states = states;
    Chat again = new_chat(model, some);
    must(again.append(Role::kUser, "one"));
    must(again.generate(write_tokens(5)));
    must(again.append(Role::kUser, "two"));
    must(again.append(Role::kUser, "three"));
    auto opened = open(again.save().value());
    REQUIRE(opened.ok());
    Chat& chat_of_file = opened.value();
    CHECK(chat_of_file.is_kept(4));
    CHECK(chat_of_file.is_kept(3) == (states >= 1));
    CHECK(chat_of_file.is_kept(2) == (states >= 2));
    CHECK_FALSE(chat_of_file.is_kept(1));
    const uint64_t position = chat_of_file.find(3)->position;
    CHECK(must(chat_of_file.undo()).tokens_read_again == (states >= 1 ? 0 : position));
    CHECK(row_of(chat_of_file.logits()) == row_of(read_branch(model, chat_of_file, 3).logits()));
    // What is read again on the way to a turn is kept.
    CHECK(must(chat_of_file.switch_to(2)).tokens_read_again == (states == 1 ? 9 : 0));
    CHECK(row_of(chat_of_file.logits()) == row_of(read_branch(model, chat_of_file, 2).logits()));
  }
  ChatOptions tight = options();
  tight.state_budget_bytes = 10;  // none of the kept ones fits
  auto opened = Chat::open(model, bytes, tight);
  REQUIRE(opened.ok());
  CHECK(opened.value().is_kept(3));
  CHECK_FALSE(opened.value().is_kept(2));
  CHECK(opened.value().kept_state_bytes() == 0);
}

TEST_CASE_FIXTURE(SavedChat, "chat: a chat at its start and one without turns are saved, too") {
  must(chat.switch_to(kStartOfChat));
  auto opened = open(chat.save().value());
  REQUIRE_MESSAGE(opened.ok(), opened.status().message());
  CHECK(opened.value().current() == kStartOfChat);
  CHECK(opened.value().turns().size() == 3);
  CHECK(must(opened.value().append(Role::kUser, "x")).turn == 4);
  auto empty = open(new_chat(model, options()).save().value());
  REQUIRE(empty.ok());
  CHECK(empty.value().turns().empty());
}

TEST_CASE_FIXTURE(SavedChat, "chat: half a character goes on after a file") {
  GenerateOptions write = write_tokens(1);
  write.sampling = SamplerOptions{};
  write.sampling->temperature = 0.0f;
  write.sampling->bias = {{0xC3, 1e6f}};
  must(chat.generate(write));
  auto opened = open(chat.save().value());
  REQUIRE(opened.ok());
  write.sampling->bias = {{0xA9, 1e6f}};
  must(opened.value().generate(write));
  CHECK(opened.value().find(5)->text == "\xC3\xA9");
}

TEST_CASE_FIXTURE(SavedChat, "chat: files appear whole, and errors name them") {
  const test::TemporaryFolder folder;
  const std::string path = folder / "a.chat";
  REQUIRE(chat.save_file(path).ok());
  must(chat.append(Role::kUser, "three"));
  REQUIRE(chat.save_file(path).ok());  // replaces it
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    files += entry.is_regular_file() ? 1 : 0;
  }
  CHECK(files == 1);
  auto opened = Chat::open_file(model, path, options());
  REQUIRE_MESSAGE(opened.ok(), opened.status().message());
  check_equal_turns(chat, opened.value());
  CHECK(Chat::open_file(model, folder / "none.chat", options()).status().code() ==
        StatusCode::kNotFound);
  CHECK(Chat::open_file(model, folder.path(), options()).status().code() ==
        StatusCode::kInvalidArgument);
  CHECK(chat.save_file(folder / "none/a.chat").code() == StatusCode::kNotFound);
  test::write_file(path, "MOKACHAT");
  const Status cut = Chat::open_file(model, path, options()).status();
  CHECK(cut.code() == StatusCode::kCorrupt);
  CHECK(cut.message() == path + ": saved chat: 8 bytes, too few to be one");
}

TEST_CASE_FIXTURE(SavedChat, "chat: another model, template or version is refused, naming both") {
  test::TestModelOptions others = settings();
  others.seed = 2;
  TestModel other_made = test::make_test_model(others);
  other_made.spec.metadata.name = "another";
  const Model other = open_chat_model(other_made);
  const Status model_status = Chat::open(other, bytes, options()).status();
  CHECK(model_status.code() == StatusCode::kFailedPrecondition);
  CHECK(model_status.message().rfind("saved chat: it belongs to the model 'a test model' (", 0) ==
        0);
  CHECK(model_status.message().find("), this one is 'another' (") != std::string::npos);
  ChatOptions format;
  format.format.id = "chatml";
  const Status format_status = Chat::open(model, bytes, format).status();
  CHECK(format_status.code() == StatusCode::kFailedPrecondition);
  CHECK(format_status.message() ==
        "saved chat: it has the template 'plain', and 'chatml' was given");
  Bytes newer = bytes;
  put(&newer, 8, uint32_t{3});
  const Status version = open(newer).status();
  CHECK(version.code() == StatusCode::kVersion);
  CHECK(version.message() == "saved chat: version 3, this library reads versions 1 and 2");
}

TEST_CASE_FIXTURE(SavedChat, "chat: the state of another Moka is read again, and that is told") {
  const Places places(bytes);
  const size_t size = get(bytes, places.states + 12, 8);
  put(&bytes, places.first_state + 8, uint32_t{77});
  seal_state(&bytes, places.first_state, size);
  std::vector<ReadProgress> heard;
  ChatOptions listening = options();
  listening.progress = [&heard](const ReadProgress& progress) {
    heard.push_back(progress);
    return true;
  };
  auto opened = Chat::open(model, bytes, listening);
  REQUIRE_MESSAGE(opened.ok(), opened.status().message());
  check_equal_turns(chat, opened.value());
  REQUIRE(heard.size() >= 2);
  CHECK(heard[0].done == 0);
  CHECK(heard[0].again);
  CHECK(heard.back().done == heard.back().total);
  CHECK(heard.back().total == 3);  // behind turn 2, whose state is there
  listening.progress = [](const ReadProgress&) { return false; };
  CHECK(Chat::open(model, bytes, listening).status().code() == StatusCode::kCancelled);
}

TEST_CASE_FIXTURE(SavedChat, "chat: whatever is wrong in a head with a right checksum is refused") {
  const Places places(bytes);
  REQUIRE(places.turn.size() == 3);
  REQUIRE(open(bytes).ok());
  const auto refuse = [this](const std::function<void(Bytes*)>& damage, const std::string& words) {
    Bytes damaged = bytes;
    damage(&damaged);
    const size_t end = static_cast<size_t>(get(damaged, 12, 8)) - 8;
    put(&damaged, end, xxh3_64(damaged.data(), end));
    const Status status = open(damaged).status();
    CHECK(status.code() == StatusCode::kCorrupt);
    CHECK(status.message() == "saved chat: " + words);
  };
  const auto with32 = [](size_t at, uint32_t value) {
    return [at, value](Bytes* damaged) { put(damaged, at, value); };
  };
  const auto with64 = [](size_t at, uint64_t value) {
    return [at, value](Bytes* damaged) { put(damaged, at, value); };
  };
  const auto with8 = [](size_t at, uint8_t value) {
    return [at, value](Bytes* damaged) { (*damaged)[at] = value; };
  };
  const std::string soon = "its head ends too soon";
  // Counts and lengths, up to the largest.
  for (const uint32_t count : {1000000u, 0x7FFFFFFFu, 0xFFFFFFFFu}) {
    refuse(with32(places.name, count), soon);
    refuse(with32(places.format, count), soon);
    refuse(with32(places.biases, count), soon);
    refuse(with32(places.sampler, count), soon);
    refuse(with32(places.turns, count), soon);
    refuse(with32(places.turn[1] + 26, count), soon);
    refuse(with32(places.turn[1] + 30, count), soon);
    refuse(with32(places.states, count), soon);
  }
  refuse(with32(places.turns, 2), "its current turn 3 is not in it");
  // The sampler.
  refuse(with32(places.temperature, 0x7FC00000), "sampler: temperature is nan, not 0 to 100");
  refuse(with32(places.temperature + 20, 0xFFFFFFFF),
         "sampler: repeat_window is 4.2949673e+09, not 0 to 1048576");
  refuse(with32(places.biases + 4, 260), "sampler: bias[0].token is 260, not 0 to 259");
  refuse(with8(places.sampler + 4 + 40, 1), "saved sampler: the checksum does not fit the bytes");
  // The tree: ids, circles, what is not there.
  refuse(with64(places.next, 3), "turn 3 stands behind turn 2, and the next one is 3; ids rise");
  refuse(with64(places.next, uint64_t{1} << 63),
         "the next turn is 9223372036854775808, not 1 to 2^62");
  refuse(with64(places.current, 9), "its current turn 9 is not in it");
  refuse(with64(places.turn[1], 1), "turn 1 stands behind turn 1, and the next one is 4; ids rise");
  refuse(with64(places.turn[0], 0), "turn 0 stands behind turn 0, and the next one is 4; ids rise");
  refuse(with64(places.turn[1] + 8, 2), "turn 2: its parent 2 is not before it");
  refuse(with64(places.turn[1] + 8, 3), "turn 2: its parent 3 is not before it");
  refuse(with8(places.turn[2] + 16, 3), "turn 3: role 3, not 0 to 2");
  refuse(with8(places.turn[2] + 17, 8), "turn 3: end 8, not 0 to 7");
  refuse(with32(places.turn[2] + 18, 4), "turn 3: 4 tokens before the text and 0 behind it, of 3");
  refuse(with32(places.turn[2] + 22, 0xFFFFFFFF),
         "turn 3: 0 tokens before the text and 4294967295 behind it, of 3");
  refuse(with32(places.turn[2] + 34 + 3 + 4, 260), "turn 3: token 1 is 260, ids are 0 to 259");
  refuse(with32(places.turn[2] + 34 + 3, 0xFFFFFFFF),
         "turn 3: token 0 is 4294967295, ids are 0 to 259");
  // States.
  refuse(with64(places.states + 4, 2), "the state of its current turn 3 is not the first");
  refuse(with64(places.states + 4, 8), "the state of turn 8, which is not in it");
  refuse(with64(places.states + 20, 3), "the state of turn 3 is there twice");
  refuse(with64(places.states + 28, ~uint64_t{0}),
         "the state of turn 2 has 18446744073709551615 bytes, of which " +
             std::to_string(bytes.size() - places.first_state - get(bytes, places.states + 12, 8)) +
             " are there");
  refuse([](Bytes* damaged) { damaged->push_back(0); }, "1 bytes follow its last state");
  refuse(with32(places.turn[0] + 26, 0), "turn 1: 1 tokens before the text and 0 behind it, of 0");
  refuse(
      [&places](Bytes* damaged) {
        put(damaged, places.turn[0] + 18, uint32_t{0});
        put(damaged, places.turn[0] + 26, uint32_t{0});
      },
      "turn 1: has no tokens");
  refuse(
      [&places](Bytes* damaged) {  // a table that is one state short of the head
        put(damaged, places.states, uint32_t{2});
      },
      "its head is longer or shorter than it says");
}

TEST_CASE_FIXTURE(SavedChat,
                  "chat: a state with a right checksum is refused when it does not fit") {
  const Places places(bytes);
  const size_t size = get(bytes, places.states + 12, 8);
  const auto refuse = [this](const Bytes& damaged, const std::string& words) {
    const Status status = open(damaged).status();
    CHECK(status.code() == StatusCode::kCorrupt);
    CHECK(status.message() == words);
  };
  Bytes damaged = bytes;
  put(&damaged, places.first_state + 56 + 4, uint32_t{0x7F800000});  // a logit: infinity
  seal_state(&damaged, places.first_state, size);
  refuse(damaged, "the current turn: saved session: a value is not finite");
  damaged = bytes;
  put(&damaged, places.first_state + 24, uint64_t{8});  // its position: one less
  seal_state(&damaged, places.first_state, size);
  refuse(
      damaged,
      "the current turn: saved chat: the state of its current turn is at position 8, the turn ends "
      "at 12");
  damaged = bytes;
  put(&damaged, places.first_state + 24, uint64_t{0});
  seal_state(&damaged, places.first_state, size);
  refuse(damaged, "the current turn: saved session: its sizes do not fit the model");
  damaged = bytes;
  put(&damaged, places.first_state + 16, uint64_t{123});  // another model's
  seal_state(&damaged, places.first_state, size);
  CHECK(open(damaged).status().code() == StatusCode::kCorrupt);
  // Of the others it is seen when they are needed: then they are read again, which is told.
  damaged = bytes;
  put(&damaged, places.first_state + size + 48 + 4, uint32_t{0x7F800000});
  seal_state(&damaged, places.first_state + size, get(bytes, places.states + 28, 8));
  auto opened = open(damaged);
  REQUIRE(opened.ok());
  CHECK(opened.value().is_kept(2));
  CHECK(must(opened.value().undo()).tokens_read_again == 5);
  CHECK(row_of(opened.value().logits()) == row_of(read_branch(model, chat, 2).logits()));
}

TEST_CASE_FIXTURE(SavedChat, "chat: no flipped byte and no cut gets in") {
  const std::vector<float> second = row_of(read_branch(model, chat, 2).logits());
  const std::vector<float> first = row_of(read_branch(model, chat, 1).logits());
  size_t refused = 0;
  for (size_t at = 0; at < bytes.size(); ++at) {
    Bytes damaged = bytes;
    damaged[at] ^= static_cast<uint8_t>(1 + at % 255);
    auto opened = open(damaged);
    if (!opened.ok()) {
      const StatusCode code = opened.status().code();
      const bool typed = code == StatusCode::kCorrupt || code == StatusCode::kVersion;
      CHECK_MESSAGE(typed, opened.status().to_string());
      ++refused;
      continue;
    }
    // In a state that is not the current one: the chat is the same, and so are its bits.
    CHECK(row_of(opened.value().logits()) == row_of(chat.logits()));
    must(opened.value().undo());
    CHECK(row_of(opened.value().logits()) == second);
    must(opened.value().undo());
    CHECK(row_of(opened.value().logits()) == first);
  }
  const Places places(bytes);
  CHECK(refused >= places.first_state + 100);
  for (size_t size = 0; size < bytes.size(); ++size) {
    const Status status =
        open(Bytes(bytes.begin(), bytes.begin() + static_cast<long>(size))).status();
    CHECK_MESSAGE(status.code() == StatusCode::kCorrupt, size);
  }
}

TEST_CASE("chat: the demo model's chats go on after a file") {
  const std::string path = MOKA_SOURCE_DIR "/models/stories.moka";
  if (!std::filesystem::exists(path)) {
    MESSAGE("skipped: models/stories.moka is not there");
    return;
  }
  auto model = Model::open(path);
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  Chat chat = new_chat(model.value());
  must(chat.append(Role::kUser, "Once upon a time"));
  must(chat.generate(write_tokens(30)));
  auto opened = Chat::open(model.value(), chat.save().value());
  REQUIRE_MESSAGE(opened.ok(), opened.status().message());
  for (Chat* each : {&chat, &opened.value()}) {
    must(each->append(Role::kUser, " Then"));
    must(each->generate(write_tokens(30)));
    must(each->undo());
    must(each->undo());
    must(each->regenerate(write_tokens(10)));
  }
  check_equal_turns(chat, opened.value());
}

}  // namespace moka
