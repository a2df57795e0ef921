// Guesses: whatever is guessed, session and sampler are to the bit where single steps bring them.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "moka/moka.h"
#include "tests/allocation_counter.h"
#include "tests/session_testing.h"
#include "tests/task_models.h"

namespace moka::test {
namespace {

using Bytes = std::vector<uint8_t>;

Sampler make_sampler(const Model& model, float temperature) {
  SamplerOptions options;
  options.temperature = temperature;
  options.seed = 11;
  options.repeat_penalty = 1.3f, options.repeat_window = 7;
  auto sampler = Sampler::create(options, model.info().outputs);
  REQUIRE(sampler.ok());
  return std::move(sampler).value();
}

struct Kind {
  std::string name;
  TestModel model;
  bool memory = false;
};

// Wide enough for heads, rows and tiles to be handed out to threads; the window wraps all the time.
TestModelOptions wide(TestMixer mixer, DType weights) {
  TestModelOptions options;
  options.mixer = mixer, options.weights = weights;
  options.tiles = weights == DType::kI4;
  options.width = 96, options.heads = 6, options.latents = 96, options.hidden = 160;
  options.vocab_size = 300, options.window = 12;
  options.block = weights == DType::kF16 ? TestBlock::kGlu : TestBlock::kRmsSwiglu;
  return options;
}

// Windows are kept as halves with all weights but float32.
std::vector<Kind> all_kinds() {
  std::vector<Kind> kinds;
  for (const TestMixer mixer : {TestMixer::kLatte, TestMixer::kWindow, TestMixer::kMacchiato}) {
    for (const DType weights : {DType::kF32, DType::kF16, DType::kI8, DType::kI4}) {
      kinds.push_back(
          {"mixer " + std::to_string(static_cast<int>(mixer)) + ", " + dtype_name(weights),
           make_test_model(wide(mixer, weights))});
    }
  }
  for (const FrontKind kind : {FrontKind::kConv, FrontKind::kRgLru, FrontKind::kConvRgLru}) {
    TestModelOptions front;
    front.front = kind, front.vapor = kind != FrontKind::kConv, front.weights = DType::kI8;
    front.key_eps = 1e-3f, front.score_scale = 0.5f;
    kinds.push_back({"front " + std::to_string(static_cast<int>(kind)), make_test_model(front)});
  }
  TestModelOptions learned;
  learned.positions = PositionKind::kLearned, learned.max_length = 400;
  kinds.push_back({"learned positions", make_test_model(learned)});
  kinds.push_back({"softmax", softmax_model()});
  kinds.push_back({"answers from a memory", memory_model(true), true});
  return kinds;
}

Session begin(const Kind& kind, const Model& model, size_t prompt) {
  auto made = model.new_session();
  REQUIRE_MESSAGE(made.ok(), made.status().to_string());
  Session session = std::move(made).value();
  if (kind.memory) require_ok(session.append_memory(some_tokens(30, model.info().vocab_size, 3)));
  require_ok(session.append(some_tokens(prompt, model.info().vocab_size)));
  return session;
}

// What single steps write, and where they stand behind each token.
struct Plain {
  std::vector<TokenId> tokens;
  std::vector<Bytes> sessions, samplers;

  Plain(Session session, Sampler sampler, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      auto token = session.step(sampler);
      REQUIRE_MESSAGE(token.ok(), token.status().to_string());
      tokens.push_back(token.value());
      sessions.push_back(saved(session));
      samplers.push_back(sampler.save());
    }
  }
};

// Writes the same with `length` guesses in each pass, of which the first `right` are right; `right` goes
// round from 0 to all of them.
void check_guessing(const Plain& plain, Session session, Sampler sampler, size_t length,
                    size_t* right) {
  const size_t vocab = session.model().info().vocab_size;
  for (size_t done = 0; done < plain.tokens.size();) {
    auto token = sampler.sample(session.logits());
    REQUIRE(token.ok());
    REQUIRE(token.value() == plain.tokens[done]);
    const size_t count = std::min(length, plain.tokens.size() - done - 1);
    std::vector<TokenId> guesses(
        plain.tokens.begin() + static_cast<std::ptrdiff_t>(done) + 1,
        plain.tokens.begin() + static_cast<std::ptrdiff_t>(done + 1 + count));
    const size_t expected = std::min(*right % (length + 1), count);
    for (size_t i = expected; i < count; ++i) {  // those behind a wrong one may be right again
      if (i == expected || i % 2 == 0) {
        guesses[i] = static_cast<TokenId>((static_cast<size_t>(guesses[i]) + 1 + i) % vocab);
      }
    }
    ++*right;
    std::vector<TokenId> taken;
    auto read = session.append_with_guesses(token.value(), guesses, sampler, [&](TokenId id) {
      taken.push_back(id);
      return true;
    });
    REQUIRE_MESSAGE(read.ok(), read.status().to_string());
    REQUIRE(read.value() == expected + 1);
    REQUIRE(taken.size() == expected + 1);
    for (const TokenId id : taken) REQUIRE(id == plain.tokens[done++]);
    REQUIRE(saved(session) == plain.sessions[done - 1]);
    REQUIRE(sampler.save() == plain.samplers[done - 1]);
  }
}

}  // namespace

