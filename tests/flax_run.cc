#include "tests/flax_run.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "tests/checkpoint_builder.h"
#include "tests/checkpoint_bytes.h"
#include "tests/checkpoint_testing.h"
#include "tests/process.h"

namespace moka::test {
namespace {

constexpr uint64_t kWidth = 16, kLatents = 8, kHeads = 2, kIds = 20, kPositions = 12, kClasses = 3;

void add_dense(FlaxRun* run, const std::string& path, uint64_t in, uint64_t out, bool bias = true) {
  run->add(path + "/kernel", {in, out});
  if (bias) run->add(path + "/bias", {out});
}

void add_norm(FlaxRun* run, const std::string& path, int index, bool batch_norm) {
  const std::string module =
      path + (batch_norm ? "BatchNorm_" : "LayerNorm_") + std::to_string(index);
  run->add("params/" + module + "/scale", {kWidth}, 1.0f);
  run->add("params/" + module + "/bias", {kWidth});
  if (!batch_norm) return;
  run->add("batch_stats/" + module + "/mean", {kWidth});
  FlaxArray& variance = run->arrays["batch_stats/" + module + "/var"];
  variance = run->arrays["batch_stats/" + module + "/mean"];
  for (float& value : variance.values) value = 0.1f + std::fabs(value);
}

void add_mixer(FlaxRun* run, const std::string& path, const std::string& attention) {
  if (attention == "linformer") {
    const std::string module = path + "LinformerAttention_0/";
    add_dense(run, module + "W", kWidth, 3 * kWidth);
    add_dense(run, module + "o_proj", kWidth, kWidth);
    for (const char* name : {"low_rank_E", "low_rank_V"}) {
      run->add(module + name, {kPositions, kHeads, kLatents});
    }
    return;
  }
  if (attention == "standard_causal" || attention == "scan_standard_causal") {
    const std::string module =
        path +
        (attention == "standard_causal" ? "CausalSelfAttention_0/" : "ScanCausalSelfAttention_0/");
    add_dense(run, module + "Dense_0", kWidth, 3 * kWidth, false);
    add_dense(run, module + "Dense_1", kWidth, kWidth, false);
    return;
  }
  const std::string module = path + (attention == "bid_latte" ? "BidLatte_0/"
                                     : attention == "latte"   ? "ScanLatte_0/"
                                                              : "StableScanLatte_0/");
  for (const char* name : {"Wq", "Wk"}) run->add(module + name, {kWidth, kLatents});
  for (const char* name : {"Wv", "o_proj"}) run->add(module + name, {kWidth, kWidth});
}

}  // namespace

void FlaxRun::add(const std::string& path, const std::vector<uint64_t>& shape, float scale) {
  size_t count = 1;
  for (const uint64_t extent : shape) count *= static_cast<size_t>(extent);
  const auto seed = static_cast<uint32_t>(arrays.size() + 1);
  arrays[path] = {shape, test_numbers(count, scale, seed)};
}

void FlaxRun::write(const std::string& folder, uint64_t step) const {
  MsgpackTree model;
  for (const auto& [path, array] : arrays) {
    model.put(path, mp_ndarray(array.shape, "float32", raw(array.values)));
  }
  model.put("step", mp_ndarray({}, "int32", little_endian(step, 4)));
  model.put("opt_state", mp_map({}));
  const std::string inside = folder + "/checkpoints/" + std::to_string(step) + "/default";
  std::filesystem::create_directories(inside);
  write_file(inside + "/checkpoint", mp_map({{"model", model.bytes()}}));
  std::string yaml;
  for (const auto& [key, value] : config) yaml += key + ": " + value + "\n";
  if (!config.empty()) write_file(folder + "/config.yaml", yaml);
}

namespace {

// Inline chunks of zarr 2 for one array of a store.
void add_array(const std::string& key, const FlaxArray& array, std::vector<OcdbtEntry>* entries) {
  std::string shape, chunk;
  for (const uint64_t extent : array.shape) {
    shape += (shape.empty() ? "" : ",") + std::to_string(extent);
    chunk += chunk.empty() ? "0" : ".0";
  }
  OcdbtEntry header, data;
  header.key = key + "/.zarray";
  header.value = "{\"zarr_format\":2,\"shape\":[" + shape + "],\"chunks\":[" + shape +
                 "],\"dtype\":\"<f4\",\"order\":\"C\",\"filters\":null,\"compressor\":null," +
                 "\"fill_value\":null}";
  data.key = key + "/" + chunk;
  data.value = raw(array.values);
  entries->push_back(header);
  entries->push_back(data);
}

std::string dotted(std::string path) {
  for (char& c : path) c = c == '/' ? '.' : c;
  return path;
}

// The leaf of _METADATA for the array at `path`.
std::string described_leaf(const std::string& path) {
  std::string keys;
  for (size_t at = 0; at <= path.size();) {
    const size_t slash = std::min(path.find('/', at), path.size());
    keys += (keys.empty() ? "" : ",") + std::string("{\"key\":\"") + path.substr(at, slash - at) +
            "\",\"key_type\":2}";
    at = slash + 1;
  }
  return "\"" + path + "\":{\"key_metadata\":[" + keys +
         "],\"value_metadata\":{\"value_type\":\"jax.Array\",\"skip_deserialize\":false}}";
}

}  // namespace

void FlaxRun::write_sibling(const std::string& folder, StateForm form, uint64_t step) const {
  const std::string top = folder + "/checkpoints/" + std::to_string(step);
  const std::string state = top + "/state";
  std::filesystem::create_directories(state);
  std::filesystem::create_directories(top + "/metadata");
  std::string arguments;
  for (const auto& [key, value] : config) {
    const bool number = value.find_first_not_of("0123456789.") == std::string::npos;
    arguments +=
        (arguments.empty() ? "\"" : ",\"") + key + "\":" + (number ? value : "\"" + value + "\"");
  }
  write_file(top + "/metadata/metadata", "{" + arguments + "}");
  if (form == StateForm::kMsgpack) {
    MsgpackTree weights, all;
    for (const auto& [path, array] : arrays) {
      weights.put(path, mp_ndarray(array.shape, "float32", raw(array.values)));
    }
    all.put("step", mp_uint(step + 1));
    all.put("weights", weights.bytes());
    all.put("optimizer_state", mp_map({{"mu", mp_map({{"params", mp_map({})}})}}));
    write_file(state + "/checkpoint", all.bytes());
    return;
  }
  std::vector<OcdbtEntry> entries;
  std::string described;
  for (const auto& [path, array] : arrays) {
    add_array("weights." + dotted(path), array, &entries);
    described += (described.empty() ? "" : ",") + described_leaf("weights/" + path);
  }
  // What only training needs is in the store too, and not to be taken.
  add_array("optimizer_state.mu.params.Embed_0.embedding", {{2}, {8, 9}}, &entries);
  described += "," + described_leaf("optimizer_state/mu/params/Embed_0/embedding");
  std::sort(entries.begin(), entries.end(),
            [](const OcdbtEntry& a, const OcdbtEntry& b) { return a.key < b.key; });
  write_ocdbt(state, entries);
  if (form == StateForm::kDescribedOcdbt) {
    write_file(state + "/_METADATA", "{\"tree_metadata\":{" + described + "},\"use_zarr3\":false}");
  }
}

FlaxRun authors_run(const std::string& task, const std::string& block, const std::string& attention,
                    bool batch_norm) {
  FlaxRun run;
  const bool language = task == "lm", glu = block == "glu";
  const std::string encoder = language ? "Encoder_0/" : "encoder/";
  run.add("params/" + encoder + "Embed_0/embedding", {kIds, kWidth}, 1.0f);
  for (int i = 0; i < 2; ++i) {
    const std::string path =
        encoder + (glu ? "GLUBlock_" : "TransBlock_") + std::to_string(i) + "/";
    for (int norm = 0; norm < (glu ? 1 : 2); ++norm) add_norm(&run, path, norm, batch_norm);
    add_mixer(&run, "params/" + path, attention);
    const uint64_t hidden = glu ? kWidth : 4 * kWidth;
    add_dense(&run, "params/" + path + "Dense_0", kWidth, hidden);
    add_dense(&run, "params/" + path + "Dense_1", hidden, kWidth);
  }
  if (language) {
    add_norm(&run, "", 0, batch_norm);
    add_dense(&run, "params/Dense_0", kWidth, kIds);
  } else if (task == "classifier") {
    add_dense(&run, "params/_head", kWidth, kClasses);
  } else {
    add_dense(&run, "params/mlp", 4 * kWidth, kWidth);
    add_dense(&run, "params/logits", kWidth, kClasses);
  }
  run.config = {{"hidden_dim", "16"},
                {"nheads", "2"},
                {"L", "8"},
                {"nlayers", "2"},
                {"max_seq_len", "12"},
                {"prenorm", "True"},
                {"batchnorm", batch_norm ? "True" : "False"},
                {"block_type", "\"" + block + "\""},
                {"attention_type", "\"" + attention + "\""},
                {"lr", "1.e-3 # of training"}};
  if (language) return run;
  run.config["pool"] = "\"mean\"";
  run.config["num_classes"] = "3";
  return run;
}

FlaxRun sibling_run(const std::string& attention) {
  constexpr uint64_t kD = 12, kH = 3, kEach = kD / kH;
  FlaxRun run;
  run.add("params/Embed_0/embedding", {kIds, kD}, 1.0f);
  run.add("params/Embed_1/embedding", {10, kD}, 1.0f);
  for (int i = 0; i < 2; ++i) {
    const std::string block = "params/TransformerBlock_" + std::to_string(i) + "/";
    if (attention == "latte") {
      run.add(block + "CausalLatentAttention_0/w", {3 * kD, kD}, 0.8f);
      add_dense(&run, block + "CausalLatentAttention_0/output_projection", kD, kD, false);
    } else if (attention == "standard") {
      add_dense(&run, block + "CausalSelfAttention_0/Dense_0", kD, 3 * kD, false);
      add_dense(&run, block + "CausalSelfAttention_0/Dense_1", kD, kD, false);
    } else {
      for (const char* name : {"query", "key", "value"}) {
        const std::string module = block + "SelfAttention_0/" + name;
        run.add(module + "/kernel", {kD, kH, kEach}, 0.8f);
        run.add(module + "/bias", {kH, kEach});
      }
      run.add(block + "SelfAttention_0/out/kernel", {kH, kEach, kD});
      run.add(block + "SelfAttention_0/out/bias", {kD});
    }
    add_dense(&run, block + "MLP_0/Dense_0", kD, 4 * kD);
    add_dense(&run, block + "MLP_0/Dense_1", 4 * kD, kD);
  }
  run.config = {{"num_layers", "2"},          {"num_heads", "3"},   {"embedding_size", "12"},
                {"context_size", "10"},       {"batch_size", "16"}, {"learning_rate", "0.001"},
                {"attention_type", attention}};
  return run;
}

}  // namespace moka::test
