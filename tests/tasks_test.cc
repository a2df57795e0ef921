// Tasks against the plain way: read_sequence() and sessions, with arithmetic in double.
#include "moka/tasks.h"

#include <cmath>
#include <string>
#include <vector>

#include "doctest/doctest.h"
#include "moka/moka.h"
#include "tests/spec_builder.h"
#include "tests/task_models.h"

namespace moka::test {
namespace {

Model open_spec(const TestModel& model) {
  Result<Model> opened = Model::from_spec(model.spec);
  REQUIRE_MESSAGE(opened.ok(), opened.status().to_string());
  return std::move(opened).value();
}

const std::vector<TokenId> kText = {72, 101, 108, 108, 111, 32, 119, 111, 114, 108, 100, 33};

std::vector<std::vector<float>> rows_of(const Model& model, const SequenceInput& input) {
  std::vector<std::vector<float>> rows;
  const LogitsSink sink = [&](size_t first, size_t count, const float* logits, size_t stride) {
    CHECK(first == rows.size());
    for (size_t i = 0; i < count; ++i) {
      rows.emplace_back(logits + i * stride, logits + i * stride + model.info().outputs);
    }
    return Status();
  };
  const Status status = read_sequence(model, input, sink);
  REQUIRE_MESSAGE(status.ok(), status.to_string());
  return rows;
}

void check_refused(const Status& status, StatusCode code, const std::string& message) {
  CHECK(status.code() == code);
  CHECK(status.message() == message);
}

}  // namespace

TEST_CASE("tasks: classify gives the softmax of the row, and the names of the classes") {
  for (const bool causal : {true, false}) {
    TaskModelOptions options;
    options.causal = causal;
    const TestModel test = classifier_model(options);
    const Model model = open_spec(test);
    const Result<Classification> result = classify(model, kText);
    REQUIRE_MESSAGE(result.ok(), result.status().to_string());
    const Classification& c = result.value();
    const std::vector<std::vector<float>> rows = rows_of(model, kText);
    REQUIRE(rows.size() == 1);
    CHECK(c.logits == rows[0]);
    REQUIRE(c.probabilities.size() == 3);
    double sum = 0;
    for (size_t i = 0; i < 3; ++i) sum += std::exp(static_cast<double>(c.logits[i]));
    for (size_t i = 0; i < 3; ++i) {
      CHECK(c.probabilities[i] == doctest::Approx(std::exp(c.logits[i]) / sum).epsilon(1e-6));
      CHECK(c.logits[i] <= c.logits[c.best]);
    }
    CHECK(class_names(model) == std::vector<std::string>{"bad", "fair", "good"});
  }
  TaskModelOptions unnamed;
  unnamed.labels = false;
  CHECK(class_names(open_spec(classifier_model(unnamed))) ==
        std::vector<std::string>{"0", "1", "2"});
  CHECK(class_names(open_spec(embedding_model())).empty());
}

TEST_CASE("tasks: equal logits and large ones") {
  const std::vector<float> equal = {2.0f, 2.0f, -1.0f};
  CHECK(classification_of(equal).best == 0);
  const std::vector<float> large = {3e38f, -3e38f};
  CHECK(classification_of(large).probabilities == std::vector<float>{1.0f, 0.0f});
}

TEST_CASE("tasks: a session's output classifies what it has read") {
  const TestModel test = classifier_model();
  const Model model = open_spec(test);
  Result<Session> session = model.new_session();
  REQUIRE(session.ok());
  REQUIRE(session.value().append(Span<const TokenId>(kText.data(), 5)).ok());
  REQUIRE(session.value().append(Span<const TokenId>(kText.data() + 5, kText.size() - 5)).ok());
  const Classification streamed = classification_of(session.value().logits());
  const Result<Classification> whole = classify(model, kText);
  REQUIRE(whole.ok());
  for (size_t i = 0; i < 3; ++i) {
    CHECK(streamed.logits[i] == doctest::Approx(whole.value().logits[i]).epsilon(1e-5));
  }
}

TEST_CASE("tasks: compare reads two sequences; order matters") {
  const TestModel test = pair_model();
  const Model model = open_spec(test);
  const std::vector<TokenId> other = {65, 66, 67};
  const Result<Classification> ab = compare(model, kText, other);
  const Result<Classification> ba = compare(model, other, kText);
  REQUIRE_MESSAGE(ab.ok(), ab.status().to_string());
  REQUIRE(ba.ok());
  const Result<std::vector<float>> row = read_pair(model, kText, other);
  REQUIRE(row.ok());
  CHECK(ab.value().logits == row.value());
  CHECK(ab.value().logits != ba.value().logits);
  CHECK(class_names(model) == std::vector<std::string>{"0", "1"});
}

TEST_CASE("tasks: embed, and the cosine of two vectors") {
  const TestModel test = embedding_model();
  const Model model = open_spec(test);
  const Result<std::vector<float>> vector = embed(model, kText);
  REQUIRE_MESSAGE(vector.ok(), vector.status().to_string());
  CHECK(vector.value().size() == model.info().outputs);
  CHECK(cosine_similarity(vector.value(), vector.value()) == doctest::Approx(1.0));

  const std::vector<float> x = {1, 0}, y = {0, 2}, minus = {-3, 0}, zero = {0, 0};
  CHECK(cosine_similarity(x, y) == 0.0);
  CHECK(cosine_similarity(x, minus) == -1.0);
  CHECK(cosine_similarity(x, zero) == 0.0);
  const std::vector<float> diagonal = {1, 1};
  CHECK(cosine_similarity(x, diagonal) == doctest::Approx(std::sqrt(0.5)));
}

TEST_CASE("tasks: score is the log-softmax of each next token") {
  TestModelOptions options;
  options.vocab_size = 260;
  const TestModel test = make_test_model(options);
  const Model model = open_spec(test);
  const std::vector<std::vector<float>> rows = rows_of(model, kText);
  for (const size_t first : {size_t{1}, size_t{5}, kText.size() - 1}) {
    CAPTURE(first);
    const Result<Score> result = score(model, kText, first);
    REQUIRE_MESSAGE(result.ok(), result.status().to_string());
    const Score& s = result.value();
    REQUIRE(s.log_likelihoods.size() == kText.size() - first);
    REQUIRE(s.most_likely.size() == kText.size() - first);
    double total = 0;
    for (size_t i = first; i < kText.size(); ++i) {
      const std::vector<float>& row = rows[i - 1];
      double sum = 0;
      size_t best = 0;
      for (size_t j = 0; j < row.size(); ++j) {
        sum += std::exp(static_cast<double>(row[j]));
        if (row[j] > row[best]) best = j;
      }
      const double expected =
          static_cast<double>(row[static_cast<size_t>(kText[i])]) - std::log(sum);
      CHECK(s.log_likelihoods[i - first] == doctest::Approx(expected).epsilon(1e-5));
      CHECK(static_cast<size_t>(s.most_likely[i - first]) == best);
      total += s.log_likelihoods[i - first];
    }
    CHECK(s.log_likelihood == doctest::Approx(total));
  }
  check_refused(score(model, kText, 0).status(), StatusCode::kInvalidArgument,
                "score: the first token has nothing before it; the first scored one is 1 or later");
  check_refused(score(model, kText, 12).status(), StatusCode::kOutOfRange,
                "score: nothing is left to score: 12 tokens, of which 12 are context");
  const std::vector<TokenId> outside = {1, 2, 260};
  check_refused(score(model, outside, 1).status(), StatusCode::kOutOfRange,
                "score: token 260 at 2 is outside of the vocabulary of 260");
}

TEST_CASE("tasks: forecast gives the last row, then goes on from its medians") {
  for (const bool causal : {true, false}) {
    CAPTURE(causal);
    TaskModelOptions options;
    options.causal = causal;
    const TestModel test = forecast_model(2, 3, {0.1f, 0.5f, 0.9f}, options);
    const Model model = open_spec(test);
    std::vector<float> history;
    for (int i = 0; i < 20; ++i) {
      history.push_back(10.0f + static_cast<float>(i % 5));
      history.push_back(8.0f - static_cast<float>(i % 3));
    }
    const Result<Forecast> five = forecast(model, history, 5);
    REQUIRE_MESSAGE(five.ok(), five.status().to_string());
    const Forecast& f = five.value();
    CHECK(f.steps == 5);
    CHECK(f.outputs == 2);
    CHECK(f.middle == 1);
    CHECK(f.quantiles == std::vector<float>{0.1f, 0.5f, 0.9f});
    REQUIRE(f.values.size() == 5 * 2 * 3);
    const std::vector<float> row = rows_of(model, Span<const float>(history)).back();
    REQUIRE(row.size() == 3 * 2 * 3);
    for (size_t i = 0; i < row.size(); ++i) {
      CHECK(f.values[i] == doctest::Approx(row[i]).epsilon(1e-5));
    }
    std::vector<float> longer = history;
    for (size_t i = 0; i < 6; ++i) longer.push_back(f.values[i * 3 + 1]);  // medians
    const std::vector<float> next = rows_of(model, Span<const float>(longer)).back();
    for (size_t i = 0; i < 2 * 2 * 3; ++i) {
      CHECK(f.values[18 + i] == doctest::Approx(next[i]).epsilon(1e-4));
    }
  }
}

TEST_CASE("tasks: forecast without quantiles, and what it refuses") {
  const TestModel test = forecast_model(1, 1, {});
  const Model model = open_spec(test);
  const std::vector<float> history = {9.0f, 10.0f, 11.0f};
  const Result<Forecast> three = forecast(model, history, 3);
  REQUIRE_MESSAGE(three.ok(), three.status().to_string());
  CHECK(three.value().values.size() == 3);
  CHECK(three.value().quantiles.empty());
  check_refused(forecast(model, history, 0).status(), StatusCode::kInvalidArgument,
                "forecast: the horizon is 0");
  check_refused(forecast(model, {}, 1).status(), StatusCode::kInvalidArgument,
                "forecast: no history");
  const TestModel two = forecast_model(2, 1, {});
  check_refused(forecast(open_spec(two), history, 1).status(), StatusCode::kInvalidArgument,
                "forecast: a history of 3 numbers is not whole steps of 2");
}

TEST_CASE("tasks: a model with another head is refused by what it has and what is needed") {
  const TestModel classifier = classifier_model();
  const TestModel embedder = embedding_model();
  const Model c = open_spec(classifier), e = open_spec(embedder);
  check_refused(embed(c, kText).status(), StatusCode::kInvalidArgument,
                "embed needs a model with an embedding head; this one has a classifier");
  check_refused(compare(c, kText, kText).status(), StatusCode::kInvalidArgument,
                "compare needs a model with a comparison of two sequences; this one has a "
                "classifier");
  check_refused(classify(e, kText).status(), StatusCode::kInvalidArgument,
                "classify needs a model with a classifier; this one has an embedding head");
  check_refused(score(e, kText, 1).status(), StatusCode::kInvalidArgument,
                "score needs a model with a language head; this one has an embedding head");
  const std::vector<float> history = {1.0f};
  check_refused(forecast(e, history, 1).status(), StatusCode::kInvalidArgument,
                "forecast needs a model with a regression head; this one has an embedding head");
}

TEST_CASE("tasks: a flag cancels them") {
  const TestModel test = forecast_model(1, 1, {});
  const Model model = open_spec(test);
  const std::atomic<bool> stop{true};
  ReadOptions options;
  options.cancel = &stop;
  const std::vector<float> history(5000, 10.0f);
  CHECK(forecast(model, history, 3, options).status().code() == StatusCode::kCancelled);
}

}  // namespace moka::test
