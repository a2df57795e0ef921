// Checkpoints of Orbax: arrays in a tensor store, and _METADATA, which names the leaves of the tree.
#include <utility>

#include "converter/checkpoint_reader.h"
#include "converter/key_value_store.h"
#include "converter/readers.h"
#include "converter/zarr.h"

namespace moka {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxMetadata = uint64_t{64} << 20;
constexpr size_t kMaxNotes = 8;

// A leaf of the saved tree.
struct Leaf {
  std::string name;  // its path, joined with '/'
  std::string key;   // of its array in the store: the path, joined with '.'
};

bool begins_with(const std::string& text, const std::string& prefix) {
  return text.compare(0, prefix.size(), prefix) == 0;
}

// A path of the tree as the store's keys have it.
std::string dotted(std::string path) {
  std::replace(path.begin(), path.end(), '/', '.');
  return path;
}

class OrbaxCheckpoint : public Checkpoint {
 public:
  explicit OrbaxCheckpoint(std::string folder)
      : Checkpoint(CheckpointForm::kOrbax), folder_(std::move(folder)) {}

  Status open();
  Status read(size_t tensor, uint64_t first, size_t count, float* out) override {
    return arrays_[tensor].read(first, count, out);
  }

 private:
  Result<std::vector<Leaf>> leaves_of_metadata(const json& metadata, const std::string& path);
  Result<std::vector<Leaf>> leaves_of_store();
  Status add(const Leaf& leaf, const std::string& name);
  Status read_step(const Leaf& leaf);

