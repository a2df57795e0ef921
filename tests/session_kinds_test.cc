// Sessions of every kind of model: numbers, pooled outputs, memories, softmax attention, archives. And
// what ModelInfo says of each kind. See session_test.cc for the promises of language models.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "moka/moka.h"
#include "tests/allocation_counter.h"
#include "tests/session_testing.h"
#include "tests/task_models.h"

namespace moka::test {
namespace {

// Between ways to cut a sequence, for outputs of a few units; 2.6e-6 was seen (AVX2).
constexpr float kRounding = 5e-6f;

Session open_session(const Model& model) {
  Result<Session> session = model.new_session();
  REQUIRE_MESSAGE(session.ok(), session.status().to_string());
  return std::move(session).value();
}

void check_refused(const Status& status, StatusCode code, const std::string& message) {
  CHECK(status.code() == code);
  CHECK(status.message() == message);
}

std::vector<float> output_of(const Session& session) {
  const Span<const float> row = session.logits();
  return std::vector<float>(row.begin(), row.end());
}

LogitsSink collect(size_t outputs, std::vector<float>* rows) {
  return [outputs, rows](size_t first, size_t count, const float* row, size_t stride) {
    CHECK(first * outputs == rows->size());
    for (size_t i = 0; i < count; ++i) {
      rows->insert(rows->end(), row + i * stride, row + i * stride + outputs);
    }
    return Status();
  };
}

std::vector<float> rows_of(const Model& model, const SequenceInput& input,
                           const ReadOptions& options = {}) {
  std::vector<float> rows;
  require_ok(read_sequence(model, input, collect(model.info().outputs, &rows), options));
  return rows;
}

float largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  float worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    REQUIRE(std::isfinite(a[i]));
    worst = std::max(worst, std::fabs(a[i] - b[i]));
  }
  return worst;
}

TestModel forecaster(uint32_t features = 2) { return forecast_model(features, 3, {0.1f, 0.9f}); }

TestModel classifier(Pooling pooling) {
  TaskModelOptions options;
  options.pooling = pooling;
  return classifier_model(options);
}

// A language model that answers from a memory whose encoder does not look ahead.
TestModel causal_memory_model() {
  TestModel model = memory_model(true);
  std::get<LatteMixer>(model.spec.memory->blocks[0].mixer).causal = true;
  model.spec.required_features = features_of(model.spec);
  return model;
}

// A session of a kind that has read `steps` steps, and more of them.
struct Kind {
  std::string name;
  TestModel model;
  size_t memory;  // steps of the memory
  bool values;

  void read(Session* session, size_t first, size_t count) const {
    if (values) {
      const std::vector<float> all = some_values(2 * (first + count));
      require_ok(session->append_values(Span<const float>(all.data() + 2 * first, 2 * count)));
    } else {
      const std::vector<TokenId> all = some_tokens(first + count, 256);
      require_ok(session->append(Span<const TokenId>(all.data() + first, count)));
    }
  }
  Session begin(const Model& opened, size_t count) const {
    Session session = open_session(opened);
    if (memory > 0) require_ok(session.append_memory(some_tokens(memory, 256, 3)));
    read(&session, 0, count);
    return session;
  }
};

std::vector<Kind> all_kinds() {
  std::vector<Kind> kinds;
  kinds.push_back({"numbers", forecaster(), 0, true});
  kinds.push_back({"pooled, mean", classifier(Pooling::kMean), 0, false});
  kinds.push_back({"pooled, last", classifier(Pooling::kLast), 0, false});
  kinds.push_back({"pooled, first", classifier(Pooling::kFirst), 0, false});
  kinds.push_back({"embedding", embedding_model(), 0, false});
  kinds.push_back({"memory, language", memory_model(true), 40, false});
  kinds.push_back({"memory, classifier", memory_model(false), 1100, false});
  kinds.push_back({"memory, causal", causal_memory_model(), 90, false});
  kinds.push_back({"softmax", softmax_model(), 0, false});
  return kinds;
}

}  // namespace

