// config.json of every kind of model in the family: its tensors find their place, the file loads and
// a model of it opens.
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "converter/convert.h"
#include "doctest/doctest.h"
#include "moka/moka.h"
#include "nlohmann/json.hpp"
#include "runtime/loader.h"
#include "tests/checkpoint_builder.h"
#include "tests/process.h"

namespace moka {
namespace {

using Json = nlohmann::json;
using test::TemporaryFolder;
using test::TestCheckpoint;

constexpr uint64_t kD = 16, kH = 2, kL = 8, kLength = 12;

// The tensors that README.md lists for a configuration.
class FamilyBuilder {
 public:
  explicit FamilyBuilder(const Json& changes) {
    config_ = {{"model_type", "latte"},
               {"vocab_size", 20},
               {"hidden_size", kD},
               {"num_hidden_layers", 2},
               {"num_attention_heads", kH},
               {"num_latents", kL},
               {"block_type", "transformer"},
               {"mixer", "latte_causal"},
               {"prenorm", true},
               {"norm", "layernorm"},
               {"positions", "none"},
               {"max_position_embeddings", kLength}};
    config_.update(changes);
  }

  TestCheckpoint build() {
    checkpoint_.config = config_;
    const std::string positions = config_["positions"];
    add_input();
    if (positions == "learned") add("embed_positions.weight", {kLength, kD});
    const int memory = config_.value("num_memory_layers", 0);
    for (int i = 0; i < 2; ++i) {
      const std::string prefix = "blocks." + std::to_string(i) + ".";
      add_block(prefix, config_["mixer"]);
      if (memory == 0) continue;
      add_norm(prefix + "norm_cross");
      add_latte(prefix + "cross.");
    }
    for (int i = 0; i < memory; ++i) {
      add_block("memory.blocks." + std::to_string(i) + ".", "latte_bid");
    }
    if (memory != 0) add_norm("memory.final_norm");
    add_head();
    return checkpoint_;
  }

 private:
  void add(const std::string& name, const std::vector<uint64_t>& shape) {
    size_t count = 1;
    for (const uint64_t extent : shape) count *= static_cast<size_t>(extent);
    const auto seed = static_cast<uint32_t>(checkpoint_.tensors.size() + 1);
    checkpoint_.tensors[name] = test::raw_f32(shape, test::test_numbers(count, 0.4f, seed));
  }
  void add_linear(const std::string& name, uint64_t out, uint64_t in, bool bias = true) {
    add(name + ".weight", {out, in});
    if (bias) add(name + ".bias", {out});
  }
  void add_norm(const std::string& name) {
    add(name + ".weight", {kD});
    add(name + ".bias", {kD});
  }
  void add_latte(const std::string& prefix) {
    for (const char* name : {"q", "k"}) add_linear(prefix + name, kL, kD, false);
    for (const char* name : {"v", "o"}) add_linear(prefix + name, kD, kD, false);
  }

  void add_block(const std::string& prefix, const std::string& mixer) {
    add_norm(prefix + "norm1");
    const bool glu = config_["block_type"] == "glu";
    if (!glu) add_norm(prefix + "norm2");
    const std::string inside = prefix + "mixer.";
    if (mixer == "standard_causal" || mixer == "linformer") {
      for (const char* name : {"q", "k", "v", "o"}) {
        add_linear(inside + name, kD, kD, mixer == "linformer");
      }
    } else {
      add_latte(inside);
    }
    if (mixer == "linformer") {
      add(inside + "low_rank_k", {kLength, kH, kL});
      add(inside + "low_rank_v", {kLength, kH, kL});
    }
    add_linear(prefix + (glu ? "value" : "fc1"), glu ? kD : 4 * kD, kD);
    add_linear(prefix + (glu ? "gate" : "fc2"), kD, glu ? kD : 4 * kD);
  }

