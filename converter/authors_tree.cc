#include "converter/authors_tree.h"

#include <algorithm>
#include <map>
#include <set>

#include "converter/flax_tree.h"
#include "converter/json.h"

namespace moka {
namespace {

const char kParams[] = "params/";

struct MixerModule {
  const char* name;
  const char* attention;
};
constexpr MixerModule kMixers[] = {
    {"StableScanLatte_0", "stable_latte"},
    {"BidLatte_0", "bid_latte"},
    {"CausalSelfAttention_0", "standard_causal"},
    {"ScanCausalSelfAttention_0", "scan_standard_causal"},
    {"LinformerAttention_0", "linformer"},
    {"ScanLatte_0", "latte"},
};

// Looks through the tree once for modules, then at the shapes of some tensors.
class TreeReader {
 public:
  TreeReader(const Checkpoint& checkpoint, const std::string& where)
      : map_(checkpoint), checkpoint_(checkpoint), where_(where) {}

  Result<AuthorsTree> read() {
    MOKA_RETURN_IF_ERROR(read_task());
    MOKA_RETURN_IF_ERROR(read_blocks());
    MOKA_RETURN_IF_ERROR(read_modules());
    MOKA_RETURN_IF_ERROR(read_input());
    MOKA_RETURN_IF_ERROR(read_mixer());
    return tree_;
  }

 private:
  Status fail(const std::string& what) const {
    return Status(StatusCode::kCorrupt, where_ + ": " + what);
  }
  bool has(const std::string& name) const { return map_.find(kParams + name) != nullptr; }
  std::string encoder(const std::string& name) const { return tree_.encoder + name; }

  // One extent of a tensor that must be there, with `axes` of them.
  Status extent(const std::string& name, size_t axes, size_t axis, uint32_t* out) const {
    return tree_extent(map_, where_, kParams + name, axes, axis, out);
  }

  Status read_task() {
    bool language = false, other = false;
    for (const SourceTensor& tensor : checkpoint_.tensors()) {
      language = language || begins_with(tensor.name, "params/Encoder_0/");
      other = other || begins_with(tensor.name, "params/encoder/");
    }
    if (language == other) {
      return fail(language ? "has both Encoder_0, as language models have it, and encoder"
                           : "has neither Encoder_0 (a language model) nor encoder (a classifier)");
    }
    tree_.encoder = language ? "Encoder_0/" : "encoder/";
    if (language) {
      tree_.final_norm = has("LayerNorm_0/scale") || has("BatchNorm_0/scale");
      return Status();
    }
    if (has("_head/kernel")) {
      tree_.task = LatteOutput::kClassifier;
      return extent("_head/kernel", 2, 1, &tree_.classes);
    }
    if (!has("mlp/kernel") || !has("logits/kernel")) {
      return fail("has encoder, but neither _head (a classifier) nor mlp and logits (retrieval)");
    }
    tree_.task = LatteOutput::kPair;
    return extent("logits/kernel", 2, 1, &tree_.classes);
  }

  // The blocks' kind and number.
  Status read_blocks() {
    std::set<std::string> kinds;
    const std::string start = kParams + tree_.encoder;
    for (const SourceTensor& tensor : checkpoint_.tensors()) {
      if (!begins_with(tensor.name, start)) continue;
      const std::string rest = tensor.name.substr(start.size());
      for (const char* kind : {"TransBlock_", "GLUBlock_"}) {
        if (!begins_with(rest, kind)) continue;
        const std::optional<uint32_t> number = block_number(rest, kind);
        if (!number) return fail("tensor " + in_quotes(tensor.name) + " is in no numbered block");
        kinds.insert(kind);
        tree_.layers = std::max(tree_.layers, *number + 1);
      }
    }
    if (kinds.size() != 1) {
      return fail(kinds.empty() ? "has no blocks, expected " + encoder("TransBlock_0") + " or " +
                                      encoder("GLUBlock_0")
                                : "has both TransBlock and GLUBlock");
    }
    tree_.block_module = *kinds.begin();
    tree_.block = tree_.block_module == "GLUBlock_" ? LatteBlock::kGlu : LatteBlock::kTransformer;
    return Status();
  }

