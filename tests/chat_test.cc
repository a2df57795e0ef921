// Turns of a chat: going back, editing and branching give the bits of a fresh session that reads
// the same tokens, whatever is kept; reading again is announced and counted; a call is done or
// undone.
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
using test::TestMixer;
using test::TestModel;
using test::TestModelOptions;
using test::write_tokens;

const char kLong[] =
    "A text that is longer than a chunk of sixteen tokens, and then some more of it, so that two "
    "chunks are full and one is not.";

// Bytes of memory that one kept state of the model takes.
uint64_t bytes_of_one(const Model& model) {
  return model.info().state_bytes + model.info().outputs * sizeof(float);
}

ChatOptions with_budget(uint64_t bytes) {
  ChatOptions options;
  options.state_budget_bytes = bytes;
  return options;
}

void check_bits(const Model& model, const Chat& chat) {
  const Session fresh = read_branch(model, chat, chat.current());
  CHECK(row_of(chat.logits()) == row_of(fresh.logits()));
  const Turn* turn = chat.find(chat.current());
  if (turn != nullptr) CHECK(turn->position == fresh.position());
}

std::vector<TestModel> some_models() {
  std::vector<TestModel> models;
  models.push_back(test::make_test_model(chat_model_options()));
  TestModelOptions options = chat_model_options();
  options.mixer = TestMixer::kLatte;
  options.weights = DType::kI8;
  models.push_back(test::make_test_model(options));
  options.mixer = TestMixer::kWindow;
  options.weights = DType::kF16;
  options.front = FrontKind::kConvRgLru;
  options.vapor = true;
  models.push_back(test::make_test_model(options));
  models.push_back(test::softmax_model());
  return models;
}

}  // namespace

TEST_CASE("chat: turns have their tokens, texts, roles and positions") {
  const TestModel made = test::make_test_model(chat_model_options());
  const Model model = open_chat_model(made);
  Chat chat = new_chat(model);
  CHECK(chat.current() == kStartOfChat);
  CHECK(chat.turns().empty());
  CHECK(chat.logits().empty());
  const ChatStep first = must(chat.append(Role::kUser, "Hi"));
  CHECK(first.turn == 1);
  CHECK(first.tokens_read == 3);
  CHECK(first.tokens_read_again == 0);
  const ChatStep second = must(chat.generate(write_tokens(5)));
  CHECK(second.turn == 2);
  CHECK(second.tokens_read == 5);
  must(chat.append(Role::kSystem, "x<bos>"));
  REQUIRE(chat.turns().size() == 3);
  const Turn& given = chat.turns()[0];
  CHECK(given.id == 1);
  CHECK(given.parent == kStartOfChat);
  CHECK(given.role == Role::kUser);
  CHECK(given.end == TurnEnd::kGiven);
  CHECK_FALSE(given.generated());
  CHECK(given.tokens == std::vector<TokenId>{258, 'H', 'i'});
  CHECK(given.head == 1);
  CHECK(given.tail == 0);
  CHECK(given.text == "Hi");
  CHECK(given.position == 3);
  const Turn& written = chat.turns()[1];
  CHECK(written.parent == 1);
  CHECK(written.role == Role::kModel);
  CHECK(written.end == TurnEnd::kTokenBudget);
  CHECK(written.generated());
  CHECK(written.tokens.size() == 5);
  CHECK(written.head == 0);
  CHECK(written.position == 8);
  const Turn& last = chat.turns()[2];
  CHECK(last.role == Role::kSystem);
  CHECK(last.tokens == std::vector<TokenId>{'x', '<', 'b', 'o', 's', '>'});  // plain text
  CHECK(chat.path() == std::vector<TurnId>{1, 2, 3});
  CHECK(chat.find(2) == &written);
  CHECK(chat.find(4) == nullptr);
  CHECK(chat.find(kStartOfChat) == nullptr);
  CHECK(std::string(turn_end_name(written.end)) == "token_budget");
}

