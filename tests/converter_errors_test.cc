// From a folder of weights to a .moka file: what is refused, and in which words.
#include <cmath>
#include <string>
#include <vector>

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
using test::small_checkpoint;
using test::TemporaryFolder;
using test::test_numbers;
using test::TestCheckpoint;
using test::write_file;

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

// The plan must fail with this code and this in its message.
void check_plan_fails(const TestCheckpoint& checkpoint, StatusCode code,
                      const std::string& message) {
  const TemporaryFolder folder;
  checkpoint.write(folder.path());
  const Status status = plan_conversion(options_for(folder.path(), "")).status();
  CAPTURE(message);
  CAPTURE(status.message());
  CHECK(status.code() == code);
  CHECK(contains(status.message(), message));
}

TEST_CASE("converter: configurations that cannot be right are refused by key and value") {
  const StatusCode invalid = StatusCode::kInvalidArgument, unsupported = StatusCode::kUnsupported;
  struct Case {
    const char* key;
    nlohmann::json value;  // discarded: the key is taken away
    StatusCode code;
    const char* message;
  };
  const nlohmann::json absent(nlohmann::json::value_t::discarded);
  const Case cases[] = {
      {"model_type", "llama", invalid, "model_type is \"llama\", expected one of \"latte\""},
      {"model_type", absent, invalid, "model_type is missing"},
      {"vocab_size", absent, invalid,
       "vocab_size is missing, expected an integer from 1 to 16777216"},
      {"vocab_size", 0, invalid, "vocab_size is 0, expected an integer from 1"},
      {"vocab_size", -5, invalid, "vocab_size is -5, expected an integer"},
      {"vocab_size", "260", invalid, "vocab_size is \"260\", expected an integer"},
      {"vocab_size", 260.0, invalid, "vocab_size is 260.0, expected an integer"},
      {"vocab_size", 18446744073709551615ull, invalid, "vocab_size is 18446744073709551615"},
      {"hidden_size", nullptr, invalid, "hidden_size is missing"},
      {"num_attention_heads", 3, invalid,
       "hidden_size is 16, expected a multiple of num_attention_heads, which is 3"},
      {"num_latents", 7, invalid, "num_latents is 7, expected a multiple"},
      {"num_latents", absent, invalid, "num_latents is missing"},
      {"num_hidden_layers", 5000, invalid,
       "num_hidden_layers is 5000, expected an integer from 1 to 4096"},
      {"n_kv_heads", 1, unsupported, "n_kv_heads is 1, expected num_attention_heads, which is 2"},
      {"block_type", "rms", invalid,
       "block_type is \"rms\", expected one of \"transformer\", \"glu\", \"rms_swiglu\""},
      {"mixer", "standard_causal", StatusCode::kCorrupt,
       "tensor \"blocks.0.mixer.local_q.weight\" of shape"},
      {"mixer", "linformer", unsupported, "mixer is \"linformer\""},
      {"mixer", "mamba", invalid, "mixer is \"mamba\""},
      {"mixer", 3, invalid, "mixer is 3, expected one of"},
      {"prenorm", false, invalid, "prenorm is false, a rms_swiglu block has true"},
      {"prenorm", "yes", invalid, "prenorm is \"yes\", expected true or false"},
      {"norm", "layernorm", invalid, "norm is \"layernorm\", a rms_swiglu block has \"rmsnorm\""},
      {"norm", "batchnorm", unsupported, "norm is \"batchnorm\""},
      {"norm_eps", 0, invalid, "norm_eps is 0, expected a number from 1e-30 to 1"},
      {"hidden_act", "relu", invalid,
       "hidden_act is \"relu\", expected one of \"silu\", \"gelu_tanh\""},
      {"intermediate_size", absent, invalid, "intermediate_size is missing"},
      {"positions", absent, invalid, "positions is missing"},
      {"positions", "learned", StatusCode::kCorrupt,
       "tensor \"embed_positions.weight\" is missing, expected shape [64, 16]"},
      {"positions", "alibi", invalid, "positions is \"alibi\""},
      {"window", absent, invalid, "window is missing"},
      {"window", 0, invalid, "window is 0, expected an integer from 1"},
      {"window_extent", "w-1", invalid, "window_extent is \"w-1\", expected one of \"w\", \"w+1\""},
      {"rope_theta", 0.5, invalid, "rope_theta is 0.5"},
      {"rope_style", "gptj", invalid, "rope_style is \"gptj\""},
      {"local_scale", -1, invalid, "local_scale is -1"},
      {"logit_softcap", -1, invalid, "logit_softcap is -1"},
      {"score_scale", 0, invalid, "score_scale is 0"},
      {"key_eps", 2, invalid, "key_eps is 2"},
      {"latent_scope", "outside_window", unsupported,
       "latent_scope is \"outside_window\", expected one of \"all\""},
      {"vapor_on_local", true, unsupported, "vapor_on_local is true, expected false"},
      {"vapor", true, invalid, "vapor is true, expected an object or null"},
      {"vapor", {{"theta", 100}, {"size", 3}}, invalid, "vapor: the key \"size\" is not known"},
      {"vapor", {{"sign", 0.5}}, invalid, "vapor: sign is no 1 or -1"},
      {"recurrent", "lstm", invalid, "recurrent is \"lstm\""},
      {"recurrent_feeds", "v", invalid, "recurrent_feeds is \"v\""},
      {"local_input", "z", invalid, "local_input is \"z\""},
      {"eos_token_id", 260, invalid, "eos_token_id is 260, expected an integer from 0 to 259"},
      {"eos_token_id", {1, 2}, invalid, "eos_token_id is an array"},
      {"bos_token_id", 1, invalid, "config.json: the bos id was given as 1, but tokenizer bytes has 258"},
      {"rope_scaling",
       {{"factor", 2}},
       invalid,
       "the key \"rope_scaling\" is not known (its value is an object)"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.key);
    TestCheckpoint checkpoint = small_checkpoint();
    if (c.value.is_discarded()) {
      checkpoint.config.erase(c.key);
    } else {
      checkpoint.config[c.key] = c.value;
    }
    check_plan_fails(checkpoint, c.code, c.message);
  }
}

