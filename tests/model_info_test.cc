// What ModelInfo says of each kind of model, what a session of it weighs, and layers that share their
// weights.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "converter/writer.h"
#include "moka/moka.h"
#include "runtime/forward.h"
#include "runtime/kernels/kernels.h"
#include "runtime/loader.h"
#include "runtime/plan.h"
#include "tests/task_models.h"
#include "tests/temp_folder.h"

namespace moka::test {
namespace {

Model open_spec(const ModelSpec& spec) {
  OpenOptions options;
  options.executor.threads = 1;
  Result<Model> opened = Model::from_spec(spec, options);
  REQUIRE_MESSAGE(opened.ok(), opened.status().to_string());
  return std::move(opened).value();
}

struct Expected {
  std::string architecture;
  InputKind input = InputKind::kTokens;
  uint32_t vocab_size = 260, features = 0, image_width = 0, image_height = 0;
  OutputKind output = OutputKind::kClassifier;
  uint32_t outputs = 3;
  int32_t pad_id = 256;
  bool causal = true, reads_memory = false;
  uint64_t bytes_per_token = 0, position_limit = 0;
};

void check_info(const TestModel& test, const Expected& want) {
  const Model model = open_spec(test.spec);
  const ModelInfo& info = model.info();
  CHECK(info.architecture == want.architecture);
  CHECK(info.width == 24);
  CHECK(info.layers == 2);
  CHECK(info.input == want.input);
  CHECK(info.vocab_size == want.vocab_size);
  CHECK(info.features == want.features);
  CHECK(info.image_width == want.image_width);
  CHECK(info.image_height == want.image_height);
  CHECK(info.output == want.output);
  CHECK(info.outputs == want.outputs);
  CHECK(info.pad_id == want.pad_id);
  CHECK(info.causal == want.causal);
  CHECK(info.reads_memory == want.reads_memory);
  CHECK(info.state_bytes_per_token == want.bytes_per_token);
  CHECK(info.position_limit == want.position_limit);
  CHECK(info.threads == 1);
  uint64_t numbers = 0;
  for (const Tensor& tensor : test.spec.tensors) numbers += tensor.elements();
  CHECK(info.parameters == numbers);
  CHECK(info.weight_bytes == 4 * numbers);
}

size_t saved_bytes(const Model& model, size_t tokens) {
  Result<Session> session = model.new_session();
  REQUIRE_MESSAGE(session.ok(), session.status().to_string());
  if (model.info().reads_memory) REQUIRE(session.value().append_memory(some_tokens(30, 50)).ok());
  REQUIRE(session.value().append(some_tokens(tokens, 50)).ok());
  return session.value().save().value().size();
}

// The last row of a language model.
std::vector<float> last_row(const Model& model) {
  Result<Session> session = model.new_session();
  REQUIRE(session.ok());
  REQUIRE(session.value().append(some_tokens(70, 50)).ok());
  const Span<const float> row = session.value().logits();
  return std::vector<float>(row.begin(), row.end());
}

struct Packed {
  size_t layers = 0, bytes = 0;
};

Packed packed(const ModelSpec& spec) {
  auto weights = PackedWeights::create();
  REQUIRE(weights.ok());
  const Plan plan = make_plan(spec, *weights.value());
  auto kernels = select_kernels(nullptr);
  REQUIRE(kernels.ok());
  auto forward = Forward::create(plan, *kernels.value(), *weights.value(), 1, 16);
  REQUIRE(forward.ok());
  return {weights.value()->layers().size(), weights.value()->bytes()};
}

// A copy of every tensor of the spec's block under a new name; the block then names the copies.
void copy_tensors(ModelSpec* spec, const std::vector<TensorIndex*>& used) {
  for (TensorIndex* index : used) {
    if (*index == kNoTensor) continue;
    Tensor copy = spec->tensors[static_cast<size_t>(*index)];
    copy.name = "copy." + std::to_string(spec->tensors.size()) + "." + copy.name;
    *index = static_cast<TensorIndex>(spec->tensors.size());
    spec->tensors.push_back(copy);
  }
}

}  // namespace

TEST_CASE("model info: every kind of model") {
  TaskModelOptions ahead;
  ahead.causal = false;
  ahead.position_limit = 90;
  Expected want;
  want.architecture = "latte classifier, 2 layers of width 24";
  check_info(classifier_model(), want);
  want.architecture = "bidirectional latte classifier, 2 layers of width 24";
  want.causal = false;
  want.position_limit = 90;
  check_info(classifier_model(ahead), want);
  want.architecture = "bidirectional linformer classifier, 2 layers of width 24";
  want.position_limit = 77;
  check_info(linformer_model(77), want);

  want = Expected();
  want.architecture = "latte pair classifier, 2 layers of width 24";
  want.output = OutputKind::kPair;
  want.outputs = 2;
  check_info(pair_model(), want);
  want.architecture = "latte embedding, 2 layers of width 24";
  want.output = OutputKind::kEmbedding;
  want.outputs = 24;
  check_info(embedding_model(), want);

  want = Expected();
  want.architecture = "latte regression, 2 layers of width 24";
  want.input = InputKind::kValues;
  want.vocab_size = 0;
  want.features = 2;
  want.output = OutputKind::kRegression;
  want.outputs = 3 * 2 * 2;
  want.pad_id = -1;
  check_info(forecast_model(2, 3, {0.1f, 0.9f}), want);

  want = Expected();
  want.architecture = "bidirectional latte classifier, 2 layers of width 24";
  want.causal = false;
  want.vocab_size = 256;
  want.image_width = 4;
  want.image_height = 3;
  want.outputs = 4;
  want.pad_id = -1;
  check_info(image_model(true), want);
  want.input = InputKind::kPixels;
  want.vocab_size = 0;
  want.features = 1;
  check_info(image_model(false), want);

  want = Expected();
  want.architecture = "latte classifier, 2 layers of width 24";
  want.reads_memory = true;
  check_info(memory_model(false), want);
  want.architecture = "latte language model, 2 layers of width 24";
  want.output = OutputKind::kLanguage;
  want.outputs = 260;
  want.pad_id = -1;
  check_info(memory_model(true), want);
  want.architecture = "softmax language model, 2 layers of width 24";
  want.reads_memory = false;
  // Two layers of three heads: a key of 8 floats, and a value of 8 that stands in whole vectors.
  want.bytes_per_token = 2 * 3 * (8 + pad_row(8)) * sizeof(float);
  check_info(softmax_model(), want);
}

TEST_CASE("model info: a session weighs the same whatever it has read, except with softmax") {
  for (const TestModel& test :
       {classifier_model(), embedding_model(), memory_model(true), memory_model(false)}) {
    const Model model = open_spec(test.spec);
    CHECK(model.info().state_bytes > 0);
    CHECK(saved_bytes(model, 1) == saved_bytes(model, 1000));
    CHECK(saved_bytes(model, 1100) == saved_bytes(model, 3000));  // with an archive
  }
  const TestModel test = softmax_model();
  const Model model = open_spec(test.spec);
  CHECK(model.info().state_bytes == 0);  // all of it is the cache
  // Saved without padding: two layers, three heads, a key and a value of 8 floats each.
  CHECK(saved_bytes(model, 700) - saved_bytes(model, 200) == 500 * 2 * 3 * 16 * sizeof(float));
}

TEST_CASE("model info: layers that name the same tensors share them") {
  TestModelOptions options;
  options.mixer = TestMixer::kLatte;
  const TestModel two = make_test_model(options);
  ModelSpec shared = two.spec;
  shared.blocks = {two.spec.blocks[0], two.spec.blocks[0], two.spec.blocks[1], two.spec.blocks[1]};
  ModelSpec apart = shared;
  for (const size_t i : {size_t{1}, size_t{3}}) {
    auto& mixer = std::get<LatteMixer>(apart.blocks[i].mixer);
    auto& ff = std::get<GatedFeedForward>(apart.blocks[i].feed_forward);
    copy_tensors(&apart,
                 {&mixer.q.weight, &mixer.k.weight, &mixer.v.weight, &mixer.o.weight,
                  &ff.gate.weight, &ff.up.weight, &ff.down.weight,
                  &apart.blocks[i].before_mixer.scale, &apart.blocks[i].before_feed_forward.scale});
  }
  const Model small = open_spec(two.spec), model = open_spec(shared), large = open_spec(apart);
  CHECK(model.info().layers == 4);
  CHECK(model.info().parameters == small.info().parameters);
  CHECK(model.info().weight_bytes == small.info().weight_bytes);
  CHECK(large.info().weight_bytes > model.info().weight_bytes);
  CHECK(model.info().state_bytes == large.info().state_bytes);  // of each layer its own
  CHECK(model.info().state_bytes == 2 * small.info().state_bytes);
  CHECK(last_row(model) == last_row(large));
  CHECK(last_row(model) != last_row(small));

  const Packed of_two = packed(two.spec), of_shared = packed(shared), of_apart = packed(apart);
  CHECK(of_shared.layers == of_two.layers);
  CHECK(of_shared.bytes == of_two.bytes);
  CHECK(of_apart.layers > of_two.layers);
  CHECK(of_apart.bytes > of_two.bytes);

  const TempFolder folder;
  const auto written = [&folder](const std::string& name, const ModelSpec& spec) {
    const std::string path = folder.file(name);
    const Status status = write_model(path, spec, WriteOptions());
    REQUIRE_MESSAGE(status.ok(), status.to_string());
    auto loaded = load_model_file(path);
    REQUIRE_MESSAGE(loaded.ok(), loaded.status().to_string());
    return loaded.value().data_size;
  };
  CHECK(written("shared.moka", shared) == written("two.moka", two.spec));
  CHECK(written("apart.moka", apart) > written("again.moka", shared));
  Result<Model> reopened = Model::open(folder.file("shared.moka"));
  REQUIRE_MESSAGE(reopened.ok(), reopened.status().to_string());
  CHECK(reopened.value().info().layers == 4);
  CHECK(last_row(reopened.value()) == last_row(model));
}

}  // namespace moka::test
