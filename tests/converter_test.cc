// From a folder of weights to a .moka file: what comes out, and what is refused.
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "converter/convert.h"
#include "converter/npy.h"
#include "converter/storage.h"
#include "doctest/doctest.h"
#include "moka/moka.h"
#include "nlohmann/json.hpp"
#include "runtime/half.h"
#include "runtime/loader.h"
#include "runtime/tiles.h"
#include "tests/allocation_counter.h"
#include "tests/checkpoint_builder.h"
#include "tests/process.h"

namespace moka {
namespace {

using test::raw_f32;
using test::read_file;
using test::small_checkpoint;
using test::TemporaryFolder;
using test::test_numbers;
using test::TestCheckpoint;
using test::write_file;

constexpr const char* kFixtures[] = {"transformer_pre_latte", "glu_post_latte",
                                     "macchiato_width43_tied", "macchiato_gelu_offset",
                                     "macchiato_conv_interleaved"};

std::string fixture(const std::string& name) {
  return std::string(MOKA_SOURCE_DIR) + "/tests/data/hf/" + name;
}

ConvertOptions options_for(const std::string& input, const std::string& output,
                           WeightType weights = WeightType::kF32) {
  ConvertOptions options;
  options.input = input;
  options.output = output;
  options.weights = weights;
  options.threads = 1;
  options.test_vector = TestVectorMode::kNever;
  return options;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// ---- what comes out --------------------------------------------------------------------------

TEST_CASE("converter: logits of float32 are those of the training framework") {
  const TemporaryFolder folder;
  for (const char* name : kFixtures) {
    CAPTURE(name);
    const std::string output = folder / (std::string(name) + ".moka");
    const auto report = convert(options_for(fixture(name), output));
    CAPTURE(report.status().message());
    REQUIRE(report.ok());
    auto model = Model::open(output);
    CAPTURE(model.status().message());
    REQUIRE(model.ok());
    const NpyArray ids = read_npy(fixture(name) + "/ids.npy").value();
    const std::vector<int32_t> tokens = ids.to_int32().value();
    const std::vector<float> expected =
        read_npy(fixture(name) + "/logits.npy").value().to_float32().value();
    const size_t batch = ids.shape[0], length = ids.shape[1],
                 outputs = model.value().info().outputs;
    REQUIRE(expected.size() == batch * length * outputs);
    double worst = 0;
    for (size_t b = 0; b < batch; ++b) {
      auto session = model.value().new_session();
      REQUIRE(session.ok());
      const Status status = session.value().append(
          {tokens.data() + b * length, length},
          [&](size_t first, size_t rows, const float* logits, size_t stride) {
            for (size_t r = 0; r < rows; ++r) {
              const float* row = expected.data() + (b * length + first + r) * outputs;
              for (size_t i = 0; i < outputs; ++i) {
                worst = std::max(worst,
                                 std::fabs(static_cast<double>(logits[r * stride + i]) - row[i]));
              }
            }
            return Status();
          });
      REQUIRE(status.ok());
    }
    CHECK(worst < 1e-4);
  }
}

TEST_CASE("converter: stored tensors are the source, number for number") {
  const TemporaryFolder folder;
  const TestCheckpoint checkpoint = small_checkpoint(20, 72);
  checkpoint.write(folder.path());
  for (const WeightType weights :
       {WeightType::kF32, WeightType::kF16, WeightType::kInt8, WeightType::kInt4}) {
    CAPTURE(weight_type_name(weights));
    ConvertOptions options = options_for(folder.path(), folder / "x.moka", weights);
    options.force = true;
    const auto report = convert(options);
    REQUIRE(report.ok());
    const auto loaded = load_model_file(options.output);
    REQUIRE(loaded.ok());
    CHECK(verify_data(loaded.value(), "x").ok());
    CHECK(verify_tiles(loaded.value(), "x").ok());
    REQUIRE(loaded.value().spec.tensors.size() == checkpoint.tensors.size());
    size_t int4_tensors = 0;
    for (const Tensor& tensor : loaded.value().spec.tensors) {
      CAPTURE(tensor.name);
      const auto& raw = checkpoint.tensors.at(tensor.name);
      std::vector<float> source(raw.bytes.size() / 4);
      std::memcpy(source.data(), raw.bytes.data(), raw.bytes.size());
      const bool matrix = tensor.shape.size() == 2;
      if (!matrix || weights == WeightType::kF32) {
        CHECK(tensor.dtype == DType::kF32);
        CHECK(std::memcmp(tensor.data, source.data(), raw.bytes.size()) == 0);
      } else if (weights == WeightType::kF16) {
        REQUIRE(tensor.dtype == DType::kF16);
        const auto* stored = static_cast<const uint16_t*>(tensor.data);
        for (size_t i = 0; i < source.size(); ++i) CHECK(stored[i] == float_to_half(source[i]));
      } else {
        // Of the matrices of this small model only the feed-forward has rows enough for int4.
        const bool i4 = weights == WeightType::kInt4 && tensor.rows() >= kFewRows &&
                        tensor.name != "embed.weight";
        REQUIRE(tensor.dtype == (i4 ? DType::kI4 : DType::kI8));
        REQUIRE(tensor.layout == TensorLayout::kTiles);
        int4_tensors += i4;
        const size_t columns = tensor.shape[1], blocks = tile_blocks(columns);
        std::vector<int8_t> q(columns);
        std::vector<uint8_t> codes(blocks);
        std::vector<float> stored(columns);
        for (size_t row = 0; row < tensor.rows(); ++row) {
          const float* values = source.data() + row * columns;
          float scale = 0;
          if (i4) {
            scale = quantize_row_int4(values, columns, q.data(), codes.data());
          } else {
            scale = quantize_row_int8(values, columns, q.data());
          }
          read_tile_row(tensor, row, stored.data());
          for (size_t c = 0; c < columns; ++c) {
            CHECK(stored[c] == static_cast<float>(q[c]) * scale);
          }
        }
      }
    }
    CHECK(int4_tensors == (weights == WeightType::kInt4 ? 4 : 0));  // gate and up of two layers
    const size_t quantised = weights == WeightType::kF32 ? 0 : 1 + 2 * 10;  // all matrices
    CHECK(report.value().tensors.size() == quantised);
    for (const TensorError& t : report.value().tensors) {
      CHECK(t.error.relative_rms() > 0);
      const double limit = t.stored == DType::kF16 ? 5e-4 : t.stored == DType::kI4 ? 0.1 : 1e-2;
      CHECK(t.error.relative_rms() < limit);
    }
  }
}

TEST_CASE("converter: the description of the model and its origin are kept") {
  const TemporaryFolder folder;
  const TestCheckpoint checkpoint = small_checkpoint();
  checkpoint.write(folder.path());
  write_file(folder / "generation_config.json",
             R"({"temperature":0.7,"top_k":40,"top_p":0.9,"min_p":0.05,"repetition_penalty":1.2,
                 "eos_token_id":259,"transformers_version":"4.0"})");
  ConvertOptions options = options_for(folder.path(), folder / "x.moka", WeightType::kInt8);
  options.name = "Small";
  options.license = "Apache-2.0";
  options.author = "A. U. Thor";
  options.description = "For tests";
  options.training = "none";
  REQUIRE(convert(options).ok());
  const auto loaded = load_model_file(options.output);
  REQUIRE(loaded.ok());
  const ModelSpec& spec = loaded.value().spec;
  const Metadata& metadata = spec.metadata;
  CHECK(metadata.name == "Small");
  CHECK(metadata.license == "Apache-2.0");
  CHECK(metadata.author == "A. U. Thor");
  CHECK(metadata.description == "For tests");
  CHECK(metadata.training == "none");
  CHECK(metadata.converter == "moka " MOKA_VERSION_STRING);
  CHECK(metadata.trained_length == 64);
  CHECK(metadata.parameters == 260 * 16 + 2 * (2 * 16 + 2 * 128 + 4 * 256 + 32 + 3 * 384) + 16);
  CHECK(contains(metadata.quantization, "int8"));
  REQUIRE(metadata.source_files.size() == 3);
  CHECK(metadata.source_files[0].name == "config.json");
  CHECK(metadata.source_files[1].name == "model.safetensors");
  CHECK(metadata.source_files[1].size == read_file(folder / "model.safetensors").size());
  CHECK(metadata.source_files[1].xxh3 != 0);
  CHECK(metadata.source_files[2].name == "generation_config.json");
  REQUIRE(metadata.sampling);
  CHECK(metadata.sampling->temperature == 0.7f);
  CHECK(metadata.sampling->top_k == 40);
  CHECK(metadata.sampling->top_p == 0.9f);
  CHECK(metadata.sampling->min_p == 0.05f);
  CHECK(metadata.sampling->repeat_penalty == 1.2f);
  REQUIRE(spec.tokenizer);
  CHECK(spec.tokenizer->kind == TokenizerKind::kBytes);
  const auto& mixer = std::get<MacchiatoMixer>(spec.blocks[1].mixer);
  CHECK(mixer.window.size == 4);
  REQUIRE(mixer.window.rope);
  CHECK(mixer.window.rope->theta == 10000.0);
  CHECK(spec.positions.max_length == 0);  // no positions: no limit
  const auto& head = std::get<LanguageHead>(spec.head);
  CHECK(head.projection.weight == std::get<TokenInput>(spec.input).table);  // tied
}

TEST_CASE("converter: an absent name is the folder's") {
  const TemporaryFolder folder;
  small_checkpoint().write(folder.path());
  REQUIRE(convert(options_for(folder.path() + "/.", folder / "x.moka")).ok());
  const auto loaded = load_model_file(folder / "x.moka");
  REQUIRE(loaded.ok());
  CHECK(contains(folder.path(), "/" + loaded.value().spec.metadata.name));
  // The file of weights may be named instead of its folder.
  CHECK(plan_conversion(options_for(folder / "model.safetensors", "")).ok());
}

TEST_CASE("converter: the same input gives the same bytes") {
  const TemporaryFolder folder;
  small_checkpoint().write(folder.path());
  write_file(folder / "text.txt", "The cat sat.\n<|endoftext|>\nThe dog ran.\n");
  ConvertOptions options = options_for(folder.path(), folder / "a.moka", WeightType::kInt8);
  options.test_vector = TestVectorMode::kAuto;
  options.check_text = folder / "text.txt";
  REQUIRE(convert(options).ok());
  options.output = folder / "b.moka";
  REQUIRE(convert(options).ok());
  CHECK(read_file(folder / "a.moka") == read_file(folder / "b.moka"));
  CHECK(test::names_in(folder.path()) == std::vector<std::string>{"a.moka", "b.moka", "config.json",
                                                                  "model.safetensors", "text.txt"});
}

TEST_CASE("converter: narrow and wide sources give the weights that they stand for") {
  const TemporaryFolder folder;
  TestCheckpoint checkpoint = small_checkpoint();
  const std::string name = "blocks.0.mixer.q.weight";
  std::vector<float> values(8 * 16);
  std::memcpy(values.data(), checkpoint.tensors[name].bytes.data(), values.size() * 4);
  std::string wide;
  for (const float value : values) {
    const double number = value;
    wide.append(reinterpret_cast<const char*>(&number), 8);
  }
  checkpoint.tensors[name] = {"F64", {8, 16}, wide};
  checkpoint.write(folder.path());
  const auto plan = plan_conversion(options_for(folder.path(), ""));
  REQUIRE(plan.ok());
  CHECK(contains(plan_text(plan.value()), "1 tensors are F64 and are rounded to float32"));
  REQUIRE(convert(options_for(folder.path(), folder / "x.moka")).ok());
  const auto loaded = load_model_file(folder / "x.moka");
  REQUIRE(loaded.ok());
  for (const Tensor& tensor : loaded.value().spec.tensors) {
    if (tensor.name == name) CHECK(std::memcmp(tensor.data, values.data(), values.size() * 4) == 0);
  }
}

TEST_CASE("converter: the test vector is what the model says") {
  const TemporaryFolder folder;
  TestCheckpoint checkpoint = small_checkpoint();
  // Logits far apart, so that the best token is clear.
  checkpoint.tensors["embed.weight"] = raw_f32({260, 16}, test_numbers(260 * 16, 3.0f, 77));
  checkpoint.write(folder.path());
  ConvertOptions options = options_for(folder.path(), folder / "x.moka", WeightType::kInt8);
  options.test_vector = TestVectorMode::kAuto;
  const auto report = convert(options);
  REQUIRE(report.ok());
  auto model = Model::open(options.output);
  REQUIRE(model.ok());
  const auto& vector = model.value().spec().test_vector;
  REQUIRE(vector);
  REQUIRE(report.value().test_vector);
  CHECK(vector->expected == report.value().test_vector->expected);
  CHECK(vector->prompt.front() == 258);  // bos of the tokenizer of bytes
  REQUIRE(!vector->expected.empty());
  CHECK(vector->expected.size() <= 32);
  auto session = model.value().new_session();
  REQUIRE(session.ok());
  REQUIRE(session.value().append(vector->prompt).ok());
  SamplerOptions greedy;
  greedy.temperature = 0;
  auto sampler = Sampler::create(greedy, 260);
  REQUIRE(sampler.ok());
  for (const TokenId expected : vector->expected) {
    CHECK(session.value().step(sampler.value()).value() == expected);
  }
}

// A line of /proc/self/status; 0 where there is none.
unsigned long memory_kib(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(key, 0) == 0) return std::stoul(line.substr(key.size()));
  }
  return 0;
}

