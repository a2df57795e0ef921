// Recipes: which numbers of a checkpoint make which stored tensor, through every kind of stored
// weight.
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "converter/convert.h"
#include "converter/source_map.h"
#include "doctest/doctest.h"
#include "runtime/loader.h"
#include "runtime/tiles.h"
#include "tests/checkpoint_builder.h"
#include "tests/flax_run.h"
#include "tests/process.h"

namespace moka {
namespace {

using test::FlaxRun;
using test::raw_f32;
using test::TemporaryFolder;
using test::TestCheckpoint;

ConvertOptions options_for(const std::string& input, const std::string& output,
                           WeightType weights = WeightType::kF32) {
  ConvertOptions options;
  options.input = input;
  options.output = output;
  options.weights = weights;
  options.threads = 1;
  options.force = true;
  options.test_vector = TestVectorMode::kNever;
  return options;
}

std::vector<float> stored(const LoadedModel& model, const std::string& name) {
  for (const Tensor& tensor : model.spec.tensors) {
    if (tensor.name != name) continue;
    REQUIRE(tensor.dtype == DType::kF32);
    std::vector<float> values(static_cast<size_t>(tensor.elements()));
    std::memcpy(values.data(), tensor.data, values.size() * sizeof(float));
    return values;
  }
  FAIL("no tensor ", name);
  return {};
}

// The source's places that a recipe of a view takes, in order.
std::vector<uint64_t> places(const Recipe& recipe) {
  std::vector<uint64_t> result;
  const View& view = recipe.view;
  for (uint64_t i = 0; i < view.elements(); ++i) {
    uint64_t at = view.offset, rest = i;
    for (size_t k = view.extents.size(); k-- > 0; rest /= view.extents[k]) {
      at += rest % view.extents[k] * view.strides[k];
    }
    result.push_back(at);
  }
  return result;
}

}  // namespace

TEST_CASE("recipes: views take the right places") {
  using Places = std::vector<uint64_t>;
  CHECK(places(copied("a", {2, 2})) == Places{0, 1, 2, 3});
  CHECK(places(transposed("a", {2, 3}, 2, 3)) == Places{0, 3, 1, 4, 2, 5});
  CHECK(places(columns("a", 2, 6, 2, 2)) == Places{2, 8, 3, 9});
  CHECK(places(rows("a", 6, 2, 2, 2)) == Places{4, 5, 6, 7});
  CHECK(places(rows("a", 6, 0, 4, 2)) == Places{4, 5});
  CHECK(places(permuted("a", {2, 1, 3}, {2, 0, 1}, "")) == Places{0, 3, 1, 4, 2, 5});
  // Two heads of two latents, rows of one number: head 0 has rows 0 to 2, head 1 rows 3 to 5.
  CHECK(places(gate_rows("a", 2, 2, 1, false)) == Places{0, 3});
  CHECK(places(gate_rows("a", 2, 2, 1, true)) == Places{2, 5});
  CHECK(places(ungated_rows("a", 2, 2, 1, false)) == Places{1, 2, 4, 5});
  CHECK(places(ungated_rows("a", 2, 2, 1, true)) == Places{0, 1, 3, 4});
  CHECK(rows("a", 6, 2, 2, 2).view.contiguous());
  CHECK_FALSE(columns("a", 2, 6, 2, 2).view.contiguous());
  CHECK(columns("a", 2, 6, 2, 2).words == "columns 2 to 3 transposed");
}

TEST_CASE("recipes: BatchNorm becomes a scale and a shift, in double") {
  const TemporaryFolder folder;
  const FlaxRun run = test::authors_run("lm", "glu", "stable_latte", true);
  run.write(folder.path());
  REQUIRE(convert(options_for(folder.path(), folder / "x.moka")).ok());
  const auto model = load_model_file(folder / "x.moka");
  REQUIRE(model.ok());
  CHECK(model.value().spec.blocks[1].before_mixer.kind == NormKind::kAffine);
  const auto check = [&](const std::string& module, const std::string& name) {
    const auto& scale = run.arrays.at("params/" + module + "/scale").values;
    const auto& bias = run.arrays.at("params/" + module + "/bias").values;
    const auto& mean = run.arrays.at("batch_stats/" + module + "/mean").values;
    const auto& var = run.arrays.at("batch_stats/" + module + "/var").values;
    const std::vector<float> a = stored(model.value(), name + ".weight");
    const std::vector<float> b = stored(model.value(), name + ".bias");
    for (size_t i = 0; i < scale.size(); ++i) {
      const double factor = scale[i] / std::sqrt(static_cast<double>(var[i]) + 1e-5);
      CHECK(a[i] == static_cast<float>(factor));
      CHECK(b[i] == static_cast<float>(bias[i] - mean[i] * factor));
    }
  };
  check("BatchNorm_0", "final_norm");
  check("Encoder_0/GLUBlock_1/BatchNorm_0", "blocks.1.norm1");
}

TEST_CASE("recipes: fused projections come apart, in every kind of weight") {
  const TemporaryFolder folder;
  const FlaxRun run = test::authors_run("lm", "transformer", "standard_causal");
  run.write(folder.path());
  REQUIRE(convert(options_for(folder.path(), folder / "x.moka")).ok());
  const auto model = load_model_file(folder / "x.moka");
  REQUIRE(model.ok());
  const auto& fused =
      run.arrays.at("params/Encoder_0/TransBlock_1/CausalSelfAttention_0/Dense_0/kernel").values;
  const char* names[] = {"q", "k", "v"};
  for (size_t part = 0; part < 3; ++part) {
    const std::vector<float> values =
        stored(model.value(), std::string("blocks.1.mixer.") + names[part] + ".weight");
    for (size_t out = 0; out < 16; ++out) {
      for (size_t in = 0; in < 16; ++in) {
        CHECK(values[out * 16 + in] == fused[in * 48 + part * 16 + out]);
      }
    }
  }
  // The same weights laid out as Moka has them give the same int8 numbers.
  REQUIRE(convert(options_for(folder.path(), folder / "i8.moka", WeightType::kInt8)).ok());
  const auto narrow = load_model_file(folder / "i8.moka");
  REQUIRE(narrow.ok());
  const std::vector<float> wide = stored(model.value(), "blocks.1.fc1.weight");
  for (const Tensor& tensor : narrow.value().spec.tensors) {
    if (tensor.name != "blocks.1.fc1.weight") continue;
    REQUIRE(tensor.dtype == DType::kI8);
    std::vector<int8_t> q(16);
    std::vector<float> values(16);
    for (size_t row = 0; row < tensor.rows(); ++row) {
      const float scale = quantize_row_int8(wide.data() + row * 16, 16, q.data());
      read_tile_row(tensor, row, values.data());
      for (size_t c = 0; c < 16; ++c) CHECK(values[c] == static_cast<float>(q[c]) * scale);
    }
  }
}

TEST_CASE("recipes: gates are taken out of the query matrix") {
  const TemporaryFolder apart, fused;
  TestCheckpoint checkpoint = test::small_checkpoint();  // 2 heads, 8 latents, width 16
  checkpoint.write(apart.path());
  REQUIRE(convert(options_for(apart.path(), apart / "x.moka")).ok());
  const auto loaded_apart = load_model_file(apart / "x.moka");
  REQUIRE(loaded_apart.ok());

  for (const bool last : {false, true}) {
    CAPTURE(last);
    TestCheckpoint changed = checkpoint;
    for (int layer = 0; layer < 2; ++layer) {
      const std::string mixer = "blocks." + std::to_string(layer) + ".mixer.";
      const std::string q = checkpoint.tensors.at(mixer + "q.weight").bytes;
      const std::string gate = checkpoint.tensors.at(mixer + "gate.weight").bytes;
      const size_t row = 16 * sizeof(float);
      std::string bytes;
      for (size_t head = 0; head < 2; ++head) {
        if (!last) bytes += gate.substr(head * row, row);
        bytes += q.substr(head * 4 * row, 4 * row);
        if (last) bytes += gate.substr(head * row, row);
      }
      changed.tensors.erase(mixer + "gate.weight");
      changed.tensors[mixer + "q.weight"] = {"F32", {10, 16}, bytes};
    }
    changed.write(fused.path());
    ConvertOptions options = options_for(fused.path(), fused / "x.moka");
    if (last) options.gate_column = "last";
    const auto report = convert(options);
    REQUIRE_MESSAGE(report.ok(), report.status().message());
    const auto loaded = load_model_file(fused / "x.moka");
    REQUIRE(loaded.ok());
    for (const char* name : {"blocks.0.mixer.q.weight", "blocks.1.mixer.gate.weight"}) {
      CHECK(stored(loaded.value(), name) == stored(loaded_apart.value(), name));
    }
  }

  ConvertOptions options = options_for(apart.path(), "");
  options.gate_column = "last";
  const Status unused = plan_conversion(options).status();
  CHECK(unused.code() == StatusCode::kInvalidArgument);
  CHECK(unused.message() ==
        apart /
            "config.json: --gate-column was given, but the gates are no part of the queries: "
            "there is the tensor \"blocks.0.mixer.gate.weight\"");
  TestCheckpoint configured = checkpoint;
  configured.config["gate_column"] = "last";
  for (int layer = 0; layer < 2; ++layer) {
    configured.tensors.erase("blocks." + std::to_string(layer) + ".mixer.gate.weight");
  }
  configured.write(apart.path());
  options.gate_column = "first";
  CHECK(plan_conversion(options).status().message() ==
        apart / "config.json: gate_column is \"last\", but --gate-column is \"first\"");
}

TEST_CASE("recipes: layers that share weights keep one copy of them") {
  const TemporaryFolder folder;
  TestCheckpoint checkpoint = test::small_checkpoint();
  checkpoint.config["num_hidden_layers"] = 4;
  checkpoint.config["shared_layers"] = {0, 1, 0, 1};
  checkpoint.write(folder.path());
  const auto report = convert(options_for(folder.path(), folder / "x.moka"));
  REQUIRE_MESSAGE(report.ok(), report.status().message());
  const auto loaded = load_model_file(folder / "x.moka");
  REQUIRE(loaded.ok());
  const ModelSpec& spec = loaded.value().spec;
  REQUIRE(spec.blocks.size() == 4);
  CHECK(spec.tensors.size() == checkpoint.tensors.size());
  for (size_t i = 0; i < 2; ++i) {
    const auto& first = std::get<MacchiatoMixer>(spec.blocks[i].mixer);
    const auto& again = std::get<MacchiatoMixer>(spec.blocks[i + 2].mixer);
    CHECK(first.q.weight == again.q.weight);
    CHECK(spec.blocks[i].before_mixer.scale == spec.blocks[i + 2].before_mixer.scale);
  }
  CHECK(std::get<MacchiatoMixer>(spec.blocks[0].mixer).q.weight !=
        std::get<MacchiatoMixer>(spec.blocks[1].mixer).q.weight);

  checkpoint.config["shared_layers"] = {0, 1, 2, 3};
  checkpoint.config["shared_layers"][1] = 2;
  checkpoint.write(folder.path());
  CHECK(plan_conversion(options_for(folder.path(), "")).status().message() ==
        folder /
            "config.json: shared_layers[1] is 2, expected 1 or the index of an earlier layer "
            "that has weights of its own");
}

TEST_CASE("recipes: a plan shows every source of a tensor and what is done") {
  const TemporaryFolder folder;
  test::authors_run("lm", "glu", "stable_latte", true).write(folder.path());
  const auto plan = plan_conversion(options_for(folder.path(), "", WeightType::kInt8));
  REQUIRE(plan.ok());
  bool found = false;
  for (const PlannedTensor& line : plan.value().tensors) {
    if (line.target != "final_norm.bias") continue;
    found = true;
    CHECK(line.source ==
          "params/BatchNorm_0/scale + batch_stats/BatchNorm_0/var + params/BatchNorm_0/bias + "
          "batch_stats/BatchNorm_0/mean");
    CHECK(line.transform == "bias - mean * scale / sqrt(var + 1e-5)");
  }
  CHECK(found);
  const std::string text = plan_text(plan.value());
  CHECK(text.find("\n+ batch_stats/BatchNorm_0/mean\n") != std::string::npos);
  CHECK(text.find("transposed, F32 to int8 per row") != std::string::npos);
  CHECK(text.find("note: step 60: the only one\n") != std::string::npos);
}

}  // namespace moka
