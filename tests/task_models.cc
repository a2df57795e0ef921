#include "tests/task_models.h"

#include <algorithm>
#include <utility>

#include "converter/tokenizer_json.h"
#include "converter/writer.h"
#include "doctest/doctest.h"

namespace moka::test {
namespace {

constexpr uint32_t kWidth = 24;
constexpr uint32_t kVocab = 260;

// The body: a latent model with hidden states as its output.
TestModel body(const TaskModelOptions& options, uint32_t vocab_size) {
  TestModelOptions builder;
  builder.mixer = TestMixer::kLatte;
  builder.width = kWidth;
  builder.vocab_size = vocab_size;
  builder.head = false;
  builder.positions = options.position_limit != 0 ? PositionKind::kLearned : PositionKind::kNone;
  builder.max_length = options.position_limit != 0 ? options.position_limit : 64;
  TestModel model = make_test_model(builder);
  for (Block& block : model.spec.blocks) std::get<LatteMixer>(block.mixer).causal = options.causal;
  model.spec.metadata.name = "task test";
  return model;
}

void add_tokenizer(const TaskModelOptions& options, ModelSpec* spec) {
  spec->tokenizer = bytes_tokenizer_spec();
  spec->tokenizer->add_bos = false;
  spec->tokenizer->add_eos = options.eos;
  spec->tokenizer->max_length = options.max_length;
}

Linear add_linear(TestModel* model, const std::string& name, uint32_t out, uint32_t in,
                  uint64_t seed) {
  Linear linear;
  linear.weight = add_random_tensor(model, name, DType::kF32, {out, in}, 0.6f, 0.0f, &seed);
  linear.bias = add_random_tensor(model, name + ".bias", DType::kF32, {out}, 0.3f, 0.0f, &seed);
  return linear;
}

// The model's input becomes numbers; their projection takes the place of the token table.
Linear replace_token_table(TestModel* model, uint32_t features) {
  const Linear projection = add_linear(model, "embed", kWidth, features, 77);
  std::vector<Tensor>& tensors = model->spec.tensors;
  Linear moved = projection;
  moved.weight = std::get<TokenInput>(model->spec.input).table;
  tensors[static_cast<size_t>(moved.weight)] = tensors[static_cast<size_t>(projection.weight)];
  tensors.erase(tensors.begin() + projection.weight);
  moved.bias = projection.bias - 1;
  return moved;
}

TestModel finish(TestModel model) {
  model.spec.required_features = features_of(model.spec);
  return model;
}

}  // namespace

TestModel classifier_model(const TaskModelOptions& options) {
  TestModel model = body(options, kVocab);
  ClassifierHead head;
  head.pooling = options.pooling;
  head.pad_id = 256;
  head.projection = add_linear(&model, "head", 3, kWidth, 5);
  if (options.labels) head.labels = {"bad", "fair", "good"};
  model.spec.head = head;
  add_tokenizer(options, &model.spec);
  return finish(std::move(model));
}

TestModel pair_model(const TaskModelOptions& options) {
  TestModel model = body(options, kVocab);
  PairHead head;
  head.pooling = options.pooling;
  head.pad_id = 256;
  head.hidden = add_linear(&model, "hidden", kWidth, 4 * kWidth, 6);
  head.projection = add_linear(&model, "head", 2, kWidth, 7);
  model.spec.head = head;
  add_tokenizer(options, &model.spec);
  return finish(std::move(model));
}

TestModel embedding_model(const TaskModelOptions& options) {
  TestModel model = body(options, kVocab);
  EmbeddingHead head;
  head.pooling = options.pooling;
  head.pad_id = 256;
  head.unit_length = true;
  model.spec.head = head;
  add_tokenizer(options, &model.spec);
  return finish(std::move(model));
}

TestModel forecast_model(uint32_t features, uint32_t steps, std::vector<float> quantiles,
                         const TaskModelOptions& options) {
  TestModel model = body(options, kVocab);
  FloatInput input;
  input.features = features;
  input.projection = replace_token_table(&model, features);
  input.mean.assign(features, 10.0f);
  input.deviation.assign(features, 4.0f);
  model.spec.input = input;
  RegressionHead head;
  head.outputs = features;
  head.steps = steps;
  head.quantiles = std::move(quantiles);
  head.mean.assign(features, 10.0f);
  head.deviation.assign(features, 4.0f);
  const auto numbers = static_cast<uint32_t>(head.quantiles.empty() ? 1 : head.quantiles.size());
  head.projection = add_linear(&model, "head", steps * features * numbers, kWidth, 8);
  model.spec.head = head;
  return finish(std::move(model));
}

TestModel image_model(bool tokens) {
  TaskModelOptions options;
  options.causal = false;
  TestModel model = body(options, 256);
  if (tokens) {
    TokenInput& input = std::get<TokenInput>(model.spec.input);
    input.image_width = 4;
    input.image_height = 3;
  } else {
    PixelDenseInput input;
    input.width = 4;
    input.height = 3;
    input.projection = replace_token_table(&model, 1);
    input.mean = 122.6f;
    input.deviation = 61.0f;
    model.spec.input = input;
  }
  ClassifierHead head;
  head.projection = add_linear(&model, "head", 4, kWidth, 9);
  head.labels = {"a", "b", "c", "d"};
  model.spec.head = head;
  return finish(std::move(model));
}

TestModel memory_model(bool language) {
  TestModel model = language ? body({}, kVocab) : classifier_model();
  ModelSpec& spec = model.spec;
  MemoryEncoder encoder;
  encoder.blocks = {spec.blocks[0]};  // with the weights of the first layer
  std::get<LatteMixer>(encoder.blocks[0].mixer).causal = false;
  encoder.final_norm = spec.final_norm;
  spec.memory = encoder;
  LatteMixer& cross = std::get<LatteMixer>(spec.blocks[1].mixer);
  cross.source = Source::kMemory;
  cross.causal = false;
  if (language) {
    LanguageHead head;
    head.projection = add_linear(&model, "head", kVocab, kWidth, 11);
    spec.head = head;
    add_tokenizer({}, &spec);
  }
  return finish(std::move(model));
}

TestModel softmax_model() {
  TestModelOptions builder;
  builder.mixer = TestMixer::kWindow;
  builder.width = kWidth;
  builder.vocab_size = kVocab;
  TestModel model = make_test_model(builder);
  for (Block& block : model.spec.blocks) {
    const WindowMixer window = std::get<WindowMixer>(block.mixer);
    SoftmaxMixer softmax;
    softmax.heads = window.heads;
    softmax.q = window.local_q;
    softmax.k = window.local_k;
    softmax.v = window.v;
    softmax.o = window.o;
    block.mixer = softmax;
  }
  add_tokenizer({}, &model.spec);
  return finish(std::move(model));
}

TestModel linformer_model(uint32_t max_length, bool zero_row) {
  constexpr uint32_t kRank = 5;
  TestModel model = classifier_model();
  for (size_t i = 0; i < model.spec.blocks.size(); ++i) {
    const LatteMixer latte = std::get<LatteMixer>(model.spec.blocks[i].mixer);
    LinformerMixer mixer;
    mixer.heads = latte.heads, mixer.rank = kRank, mixer.max_length = max_length;
    mixer.q = latte.q, mixer.k = latte.k, mixer.v = latte.v, mixer.o = latte.o;
    uint64_t seed = 20 + i;
    const std::string name = "blocks." + std::to_string(i) + ".mixer.low_rank_";
    const std::vector<uint32_t> shape = {max_length, latte.heads, kRank};
    mixer.low_rank_k = add_random_tensor(&model, name + "k", DType::kF32, shape, 0.3f, 0.0f, &seed);
    mixer.low_rank_v = add_random_tensor(&model, name + "v", DType::kF32, shape, 0.3f, 0.0f, &seed);
    model.spec.blocks[i].mixer = mixer;
  }
  if (zero_row) {
    const TensorIndex table = std::get<TokenInput>(model.spec.input).table;
    const Tensor& tokens = model.spec.tensors[static_cast<size_t>(table)];
    auto* row = static_cast<float*>(const_cast<void*>(tokens.data));  // the test's own memory
    std::fill(row, row + kWidth, 0.0f);
  }
  return finish(std::move(model));
}

void write_task_model(const std::string& path, const TestModel& model) {
  WriteOptions replace;
  replace.replace = true;
  const Status status = write_model(path, model.spec, replace);
  REQUIRE_MESSAGE(status.ok(), status.to_string());
}

}  // namespace moka::test
