#include "converter/sibling_checkpoint.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "converter/flax_tree.h"
#include "converter/json.h"

namespace moka {
namespace {

const char kBlock[] = "params/TransformerBlock_";

constexpr struct {
  const char* module;
  const char* attention;
} kMixers[] = {
    {"CausalLatentAttention_0", "latte"},
    {"SelfAttention_0", "latte-wrap"},
    {"CausalSelfAttention_0", "standard"},
};

// Arguments that only training reads.
constexpr const char* kTrainingKeys[] = {
    "num_samples",  "sample_size",   "batch_size",       "learning_rate",
    "weight_decay", "num_iters",     "num_warmup_iters", "num_loader_workers",
    "wandb",        "wandb_project", "wandb_run_name",   "gradient_clip",
    "verbose",      "dropout",
};

class TreeReader {
 public:
  TreeReader(const Checkpoint& checkpoint, const std::string& where)
      : map_(checkpoint), checkpoint_(checkpoint), where_(where) {}

  Result<SiblingTree> read() {
    MOKA_RETURN_IF_ERROR(count_layers());
    const std::string first = std::string(kBlock) + "0/";
    for (const auto& mixer : kMixers) {
      if (!any_begins(first + mixer.module + "/")) continue;
      if (!tree_.attention.empty()) {
        return fail("block 0 has both " + tree_.mixer_module + " and " + mixer.module);
      }
      tree_.attention = mixer.attention;
      tree_.mixer_module = mixer.module;
    }
    if (tree_.attention.empty()) {
      return fail(
          "block 0 has no mixer that is known, expected CausalLatentAttention_0, "
          "SelfAttention_0 or CausalSelfAttention_0");
    }
    MOKA_RETURN_IF_ERROR(extent("params/Embed_0/embedding", 2, 0, &tree_.vocab_size));
    MOKA_RETURN_IF_ERROR(extent("params/Embed_0/embedding", 2, 1, &tree_.width));
    MOKA_RETURN_IF_ERROR(extent("params/Embed_1/embedding", 2, 0, &tree_.context));
    if (tree_.attention != "latte-wrap") return tree_;
    MOKA_RETURN_IF_ERROR(extent(first + tree_.mixer_module + "/query/kernel", 3, 1, &tree_.heads));
    return tree_;
  }

 private:
  Status fail(const std::string& what) const {
    return Status(StatusCode::kCorrupt, where_ + ": " + what);
  }

  bool any_begins(const std::string& start) const {
    const auto& all = checkpoint_.tensors();
    return std::any_of(all.begin(), all.end(),
                       [&](const SourceTensor& tensor) { return begins_with(tensor.name, start); });
  }

  Status count_layers() {
    for (const SourceTensor& tensor : checkpoint_.tensors()) {
      if (!begins_with(tensor.name, kBlock)) continue;
      const std::optional<uint32_t> number = block_number(tensor.name, kBlock);
      if (!number) return fail("tensor " + in_quotes(tensor.name) + " is in no numbered block");
      tree_.layers = std::max(tree_.layers, *number + 1);
    }
    return Status();
  }

  Status extent(const std::string& name, size_t axes, size_t axis, uint32_t* out) const {
    return tree_extent(map_, where_, name, axes, axis, out);
  }