  void add_input() {
    const std::string input = config_.value("input", "tokens");
    if (input == "tokens") return add("embed.weight", {20, kD});
    if (input == "values") return add_linear("embed", kD, config_["num_features"]);
    if (input == "pixels") return add_linear("embed", kD, 1);
    const uint64_t channels[] = {1, 24, 48, 96, kD};
    for (size_t i = 0; i < 4; ++i) {
      const std::string name = "embed.conv." + std::to_string(i);
      add(name + ".weight", {channels[i + 1], channels[i], 3, 3});
      add(name + ".bias", {channels[i + 1]});
    }
    add_norm("embed.norm");
  }

  void add_head() {
    const std::string head = config_.value("head", "language");
    const bool classes = head == "classifier" || head == "pair";
    if (config_.value("final_norm", config_.value("prenorm", true) && !classes)) {
      add_norm("final_norm");
    }
    if (head == "language") add_linear("head", 20, kD, false);
    if (head == "pair") add_linear("hidden", kD, 4 * kD);
    if (classes) add_linear("head", 3, kD);
    if (head == "regression") add_linear("head", 2 * 4 * 3, kD);
  }

  Json config_;
  TestCheckpoint checkpoint_;
};

LoadedModel converted(const TestCheckpoint& checkpoint, const TemporaryFolder& folder,
                      WeightType weights) {
  checkpoint.write(folder.path());
  ConvertOptions options;
  options.input = folder.path();
  options.output = folder / "x.moka";
  options.weights = weights;
  options.tokenizer = "none";
  options.threads = 1;
  options.force = true;
  const auto report = convert(options);
  REQUIRE_MESSAGE(report.ok(), report.status().message());
  auto loaded = load_model_file(options.output);
  REQUIRE_MESSAGE(loaded.ok(), loaded.status().message());
  return std::move(loaded).value();
}

}  // namespace

TEST_CASE("family: every kind of model converts, loads and opens") {
  struct Case {
    Json changes;
    const char* architecture;
  };
  const Json classes = {{"head", "classifier"}, {"num_labels", 3}, {"pooling", "mean"}};
  const auto with = [](Json base, const Json& more) {
    base.update(more);
    return base;
  };
  const Case cases[] = {
      {{{"positions", "learned"}},
       "causal latte language model, 2 layers of width 16, 2 heads, 8 latents"},
      {{{"mixer", "standard_causal"}, {"prenorm", false}, {"num_latents", nullptr}},
       "softmax attention language model, 2 layers of width 16, 2 heads"},
      {with(classes, {{"mixer", "latte_bid"}, {"pad_token_id", 1}}),
       "bidirectional latte classifier, 2 layers of width 16, 2 heads, 8 latents, 3 classes"},
      {with(classes, {{"mixer", "linformer"}, {"labels", {"a", "b", "c"}}}),
       "linformer classifier, 2 layers of width 16, 2 heads, 8 latents, 3 classes"},
      {with(classes, {{"block_type", "glu"}, {"head", "pair"}, {"pooling", "first"}}),
       "causal latte pair classifier, 2 layers of width 16, 2 heads, 8 latents, 3 classes"},
      {with(classes, {{"mixer", "latte_bid"}, {"image_size", {4, 3}}}),
       "bidirectional latte classifier, 2 layers of width 16, 2 heads, 8 latents, 3 classes"},
      {with(classes, {{"mixer", "latte_bid"},
                      {"input", "pixels"},
                      {"image_size", {4, 3}},
                      {"input_mean", 127.5},
                      {"input_deviation", 127.5}}),
       "bidirectional latte classifier, 2 layers of width 16, 2 heads, 8 latents, 3 classes"},
      {with(classes, {{"mixer", "latte_bid"}, {"input", "pixels_conv"}, {"image_size", {4, 3}}}),
       "bidirectional latte classifier, 2 layers of width 16, 2 heads, 8 latents, 3 classes"},
      {{{"head", "regression"},
        {"input", "values"},
        {"num_features", 2},
        {"input_mean", {1, 2}},
        {"input_deviation", {0.5, 4}},
        {"num_outputs", 2},
        {"forecast_steps", 4},
        {"quantiles", {0.1, 0.5, 0.9}},
        {"output_mean", {1, 2}},
        {"output_deviation", {0.5, 4}}},
       "causal latte regression model, 2 layers of width 16, 2 heads, 8 latents"},
      {{{"head", "embedding"}, {"pooling", "last"}, {"unit_length", true}, {"mixer", "latte_bid"}},
       "bidirectional latte embedding model, 2 layers of width 16, 2 heads, 8 latents"},
      {{{"head", "none"}}, "causal latte encoder, 2 layers of width 16, 2 heads, 8 latents"},
      {{{"num_memory_layers", 1}},
       "causal latte language model, 2 layers of width 16, 2 heads, 8 latents, reads a memory "
       "through 1 layer"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.changes.dump());
    const TemporaryFolder folder;
    const TestCheckpoint checkpoint = FamilyBuilder(c.changes).build();
    for (const WeightType weights : {WeightType::kF32, WeightType::kInt8}) {
      const LoadedModel loaded = converted(checkpoint, folder, weights);
      CHECK(loaded.spec.tensors.size() == checkpoint.tensors.size());
      const auto model = Model::open(folder / "x.moka");
      CHECK_MESSAGE(model.ok(), model.status().message());
    }
    ConvertOptions options;
    options.input = folder.path();
    options.tokenizer = "none";
    const auto plan = plan_conversion(options);
    REQUIRE(plan.ok());
    CHECK(plan.value().architecture == c.architecture);
  }
}

TEST_CASE("family: values, scaling, labels and rows of numbers are kept") {
  const TemporaryFolder folder;
  const LoadedModel series = converted(FamilyBuilder({{"head", "regression"},
                                                      {"input", "values"},
                                                      {"num_features", 2},
                                                      {"input_mean", {1, 2}},
                                                      {"input_deviation", {0.5, 4}},
                                                      {"num_outputs", 2},
                                                      {"forecast_steps", 4},
                                                      {"quantiles", {0.1, 0.5, 0.9}},
                                                      {"output_mean", {3, 4}},
                                                      {"output_deviation", {5, 6}}})
                                           .build(),
                                       folder, WeightType::kInt8);
  const auto& input = std::get<FloatInput>(series.spec.input);
  CHECK(input.features == 2);
  CHECK(input.mean == std::vector<float>{1, 2});
  CHECK(input.deviation == std::vector<float>{0.5f, 4});
  CHECK(series.spec.tensor(input.projection.weight)->dtype == DType::kF32);
  const auto& head = std::get<RegressionHead>(series.spec.head);
  CHECK(head.outputs == 2);
  CHECK(head.steps == 4);
  CHECK(head.quantiles == std::vector<float>{0.1f, 0.5f, 0.9f});
  CHECK(head.mean == std::vector<float>{3, 4});
  CHECK(head.deviation == std::vector<float>{5, 6});
  CHECK(series.spec.tensor(head.projection.weight)->rows() == 24);

  const TestCheckpoint named = FamilyBuilder({{"mixer", "latte_bid"},
                                              {"head", "classifier"},
                                              {"pooling", "last"},
                                              {"pad_token_id", 1},
                                              {"id2label", {{"0", "x"}, {"2", "z"}, {"1", "y"}}}})
                                   .build();
  const LoadedModel classifier = converted(named, folder, WeightType::kF32);
  const auto& classes = std::get<ClassifierHead>(classifier.spec.head);
  CHECK(classes.labels == std::vector<std::string>{"x", "y", "z"});
  CHECK(classes.pad_id == 1);
  CHECK(classes.pooling == Pooling::kLast);
  CHECK_FALSE(std::get<LatteMixer>(classifier.spec.blocks[0].mixer).causal);
  CHECK(classifier.spec.final_norm.kind == NormKind::kNone);
}

TEST_CASE("family: kernels of convolutions are turned round") {
  const TemporaryFolder folder;
  const TestCheckpoint checkpoint = FamilyBuilder({{"mixer", "latte_bid"},
                                                   {"head", "none"},
                                                   {"input", "pixels_conv"},
                                                   {"image_size", {4, 3}}})
                                        .build();
  const LoadedModel loaded = converted(checkpoint, folder, WeightType::kF32);
  const auto& input = std::get<PixelConvInput>(loaded.spec.input);
  CHECK(input.width == 4);
  CHECK(input.height == 3);
  const Tensor& kernel = *loaded.spec.tensor(input.kernels[1]);
  REQUIRE(kernel.shape == std::vector<uint32_t>{48, 3, 3, 24});
  std::vector<float> source(48 * 24 * 9);
  const std::string& bytes = checkpoint.tensors.at("embed.conv.1.weight").bytes;
  std::memcpy(source.data(), bytes.data(), bytes.size());
  const auto* stored = static_cast<const float*>(kernel.data);
  for (size_t out = 0; out < 48; ++out) {
    for (size_t in = 0; in < 24; ++in) {
      for (size_t at = 0; at < 9; ++at) {
        CHECK(stored[(out * 9 + at) * 24 + in] == source[(out * 24 + in) * 9 + at]);
      }
    }
  }
}

TEST_CASE("family: a layer that reads a memory is two blocks") {
  const TemporaryFolder folder;
  for (const bool prenorm : {true, false}) {
    CAPTURE(prenorm);
    TestCheckpoint checkpoint =
        FamilyBuilder({{"num_memory_layers", 1}, {"prenorm", prenorm}, {"final_norm", prenorm}})
            .build();
    if (!prenorm) {
      checkpoint.tensors.erase("memory.final_norm.weight");
      checkpoint.tensors.erase("memory.final_norm.bias");
    }
    const LoadedModel loaded = converted(checkpoint, folder, WeightType::kF32);
    const ModelSpec& spec = loaded.spec;
    REQUIRE(spec.blocks.size() == 4);
    REQUIRE(spec.memory);
    CHECK(spec.memory->blocks.size() == 1);
    CHECK((spec.memory->final_norm.kind == NormKind::kLayerNorm) == prenorm);
    CHECK_FALSE(std::get<LatteMixer>(spec.memory->blocks[0].mixer).causal);
    const Block& self = spec.blocks[2];
    const Block& cross = spec.blocks[3];
    const auto name = [&](TensorIndex index) {
      const Tensor* tensor = spec.tensor(index);
      return tensor == nullptr ? std::string() : tensor->name;
    };
    CHECK(std::holds_alternative<std::monostate>(self.feed_forward));
    CHECK(std::holds_alternative<MlpFeedForward>(cross.feed_forward));
    CHECK(std::get<LatteMixer>(self.mixer).causal);
    CHECK(std::get<LatteMixer>(cross.mixer).source == Source::kMemory);
    CHECK(name(std::get<LatteMixer>(cross.mixer).q.weight) == "blocks.1.cross.q.weight");
    const Norm& first = prenorm ? self.before_mixer : self.after_mixer;
    const Norm& between = prenorm ? cross.before_mixer : cross.after_mixer;
    const Norm& second = prenorm ? cross.before_feed_forward : cross.after_feed_forward;
    CHECK(name(first.scale) == "blocks.1.norm1.weight");
    CHECK(name(between.scale) == "blocks.1.norm_cross.weight");
    CHECK(name(second.scale) == "blocks.1.norm2.weight");
  }
}

TEST_CASE("family: a file of weights goes with a configuration that lies elsewhere") {
  const TemporaryFolder weights, config;
  const TestCheckpoint checkpoint = FamilyBuilder(Json{{"head", "none"}}).build();
  checkpoint.write(weights.path());
  checkpoint.write(config.path());
  test::write_file(weights / "state.safetensors", test::read_file(weights / "model.safetensors"));
  test::write_file(weights / "config.json", "{}");
  ConvertOptions options;
  options.input = weights / "state.safetensors";
  options.tokenizer = "none";
  CHECK(plan_conversion(options).status().code() == StatusCode::kInvalidArgument);
  options.config = config / "config.json";
  const auto plan = plan_conversion(options);
  CHECK_MESSAGE(plan.ok(), plan.status().message());
  options.config = config / "none.json";
  CHECK(plan_conversion(options).status().code() == StatusCode::kNotFound);
}

}  // namespace moka
