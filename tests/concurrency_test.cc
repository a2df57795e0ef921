// One model used from many threads at once: executors side by side, batches, cancelling, a tokenizer.
// Results are those of one thread; the thread sanitizer (preset tsan) watches how they come about.
#include <doctest/doctest.h>

#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "moka/moka.h"
#include "tests/chat_testing.h"
#include "tests/spec_builder.h"

namespace moka {
namespace {

using test::TestModel;

using Bytes = std::vector<uint8_t>;

TestModel made_model(DType weights) {
  test::TestModelOptions options = test::chat_model_options();
  options.weights = weights;
  return test::make_test_model(options);
}

Model open(const TestModel& made, int threads) {
  OpenOptions options;
  options.executor.threads = threads;
  options.executor.chunk = 16;
  auto model = Model::from_spec(made.spec, options);
  REQUIRE_MESSAGE(model.ok(), model.status().to_string());
  return std::move(model).value();
}

// Runs in threads of their own, where doctest's macros would wait for each other: empty is failure.
Bytes read_and_write(const Model& model, const Executor& executor,
                     const std::vector<TokenId>& tokens) {
  auto session = model.new_session(executor);
  SamplerOptions options;
  options.seed = 5;
  auto sampler = Sampler::create(options, model.info().outputs);
  if (!session.ok() || !sampler.ok() || !session.value().append(tokens).ok()) return {};
  for (int i = 0; i < 12; ++i) {
    if (!session.value().step(sampler.value()).ok()) return {};
  }
  auto bytes = session.value().save();
  return bytes.ok() ? std::move(bytes).value() : Bytes();
}

}  // namespace

TEST_CASE("concurrency: executors of one model run side by side, with the bits of one alone") {
  for (const DType weights : {DType::kF32, DType::kI8}) {
    const TestModel made = made_model(weights);
    const Model model = open(made, 2);
    const std::vector<TokenId> tokens = test::some_tokens(90, 256);
    const Bytes want = read_and_write(model, model.executor(), tokens);
    REQUIRE(!want.empty());
    std::vector<Bytes> results(4);
    std::vector<std::thread> threads;
    for (Bytes& result : results) {
      threads.emplace_back([&model, &tokens, &result] {
        ExecutorOptions options;
        options.threads = 2;
        options.chunk = 16;
        auto executor = model.new_executor(options);
        if (executor.ok()) result = read_and_write(model, executor.value(), tokens);
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const Bytes& result : results) CHECK(result == want);
  }
}

TEST_CASE("concurrency: batches on one executor, while others read there and elsewhere") {
  const TestModel made = made_model(DType::kF32);
  const Model model = open(made, 2);
  const std::vector<TokenId> tokens = test::some_tokens(60, 256);
  const Bytes alone = read_and_write(model, model.executor(), tokens);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      if (read_and_write(model, model.executor(), tokens) != alone) ++wrong;
    });
    threads.emplace_back([&] {
      auto a = model.new_session(), b = model.new_session();
      auto sampler = Sampler::create({}, model.info().outputs);
      if (!a.ok() || !b.ok() || !sampler.ok()) {
        ++wrong;
        return;
      }
      const SessionSteps batch[] = {{&a.value(), tokens, {}}, {&b.value(), tokens, {}}};
      if (!model.executor().append(Span<const SessionSteps>(batch, 2)).ok()) ++wrong;
      for (int i = 0; i < 10; ++i) {
        SessionDraw draws[] = {{&a.value(), &sampler.value()}, {&b.value(), &sampler.value()}};
        if (!model.executor().step(Span<SessionDraw>(draws, 2)).ok()) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("concurrency: cancel from other threads, again and again") {
  const TestModel made = made_model(DType::kF32);
  const Model model = open(made, 2);
  const std::vector<TokenId> tokens = test::some_tokens(200, 256);
  auto session = model.new_session();
  REQUIRE(session.ok());
  Chat chat = test::new_chat(model);
  std::atomic<bool> done{false};
  std::thread canceller([&] {
    while (!done) {
      session.value().cancel();
      chat.cancel();
      std::this_thread::yield();
    }
  });
  int whole = 0, cancelled = 0, other = 0;
  const auto count = [&](const Status& status) {
    const bool ended = status.code() == StatusCode::kCancelled;
    ++(status.ok() ? whole : ended ? cancelled : other);
  };
  for (int i = 0; i < 40; ++i) {
    const uint64_t before = session.value().position();
    const Status read = session.value().append(tokens);
    count(read);
    CHECK(session.value().position() == before + (read.ok() ? tokens.size() : 0));
    const size_t turns = chat.turns().size();
    const Status turn = chat.append(Role::kUser, "something to say, longer than a chunk").status();
    count(turn);
    CHECK(chat.turns().size() == turns + (turn.ok() ? 1 : 0));
  }
  done = true;
  canceller.join();
  CHECK(other == 0);
  CHECK(whole + cancelled == 80);
  session.value().cancel();
  CHECK(session.value().append(tokens).code() == StatusCode::kCancelled);  // used up by this call
  CHECK(session.value().append(tokens).ok());
}

TEST_CASE("concurrency: a tokenizer and a model's facts serve many threads") {
  const TestModel made = made_model(DType::kF32);
  const Model model = open(made, 1);
  const std::string text = "Many threads read this text at once.";
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        std::vector<TokenId> ids;
        if (!model.tokenizer().encode(text, &ids).ok()) ++wrong;
        auto back = model.tokenizer().decode(ids);
        if (!back.ok() || back.value() != text) ++wrong;
        const Model copy = model;
        if (copy.info().fingerprint != model.info().fingerprint) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

}  // namespace moka
