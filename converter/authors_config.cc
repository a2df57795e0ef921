#include "converter/authors_config.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <utility>

#include "converter/json.h"

namespace moka {
namespace {

using nlohmann::json;

constexpr int32_t kBytesPad = 256;
constexpr int32_t kEndOfText = 50256;     // of GPT-2, which the original pads with
constexpr int32_t kTokenImagePad = -100;  // no id: images are never padded

// Keys that only training reads.
constexpr const char* kTrainingKeys[] = {
    "name",       "base_dir",      "project",
    "entity",     "epochs",        "train_steps",
    "unroll",     "eval_steps",    "max_checkpoints",
    "dropout",    "weight_decay",  "lr",
    "warmup_pc",  "lr_decay_fn",   "lr_end_value",
    "batch_size", "check_path",    "grad_accumulation_steps",
    "wandb_log",  "disable_cache",
};

enum class Dataset : uint8_t {
  kNone,
  kCharacters,
  kSymbols,
  kGpt2,
  kListOps,
  kBytes,
  kCifar,
  kPathfinder,
};

constexpr struct {
  const char* name;
  Dataset dataset;
} kDatasets[] = {
    {"shakespeare", Dataset::kCharacters},
    {"enwik8", Dataset::kSymbols},
    {"wikitext103", Dataset::kSymbols},
    {"wikitext-103", Dataset::kSymbols},
    {"openwebtext", Dataset::kGpt2},
    {"listops", Dataset::kListOps},
    {"imdb", Dataset::kBytes},
    {"aan", Dataset::kBytes},
    {"cifar10", Dataset::kCifar},
    {"cifar", Dataset::kCifar},
    {"pathfinder", Dataset::kPathfinder},
    {"pathfinder32", Dataset::kPathfinder},
    {"pathfinder128", Dataset::kPathfinder},
};

std::string lower_case(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

class AuthorsConfigReader {
 public:
  AuthorsConfigReader(const AuthorsTree& tree, const json& object, const std::string& path,
                      std::optional<int32_t> pad_id)
      : tree_(tree), fields_(object, &problems_), path_(path), pad_id_(pad_id) {}

  Result<ModelSource> read() {
    LatteConfig& config = source_.config;
    config.width = tree_.width;
    config.layers = tree_.layers;
    config.vocab_size = tree_.vocab_size;
    config.block = tree_.block;
    config.hidden = tree_.block == LatteBlock::kGlu ? tree_.width : 4 * tree_.width;
    config.norm = tree_.batch_norm ? NormKind::kAffine : NormKind::kLayerNorm;
    read_sizes();
    read_attention();
    read_norms();
    read_dataset();
    read_input();
    read_head();
    for (const char* key : kTrainingKeys) fields_.ignore(key);
    fields_.finish();
    MOKA_RETURN_IF_ERROR(problems_.status(path_));
    source_.names = std::make_shared<AuthorsNames>(tree_);
    source_.config_path = path_;
    return std::move(source_);
  }

 private:
  void conflict(const std::string& what) { problems_.add(StatusCode::kInvalidArgument, what); }
  void unsupported(const std::string& what) { problems_.add(StatusCode::kUnsupported, what); }
  void note(const std::string& what) { source_.notes.push_back(what); }

  // A number that both the configuration (or its default) and the weights tell.
  uint32_t agreed(const char* key, uint32_t fallback, uint32_t in_weights) {
    const bool given = fields_.has(key);
    const uint32_t value = fields_.integer(key, 1, kMaxExtent, fallback);
    if (value != in_weights) {
      conflict(std::string(key) + " is " + std::to_string(value) + (given ? "" : " (the default)") +
               ", but the weights have " + std::to_string(in_weights));
    }
    return in_weights;
  }

  bool agreed_flag(const char* key, bool fallback, bool in_weights, const char* seen) {
    const bool given = fields_.has(key);
    const bool value = fields_.boolean(key, fallback);
    if (value != in_weights) {
      conflict(std::string(key) + " is " + (value ? "true" : "false") +
               (given ? "" : " (the default)") + ", but the weights have " + seen);
    }
    return in_weights;
  }

  void read_sizes() {
    LatteConfig& config = source_.config;
    agreed("hidden_dim", 128, tree_.width);
    agreed("nlayers", 6, tree_.layers);
    config.trained_length = fields_.integer("max_seq_len", 1, 1u << 30, 1024);
    if (!fields_.has("max_seq_len")) {
      note("max_seq_len is not in the configuration; the original's default, 1024, is taken");
    }
    if (tree_.max_length != 0 && tree_.max_length != config.trained_length) {
      conflict("max_seq_len is " + std::to_string(config.trained_length) +
               ", but the projections of linformer have " + std::to_string(tree_.max_length) +
               " rows");
    }
    config.positions.kind = PositionKind::kSinusoidal;
    config.positions.max_length = config.trained_length;
    config.positions.fp32_angles = true;  // as the original computes them
    if (tree_.width % 2 != 0) {
      conflict("hidden_dim is " + std::to_string(tree_.width) +
               ", expected an even number: sinusoidal positions come in pairs");
    }
    // Every number of heads that divides both sizes loads and gives another output.
    if (tree_.heads != 0) {
      config.heads = agreed("nheads", 4, tree_.heads);
    } else if (!fields_.has("nheads")) {
      fields_.missing("nheads", "the number of heads, which weights do not tell");
    } else {
      config.heads = fields_.integer("nheads", 1, kMaxExtent);
    }
    divides("hidden_dim", tree_.width);
  }

  void divides(const char* key, uint32_t value) {
    const uint32_t heads = source_.config.heads;
    if (heads == 0 || value % heads == 0) return;
    conflict(std::string(key) + " is " + std::to_string(value) +
             ", expected a multiple of nheads, which is " + std::to_string(heads));
  }

  void read_attention() {
    LatteConfig& config = source_.config;
    const std::string type = fields_.text("attention_type", "stable_latte");
    const std::string block = fields_.text("block_type", "transformer");
    const bool glu = block == "glu";
    if (!glu && block != "transformer") {
      conflict("block_type is " + in_quotes(block) + ", expected \"transformer\" or \"glu\"");
    } else if (glu != (tree_.block == LatteBlock::kGlu)) {
      conflict("block_type is " + in_quotes(block) + ", but the weights have " +
               tree_.block_module + "0");
    }
    if (refused_attention(type, glu)) return;
    if (type != tree_.attention) {
      conflict("attention_type is " + in_quotes(type) + ", but the weights have " +
               tree_.mixer_module + ", which is " + in_quotes(tree_.attention));
      return;
    }
    const bool language = tree_.task == LatteOutput::kLanguage;
    if (language && (type == "bid_latte" || type == "linformer")) {
      unsupported("attention_type is " + in_quotes(type) +
                  " in a language model: each token sees the one that it is to predict");
    }
    if (type == "stable_latte") config.mixer = LatteMixing::kLatteCausal;
    if (type == "bid_latte") config.mixer = LatteMixing::kLatteBid;
    if (type == "linformer") config.mixer = LatteMixing::kLinformer;
    if (type == "standard_causal" || type == "scan_standard_causal") {
      config.mixer = LatteMixing::kStandardCausal;
      const uint32_t latents = fields_.integer("L", 1, kMaxExtent, 10);
      (void)latents;  // a key of every configuration, without a use here
      return;
    }
    config.latents = agreed("L", 10, tree_.latents);
    if (type != "linformer") divides("L", tree_.latents);
  }

  // Types that the original names and that give nothing to convert.
  bool refused_attention(const std::string& type, bool glu) {
    if (type == "latte") {
      unsupported(glu ? "attention_type is \"latte\" with block_type \"glu\": that code mixes up "
                        "batch, time and channels, so its output means nothing; expected "
                        "\"stable_latte\""
                      : "attention_type is \"latte\" with block_type \"transformer\": the original "
                        "has no such model; expected \"stable_latte\"");
      return true;
    }
    if (type == "scan_standard_causal" && glu) {
      unsupported(
          "attention_type is \"scan_standard_causal\" with block_type \"glu\": the original "
          "cannot run it; expected \"standard_causal\"");
      return true;
    }
    for (const char* name : {"extend1_latte", "extend2_latte", "bias_latte"}) {
      if (type != name) continue;
      unsupported("attention_type is " + in_quotes(type) +
                  ": no code that computes it was ever published");
      return true;
    }
    for (const char* name :
         {"stable_latte", "bid_latte", "standard_causal", "scan_standard_causal", "linformer"}) {
      if (type == name) return false;
    }
    conflict("attention_type is " + in_quotes(type) +
             ", expected \"stable_latte\", \"bid_latte\", \"standard_causal\", "
             "\"scan_standard_causal\" or \"linformer\"");
    return true;
  }

  void read_norms() {
    LatteConfig& config = source_.config;
    agreed_flag("batchnorm", true, tree_.batch_norm, tree_.batch_norm ? "BatchNorm" : "LayerNorm");
    if (tree_.task == LatteOutput::kLanguage) {
      config.prenorm = agreed_flag("prenorm", false, tree_.final_norm,
                                   tree_.final_norm ? "a final norm, as prenorm models do"
                                                    : "no final norm, which prenorm models have");
    } else {
      if (!fields_.has("prenorm")) {
        note("prenorm is not in the configuration; the original's default, false, is taken");
      }
      config.prenorm = fields_.boolean("prenorm", false);
    }
    config.final_norm = tree_.final_norm;
  }

  void read_dataset() {
    const std::string name = fields_.text("dataset_name", "");
    const std::string tokenizer = fields_.text("tokenizer_path", "");
    if (name.empty()) {
      if (!tokenizer.empty()) source_.text.source = tokenizer;
      return;
    }
    for (const auto& entry : kDatasets) {
      if (lower_case(name) == entry.name) dataset_ = entry.dataset;
    }
    if (dataset_ == Dataset::kNone) {
      conflict("dataset_name is " + in_quotes(name) +
               ", expected \"shakespeare\", \"enwik8\", \"wikitext103\", \"openwebtext\", "
               "\"listops\", \"imdb\", \"aan\", \"cifar10\" or \"pathfinder\"; without the key, "
               "--tokenizer and --pad-id say what it would");
      return;
    }
    TextRules& text = source_.text;
    switch (dataset_) {
      case Dataset::kBytes:
        text.source = "bytes";
        text.pad_id = kBytesPad;
        text.max_length = source_.config.trained_length;
        text.add_eos = true;
        break;
      case Dataset::kGpt2:
        text.end_of_text_is_pad = true;
        text.pad_id = kEndOfText;
        text.needed = "GPT-2's vocab.bpe with encoder.json beside it: --tokenizer vocab.bpe";
        break;
      case Dataset::kCharacters:
        text.needed =
            "the characters of its corpus: --tokenizer chars:train.txt,valid.txt, or a "
            "stored alphabet";
        break;
      case Dataset::kSymbols:
        text.needed = "the symbols of its files: --tokenizer charfile:train.txt,valid.txt,test.txt";
        break;
      case Dataset::kListOps:
        text.source = tokenizer;
        text.needed = "the file of its symbols: --tokenizer vocabulary.json";
        text.max_length = source_.config.trained_length;
        break;
      default: break;
    }
  }

  void read_input() {
    LatteConfig& config = source_.config;
    config.input = tree_.input;
    const bool normalise = fields_.boolean("normalize_img", false);
    const bool tokens = fields_.boolean("tokenize_img", false);
    const bool images = tree_.input != LatteInput::kTokens;
    if (normalise && tokens) {
      unsupported("normalize_img and tokenize_img are both true: every pixel becomes id 0");
    }
    agreed_flag("conv_embed", false, tree_.input == LatteInput::kPixelsConv,
                tree_.input == LatteInput::kPixelsConv ? "ConvEmbed_0" : "no ConvEmbed_0");
    if (tokens && images) {
      conflict("tokenize_img is true, but the weights have no table of tokens");
    }
    if (!images && !tokens) return;
    const auto side =
        static_cast<uint32_t>(std::lround(std::sqrt(static_cast<double>(config.trained_length))));
    if (side * side != config.trained_length) {
      conflict("max_seq_len is " + std::to_string(config.trained_length) +
               ", expected a square number: images are square");
    }
    config.image_width = config.image_height = side;
    if (tokens) {
      pad_id_ = pad_id_.value_or(kTokenImagePad);
      return;
    }
    // What the original does to grey values of 0 to 255 before the model sees them.
    float mean = 0.0f, deviation = 1.0f;
    if (dataset_ == Dataset::kCifar) mean = 122.6f, deviation = 61.0f;
    if (dataset_ == Dataset::kPathfinder) mean = deviation = 127.5f;
    if (dataset_ == Dataset::kNone) {
      note(
          "dataset_name is not in the configuration, so pixels are read as the model's own "
          "numbers, unscaled");
    }
    config.input_mean = {mean};
    config.input_deviation = {deviation};
  }

  void read_head() {
    LatteConfig& config = source_.config;
    config.head = tree_.task;
    config.head_bias = true;
    const std::string pool = fields_.text("pool", "last");
    const bool given = fields_.has("num_classes");
    const uint32_t classes = fields_.integer("num_classes", 1, kMaxExtent, 10);
    if (tree_.task == LatteOutput::kLanguage) return;
    config.classes = tree_.classes;
    if (classes != tree_.classes) {
      conflict("num_classes is " + std::to_string(classes) + (given ? "" : " (the default)") +
               ", but the weights have " + std::to_string(tree_.classes));
    }
    if (pool == "mean") {
      config.pooling = Pooling::kMean;
    } else if (pool == "last") {
      config.pooling = Pooling::kLast;
    } else if (lower_case(pool) == "cls") {
      config.pooling = Pooling::kFirst;
    } else {
      conflict("pool is " + in_quotes(pool) + ", expected \"mean\", \"last\" or \"CLS\"");
    }
    if (!fields_.has("pool")) {
      note("pool is not in the configuration; the original's default, \"last\", is taken");
    }
    if (tree_.input != LatteInput::kTokens) return;
    const std::optional<int32_t> pad = pad_id_ ? pad_id_ : source_.text.pad_id;
    if (!pad && dataset_ == Dataset::kNone) {
      problems_.add(StatusCode::kInvalidArgument,
                    "the id of padding is neither in the weights nor in the configuration: give "
                    "dataset_name, or --pad-id N (-1 for models that never see padding)");
      return;
    }
    config.pad_id = pad.value_or(-1);
  }

  const AuthorsTree& tree_;
  Problems problems_;
  JsonFields fields_;
  const std::string& path_;
  std::optional<int32_t> pad_id_;
  Dataset dataset_ = Dataset::kNone;
  ModelSource source_;
};

}  // namespace

Result<ModelSource> read_authors_config(const AuthorsTree& tree, const json& config,
                                        const std::string& path, std::optional<int32_t> pad_id) {
  if (!config.is_object()) {
    return Status(StatusCode::kInvalidArgument, path + ": expected keys and values");
  }
  return AuthorsConfigReader(tree, config, path, pad_id).read();
}

}  // namespace moka
