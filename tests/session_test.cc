// Promises of a session: any split reads the same, save and restore continue bit for bit, forks are
// independent, a call that fails changes nothing, and the bits do not depend on threads or mates.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <thread>
#include <vector>

#include "moka/moka.h"
#include "runtime/forward.h"
#include "runtime/state.h"
#include "tests/spec_builder.h"

namespace moka {
namespace {

using test::some_tokens;
using test::TestBlock;
using test::TestMixer;
using test::TestModel;
using test::TestModelOptions;

Model open_model(const TestModel& made, int threads = 1, uint32_t chunk = 64,
                 const char* isa = nullptr) {
  OpenOptions options;
  options.executor.threads = threads;
  options.executor.chunk = chunk;
  options.isa = isa;
  auto model = Model::from_spec(made.spec, options);
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  return std::move(model).value();
}

Session open_session(const Model& model) {
  auto session = model.new_session();
  REQUIRE(session.ok());
  return std::move(session).value();
}

std::vector<uint8_t> saved(const Session& session) {
  auto bytes = session.save();
  REQUIRE(bytes.ok());
  return std::move(bytes).value();
}

float largest_difference(Span<const float> a, Span<const float> b) {
  REQUIRE(a.size() == b.size());
  float worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::fabs(a[i] - b[i]));
  return worst;
}

// Every block and mixer, in every stored type.
std::vector<TestModelOptions> all_models() {
  std::vector<TestModelOptions> all;
  for (const DType weights : {DType::kF32, DType::kF16, DType::kI8}) {
    for (const TestMixer mixer : {TestMixer::kLatte, TestMixer::kWindow, TestMixer::kMacchiato}) {
      for (const TestBlock block :
           {TestBlock::kTransformer, TestBlock::kGlu, TestBlock::kRmsSwiglu}) {
        TestModelOptions options;
        options.weights = weights, options.mixer = mixer, options.block = block;
        options.tied = block == TestBlock::kRmsSwiglu;
        options.positions =
            mixer == TestMixer::kLatte ? PositionKind::kSinusoidal : PositionKind::kNone;
        all.push_back(options);
      }
    }
  }
  TestModelOptions front;
  front.front = FrontKind::kConvRgLru, front.vapor = true;
  all.push_back(front);
  return all;
}

}  // namespace

TEST_CASE("session: any split of the tokens gives the same logits") {
  for (const TestModelOptions& options : all_models()) {
    CAPTURE(static_cast<int>(options.weights));
    CAPTURE(static_cast<int>(options.mixer));
    CAPTURE(static_cast<int>(options.block));
    const TestModel made = test::make_test_model(options);
    const Model model = open_model(made);
    const std::vector<TokenId> tokens = some_tokens(150, options.vocab_size);
    Session step = open_session(model);
    for (const TokenId token : tokens) REQUIRE(step.append(Span<const TokenId>(&token, 1)).ok());
    uint64_t random = 9;
    for (const size_t size : {size_t{7}, size_t{64}, size_t{150}, size_t{0}}) {
      Session session = open_session(model);
      for (size_t done = 0; done < tokens.size();) {
        random = random * 6364136223846793005u + 1;
        const size_t piece = size != 0 ? size : 1 + (random >> 33) % 40;
        const size_t count = std::min(piece, tokens.size() - done);
        REQUIRE(session.append(Span<const TokenId>(tokens.data() + done, count)).ok());
        done += count;
      }
      CAPTURE(size);
      // Int8 activations step at rounding, so a difference in the last bit may grow to a step.
      const float bound = options.weights == DType::kI8 ? 3e-2f : 1e-4f;
      CHECK(largest_difference(session.logits(), step.logits()) <= bound);
      CHECK(session.position() == 150);
    }
  }
}

TEST_CASE("session: the same bits for any number of threads") {
  for (const TestModelOptions& base : all_models()) {
    TestModelOptions options = base;
    options.width = 96, options.heads = 6, options.latents = 96, options.hidden = 200,
    options.window = 40;
    options.vocab_size = 3000;  // wide enough for work to be handed out
    const TestModel made = test::make_test_model(options);
    const std::vector<TokenId> tokens = some_tokens(130, options.vocab_size);
    std::vector<uint8_t> first;
    for (const int threads : {1, 2, 3}) {
      const Model model = open_model(made, threads);
      Session session = open_session(model);
      REQUIRE(session.append(tokens).ok());
      const TokenId last = 3;
      REQUIRE(session.append(Span<const TokenId>(&last, 1)).ok());
      if (first.empty()) first = saved(session);
      CAPTURE(threads);
      CHECK(saved(session) == first);
    }
  }
}