TEST_CASE("guesses: every kind of model writes what single steps write, to the bit") {
  for (const Kind& kind : all_kinds()) {
    for (const int threads : {1, 2}) {
      const Model model = open_spec(kind.model, threads);
      for (const float temperature : {0.0f, 1.0f}) {
        const Session session = begin(kind, model, 9);
        const Sampler sampler = make_sampler(model, temperature);
        const Plain plain(session.fork().value(), sampler, 40);
        size_t right = 0;
        for (const size_t length : {1, 2, 5, 16}) {
          INFO(kind.name << ", threads " << threads << ", temperature " << temperature
                         << ", guesses " << length);
          check_guessing(plain, session.fork().value(), sampler, length, &right);
        }
      }
    }
  }
}

TEST_CASE("guesses: the archive is reached in the middle of a pass") {
  for (const Kind& kind : all_kinds()) {
    if (kind.name == "learned positions") continue;  // there are 400
    const Model model = open_spec(kind.model);
    const Session session = begin(kind, model, 1011);
    const Sampler sampler = make_sampler(model, 0.8f);
    const Plain plain(session.fork().value(), sampler, 30);
    size_t right = 0;
    for (const size_t length : {3, 4, 16}) {
      INFO(kind.name << ", guesses " << length);
      check_guessing(plain, session.fork().value(), sampler, length, &right);
    }
  }
}

TEST_CASE("guesses: what does not fit into a chunk or below the limit is left out") {
  const Kind kind = {"learned", [] {
                       TestModelOptions options;
                       options.positions = PositionKind::kLearned, options.max_length = 20;
                       return make_test_model(options);
                     }()};
  for (const uint32_t chunk : {1, 4}) {
    const Model model = open_spec(kind.model, 1, chunk);
    const Session start = begin(kind, model, 6);
    const Sampler fresh = make_sampler(model, 0.0f);
    const Plain plain(start.fork().value(), fresh, 14);
    Session session = start.fork().value();
    Sampler sampler = fresh;
    size_t done = 0;
    while (session.position() < 20) {
      auto token = sampler.sample(session.logits());
      REQUIRE(token.ok());
      std::vector<TokenId> guesses(plain.tokens.begin() + static_cast<std::ptrdiff_t>(done) + 1,
                                   plain.tokens.end());
      guesses.resize(std::max<size_t>(guesses.size(), 8), 0);
      auto read = session.append_with_guesses(token.value(), guesses, sampler);
      REQUIRE_MESSAGE(read.ok(), read.status().to_string());
      CHECK(read.value() == std::min<size_t>(chunk, 14 - done));
      done += read.value();
      REQUIRE(saved(session) == plain.sessions[done - 1]);
    }
    const Bytes before = saved(session), sampler_before = sampler.save();
    const auto refused = session.append_with_guesses(1, {}, sampler);
    CHECK(refused.status().code() == StatusCode::kOutOfRange);
    CHECK(refused.status().message() ==
          "position 20 plus 1 tokens exceeds the model's limit of 20 positions");
    CHECK(saved(session) == before);
    CHECK(sampler.save() == sampler_before);
  }
}