  // What stands in the first block; the others must be the same, or their tensors are missing.
  Status read_modules() {
    const std::string start = kParams + encoder(tree_.block_module) + "0/";
    std::set<std::string> modules;
    for (const SourceTensor& tensor : checkpoint_.tensors()) {
      if (!begins_with(tensor.name, start)) continue;
      const std::string rest = tensor.name.substr(start.size());
      modules.insert(rest.substr(0, rest.find('/')));
    }
    tree_.batch_norm = modules.count("BatchNorm_0") != 0;
    if (tree_.batch_norm == (modules.count("LayerNorm_0") != 0)) {
      return fail("block 0 has " + std::string(tree_.batch_norm ? "both" : "neither") +
                  " BatchNorm_0 and LayerNorm_0");
    }
    for (const MixerModule& mixer : kMixers) {
      if (modules.count(mixer.name) == 0) continue;
      if (!tree_.attention.empty()) {
        return fail("block 0 has both " + tree_.mixer_module + " and " + mixer.name);
      }
      tree_.mixer_module = mixer.name;
      tree_.attention = mixer.attention;
    }
    if (!tree_.attention.empty()) return Status();
    std::string names;
    for (const std::string& module : modules) names += (names.empty() ? "" : ", ") + module;
    return fail("block 0 has no mixer that is known, only " + names);
  }

  Status read_input() {
    if (has(encoder("Embed_0/embedding"))) {
      MOKA_RETURN_IF_ERROR(extent(encoder("Embed_0/embedding"), 2, 1, &tree_.width));
      return extent(encoder("Embed_0/embedding"), 2, 0, &tree_.vocab_size);
    }
    if (has(encoder("ConvEmbed_0/Conv_3/kernel"))) {
      tree_.input = LatteInput::kPixelsConv;
      return extent(encoder("ConvEmbed_0/Conv_3/kernel"), 4, 3, &tree_.width);
    }
    tree_.input = LatteInput::kPixels;
    return extent(encoder("Dense_0/kernel"), 2, 1, &tree_.width);
  }

  Status read_mixer() {
    const std::string module = encoder(tree_.block_module) + "0/" + tree_.mixer_module;
    if (tree_.attention == "linformer") {
      MOKA_RETURN_IF_ERROR(extent(module + "/low_rank_E", 3, 0, &tree_.max_length));
      MOKA_RETURN_IF_ERROR(extent(module + "/low_rank_E", 3, 1, &tree_.heads));
      return extent(module + "/low_rank_E", 3, 2, &tree_.latents);
    }
    const bool latte = tree_.attention == "stable_latte" || tree_.attention == "bid_latte";
    return latte ? extent(module + "/Wq", 2, 1, &tree_.latents) : Status();
  }

