// OCDBT stores (TensorStore's B+tree of keys and values) as a KeyValueStore.
#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "converter/json.h"
#include "converter/key_value_store.h"
#include "converter/ocdbt_format.h"
#include "converter/training_run.h"

namespace moka {
namespace {

using ocdbt::Entry;
using ocdbt::File;
using ocdbt::Location;
using ocdbt::Manifest;
using ocdbt::Node;

constexpr uint8_t kMaxHeight = 64;
constexpr size_t kMaxNodes = size_t{1} << 16;          // visited; nodes may share children
constexpr uint64_t kMaxTreeBytes = uint64_t{1} << 30;  // of all nodes visited
constexpr size_t kMaxKeys = size_t{1} << 20;
constexpr uint64_t kMaxHeldBytes = uint64_t{256} << 20;  // of keys and inline values
constexpr uint64_t kMaxPathBytes = uint64_t{256} << 20;  // of the nodes from the root to a leaf

struct Value {
  std::string key;
  size_t file = 0;  // of OcdbtStore::data_files_, unless inline
  uint64_t offset = 0, length = 0;
  bool is_inline = false;
  std::string bytes;
};

bool begins_with(const std::string& text, const std::string& prefix) {
  return text.compare(0, prefix.size(), prefix) == 0;
}

class OcdbtStore : public KeyValueStore {
 public:
  OcdbtStore(std::string folder, std::vector<std::string> prefixes)
      : folder_(std::move(folder)), prefixes_(std::move(prefixes)) {}

  Status open() {
    const std::string path = join_path(folder_, "manifest.ocdbt");
    add_visited(path);
    MOKA_ASSIGN_OR_RETURN(Manifest manifest, read_manifest(path));
    if (manifest.numbered) {
      MOKA_ASSIGN_OR_RETURN(const std::string newest, newest_manifest(path));
      add_visited(newest);
      MOKA_ASSIGN_OR_RETURN(manifest, read_manifest(newest));
      if (manifest.numbered) {
        return Status(StatusCode::kCorrupt,
                      newest + ": names other manifests, as only " + path + " may");
      }
    }
    if (!manifest.root) return Status();
    if (manifest.height > kMaxHeight) {
      return Status(StatusCode::kCorrupt, path + ": has a tree of height " +
                                              std::to_string(manifest.height) +
                                              ", expected at most " + std::to_string(kMaxHeight));
    }
    MOKA_RETURN_IF_ERROR(
        visit(*manifest.root, manifest.files[manifest.root->file], manifest.height, ""));
    for (size_t i = 1; i < values_.size(); ++i) {
      if (values_[i - 1].key < values_[i].key) continue;
      return Status(StatusCode::kCorrupt,
                    path + ": has keys out of order, at " + in_quotes(values_[i].key));
    }
    return Status();
  }

  Result<std::optional<uint64_t>> size(const std::string& key) override {
    const Value* value = find(key);
    if (value == nullptr) return std::optional<uint64_t>();
    return std::optional<uint64_t>(value->length);
  }

  Status read(const std::string& key, uint64_t offset, uint8_t* out, size_t count) override {
    const Value* value = find(key);
    if (value == nullptr) {
      return Status(StatusCode::kNotFound, folder_ + ": has no key " + in_quotes(key));
    }
    if (offset > value->length || count > value->length - offset) {
      return Status(StatusCode::kInternal,
                    folder_ + ": a read beyond the value of " + in_quotes(key));
    }
    if (value->is_inline) {
      std::copy_n(value->bytes.data() + offset, count, out);
      return Status();
    }
    const std::string path = join_path(folder_, data_files_[value->file]);
    MOKA_ASSIGN_OR_RETURN(const InputFile* file, cache_.open(path));
    if (value->offset > file->size() || value->length > file->size() - value->offset) {
      return ends_early(*file, value->offset, value->length, "the value of " + in_quotes(key));
    }
    return file->read(value->offset + offset, out, count);
  }

