// Sharded checkpoints: model.safetensors.index.json and pytorch_model.bin.index.json are
// {"metadata": {...}, "weight_map": {"tensor": "model-00001-of-00002.safetensors", ...}}; the files
// lie beside it.
#include <algorithm>
#include <map>
#include <utility>

#include "converter/checkpoint_reader.h"

namespace moka {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxIndex = uint64_t{32} << 20;
constexpr size_t kMaxShards = 1000;  // each is an open file

bool ends_with(const std::string& text, const std::string& suffix) {
  return text.size() >= suffix.size() &&
         text.compare(text.size() - suffix.size(), suffix.size(), suffix) == 0;
}

class ShardedCheckpoint : public Checkpoint {
 public:
  explicit ShardedCheckpoint(CheckpointForm form) : Checkpoint(form) {}

  Status open(const std::string& path) {
    files_ = {path};
    MOKA_ASSIGN_OR_RETURN(const json index, read_json_file(path, kMaxIndex));
    const auto map = index.is_object() ? index.find("weight_map") : index.end();
    if (!index.is_object() || map == index.end() || !map->is_object()) {
      return Status(StatusCode::kCorrupt, path +
                                              ": weight_map is missing, expected an object of "
                                              "tensor names and file names");
    }
    MOKA_RETURN_IF_ERROR(open_shards(path, *map));
    std::sort(entries_.begin(), entries_.end(),
              [](const Entry& a, const Entry& b) { return a.tensor.name < b.tensor.name; });
    for (Entry& entry : entries_) tensors_.push_back(std::move(entry.tensor));
    if (form_ == CheckpointForm::kPyTorch) {
      const std::string taken = strip_wrappers(&tensors_);
      if (!taken.empty()) notes_.push_back("all names begin with " + in_quotes(taken));
    }
    return Status();
  }

  Status read(size_t tensor, uint64_t first, size_t count, float* out) override {
    const Entry& entry = entries_[tensor];
    return shards_[entry.shard]->read(entry.index, first, count, out);
  }

 private:
  struct Entry {
    SourceTensor tensor;  // moved to tensors_ when all are there
    size_t shard = 0, index = 0;
  };

  // The names that the index gives to each file must be those that are in it.
  Status open_shards(const std::string& path, const json& map) {
    std::map<std::string, std::vector<std::string>> named;  // both sorted
    for (const auto& [tensor, file] : map.items()) {
      const std::string where = path + ": weight_map of " + in_quotes(tensor);
      if (!file.is_string()) return Status(StatusCode::kCorrupt, where + " is no file name");
      const auto& name = file.get_ref<const std::string&>();
      // A plain name: nothing outside the folder is ever opened.
      if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos ||
          name.find('\0') != std::string::npos) {
        return Status(StatusCode::kCorrupt, where + " is " + in_quotes(name) +
                                                ", expected the name of a file in the same folder");
      }
      named[name].push_back(tensor);
    }
    if (named.size() > kMaxShards) {
      return Status(StatusCode::kOutOfRange, path + ": names " + std::to_string(named.size()) +
                                                 " files, expected at most " +
                                                 std::to_string(kMaxShards));
    }
    for (const auto& [name, tensors] : named) {
      const std::string file = join_path(folder_of(path), name);
      MOKA_ASSIGN_OR_RETURN(auto shard, form_ == CheckpointForm::kPyTorch
                                            ? open_torch_unstripped(file)
                                            : open_safetensors(file));
      MOKA_RETURN_IF_ERROR(compare(path, name, tensors, *shard));
      files_.push_back(shard->files()[0]);
      for (size_t i = 0; i < shard->tensors().size(); ++i) {
        entries_.push_back({shard->tensors()[i], shards_.size(), i});
      }
      shards_.push_back(std::move(shard));
    }
    return Status();
  }

  static Status compare(const std::string& path, const std::string& file,
                        const std::vector<std::string>& named, const Checkpoint& shard) {
    Problems problems;
    for (const std::string& name : named) {
      if (!has(shard, name)) {
        problems.add(StatusCode::kCorrupt, in_quotes(name) + " is not in " + in_quotes(file));
      }
    }
    for (const SourceTensor& tensor : shard.tensors()) {
      if (!std::binary_search(named.begin(), named.end(), tensor.name)) {
        problems.add(StatusCode::kCorrupt, in_quotes(file) + " has " + in_quotes(tensor.name) +
                                               ", which weight_map does not place there");
      }
    }
    return problems.status(path);
  }

  static bool has(const Checkpoint& shard, const std::string& name) {
    const auto& all = shard.tensors();
    const auto found = std::lower_bound(
        all.begin(), all.end(), name,
        [](const SourceTensor& tensor, const std::string& n) { return tensor.name < n; });
    return found != all.end() && found->name == name;
  }

  std::vector<std::unique_ptr<Checkpoint>> shards_;
  std::vector<Entry> entries_;
};

}  // namespace

Result<std::unique_ptr<Checkpoint>> open_checkpoint_index(const std::string& path) {
  auto checkpoint = std::make_unique<ShardedCheckpoint>(
      ends_with(path, ".bin.index.json") ? CheckpointForm::kPyTorch : CheckpointForm::kSafetensors);
  MOKA_RETURN_IF_ERROR(checkpoint->open(path));
  return std::unique_ptr<Checkpoint>(std::move(checkpoint));
}

}  // namespace moka