  const SourceMap map_;
  const Checkpoint& checkpoint_;
  const std::string& where_;
  AuthorsTree tree_;
};

// "blocks.12.norm1.weight": 12 and "norm1.weight".
struct BlockName {
  std::string index, rest;
};
BlockName split_block(const std::string& name) {
  const size_t begin = std::string("blocks.").size();
  const size_t dot = name.find('.', begin);
  return {name.substr(begin, dot - begin), name.substr(dot + 1)};
}

// "norm1.weight": "norm1" and "weight".
std::string module_of(const std::string& name) { return name.substr(0, name.rfind('.')); }
std::string leaf_of(const std::string& name) { return name.substr(name.rfind('.') + 1); }

}  // namespace

bool is_authors_tree(const Checkpoint& checkpoint) {
  const auto& tensors = checkpoint.tensors();
  return std::any_of(tensors.begin(), tensors.end(), [](const SourceTensor& tensor) {
    return begins_with(tensor.name, "params/Encoder_0/") ||
           begins_with(tensor.name, "params/encoder/");
  });
}

Result<AuthorsTree> read_authors_tree(const Checkpoint& checkpoint, const std::string& where) {
  return TreeReader(checkpoint, where).read();
}

// ---- names -------------------------------------------------------------------------------------

Recipe AuthorsNames::recipe(const std::string& name, const Shape& shape, const SourceMap&) const {
  if (begins_with(name, "blocks.")) {
    const BlockName parts = split_block(name);
    return block(tree_.encoder + tree_.block_module + parts.index + "/", parts.rest, shape);
  }
  const std::string leaf = leaf_of(name);
  if (begins_with(name, "embed.")) return input(name, shape);
  if (begins_with(name, "final_norm.")) return norm("", 0, leaf);
  if (begins_with(name, "hidden.")) return dense("mlp", leaf, shape);
  switch (tree_.task) {
    case LatteOutput::kClassifier: return dense("_head", leaf, shape);
    case LatteOutput::kPair: return dense("logits", leaf, shape);
    default: return dense("Dense_0", leaf, shape);
  }
}

Recipe AuthorsNames::input(const std::string& name, const Shape& shape) const {
  const std::string leaf = leaf_of(name);
  const std::string conv = kParams + tree_.encoder + "ConvEmbed_0/";
  if (begins_with(name, "embed.norm.")) {
    return copied(conv + "LayerNorm_0/" + (leaf == "weight" ? "scale" : "bias"), shape);
  }
  if (begins_with(name, "embed.conv.")) {
    const std::string module = module_of(name);
    const std::string path = conv + "Conv_" + module.substr(module.rfind('.') + 1) + "/";
    if (leaf == "bias") return copied(path + "bias", shape);
    return permuted(path + "kernel", {3, 3, shape[3], shape[0]}, {3, 0, 1, 2},
                    "kernel (3, 3, in, out) to (out, 3, 3, in)");
  }
  if (tree_.input == LatteInput::kTokens) {
    return copied(kParams + tree_.encoder + "Embed_0/embedding", shape);
  }
  return dense(tree_.encoder + "Dense_0", leaf, shape);
}

Recipe AuthorsNames::dense(const std::string& path, const std::string& leaf,
                           const Shape& shape) const {
  if (leaf == "bias") return copied(kParams + path + "/bias", shape);
  return transposed(kParams + path + "/kernel", {shape[1], shape[0]}, shape[1], shape[0]);
}

Recipe AuthorsNames::norm(const std::string& path, int index, const std::string& leaf) const {
  const std::string number = std::to_string(index);
  if (!tree_.batch_norm) {
    return copied(kParams + path + "LayerNorm_" + number + (leaf == "weight" ? "/scale" : "/bias"),
                  {tree_.width});
  }
  const std::string module = path + "BatchNorm_" + number;
  const std::string params = kParams + module, stats = "batch_stats/" + module;
  return leaf == "weight" ? batch_norm_scale(params, stats, tree_.width)
                          : batch_norm_bias(params, stats, tree_.width);
}

Recipe AuthorsNames::block(const std::string& path, const std::string& name,
                           const Shape& shape) const {
  static const std::map<std::string, std::string> kDense = {
      {"fc1", "Dense_0"}, {"fc2", "Dense_1"}, {"value", "Dense_0"}, {"gate", "Dense_1"}};
  if (begins_with(name, "mixer."))
    return mixer(path + tree_.mixer_module + "/", name.substr(6), shape);
  const std::string leaf = leaf_of(name);
  if (begins_with(name, "norm1.")) return norm(path, 0, leaf);
  if (begins_with(name, "norm2.")) return norm(path, 1, leaf);
  return dense(path + kDense.at(module_of(name)), leaf, shape);
}

Recipe AuthorsNames::mixer(const std::string& path, const std::string& name,
                           const Shape& shape) const {
  const uint32_t d = tree_.width;
  const std::string part = module_of(name), leaf = leaf_of(name);
  const size_t place = std::string("qkv").find(part);  // in a fused projection
  const auto first = static_cast<uint32_t>(place == std::string::npos ? 0 : place) * d;
  if (tree_.attention == "linformer") {
    if (name == "low_rank_k") return copied(kParams + path + "low_rank_E", shape);
    if (name == "low_rank_v") return copied(kParams + path + "low_rank_V", shape);
    if (part == "o") return dense(path + "o_proj", leaf, shape);
    return leaf == "bias" ? rows(kParams + path + "W/bias", 3 * d, 0, first, d)
                          : columns(kParams + path + "W/kernel", d, 3 * d, first, d);
  }
  if (tree_.attention == "standard_causal" || tree_.attention == "scan_standard_causal") {
    if (part == "o") return dense(path + "Dense_1", leaf, shape);
    return columns(kParams + path + "Dense_0/kernel", d, 3 * d, first, d);
  }
  const std::string source = kParams + path + (part == "o" ? "o_proj" : "W" + part);
  return transposed(source, {shape[1], shape[0]}, shape[1], shape[0]);
}

}  // namespace moka