// 24 MiB in two feed-forwards, rows short and long.
void write_large_checkpoint(const std::string& folder) {
  constexpr uint64_t kHidden = 1 << 16;
  TestCheckpoint checkpoint = small_checkpoint();
  checkpoint.config["intermediate_size"] = kHidden;
  const std::vector<float> numbers = test_numbers(kHidden * 16, 0.1f, 5);
  for (const std::string block : {"blocks.0.", "blocks.1."}) {
    checkpoint.tensors[block + "gate.weight"] = raw_f32({kHidden, 16}, numbers);
    checkpoint.tensors[block + "up.weight"] = raw_f32({kHidden, 16}, numbers);
    checkpoint.tensors[block + "down.weight"] = raw_f32({16, kHidden}, numbers);
  }
  checkpoint.write(folder);
}

TEST_CASE("converter: memory stays far below the size of the model") {
  std::ofstream clear("/proc/self/clear_refs");
  if (!clear || memory_kib("VmHWM:") == 0) {
    MESSAGE("skipped: this system does not tell peak memory");
    return;
  }
  const TemporaryFolder folder;
  write_large_checkpoint(folder.path());
  clear << "5" << std::flush;  // the peak so far is forgotten
  const unsigned long before = memory_kib("VmRSS:");
  const auto report = convert(options_for(folder.path(), folder / "x.moka", WeightType::kInt8));
  const unsigned long grown = memory_kib("VmHWM:") - before;
  CAPTURE(report.status().message());
  REQUIRE(report.ok());
  CHECK(report.value().source_bytes > 24u << 20);
  // KiB; sanitizers, where allocations cannot be counted, add to the 8 MiB that it takes.
  CHECK(grown < (test::counts_allocations() ? 12 << 10 : 24 << 10));
}