TEST_CASE("session: the same bits whatever else is in the batch") {
  for (const TestModelOptions& options : all_models()) {
    const TestModel made = test::make_test_model(options);
    auto weights = PackedWeights::create();
    REQUIRE(weights.ok());
    const Plan plan = make_plan(made.spec, *weights.value());
    auto kernels = select_kernels(nullptr);
    REQUIRE(kernels.ok());
    auto forward = Forward::create(plan, *kernels.value(), *weights.value(), 2, 64);
    REQUIRE(forward.ok());
    const std::vector<TokenId> tokens = some_tokens(40, options.vocab_size);
    const size_t outputs = plan.outputs;
    CAPTURE(static_cast<int>(options.weights));
    CAPTURE(static_cast<int>(options.mixer));
    CAPTURE(static_cast<int>(options.block));
    // Three sequences of 1, 9 and 17 tokens, alone and together.
    const size_t counts[] = {1, 9, 17};
    std::vector<std::vector<float>> alone, state(3, std::vector<float>(plan.state_floats));
    std::vector<std::vector<float>> state_alone(3, std::vector<float>(plan.state_floats));
    std::vector<Sequence> sequences(3);
    for (size_t i = 0; i < 3; ++i) {
      reset_state(plan, state[i].data());
      reset_state(plan, state_alone[i].data());
      sequences[i].tokens = tokens.data() + i;
      sequences[i].count = counts[i];
      sequences[i].state = state_alone[i].data();
      REQUIRE(forward.value()->read(Span<Sequence>(&sequences[i], 1)).ok());
      AlignedBuffer<float> row;
      REQUIRE(row.allocate(outputs));
      REQUIRE(forward.value()->logits(counts[i] - 1, 1, row.data()).ok());
      alone.emplace_back(row.data(), row.data() + outputs);
      sequences[i].state = state[i].data();
    }
    REQUIRE(forward.value()->read(Span<Sequence>(sequences)).ok());
    for (size_t i = 0; i < 3; ++i) {
      AlignedBuffer<float> row;
      REQUIRE(row.allocate(outputs));
      REQUIRE(forward.value()->logits(sequences[i].row + counts[i] - 1, 1, row.data()).ok());
      CHECK(std::vector<float>(row.data(), row.data() + outputs) == alone[i]);
      CHECK(state[i] == state_alone[i]);
    }
  }
}

TEST_CASE("session: save, restore and fork continue bit for bit") {
  for (const TestModelOptions& options : all_models()) {
    const TestModel made = test::make_test_model(options);
    const Model model = open_model(made, 2);
    const std::vector<TokenId> tokens = some_tokens(90, options.vocab_size);
    const Span<const TokenId> head(tokens.data(), 33), tail(tokens.data() + 33, 57);
    Session session = open_session(model);
    REQUIRE(session.append(head).ok());
    const std::vector<uint8_t> middle = saved(session);
    auto fork = session.fork();
    REQUIRE(fork.ok());
    CHECK(saved(fork.value()) == middle);
    REQUIRE(session.append(tail).ok());
    const std::vector<uint8_t> end = saved(session);
    CHECK(saved(fork.value()) == middle);  // the fork did not move

    Session restored = open_session(model);
    REQUIRE(restored.append(tail).ok());  // something else first
    REQUIRE(restored.restore(middle).ok());
    CHECK(restored.position() == 33);
    REQUIRE(restored.append(tail).ok());
    CHECK(saved(restored) == end);
    REQUIRE(fork.value().append(tail).ok());
    CHECK(saved(fork.value()) == end);

    session.reset();
    CHECK(session.position() == 0);
    CHECK(session.logits().empty());
    REQUIRE(session.append(head).ok());
    CHECK(saved(session) == middle);
  }
}

TEST_CASE("session: a damaged or foreign saved session is refused and changes nothing") {
  const TestModel made = test::make_test_model({});
  const Model model = open_model(made);
  Session session = open_session(model);
  REQUIRE(session.append(some_tokens(12, 50)).ok());
  const std::vector<uint8_t> good = saved(session);
  for (size_t cut = 0; cut < good.size(); cut += cut < 64 ? 1 : 97) {
    const Status status = session.restore(Span<const uint8_t>(good.data(), cut));
    CHECK(status.code() == StatusCode::kCorrupt);
  }
  for (size_t at = 0; at < good.size(); at += at < 64 ? 1 : 61) {
    std::vector<uint8_t> bad = good;
    bad[at] ^= 0x10;
    const StatusCode code = session.restore(bad).code();
    CHECK((code == StatusCode::kCorrupt || (at >= 8 && at < 12 && code == StatusCode::kVersion)));
  }
  TestModelOptions other_options;
  other_options.seed = 2;
  const TestModel other = test::make_test_model(other_options);
  const Model other_model = open_model(other);
  Session foreign = open_session(other_model);
  CHECK(foreign.restore(good).code() == StatusCode::kFailedPrecondition);
  CHECK(saved(session) == good);
  CHECK(session.restore_file("/nonexistent/session").code() == StatusCode::kNotFound);
}

