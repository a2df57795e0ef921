#include "converter/authors_config.h"

#include <algorithm>
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

constexpr LatteOutput kLanguage = LatteOutput::kLanguage, kClassifier = LatteOutput::kClassifier,
                      kPair = LatteOutput::kPair;

// dataset_name chooses the task and how texts become ids.
struct DatasetFacts {
  const char* name;
  Dataset dataset;
  LatteOutput task;
  uint32_t vocab_size;  // 0: not the same for everybody
  uint32_t side;        // of its images; 0: no images
};
constexpr DatasetFacts kDatasets[] = {
    {"shakespeare", Dataset::kCharacters, kLanguage, 0, 0},
    {"openwebtext", Dataset::kGpt2, kLanguage, 50257, 0},
    {"enwik8-char", Dataset::kSymbols, kLanguage, 0, 0},
    {"wiki103-char", Dataset::kSymbols, kLanguage, 0, 0},
    {"listops", Dataset::kListOps, kClassifier, 0, 0},
    {"imdb", Dataset::kBytes, kClassifier, 260, 0},
    {"aan", Dataset::kBytes, kPair, 260, 0},
    {"cifar10", Dataset::kCifar, kClassifier, 256, 32},
    {"pathfinder32", Dataset::kPathfinder, kClassifier, 0, 32},
    {"pathfinder64", Dataset::kPathfinder, kClassifier, 0, 64},
    {"pathfinder128", Dataset::kPathfinder, kClassifier, 0, 128},
    {"pathfinder256", Dataset::kPathfinder, kClassifier, 0, 256},
};

const char* task_words(LatteOutput task) {
  return task == kPair       ? "two documents compared"
         : task == kLanguage ? "a language model"
                             : "a classifier";
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
    fields_.ignore("L");  // also of models that have no use for it
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
    source_.text.source = tokenizer;
    if (name.empty()) return;
    std::string names;
    for (const DatasetFacts& facts : kDatasets) {
      names += (names.empty() ? "" : ", ") + in_quotes(facts.name);
      if (name == facts.name) facts_ = &facts;
    }
    if (facts_ == nullptr) {
      conflict("dataset_name is " + in_quotes(name) + ", expected one of " + names +
               "; without the key, --tokenizer and --pad-id say what it would");
      return;
    }
    if (facts_->task != tree_.task) {
      conflict("dataset_name is " + in_quotes(name) + ", which is " + task_words(facts_->task) +
               ", but the weights are of " + task_words(tree_.task));
    }
    const uint32_t ids = tree_.vocab_size;
    if (facts_->vocab_size != 0 && ids != 0 && ids != facts_->vocab_size) {
      conflict("dataset_name is " + in_quotes(name) + ", whose vocabulary has " +
               std::to_string(facts_->vocab_size) + " ids, but the weights have " +
               std::to_string(ids));
    }
    add_text_rules(facts_->dataset);
  }

  void add_text_rules(Dataset dataset) {
    TextRules& text = source_.text;
    switch (dataset) {
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
        text.needed = "the file of its symbols: --tokenizer vocabulary.json";
        text.max_length = source_.config.trained_length;
        break;
      default: break;
    }
  }

  bool is(Dataset dataset) const { return facts_ != nullptr && facts_->dataset == dataset; }

  void read_input() {
    source_.config.input = tree_.input;
    const bool normalise = fields_.boolean("normalize_img", false);
    const bool tokens = fields_.boolean("tokenize_img", false);
    const bool pixels = tree_.input != LatteInput::kTokens;
    const bool conv = tree_.input == LatteInput::kPixelsConv;
    if (normalise && tokens) {
      unsupported("normalize_img and tokenize_img are both true: every pixel becomes id 0");
    }
    agreed_flag("conv_embed", false, conv, conv ? "ConvEmbed_0" : "no ConvEmbed_0");
    if (tokens && pixels) conflict("tokenize_img is true, but the weights have no table of tokens");
    const bool image_set = is(Dataset::kPathfinder) || (is(Dataset::kCifar) && !tokens);
    if (image_set && !pixels) {
      conflict("dataset_name is " + in_quotes(facts_->name) +
               ", whose pixels are numbers, but the weights have a table of tokens");
    }
    if (pixels && facts_ != nullptr && facts_->side == 0) {
      conflict("dataset_name is " + in_quotes(facts_->name) +
               ", which is text, but the weights read pixels");
    }
    if (pixels || tokens) read_image(tokens);
  }

  void read_image(bool tokens) {
    LatteConfig& config = source_.config;
    const auto side =
        static_cast<uint32_t>(std::lround(std::sqrt(static_cast<double>(config.trained_length))));
    const uint64_t area = uint64_t{side} * side;
    if (facts_ != nullptr && facts_->side != 0 && side != facts_->side) {
      conflict("max_seq_len is " + std::to_string(config.trained_length) + ", but images of " +
               in_quotes(facts_->name) + " have " + std::to_string(facts_->side * facts_->side) +
               " pixels");
    } else if (area != config.trained_length) {
      conflict("max_seq_len is " + std::to_string(config.trained_length) +
               ", expected a square number: images are square");
    }
    config.image_width = config.image_height = side;
    if (tokens) {
      source_.text.pad_id = kTokenImagePad;
      return;
    }
    // What the original does to grey values of 0 to 255 before the model sees them. (With
    // normalize_img both the values and these numbers are divided by 255.)
    float mean = 0.0f, deviation = 1.0f;
    if (is(Dataset::kCifar)) mean = 122.6f, deviation = 61.0f;
    if (is(Dataset::kPathfinder)) mean = deviation = 127.5f;
    if (facts_ == nullptr) {
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
    if (tree_.task == LatteOutput::kLanguage) {
      config.pad_id = pad_id_.value_or(-1);  // for the tokenizer to agree with
      return;
    }
    config.classes = tree_.classes;
    if (classes != tree_.classes) {
      conflict("num_classes is " + std::to_string(classes) + (given ? "" : " (the default)") +
               ", but the weights have " + std::to_string(tree_.classes));
    }
    const bool pair = tree_.task == LatteOutput::kPair;
    if (pool == "mean") {
      config.pooling = Pooling::kMean;
    } else if (pool == "last") {
      config.pooling = Pooling::kLast;
    } else if (pair && pool == "CLS") {
      config.pooling = Pooling::kFirst;
    } else {
      conflict("pool is " + in_quotes(pool) + ", expected \"mean\" or \"last\"" +
               (pair ? ", or \"CLS\"" : ""));
    }
    if (!fields_.has("pool")) {
      note("pool is not in the configuration; the original's default, \"last\", is taken");
    }
    if (tree_.input == LatteInput::kTokens) read_pad();
  }

  // Pooling leaves out padding, so its id must be known.
  void read_pad() {
    TextRules& text = source_.text;
    if (pad_id_ && text.pad_id && *pad_id_ != *text.pad_id) {
      conflict("dataset_name is " + in_quotes(facts_->name) + ", which pads with " +
               std::to_string(*text.pad_id) + ", but --pad-id is " + std::to_string(*pad_id_));
    }
    if (!text.pad_id) text.pad_id = pad_id_;
    text.pad_from_tokenizer = !text.pad_id;
    source_.config.pad_id = text.pad_id.value_or(-1);
  }

  const AuthorsTree& tree_;
  Problems problems_;
  JsonFields fields_;
  const std::string& path_;
  std::optional<int32_t> pad_id_;
  const DatasetFacts* facts_ = nullptr;  // of dataset_name
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
