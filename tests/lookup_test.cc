// Lookup: what is guessed, and that it is bounded; and texts that are written with it: the same as without.
#include "moka/lookup.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "moka/moka.h"
#include "tests/allocation_counter.h"
#include "tests/capi_testing.h"
#include "tests/chat_testing.h"
#include "tests/cli_model.h"

namespace moka::test {
namespace {

Lookup make_lookup(const LookupOptions& options) {
  Result<Lookup> lookup = Lookup::create(options);
  REQUIRE_MESSAGE(lookup.ok(), lookup.status().to_string());
  return std::move(lookup).value();
}

// Guesses whatever it finds.
Lookup bold_lookup(uint32_t guesses, uint32_t history = 65536, uint32_t longest = 4) {
  LookupOptions options;
  options.guesses = guesses, options.history = history, options.longest = longest;
  options.always = true;
  return make_lookup(options);
}

std::vector<TokenId> list(Span<const TokenId> tokens) { return {tokens.begin(), tokens.end()}; }

// What guess() is to find, by looking at the last `history` tokens of all of `text`, which ends with `next`.
std::vector<TokenId> look_back(const std::vector<TokenId>& text, size_t guesses, size_t history) {
  const size_t end = text.size() - 1;  // of what was pushed
  const size_t first = end > history ? end - history : 0;
  for (size_t length = 4; length >= 2; --length) {
    for (size_t last = end; last-- > 0;) {  // where the same tokens may end
      if (last + 1 < first + length) break;
      if (!std::equal(text.end() - static_cast<std::ptrdiff_t>(length), text.end(),
                      text.begin() + static_cast<std::ptrdiff_t>(last + 1 - length))) {
        continue;
      }
      std::vector<TokenId> found = text;
      for (size_t i = 0; i < guesses; ++i) found.push_back(found[last + 1 + i]);
      return {found.end() - static_cast<std::ptrdiff_t>(guesses), found.end()};
    }
  }
  return {};
}

}  // namespace

TEST_CASE("lookup: guesses what followed the latest place of the last tokens") {
  Lookup lookup = bold_lookup(5);
  for (const TokenId id : {1, 2, 3, 4, 5, 6, 9, 2, 3, 7, 8, 2}) lookup.push(id);
  CHECK(list(lookup.guess(3, 5)) == std::vector<TokenId>{7, 8, 2, 3, 7});  // and round again
  CHECK(list(lookup.guess(3, 2)) == std::vector<TokenId>{7, 8});
  CHECK(lookup.guess(3, 0).empty());
  CHECK(lookup.guess(4, 5).empty());
  lookup.push(3);
  CHECK(list(lookup.guess(4, 2)) == std::vector<TokenId>{5, 6});
  CHECK(lookup.guess(99, 5).empty());
  lookup.reset();
  CHECK(lookup.guess(3, 5).empty());
}

TEST_CASE("lookup: finds what looking back through the whole history finds, and no older token") {
  for (const uint32_t vocab : {2, 5, 40}) {
    for (const uint32_t history : {16, 37, 300}) {
      Lookup lookup = bold_lookup(7, history);
      std::vector<TokenId> text;
      size_t found = 0;
      for (const TokenId token : some_tokens(1500, vocab, vocab)) {
        text.push_back(token);
        const std::vector<TokenId> want = look_back(text, 7, history);
        found += want.empty() ? 0 : 1;
        REQUIRE(list(lookup.guess(token, 16)) == want);
        lookup.push(token);
      }
      CHECK(found > 0);
    }
  }
}

TEST_CASE("lookup: memory is bounded and made at once") {
  if (!counts_allocations()) {
    MESSAGE("skipped: allocations cannot be counted here");
    return;
  }
  Lookup lookup = bold_lookup(16, 1000);
  const std::vector<TokenId> tokens = some_tokens(100000, 30);
  const uint64_t before = allocations();
  size_t guessed = 0;
  for (const TokenId token : tokens) {
    guessed += lookup.guess(token, 16).size();
    lookup.push(token);
  }
  CHECK(allocations() == before);
  CHECK(guessed > 0);
}

TEST_CASE("lookup: guesses much where it is right, and stops where it is not") {
  Lookup lookup = make_lookup({});
  const auto feed = [&lookup](const std::vector<TokenId>& tokens) {
    size_t guessed = 0;
    for (const TokenId token : tokens) {
      guessed += lookup.guess(token, 16).size();
      lookup.push(token);
    }
    return guessed;
  };
  // Every pair was seen, and what followed says nothing.
  CHECK(feed(some_tokens(5000, 12)) < 100);
  std::vector<TokenId> again;
  for (size_t i = 0; i < 40; ++i) again.insert(again.end(), {20, 21, 22, 23, 24, 25, 26});
  feed(again);
  CHECK(lookup.guess(20, 16).size() == 7);  // of 8: two groups of four rows in all
  CHECK(lookup.guess(20, 3).size() == 3);
  CHECK(lookup.counts().passes == 0);
  lookup.record(8, 5);
  lookup.record(0, 0);
  CHECK(lookup.counts().passes == 1);
  CHECK(lookup.counts().drafted == 8);
  CHECK(lookup.counts().accepted == 5);
}

TEST_CASE("lookup: options out of range are named") {
  const auto check = [](const LookupOptions& options, const std::string& message) {
    const Result<Lookup> lookup = Lookup::create(options);
    CHECK(lookup.status().code() == StatusCode::kInvalidArgument);
    CHECK(lookup.status().message() == message);
  };
  LookupOptions options;
  options.guesses = 0;
  check(options, "lookup: guesses is 0, must be 1 to 16");
  options.guesses = 17;
  check(options, "lookup: guesses is 17, must be 1 to 16");
  options = {};
  options.longest = 9;
  check(options, "lookup: longest is 9, must be 1 to 8");
  options.longest = 2, options.shortest = 3;
  check(options, "lookup: shortest is 3, must be 1 to 2");
  options = {};
  options.history = 15;
  check(options, "lookup: history is 15, must be 16 to 16777216");
}

// ---- chats -------------------------------------------------------------------------------------

namespace {

struct ChatModel {
  TestModel made = make_test_model(chat_model_options());
  Model model = open_chat_model(made);
};

// All that a turn leaves: pieces of text, the chat as bytes, what the step says.
struct Written {
  std::vector<std::string> pieces;
  std::vector<uint8_t> chat;
  Status status;
  ChatStep step;
  Turn turn;
};

// Writes two turns; `most` pieces of the second are taken, and it is cancelled behind `cancel_at`.
Written write(const Model& model, GenerateOptions options, uint32_t lookup, size_t most = SIZE_MAX,
              size_t cancel_at = SIZE_MAX) {
  Chat chat = new_chat(model);
  must(chat.append(Role::kUser, "abcabcabcabcabcabc once upon a time abc"));
  options.lookup = lookup;
  GenerateOptions first = options;
  first.max_tokens = 20;
  first.stop.clear();
  must(chat.generate(first));
  Written written;
  options.sampling.reset();
  options.on_text = [&](std::string_view text) {
    written.pieces.emplace_back(text);
    if (written.pieces.size() == cancel_at) chat.cancel();
    return written.pieces.size() < most;
  };
  const Result<ChatStep> step = chat.generate(options);
  written.status = step.status();
  if (step.ok()) {
    written.step = step.value();
    written.turn = *chat.find(written.step.turn);
  }
  written.chat = chat.save().value();
  return written;
}

void check_same(const Written& got, const Written& want) {
  CHECK(got.pieces == want.pieces);
  CHECK(got.status.code() == want.status.code());
  CHECK(got.turn.tokens == want.turn.tokens);
  CHECK(got.turn.text == want.turn.text);
  CHECK(got.turn.end == want.turn.end);
  CHECK(got.step.tokens_read == want.step.tokens_read);
  CHECK(got.chat == want.chat);
  CHECK(want.step.drafted == 0);
}

GenerateOptions sampled(float temperature) {
  GenerateOptions options = write_tokens(120);
  options.loop_tokens = 0;
  options.sampling.emplace();
  options.sampling->temperature = temperature;
  options.sampling->seed = 4;
  options.sampling->repeat_penalty = temperature == 0.0f ? 1.0f : 1.05f;  // greedy goes round
  return options;
}

}  // namespace

TEST_CASE_FIXTURE(ChatModel, "lookup: a chat writes the same turns, in fewer passes") {
  uint64_t drafted = 0, accepted = 0;
  for (const float temperature : {0.0f, 0.3f, 1.0f}) {
    const GenerateOptions options = sampled(temperature);
    const Written plain = write(model, options, 0);
    for (const uint32_t lookup : {1, 4, 16}) {
      const Written got = write(model, options, lookup);
      check_same(got, plain);
      CHECK(got.step.accepted <= got.step.drafted);
      drafted += got.step.drafted, accepted += got.step.accepted;
    }
  }
  CHECK(accepted > 0);
  CHECK(drafted > accepted);
}

TEST_CASE_FIXTURE(ChatModel, "lookup: a turn ends at the same place, for whatever reason") {
  for (const float temperature : {0.0f, 0.5f}) {
    GenerateOptions options = sampled(temperature);
    const Written whole = write(model, options, 0);
    REQUIRE(whole.pieces.size() > 60);
    options.lookup_tokens = whole.turn.tokens;  // so nearly all guesses come true
    CHECK(write(model, options, 8).step.accepted > 80);
    for (size_t at = 1; at < 60; at += 4) {  // in the middle of passes, and between them
      CAPTURE(at);
      check_same(write(model, options, 8, at), write(model, options, 0, at));
      check_same(write(model, options, 8, SIZE_MAX, at), write(model, options, 0, SIZE_MAX, at));
      GenerateOptions shorter = options;
      shorter.max_tokens = at;
      check_same(write(model, shorter, 8), write(model, shorter, 0));
      GenerateOptions stops = options;
      stops.stop = {whole.pieces[at] + whole.pieces[at + 1], whole.pieces[at + 2]};
      const Written stopped = write(model, stops, 0);
      if (stopped.status.ok()) check_same(write(model, stops, 8), stopped);
      GenerateOptions token = options;
      token.stop_tokens = {whole.turn.tokens[at]};
      check_same(write(model, token, 8), write(model, token, 0));
      CHECK(write(model, token, 0).turn.end == TurnEnd::kStopToken);
    }
    GenerateOptions loops = options;
    loops.loop_tokens = 16;
    check_same(write(model, loops, 8), write(model, loops, 0));
  }
}

TEST_CASE_FIXTURE(ChatModel,
                  "lookup: what else may be looked up is given, and wrong options are named") {
  const Written plain = write(model, sampled(0.0f), 0);
  GenerateOptions options = sampled(0.0f);
  options.lookup_tokens = plain.turn.tokens;
  const Written got = write(model, options, 8);
  check_same(got, plain);
  CHECK(got.step.accepted >= 60);
  Chat chat = new_chat(model);
  must(chat.append(Role::kUser, "a"));
  options.lookup = 17;
  CHECK(chat.generate(options).status().message() == "lookup is 17, must be at most 16");
  options.lookup = 1;
  options.lookup_tokens = {1, 260};
  CHECK(chat.generate(options).status().message() == "lookup_tokens[1] is 260, ids are 0 to 259");
}

// ---- the C interface and the command -----------------------------------------------------------

TEST_CASE("lookup: the C interface writes the same, counts guesses, and knows older structs") {
  const CModel model = open_test_model(byte_language_model().spec);
  const std::vector<moka_token> prompt = tokens_of("once upon a time, once upon a");
  struct Run {
    std::string text;
    std::vector<float> logits;
    moka_generate_result result{};
  };
  const auto run = [&](uint64_t lookup, const std::vector<moka_token>& known, uint32_t size) {
    Run done;
    const Handle<moka_session> session = new_session(model.get());
    const Handle<moka_sampler> sampler = new_sampler(model.get(), 0.0f, 5);
    append(session.get(), prompt);
    moka_generate_options options;
    moka_generate_options_init(&options, sizeof options);
    CHECK(options.lookup == 0);
    options.stop_at_end = 0;
    options.max_tokens = 600;  // until the text repeats itself
    options.loop_tokens = 0;
    options.on_text = [](void* user, const char* piece, size_t bytes) -> int32_t {
      static_cast<std::string*>(user)->append(piece, bytes);
      return 0;
    };
    options.user = &done.text;
    if (size > offsetof(moka_generate_options, lookup)) {
      options.lookup = lookup;
      options.lookup_tokens = known.data();
      options.lookup_token_count = known.size();
    }
    options.struct_size = size;
    done.result.struct_size = size == sizeof options ? sizeof done.result : 16;
    done.result.accepted = 12345;
    CAPI_OK(moka_session_generate(session.get(), sampler.get(), &options, &done.result, &error));
    done.logits = logits_of(session.get());
    CHECK(done.result.tokens == 600);
    return done;
  };
  const uint32_t whole = sizeof(moka_generate_options);
  const Run plain = run(0, {}, whole);
  CHECK(plain.result.drafted == 0);
  CHECK(plain.result.accepted == 0);
  const Run older = run(0, {}, 72);
  CHECK(older.result.accepted == 12345);  // not its own
  const Run guessed = run(8, prompt, whole);
  CHECK(guessed.result.accepted > 0);
  CHECK(guessed.result.drafted >= guessed.result.accepted);
  for (const Run* other : {&older, &guessed}) {
    CHECK(other->text == plain.text);
    CHECK(other->logits == plain.logits);
  }
}

TEST_CASE("lookup: the C interface refuses what is wrong") {
  const CModel model = open_test_model(byte_language_model().spec);
  const Handle<moka_session> session = new_session(model.get());
  const Handle<moka_sampler> sampler = new_sampler(model.get(), 0.0f, 5);
  append(session.get(), tokens_of("once"));
  moka_generate_options options;
  moka_generate_options_init(&options, sizeof options);
  moka_error error;
  const auto message = [&] {
    CHECK(moka_session_generate(session.get(), sampler.get(), &options, nullptr, &error) !=
          MOKA_OK);
    return std::string(error.message);
  };
  options.lookup = 17;
  CHECK(message() == "lookup is 17, must be at most 16");
  options.lookup = 2;
  options.lookup_token_count = 3;
  CHECK(message() == "lookup_tokens is NULL, but has 3 elements");
  const moka_token wrong[] = {5, -1, 7};
  options.lookup_tokens = wrong;
  CHECK(message() == "lookup_tokens[1] is -1, ids are 0 to 259");
}

TEST_CASE("lookup: the command writes the same and says what came true") {
  const TemporaryFolder folder;
  const std::string path = folder / "m.moka";
  write_text_model(path);
  for (const char* tokens : {"60", "300"}) {  // with -n, past ends of texts
    std::vector<std::string> call = {"run", path, "-p", "Once upon Once upon Once", "-n", tokens};
    call.insert(call.end(), {"--temperature", "0.4", "--seed", "3"});
    const ProcessResult plain = moka_command(call);
    CHECK(plain.exit_code == 0);
    CHECK(!contains(plain.err, "guessed"));
    call.insert(call.end(), {"--lookup", "8"});
    const ProcessResult guessed = moka_command(call);
    CHECK(guessed.out == plain.out);
    CHECK_MESSAGE(contains(guessed.err, "\nguessed  "), guessed.err);
    CHECK_MESSAGE(contains(guessed.err, " came true\n"), guessed.err);
    call.push_back("--json");
    const nlohmann::json last = json_lines(moka_command(call).out).back();
    CHECK(last["generated_tokens"] == std::stoi(tokens));
    CHECK(last["drafted_tokens"] >= last["accepted_tokens"]);
  }
  const std::vector<std::string> greedy = {"run",      path, "-p", "Once", "--greedy",
                                           "--lookup", "16", "-n", "200",  "--json"};
  CHECK(json_lines(moka_command(greedy).out).back()["accepted_tokens"] > 0);
  const ProcessResult wrong = moka_command({"run", path, "-p", "a", "--lookup", "17"});
  CHECK(wrong.exit_code == 2);
  CHECK_MESSAGE(contains(wrong.err, "--lookup"), wrong.err);

  ProcessOptions lines;
  lines.input = "Once upon a time\n/retry\nOnce upon\n";
  std::vector<std::string> chat = {"chat", path, "-n", "60", "--seed", "2"};
  const ProcessResult plain = moka_command(chat, lines);
  chat.insert(chat.end(), {"--lookup", "8"});
  CHECK(moka_command(chat, lines).out == plain.out);
  CHECK(plain.exit_code == 0);
  chat.push_back("--json");
  const nlohmann::json last = json_lines(moka_command(chat, lines).out).back();
  CHECK(last["type"] == "written");
  CHECK(last["drafted_tokens"] >= last["accepted_tokens"]);
}

}  // namespace moka::test
