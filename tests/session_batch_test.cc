// Batches of sessions: each session gets the bits that it gets alone, all move or none, and the error
// names the one to blame.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "moka/moka.h"
#include "moka/profile.h"
#include "runtime/executor.h"
#include "tests/allocation_counter.h"
#include "tests/session_testing.h"
#include "tests/task_models.h"

namespace moka::test {
namespace {

std::vector<std::vector<uint8_t>> saved(const std::vector<Session>& sessions) {
  std::vector<std::vector<uint8_t>> all;
  for (const Session& session : sessions) all.push_back(test::saved(session));
  return all;
}

Sampler make_sampler(size_t outputs, uint64_t seed) {
  SamplerOptions options;
  options.seed = seed;
  options.repeat_penalty = 1.2f;
  options.repeat_window = 4;
  auto sampler = Sampler::create(options, outputs);
  REQUIRE(sampler.ok());
  return std::move(sampler).value();
}

// A model by name, and how its sessions read.
struct Kind {
  std::string name;
  TestModel model;
  size_t features = 0;  // 0: tokens
  bool memory = false;
};

std::vector<Kind> all_kinds() {
  std::vector<Kind> kinds;
  const auto add = [&](const std::string& name, const TestModelOptions& options) {
    kinds.push_back({name, make_test_model(options)});
  };
  for (const TestMixer mixer : {TestMixer::kLatte, TestMixer::kWindow, TestMixer::kMacchiato}) {
    const std::string name = "mixer " + std::to_string(static_cast<int>(mixer));
    for (const DType weights : {DType::kF32, DType::kF16, DType::kI8, DType::kI4}) {
      TestModelOptions options;
      options.mixer = mixer;
      options.weights = weights;
      options.tiles = weights == DType::kI4;
      // Wide enough for heads, rows and tiles to be handed out to threads.
      options.width = 96, options.heads = 6, options.latents = 96, options.hidden = 160;
      options.vocab_size = 700, options.window = 12;
      options.block = weights == DType::kF16 ? TestBlock::kGlu : TestBlock::kRmsSwiglu;
      add(name + ", weights " + std::to_string(static_cast<int>(weights)), options);
    }
  }
  TestModelOptions front;
  front.front = FrontKind::kConvRgLru, front.vapor = true, front.weights = DType::kI8;
  add("recurrent front", front);
  front.front = FrontKind::kConv, front.block = TestBlock::kTransformerPost;
  add("convolution front", front);
  TestModelOptions learned;
  learned.positions = PositionKind::kLearned, learned.max_length = 400;
  add("learned positions", learned);
  kinds.push_back({"softmax", softmax_model()});
  kinds.push_back({"answers from a memory", memory_model(true), 0, true});
  for (const Pooling pooling : {Pooling::kMean, Pooling::kFirst, Pooling::kLast}) {
    TaskModelOptions options;
    options.pooling = pooling;
    kinds.push_back({"classifier", classifier_model(options)});
  }
  kinds.push_back({"embedding", embedding_model()});
  kinds.push_back({"forecast", forecast_model(2, 3, {0.1f, 0.9f}), 2});
  return kinds;
}

// What session `i` reads as its `call`-th piece.
struct Piece {
  std::vector<TokenId> tokens;
  std::vector<float> values;
};
Piece piece_of(const Kind& kind, const ModelInfo& info, size_t count, uint64_t seed) {
  Piece piece;
  if (kind.features == 0) {
    piece.tokens = some_tokens(count, info.vocab_size, seed);
  } else {
    piece.values = some_values(count * kind.features);
    for (float& value : piece.values) value += static_cast<float>(seed % 7);
  }
  return piece;
}
Status read_alone(const Kind& kind, Session* session, const Piece& piece) {
  return kind.features == 0 ? session->append(piece.tokens) : session->append_values(piece.values);
}

std::vector<Session> begin_sessions(const Kind& kind, const Model& model, size_t count) {
  std::vector<Session> sessions;
  for (size_t i = 0; i < count; ++i) {
    auto session = model.new_session();
    REQUIRE_MESSAGE(session.ok(), session.status().to_string());
    if (kind.memory) require_ok(session.value().append_memory(some_tokens(5 + i, 256, 3 + i)));
    sessions.push_back(std::move(session).value());
  }
  return sessions;
}

// Steps per session and call. With a chunk of 16 the first is one round, the second three, with pieces
// that share rounds, the third several of full size.
const std::vector<std::vector<size_t>> kCalls = {
    {1, 3, 0, 2, 5}, {20, 1, 13, 16, 4}, {50, 33, 1, 0, 17}, {1, 1, 1, 1, 1}, {0, 0, 0, 0, 0}};

}  // namespace

TEST_CASE("session batch: each session gets the bits that it gets alone") {
  for (const Kind& kind : all_kinds()) {
    CAPTURE(kind.name);
    for (const int threads : {1, 2}) {
      CAPTURE(threads);
      const Model model = open_spec(kind.model, threads, 16);
      std::vector<Session> alone = begin_sessions(kind, model, 5);
      std::vector<Session> together = begin_sessions(kind, model, 5);
      for (size_t call = 0; call < kCalls.size(); ++call) {
        CAPTURE(call);
        std::vector<Piece> pieces;
        std::vector<SessionSteps> batch;
        for (size_t i = 0; i < 5; ++i) {
          pieces.push_back(piece_of(kind, model.info(), kCalls[call][i], 10 * call + i));
          require_ok(read_alone(kind, &alone[i], pieces[i]));
        }
        for (size_t i = 0; i < 5; ++i) {
          batch.push_back({&together[i], pieces[i].tokens, pieces[i].values});
        }
        size_t culprit = 0;
        require_ok(model.executor().append(batch, &culprit));
        CHECK(culprit == 5);
        CHECK(saved(together) == saved(alone));
      }
      CHECK(together[0].position() == 72);
      CHECK(together[2].position() == 15);
    }
  }
}

TEST_CASE("session batch: more sessions than rows, and an executor of its own") {
  const Kind kind{"", make_test_model()};
  const Model model = open_spec(kind.model, 2, 4);
  ExecutorOptions options;
  options.threads = 1;
  options.chunk = 4;
  auto other = model.new_executor(options);
  REQUIRE(other.ok());
  std::vector<Session> alone = begin_sessions(kind, model, 11);
  std::vector<Session> together = begin_sessions(kind, model, 11);
  for (int step = 0; step < 20; ++step) {
    std::vector<std::vector<TokenId>> tokens;
    std::vector<SessionSteps> batch;
    for (size_t i = 0; i < alone.size(); ++i) {
      tokens.push_back(some_tokens(step == 7 ? i : 1, 50, i + static_cast<size_t>(step)));
      require_ok(alone[i].append(tokens[i]));
    }
    for (size_t i = 0; i < alone.size(); ++i) batch.push_back({&together[i], tokens[i], {}});
    require_ok((step % 2 == 0 ? other.value() : model.executor()).append(batch));
  }
  CHECK(saved(together) == saved(alone));
  // A batch of none.
  size_t culprit = 7;
  CHECK(model.executor().append(Span<const SessionSteps>(), &culprit).ok());
  CHECK(culprit == 0);
}

TEST_CASE("session batch: step draws and reads what each session would alone") {
  for (const Kind& kind : {Kind{"", make_test_model()}, Kind{"", softmax_model()}}) {
    const Model model = open_spec(kind.model, 2, 4);
    const size_t vocab = model.info().vocab_size;
    std::vector<Session> alone = begin_sessions(kind, model, 6);
    std::vector<Session> together = begin_sessions(kind, model, 6);
    std::vector<Sampler> alone_samplers, samplers;
    std::vector<SessionDraw> batch;
    for (size_t i = 0; i < 6; ++i) {
      const std::vector<TokenId> prompt = some_tokens(1 + 3 * i, model.info().vocab_size, i);
      require_ok(alone[i].append(prompt));
      require_ok(together[i].append(prompt));
      alone_samplers.push_back(make_sampler(vocab, i));
      samplers.push_back(make_sampler(vocab, i));
    }
    for (size_t i = 0; i < 6; ++i) batch.push_back({&together[i], &samplers[i]});
    std::set<TokenId> seen;
    for (int step = 0; step < 300; ++step) {
      require_ok(model.executor().step(batch));
      for (size_t i = 0; i < 6; ++i) {
        auto token = alone[i].step(alone_samplers[i]);
        REQUIRE(token.ok());
        REQUIRE(batch[i].token == token.value());
        seen.insert(token.value());
      }
    }
    CHECK(seen.size() > 20);
    CHECK(saved(together) == saved(alone));
    for (size_t i = 0; i < 6; ++i) CHECK(samplers[i].save() == alone_samplers[i].save());
  }
}

TEST_CASE("session batch: one sampler for several sessions draws in their order") {
  const Kind kind{"", make_test_model()};
  const Model model = open_spec(kind.model, 1, 8);
  std::vector<Session> alone = begin_sessions(kind, model, 3);
  std::vector<Session> together = begin_sessions(kind, model, 3);
  Sampler sampler = make_sampler(50, 4), alone_sampler = make_sampler(50, 4);
  std::vector<SessionDraw> batch;
  for (size_t i = 0; i < 3; ++i) {
    require_ok(alone[i].append(some_tokens(2, 50, i)));
    require_ok(together[i].append(some_tokens(2, 50, i)));
    batch.push_back({&together[i], &sampler});
  }
  for (int step = 0; step < 40; ++step) {
    together[2].cancel();  // a call that fails takes all draws back
    const std::vector<uint8_t> before = sampler.save();
    CHECK(model.executor().step(batch).code() == StatusCode::kCancelled);
    REQUIRE(sampler.save() == before);
    require_ok(model.executor().step(batch));
    for (size_t i = 0; i < 3; ++i) {
      REQUIRE(alone[i].step(alone_sampler).value() == batch[i].token);
    }
  }
  CHECK(saved(together) == saved(alone));
}

TEST_CASE("session batch: an error names the session, and none has moved") {
  TestModelOptions limited;
  limited.positions = PositionKind::kLearned;
  limited.max_length = 40;
  const Kind kind{"", make_test_model(limited)};
  const Model model = open_spec(kind.model, 1, 8), twin = open_spec(kind.model, 1, 8);
  std::vector<Session> sessions = begin_sessions(kind, model, 4);
  for (size_t i = 0; i < 4; ++i) require_ok(sessions[i].append(some_tokens(3 + i, 50, i)));
  std::vector<Session> foreign = begin_sessions(kind, twin, 1);
  const auto before = saved(sessions);
  const std::vector<TokenId> good = {1, 2, 3}, bad = {1, 50}, many = some_tokens(36, 50);
  const std::vector<float> values = {1.0f};
  std::vector<SessionSteps> batch;
  for (Session& session : sessions) batch.push_back({&session, good, {}});
  StatusCode code = StatusCode::kInvalidArgument;
  std::string message;
  size_t place = 2;

  SUBCASE("null") {
    batch[2].session = nullptr;
    message = "session 2: it is null";
  }
  SUBCASE("moved from") {
    Session gone = std::move(foreign[0]);
    batch[2].session = &foreign[0];  // NOLINT: that is the case
    message = "session 2: it was moved from";
  }
  SUBCASE("named twice") {
    batch[2].session = &sessions[0];
    message = "session 2: it is the same session as session 0";
  }
  SUBCASE("of another model") {
    batch[2].session = &foreign[0];
    message = "session 2: it belongs to another model than the executor";
  }
  SUBCASE("a token outside the vocabulary") {
    batch[2].tokens = bad;
    code = StatusCode::kOutOfRange;
    message = "session 2: token 1 is 50, ids are 0 to 49";
  }
  SUBCASE("past the position limit") {
    batch[2].tokens = many;
    code = StatusCode::kOutOfRange;
    message = "session 2: position 5 plus 36 tokens exceeds the model's limit of 40 positions";
  }
  SUBCASE("numbers for a model of tokens") {
    batch[1].tokens = {};
    batch[1].values = values;
    place = 1;
    message = "session 1: numbers were given, but the model reads tokens";
  }
  SUBCASE("both") {
    batch[3].values = values;
    place = 3;
    message = "session 3: tokens and values were given; a model reads one of them";
  }
  SUBCASE("cancelled before") {
    sessions[3].cancel();
    place = 3;
    code = StatusCode::kCancelled;
    message = "session 3: cancelled before the first token was read";
  }
  size_t culprit = 99;
  const Status status = model.executor().append(batch, &culprit);
  CHECK(status.code() == code);
  CHECK(status.message() == message);
  CHECK(culprit == place);
  CHECK(saved(sessions) == before);

  // And all go on as if nothing had been.
  batch.clear();
  for (Session& session : sessions) batch.push_back({&session, good, {}});
  require_ok(model.executor().append(batch, &culprit));
  CHECK(culprit == 4);
  for (size_t i = 0; i < 4; ++i) CHECK(sessions[i].position() == 6 + i);
}

TEST_CASE("session batch: step names the entry, and samplers have not moved either") {
  TestModelOptions limited;
  limited.positions = PositionKind::kLearned;
  limited.max_length = 5;
  const Kind kind{"", make_test_model(limited)};
  const Model model = open_spec(kind.model, 1, 8);
  std::vector<Session> sessions = begin_sessions(kind, model, 3);
  for (size_t i = 0; i < 3; ++i) require_ok(sessions[i].append(some_tokens(2, 50, i)));
  std::vector<Sampler> samplers;
  for (size_t i = 0; i < 3; ++i) samplers.push_back(make_sampler(50, i));
  std::vector<SessionDraw> batch;
  for (size_t i = 0; i < 3; ++i) batch.push_back({&sessions[i], &samplers[i]});
  SamplerOptions banned;
  for (TokenId id = 0; id < 50; ++id) {
    banned.bias.push_back({id, -std::numeric_limits<float>::infinity()});
  }
  auto mute = Sampler::create(banned, 50), wrong = Sampler::create({}, 49);
  REQUIRE((mute.ok() && wrong.ok()));
  require_ok(model.executor().step(batch));  // tokens are in the ring
  StatusCode code = StatusCode::kFailedPrecondition;
  std::string message;

  SUBCASE("no sampler") {
    batch[2].sampler = nullptr;
    code = StatusCode::kInvalidArgument;
    message = "session 2: its sampler is null";
  }
  SUBCASE("nothing was read") {
    sessions[2].reset();
    message = "session 2: nothing was read yet: append() a token before step()";
  }
  SUBCASE("all banned") {
    batch[2].sampler = &mute.value();
    message =
        "session 2: sampler: every token is banned (all logits with their bias are -infinity)";
  }
  SUBCASE("a sampler of another size") {
    batch[2].sampler = &wrong.value();
    code = StatusCode::kInvalidArgument;
    message = "session 2: sampler: 50 logits, not 49";
  }
  SUBCASE("cancelled") {
    sessions[2].cancel();
    code = StatusCode::kCancelled;
    message = "session 2: cancelled before the first token was read";
  }
  SUBCASE("past the limit") {
    require_ok(sessions[2].append(some_tokens(2, 50)));
    code = StatusCode::kOutOfRange;
    message = "session 2: position 5 plus 1 tokens exceeds the model's limit of 5 positions";
  }
  const auto before = saved(sessions);
  std::vector<std::vector<uint8_t>> samplers_before;
  for (const Sampler& sampler : samplers) samplers_before.push_back(sampler.save());
  const TokenId token = batch[0].token;
  size_t culprit = 99;
  const Status status = model.executor().step(batch, &culprit);
  CHECK(status.code() == code);
  CHECK(status.message() == message);
  CHECK(culprit == 2);
  CHECK(saved(sessions) == before);
  for (size_t i = 0; i < 3; ++i) CHECK(samplers[i].save() == samplers_before[i]);
  CHECK(batch[0].token == token);
}

TEST_CASE("session batch: Session::step that fails takes its draw back") {
  const Kind kind{"", make_test_model()};
  const Model model = open_spec(kind.model, 1, 8);
  std::vector<Session> sessions = begin_sessions(kind, model, 1);
  require_ok(sessions[0].append(some_tokens(2, 50)));
  Sampler sampler = make_sampler(50, 3);
  for (int i = 0; i < 6; ++i) REQUIRE(sessions[0].step(sampler).ok());
  const std::vector<uint8_t> before = sampler.save();
  sessions[0].cancel();
  CHECK(sessions[0].step(sampler).status().code() == StatusCode::kCancelled);
  CHECK(sampler.save() == before);
}

TEST_CASE("session batch: other kinds of refusal") {
  const Kind answering{"", memory_model(true)};
  const Model model = open_spec(answering.model, 1, 8);
  std::vector<Session> sessions = begin_sessions(answering, model, 2);
  require_ok(sessions[0].append_memory(some_tokens(4, 256)));
  const std::vector<TokenId> tokens = {1, 2};
  size_t culprit = 0;
  const std::vector<SessionSteps> batch = {{&sessions[0], tokens, {}}, {&sessions[1], tokens, {}}};
  Status status = model.executor().append(batch, &culprit);
  CHECK(status.code() == StatusCode::kFailedPrecondition);
  CHECK(status.message() ==
        "session 1: the model answers from a second sequence: append_memory() comes first");
  CHECK(culprit == 1);
  CHECK(sessions[0].position() == 0);

  status = Executor().append(batch, &culprit);
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message() == "the executor is empty; take a model's");
  CHECK(culprit == 2);
  CHECK(Executor().step(Span<SessionDraw>()).code() == StatusCode::kInvalidArgument);
  // Refused by its size: the entries are not looked at.
  status = model.executor().append(Span<const SessionSteps>(batch.data(), (size_t{1} << 20) + 1));
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message() == "a batch of 1048577 sessions; at most 1048576 go together");

  const Kind forecast{"", forecast_model(2, 3, {0.1f, 0.9f}), 2};
  const Model values = open_spec(forecast.model, 1, 8);
  std::vector<Session> series = begin_sessions(forecast, values, 1);
  require_ok(series[0].append_values(some_values(2)));
  Sampler sampler = make_sampler(values.info().outputs, 1);
  std::vector<SessionDraw> draws = {{&series[0], &sampler}};
  status = values.executor().step(draws, &culprit);
  CHECK(status.message() == "session 0: tokens were given, but the model reads 2 numbers per step");
  const std::vector<float> odd = {1.0f, 2.0f, 3.0f};
  const std::vector<SessionSteps> steps = {{&series[0], {}, odd}};
  CHECK(values.executor().append(steps).message() ==
        "session 0: 3 numbers were given, expected a multiple of 2, the numbers of a step");
}

