// Whole sequences and tasks through moka.h: the same numbers as in C++.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "moka/model.h"
#include "moka/tasks.h"
#include "tests/capi_testing.h"
#include "tests/task_models.h"

namespace moka::test {
namespace {

moka_sequence sequence_of(const std::vector<moka_token>& tokens) {
  return {tokens.data(), tokens.size(), nullptr, 0};
}

Model cpp_model(const CModel& model) {
  Result<Model> opened = Model::open_memory(model.bytes.bytes());
  REQUIRE(opened.ok());
  return std::move(opened).value();
}

}  // namespace

TEST_CASE("capi: classify and compare") {
  const CModel model = open_test_model(classifier_model().spec);
  const std::vector<moka_token> tokens = tokens_of("good weather");
  const moka_sequence input = sequence_of(tokens);
  float logits[4] = {9, 9, 9, 9}, probabilities[4] = {9, 9, 9, 9};
  uint32_t best = 99;
  CAPI_FAILS(moka_classify(model.get(), &input, nullptr, logits, nullptr, 2, &best, &error),
             MOKA_OUT_OF_RANGE, "the buffers have room for 2 elements, needed are 3");
  CHECK(best == 99);
  CAPI_OK(moka_classify(model.get(), &input, nullptr, logits, probabilities, 4, &best, &error));
  const Result<Classification> expected = classify(cpp_model(model), tokens);
  REQUIRE(expected.ok());
  CHECK(std::vector<float>(logits, logits + 3) == expected.value().logits);
  CHECK(std::vector<float>(probabilities, probabilities + 3) == expected.value().probabilities);
  CHECK(logits[3] == 9);
  CHECK(best == expected.value().best);
  CAPI_OK(moka_classify(model.get(), &input, nullptr, nullptr, nullptr, 0, &best, &error));
  moka_model_info info;
  info.struct_size = sizeof info;
  CAPI_OK(moka_model_get_info(model.get(), &info, &error));
  CHECK(info.classes == 3);
  CHECK(info.padding == 256);
  CHECK(moka_model_class_name(model.get(), 2) == std::string("good"));
  CHECK(moka_model_class_name(model.get(), 3) == nullptr);

  const CModel pair = open_test_model(pair_model().spec);
  const std::vector<moka_token> other = tokens_of("bad news");
  const moka_sequence second = sequence_of(other);
  CAPI_OK(
      moka_compare(pair.get(), &input, &second, nullptr, logits, probabilities, 4, &best, &error));
  const Result<Classification> compared = compare(cpp_model(pair), tokens, other);
  CHECK(std::vector<float>(logits, logits + 2) == compared.value().logits);
  CHECK(best == compared.value().best);
  CHECK(moka_compare(pair.get(), &input, nullptr, nullptr, nullptr, nullptr, 0, &best, nullptr) ==
        MOKA_INVALID_ARGUMENT);
  CHECK(moka_compare(model.get(), &input, &second, nullptr, nullptr, nullptr, 0, &best, nullptr) ==
        MOKA_INVALID_ARGUMENT);
  CHECK(moka_classify(pair.get(), &input, nullptr, nullptr, nullptr, 0, &best, nullptr) ==
        MOKA_INVALID_ARGUMENT);
  CHECK(moka_classify(nullptr, &input, nullptr, nullptr, nullptr, 0, &best, nullptr) ==
        MOKA_INVALID_ARGUMENT);
}

TEST_CASE("capi: embed, and how alike vectors are") {
  const CModel model = open_test_model(embedding_model().spec);
  const std::vector<moka_token> tokens = tokens_of("a sentence");
  const moka_sequence input = sequence_of(tokens);
  size_t needed = 0;
  CAPI_OK(moka_embed(model.get(), nullptr, nullptr, nullptr, 0, &needed, &error));  // only asks
  REQUIRE(needed == 24);
  std::vector<float> vector(needed, 7);
  CAPI_FAILS(moka_embed(model.get(), &input, nullptr, vector.data(), 23, &needed, &error),
             MOKA_OUT_OF_RANGE, "vector has room for 23 elements, needed are 24");
  CHECK(vector == std::vector<float>(24, 7));
  CAPI_OK(moka_embed(model.get(), &input, nullptr, vector.data(), 24, nullptr, &error));
  CHECK(vector == embed(cpp_model(model), tokens).value());
  CHECK(moka_cosine_similarity(vector.data(), vector.data(), 24) == doctest::Approx(1.0));
  CHECK(moka_cosine_similarity(nullptr, vector.data(), 24) == 0.0);
  const CModel other = open_test_model(classifier_model().spec);
  CAPI_FAILS_WITH(moka_embed(other.get(), &input, nullptr, vector.data(), 24, &needed, &error),
                  MOKA_INVALID_ARGUMENT, "classifier");
}

TEST_CASE("capi: score") {
  const CModel model = open_test_model(byte_language_model().spec);
  const std::vector<moka_token> tokens = tokens_of("likely?");
  const Result<Score> expected = score(cpp_model(model), tokens, 2);
  REQUIRE(expected.ok());
  double all = 0;
  std::vector<double> each(5, 1.0);
  std::vector<moka_token> best(5, -1);
  CAPI_OK(moka_score(model.get(), tokens.data(), 7, 2, nullptr, &all, each.data(), best.data(), 5,
                     &error));
  CHECK(all == expected.value().log_likelihood);
  CHECK(each == expected.value().log_likelihoods);
  CHECK(best == expected.value().most_likely);
  CAPI_OK(moka_score(model.get(), tokens.data(), 7, 2, nullptr, &all, nullptr, nullptr, 0, &error));
  CAPI_FAILS(
      moka_score(model.get(), tokens.data(), 7, 2, nullptr, &all, each.data(), nullptr, 4, &error),
      MOKA_OUT_OF_RANGE, "the buffers have room for 4 elements, needed are 5");
  CHECK(moka_score(model.get(), tokens.data(), 7, 7, nullptr, &all, nullptr, nullptr, 0, nullptr) ==
        MOKA_OUT_OF_RANGE);
  CHECK(moka_score(model.get(), nullptr, 7, 2, nullptr, &all, nullptr, nullptr, 0, nullptr) ==
        MOKA_INVALID_ARGUMENT);
}

TEST_CASE("capi: forecast") {
  const CModel model = open_test_model(forecast_model(2, 3, {0.1f, 0.5f, 0.9f}).spec);
  moka_model_info info;
  info.struct_size = sizeof info;
  CAPI_OK(moka_model_get_info(model.get(), &info, &error));
  CHECK(info.forecast_steps == 3);
  CHECK(info.forecast_outputs == 2);
  CHECK(info.forecast_quantiles == 3);
  CHECK(info.features == 2);
  CHECK(info.input == MOKA_INPUT_VALUES);
  CHECK(info.output == MOKA_OUTPUT_REGRESSION);
  float levels[3] = {};
  size_t needed = 0;
  CAPI_OK(moka_model_quantiles(model.get(), levels, 3, &needed, &error));
  CHECK(std::vector<float>(levels, levels + 3) == std::vector<float>{0.1f, 0.5f, 0.9f});

  const std::vector<float> history = some_values(20);
  CAPI_OK(moka_forecast(model.get(), history.data(), 20, 5, nullptr, nullptr, 0, &needed, &error));
  REQUIRE(needed == 5 * 2 * 3);
  std::vector<float> values(needed);
  CAPI_OK(moka_forecast(model.get(), history.data(), 20, 5, nullptr, values.data(), needed, nullptr,
                        &error));
  CHECK(values == forecast(cpp_model(model), history, 5).value().values);
  CAPI_FAILS(moka_forecast(model.get(), history.data(), 20, SIZE_MAX, nullptr, nullptr, 0, &needed,
                           &error),
             MOKA_OUT_OF_RANGE,
             "horizon is " + std::to_string(SIZE_MAX) + " steps, more than any memory");
  CHECK(moka_forecast(model.get(), history.data(), 19, 5, nullptr, values.data(), 30, nullptr,
                      nullptr) == MOKA_INVALID_ARGUMENT);
  const CModel language = open_test_model(byte_language_model().spec);
  CHECK(moka_forecast(language.get(), history.data(), 20, 5, nullptr, values.data(), 30, nullptr,
                      nullptr) == MOKA_INVALID_ARGUMENT);
  CAPI_FAILS(moka_model_quantiles(language.get(), levels, 3, &needed, &error),
             MOKA_INVALID_ARGUMENT, "the model does not forecast, so it has no quantiles");
}

TEST_CASE("capi: reading whole sequences, with progress, a memory and an executor") {
  const CModel model = open_test_model(memory_model(true).spec);
  const std::vector<moka_token> tokens = tokens_of("question");
  const std::vector<moka_token> text = tokens_of("the text that is read first");
  const moka_sequence input = sequence_of(tokens), memory = sequence_of(text);
  moka_executor* created = nullptr;
  CAPI_OK(moka_executor_create(model.get(), nullptr, &created, &error));
  const Handle<moka_executor> executor(created);
  struct Seen {
    size_t rows = 0;
    double share = 0;
    int32_t answer = 0;
  } seen;
  moka_read_options options;
  moka_read_options_init(&options, sizeof options);
  options.executor = executor.get();
  options.memory = &memory;
  options.progress = [](void* user, double share) -> int32_t {
    static_cast<Seen*>(user)->share = share;
    return static_cast<Seen*>(user)->answer;
  };
  options.progress_user = &seen;
  const auto count = [](void* user, size_t, size_t rows, const float*, size_t) -> int32_t {
    static_cast<Seen*>(user)->rows += rows;
    return 0;
  };
  CAPI_OK(moka_read(model.get(), &input, &options, count, &seen, &error));
  CHECK(seen.rows == tokens.size());
  CHECK(seen.share == 1.0);
  seen.answer = 1;
  CAPI_FAILS_WITH(moka_read(model.get(), &input, &options, count, &seen, &error), MOKA_CANCELLED,
                  "cancelled");
  seen.answer = 0;
  const auto stop = [](void*, size_t, size_t, const float*, size_t) -> int32_t { return 1; };
  CAPI_FAILS(moka_read(model.get(), &input, &options, stop, &seen, &error), MOKA_CANCELLED,
             "the callback of the rows ended the call");
  CAPI_FAILS(moka_read(model.get(), &input, &options, nullptr, nullptr, &error),
             MOKA_INVALID_ARGUMENT, "rows is NULL");
  CAPI_FAILS(moka_read(model.get(), nullptr, &options, count, &seen, &error), MOKA_INVALID_ARGUMENT,
             "input is NULL");
  const moka_sequence broken = {nullptr, 4, nullptr, 0};
  options.memory = &broken;
  CAPI_FAILS(moka_read(model.get(), &input, &options, count, &seen, &error), MOKA_INVALID_ARGUMENT,
             "memory.tokens is NULL, but has 4 elements");
}

}  // namespace moka::test