  std::vector<std::string> keys(const std::string& suffix) override {
    std::vector<std::string> found;
    for (const Value& value : values_) {
      const std::string& key = value.key;
      if (key.size() >= suffix.size() &&
          key.compare(key.size() - suffix.size(), suffix.size(), suffix) == 0) {
        found.push_back(key);
      }
    }
    return found;
  }

  const std::string& path() const override { return folder_; }

  std::vector<std::string> files() const override {
    std::vector<std::string> all = visited_;
    std::set<std::string> seen = visited_set_;
    std::vector<bool> used(data_files_.size());
    for (const Value& value : values_) {
      if (!value.is_inline) used[value.file] = true;
    }
    for (size_t i = 0; i < data_files_.size(); ++i) {
      const std::string path = join_path(folder_, data_files_[i]);
      if (used[i] && seen.insert(path).second) all.push_back(path);
    }
    return all;
  }

 private:
  static Status ends_early(const InputFile& file, uint64_t offset, uint64_t length,
                           const std::string& what) {
    return Status(StatusCode::kCorrupt, file.path() + ": is " + std::to_string(file.size()) +
                                            " bytes long, but " + what + " is said to be " +
                                            std::to_string(length) + " bytes at " +
                                            std::to_string(offset));
  }

  const Value* find(const std::string& key) const {
    const auto found =
        std::lower_bound(values_.begin(), values_.end(), key,
                         [](const Value& value, const std::string& k) { return value.key < k; });
    return found == values_.end() || found->key != key ? nullptr : &*found;
  }

  static Result<std::vector<uint8_t>> read_bytes(const InputFile& file, uint64_t offset,
                                                 uint64_t length) {
    if (offset > file.size() || length > file.size() - offset) {
      return ends_early(file, offset, length, "a tree node");
    }
    if (length > ocdbt::kMaxNodeBytes) {
      return Status(StatusCode::kOutOfRange,
                    file.path() + ": has a tree node of " + std::to_string(length) +
                        " bytes, at most " + std::to_string(ocdbt::kMaxNodeBytes) + " are read");
    }
    std::vector<uint8_t> bytes(static_cast<size_t>(length));
    MOKA_RETURN_IF_ERROR(file.read(offset, bytes.data(), bytes.size()));
    return bytes;
  }

  static Result<Manifest> read_manifest(const std::string& path) {
    MOKA_ASSIGN_OR_RETURN(const InputFile file, InputFile::open(path));
    MOKA_ASSIGN_OR_RETURN(const auto bytes, read_bytes(file, 0, file.size()));
    return ocdbt::parse_manifest(bytes, path);
  }

  // manifest.<16 hex digits>: the largest number is the newest, and names sort as numbers do.
  Result<std::string> newest_manifest(const std::string& path) const {
    const std::string prefix = "manifest.";
    std::string newest;
    for (const std::string& name : folder_entries(folder_)) {
      if (name.size() == prefix.size() + 16 && begins_with(name, prefix) &&
          name.find_first_not_of("0123456789abcdef", prefix.size()) == std::string::npos) {
        newest = name;
      }
    }
    if (newest.empty()) {
      return Status(StatusCode::kNotFound, path +
                                               ": keeps its versions in files manifest.<16 hex "
                                               "digits>, but there is none beside it");
    }
    return join_path(folder_, newest);
  }

  // Whether keys that begin with `prefix` may be asked for. Keys below a node begin with it.
  bool may_be_wanted(const std::string& prefix) const {
    if (prefixes_.empty()) return true;
    return std::any_of(prefixes_.begin(), prefixes_.end(), [&](const std::string& wanted) {
      return begins_with(prefix, wanted) || begins_with(wanted, prefix);
    });
  }
  bool is_wanted(const std::string& key) const {
    return prefixes_.empty() ||
           std::any_of(prefixes_.begin(), prefixes_.end(),
                       [&](const std::string& wanted) { return begins_with(key, wanted); });
  }

  void add_visited(const std::string& path) {
    if (visited_set_.insert(path).second) visited_.push_back(path);
  }

