// Which configuration belongs to a checkpoint, and what it, the weights and the caller's words say
// together.
#include "converter/model_source.h"

#include <utility>

#include "converter/authors_config.h"
#include "converter/authors_tree.h"
#include "converter/file.h"
#include "converter/flat_yaml.h"
#include "converter/json.h"
#include "converter/sibling_checkpoint.h"

namespace moka {
namespace {

using nlohmann::json;

Result<ModelSource> read_authors(const ConvertOptions& options, const FoundCheckpoint& found) {
  const Checkpoint& checkpoint = *found.checkpoint;
  const std::string& where = checkpoint.files().front();
  MOKA_ASSIGN_OR_RETURN(const AuthorsTree tree, read_authors_tree(checkpoint, where));
  const std::string path = options.config.empty() ? found.config_yaml : options.config;
  if (path.empty()) {
    return Status(StatusCode::kNotFound,
                  where +
                      ": there is no config.yaml beside it or its run, and weights do not tell "
                      "the number of heads, the order of norms or the pooling; --config names "
                      "the file");
  }
  MOKA_ASSIGN_OR_RETURN(const json config, read_config_file(path, kMaxConfigBytes));
  return read_authors_config(tree, config, path, options.pad_id);
}

// The arguments of a run of the sibling code, which its trainer leaves as JSON beside the state:
// <step>/metadata/metadata. Empty when there are none.
std::string sibling_arguments(const FoundCheckpoint& found) {
  if (!found.config_yaml.empty()) return found.config_yaml;
  const std::string path = join_path(folder_of(found.folder), "metadata/metadata");
  return path_exists(path) ? path : "";
}

Result<ModelSource> read_sibling(const ConvertOptions& options, const FoundCheckpoint& found) {
  const std::string& where = found.checkpoint->files().front();
  MOKA_ASSIGN_OR_RETURN(const SiblingTree tree, read_sibling_tree(*found.checkpoint, where));
  const std::string path = options.config.empty() ? sibling_arguments(found) : options.config;
  if (path.empty() && tree.heads == 0) {
    return Status(StatusCode::kNotFound,
                  where +
                      ": there is neither metadata/metadata in its step nor config.yaml beside it "
                      "or its run, and weights do not tell the number of heads; --config names a "
                      "file with num_heads");
  }
  if (path.empty()) return read_sibling_config(tree, json(), where);
  MOKA_ASSIGN_OR_RETURN(const json config, read_config_file(path, kMaxConfigBytes));
  return read_sibling_config(tree, config, path);
}

Status apply_gate_column(const ConvertOptions& options, const FoundCheckpoint& found,
                         const std::string& path, LatteConfig* config) {
  if (options.gate_column.empty()) return Status();
  if (config->mixer != LatteMixing::kMacchiato) {
    return Status(StatusCode::kInvalidArgument,
                  path + ": --gate-column was given, but only the mixer \"macchiato\" has gates");
  }
  const std::string apart = "blocks.0.mixer.gate.weight";
  if (SourceMap(*found.checkpoint).find(apart) != nullptr) {
    return Status(StatusCode::kInvalidArgument,
                  path +
                      ": --gate-column was given, but the gates are no part of the queries: "
                      "there is the tensor " +
                      in_quotes(apart));
  }
  const bool last = options.gate_column == "last";
  if (config->gate_last && !last) {
    return Status(StatusCode::kInvalidArgument,
                  path + ": gate_column is \"last\", but --gate-column is \"first\"");
  }
  config->gate_last = last;
  return Status();
}

Result<ModelSource> read_latte(const ConvertOptions& options, const FoundCheckpoint& found) {
  const std::vector<SourceTensor>& tensors = found.checkpoint->tensors();
  if (!tensors.empty() && tensors.back().name.rfind("params/", 0) == 0) {
    return Status(StatusCode::kUnsupported,
                  found.checkpoint->files().front() +
                      ": its modules are of no code that is known (the last tensor is " +
                      in_quotes(tensors.back().name) +
                      "), expected Encoder_0 or encoder of the Latte authors, or "
                      "TransformerBlock_<i> of the sibling code");
  }
  const std::string path =
      options.config.empty() ? join_path(found.folder, "config.json") : options.config;
  if (options.config.empty() && !path_exists(path)) {
    return Status(StatusCode::kNotFound,
                  path +
                      ": no such file; weights do not tell the number of heads and much else; "
                      "--config names a configuration that lies elsewhere");
  }
  ModelSource source;
  MOKA_ASSIGN_OR_RETURN(source.config, read_latte_config(path));
  source.config_path = path;
  LatteConfig& config = source.config;
  source.text.bytes_by_size = true;
  MOKA_RETURN_IF_ERROR(apply_gate_column(options, found, path, &config));
  if (options.pad_id) {
    if (config.pad_id >= 0 && config.pad_id != *options.pad_id) {
      return Status(StatusCode::kInvalidArgument,
                    path + ": pad_token_id is " + std::to_string(config.pad_id) +
                        ", but --pad-id is " + std::to_string(*options.pad_id));
    }
    config.pad_id = *options.pad_id;
  }
  source.names = std::make_shared<LatteNames>(config);
  return source;
}

Status apply_labels(const std::vector<std::string>& labels, ModelSource* source) {
  LatteConfig& config = source->config;
  if (labels.empty()) return Status();
  if (labels.size() != config.classes) {
    return Status(StatusCode::kInvalidArgument,
                  source->config_path + ": --labels has " + std::to_string(labels.size()) +
                      " names, but the model has " + std::to_string(config.classes) + " classes");
  }
  config.labels = labels;
  return Status();
}

}  // namespace

Result<ModelSource> read_model_source(const ConvertOptions& options, const FoundCheckpoint& found) {
  if (!options.gate_column.empty() && options.gate_column != "first" &&
      options.gate_column != "last") {
    return Status(
        StatusCode::kInvalidArgument,
        "--gate-column is " + in_quotes(options.gate_column) + ", expected \"first\" or \"last\"");
  }
  const bool authors = is_authors_tree(*found.checkpoint);
  const bool sibling = is_sibling_tree(*found.checkpoint);
  MOKA_ASSIGN_OR_RETURN(ModelSource source, authors   ? read_authors(options, found)
                                            : sibling ? read_sibling(options, found)
                                                      : read_latte(options, found));
  MOKA_RETURN_IF_ERROR(apply_labels(options.labels, &source));
  return source;
}

}  // namespace moka