TEST_CASE("session batch: cancelled between rounds, all sessions are as before") {
  const Kind kind{"", make_test_model()};
  const Model model = open_spec(kind.model, 1, 8);
  std::vector<Session> sessions = begin_sessions(kind, model, 3);
  for (size_t i = 0; i < 3; ++i) require_ok(sessions[i].append(some_tokens(3 + i, 50, i)));
  const auto before = saved(sessions);
  const std::vector<TokenId> tokens = some_tokens(20000, 50);
  std::vector<SessionSteps> batch;
  for (Session& session : sessions) batch.push_back({&session, tokens, {}});
  std::string message;
  // The request may come before the first round when the machine is busy; once it comes later.
  for (int attempt = 0; attempt < 50 && message.find(" of 20000 ") == std::string::npos;
       ++attempt) {
    std::atomic<bool> begin{false};
    std::thread canceller([&] {
      while (!begin.load()) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::milliseconds(3));
      sessions[0].cancel();
    });
    begin.store(true);
    size_t culprit = 0;
    const Status status = model.executor().append(batch, &culprit);
    canceller.join();
    REQUIRE(status.code() == StatusCode::kCancelled);
    CHECK(culprit == 0);
    message = status.message();
    REQUIRE(saved(sessions) == before);
  }
  CHECK_MESSAGE(message.find("session 0: cancelled after ") == 0, message);
  CHECK_MESSAGE(message.find(" of 20000 tokens") != std::string::npos, message);
}