TEST_CASE("chat: a generated turn is what a session and a sampler write") {
  const TestModel made = test::make_test_model(chat_model_options());
  const Model model = open_chat_model(made);
  ChatOptions options;
  options.sampling = SamplerOptions{};
  options.sampling->seed = 7;
  options.sampling->repeat_penalty = 1.3f;
  options.sampling->repeat_window = 20;
  Chat chat = new_chat(model, options);
  must(chat.append(Role::kUser, kLong));
  must(chat.generate(write_tokens(40)));
  must(chat.append(Role::kUser, " And then "));
  must(chat.generate(write_tokens(40)));

  auto session = model.new_session();
  auto sampler = Sampler::create(*options.sampling, 260);
  REQUIRE((session.ok() && sampler.ok()));
  for (const Turn& turn : chat.turns()) {
    if (!turn.generated()) {
      REQUIRE(session.value().append(turn.tokens).ok());
      for (const TokenId id : turn.tokens) sampler.value().accept(id);
      continue;
    }
    for (const TokenId id : turn.tokens) {
      const auto drawn = session.value().step(sampler.value());
      REQUIRE(drawn.ok());
      CHECK(drawn.value() == id);
    }
  }
  CHECK(row_of(chat.logits()) == row_of(session.value().logits()));
}

TEST_CASE("chat: any walk through the tree gives the bits of fresh sessions, whatever is kept") {
  for (const TestModel& made : some_models()) {
    const Model model = open_chat_model(made);
    const uint64_t one = bytes_of_one(model) + 2000 * model.info().state_bytes_per_token;
    for (const uint64_t budget : {uint64_t{0}, one, 3 * one, uint64_t{64} << 20}) {
      CAPTURE(budget);
      Chat chat = new_chat(model, with_budget(budget));
      uint64_t random = 11;
      uint64_t again = 0;
      for (int i = 0; i < 50; ++i) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        const uint64_t choice = (random >> 33) % 7;
        const TurnId any = (random >> 40) % (chat.turns().size() + 1);  // ids have no gaps here
        const Turn* current = chat.find(chat.current());
        Result<ChatStep> step = Status();
        if (current == nullptr || choice == 0) {
          step = chat.append(Role::kUser, i % 3 == 0 ? kLong : "short");
        } else if (choice == 1) {
          step = chat.generate(write_tokens(1 + i % 20));
        } else if (choice == 2) {
          step = chat.undo();
        } else if (choice == 3 && any != 0) {
          step = chat.edit(any, "another text");
        } else if (choice == 4) {
          step = chat.branch(any, Role::kUser, "a branch");
        } else if (choice == 5 && current->generated()) {
          step = chat.regenerate(write_tokens(7));
        } else {
          step = chat.switch_to(any);
        }
        again += must(step).tokens_read_again;
        CHECK(step.value().turn == chat.current());
        check_bits(model, chat);
        CHECK(chat.kept_state_bytes() <= budget);
      }
      if (budget == 0) CHECK(again > 0);
      if (budget == uint64_t{64} << 20) CHECK(again == 0);
    }
  }
}

TEST_CASE("chat: edit makes a sibling, regenerate too, and the old branch stays") {
  const TestModel made = test::make_test_model(chat_model_options());
  const Model model = open_chat_model(made);
  Chat chat = new_chat(model);
  must(chat.append(Role::kUser, "one"));  // 1
  must(chat.generate(write_tokens(6)));   // 2
  must(chat.append(Role::kUser, "two"));  // 3
  must(chat.generate(write_tokens(6)));   // 4
  const std::vector<float> old = row_of(chat.logits());
  CHECK(must(chat.edit(1, "uno")).turn == 5);
  CHECK(chat.find(5)->parent == kStartOfChat);
  CHECK(chat.find(5)->role == Role::kUser);
  CHECK(chat.path() == std::vector<TurnId>{5});
  must(chat.generate(write_tokens(6)));  // 6
  const std::vector<TokenId> written = chat.find(6)->tokens;
  CHECK(must(chat.regenerate(write_tokens(6))).turn == 7);
  CHECK(chat.find(7)->parent == 5);
  CHECK(chat.find(7)->tokens != written);  // the generator went on
  CHECK(chat.find(6)->tokens == written);
  CHECK(must(chat.edit(2, "given instead")).turn == 8);
  CHECK(chat.find(8)->parent == 1);
  CHECK(chat.find(8)->role == Role::kModel);
  CHECK_FALSE(chat.find(8)->generated());
  must(chat.switch_to(4));
  CHECK(row_of(chat.logits()) == old);
  CHECK(chat.path() == std::vector<TurnId>{1, 2, 3, 4});
  must(chat.switch_to(kStartOfChat));
  CHECK(chat.logits().empty());
  CHECK(chat.path().empty());
  must(chat.append(Role::kUser, "one"));
  CHECK(row_of(chat.logits()) == row_of(read_branch(model, chat, 1).logits()));
}