TEST_CASE("converter: keys that contradict each other are refused") {
  const StatusCode invalid = StatusCode::kInvalidArgument;
  TestCheckpoint checkpoint = small_checkpoint();
  checkpoint.config.update({{"block_type", "transformer"},
                            {"prenorm", true},
                            {"norm", "layernorm"},
                            {"hidden_act", "silu"}});
  check_plan_fails(checkpoint, invalid,
                   "hidden_act is \"silu\", transformer and glu blocks have \"gelu_tanh\"");
  checkpoint.config.update({{"hidden_act", "gelu_tanh"}, {"unit_offset", true}});
  check_plan_fails(checkpoint, invalid, "unit_offset is true, which belongs to norm \"rmsnorm\"");
  checkpoint.config.erase("prenorm");
  check_plan_fails(checkpoint, invalid, "prenorm is missing, expected true or false");
  checkpoint = small_checkpoint();
  checkpoint.config.update({{"block_type", "glu"}, {"prenorm", true}, {"norm", "rmsnorm"}});
  check_plan_fails(checkpoint, invalid,
                   "intermediate_size is 24, a glu block has hidden_size, which is 16");
  checkpoint = small_checkpoint();
  checkpoint.config["positions"] = "sinusoidal";
  checkpoint.config.erase("max_position_embeddings");
  check_plan_fails(checkpoint, invalid, "max_position_embeddings is missing");
  checkpoint = small_checkpoint();
  checkpoint.config.update({{"recurrent", "rglru"}, {"rglru_blocks", 3}});
  check_plan_fails(checkpoint, invalid,
                   "rglru_blocks is 3, expected a divisor of hidden_size, which is 16");
  checkpoint = small_checkpoint();
  checkpoint.config.update({{"mixer", "window"}, {"recurrent", "conv"}});
  check_plan_fails(checkpoint, invalid, "recurrent is set, the window mixer has no recurrence");
}

TEST_CASE("converter: all mistakes of a configuration are told at once") {
  TestCheckpoint checkpoint = small_checkpoint();
  checkpoint.config["window"] = 0;
  checkpoint.config["colour"] = "blue";
  checkpoint.config.erase("positions");
  check_plan_fails(checkpoint, StatusCode::kInvalidArgument, "config.json: 3 problems:\n  ");
  check_plan_fails(checkpoint, StatusCode::kInvalidArgument,
                   "\n  the key \"colour\" is not known (its value is \"blue\")");
}

TEST_CASE("converter: harmless keys are let pass") {
  TestCheckpoint checkpoint = small_checkpoint();
  checkpoint.config.update({{"architectures", {"LatteForCausalLM"}},
                            {"torch_dtype", "float32"},
                            {"transformers_version", "4.1"},
                            {"use_cache", true},
                            {"dropout", 0.1},
                            {"_name_or_path", "x"},
                            {"initializer_range", 0.02}});
  const TemporaryFolder folder;
  checkpoint.write(folder.path());
  CHECK(plan_conversion(options_for(folder.path(), "")).ok());
}