  Result<Node> read_node(const Location& location, const File& file, uint8_t height) {
    const std::string path = join_path(folder_, file.path);
    const std::string where = path + ": the node at byte " + std::to_string(location.offset);
    tree_bytes_ += std::min(location.length, kMaxTreeBytes);
    if (++nodes_ > kMaxNodes || tree_bytes_ > kMaxTreeBytes) {
      return Status(StatusCode::kOutOfRange, folder_ + ": has more than " +
                                                 std::to_string(kMaxNodes) +
                                                 " tree nodes, or more than " +
                                                 std::to_string(kMaxTreeBytes) + " bytes of them");
    }
    add_visited(path);
    MOKA_ASSIGN_OR_RETURN(const InputFile* opened, cache_.open(path));
    MOKA_ASSIGN_OR_RETURN(const auto bytes, read_bytes(*opened, location.offset, location.length));
    MOKA_ASSIGN_OR_RETURN(Node node, ocdbt::parse_node(bytes, file.base, where));
    if (node.height != height) {
      return Status(StatusCode::kCorrupt, where + " has height " + std::to_string(node.height) +
                                              ", expected " + std::to_string(height));
    }
    return node;
  }

  // Takes the wanted values of the node at `location` and of all nodes below. The height falls
  // with each step, so that a node that refers to itself is an error and no endless descent.
  Status visit(const Location& location, const File& file, uint8_t height,
               const std::string& prefix) {
    MOKA_ASSIGN_OR_RETURN(Node node, read_node(location, file, height));
    path_bytes_ += node.text_bytes;
    if (path_bytes_ > kMaxPathBytes) {
      return Status(StatusCode::kOutOfRange, folder_ + ": has tree nodes of more than " +
                                                 std::to_string(kMaxPathBytes) + " bytes");
    }
    for (Entry& entry : node.entries) {
      if (height == 0) {
        MOKA_RETURN_IF_ERROR(take(prefix + entry.key, node, &entry));
        continue;
      }
      const std::string child = prefix + entry.key.substr(0, entry.common_prefix);
      if (!may_be_wanted(child)) continue;
      MOKA_RETURN_IF_ERROR(visit(entry.location, node.files[entry.location.file],
                                 static_cast<uint8_t>(height - 1), child));
    }
    path_bytes_ -= node.text_bytes;
    return Status();
  }

  Status take(std::string key, const Node& node, Entry* entry) {
    if (!is_wanted(key)) return Status();
    held_bytes_ += key.size() + entry->value.size();
    if (values_.size() == kMaxKeys || held_bytes_ > kMaxHeldBytes) {
      return Status(StatusCode::kOutOfRange, folder_ + ": has more than " +
                                                 std::to_string(kMaxKeys) +
                                                 " keys, or too many bytes of them");
    }
    Value value;
    value.key = std::move(key);
    value.length = entry->location.length;
    value.offset = entry->location.offset;
    value.is_inline = entry->is_inline;
    value.bytes = std::move(entry->value);
    if (!value.is_inline) {
      const auto [place, added] =
          file_numbers_.emplace(node.files[entry->location.file].path, data_files_.size());
      if (added) data_files_.push_back(place->first);
      value.file = place->second;
    }
    values_.push_back(std::move(value));
    return Status();
  }

  std::string folder_;
  std::vector<std::string> prefixes_;
  std::vector<Value> values_;            // by key
  std::vector<std::string> data_files_;  // below folder_
  std::map<std::string, size_t> file_numbers_;
  std::vector<std::string> visited_;  // manifests and files of nodes, in the order of reading
  std::set<std::string> visited_set_;
  FileCache cache_;
  size_t nodes_ = 0;
  uint64_t tree_bytes_ = 0, held_bytes_ = 0, path_bytes_ = 0;
};

}  // namespace

Result<std::unique_ptr<KeyValueStore>> open_ocdbt(const std::string& folder,
                                                  const std::vector<std::string>& prefixes) {
  auto store = std::make_unique<OcdbtStore>(folder, prefixes);
  MOKA_RETURN_IF_ERROR(store->open());
  return std::unique_ptr<KeyValueStore>(std::move(store));
}

}  // namespace moka
