// Long chunks are spread over threads by rows and by heads; no bit may depend on it.
#include <doctest/doctest.h>

#include <string>

#include "moka/moka.h"
#include "tests/kernel_testing.h"
#include "tests/spec_builder.h"

namespace moka::test {
namespace {

// Logits after a chunk of 600 steps, one of 1 and one of 37, on `threads` threads.
std::vector<float> read(const TestModel& model, int threads) {
  OpenOptions options;
  options.executor.threads = threads;
  options.executor.chunk = 600;
  auto opened = Model::from_spec(model.spec, options);
  REQUIRE(opened.ok());
  auto session = opened.value().new_session();
  REQUIRE(session.ok());
  std::vector<float> all;
  for (const size_t count : {600, 1, 37}) {
    REQUIRE(session.value().append(some_tokens(count, 50, count)).ok());
    const Span<const float> row = session.value().logits();
    all.insert(all.end(), row.begin(), row.end());
  }
  return all;
}

}  // namespace

TEST_CASE("forward: long chunks give the same bits on one, two and three threads") {
  for (const TestMixer mixer : {TestMixer::kLatte, TestMixer::kMacchiato, TestMixer::kWindow}) {
    for (const TestBlock block : {TestBlock::kTransformer, TestBlock::kTransformerPost,
                                  TestBlock::kGlu, TestBlock::kRmsSwiglu}) {
      CAPTURE(static_cast<int>(mixer));
      CAPTURE(static_cast<int>(block));
      TestModelOptions options;
      options.mixer = mixer, options.block = block;
      options.width = 120, options.heads = 3, options.latents = 60, options.hidden = 200;
      options.window = 33;
      options.weights = DType::kI8;
      const TestModel model = make_test_model(options);
      const std::vector<float> want = read(model, 1);
      for (const int threads : {2, 3}) {
        const std::vector<float> got = read(model, threads);
        CAPTURE(threads);
        REQUIRE(got.size() == want.size());
        CHECK(same_bits(got.data(), want.data(), want.size()));
      }
    }
  }
}

}  // namespace moka::test
