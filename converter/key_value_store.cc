#include "converter/key_value_store.h"

#include <set>
#include <utility>

#include "converter/training_run.h"

namespace moka {
namespace {

constexpr size_t kOpenFiles = 16;

// Arrays that Orbax wrote before OCDBT: a folder each, <name>/.zarray and <name>/0.0.
class FolderStore : public KeyValueStore {
 public:
  explicit FolderStore(std::string folder) : folder_(std::move(folder)) {}

  Result<std::optional<uint64_t>> size(const std::string& key) override {
    MOKA_ASSIGN_OR_RETURN(const std::string path, path_of(key));
    if (!path_exists(path) || is_folder(path)) return std::optional<uint64_t>();
    MOKA_ASSIGN_OR_RETURN(const InputFile* file, cache_.open(path));
    const std::string name = base_name(path);
    if (name == ".zarray" || name == "zarr.json") descriptions_.insert(path);
    return std::optional<uint64_t>(file->size());
  }

  Status read(const std::string& key, uint64_t offset, uint8_t* out, size_t count) override {
    MOKA_ASSIGN_OR_RETURN(const std::string path, path_of(key));
    MOKA_ASSIGN_OR_RETURN(const InputFile* file, cache_.open(path));
    return file->read(offset, out, count);
  }

  std::vector<std::string> keys(const std::string& suffix) override {
    std::vector<std::string> found;
    for (const std::string& name : folder_entries(folder_)) {
      if (path_exists(join_path(folder_, name + suffix))) found.push_back(name + suffix);
    }
    return found;
  }

  const std::string& path() const override { return folder_; }
  // The descriptions of the arrays that were asked for; chunks can be many more.
  std::vector<std::string> files() const override {
    return std::vector<std::string>(descriptions_.begin(), descriptions_.end());
  }

 private:
  Result<std::string> path_of(const std::string& key) const {
    if (is_safe_relative_path(key)) return join_path(folder_, key);
    return Status(StatusCode::kCorrupt, folder_ + ": a name of an array leads outside of it");
  }

  std::string folder_;
  FileCache cache_;
  std::set<std::string> descriptions_;
};

}  // namespace

std::unique_ptr<KeyValueStore> open_folder_store(const std::string& folder) {
  return std::make_unique<FolderStore>(folder);
}

Result<std::unique_ptr<KeyValueStore>> open_array_store(const std::string& folder,
                                                        const std::vector<std::string>& prefixes) {
  if (path_exists(join_path(folder, "manifest.ocdbt"))) return open_ocdbt(folder, prefixes);
  return open_folder_store(folder);
}

bool is_safe_relative_path(const std::string& path) {
  if (path.empty() || path[0] == '/' || path.find('\0') != std::string::npos) return false;
  for (size_t begin = 0; begin <= path.size();) {
    size_t end = path.find('/', begin);
    if (end == std::string::npos) end = path.size();
    if (path.compare(begin, end - begin, "..") == 0) return false;
    begin = end + 1;
  }
  return true;
}

Result<const InputFile*> FileCache::open(const std::string& path) {
  for (const auto& file : files_) {
    if (file->path() == path) return const_cast<const InputFile*>(file.get());
  }
  MOKA_ASSIGN_OR_RETURN(InputFile opened, InputFile::open(path));
  auto file = std::make_unique<InputFile>(std::move(opened));
  const InputFile* pointer = file.get();
  if (files_.size() < kOpenFiles) {
    files_.push_back(std::move(file));
  } else {
    files_[next_] = std::move(file);
    next_ = (next_ + 1) % kOpenFiles;
  }
  return pointer;
}

}  // namespace moka
