// SnapshotFile: a model file whose prefix snapshots are about to change. Everything else of it is
// copied byte for byte.
#ifndef MOKA_CONVERTER_SNAPSHOT_FILE_H_
#define MOKA_CONVERTER_SNAPSHOT_FILE_H_

#include <cstdint>
#include <list>
#include <string>
#include <utility>
#include <vector>

#include "moka/status.h"
#include "runtime/loader.h"

namespace moka {

struct MadeSnapshot {
  PrefixSnapshot entry;  // without data
  std::vector<uint8_t> state;
};

class SnapshotFile {
 public:
  // Maps the file and checks all of its data. Errors as load_model_file and verify_data.
  static Result<SnapshotFile> open(const std::string& path);

  const ModelSpec& spec() const { return file_.spec; }
  uint64_t fingerprint() const { return file_.fingerprint; }
  uint64_t weights_checksum() const;

  // In the place of the one of that name, or behind the others.
  void put(MadeSnapshot snapshot);
  void remove(const std::string& name);  // which is there
  void clear() { file_.spec.prefix_snapshots.clear(); }

  // Writes all of it to `path`, which may be where it came from and is replaced. The file is
  // unmapped before, so this is the last call. Errors as check_spec and AtomicFile.
  Status write(const std::string& path);

 private:
  explicit SnapshotFile(LoadedModel file) : file_(std::move(file)) {}

  LoadedModel file_;                        // its snapshots point into it and into states_
  std::list<std::vector<uint8_t>> states_;  // of snapshots that were put
};

}  // namespace moka

#endif  // MOKA_CONVERTER_SNAPSHOT_FILE_H_