TEST_CASE("session batch: nothing is allocated after the first use") {
  if (!counts_allocations()) {
    MESSAGE("skipped: allocations cannot be counted in this build");
    return;
  }
  for (const DType weights : {DType::kF32, DType::kI8}) {
    TestModelOptions options;
    options.weights = weights;
    const Kind kind{"", make_test_model(options)};
    const Model model = open_spec(kind.model, 2, 4);
    std::vector<Session> sessions = begin_sessions(kind, model, 6);
    std::vector<Sampler> samplers;
    const std::vector<TokenId> prompt = some_tokens(9, 50);
    std::vector<SessionSteps> steps;
    std::vector<SessionDraw> draws;
    for (size_t i = 0; i < 6; ++i) samplers.push_back(make_sampler(50, i));
    for (size_t i = 0; i < 6; ++i) {
      steps.push_back({&sessions[i], Span<const TokenId>(prompt.data(), i + 4), {}});
      draws.push_back({&sessions[i], &samplers[i]});
    }
    require_ok(model.executor().append(steps));
    require_ok(model.executor().step(draws));
    const uint64_t before = allocations();
    bool ok = true;
    for (int i = 0; i < 300; ++i) ok = model.executor().step(draws).ok() && ok;
    for (int i = 0; i < 20; ++i) ok = model.executor().append(steps).ok() && ok;
    CHECK(allocations() - before == 0);
    CHECK(ok);
  }
}