// ---- plans and reports -----------------------------------------------------------------------

TEST_CASE("converter: a plan lists every tensor and writes nothing") {
  const TemporaryFolder folder;
  const TestCheckpoint checkpoint = small_checkpoint();
  checkpoint.write(folder.path());
  const auto plan = plan_conversion(options_for(folder.path(), "", WeightType::kInt8));
  REQUIRE(plan.ok());
  CHECK(plan.value().tensors.size() == checkpoint.tensors.size());
  CHECK(plan.value().architecture ==
        "macchiato language model, 2 layers of width 16, 2 heads, 8 latents, window of 4");
  uint64_t bytes = 0;
  for (const auto& [name, tensor] : checkpoint.tensors) bytes += tensor.bytes.size();
  CHECK(plan.value().source_bytes == bytes);
  CHECK(plan.value().parameters == bytes / 4);
  CHECK(plan.value().tensors[0].source == "embed.weight");
  CHECK(plan.value().tensors[0].transform == "F32 to int8 per row");
  CHECK(plan.value().tensors[0].stored_bytes == 17 * (16 * 16 + 128));  // tiles of 16 rows
  const std::string text = plan_text(plan.value());
  CHECK(contains(text, "blocks.1.mixer.local_q.weight"));
  CHECK(contains(text, "F32 to int8 per row"));
  const auto json = nlohmann::json::parse(plan_json(plan.value()));
  CHECK(json["tensors"].size() == checkpoint.tensors.size());
  CHECK(json["weights"] == "int8");
  CHECK(json["tensors"][1]["transform"] == "copy");
  CHECK(test::names_in(folder.path()) ==
        std::vector<std::string>{"config.json", "model.safetensors"});
}

