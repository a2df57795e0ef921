// What no conversion may accept: every refusal of the specification's sections 14 and 17, as a user
// sees it, with the exact words and the exit code.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/checkpoint_builder.h"
#include "tests/cli_model.h"
#include "tests/flax_run.h"
#include "tests/process.h"

namespace moka::test {
namespace {

constexpr int kFailure = 1, kBadFile = 3, kUnsupported = 4;

// `config` is the name of the file whose words are refused.
void check_refusal(const TemporaryFolder& folder, const std::string& config, int exit_code,
                   const std::string& words) {
  const std::string output = folder / "x.moka";
  const ProcessResult result =
      moka_command({"convert", folder.path(), "-o", output, "--weights", "f32"});
  CHECK(result.err == "moka convert: " + (folder / config) + ": " + words + "\n");
  CHECK(result.exit_code == exit_code);
  CHECK(result.out == "");
  const std::vector<std::string> left = names_in(folder.path());
  CHECK(std::find(left.begin(), left.end(), "x.moka") == left.end());
}

struct AuthorsCase {
  const char* task;
  const char* block;
  const char* weights;  // the attention that the parameters are of
  std::vector<std::pair<const char*, const char*>> config;  // changes; an empty value: no such key
  int exit_code;
  const char* words;
};

const std::vector<AuthorsCase>& authors_cases() {
  static const std::vector<AuthorsCase> kCases = {
      // ---- section 14 ----
      {"lm",
       "glu",
       "latte",
       {},
       kUnsupported,
       "attention_type is \"latte\" with block_type \"glu\": that code mixes up batch, time and "
       "channels, so its output means nothing; expected \"stable_latte\""},
      {"lm",
       "transformer",
       "stable_latte",
       {{"attention_type", "latte"}},
       kUnsupported,
       "attention_type is \"latte\" with block_type \"transformer\": the original has no such "
       "model; "
       "expected \"stable_latte\""},
      {"lm",
       "transformer",
       "stable_latte",
       {{"attention_type", "extend1_latte"}},
       kUnsupported,
       "attention_type is \"extend1_latte\": no code that computes it was ever published"},
      {"lm",
       "transformer",
       "stable_latte",
       {{"attention_type", "extend2_latte"}},
       kUnsupported,
       "attention_type is \"extend2_latte\": no code that computes it was ever published"},
      {"lm",
       "glu",
       "stable_latte",
       {{"attention_type", "bias_latte"}},
       kUnsupported,
       "attention_type is \"bias_latte\": no code that computes it was ever published"},
      {"lm",
       "glu",
       "standard_causal",
       {{"attention_type", "scan_standard_causal"}},
       kUnsupported,
       "attention_type is \"scan_standard_causal\" with block_type \"glu\": the original cannot "
       "run "
       "it; expected \"standard_causal\""},
      {"lm",
       "transformer",
       "bid_latte",
       {},
       kUnsupported,
       "attention_type is \"bid_latte\" in a language model: each token sees the one that it is to "
       "predict"},
      {"lm",
       "transformer",
       "linformer",
       {},
       kUnsupported,
       "attention_type is \"linformer\" in a language model: each token sees the one that it is to "
       "predict"},
      // ---- section 18 ----
      {"classifier",
       "transformer",
       "bid_latte",
       {{"normalize_img", "True"}, {"tokenize_img", "True"}, {"max_seq_len", "16"}},
       kUnsupported,
       "normalize_img and tokenize_img are both true: every pixel becomes id 0"},
      // ---- section 17.1: unknown keys and values ----
      {"lm",
       "transformer",
       "stable_latte",
       {{"window", "128"}},
       kFailure,
       "the key \"window\" is not known (its value is 128); remove it if it does not change what "
       "the "
       "model computes"},
      {"lm",
       "transformer",
       "stable_latte",
       {{"attention_type", "mamba"}},
       kFailure,
       "attention_type is \"mamba\", expected \"stable_latte\", \"bid_latte\", "
       "\"standard_causal\", "
       "\"scan_standard_causal\" or \"linformer\""},
      {"lm",
       "transformer",
       "stable_latte",
       {{"block_type", "mlp"}},
       kFailure,
       "block_type is \"mlp\", expected \"transformer\" or \"glu\""},
      {"lm",
       "transformer",
       "stable_latte",
       {{"prenorm", "maybe"}},
       kFailure,
       "2 problems:\n  prenorm is \"maybe\", expected true or false\n  prenorm is false, but the "
       "weights have a final norm, as prenorm models do"},
      {"classifier",
       "transformer",
       "bid_latte",
       {{"pool", "max"}, {"dataset_name", "listops"}},
       kFailure,
       "pool is \"max\", expected \"mean\" or \"last\""},
      {"classifier",
       "transformer",
       "bid_latte",
       {{"pool", "CLS"}, {"dataset_name", "listops"}},
       kFailure,
       "pool is \"CLS\", expected \"mean\" or \"last\""},
      {"lm",
       "transformer",
       "stable_latte",
       {{"dataset_name", "pg19"}},
       kFailure,
       "dataset_name is \"pg19\", expected one of \"shakespeare\", \"openwebtext\", "
       "\"enwik8-char\", "
       "\"wiki103-char\", \"listops\", \"imdb\", \"aan\", \"cifar10\", \"pathfinder32\", "
       "\"pathfinder64\", \"pathfinder128\", \"pathfinder256\"; without the key, --tokenizer and "
       "--pad-id say what it would"},
      // ---- section 19.3: what weights do not tell, and what contradicts them ----
      {"lm",
       "transformer",
       "stable_latte",
       {{"nheads", ""}},
       kFailure,
       "nheads is missing, expected the number of heads, which weights do not tell"},
      {"lm",
       "transformer",
       "stable_latte",
       {{"nheads", "3"}},
       kFailure,
       "2 problems:\n  hidden_dim is 16, expected a multiple of nheads, which is 3\n  L is 8, "
       "expected a multiple of nheads, which is 3"},
      {"lm",
       "transformer",
       "stable_latte",
       {{"nheads", "16"}},
       kFailure,
       "L is 8, expected a multiple of nheads, which is 16"},
      {"lm",
       "transformer",
       "stable_latte",
       {{"hidden_dim", "32"}},
       kFailure,
       "hidden_dim is 32, but the weights have 16"},
      {"lm",
       "transformer",
       "stable_latte",
       {{"hidden_dim", ""}},
       kFailure,
       "hidden_dim is 128 (the default), but the weights have 16"},
      {"lm",
       "transformer",
       "stable_latte",
       {{"L", "16"}},
       kFailure,
       "L is 16, but the weights have 8"},
      {"lm",
       "transformer",
       "stable_latte",
       {{"nlayers", "3"}},
       kFailure,
       "nlayers is 3, but the weights have 2"},
      {"lm",
       "transformer",
       "stable_latte",
       {{"attention_type", "standard_causal"}},
       kFailure,
       "attention_type is \"standard_causal\", but the weights have StableScanLatte_0, which is "
       "\"stable_latte\""},
      {"lm",
       "transformer",
       "stable_latte",
       {{"block_type", "glu"}},
       kFailure,
       "block_type is \"glu\", but the weights have TransBlock_0"},
      {"lm",
       "transformer",
       "stable_latte",
       {{"batchnorm", "True"}},
       kFailure,
       "batchnorm is true, but the weights have LayerNorm"},
      {"lm",
       "transformer",
       "stable_latte",
       {{"batchnorm", ""}},
       kFailure,
       "batchnorm is true (the default), but the weights have LayerNorm"},
      {"lm",
       "transformer",
       "stable_latte",
       {{"prenorm", ""}},
       kFailure,
       "prenorm is false (the default), but the weights have a final norm, as prenorm models do"},
      {"classifier",
       "transformer",
       "linformer",
       {{"max_seq_len", "13"}, {"dataset_name", "listops"}},
       kFailure,
       "max_seq_len is 13, but the projections of linformer have 12 rows"},
      {"classifier",
       "transformer",
       "linformer",
       {{"nheads", "4"}, {"dataset_name", "listops"}},
       kFailure,
       "nheads is 4, but the weights have 2"},
      {"classifier",
       "transformer",
       "bid_latte",
       {{"num_classes", ""}, {"dataset_name", "listops"}},
       kFailure,
       "num_classes is 10 (the default), but the weights have 3"},
      {"classifier",
       "transformer",
       "bid_latte",
       {{"conv_embed", "True"}, {"dataset_name", "listops"}},
       kFailure,
       "conv_embed is true, but the weights have no ConvEmbed_0"},
      {"lm",
       "transformer",
       "stable_latte",
       {{"dataset_name", "listops"}},
       kFailure,
       "dataset_name is \"listops\", which is a classifier, but the weights are of a language "
       "model"},
      {"pair",
       "transformer",
       "bid_latte",
       {{"dataset_name", "aan"}},
       kFailure,
       "dataset_name is \"aan\", whose vocabulary has 260 ids, but the weights have 20"},
      {"classifier",
       "transformer",
       "bid_latte",
       {{"dataset_name", "pathfinder32"}},
       kFailure,
       "dataset_name is \"pathfinder32\", whose pixels are numbers, but the weights have a table "
       "of "
       "tokens"},
      {"classifier",
       "transformer",
       "bid_latte",
       {},
       kFailure,
       "the id of padding is neither in the weights nor in the configuration: give dataset_name, a "
       "--tokenizer that has it, or --pad-id N (-1 for models that never see padding)"},
      {"classifier",
       "transformer",
       "bid_latte",
       {{"tokenize_img", "True"}},
       kFailure,
       "max_seq_len is 12, expected a square number: images are square"},
  };
  return kCases;
}

}  // namespace

TEST_CASE("refusals: of the authors' checkpoints, with exact words and exit codes") {
  for (const AuthorsCase& c : authors_cases()) {
    CAPTURE(c.words);
    const TemporaryFolder folder;
    FlaxRun run = authors_run(c.task, c.block, c.weights);
    for (const auto& [key, value] : c.config) {
      run.config[key] = value;
      if (*value == '\0') run.config.erase(key);
    }
    run.write(folder.path());
    check_refusal(folder, "config.yaml", c.exit_code, c.words);
  }
}

TEST_CASE("refusals: of config.json, with exact words and exit codes") {
  using Json = nlohmann::json;
  struct Case {
    Json change;
    int exit_code;
    const char* words;
  };
  const Json rotation = Json::object();
  const Case cases[] = {
      {{{"latent_scope", "outside_window"}},
       kUnsupported,
       "latent_scope is \"outside_window\", expected one of \"all\""},
      {{{"vapor_on_local", true}, {"vapor", rotation}},
       kUnsupported,
       "vapor_on_local is true, expected false"},
      {{{"n_kv_heads", 1}},
       kUnsupported,
       "n_kv_heads is 1, expected num_attention_heads, which is 2; values shared between heads are "
       "not supported"},
      {{{"post_sublayer_norms", true}},
       kUnsupported,
       "post_sublayer_norms is true, expected false; a norm after the mixer or the feed-forward "
       "besides the one before it is not part of these blocks"},
      {{{"mixer", "latte_bid"}},
       kUnsupported,
       "mixer is \"latte_bid\" with head \"language\": each token would see the next one, which it "
       "is "
       "to predict"},
      {{{"mixer", "linformer"}},
       kUnsupported,
       "mixer is \"linformer\" with head \"language\": each token would see the next one, which it "
       "is "
       "to predict"},
      {{{"mixer", "latte_bid"}, {"head", "none"}, {"vapor", rotation}},
       kUnsupported,
       "vapor is set, expected null with mixer \"latte_bid\"; values are rotated by their age, "
       "which "
       "needs a causal mixer"},
      {{{"mixer", "latte_bid"}, {"head", "none"}, {"recurrent", "conv"}},
       kUnsupported,
       "recurrent is set, expected \"none\" with mixer \"latte_bid\"; a recurrence needs a causal "
       "mixer"},
      {{{"norm", "batchnorm"}},
       kUnsupported,
       "norm is \"batchnorm\", expected one of \"layernorm\", \"rmsnorm\""},
      {{{"num_attention_heads", 3}},
       kFailure,
       "2 problems:\n  hidden_size is 16, expected a multiple of num_attention_heads, which is 3\n "
       " "
       "num_latents is 8, expected a multiple of num_attention_heads, which is 3"},
      {{{"window_extent", "w+2"}},
       kFailure,
       "window_extent is \"w+2\", expected one of \"w\", \"w+1\""},
      {{{"rope_style", "neox"}},
       kFailure,
       "rope_style is \"neox\", expected one of \"half\", \"interleaved\""},
      {{{"recurrent", "lstm"}},
       kFailure,
       "recurrent is \"lstm\", expected one of \"none\", \"conv\", \"rglru\", \"conv_rglru\""},
      {{{"gate_column", "middle"}},
       kFailure,
       "gate_column is \"middle\", expected one of \"first\", \"last\""},
      {{{"rope_scaling", 2}},
       kFailure,
       "the key \"rope_scaling\" is not known (its value is 2); remove it if it does not change "
       "what "
       "the model computes"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.words);
    const TemporaryFolder folder;
    TestCheckpoint checkpoint = small_checkpoint();
    checkpoint.config.update(c.change);
    checkpoint.write(folder.path());
    check_refusal(folder, "config.json", c.exit_code, c.words);
  }
}

TEST_CASE("refusals: weights that are no numbers, parameters that nothing uses") {
  const std::string weights = "checkpoints/60/default/checkpoint";
  const auto run_with = [](const std::string& path, float value) {
    FlaxRun run = authors_run("lm", "transformer", "stable_latte", true);
    run.arrays.at(path).values[3] = value;
    return run;
  };
  {
    const TemporaryFolder folder;
    run_with("params/Dense_0/kernel", std::nanf("")).write(folder.path());
    check_refusal(folder, weights, kBadFile,
                  "tensor \"params/Dense_0/kernel\" has the value nan at [0, 3], expected a finite "
                  "float32");
  }
  {
    const TemporaryFolder folder;
    run_with("batch_stats/BatchNorm_0/var", -0.5f).write(folder.path());
    check_refusal(
        folder, weights, kBadFile,
        "tensor \"batch_stats/BatchNorm_0/var\" has the value -0.500000 at [3], expected a "
        "variance of at least 0");
  }
  {
    const TemporaryFolder folder;
    FlaxRun run = authors_run("lm", "transformer", "stable_latte");
    run.add("params/Encoder_0/TransBlock_1/Dense_2/kernel", {16, 16});
    run.arrays.erase("params/Encoder_0/TransBlock_0/StableScanLatte_0/Wk");
    run.write(folder.path());
    check_refusal(
        folder, weights, kBadFile,
        "2 problems:\n  tensor "
        "\"params/Encoder_0/TransBlock_0/StableScanLatte_0/Wk\" is missing, expected shape "
        "[16, 8]\n  tensor \"params/Encoder_0/TransBlock_1/Dense_2/kernel\" of shape [16, "
        "16] has no place in this model");
  }
}

TEST_CASE("refusals: flags that contradict the configuration show both values") {
  const TemporaryFolder folder;
  FlaxRun run = authors_run("classifier", "transformer", "bid_latte");
  run.arrays.erase("params/encoder/Embed_0/embedding");
  run.add("params/encoder/Embed_0/embedding", {260, 16});
  run.config["dataset_name"] = "imdb";
  run.write(folder.path());
  const std::string start = "moka convert: " + (folder / "config.yaml") + ": ";
  const auto refused = [&](const std::vector<std::string>& flags) {
    std::vector<std::string> call = {"convert", folder.path(), "--dry-run"};
    call.insert(call.end(), flags.begin(), flags.end());
    const ProcessResult result = moka_command(call);
    CHECK(result.exit_code == kFailure);
    return result.err;
  };
  CHECK(moka_command({"convert", folder.path(), "--dry-run", "--pad-id", "256"}).exit_code == 0);
  CHECK(refused({"--pad-id", "0"}) ==
        start + "dataset_name is \"imdb\", which pads with 256, but --pad-id is 0\n");
  CHECK(refused({"--labels", "bad,good"}) ==
        start + "--labels has 2 names, but the model has 3 classes\n");
}

}  // namespace moka::test
