// What a conversion will do: reads configuration, tokenizer and tensor headers, never weights.
#include <algorithm>
#include <utility>

#include "converter/conversion.h"
#include "converter/file.h"
#include "converter/json.h"
#include "converter/tokenizer_json.h"
#include "moka/version.h"

namespace moka {
namespace {

constexpr uint32_t kBytesVocabulary = 260;

const char* mixer_words(LatteMixing mixer) {
  switch (mixer) {
    case LatteMixing::kMacchiato: return "macchiato";
    case LatteMixing::kWindow: return "window attention";
    default: return "causal latte";
  }
}

std::string describe(const LatteConfig& config) {
  std::string text = std::string(mixer_words(config.mixer)) + " language model, " +
                     std::to_string(config.layers) + (config.layers == 1 ? " layer" : " layers") +
                     " of width " + std::to_string(config.width) + ", " +
                     std::to_string(config.heads) + (config.heads == 1 ? " head" : " heads");
  if (config.latents != 0) text += ", " + std::to_string(config.latents) + " latents";
  if (config.window.size != 0) text += ", window of " + std::to_string(config.window.size);
  return text;
}

const char* recipe(WeightType weights) {
  switch (weights) {
    case WeightType::kF16:
      return "f16: matrices rounded to nearest even; norms, biases and recurrences float32";
    case WeightType::kInt8:
      return "int8: matrices symmetric per output row, scale absmax/127, rounded to nearest even; "
             "norms, biases and recurrences float32";
    default: return "f32";
  }
}

// The folder of the input, which may be named by the file in it.
Result<std::string> find_folder(const std::string& input) {
  if (input.empty()) return Status(StatusCode::kInvalidArgument, "no input: expected a folder");
  if (is_folder(input)) return input;
  if (!path_exists(input)) return Status(StatusCode::kNotFound, input + ": no such folder");
  const std::string name = base_name(input);
  if (name == "model.safetensors" || name == "model.safetensors.index.json")
    return folder_of(input);
  return Status(StatusCode::kInvalidArgument,
                input + ": expected a folder with config.json and model.safetensors");
}

// An id in config.json must be the one that the bytes tokenizer has.
void same_id(const char* key, int32_t configured, int32_t built_in, Problems* problems) {
  if (configured == -1 || configured == built_in) return;
  problems->add(StatusCode::kInvalidArgument,
                std::string(key) + " is " + std::to_string(configured) +
                    ", the tokenizer of bytes (vocab_size 260, no tokenizer.json) has " +
                    std::to_string(built_in));
}

Status read_tokenizer(Conversion* c) {
  const std::string path = join_path(c->folder, "tokenizer.json");
  const LatteConfig& config = c->config;
  ModelSpec& spec = c->layout.spec;
  if (!path_exists(path)) {
    if (config.vocab_size != kBytesVocabulary) {
      return Status(StatusCode::kNotFound, path + ": no such file; a model with vocab_size " +
                                               std::to_string(config.vocab_size) +
                                               " needs its tokenizer (only vocab_size " +
                                               std::to_string(kBytesVocabulary) +
                                               ", raw bytes, does without)");
    }
    spec.tokenizer = bytes_tokenizer_spec();
    Problems problems;
    same_id("bos_token_id", config.bos_id, spec.tokenizer->bos_id, &problems);
    same_id("eos_token_id", config.eos_id, spec.tokenizer->eos_id, &problems);
    same_id("pad_token_id", config.pad_id, spec.tokenizer->pad_id, &problems);
    return problems.status(join_path(c->folder, "config.json"));
  }
  TokenizerIds ids;
  ids.bos = config.bos_id;
  ids.eos = config.eos_id;
  ids.pad = config.pad_id;
  MOKA_ASSIGN_OR_RETURN(spec.tokenizer, read_tokenizer_json(path, ids));
  c->files.push_back(path);
  const size_t pieces = spec.tokenizer->piece_ends.size();
  if (pieces > config.vocab_size) {
    return Status(StatusCode::kCorrupt, path + ": has " + std::to_string(pieces) +
                                            " tokens, vocab_size in config.json is " +
                                            std::to_string(config.vocab_size));
  }
  if (pieces < config.vocab_size) {
    c->notes.push_back("the tokenizer has " + std::to_string(pieces) +
                       " tokens, the model has rows for " + std::to_string(config.vocab_size) +
                       "; ids beyond have no text");
  }
  return Status();
}

Status read_recommended_sampling(Conversion* c) {
  const std::string path = join_path(c->folder, "generation_config.json");
  if (!path_exists(path)) return Status();
  MOKA_ASSIGN_OR_RETURN(c->layout.spec.metadata.sampling, read_sampling(path));
  c->files.push_back(path);
  return Status();
}

void describe_metadata(const ConvertOptions& options, Conversion* c) {
  Metadata& metadata = c->layout.spec.metadata;
  metadata.name = options.name.empty() ? folder_name(c->folder) : options.name;
  metadata.description = options.description;
  metadata.license = options.license;
  metadata.author = options.author;
  metadata.training = options.training;
  metadata.trained_length = c->config.trained_length;
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

std::string transform_of(SourceType from, DType to) {
  const std::string source = source_type_name(from);
  if (to == DType::kI8) return source + " to int8 per row";
  if (to == DType::kF16) return from == SourceType::kF16 ? "copy" : source + " to f16";
  return from == SourceType::kF32 ? "copy" : source + " to f32";
}

}  // namespace

Result<Conversion> prepare_conversion(const ConvertOptions& options) {
  Conversion c;
  MOKA_ASSIGN_OR_RETURN(c.folder, find_folder(options.input));
  const std::string config_path = join_path(c.folder, "config.json");
  MOKA_ASSIGN_OR_RETURN(c.config, read_latte_config(config_path));
  MOKA_ASSIGN_OR_RETURN(c.checkpoint, open_checkpoint(c.folder));
  c.files = {config_path};
  c.files.insert(c.files.end(), c.checkpoint->files().begin(), c.checkpoint->files().end());
  MOKA_ASSIGN_OR_RETURN(c.layout, latte_layout(c.config, *c.checkpoint, options.weights,
                                               c.checkpoint->files().front()));
  MOKA_RETURN_IF_ERROR(read_tokenizer(&c));
  MOKA_RETURN_IF_ERROR(read_recommended_sampling(&c));
  describe_metadata(options, &c);
  note_sources(&c);
  c.architecture = describe(c.config);
  MOKA_RETURN_IF_ERROR(check_spec(c.layout.spec, c.folder));
  MOKA_RETURN_IF_ERROR(check_supported(c.layout.spec, c.folder));
  return c;
}

Result<LatteLayout> float32_layout(const Conversion& conversion) {
  MOKA_ASSIGN_OR_RETURN(LatteLayout layout,
                        latte_layout(conversion.config, *conversion.checkpoint, WeightType::kF32,
                                     conversion.checkpoint->files().front()));
  layout.spec.tokenizer = conversion.layout.spec.tokenizer;
  return layout;
}

Result<ConversionPlan> plan_conversion(const ConvertOptions& options) {
  MOKA_ASSIGN_OR_RETURN(Conversion c, prepare_conversion(options));
  ConversionPlan plan;
  plan.input = c.folder;
  plan.architecture = c.architecture;
  plan.weights = options.weights;
  plan.notes = c.notes;
  plan.parameters = c.layout.spec.metadata.parameters;
  plan.source_bytes = c.source_bytes;
  for (size_t i = 0; i < c.layout.spec.tensors.size(); ++i) {
    const Tensor& target = c.layout.spec.tensors[i];
    const SourceTensor& source = c.checkpoint->tensors()[c.layout.sources[i]];
    PlannedTensor line;
    line.source = source.name;
    line.source_type = source_type_name(source.type);
    line.source_shape = source.shape;
    line.source_bytes = source.bytes();
    line.target = target.name;
    line.transform = transform_of(source.type, target.dtype);
    line.stored = target.dtype;
    line.stored_bytes = target.size + target.scale_size;
    plan.stored_bytes += line.stored_bytes;
    plan.tensors.push_back(std::move(line));
  }
  plan.spec = std::move(c.layout.spec);
  return plan;
}

}  // namespace moka