  std::string folder_;
  bool all_chunks_ = false;  // zeros are stored too, so a missing chunk is damage
  std::unique_ptr<KeyValueStore> store_;
  std::unique_ptr<ChunkReader> chunks_;
  std::vector<ZarrArray> arrays_;
};

// "tree_metadata": {"('model', 'step')": {"key_metadata": [{"key": "model"}, ...],
// "value_metadata": {"value_type": "jax.Array", "skip_deserialize": false}}, ...}
Result<std::vector<Leaf>> OrbaxCheckpoint::leaves_of_metadata(const json& metadata,
                                                              const std::string& path) {
  const auto corrupt = [&](const std::string& what) {
    return Status(StatusCode::kCorrupt, path + ": " + what);
  };
  const auto tree = metadata.is_object() ? metadata.find("tree_metadata") : metadata.end();
  if (!metadata.is_object() || tree == metadata.end() || !tree->is_object()) {
    return corrupt("tree_metadata is missing, expected an object of leaves");
  }
  std::vector<Leaf> leaves;
  size_t odd = 0;
  for (const auto& [text, entry] : tree->items()) {
    const auto keys = entry.is_object() ? entry.find("key_metadata") : entry.end();
    if (!entry.is_object() || keys == entry.end() || !keys->is_array() || keys->empty()) {
      return corrupt("the leaf " + in_quotes(text) + " has no key_metadata");
    }
    Leaf leaf;
    for (const json& part : *keys) {
      const auto key = part.is_object() ? part.find("key") : part.end();
      if (!part.is_object() || key == part.end() || !(key->is_string() || key->is_number())) {
        return corrupt("the leaf " + in_quotes(text) + " has a key without a name");
      }
      const std::string name = key->is_string() ? key->get<std::string>() : key->dump();
      leaf.name += (leaf.name.empty() ? "" : "/") + name;
      leaf.key += (leaf.key.empty() ? "" : ".") + name;
    }
    if (leaf.name.size() + sizeof "params/" > kMaxTensorName) {
      return corrupt("the leaf " + in_quotes(text) + " has a name of more than " +
                     std::to_string(kMaxTensorName) + " bytes");
    }
    const json value = entry.value("value_metadata", json::object());
    if (!value.is_object())
      return corrupt("the leaf " + in_quotes(text) + " has no value_metadata");
    const json skip = value.value("skip_deserialize", json(false));
    const json type = value.value("value_type", json(""));
    if (skip == json(true) || type == json("None")) continue;  // an empty place of the tree
    if (type == json("string") || type == json("str")) {
      if (++odd <= kMaxNotes) notes_.push_back(in_quotes(leaf.name) + " is text; passed over");
      continue;
    }
    leaves.push_back(std::move(leaf));
  }
  const json all = metadata.value("store_array_data_equal_to_fill_value", json(false));
  all_chunks_ = all == json(true);
  return leaves;
}

// Without _METADATA: every array in the store, with its name parted at the dots.
Result<std::vector<Leaf>> OrbaxCheckpoint::leaves_of_store() {
  MOKA_ASSIGN_OR_RETURN(store_, open_array_store(folder_, {}));
  std::vector<Leaf> leaves;
  for (const std::string suffix : {"/.zarray", "/zarr.json"}) {
    for (const std::string& key : store_->keys(suffix)) {
      Leaf leaf;
      leaf.key = key.substr(0, key.size() - suffix.size());
      if (leaf.key.find('/') != std::string::npos) continue;
      leaf.name = leaf.key;
      for (char& c : leaf.name) c = c == '.' ? '/' : c;
      leaves.push_back(std::move(leaf));
    }
  }
  return leaves;
}

Status OrbaxCheckpoint::open() {
  const std::string path = join_path(folder_, "_METADATA");
  const bool described = path_exists(path);
  std::vector<Leaf> leaves;
  if (described) {
    MOKA_ASSIGN_OR_RETURN(const json metadata, read_json_file(path, kMaxMetadata));
    MOKA_ASSIGN_OR_RETURN(leaves, leaves_of_metadata(metadata, path));
  } else {
    MOKA_ASSIGN_OR_RETURN(leaves, leaves_of_store());
  }
  // The training state of the authors' code lies under "model"; the sibling code has variables under
  // "weights" and the step beside them; others save it bare, or parameters alone.
  const auto any = [&](const std::string& prefix) {
    return std::any_of(leaves.begin(), leaves.end(),
                       [&](const Leaf& leaf) { return begins_with(leaf.name, prefix); });
  };
  std::string root;
  bool alone = false;
  if (any("model/params/")) {
    root = "model/";
  } else if (any("weights/params/")) {
    root = "weights/";
  } else if (!any("params/")) {
    alone = true;
  }
  const std::string step = root == "weights/" ? "step" : root + "step";
  const auto wanted = [&](const Leaf& leaf) {
    return alone || begins_with(leaf.name, root + "params/") ||
           begins_with(leaf.name, root + "batch_stats/") || leaf.name == step;
  };
  if (described) {
    std::vector<std::string> prefixes;
    if (!alone) {
      prefixes = {dotted(root + "params/"), dotted(root + "batch_stats/"), dotted(step) + "/"};
    }
    MOKA_ASSIGN_OR_RETURN(store_, open_array_store(folder_, prefixes));
  }
  chunks_ = std::make_unique<ChunkReader>(store_.get());
  for (const Leaf& leaf : leaves) {
    if (!wanted(leaf)) continue;
    if (!alone && leaf.name == step) {
      MOKA_RETURN_IF_ERROR(read_step(leaf));
    } else {
      MOKA_RETURN_IF_ERROR(
          add(leaf, alone ? "params/" + leaf.name : leaf.name.substr(root.size())));
    }
  }
  if (tensors_.empty()) {
    return Status(StatusCode::kCorrupt, folder_ + ": has no arrays where parameters belong");
  }
  files_ = store_->files();
  if (described) files_.push_back(path);
  return sort_tensors(folder_, &tensors_, &arrays_);
}

Status OrbaxCheckpoint::add(const Leaf& leaf, const std::string& name) {
  if (tensors_.size() == kMaxTensors) {
    return Status(StatusCode::kOutOfRange,
                  folder_ + ": has more than " + std::to_string(kMaxTensors) + " tensors");
  }
  MOKA_ASSIGN_OR_RETURN(ZarrArray array, ZarrArray::open(chunks_.get(), leaf.key, all_chunks_));
  SourceTensor tensor = array.tensor();
  tensor.name = name;
  tensors_.push_back(std::move(tensor));
  arrays_.push_back(std::move(array));
  return Status();
}

Status OrbaxCheckpoint::read_step(const Leaf& leaf) {
  MOKA_ASSIGN_OR_RETURN(ZarrArray array, ZarrArray::open(chunks_.get(), leaf.key, all_chunks_));
  if (array.tensor().elements != 1) return Status();
  uint8_t bytes[8] = {};
  MOKA_RETURN_IF_ERROR(array.read_bytes(0, 1, bytes));
  step_ = integer_value(array.tensor().type, bytes);
  return Status();
}

}  // namespace

Result<std::unique_ptr<Checkpoint>> open_orbax(const std::string& folder) {
  if constexpr (!kReadsOrbax) {
    return reader_left_out(folder, "Orbax");
  } else {
    auto checkpoint = std::make_unique<OrbaxCheckpoint>(folder);
    MOKA_RETURN_IF_ERROR(checkpoint->open());
    return std::unique_ptr<Checkpoint>(std::move(checkpoint));
  }
}

}  // namespace moka
