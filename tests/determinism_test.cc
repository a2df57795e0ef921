// What may change a result, and what may not: docs/reliability.md says it in words, here it is held.
//
//   threads, batch mates          never a bit
//   the chunk                     rounding; a session that is read in the same chunks gives the same bits
//   the table of kernels          rounding
//
// The model is wide enough that its products are shared out over threads.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "moka/moka.h"
#include "runtime/kernels/kernels.h"
#include "tests/spec_builder.h"

namespace moka::test {
namespace {

constexpr uint32_t kVocab = 500;
constexpr size_t kTokens = 150;

TestModel wide_model(DType weights) {
  TestModelOptions options;
  options.weights = weights, options.tiles = weights == DType::kI4;
  options.width = 192, options.heads = 4, options.latents = 64, options.hidden = 384;
  options.vocab_size = kVocab, options.window = 32, options.layers = 2;
  return make_test_model(options);
}

Model opened(const TestModel& made, int threads, uint32_t chunk, const char* isa = nullptr) {
  OpenOptions options;
  options.executor.threads = threads;
  options.executor.chunk = chunk;
  options.isa = isa;
  Result<Model> model = Model::from_spec(made.spec, options);
  REQUIRE_MESSAGE(model.ok(), model.status().to_string());
  return std::move(model).value();
}

Session new_session(const Model& model) {
  Result<Session> session = model.new_session();
  REQUIRE(session.ok());
  return std::move(session).value();
}

// Every row of logits, then the bytes of the session.
struct Reading {
  std::vector<float> rows;
  std::vector<uint8_t> saved;
};

Reading read(const Model& model, size_t pieces = kTokens) {
  const std::vector<TokenId> ids = some_tokens(kTokens, kVocab);
  Session session = new_session(model);
  Reading reading;
  const LogitsSink keep = [&](size_t, size_t count, const float* row, size_t stride) {
    for (size_t r = 0; r < count; ++r) {
      reading.rows.insert(reading.rows.end(), row + r * stride, row + r * stride + kVocab);
    }
    return Status();
  };
  for (size_t at = 0; at < ids.size(); at += pieces) {
    const size_t count = std::min(pieces, ids.size() - at);
    REQUIRE(session.append(Span<const TokenId>(ids.data() + at, count), keep).ok());
  }
  reading.saved = session.save().value();
  return reading;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// The largest difference, as a share of the largest logit.
double difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0, largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    worst = std::max(worst, std::fabs(double{a[i]} - double{b[i]}));
    largest = std::max(largest, std::fabs(double{a[i]}));
  }
  return worst / largest;
}

// Activations are quantised row by row for int8 and int4, so a last bit that differs before can move
// one of 255 steps after.
double tolerance(DType weights) {
  return weights == DType::kI8 || weights == DType::kI4 ? 2e-2 : 2e-5;
}

std::string name(DType weights) { return dtype_name(weights); }

const DType kTypes[] = {DType::kF32, DType::kF16, DType::kI8, DType::kI4};

}  // namespace

TEST_CASE("determinism: 1 to 8 threads give the same bits") {
  for (const DType weights : kTypes) {
    const TestModel made = wide_model(weights);
    const Reading one = read(opened(made, 1, 64));
    for (int threads = 2; threads <= 8; ++threads) {
      INFO(name(weights) << ", threads " << threads);
      const Reading many = read(opened(made, threads, 64));
      CHECK(same_bits(many.rows, one.rows));
      CHECK(many.saved == one.saved);
    }
  }
}

TEST_CASE("determinism: any batch mates, on 1 to 8 threads, give the bits of a lone session") {
  for (const DType weights : kTypes) {
    const TestModel made = wide_model(weights);
    const Model alone = opened(made, 1, 64);
    const std::vector<TokenId> ids = some_tokens(40, kVocab);
    Session lone = new_session(alone);
    REQUIRE(lone.append(ids).ok());
    const std::vector<uint8_t> want = lone.save().value();
    for (const int threads : {1, 2, 3, 5, 8}) {
      const Model model = opened(made, threads, 64);
      for (const size_t mates : {1, 4, 17}) {
        INFO(name(weights) << ", threads " << threads << ", mates " << mates);
        std::vector<Session> sessions;
        std::vector<std::vector<TokenId>> texts;
        for (size_t i = 0; i <= mates; ++i) {
          sessions.push_back(new_session(model));
          texts.push_back(i == mates / 2 ? ids : some_tokens(1 + 13 * i % 70, kVocab, i));
        }
        std::vector<SessionSteps> batch;
        for (size_t i = 0; i <= mates; ++i) batch.push_back({&sessions[i], texts[i], {}});
        REQUIRE(model.executor().append(batch).ok());
        CHECK(sessions[mates / 2].save().value() == want);
      }
    }
  }
}

TEST_CASE("determinism: the chunk changes rounding only, and the same chunks give the same bits") {
  for (const DType weights : kTypes) {
    INFO(name(weights));
    const TestModel made = wide_model(weights);
    const Reading whole = read(opened(made, 1, 64));
    CHECK(same_bits(read(opened(made, 2, 64)).rows, whole.rows));
    // The same cuts by hand: chunks of 64 and calls of 64.
    CHECK(same_bits(read(opened(made, 1, 128), 64).rows, whole.rows));
    double worst = 0;
    for (const uint32_t chunk : {1u, 7u, 16u, 128u}) {
      worst = std::max(worst, difference(read(opened(made, 1, chunk)).rows, whole.rows));
    }
    CHECK(worst <= tolerance(weights));
    if (std::getenv("MOKA_CAMPAIGN") != nullptr) {
      MESSAGE(name(weights) << ": chunks of 1, 7, 16, 128 against 64 differ by " << worst
                            << " of the largest logit");
    }
  }
}

TEST_CASE("determinism: the tables of kernels differ in rounding only") {
  for (const DType weights : kTypes) {
    const TestModel made = wide_model(weights);
    const Reading scalar = read(opened(made, 1, 64, "scalar"));
    for (const Kernels* table : compiled_kernels()) {
      if ((table->needs & ~cpu_features()) != 0) continue;
      INFO(name(weights) << ", " << std::string(table->name));
      const double off = difference(read(opened(made, 1, 64, table->name)).rows, scalar.rows);
      CHECK(off <= tolerance(weights));
      if (std::getenv("MOKA_CAMPAIGN") != nullptr) {
        MESSAGE(name(weights) << ": " << std::string(table->name) << " against scalar differs by "
                              << off << " of the largest logit");
      }
    }
  }
}
}  // namespace moka::test