TEST_CASE("chat: regenerate draws other numbers, unless the sampling is given anew") {
  const TestModel made = test::make_test_model(chat_model_options());
  const Model model = open_chat_model(made);
  Chat chat = new_chat(model);
  must(chat.append(Role::kUser, "Say"));
  GenerateOptions options = write_tokens(12);
  options.sampling = SamplerOptions{};
  options.sampling->temperature = 1.5f;
  options.sampling->seed = 5;
  must(chat.generate(options));
  must(chat.regenerate(options));
  must(chat.regenerate(write_tokens(12)));
  CHECK(chat.sampling().temperature == 1.5f);  // it stays
  REQUIRE(chat.turns().size() == 4);
  CHECK(chat.turns()[1].tokens == chat.turns()[2].tokens);
  CHECK(chat.turns()[3].tokens != chat.turns()[2].tokens);
}

TEST_CASE("chat: with room for one state, the last one left is at hand") {
  const TestModel made = test::make_test_model(chat_model_options());
  const Model model = open_chat_model(made);
  Chat chat = new_chat(model, with_budget(bytes_of_one(model)));
  must(chat.append(Role::kUser, "one"));
  must(chat.append(Role::kUser, "two"));
  must(chat.append(Role::kUser, "three"));
  CHECK(chat.is_kept(3));
  CHECK(chat.is_kept(2));
  CHECK_FALSE(chat.is_kept(1));
  CHECK(chat.is_kept(kStartOfChat));
  CHECK_FALSE(chat.is_kept(99));
  CHECK(chat.kept_state_bytes() == bytes_of_one(model));
  for (int i = 0; i < 3; ++i) {  // to and fro
    CHECK(must(chat.undo()).tokens_read_again == 0);
    CHECK(must(chat.switch_to(3)).tokens_read_again == 0);
  }
  must(chat.generate(write_tokens(4)));
  for (int i = 0; i < 3; ++i) CHECK(must(chat.regenerate(write_tokens(4))).tokens_read_again == 0);
  CHECK(must(chat.switch_to(1)).tokens_read_again == 4);
  // Going down from the current turn reads only what follows it.
  CHECK(must(chat.switch_to(2)).tokens_read_again == 0 + chat.find(2)->tokens.size());
}

TEST_CASE("chat: without a budget every way back is read again, and says so") {
  const TestModel made = test::make_test_model(chat_model_options());
  const Model model = open_chat_model(made);
  Chat chat = new_chat(model, with_budget(0));
  must(chat.append(Role::kUser, "one"));
  must(chat.generate(write_tokens(9)));
  must(chat.append(Role::kUser, "two"));
  CHECK(chat.kept_state_bytes() == 0);
  CHECK_FALSE(chat.is_kept(2));
  CHECK(must(chat.undo()).tokens_read_again == 13);
  CHECK(must(chat.switch_to(3)).tokens_read_again == 3);  // from turn 2, which is at hand
  const ChatStep step = must(chat.edit(3, "twelve"));
  CHECK(step.tokens_read_again == 13);
  CHECK(step.tokens_read == 6);
  CHECK(must(chat.switch_to(kStartOfChat)).tokens_read_again == 0);
}