TEST_CASE("session batch: a profile names the sampling and what was read, and ends") {
  const Kind kind{"", make_test_model()};
  const Model model = open_spec(kind.model, 2, 8);
  std::vector<Session> sessions = begin_sessions(kind, model, 3);
  std::vector<Sampler> samplers;
  for (size_t i = 0; i < 3; ++i) {
    require_ok(sessions[i].append(some_tokens(2, 50, i)));
    samplers.push_back(make_sampler(50, i));
  }
  std::vector<SessionDraw> draws;
  for (size_t i = 0; i < 3; ++i) draws.push_back({&sessions[i], &samplers[i]});
  const auto plain = saved(sessions);
  const Executor& executor = model.executor();
  CHECK(executor.stop_profile().spans.empty());
  CHECK(executor.start_profile(0).code() == StatusCode::kInvalidArgument);
  require_ok(executor.start_profile());
  require_ok(executor.step(draws));
  REQUIRE(sessions[0].step(samplers[0]).ok());
  const Profile profile = executor.stop_profile();
  std::vector<uint32_t> sampled;
  std::set<std::string> names;
  uint64_t end = 0;
  for (const ProfileSpan& span : profile.spans) {
    names.insert(span.name);
    if (span.name == std::string("sample")) sampled.push_back(span.rows);
    CHECK(span.thread < 2);
    if (span.part) continue;
    CHECK(span.thread == 0);
    CHECK(span.start >= end);  // operators follow each other
    end = span.start + span.duration;
  }
  CHECK(sampled == std::vector<uint32_t>{3, 1});
  CHECK(names.count("embed") == 1);
  CHECK(names.count("logits") == 1);
  CHECK(profile.dropped == 0);
  REQUIRE(sessions[0].step(samplers[0]).ok());
  CHECK(executor.stop_profile().spans.empty());

  require_ok(executor.start_profile(2));  // no room: counted, not lost silently
  require_ok(executor.step(draws));
  CHECK(executor.stop_profile().dropped > 0);
}

}  // namespace moka::test