TEST_CASE("session kinds: numbers give the rows that read_sequence() gives") {
  const TestModel test = forecaster();
  const Model model = open_spec(test);
  const std::vector<float> values = some_values(2 * 150);
  const std::vector<float> expected = rows_of(model, values);
  const size_t outputs = model.info().outputs;
  REQUIRE(outputs == 3 * 2 * 2);
  REQUIRE(expected.size() == 150 * outputs);
  Session session = open_session(model);
  std::vector<float> rows;
  require_ok(session.append_values(values, collect(outputs, &rows)));
  CHECK(rows == expected);
  CHECK(session.position() == 150);
  CHECK(output_of(session) == std::vector<float>(expected.end() - outputs, expected.end()));
  Session steps = open_session(model);
  for (size_t i = 0; i < 150; ++i) {
    require_ok(steps.append_values(Span<const float>(values.data() + 2 * i, 2)));
    const auto at = expected.begin() + static_cast<std::ptrdiff_t>(i * outputs);
    const std::vector<float> row(at, at + static_cast<std::ptrdiff_t>(outputs));
    CHECK(largest_difference(output_of(steps), row) <= 2e-5f);  // of numbers around 10
  }
}

TEST_CASE("session kinds: numbers that are refused leave the session as it was") {
  const TestModel test = forecaster(), words = softmax_model();
  const Model model = open_spec(test), language = open_spec(words);
  Session session = open_session(model), text = open_session(language);
  require_ok(session.append_values(some_values(10)));
  const std::vector<uint8_t> before = saved(session);
  const StatusCode invalid = StatusCode::kInvalidArgument;
  check_refused(session.append(some_tokens(3, 256)), invalid,
                "tokens were given, but the model reads 2 numbers per step");
  check_refused(text.append_values(some_values(2)), invalid,
                "numbers were given, but the model reads tokens");
  check_refused(session.append_values(some_values(5)), invalid,
                "5 numbers were given, expected a multiple of 2, the numbers of a step");
  std::vector<float> values = some_values(200);
  values[131] = std::numeric_limits<float>::quiet_NaN();
  check_refused(session.append_values(values), invalid,
                "the number at step 65, feature 1, is nan, expected a finite one");
  values[131] = 0.0f;
  check_refused(session.append_values(values, LogitsSink()), invalid,
                "the sink of the rows is empty");
  check_refused(session.append_memory_values(values), invalid,
                "the model reads one sequence; it has no memory");
  check_refused(session.append_values(values,
                                      [](size_t, size_t, const float*, size_t) {
                                        return Status(StatusCode::kIo, "the disk is full");
                                      }),
                StatusCode::kIo, "the disk is full");
  session.cancel();
  check_refused(session.append_values(values), StatusCode::kCancelled,
                "cancelled before the first token was read");
  require_ok(session.append_values(Span<const float>()));
  CHECK(saved(session) == before);
}

TEST_CASE("session kinds: a pooled session gives the output of the prefix after every step") {
  std::vector<TestModel> models = {embedding_model()};
  for (const Pooling pooling : {Pooling::kMean, Pooling::kLast, Pooling::kFirst}) {
    models.push_back(classifier(pooling));
  }
  for (const TestModel& test : models) {
    const Model model = open_spec(test);
    Session session = open_session(model);
    CHECK(session.logits().empty());
    const std::vector<TokenId> tokens = some_tokens(80, 256);
    for (size_t i = 0; i < tokens.size(); ++i) {
      require_ok(session.append(Span<const TokenId>(&tokens[i], 1)));
      const Span<const TokenId> prefix(tokens.data(), i + 1);
      CHECK(largest_difference(output_of(session), rows_of(model, prefix)) <= kRounding);
    }
    // Every row of a sink is that of its prefix, too.
    std::vector<float> rows;
    Session whole = open_session(model);
    require_ok(whole.append(tokens, collect(model.info().outputs, &rows)));
    CHECK(rows.size() == tokens.size() * model.info().outputs);
    CHECK(std::vector<float>(rows.end() - model.info().outputs, rows.end()) == output_of(whole));
    CHECK(largest_difference(output_of(whole), output_of(session)) <= kRounding);
  }
}

