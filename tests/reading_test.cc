// read_sequence() and read_pair(): what they refuse and how they say it, and what must not change a
// result: padding, the size of chunks, threads.
#include "moka/reading.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "moka/moka.h"
#include "tests/session_testing.h"
#include "tests/task_models.h"

namespace moka::test {
namespace {

constexpr TokenId kPad = 256;

const LogitsSink kIgnore = [](size_t, size_t, const float*, size_t) { return Status(); };

// All rows, one after the other. Fails the test when they do not come in order.
std::vector<float> rows_of(const Model& model, const SequenceInput& input,
                           const ReadOptions& options = {}) {
  std::vector<float> rows;
  const size_t outputs = model.info().outputs;
  const LogitsSink sink = [&](size_t first, size_t count, const float* logits, size_t stride) {
    CHECK(first * outputs == rows.size());
    for (size_t i = 0; i < count; ++i) {
      rows.insert(rows.end(), logits + i * stride, logits + i * stride + outputs);
    }
    return Status();
  };
  const Status status = read_sequence(model, input, sink, options);
  REQUIRE_MESSAGE(status.ok(), status.to_string());
  return rows;
}

std::vector<float> pair_of(const Model& model, const SequenceInput& first,
                           const SequenceInput& second, const ReadOptions& options = {}) {
  Result<std::vector<float>> row = read_pair(model, first, second, options);
  REQUIRE_MESSAGE(row.ok(), row.status().to_string());
  return std::move(row).value();
}

void check_refused(const Status& status, StatusCode code, const std::string& message) {
  CHECK(status.code() == code);
  CHECK(status.message() == message);
}

void refuse(const Model& model, const SequenceInput& input, StatusCode code,
            const std::string& message, const ReadOptions& options = {}) {
  size_t rows = 0;
  const Status status = read_sequence(
      model, input,
      [&rows](size_t, size_t count, const float*, size_t) {
        rows += count;
        return Status();
      },
      options);
  check_refused(status, code, message);
  CHECK(rows == 0);
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

float largest_of(const std::vector<float>& values) {
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::fabs(value));
  return largest;
}

TestModel classifier(bool causal, Pooling pooling) {
  TaskModelOptions options;
  options.causal = causal;
  options.pooling = pooling;
  return classifier_model(options);
}

TestModel forecaster(uint32_t features) { return forecast_model(features, 2, {0.1f, 0.5f, 0.9f}); }

// Every way in which a sequence is read: causal, looking ahead, with a memory, softmax attention,
// low rank; rows and pooled.
std::vector<std::pair<std::string, TestModel>> sequence_models() {
  std::vector<std::pair<std::string, TestModel>> models;
  models.emplace_back("classifier, causal, mean", classifier(true, Pooling::kMean));
  models.emplace_back("classifier, causal, last", classifier(true, Pooling::kLast));
  models.emplace_back("classifier, causal, first", classifier(true, Pooling::kFirst));
  models.emplace_back("classifier, bidirectional, mean", classifier(false, Pooling::kMean));
  models.emplace_back("classifier, bidirectional, last", classifier(false, Pooling::kLast));
  models.emplace_back("classifier, bidirectional, first", classifier(false, Pooling::kFirst));
  models.emplace_back("embedding", embedding_model());
  models.emplace_back("language, memory", memory_model(true));
  models.emplace_back("classifier, memory", memory_model(false));
  models.emplace_back("softmax", softmax_model());
  models.emplace_back("linformer", linformer_model(512));
  return models;
}

}  // namespace

TEST_CASE("reading: the wrong kind of input is refused") {
  const TestModel words = classifier_model(), numbers = forecaster(2), single = forecaster(1);
  const Model tokens = open_spec(words), values = open_spec(numbers), one = open_spec(single);
  const std::vector<TokenId> ids = some_tokens(6, 256);
  const std::vector<float> floats = some_values(6);
  const StatusCode invalid = StatusCode::kInvalidArgument;
  refuse(tokens, floats, invalid, "numbers were given, but the model reads tokens");
  refuse(values, ids, invalid, "tokens were given, but the model reads 2 numbers per step");
  refuse(one, ids, invalid, "tokens were given, but the model reads 1 number per step");
  SequenceInput both(ids);
  both.values = floats;
  refuse(tokens, both, invalid, "the sequence has tokens and numbers, expected one of them");
  refuse(values, both, invalid, "the sequence has tokens and numbers, expected one of them");
  refuse(tokens, std::vector<TokenId>(), invalid, "the sequence is empty");
  refuse(values, std::vector<float>(), invalid, "the sequence is empty");
  refuse(values, SequenceInput(), invalid, "the sequence is empty");
  check_refused(read_sequence(tokens, ids, LogitsSink()), invalid, "the sink of the rows is empty");
}

TEST_CASE("reading: numbers must be finite and whole steps") {
  const TestModel numbers = forecaster(3);
  const Model model = open_spec(numbers);
  const StatusCode invalid = StatusCode::kInvalidArgument;
  refuse(model, some_values(7), invalid,
         "7 numbers were given, expected a multiple of 3, the numbers of a step");
  std::vector<float> values = some_values(300);
  values[202] = std::numeric_limits<float>::quiet_NaN();
  refuse(model, values, invalid, "the number at step 67, feature 1, is nan, expected a finite one");
  values[202] = std::numeric_limits<float>::infinity();
  refuse(model, values, invalid, "the number at step 67, feature 1, is inf, expected a finite one");
  values[0] = -std::numeric_limits<float>::infinity();
  refuse(model, values, invalid, "the number at step 0, feature 0, is -inf, expected a finite one");
}

TEST_CASE("reading: tokens outside the vocabulary and sequences too long") {
  for (const bool causal : {true, false}) {
    TaskModelOptions options;
    options.causal = causal;
    options.position_limit = 100;
    const TestModel test = classifier_model(options);
    const Model model = open_spec(test);
    std::vector<TokenId> tokens = some_tokens(80, 256);
    tokens[71] = 260;
    refuse(model, tokens, StatusCode::kOutOfRange, "token 71 is 260, ids are 0 to 259");
    tokens[70] = -1;
    refuse(model, tokens, StatusCode::kOutOfRange, "token 70 is -1, ids are 0 to 259");
    CHECK(rows_of(model, some_tokens(100, 256)).size() == 3);
    refuse(model, some_tokens(101, 256), StatusCode::kOutOfRange,
           "position 0 plus 101 tokens exceeds the model's limit of 100 positions");
  }
  const TestModel linformer = linformer_model(40);
  const Model model = open_spec(linformer);
  CHECK(model.info().position_limit == 40);
  CHECK(rows_of(model, some_tokens(40, 256)).size() == 3);
  refuse(model, some_tokens(41, 256), StatusCode::kOutOfRange,
         "position 0 plus 41 tokens exceeds the model's limit of 40 positions");
}

TEST_CASE("reading: an image of another size") {
  const TestModel dense = image_model(false), words = image_model(true);
  const Model pixels = open_spec(dense), tokens = open_spec(words);
  CHECK(rows_of(pixels, some_values(12)).size() == 4);
  CHECK(rows_of(tokens, some_tokens(12, 256)).size() == 4);
  const std::string tail = " pixels, the model reads 4 x 3, which are 12";
  refuse(pixels, some_values(11), StatusCode::kOutOfRange, "the image has 11" + tail);
  refuse(tokens, some_tokens(24, 256), StatusCode::kOutOfRange, "the image has 24" + tail);
}

TEST_CASE("reading: nothing but padding, and padding at both ends") {
  for (const bool causal : {true, false}) {
    CAPTURE(causal);
    const TestModel mean = classifier(causal, Pooling::kMean);
    const TestModel last = classifier(causal, Pooling::kLast);
    const Model by_mean = open_spec(mean), by_last = open_spec(last);
    const std::vector<TokenId> pads(5, kPad), ends = {kPad, 4, 5, kPad};
    const std::string all = "all 5 tokens are padding (id 256): there is nothing to read";
    refuse(by_mean, pads, StatusCode::kOutOfRange, all);
    refuse(by_last, pads, StatusCode::kOutOfRange, all);
    refuse(by_last, ends, StatusCode::kOutOfRange,
           "the sequence begins and ends with padding (id 256); padding belongs after the tokens");
    // Without positions the mean does not see where the padding was.
    CHECK(rows_of(by_mean, ends) == rows_of(by_mean, std::vector<TokenId>{4, 5}));
    const TestModel first = classifier(causal, Pooling::kFirst);
    const Model by_first = open_spec(first);
    CHECK(rows_of(by_first, ends) == rows_of(by_first, std::vector<TokenId>{4, 5}));
    // Padding before the tokens only: the last token is the last one.
    CHECK(rows_of(by_last, std::vector<TokenId>{kPad, 4, 5}) ==
          rows_of(by_last, std::vector<TokenId>{4, 5}));
  }
  // Language models read every id; theirs has no padding.
  const TestModel language = softmax_model();
  CHECK(rows_of(open_spec(language), std::vector<TokenId>(5, kPad)).size() == 5 * 260);
}

TEST_CASE("reading: each call for its own models") {
  const TestModel pair = pair_model(), single = classifier_model();
  const Model pairs = open_spec(pair), sequences = open_spec(single);
  const std::vector<TokenId> ids = some_tokens(9, 256), none;
  const StatusCode invalid = StatusCode::kInvalidArgument;
  refuse(pairs, ids, invalid, "the model compares two sequences: use read_pair()");
  check_refused(read_pair(sequences, ids, ids).status(), invalid,
                "the model reads one sequence: use read_sequence()");
  check_refused(read_pair(pairs, none, ids).status(), invalid, "the first sequence is empty");
  check_refused(read_pair(pairs, ids, none).status(), invalid, "the second sequence is empty");
  // Both are looked at before one is read.
  bool read = false;
  ReadOptions options;
  options.progress = [&read](double) { read = true; };
  check_refused(read_pair(pairs, ids, none, options).status(), invalid,
                "the second sequence is empty");
  CHECK_FALSE(read);
  CHECK(pair_of(pairs, ids, some_tokens(100, 256)).size() == 2);
}

TEST_CASE("reading: a memory that is missing, not expected, or wrong") {
  const TestModel with = memory_model(true), without = classifier_model(), two = pair_model();
  const Model reads = open_spec(with), alone = open_spec(without), pairs = open_spec(two);
  const std::vector<TokenId> ids = some_tokens(5, 256), bad = {7, 300};
  const std::vector<float> floats = some_values(5);
  const StatusCode invalid = StatusCode::kInvalidArgument;
  refuse(reads, ids, invalid, "the model answers from a second sequence: give one as `memory`");
  ReadOptions options;
  options.memory = ids;
  const std::string unexpected = "a memory was given, but the model reads one sequence";
  refuse(alone, ids, invalid, unexpected, options);
  check_refused(read_pair(pairs, ids, ids, options).status(), invalid, unexpected);
  options.memory = bad;
  refuse(reads, ids, StatusCode::kOutOfRange, "token 1 is 300, ids are 0 to 259", options);
  options.memory = floats;
  refuse(reads, ids, invalid, "numbers were given, but the model reads tokens", options);
  options.memory.tokens = ids;
  refuse(reads, ids, invalid, "the memory has tokens and numbers, expected one of them", options);
}

TEST_CASE("reading: executors") {
  const TestModel test = classifier_model(), two = pair_model();
  const Model model = open_spec(test), twin = open_spec(test), pairs = open_spec(two);
  const std::vector<TokenId> ids = some_tokens(50, 256);
  Result<Executor> own = model.new_executor({}), other = twin.new_executor({});
  REQUIRE((own.ok() && other.ok()));
  const Executor none;
  ReadOptions options;
  options.executor = &own.value();
  CHECK(rows_of(model, ids, options) == rows_of(model, ids));
  const std::string message = "the executor was made by another model";
  const std::vector<const Executor*> wrong = {&other.value(), &none};
  for (const Executor* executor : wrong) {
    options.executor = executor;
    refuse(model, ids, StatusCode::kInvalidArgument, message, options);
    check_refused(read_pair(pairs, ids, ids, options).status(), StatusCode::kInvalidArgument,
                  message);
  }
}

TEST_CASE("reading: a sink that fails ends the call with its status") {
  for (const auto& kind : sequence_models()) {
    CAPTURE(kind.first);
    const auto& test = kind.second;
    const Model model = open_spec(test, 1, 16);
    const std::vector<TokenId> ids = some_tokens(70, 256), memory = some_tokens(20, 256, 3);
    ReadOptions options;
    if (model.info().reads_memory) options.memory = memory;
    const std::vector<float> before = rows_of(model, ids, options);
    size_t calls = 0;
    const Status status = read_sequence(
        model, ids,
        [&calls](size_t, size_t, const float*, size_t) {
          ++calls;
          return Status(StatusCode::kIo, "the disk is full");
        },
        options);
    check_refused(status, StatusCode::kIo, "the disk is full");
    CHECK(calls == 1);
    CHECK(rows_of(model, ids, options) == before);
  }
}

TEST_CASE("reading: cancelled before and during, and the next call works") {
  for (const auto& kind : sequence_models()) {
    CAPTURE(kind.first);
    const auto& test = kind.second;
    const Model model = open_spec(test, 1, 16);
    const std::vector<TokenId> ids = some_tokens(70, 256), memory = some_tokens(40, 256, 3);
    ReadOptions options;
    if (model.info().reads_memory) options.memory = memory;
    const std::vector<float> before = rows_of(model, ids, options);
    std::atomic<bool> cancel{true};
    ReadOptions cancelled = options;
    cancelled.cancel = &cancel;
    double reached = 0;
    cancelled.progress = [&reached](double share) { reached = share; };
    check_refused(read_sequence(model, ids, kIgnore, cancelled), StatusCode::kCancelled,
                  "cancelled");
    CHECK(reached < 0.5);  // at the first piece of work
    for (const double at : {0.3, 0.7}) {
      cancel = false;
      cancelled.progress = [&](double share) {
        reached = share;
        if (share >= at) cancel = true;
      };
      check_refused(read_sequence(model, ids, kIgnore, cancelled), StatusCode::kCancelled,
                    "cancelled");
      CHECK(reached >= at);
      CHECK(reached < 1.0);
    }
    CHECK(rows_of(model, ids, options) == before);
  }
}

TEST_CASE("reading: a pair is cancelled in either half") {
  for (const bool causal : {true, false}) {
    TaskModelOptions made;
    made.causal = causal;
    const TestModel test = pair_model(made);
    const Model model = open_spec(test, 1, 16);
    const std::vector<TokenId> first = some_tokens(70, 256), second = some_tokens(90, 256, 8);
    const std::vector<float> before = pair_of(model, first, second);
    for (const double at : {0.0, 0.3, 0.8}) {
      std::atomic<bool> cancel{false};
      double reached = 0;
      ReadOptions options;
      options.cancel = &cancel;
      options.progress = [&](double share) {
        reached = share;
        if (share >= at) cancel = true;
      };
      check_refused(read_pair(model, first, second, options).status(), StatusCode::kCancelled,
                    "cancelled");
      CHECK(reached >= at);
      CHECK(reached < 1.0);
    }
    CHECK(pair_of(model, first, second) == before);
  }
}

TEST_CASE("reading: progress rises to 1") {
  std::vector<double> shares;
  ReadOptions options;
  options.progress = [&shares](double share) { shares.push_back(share); };
  const auto check = [&shares](size_t at_least) {
    REQUIRE(shares.size() >= at_least);
    CHECK(shares.front() > 0.0);
    for (size_t i = 1; i < shares.size(); ++i) CHECK(shares[i] > shares[i - 1]);
    CHECK(shares.back() == 1.0);
    shares.clear();
  };
  const std::vector<TokenId> memory = some_tokens(40, 256, 3);
  for (const auto& kind : sequence_models()) {
    CAPTURE(kind.first);
    const auto& test = kind.second;
    const Model model = open_spec(test, 1, 16);
    if (model.info().reads_memory) options.memory = memory;
    rows_of(model, some_tokens(70, 256), options);
    check(model.info().causal ? 5 : 20);
    if (model.info().pad_id >= 0 && !model.info().reads_memory) {
      std::vector<TokenId> padded = some_tokens(70, 256);
      padded[9] = padded[33] = padded[69] = kPad;
      rows_of(model, padded, options);
      check(1);  // by the last token, a causal model reads only what comes before the padding
    }
    options.memory = SequenceInput();
  }
  const TestModel pair = pair_model();
  const Model pairs = open_spec(pair, 1, 16);
  pair_of(pairs, some_tokens(70, 256), some_tokens(90, 256), options);
  check(11);
  const TestModel image = image_model(false);
  rows_of(open_spec(image, 1, 5), some_values(12), options);
  check(6);
}

TEST_CASE("reading: padding on the right changes nothing") {
  for (const auto& kind : sequence_models()) {
    CAPTURE(kind.first);
    const auto& test = kind.second;
    const Model model = open_spec(test);
    if (model.info().pad_id != kPad) continue;
    const std::vector<TokenId> memory = some_tokens(30, 256, 3);
    ReadOptions options;
    if (model.info().reads_memory) options.memory = memory;
    for (const size_t count : {size_t{1}, size_t{63}, size_t{64}, size_t{150}}) {
      const std::vector<TokenId> ids = some_tokens(count, 256);
      const std::vector<float> plain = rows_of(model, ids, options);
      for (const size_t pads : {size_t{1}, size_t{64}, size_t{200}}) {
        std::vector<TokenId> padded = ids;
        padded.insert(padded.end(), pads, kPad);
        CHECK(rows_of(model, padded, options) == plain);
      }
    }
  }
}

TEST_CASE("reading: padding inside moves positions and nothing else") {
  std::vector<TokenId> ids = some_tokens(90, 256), padded;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i % 13 == 5) padded.insert(padded.end(), 1 + i % 3, kPad);
    padded.push_back(ids[i]);
  }
  for (const bool causal : {true, false}) {
    CAPTURE(causal);
    TaskModelOptions options;
    options.causal = causal;
    const TestModel without = classifier_model(options);
    const Model model = open_spec(without);
    CHECK(largest_difference(rows_of(model, padded), rows_of(model, ids)) <= 2e-6f);
    options.position_limit = 200;
    const TestModel with = classifier_model(options);
    const Model placed = open_spec(with);
    CHECK(largest_difference(rows_of(placed, padded), rows_of(placed, ids)) > 1e-3f);
  }
}

