// `--weights auto`: which matrices stay int8, and that the stated loss holds.
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "converter/auto_weights.h"
#include "converter/convert.h"
#include "doctest/doctest.h"
#include "nlohmann/json.hpp"
#include "runtime/loader.h"
#include "tests/checkpoint_builder.h"
#include "tests/process.h"

namespace moka {
namespace {

using test::raw_f32;
using test::read_file;
using test::TemporaryFolder;
using test::test_numbers;
using test::TestCheckpoint;
using test::write_file;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// ---- groups ------------------------------------------------------------------------------------

struct Pair {
  ModelSpec narrow, wide;
  void add(const std::string& name, DType narrow_type = DType::kI4) {
    Tensor tensor;
    tensor.name = name;
    tensor.dtype = narrow_type;
    tensor.size = 100;
    tensor.scale_size = 20;
    narrow.tensors.push_back(tensor);
    tensor.dtype = narrow_type == DType::kF32 ? DType::kF32 : DType::kI8;
    tensor.size = 200;
    wide.tensors.push_back(tensor);
  }
};

Pair layers(uint32_t count) {
  Pair pair;
  pair.add("embed.weight");
  for (uint32_t i = 0; i < count; ++i) {
    const std::string prefix = "blocks." + std::to_string(i) + ".";
    pair.add(prefix + "norm1.weight", DType::kF32);
    pair.add(prefix + "mixer.gate.weight", DType::kI8);
    for (const char* name : {"mixer.q", "mixer.local_k", "mixer.o", "gate", "up", "down"}) {
      pair.add(prefix + name + ".weight");
    }
  }
  pair.add("head.weight");
  return pair;
}

TEST_CASE("auto weights: matrices that read the same input are one group") {
  const Pair pair = layers(2);
  const std::vector<WeightGroup> groups = weight_groups(pair.narrow, pair.wide);
  std::vector<std::string> names;
  for (const WeightGroup& group : groups) {
    names.push_back(group.name);
    CHECK(group.bytes == 100 * group.tensors.size());
  }
  CHECK(names == std::vector<std::string>{"embed.weight", "blocks.0 mixer in", "blocks.0 mixer out",
                                          "blocks.0 feed-forward in", "blocks.0 feed-forward out",
                                          "blocks.1 mixer in", "blocks.1 mixer out",
                                          "blocks.1 feed-forward in", "blocks.1 feed-forward out",
                                          "head.weight"});
  CHECK(groups[1].tensors ==
        std::vector<std::string>{"blocks.0.mixer.q.weight", "blocks.0.mixer.local_k.weight"});
  CHECK(groups[3].tensors ==
        std::vector<std::string>{"blocks.0.gate.weight", "blocks.0.up.weight"});

  Pair other;
  for (const char* name : {"blocks.7.fc1.weight", "blocks.7.fc2.weight", "blocks.x.fc1.weight"}) {
    other.add(name);
  }
  const std::vector<WeightGroup> mlp = weight_groups(other.narrow, other.wide);
  REQUIRE(mlp.size() == 3);
  CHECK(mlp[0].name == "blocks.7 feed-forward in");
  CHECK(mlp[1].name == "blocks.7 feed-forward out");
  CHECK(mlp[2].name == "blocks.x.fc1.weight");
}

TEST_CASE("auto weights: neighbouring layers are joined where there would be too many groups") {
  for (const uint32_t count : {15u, 16u, 17u, 31u, 48u, 100u, 500u}) {
    const Pair pair = layers(count);
    const std::vector<WeightGroup> groups = weight_groups(pair.narrow, pair.wide);
    CAPTURE(count);
    CHECK(groups.size() <= kMaxWeightGroups);
    CHECK(groups.size() > kMaxWeightGroups / 2);
    std::set<std::string> tensors;
    for (const WeightGroup& group : groups) {
      tensors.insert(group.tensors.begin(), group.tensors.end());
    }
    CHECK(tensors.size() == 2 + 6 * count);
  }
  const Pair pair = layers(17);
  const std::vector<WeightGroup> joined = weight_groups(pair.narrow, pair.wide);
  CHECK(joined[1].name == "blocks.0-1 mixer in");
  CHECK(joined[1].tensors.size() == 4);
  CHECK(joined[joined.size() - 2].name == "blocks.16 feed-forward out");
  // Nothing but the impossible: a limit below the number of roles gives one group per role.
  CHECK(weight_groups(pair.narrow, pair.wide, 1).size() == 6);
}

// ---- conversions -------------------------------------------------------------------------------

// Groups of this one: the token table, and gate and up of two layers.
TestCheckpoint checkpoint() {
  TestCheckpoint result = test::small_checkpoint(20, 72);
  result.tensors["embed.weight"] = raw_f32({260, 20}, test_numbers(260 * 20, 2.0f, 3));
  return result;
}

ConvertOptions options_for(const TemporaryFolder& folder, double max_kl) {
  ConvertOptions options;
  options.input = folder.path();
  options.output = folder / "x.moka";
  options.weights = WeightType::kAuto;
  options.check_text = folder / "text.txt";
  options.max_kl = max_kl;
  options.threads = 1;
  options.force = true;
  return options;
}

void write_inputs(const TemporaryFolder& folder) {
  checkpoint().write(folder.path());
  std::string text;
  for (int i = 0; i < 24; ++i) text += "Line " + std::to_string(i) + " of a short text.\n";
  write_file(folder / "text.txt", text);
}

std::set<std::string> int4_tensors(const std::string& path) {
  const auto loaded = load_model_file(path);
  REQUIRE(loaded.ok());
  CHECK(verify_data(loaded.value(), "x").ok());
  CHECK(verify_tiles(loaded.value(), "x").ok());
  std::set<std::string> names;
  for (const Tensor& tensor : loaded.value().spec.tensors) {
    if (tensor.dtype == DType::kI4) names.insert(tensor.name);
  }
  return names;
}

TEST_CASE("auto weights: the loss that is allowed decides what is int8, and holds") {
  const TemporaryFolder folder;
  write_inputs(folder);
  const std::set<std::string> all = {"blocks.0.gate.weight", "blocks.0.up.weight",
                                     "blocks.1.gate.weight", "blocks.1.up.weight", "embed.weight"};
  ConvertOptions options = options_for(folder, 1000);
  const auto anything = convert(options);
  REQUIRE_MESSAGE(anything.ok(), anything.status().to_string());
  CHECK(anything.value().candidates == 3);
  CHECK(anything.value().kept_wide.empty());
  CHECK(int4_tensors(options.output) == all);
  const double most = anything.value().measurement->kl_mean;
  CHECK(contains(report_text(anything.value()), "3 of 3 groups of matrices are int4"));

  // A little less than that: what costs most for its bytes becomes int8, the rest does not.
  options.max_kl = most * 0.9;
  const auto some = convert(options);
  REQUIRE_MESSAGE(some.ok(), some.status().to_string());
  const ConvertReport& report = some.value();
  CHECK(report.measurement->kl_mean <= options.max_kl);
  REQUIRE(!report.kept_wide.empty());
  CHECK(report.kept_wide.size() < 3);
  std::set<std::string> expected = all;
  for (size_t i = 0; i < report.kept_wide.size(); ++i) {
    const KeptWide& kept = report.kept_wide[i];
    for (const std::string& name : kept.tensors) CHECK(expected.erase(name) == 1);
    if (i > 0) {
      const KeptWide& before = report.kept_wide[i - 1];
      CHECK(before.kl / static_cast<double>(before.bytes) >=
            kept.kl / static_cast<double>(kept.bytes));
    }
  }
  CHECK(int4_tensors(options.output) == expected);
  for (const TensorError& t : report.tensors) {
    CHECK((t.stored == DType::kI4) == (expected.count(t.tensor) != 0));
  }
  const auto loaded = load_model_file(options.output);
  REQUIRE(loaded.ok());
  const Metadata& metadata = loaded.value().spec.metadata;
  CHECK(contains(metadata.quantization, "auto: KL from float32 at most "));
  CHECK(contains(metadata.quantization, " nats per token on text.txt; "));
  CHECK(contains(metadata.quantization, report.kept_wide[0].name + ", "));
  REQUIRE(metadata.measurement);
  CHECK(metadata.measurement->kl_mean == report.measurement->kl_mean);
  CHECK(metadata.measurement->text_bytes == read_file(folder / "text.txt").size());
  CHECK(contains(report_text(report), report.kept_wide[0].name));
  const auto json = nlohmann::json::parse(report_json(report));
  CHECK(json["candidates"] == 3);
  REQUIRE(json["kept_int8"].size() == report.kept_wide.size());
  CHECK(json["kept_int8"][0]["group"] == report.kept_wide[0].name);
  CHECK(json["kept_int8"][0]["tensors"].size() == report.kept_wide[0].tensors.size());

  // The measurement is that of the file: measured again by a conversion that takes what it says.
  const std::string bytes = read_file(options.output);
  REQUIRE(convert(options).ok());
  CHECK(read_file(options.output) == bytes);
  CHECK(test::names_in(folder.path()) ==
        std::vector<std::string>{"config.json", "model.safetensors", "text.txt", "x.moka"});
}

TEST_CASE("auto weights: a limit that int8 exceeds is refused with the loss of int8") {
  const TemporaryFolder folder;
  write_inputs(folder);
  ConvertOptions options = options_for(folder, 1e-9);
  const Status status = convert(options).status();
  CHECK(status.code() == StatusCode::kOutOfRange);
  CHECK(contains(status.message(),
                 "--weights auto: KL on text.txt is to be at most 1e-09 nats per token, but int8 "
                 "throughout has "));
  CHECK(contains(status.message(), ": allow more with --max-kl, or use --weights f16"));
  CHECK(test::names_in(folder.path()) ==
        std::vector<std::string>{"config.json", "model.safetensors", "text.txt"});
}

TEST_CASE("auto weights: what cannot be is refused before any work") {
  const TemporaryFolder folder;
  write_inputs(folder);
  ConvertOptions options = options_for(folder, 0.01);
  options.check_text.clear();
  Status status = convert(options).status();
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message() == "--weights auto measures the loss on a text: --check must name one");
  for (const double bad : {0.0, -1.0, HUGE_VAL, std::nan("")}) {
    status = convert(options_for(folder, bad)).status();
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(contains(status.message(), "--max-kl is "));
    CHECK(contains(status.message(), ", expected a finite number above 0"));
  }
  // A plan needs no text, and says that it is not the last word.
  const auto plan = plan_conversion(options);
  REQUIRE(plan.ok());
  CHECK(contains(plan_text(plan.value()), "F32 to int4 per row and block of 32"));
  CHECK(contains(plan_text(plan.value()), "note: auto: this is where its search begins"));
}

TEST_CASE("auto weights: the command takes --max-kl with auto alone") {
  const test::ProcessResult other =
      test::run_process({MOKA_COMMAND, "convert", "f", "-o", "x.moka", "--max-kl", "0.1"});
  CHECK(other.exit_code == 2);
  CHECK(contains(other.err, "--max-kl belongs to --weights auto, not int8"));
  const test::ProcessResult word = test::run_process(
      {MOKA_COMMAND, "convert", "f", "-o", "x.moka", "--weights", "auto", "--max-kl", "little"});
  CHECK(word.exit_code == 2);
  CHECK(contains(word.err, "--max-kl"));
}

TEST_CASE("auto weights: a search can be cancelled at every stage and leaves nothing") {
  const TemporaryFolder folder;
  write_inputs(folder);
  write_file(folder / "x.moka", "precious");
  for (const char* stage : {"reading", "weights", "int8 copy", "float32 copy", "trying int4",
                            "choosing", "measuring", "test vector", "finishing"}) {
    CAPTURE(stage);
    ConvertOptions options = options_for(folder, 1000);
    bool reached = false;
    options.progress = [&](const ConvertProgress& progress) {
      reached = reached || std::string(progress.stage) == stage;
      CHECK(progress.done <= progress.total);
      return !reached;
    };
    const Status status = convert(options).status();
    CHECK(reached);
    CHECK(status.code() == StatusCode::kCancelled);
    CHECK(read_file(folder / "x.moka") == "precious");
    CHECK(test::names_in(folder.path()) ==
          std::vector<std::string>{"config.json", "model.safetensors", "text.txt", "x.moka"});
  }
}

}  // namespace
}  // namespace moka