TEST_CASE("session kinds: the memory comes first, and how often") {
  const TestModel ahead = memory_model(true), causal = causal_memory_model();
  const Model model = open_spec(ahead), pieces = open_spec(causal);
  const std::vector<TokenId> memory = some_tokens(100, 256, 3), question = some_tokens(20, 256);
  const StatusCode order = StatusCode::kFailedPrecondition;
  Session session = open_session(model);
  check_refused(session.append(question), order,
                "the model answers from a second sequence: append_memory() comes first");
  require_ok(session.append_memory(Span<const TokenId>()));
  CHECK(session.memory_position() == 0);
  check_refused(session.append_memory(std::vector<TokenId>{4, 260}), StatusCode::kOutOfRange,
                "token 1 is 260, ids are 0 to 259");
  check_refused(session.append_memory_values(some_values(4)), StatusCode::kInvalidArgument,
                "numbers were given, but the model reads tokens");
  session.cancel();
  check_refused(session.append_memory(memory), StatusCode::kCancelled,
                "cancelled before the memory was read");
  CHECK(session.memory_position() == 0);
  require_ok(session.append_memory(memory));
  CHECK(session.memory_position() == 100);
  CHECK(session.position() == 0);
  check_refused(session.append_memory(memory), order,
                "the memory was read already: its encoder sees ahead, so it takes all of it in one "
                "call; reset() begins anew");
  require_ok(session.append(question));
  const std::string late =
      "append_memory() after append(): the memory is read before the first question; fork() a "
      "session to ask several";
  check_refused(session.append_memory(memory), order, late);
  ReadOptions options;
  options.memory = memory;
  const std::vector<float> rows = rows_of(model, question, options);
  CHECK(output_of(session) == std::vector<float>(rows.end() - 260, rows.end()));
  session.reset();
  CHECK(session.memory_position() == 0);
  check_refused(session.append(question), order,
                "the model answers from a second sequence: append_memory() comes first");

  Session one = open_session(pieces), many = open_session(pieces);
  require_ok(one.append_memory(memory));
  for (size_t i = 0; i < 100; i += 20) {
    require_ok(many.append_memory(Span<const TokenId>(memory.data() + i, 20)));
    CHECK(many.memory_position() == i + 20);
  }
  require_ok(one.append(question));
  require_ok(many.append(question));
  CHECK(largest_difference(output_of(one), output_of(many)) <= kRounding);
  check_refused(many.append_memory(memory), order, late);
  const std::vector<float> causal_rows = rows_of(pieces, question, options);
  CHECK(output_of(one) == std::vector<float>(causal_rows.end() - 260, causal_rows.end()));
}

TEST_CASE("session kinds: forks ask two questions of one memory") {
  for (const TestModel& test : {memory_model(true), memory_model(false), causal_memory_model()}) {
    const Model model = open_spec(test);
    const std::vector<TokenId> memory = some_tokens(1200, 256, 3);
    ReadOptions options;
    options.memory = memory;
    Session base = open_session(model);
    require_ok(base.append_memory(memory));
    const std::vector<uint8_t> before = saved(base);
    Result<Session> first = base.fork(), second = base.fork();
    REQUIRE((first.ok() && second.ok()));
    CHECK(first.value().memory_position() == 1200);
    for (const uint64_t seed : {5u, 8u}) {
      Session& fork = seed == 5u ? first.value() : second.value();
      const std::vector<TokenId> question = some_tokens(30, 256, seed);
      require_ok(fork.append(question));
      const std::vector<float> rows = rows_of(model, question, options);
      const size_t outputs = model.info().outputs;
      CHECK(output_of(fork) == std::vector<float>(rows.end() - outputs, rows.end()));
    }
    CHECK(output_of(first.value()) != output_of(second.value()));
    CHECK(saved(base) == before);
  }
}

TEST_CASE("session kinds: save, restore and fork go on bit for bit") {
  for (const Kind& kind : all_kinds()) {
    CAPTURE(kind.name);
    const Model model = open_spec(kind.model);
    // 700: several growths of the cache of softmax attention; 1100: beyond the archive.
    for (const size_t count : {size_t{1}, size_t{700}, size_t{1100}}) {
      CAPTURE(count);
      Session session = kind.begin(model, count);
      const std::vector<uint8_t> middle = saved(session);
      const std::vector<float> output = output_of(session);
      Result<Session> fork = session.fork();
      REQUIRE(fork.ok());
      Session restored = kind.begin(model, 1500);  // something longer first
      require_ok(restored.restore(middle));
      Session fresh = open_session(model);
      require_ok(fresh.restore(middle));
      for (Session* other : {&fork.value(), &restored, &fresh}) {
        CHECK(other->position() == count);
        CHECK(other->memory_position() == kind.memory);
        CHECK(output_of(*other) == output);
        CHECK(saved(*other) == middle);
      }
      kind.read(&session, count, 40);
      const std::vector<uint8_t> end = saved(session);
      CHECK(saved(fork.value()) == middle);
      for (Session* other : {&fork.value(), &restored, &fresh}) {
        kind.read(other, count, 40);
        CHECK(saved(*other) == end);
      }
    }
    if (kind.memory == 0) continue;
    Session asked = open_session(model), again = open_session(model);
    require_ok(asked.append_memory(some_tokens(kind.memory, 256, 3)));
    require_ok(again.restore(saved(asked)));  // between the memory and the question
    kind.read(&asked, 0, 9);
    kind.read(&again, 0, 9);
    CHECK(saved(again) == saved(asked));
  }
}