TEST_CASE("session: a failed or cancelled call leaves the session as it was") {
  TestModelOptions options;
  options.positions = PositionKind::kLearned;
  options.max_length = 200;
  const TestModel made = test::make_test_model(options);
  const Model model = open_model(made, 1, 16);
  Session session = open_session(model);
  REQUIRE(session.append(some_tokens(20, 50)).ok());
  const std::vector<uint8_t> before = saved(session);
  const std::vector<TokenId> more = some_tokens(60, 50, 8);

  SUBCASE("a token outside the vocabulary") {
    std::vector<TokenId> bad = more;
    bad[59] = 50;
    const Status status = session.append(bad);
    CHECK(status.code() == StatusCode::kOutOfRange);
    CHECK(status.message() == "token 59 is 50, ids are 0 to 49");
    bad[59] = -1;
    CHECK(session.append(bad).code() == StatusCode::kOutOfRange);
  }
  SUBCASE("past the position limit") {
    const Status status = session.append(some_tokens(181, 50));
    CHECK(status.code() == StatusCode::kOutOfRange);
    CHECK(status.message() ==
          "position 20 plus 181 tokens exceeds the model's limit of 200 positions");
    CHECK(model.info().position_limit == 200);
  }
  SUBCASE("cancelled before it began") {
    session.cancel();
    CHECK(session.append(more).code() == StatusCode::kCancelled);
  }
  SUBCASE("cancelled between chunks") {
    size_t rows = 0;
    const Status status = session.append(more, [&](size_t, size_t count, const float*, size_t) {
      rows += count;
      if (rows >= 32) session.cancel();
      return Status();
    });
    CHECK(status.code() == StatusCode::kCancelled);
    CHECK(status.message() == "cancelled after 32 of 60 tokens");
  }
  SUBCASE("ended by the sink") {
    const Status status = session.append(more, [](size_t first, size_t, const float*, size_t) {
      return first < 16 ? Status() : Status(StatusCode::kIo, "the disk is full");
    });
    CHECK(status.code() == StatusCode::kIo);
    CHECK(status.message() == "the disk is full");
  }
  CHECK(session.position() == 20);
  CHECK(saved(session) == before);
  REQUIRE(session.append(more).ok());  // and it goes on
  Session fresh = open_session(model);
  REQUIRE(fresh.append(some_tokens(20, 50)).ok());
  REQUIRE(fresh.append(more).ok());
  CHECK(saved(session) == saved(fresh));
}

TEST_CASE("session: every row reaches the sink, in order") {
  const TestModel made = test::make_test_model({});
  const Model model = open_model(made, 1, 8);
  const std::vector<TokenId> tokens = some_tokens(21, 50);
  // Its own executor: the one of `session` is busy while the sink runs.
  const Model other = open_model(made, 1, 8);
  Session session = open_session(model), stepper = open_session(other);
  size_t next = 0;
  const Status status =
      session.append(tokens, [&](size_t first, size_t rows, const float* logits, size_t stride) {
        CHECK(first == next);
        for (size_t r = 0; r < rows; ++r) {
          REQUIRE(stepper.append(Span<const TokenId>(&tokens[first + r], 1)).ok());
          CHECK(largest_difference(stepper.logits(), Span<const float>(logits + r * stride, 50)) <
                1e-4f);
        }
        next += rows;
        return Status();
      });
  CHECK(status.ok());
  CHECK(next == 21);
}

TEST_CASE("session: wrong use is named") {
  const TestModel made = test::make_test_model({});
  const Model model = open_model(made);
  Session session = open_session(model);
  auto sampler = Sampler::create({}, 50);
  REQUIRE(sampler.ok());
  CHECK(session.step(sampler.value()).status().code() == StatusCode::kFailedPrecondition);
  CHECK(session.append(Span<const TokenId>()).ok());
  CHECK(session.position() == 0);

  ExecutorOptions options;
  options.threads = -1;
  CHECK(model.new_executor(options).status().message() ==
        "threads is -1, must be 0 (automatic) to 256");
  options.threads = 1;
  options.chunk = 0;
  CHECK(model.new_executor(options).status().message() == "chunk is 0, must be 1 to 1024");
  OpenOptions open;
  open.isa = "mmx";
  const Status status = Model::from_spec(made.spec, open).status();
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message().find("the ISA option is 'mmx'; this machine runs: ") == 0);
  const Model twin = open_model(made);
  auto executor = twin.new_executor({});
  REQUIRE(executor.ok());
  CHECK(model.new_session(executor.value()).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("session: sessions on several threads share one executor") {
  const TestModel made = test::make_test_model({});
  const Model model = open_model(made, 2);
  const std::vector<TokenId> tokens = some_tokens(70, 50);
  Session alone = open_session(model);
  REQUIRE(alone.append(tokens).ok());
  std::vector<std::vector<uint8_t>> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([&model, &tokens, &result] {
      auto session = model.new_session();
      if (!session.ok()) return;
      for (const TokenId token : tokens) {
        if (!session.value().append(Span<const TokenId>(&token, 1)).ok()) return;
      }
      auto bytes = session.value().save();
      if (bytes.ok()) result = std::move(bytes).value();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) CHECK(result == results[0]);
  CHECK(!results[0].empty());
}

}  // namespace moka