TEST_CASE("chat: progress is told before tokens are read, and while they are") {
  const TestModel made = test::make_test_model(chat_model_options());
  const Model model = open_chat_model(made);
  std::vector<ReadProgress> heard;
  ChatOptions options = with_budget(0);
  options.progress = [&heard](const ReadProgress& progress) {
    heard.push_back(progress);
    return true;
  };
  Chat chat = new_chat(model, options);
  must(chat.append(Role::kUser, kLong));
  const uint64_t count = chat.find(1)->tokens.size();
  REQUIRE(heard.size() == 1 + (count + 15) / 16);
  for (size_t i = 0; i < heard.size(); ++i) {
    CHECK(heard[i].done == std::min<uint64_t>(16 * i, count));
    CHECK(heard[i].total == count);
    CHECK_FALSE(heard[i].again);
  }
  must(chat.generate(write_tokens(50)));
  must(chat.append(Role::kUser, "x"));
  heard.clear();
  must(chat.undo());
  REQUIRE(heard.size() >= 2 + (count + 50) / 32);
  CHECK(heard.front().done == 0);
  CHECK(heard.back().done == count + 50);
  for (size_t i = 0; i < heard.size(); ++i) {
    CHECK(heard[i].again);
    CHECK(heard[i].total == count + 50);
    if (i > 0) {
      CHECK(heard[i].done > heard[i - 1].done);
      CHECK(heard[i].done <= heard[i - 1].done + 31);
    }
  }
  heard.clear();
  must(chat.edit(1, "short"));  // from the start: nothing to read again
  REQUIRE(heard.size() == 2);
  CHECK_FALSE(heard[0].again);
  CHECK(heard[0].total == 6);
}

TEST_CASE("chat: remove takes a branch away, but not the one in use") {
  const TestModel made = test::make_test_model(chat_model_options());
  const Model model = open_chat_model(made);
  Chat chat = new_chat(model);
  must(chat.append(Role::kUser, "one"));           // 1
  must(chat.generate(write_tokens(3)));            // 2
  must(chat.append(Role::kUser, "two"));           // 3
  must(chat.branch(1, Role::kUser, "elsewhere"));  // 4
  must(chat.append(Role::kUser, "on"));            // 5
  const Status used = chat.remove(1);
  CHECK(used.code() == StatusCode::kFailedPrecondition);
  CHECK(used.message() == "turn 1 leads to the current turn 5; switch to another branch first");
  CHECK(chat.remove(5).code() == StatusCode::kFailedPrecondition);
  CHECK(chat.remove(kStartOfChat).code() == StatusCode::kInvalidArgument);
  CHECK(chat.remove(6).code() == StatusCode::kNotFound);
  CHECK(chat.turns().size() == 5);
  const uint64_t kept = chat.kept_state_bytes();
  CHECK(chat.remove(2).ok());
  CHECK(chat.turns().size() == 3);
  CHECK(chat.find(3) == nullptr);
  CHECK(chat.kept_state_bytes() < kept);
  CHECK(chat.switch_to(3).status().code() == StatusCode::kNotFound);
  CHECK(must(chat.append(Role::kUser, "new")).turn == 6);  // ids are not used again
  check_bits(model, chat);
}

TEST_CASE("session: copy_from makes equals of one model") {
  const TestModel made = test::make_test_model(chat_model_options());
  const Model model = open_chat_model(made);
  auto from = model.new_session(), to = model.new_session();
  REQUIRE((from.ok() && to.ok()));
  REQUIRE(from.value().append(test::some_tokens(40, 260)).ok());
  REQUIRE(to.value().append(test::some_tokens(9, 260, 3)).ok());
  REQUIRE(to.value().copy_from(from.value()).ok());
  CHECK(to.value().save().value() == from.value().save().value());
  const TokenId token = 5;
  REQUIRE(to.value().append(Span<const TokenId>(&token, 1)).ok());
  CHECK(from.value().position() == 40);
  CHECK(to.value().position() == 41);
  REQUIRE(to.value().copy_from(to.value()).ok());
  CHECK(to.value().position() == 41);
  const Model other = open_chat_model(made);
  auto foreign = other.new_session();
  REQUIRE(foreign.ok());
  CHECK(foreign.value().copy_from(to.value()).code() == StatusCode::kInvalidArgument);
  CHECK(foreign.value().position() == 0);
}

TEST_CASE("sampler: forget drops recent tokens, and the generator goes on") {
  SamplerOptions options;
  options.repeat_penalty = 100.0f;
  auto sampler = Sampler::create(options, 4), other = Sampler::create(options, 4);
  REQUIRE((sampler.ok() && other.ok()));
  const float logits[] = {1.0f, 1.0f, 1.0f, 1.0f};
  sampler.value().accept(1);
  sampler.value().accept(2);
  sampler.value().forget();
  for (int i = 0; i < 20; ++i) {
    CHECK(sampler.value().sample(logits).value() == other.value().sample(logits).value());
  }
  sampler.value().forget();  // not the seed's numbers again
  other.value().reset();
  CHECK(sampler.value().save() != other.value().save());
}

}  // namespace moka
