// What a conversion will do: reads configuration, tokenizer and tensor headers, never weights.
#include <algorithm>
#include <utility>

#include "converter/conversion.h"
#include "converter/file.h"
#include "converter/json.h"
#include "converter/tokenizer_source.h"
#include "moka/version.h"
#include "runtime/guard.h"

namespace moka {
namespace {

constexpr uint32_t kBytesVocabulary = 260;

const char* mixer_words(LatteMixing mixer) {
  switch (mixer) {
    case LatteMixing::kLatteBid: return "bidirectional latte";
    case LatteMixing::kMacchiato: return "macchiato";
    case LatteMixing::kWindow: return "window attention";
    case LatteMixing::kStandardCausal: return "softmax attention";
    case LatteMixing::kLinformer: return "linformer";
    default: return "causal latte";
  }
}

const char* head_words(LatteOutput head) {
  switch (head) {
    case LatteOutput::kClassifier: return "classifier";
    case LatteOutput::kPair: return "pair classifier";
    case LatteOutput::kRegression: return "regression model";
    case LatteOutput::kEmbedding: return "embedding model";
    case LatteOutput::kNone: return "encoder";
    default: return "language model";
  }
}

std::string describe(const LatteConfig& config) {
  std::string text = std::string(mixer_words(config.mixer)) + " " + head_words(config.head) + ", " +
                     std::to_string(config.layers) + (config.layers == 1 ? " layer" : " layers") +
                     " of width " + std::to_string(config.width) + ", " +
                     std::to_string(config.heads) + (config.heads == 1 ? " head" : " heads");
  if (config.latents != 0) text += ", " + std::to_string(config.latents) + " latents";
  if (config.window.size != 0) text += ", window of " + std::to_string(config.window.size);
  if (config.classes != 0) text += ", " + std::to_string(config.classes) + " classes";
  if (config.memory_layers != 0) {
    text += ", reads a memory through " + std::to_string(config.memory_layers) +
            (config.memory_layers == 1 ? " layer" : " layers");
  }
  return text;
}

const char* recipe(WeightType weights) {
  switch (weights) {
    case WeightType::kF16:
      return "f16: matrices rounded to nearest even; norms, biases and recurrences float32";
    case WeightType::kInt8:
      return "int8: matrices symmetric per output row, scale absmax/127, rounded to nearest even; "
             "norms, biases and recurrences float32";
    case WeightType::kInt4:
      return "int4: matrices per row and block of 32 inputs, scales of least squared error, "
             "rounded to nearest even; token table, head and small matrices int8 per output row; "
             "norms, biases and recurrences float32";
    default: return "f32";
  }
}

// Where the tokenizer is: what the caller says, the configuration, or a file beside the weights.
// Empty: there is none.
std::string tokenizer_source(const ConvertOptions& options, const std::string& folder,
                             const Conversion& c) {
  if (!options.tokenizer.empty()) return options.tokenizer;
  const std::string& configured = c.source.text.source;
  if (!configured.empty()) {
    // A relative path is meant from where the configuration lies.
    const std::string beside = join_path(folder_of(c.source.config_path), configured);
    return !path_exists(configured) && path_exists(beside) ? beside : configured;
  }
  const std::string found = find_tokenizer(folder);
  if (!found.empty()) return found;
  const bool bytes = c.source.text.bytes_by_size && c.source.config.vocab_size == kBytesVocabulary;
  return bytes ? "bytes" : "";
}

// Pooling leaves out padding. Where no configuration tells its id, the tokenizer must.
Status set_pad_id(Conversion* c) {
  if (!c->source.text.pad_from_tokenizer) return Status();
  const std::optional<TokenizerSpec>& tokenizer = c->layout.spec.tokenizer;
  if (!tokenizer || tokenizer->pad_id < 0) {
    return Status(StatusCode::kInvalidArgument,
                  c->source.config_path +
                      ": the id of padding is neither in the weights nor in the configuration: "
                      "give dataset_name, a --tokenizer that has it, or --pad-id N (-1 for models "
                      "that never see padding)");
  }
  c->source.config.pad_id = tokenizer->pad_id;
  Head& head = c->layout.spec.head;
  if (auto* classifier = std::get_if<ClassifierHead>(&head)) classifier->pad_id = tokenizer->pad_id;
  if (auto* pair = std::get_if<PairHead>(&head)) pair->pad_id = tokenizer->pad_id;
  return Status();
}

Status add_tokenizer(const ConvertOptions& options, const std::string& folder, Conversion* c) {
  const LatteConfig& config = c->source.config;
  const bool text = config.input == LatteInput::kTokens && config.image_width == 0;
  if (!text || options.tokenizer == "none") {
    if (!text && !options.tokenizer.empty() && options.tokenizer != "none") {
      return Status(StatusCode::kInvalidArgument, "--tokenizer is " + in_quotes(options.tokenizer) +
                                                      ", but the model does not read text");
    }
    return Status();
  }
  TokenizerRequest request;
  request.source = tokenizer_source(options, folder, *c);
  if (request.source.empty()) {
    const std::string& needed = c->source.text.needed;
    if (c->source.text.bytes_by_size && config.head == LatteOutput::kLanguage) {
      return Status(
          StatusCode::kNotFound,
          join_path(folder, "tokenizer.json") + ": no such file; a model with vocab_size " +
              std::to_string(config.vocab_size) + " needs its tokenizer (only vocab_size " +
              std::to_string(kBytesVocabulary) +
              ", raw bytes, does without); --tokenizer names it, and \"none\" makes a "
              "model that reads ids alone");
    }
    c->notes.push_back(
        "there is no tokenizer, so the model reads ids alone; to read text it needs " +
        (needed.empty() ? std::string("its tokenizer: --tokenizer FILE") : needed));
    return Status();
  }
  request.ids.bos = config.bos_id;
  request.ids.eos = config.eos_id;
  request.ids.pad = config.pad_id;
  request.vocab_size = config.vocab_size;
  request.max_length = c->source.text.max_length;
  request.add_eos = c->source.text.add_eos;
  request.end_of_text_is_pad = c->source.text.end_of_text_is_pad;
  Result<TokenizerSource> read = read_tokenizer(request);
  if (!read.ok()) {
    // A path begins the messages about a file; a word tells nothing of where the ids came from.
    const bool named = path_exists(request.source) || !options.tokenizer.empty();
    return named ? read.status()
                 : Status(read.status().code(),
                          c->source.config_path + ": " + read.status().message());
  }
  TokenizerSource found = std::move(read).value();
  c->layout.spec.tokenizer = std::move(found.spec);
  c->files.insert(c->files.end(), found.files.begin(), found.files.end());
  c->notes.insert(c->notes.end(), found.notes.begin(), found.notes.end());
  return Status();
}

Status read_recommended_sampling(const std::string& folder, Conversion* c) {
  const std::string path = join_path(folder, "generation_config.json");
  if (c->source.config.head != LatteOutput::kLanguage || !path_exists(path)) return Status();
  MOKA_ASSIGN_OR_RETURN(c->layout.spec.metadata.sampling, read_sampling(path));
  c->files.push_back(path);
  return Status();
}

void describe_metadata(const ConvertOptions& options, const std::string& folder, Conversion* c) {
  Metadata& metadata = c->layout.spec.metadata;
  metadata.name = options.name.empty() ? folder_name(folder) : options.name;
  metadata.description = options.description;
  metadata.license = options.license;
  metadata.author = options.author;
  metadata.training = options.training;
  metadata.trained_length = c->source.config.trained_length;
  metadata.converter = "moka " MOKA_VERSION_STRING;
  metadata.quantization = recipe(options.weights);
  for (const Tensor& tensor : c->layout.spec.tensors) metadata.parameters += tensor.elements();
}

void note_sources(Conversion* c) {
  size_t wide = 0;
  for (const SourceTensor& tensor : c->checkpoint->tensors()) {
    c->source_bytes += tensor.bytes();
    if (tensor.type == SourceType::kF64) ++wide;
  }
  if (wide != 0) {
    c->notes.push_back(std::to_string(wide) + " tensors are F64 and are rounded to float32");
  }
  if (c->layout.spec.metadata.license.empty()) {
    c->notes.push_back("no licence is recorded; --license takes an SPDX identifier");
  }
}

std::string transform_of(const TensorRecipe& recipe, SourceType from, DType to) {
  const std::string source = source_type_name(from);
  std::string numbers;
  if (to == DType::kI8) {
    numbers = source + " to int8 per row";
  } else if (to == DType::kI4) {
    numbers = source + " to int4 per row and block of 32";
  } else if (to == DType::kF16) {
    numbers = from == SourceType::kF16 ? "" : source + " to f16";
  } else {
    numbers = from == SourceType::kF32 ? "" : source + " to f32";
  }
  if (recipe.words.empty()) return numbers.empty() ? "copy" : numbers;
  return recipe.words + (numbers.empty() ? "" : ", " + numbers);
}

// The tensor's line, with all its sources: "a + b".
PlannedTensor planned(const Conversion& c, size_t index) {
  const Tensor& target = c.layout.spec.tensors[index];
  const TensorRecipe& recipe = c.layout.recipes[index];
  PlannedTensor line;
  for (const size_t source : recipe.sources) {
    const SourceTensor& tensor = c.checkpoint->tensors()[source];
    line.source += (line.source.empty() ? "" : " + ") + tensor.name;
    line.source_bytes += tensor.bytes();
  }
  const SourceTensor& first = c.checkpoint->tensors()[recipe.sources.front()];
  line.source_type = source_type_name(first.type);
  line.source_shape = first.shape;
  line.target = target.name;
  line.transform = transform_of(recipe, first.type, target.dtype);
  line.stored = target.dtype;
  line.stored_bytes = target.size + target.scale_size;
  return line;
}

}  // namespace

Result<Conversion> prepare_conversion(const ConvertOptions& options) {
  Conversion c;
  c.input = options.input;
  if (options.input.empty()) {
    return Status(StatusCode::kInvalidArgument, "no input: expected a folder or file of weights");
  }
  CheckpointOptions which;
  which.step = options.step;
  MOKA_ASSIGN_OR_RETURN(FoundCheckpoint found, open_checkpoint(options.input, which));
  MOKA_ASSIGN_OR_RETURN(c.source, read_model_source(options, found));
  c.checkpoint = std::move(found.checkpoint);
  c.notes = std::move(found.notes);
  c.notes.insert(c.notes.end(), c.source.notes.begin(), c.source.notes.end());
  if (!c.source.config_path.empty()) c.files = {c.source.config_path};
  c.files.insert(c.files.end(), c.checkpoint->files().begin(), c.checkpoint->files().end());
  MOKA_ASSIGN_OR_RETURN(c.layout, latte_layout(c.source.config, *c.source.names, *c.checkpoint,
                                               options.weights, c.checkpoint->files().front()));
  MOKA_RETURN_IF_ERROR(add_tokenizer(options, found.folder, &c));
  MOKA_RETURN_IF_ERROR(set_pad_id(&c));
  MOKA_RETURN_IF_ERROR(read_recommended_sampling(found.folder, &c));
  describe_metadata(options, found.run_folder.empty() ? found.folder : found.run_folder, &c);
  note_sources(&c);
  c.architecture = describe(c.source.config);
  MOKA_RETURN_IF_ERROR(check_spec(c.layout.spec, c.input));
  MOKA_RETURN_IF_ERROR(check_supported(c.layout.spec, c.input));
  return c;
}

Result<LatteLayout> layout_with(const Conversion& conversion, WeightType weights) {
  MOKA_ASSIGN_OR_RETURN(
      LatteLayout layout,
      latte_layout(conversion.source.config, *conversion.source.names, *conversion.checkpoint,
                   weights, conversion.checkpoint->files().front()));
  layout.spec.tokenizer = conversion.layout.spec.tokenizer;
  return layout;
}

Result<ConversionPlan> plan_conversion(const ConvertOptions& options) {
  return guarded("the plan", [&]() -> Result<ConversionPlan> {
    MOKA_ASSIGN_OR_RETURN(Conversion c, prepare_conversion(options));
    ConversionPlan plan;
    plan.input = c.input;
    plan.architecture = c.architecture;
    plan.weights = options.weights;
    plan.notes = c.notes;
    if (options.weights == WeightType::kAuto) {
      plan.notes.push_back(
          "auto: this is where its search begins; the loss that it measures decides "
          "which matrices are int8 after all");
    }
    plan.parameters = c.layout.spec.metadata.parameters;
    plan.source_bytes = c.source_bytes;
    for (size_t i = 0; i < c.layout.spec.tensors.size(); ++i) {
      plan.tensors.push_back(planned(c, i));
      plan.stored_bytes += plan.tensors.back().stored_bytes;
    }
    plan.spec = std::move(c.layout.spec);
    return plan;
  });
}

}  // namespace moka
