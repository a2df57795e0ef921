// Windows of half floats: which models have them, what their state weighs, how it is saved and what a
// damaged one is told, and how far their outputs are from those of a window of floats.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "moka/moka.h"
#include "runtime/checksum.h"
#include "runtime/half.h"
#include "runtime/kernels/kernels.h"
#include "runtime/plan.h"
#include "runtime/state.h"
#include "tests/spec_builder.h"

namespace moka::test {
namespace {

constexpr size_t kHeader = 56, kChecksum = 8;  // bytes of a saved session around its numbers
constexpr size_t kLayers = 2, kWidth = 24, kHeads = 3, kVocab = 50;

TestModel model_of(TestMixer mixer, DType weights) {
  TestModelOptions options;
  options.mixer = mixer, options.weights = weights;
  options.layers = kLayers, options.width = kWidth, options.heads = kHeads;
  options.vocab_size = kVocab;
  options.tiles = weights == DType::kI4;
  return make_test_model(options);
}

// Every layer with full softmax attention in place of the window.
TestModel softmax_of(DType weights) {
  TestModel model = model_of(TestMixer::kWindow, weights);
  for (Block& block : model.spec.blocks) {
    const WindowMixer window = std::get<WindowMixer>(block.mixer);
    SoftmaxMixer softmax;
    softmax.heads = window.heads;
    softmax.q = window.local_q, softmax.k = window.local_k;
    softmax.v = window.v, softmax.o = window.o;
    block.mixer = softmax;
  }
  return model;
}

// The same numbers, as float32 instead of float16.
TestModel widened(TestModel model) {
  for (Tensor& tensor : model.spec.tensors) {
    if (tensor.dtype != DType::kF16) continue;
    const size_t n = static_cast<size_t>(tensor.elements());
    const std::shared_ptr<float> floats(new float[n + 16](), std::default_delete<float[]>());
    for (size_t i = 0; i < n; ++i) {
      floats.get()[i] = half_to_float(static_cast<const uint16_t*>(tensor.data)[i]);
    }
    tensor.dtype = DType::kF32, tensor.data = floats.get(), tensor.size = n * sizeof(float);
    model.memory.push_back(floats);
  }
  return model;
}

Model opened(const TestModel& made) {
  OpenOptions options;
  options.executor.threads = 1;
  Result<Model> model = Model::from_spec(made.spec, options);
  REQUIRE_MESSAGE(model.ok(), model.status().to_string());
  return std::move(model).value();
}

Session started(const Model& model, size_t tokens) {
  Result<Session> session = model.new_session();
  REQUIRE(session.ok());
  if (tokens > 0) REQUIRE(session.value().append(some_tokens(tokens, kVocab)).ok());
  return std::move(session).value();
}

std::vector<uint8_t> saved(const Session& session) {
  Result<std::vector<uint8_t>> bytes = session.save();
  REQUIRE(bytes.ok());
  return std::move(bytes).value();
}

void set(std::vector<uint8_t>* bytes, size_t at, uint64_t value, size_t size) {
  for (size_t i = 0; i < size; ++i) (*bytes)[at + i] = static_cast<uint8_t>(value >> (8 * i));
}

// What was changed in it is now what its checksum says.
void seal(std::vector<uint8_t>* bytes) {
  set(bytes, bytes->size() - kChecksum, xxh3_64(bytes->data(), bytes->size() - kChecksum),
      kChecksum);
}

Plan plan_of(const TestModel& made, std::unique_ptr<PackedWeights>* weights) {
  Result<std::unique_ptr<PackedWeights>> created = PackedWeights::create();
  REQUIRE(created.ok());
  *weights = std::move(created).value();
  return make_plan(made.spec, **weights);
}

}  // namespace

TEST_CASE("half window: where neither the keys' nor the values' weights are float32") {
  for (const DType weights : {DType::kF32, DType::kF16, DType::kBF16, DType::kI8, DType::kI4}) {
    CAPTURE(dtype_name(weights));
    const bool half = weights != DType::kF32;
    const size_t capacity = 5, dh = 8, dp = 16, element = half ? 2 : 4;
    for (const TestMixer mixer : {TestMixer::kWindow, TestMixer::kMacchiato}) {
      std::unique_ptr<PackedWeights> packed;
      const Plan plan = plan_of(model_of(mixer, weights), &packed);
      uint64_t bytes = 0;
      for (const BlockPlan& block : plan.blocks) {
        CHECK(block.mixer.half_window == half);
        const LayerStateBytes layer = layer_state_bytes(block.mixer, plan.width);
        const auto rows = [](size_t n) { return (n + 63) / 64 * 64; };  // of 64 bytes
        CHECK(layer.window == rows(kHeads * dh * pad_row(capacity) * element) +
                                  rows(kHeads * capacity * dp * element));
        bytes += layer.window + layer.latents + layer.front;
        CHECK(block.mixer.state.keys % kRowPad == 0);
        CHECK(block.mixer.state.values % kRowPad == 0);
      }
      CHECK(bytes == plan.state_floats * sizeof(float));
    }
    const TestModel softmax = softmax_of(weights);
    CHECK(opened(softmax).info().state_bytes_per_token == kLayers * kHeads * (dh + dp) * element);
  }
}

TEST_CASE("half window: keys or values of float32 weights keep the window in float32") {
  for (const bool key : {false, true}) {
    TestModel made = model_of(TestMixer::kWindow, DType::kF16);
    const TestModel wide = widened(made);
    for (const Block& block : made.spec.blocks) {
      const WindowMixer& mixer = std::get<WindowMixer>(block.mixer);
      const TensorIndex index = key ? mixer.local_k.weight : mixer.v.weight;
      made.spec.tensors[index] = wide.spec.tensors[index];
    }
    std::unique_ptr<PackedWeights> packed;
    for (const BlockPlan& block : plan_of(made, &packed).blocks) {
      CHECK_FALSE(block.mixer.half_window);
    }
  }
}

TEST_CASE("half window: sessions are saved with two bytes for each key and value") {
  for (const DType weights : {DType::kF32, DType::kF16, DType::kI8}) {
    CAPTURE(dtype_name(weights));
    const size_t element = weights == DType::kF32 ? 4 : 2;
    for (const size_t tokens : {1, 4, 5, 6, 33}) {
      CAPTURE(tokens);
      const TestModel small = model_of(TestMixer::kWindow, weights), large = softmax_of(weights);
      const Model window = opened(small), softmax = opened(large);
      const size_t logits = 4 * kVocab, token = kLayers * 2 * kWidth * element;
      CHECK(saved(started(window, tokens)).size() ==
            kHeader + logits + std::min<size_t>(tokens, 5) * token + kChecksum);
      CHECK(saved(started(softmax, tokens)).size() ==
            kHeader + logits + tokens * token + kChecksum);
    }
  }
}

TEST_CASE("half window: save, restore and fork go on bit for bit") {
  for (const DType weights : {DType::kF16, DType::kI8}) {
    for (const TestModel& made : {model_of(TestMixer::kWindow, weights),
                                  model_of(TestMixer::kMacchiato, weights), softmax_of(weights)}) {
      const Model model = opened(made);
      // 300 tokens are more than a cache of softmax attention first has room for.
      for (const size_t tokens : {3, 17, 300}) {
        Session session = started(model, tokens);
        const std::vector<uint8_t> middle = saved(session);
        Result<Session> fork = session.fork();
        REQUIRE(fork.ok());
        CHECK(saved(fork.value()) == middle);
        Session restored = started(model, 40);
        REQUIRE(restored.restore(middle).ok());
        CHECK(saved(restored) == middle);
        const std::vector<TokenId> more = some_tokens(30, kVocab, 8);
        for (Session* each : {&session, &restored, &fork.value()}) {
          REQUIRE(each->append(more).ok());
        }
        const std::vector<uint8_t> end = saved(session);
        CHECK(saved(restored) == end);
        CHECK(saved(fork.value()) == end);
      }
    }
  }
}

TEST_CASE("half window: another version and a damaged half are refused and change nothing") {
  const TestModel made = model_of(TestMixer::kWindow, DType::kF16);
  const Model model = opened(made);
  Session session = started(model, 4);
  const std::vector<uint8_t> good = saved(session);
  const auto refused = [&](std::vector<uint8_t> bytes, StatusCode code,
                           const std::string& message) {
    seal(&bytes);
    const Status status = session.restore(bytes);
    CHECK(status.code() == code);
    CHECK(status.message() == message);
    CHECK(saved(session) == good);
  };
  std::vector<uint8_t> bad = good;
  set(&bad, 8, 2, 4);
  refused(bad, StatusCode::kVersion, "saved session: version 2, this library reads version 3");

  const size_t halves = good.size() - kChecksum - (kHeader + 4 * kVocab);
  CHECK(halves == 2 * 4 * kLayers * 2 * kWidth);
  for (size_t at = kHeader + 4 * kVocab; at < good.size() - kChecksum; at += 2) {
    for (const uint64_t value : {0x7c00, 0xfc00, 0x7e00, 0x7c01}) {  // infinities, not numbers
      bad = good;
      set(&bad, at, value, 2);
      refused(bad, StatusCode::kCorrupt, "saved session: a value is not finite");
    }
  }
  // The counts of floats and of halves, at 40 and 48.
  const std::string sizes = "saved session: its sizes do not fit the model";
  bad = good;
  set(&bad, 48, halves / 2 - 1, 8);
  refused(bad, StatusCode::kCorrupt, sizes);
  bad = good;
  set(&bad, 40, halves / 4, 8), set(&bad, 48, 0, 8);
  refused(bad, StatusCode::kCorrupt, sizes);

  // The largest half is a number like others.
  std::vector<uint8_t> other = good;
  set(&other, kHeader + 4 * kVocab, 0x7bff, 2);
  seal(&other);
  const Status status = session.restore(other);
  REQUIRE_MESSAGE(status.ok(), status.to_string());
  CHECK(saved(session) == other);
}

// A model of float16 weights and the same numbers as float32 differ in the window alone. Rounding to a
// half moves a key or value by 2^-11 of it at most; logits here are of the order of 1.
TEST_CASE("half window: outputs near those of a window of floats") {
  for (const TestModel& made :
       {model_of(TestMixer::kWindow, DType::kF16), model_of(TestMixer::kMacchiato, DType::kF16),
        softmax_of(DType::kF16)}) {
    const TestModel made_wide = widened(made);
    const Model half = opened(made), wide = opened(made_wide);
    for (const size_t tokens : {1, 3, 40}) {
      const Session a = started(half, tokens), b = started(wide, tokens);
      float difference = 0, largest = 0;
      for (size_t i = 0; i < kVocab; ++i) {
        difference = std::max(difference, std::fabs(a.logits()[i] - b.logits()[i]));
        largest = std::max(largest, std::fabs(b.logits()[i]));
      }
      CAPTURE(largest);
      CHECK(difference > 0.0f);
      CHECK(difference < 2e-3f * largest);
    }
  }
}

// Prompts in one piece, in pieces and token by token keep the same halves, but for a number that
// chunks and steps put on either side of a middle.
TEST_CASE("half window: chunks and steps keep the same halves") {
  const std::vector<TokenId> tokens = some_tokens(60, kVocab);
  for (const TestModel& made :
       {model_of(TestMixer::kWindow, DType::kF16), softmax_of(DType::kF16)}) {
    const Model model = opened(made);
    Session steps = started(model, 0);
    for (const TokenId token : tokens) {
      REQUIRE(steps.append(Span<const TokenId>(&token, 1)).ok());
    }
    const std::vector<uint8_t> want = saved(steps);
    for (const size_t piece : {2, 7, 16, 60}) {
      Session chunks = started(model, 0);
      for (size_t done = 0; done < tokens.size(); done += piece) {
        const size_t count = std::min(piece, tokens.size() - done);
        REQUIRE(chunks.append(Span<const TokenId>(tokens.data() + done, count)).ok());
      }
      const std::vector<uint8_t> got = saved(chunks);
      REQUIRE(got.size() == want.size());
      size_t different = 0, total = 0;
      for (size_t at = kHeader + 4 * kVocab; at < got.size() - kChecksum; at += 2, ++total) {
        uint16_t a, b;
        std::memcpy(&a, got.data() + at, 2);
        std::memcpy(&b, want.data() + at, 2);
        different += a == b ? 0 : 1;
        CHECK(std::fabs(half_to_float(a) - half_to_float(b)) <=
              0x1p-10f * std::fabs(half_to_float(b)) + 1e-5f);
      }
      CAPTURE(piece);
      CHECK(different * 50 <= total);
    }
  }
}

}  // namespace moka::test