TEST_CASE("converter: config.json must be JSON without repeated keys") {
  const TemporaryFolder folder;
  small_checkpoint().write(folder.path());
  const auto fails = [&](const std::string& text, const std::string& message) {
    write_file(folder / "config.json", text);
    const Status status = plan_conversion(options_for(folder.path(), "")).status();
    CAPTURE(status.message());
    CHECK(status.code() == StatusCode::kCorrupt);
    CHECK(contains(status.message(), message));
  };
  fails("", "config.json: is not JSON at byte");
  fails("{\"a\": 1,}", "config.json: is not JSON at byte 9");
  fails("[1]", "config.json: is no JSON object");
  fails("{\"window\": 1, \"window\": 2}", "the key \"window\" appears twice");
}

TEST_CASE("converter: tensors that do not fit are refused by name, all at once") {
  const StatusCode corrupt = StatusCode::kCorrupt;
  TestCheckpoint checkpoint = small_checkpoint();
  checkpoint.tensors.erase("blocks.1.up.weight");
  check_plan_fails(checkpoint, corrupt,
                   "tensor \"blocks.1.up.weight\" is missing, expected shape [24, 16]");
  checkpoint.tensors["blocks.0.mixer.q.weight"] = raw_f32({16, 8}, test_numbers(128, 1, 1));
  checkpoint.tensors["blocks.2.norm1.weight"] = raw_f32({16}, test_numbers(16, 1, 1));
  checkpoint.tensors["embed.weight"] = {"I32", {260, 16}, std::string(260 * 64, '\0')};
  check_plan_fails(checkpoint, StatusCode::kUnsupported, "model.safetensors: 4 problems:");
  check_plan_fails(checkpoint, StatusCode::kUnsupported,
                   "tensor \"embed.weight\" has type I32, expected F32, F16, BF16 or F64");
  check_plan_fails(checkpoint, StatusCode::kUnsupported,
                   "tensor \"blocks.0.mixer.q.weight\" has shape [16, 8], expected [8, 16]");
  check_plan_fails(checkpoint, StatusCode::kUnsupported,
                   "tensor \"blocks.2.norm1.weight\" of shape [16] has no place in this model");

  checkpoint = small_checkpoint();
  checkpoint.tensors["head.weight"] = raw_f32({260, 16}, test_numbers(260 * 16, 1, 1));
  check_plan_fails(
      checkpoint, corrupt,
      "\"head.weight\" of shape [260, 16] has no place in this model: tie_word_embeddings is true");
  checkpoint.config["tie_word_embeddings"] = false;
  const TemporaryFolder folder;
  checkpoint.write(folder.path());
  CHECK(plan_conversion(options_for(folder.path(), "")).ok());

  checkpoint = small_checkpoint();
  checkpoint.config.erase("tie_word_embeddings");  // not tied unless it says so
  check_plan_fails(checkpoint, corrupt,
                   "tensor \"head.weight\" is missing, expected shape [260, 16] (or "
                   "tie_word_embeddings true in config.json)");

  checkpoint = small_checkpoint();
  checkpoint.config["num_hidden_layers"] = 500;
  check_plan_fails(checkpoint, corrupt, "problems:\n  tensor \"blocks.2.norm1.weight\" is missing");
}

TEST_CASE("converter: weights that are no numbers are refused with their place") {
  struct Case {
    float value;
    WeightType weights;
    StatusCode code;
    const char* message;
  };
  const Case cases[] = {
      {std::nanf(""), WeightType::kF32, StatusCode::kCorrupt,
       "has the value nan at [3, 5], expected a finite float32"},
      {INFINITY, WeightType::kInt8, StatusCode::kCorrupt,
       "has the value inf at [3, 5], expected a finite float32"},
      {-INFINITY, WeightType::kF16, StatusCode::kCorrupt, "has the value -inf at [3, 5]"},
      {70000.0f, WeightType::kF16, StatusCode::kOutOfRange, "at [3, 5], float16 ends at 65504"},
  };
  for (const Case& c : cases) {
    const TemporaryFolder folder;
    TestCheckpoint checkpoint = small_checkpoint();
    std::vector<float> values = test_numbers(128, 1, 1);
    values[3 * 16 + 5] = c.value;
    checkpoint.tensors["blocks.1.mixer.k.weight"] = raw_f32({8, 16}, values);
    checkpoint.write(folder.path());
    const Status status =
        convert(options_for(folder.path(), folder / "x.moka", c.weights)).status();
    CAPTURE(status.message());
    CHECK(status.code() == c.code);
    CHECK(contains(status.message(), "tensor \"blocks.1.mixer.k.weight\""));
    CHECK(contains(status.message(), c.message));
    CHECK(test::names_in(folder.path()) ==
          std::vector<std::string>{"config.json", "model.safetensors"});
  }
}