  const SourceMap map_;
  const Checkpoint& checkpoint_;
  const std::string& where_;
  SiblingTree tree_;
};

}  // namespace

bool is_sibling_tree(const Checkpoint& checkpoint) {
  const auto& all = checkpoint.tensors();
  return std::any_of(all.begin(), all.end(),
                     [](const SourceTensor& tensor) { return begins_with(tensor.name, kBlock); });
}

Result<SiblingTree> read_sibling_tree(const Checkpoint& checkpoint, const std::string& where) {
  return TreeReader(checkpoint, where).read();
}

// ---- configuration -----------------------------------------------------------------------------

Result<ModelSource> read_sibling_config(const SiblingTree& tree, const nlohmann::json& config,
                                        const std::string& path) {
  const nlohmann::json arguments = config.is_null() ? nlohmann::json::object() : config;
  if (!arguments.is_object()) {
    return Status(StatusCode::kInvalidArgument, path + ": expected keys and values");
  }
  Problems problems;
  JsonFields fields(arguments, &problems);
  const auto agree = [&](const char* key, uint32_t in_weights) {
    const uint32_t value = fields.integer(key, 1, 1u << 24, in_weights);
    if (value == in_weights) return;
    problems.add(StatusCode::kInvalidArgument, std::string(key) + " is " + std::to_string(value) +
                                                   ", but the weights have " +
                                                   std::to_string(in_weights));
  };
  agree("num_layers", tree.layers);
  agree("embedding_size", tree.width);
  agree("num_embeddings", tree.vocab_size);
  agree("context_size", tree.context);
  uint32_t heads = tree.heads;
  if (heads != 0) {
    agree("num_heads", heads);
  } else if (!fields.has("num_heads")) {
    fields.missing("num_heads", "the number of heads, which weights do not tell");
  } else {
    heads = fields.integer("num_heads", 1, kMaxExtent);
  }
  if (heads != 0 && tree.width % heads != 0) {
    problems.add(StatusCode::kInvalidArgument, "embedding_size is " + std::to_string(tree.width) +
                                                   ", expected a multiple of num_heads, which is " +
                                                   std::to_string(heads));
  }
  const std::string attention = fields.text("attention_type", tree.attention);
  if (attention != tree.attention) {
    problems.add(StatusCode::kInvalidArgument, "attention_type is " + in_quotes(attention) +
                                                   ", but the weights have " + tree.mixer_module +
                                                   ", which is " + in_quotes(tree.attention));
  }
  const std::string computed_in = fields.text("dtype", "float32");
  for (const char* key : kTrainingKeys) fields.ignore(key);
  fields.finish();
  MOKA_RETURN_IF_ERROR(problems.status(path));

  ModelSource source;
  LatteConfig& model = source.config;
  model.width = model.latents = tree.width;
  model.layers = tree.layers;
  model.heads = heads;
  model.vocab_size = tree.vocab_size;
  model.hidden = 4 * tree.width;
  model.norm_parameters = false;
  model.tied = true;
  model.positions.kind = PositionKind::kLearned;
  model.positions.max_length = model.trained_length = tree.context;
  if (tree.attention == "standard") {
    model.mixer = LatteMixing::kStandardCausal;
    model.latents = 0;
    model.softmax_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(tree.width)));
  } else {
    model.mixer_bias = tree.attention == "latte-wrap";
    model.score_scale = static_cast<float>(std::sqrt(static_cast<double>(heads) / tree.width));
    model.key_eps = 1e-6f;
  }
  if (computed_in != "float32") {
    source.notes.push_back("dtype is " + in_quotes(computed_in) +
                           ": the original computes in it, Moka in float32");
  }
  source.text.needed = "GPT-2's vocab.bpe with encoder.json beside it: --tokenizer vocab.bpe";
  source.config_path = config.is_null() ? "" : path;
  source.names = std::make_shared<SiblingNames>(tree);
  return source;
}

// ---- names -------------------------------------------------------------------------------------

Recipe SiblingNames::recipe(const std::string& name, const Shape& shape, const SourceMap&) const {
  if (name == "embed.weight") return copied("params/Embed_0/embedding", shape);
  if (name == "embed_positions.weight") return copied("params/Embed_1/embedding", shape);
  // "blocks.12.fc1.weight": the layer, the part, and which of its tensors.
  const size_t begin = std::string("blocks.").size(), dot = name.find('.', begin);
  const std::string path = kBlock + name.substr(begin, dot - begin) + "/";
  const size_t last = name.rfind('.');
  const std::string part = name.substr(dot + 1, last - dot - 1);
  const bool bias = name.substr(last + 1) == "bias";
  if (begins_with(part, "mixer.")) {
    return mixer(path + tree_.mixer_module + "/", part.substr(std::string("mixer.").size()), bias);
  }
  const std::string dense = path + (part == "fc1" ? "MLP_0/Dense_0" : "MLP_0/Dense_1");
  if (bias) return copied(dense + "/bias", shape);
  return transposed(dense + "/kernel", {shape[1], shape[0]}, shape[1], shape[0]);
}

Recipe SiblingNames::mixer(const std::string& path, const std::string& part, bool bias) const {
  const uint32_t d = tree_.width;
  const size_t place = std::string("qkv").find(part);  // in a fused projection
  const auto first = static_cast<uint32_t>(place == std::string::npos ? 0 : place) * d;
  if (tree_.attention == "latte") {
    if (part == "o") return transposed(path + "output_projection/kernel", {d, d}, d, d);
    return rows(path + "w", 3 * d, d, first, d);  // as PyTorch has it, (out, in)
  }
  if (tree_.attention == "standard") {
    if (part == "o") return transposed(path + "Dense_1/kernel", {d, d}, d, d);
    return columns(path + "Dense_0/kernel", d, 3 * d, first, d);
  }
  const uint32_t heads = tree_.heads, each = d / heads;
  if (part == "o") {
    if (bias) return copied(path + "out/bias", {d});
    return transposed(path + "out/kernel", {heads, each, d}, d, d);
  }
  const char* modules[] = {"query", "key", "value"};
  const std::string module = path + modules[first / d];
  if (bias) return copied(module + "/bias", {heads, each});
  return transposed(module + "/kernel", {d, heads, each}, d, d);
}

}  // namespace moka