TEST_CASE("reading: the size of chunks changes nothing but rounding, threads nothing at all") {
  for (const auto& kind : sequence_models()) {
    CAPTURE(kind.first);
    const auto& test = kind.second;
    std::vector<TokenId> ids = some_tokens(200, 256);
    const std::vector<TokenId> memory = some_tokens(90, 256, 3);
    ReadOptions options;
    const Model model = open_spec(test);
    if (model.info().reads_memory) options.memory = memory;
    const std::vector<float> rows = rows_of(model, ids, options);
    CHECK(rows_of(open_spec(test, 2), ids, options) == rows);
    CHECK(rows_of(open_spec(test, 3), ids, options) == rows);
    for (const uint32_t chunk : {1u, 7u, 200u}) {
      CAPTURE(chunk);
      // Rounding grows with the numbers: logits of language models are larger than 1.
      CHECK(largest_difference(rows_of(open_spec(test, 1, chunk), ids, options), rows) <=
            2e-6f * std::max(1.0f, largest_of(rows)));
    }
  }
  const TestModel pair = pair_model();
  const std::vector<TokenId> first = some_tokens(70, 256), second = some_tokens(90, 256, 8);
  const std::vector<float> row = pair_of(open_spec(pair), first, second);
  CHECK(pair_of(open_spec(pair, 2), first, second) == row);
  CHECK(largest_difference(pair_of(open_spec(pair, 1, 7), first, second), row) <= 2e-6f);
}

TEST_CASE("reading: a row of zeros in a linformer layer") {
  const TestModel test = linformer_model(64, true);
  const Model model = open_spec(test);
  CHECK(rows_of(model, std::vector<TokenId>{5, 6, 7}).size() == 3);
  refuse(model, std::vector<TokenId>{5, 6, 0, 7}, StatusCode::kOutOfRange,
         "the input of a linformer layer is zero at position 2: it is divided by its length, so "
         "the output is not defined");
  // The position that it names is that of the token as it was given.
  refuse(model, std::vector<TokenId>{5, kPad, kPad, 0}, StatusCode::kOutOfRange,
         "the input of a linformer layer is zero at position 3: it is divided by its length, so "
         "the output is not defined");
  CHECK(rows_of(model, std::vector<TokenId>{5, 6, 7}).size() == 3);
}

}  // namespace moka::test