TEST_CASE("converter: inputs and outputs that cannot be are refused before any work") {
  const TemporaryFolder folder;
  small_checkpoint().write(folder.path());
  const auto fails = [](const ConvertOptions& options, StatusCode code,
                        const std::string& message) {
    const Status status = convert(options).status();
    CAPTURE(status.message());
    CHECK(status.code() == code);
    CHECK(contains(status.message(), message));
  };
  const std::string output = folder / "x.moka";
  fails(options_for("", output), StatusCode::kInvalidArgument, "no input");
  fails(options_for(folder / "none", output), StatusCode::kNotFound,
        "no such file or folder");
  fails(options_for(folder / "config.json", output), StatusCode::kUnsupported,
        "is no checkpoint of a known form");
  fails(options_for(folder.path(), ""), StatusCode::kInvalidArgument, "no output");
  fails(options_for(folder.path(), folder.path()), StatusCode::kInvalidArgument, "is a folder");
  fails(options_for(folder.path(), folder / "none/x.moka"), StatusCode::kNotFound,
        "no such folder");
  ConvertOptions check = options_for(folder.path(), output);
  check.check_text = folder / "none.txt";
  fails(check, StatusCode::kNotFound, "none.txt");
  write_file(folder / "empty.txt", "");
  check.check_text = folder / "empty.txt";
  fails(check, StatusCode::kInvalidArgument, "has no text");
  write_file(output, "precious");
  fails(options_for(folder.path(), output), StatusCode::kFailedPrecondition,
        "exists already; --force replaces it");
  CHECK(read_file(output) == "precious");
  ConvertOptions force = options_for(folder.path(), output);
  force.force = true;
  CHECK(convert(force).ok());
  CHECK(load_model_file(output).ok());

  TestCheckpoint checkpoint = small_checkpoint();
  checkpoint.config["vocab_size"] = 300;
  checkpoint.tensors["embed.weight"] = raw_f32({300, 16}, test_numbers(4800, 1, 1));
  check_plan_fails(checkpoint, StatusCode::kNotFound,
                   "tokenizer.json: no such file; a model with vocab_size 300 needs its tokenizer");
}

TEST_CASE("converter: a cancelled conversion leaves nothing, and an older output as it was") {
  const TemporaryFolder folder;
  small_checkpoint().write(folder.path());
  write_file(folder / "text.txt", "The cat sat.\n");
  write_file(folder / "x.moka", "precious");
  for (const char* stage :
       {"reading", "weights", "float32 copy", "measuring", "test vector", "finishing"}) {
    CAPTURE(stage);
    ConvertOptions options = options_for(folder.path(), folder / "x.moka", WeightType::kInt8);
    options.force = true;
    options.test_vector = TestVectorMode::kAuto;
    options.check_text = folder / "text.txt";
    bool reached = false;
    options.progress = [&](const ConvertProgress& progress) {
      reached = reached || std::string(progress.stage) == stage;
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

TEST_CASE("converter: sampling recommendations are checked") {
  const TemporaryFolder folder;
  small_checkpoint().write(folder.path());
  const auto status_of = [&](const std::string& text) {
    write_file(folder / "generation_config.json", text);
    return plan_conversion(options_for(folder.path(), "")).status();
  };
  CHECK(status_of("{}").ok());
  CHECK(contains(status_of(R"({"temperature": -1})").message(),
                 "temperature is -1, expected a number from 0 to 100"));
  CHECK(contains(status_of(R"({"top_p": 0})").message(), "top_p is 0"));
  CHECK(contains(status_of(R"({"top_k": 1.5})").message(), "top_k is 1.5, expected an integer"));
  CHECK(contains(status_of(R"({"num_beams": 4})").message(), "the key \"num_beams\" is not known"));
  write_file(folder / "generation_config.json", R"({"do_sample": false, "temperature": 0.9})");
  const auto plan = plan_conversion(options_for(folder.path(), ""));
  REQUIRE(plan.ok());
  CHECK(plan.value().spec.metadata.sampling->temperature == 0.0f);
}

}  // namespace
}  // namespace moka
