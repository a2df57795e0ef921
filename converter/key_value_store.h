// Where arrays of a checkpoint lie: values by key, in the files of a folder or in an OCDBT store.
#ifndef MOKA_CONVERTER_KEY_VALUE_STORE_H_
#define MOKA_CONVERTER_KEY_VALUE_STORE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "converter/file.h"
#include "moka/status.h"

namespace moka {

class KeyValueStore {
 public:
  virtual ~KeyValueStore() = default;

  // Bytes of the value; none when there is no such key.
  virtual Result<std::optional<uint64_t>> size(const std::string& key) = 0;
  // Bytes [offset, offset + count) of a value that is there and has them.
  virtual Status read(const std::string& key, uint64_t offset, uint8_t* out, size_t count) = 0;
  // Keys that end with `suffix`, sorted.
  virtual std::vector<std::string> keys(const std::string& suffix) = 0;
  // For messages: the path of the store.
  virtual const std::string& path() const = 0;
  // Files that hold what was found, for the record.
  virtual std::vector<std::string> files() const = 0;
};

// Keys are paths below `folder`.
std::unique_ptr<KeyValueStore> open_folder_store(const std::string& folder);

// An OCDBT store (manifest.ocdbt in `folder`) at its newest version, without values. With `prefixes`
// it has only the keys that begin with one of them, and reads no part of the tree that has none; empty:
// all keys. kCorrupt: damaged, by
// checksum or structure; kUnsupported: a version or compression that is not known.
Result<std::unique_ptr<KeyValueStore>> open_ocdbt(const std::string& folder,
                                                  const std::vector<std::string>& prefixes);

// What Orbax wrote in `folder`: an OCDBT store, or a folder for each array.
Result<std::unique_ptr<KeyValueStore>> open_array_store(const std::string& folder,
                                                        const std::vector<std::string>& prefixes);

// Whether a path of a key or a data file stays below its folder.
bool is_safe_relative_path(const std::string& path);

// Keeps a few files open and forgets the rest.
class FileCache {
 public:
  Result<const InputFile*> open(const std::string& path);

 private:
  std::vector<std::unique_ptr<InputFile>> files_;
  size_t next_ = 0;
};

}  // namespace moka

#endif  // MOKA_CONVERTER_KEY_VALUE_STORE_H_