TEST_CASE("guesses: the caller ends a pass at any token, and what it does meanwhile is its own") {
  const Kind kind = {"macchiato", make_test_model(wide(TestMixer::kMacchiato, DType::kI8))};
  const Model model = open_spec(kind.model);
  const Session start = begin(kind, model, 9);
  const Sampler fresh = make_sampler(model, 0.0f);
  const Plain plain(start.fork().value(), fresh, 9);
  const Span<const TokenId> guesses(plain.tokens.data() + 1, 8);
  for (const bool cancels : {false, true}) {
    for (size_t last = 1; last <= 9; ++last) {
      Session session = start.fork().value(), other = start.fork().value();
      Sampler sampler = fresh;
      size_t count = 0;
      const auto first = sampler.sample(session.logits());
      REQUIRE(first.ok());
      auto read = session.append_with_guesses(first.value(), guesses, sampler, [&](TokenId) {
        require_ok(other.append(some_tokens(11, 300)));  // on the same executor
        ++count;
        if (cancels && count == last) session.cancel();
        return cancels || count < last;
      });
      REQUIRE(read.ok());
      CHECK(read.value() == last);
      CHECK(count == last);
      CHECK(saved(session) == plain.sessions[last - 1]);
      CHECK(sampler.save() == plain.samplers[last - 1]);
      if (!cancels) continue;
      const auto next = session.step(sampler);
      CHECK(next.status().code() == StatusCode::kCancelled);
      CHECK(sampler.save() == plain.samplers[last - 1]);
      require_ok(session.step(sampler).status());  // used up
    }
  }
}

TEST_CASE("guesses: what is refused leaves session and sampler as they were") {
  const Kind kind = {"latte", make_test_model(wide(TestMixer::kLatte, DType::kF32))};
  const Model model = open_spec(kind.model);
  Session session = begin(kind, model, 5);
  Sampler sampler = make_sampler(model, 1.0f);
  const Bytes before = saved(session), sampler_before = sampler.save();
  const auto check = [&](const Result<size_t>& read, StatusCode code, const std::string& message) {
    CHECK(read.status().code() == code);
    CHECK(read.status().message() == message);
    CHECK(saved(session) == before);
    CHECK(sampler.save() == sampler_before);
  };
  const std::vector<TokenId> many(17, 1), one_guess(1, 1), wrong = {3, 4, 300};
  check(session.append_with_guesses(1, many, sampler), StatusCode::kInvalidArgument,
        "17 guesses, at most 16");
  check(session.append_with_guesses(1, wrong, sampler), StatusCode::kOutOfRange,
        "guesses: token 2 is 300, ids are 0 to 299");
  check(session.append_with_guesses(-1, {}, sampler), StatusCode::kOutOfRange,
        "token 0 is -1, ids are 0 to 299");
  session.cancel();
  check(session.append_with_guesses(1, one_guess, sampler), StatusCode::kCancelled,
        "cancelled before the first token was read");

  // A sampler that cannot draw: the token is read, and the next draw says why.
  SamplerOptions none;
  for (TokenId token = 0; token < 300; ++token) none.bias.push_back({token, -INFINITY});
  Sampler banned = std::move(Sampler::create(none, 300)).value();
  Session twin = session.fork().value();
  const TokenId one = 1;
  require_ok(twin.append(Span<const TokenId>(&one, 1)));
  const auto read = session.append_with_guesses(1, one_guess, banned);
  REQUIRE(read.ok());
  CHECK(read.value() == 1);
  CHECK(saved(session) == saved(twin));
  CHECK(session.step(banned).status().code() == StatusCode::kFailedPrecondition);

  const TestModel classes = classifier_model();
  const Model classifier = open_spec(classes);
  Session other = std::move(classifier.new_session()).value();
  const auto unsupported = other.append_with_guesses(1, {}, sampler);
  CHECK(unsupported.status().code() == StatusCode::kUnsupported);
  CHECK(unsupported.status().message() ==
        "only language models draw tokens, so nothing can be guessed for this one");
}

TEST_CASE("guesses: nothing is allocated after the first pass") {
  if (!counts_allocations()) {
    MESSAGE("skipped: allocations cannot be counted here");
    return;
  }
  for (const DType weights : {DType::kF32, DType::kI8}) {
    const Kind kind = {"macchiato", make_test_model(wide(TestMixer::kMacchiato, weights))};
    const Model model = open_spec(kind.model);
    Session session = begin(kind, model, 9);
    Sampler sampler = make_sampler(model, 1.0f);
    Lookup lookup = std::move(Lookup::create({})).value();
    const std::vector<TokenId> guesses = some_tokens(16, 300);
    require_ok(session.append_with_guesses(1, guesses, sampler).status());
    const uint64_t before = allocations();
    uint64_t tokens = 0;
    for (size_t i = 0; i < 40; ++i) {
      const auto read = session.append_with_guesses(static_cast<TokenId>(i % 5),
                                                    Span<const TokenId>(guesses.data(), i % 17),
                                                    sampler, [&](TokenId id) {
                                                      lookup.push(id);
                                                      return true;
                                                    });
      tokens += read.value();
      lookup.guess(1, 16);
    }
    CHECK(allocations() == before);
    CHECK(tokens >= 40);
  }
}

}  // namespace moka::test