TEST_CASE("converter: the check measures the loss against float32 and stores it") {
  const TemporaryFolder folder;
  TestCheckpoint checkpoint = small_checkpoint();
  checkpoint.tensors["embed.weight"] = raw_f32({260, 16}, test_numbers(260 * 16, 2.0f, 3));
  checkpoint.write(folder.path());
  const std::string story = "Once upon a time there was a cat.\n";
  write_file(folder / "text.txt", story + "<|endoftext|>\n" + story);
  ConvertOptions options = options_for(folder.path(), folder / "x.moka", WeightType::kInt8);
  options.check_text = folder / "text.txt";
  std::vector<std::string> stages;
  options.progress = [&](const ConvertProgress& progress) {
    if (stages.empty() || stages.back() != progress.stage) stages.push_back(progress.stage);
    CHECK(progress.done <= progress.total);
    return true;
  };
  const auto report = convert(options);
  REQUIRE(report.ok());
  REQUIRE(report.value().measurement);
  const Measurement m = *report.value().measurement;
  CHECK(m.text_name == "text.txt");
  CHECK(m.text_bytes == 2 * story.size());
  CHECK(m.tokens == 2 * story.size() + 1);  // and one eos
  CHECK(m.bits_per_byte_float32 > 1.0);
  CHECK(m.bits_per_byte != m.bits_per_byte_float32);
  CHECK(std::fabs(m.bits_per_byte - m.bits_per_byte_float32) < 0.2);
  CHECK(m.kl_mean > 0);
  CHECK(m.kl_mean < 0.1);
  CHECK(m.kl_max >= m.kl_mean);
  CHECK(m.argmax_agreement > 0.8);
  CHECK(m.argmax_agreement <= 1.0);
  CHECK(stages ==
        std::vector<std::string>{"reading", "weights", "float32 copy", "measuring", "finishing"});
  const auto loaded = load_model_file(options.output);
  REQUIRE(loaded.ok());
  REQUIRE(loaded.value().spec.metadata.measurement);
  CHECK(loaded.value().spec.metadata.measurement->kl_mean == m.kl_mean);
  CHECK(loaded.value().spec.metadata.measurement->bits_per_byte == m.bits_per_byte);
  CHECK(contains(report_text(report.value()), "bits per byte"));
  const auto json = nlohmann::json::parse(report_json(report.value()));
  CHECK(json["measurement"]["tokens"] == m.tokens);
  CHECK(json["test_vector"].is_null());

  // float32 against itself loses nothing.
  options.weights = WeightType::kF32;
  options.force = true;
  const auto same = convert(options);
  REQUIRE(same.ok());
  CHECK(same.value().measurement->bits_per_byte == doctest::Approx(m.bits_per_byte_float32));
  CHECK(same.value().measurement->kl_mean == 0);
  CHECK(same.value().measurement->argmax_agreement == 1);
}

}  // namespace
}  // namespace moka