TEST_CASE("session kinds: damaged and foreign sessions are refused and change nothing") {
  const std::vector<Kind> kinds = all_kinds();
  for (size_t k = 0; k < kinds.size(); ++k) {
    const Kind& kind = kinds[k];
    CAPTURE(kind.name);
    const Model model = open_spec(kind.model);
    Session session = kind.begin(model, 30);
    const std::vector<uint8_t> good = saved(session);
    const size_t step = good.size() / 40;
    for (size_t at = 0; at < good.size(); at += at < 64 ? 1 : step) {
      const Span<const uint8_t> cut(good.data(), at);
      CHECK(session.restore(cut).code() == StatusCode::kCorrupt);
      std::vector<uint8_t> bad = good;
      bad[at] ^= 0x20;
      const bool version = at >= 8 && at < 12;
      CHECK(session.restore(bad).code() == (version ? StatusCode::kVersion : StatusCode::kCorrupt));
    }
    std::vector<uint8_t> longer = good;
    longer.push_back(0);
    check_refused(session.restore(longer), StatusCode::kCorrupt,
                  "saved session: the checksum does not match; it is damaged or cut off");
    // Pooling is not part of the fingerprint of a model without a file: take one of other weights.
    const Kind& other = kind.values ? kinds[1] : kinds[0];
    const Model other_model = open_spec(other.model);
    check_refused(
        session.restore(saved(other.begin(other_model, 30))), StatusCode::kFailedPrecondition,
        "saved session: it belongs to another model file; sessions continue only with the "
        "very file that they were made with");
    CHECK(saved(session) == good);
  }
}

TEST_CASE("session kinds: models without sessions say what to use") {
  TaskModelOptions ahead;
  ahead.causal = false;
  const std::string whole =
      "the model sees ahead, so it has no sessions: read_sequence() reads a whole sequence";
  for (const TestModel& test :
       {classifier_model(ahead), linformer_model(64), image_model(true), pair_model(ahead)}) {
    const Model model = open_spec(test);
    CHECK_FALSE(model.info().causal);
    check_refused(model.new_session().status(), StatusCode::kFailedPrecondition, whole);
  }
  const TestModel pair = pair_model();
  const Model model = open_spec(pair);
  CHECK(model.info().causal);
  check_refused(model.new_session().status(), StatusCode::kFailedPrecondition,
                "the model compares two sequences, so it has no sessions: use read_pair()");
  check_refused(model.new_session(Executor()).status(), StatusCode::kInvalidArgument,
                "the executor was made by another model");
}

TEST_CASE("session kinds: nothing is allocated per step") {
  if (!counts_allocations()) {
    MESSAGE("skipped: allocations cannot be counted in this build");
    return;
  }
  const std::vector<float> values = some_values(2 * 40);
  const std::vector<TokenId> tokens = some_tokens(40, 256);
  for (const Kind& kind : all_kinds()) {
    CAPTURE(kind.name);
    const Model model = open_spec(kind.model);
    // Past the first archive. The cache of softmax attention has grown to have room for 500 more.
    Session session = kind.begin(model, 1100);
    kind.read(&session, 1100, 10);
    Result<Sampler> sampler = Sampler::create({}, model.info().outputs);
    REQUIRE(sampler.ok());
    const bool language = model.info().output == OutputKind::kLanguage;
    if (language) REQUIRE(session.step(sampler.value()).ok());
    const uint64_t before = allocations();
    bool ok = true;
    for (size_t i = 0; i < 40; ++i) {
      if (kind.values) {
        ok = session.append_values(Span<const float>(values.data() + 2 * i, 2)).ok() && ok;
      } else if (language) {
        ok = session.step(sampler.value()).ok() && ok;
      } else {
        ok = session.append(Span<const TokenId>(&tokens[i], 1)).ok() && ok;
      }
    }
    if (kind.values) ok = session.append_values(values).ok() && ok;
    if (!kind.values) ok = session.append(tokens).ok() && ok;
    CHECK(allocations() - before == 0);
    CHECK(ok);
  }
}

}  // namespace moka::test
