// The zip archive that torch.save writes: stored members, read in place.
#ifndef MOKA_CONVERTER_TORCH_ARCHIVE_H_
#define MOKA_CONVERTER_TORCH_ARCHIVE_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "converter/file.h"
#include "moka/status.h"

namespace moka {

class TorchArchive {
 public:
  // Where the bytes of a member lie in the file.
  struct Member {
    uint64_t offset = 0, size = 0;
  };

  // Reads the directory. kCorrupt: no zip archive, or one whose parts do not fit together.
  // kUnsupported: several volumes, no data.pkl, TorchScript.
  static Result<TorchArchive> open(const std::string& path);

  const InputFile& file() const { return file_; }
  // A member by its name below the archive's folder: "data.pkl", "data/0". kNotFound; kCorrupt when
  // it does not lie in the file; kUnsupported when it is compressed or encrypted.
  Result<Member> find(const std::string& name) const;
  bool has(const std::string& name) const { return members_.count(folder_ + name) != 0; }

 private:
  struct Entry {
    uint64_t header = 0, size = 0;  // bytes of the file; the data follows the header
    bool stored = true;             // as it is, neither compressed nor encrypted
  };
  struct Directory {
    uint64_t offset = 0, size = 0, count = 0;
  };

  explicit TorchArchive(InputFile file) : file_(std::move(file)) {}
  Result<Directory> find_directory() const;
  Result<Directory> read_zip64(uint64_t locator) const;
  Status read_directory(const Directory& directory);
  Status corrupt(const std::string& what) const;

  InputFile file_;
  std::map<std::string, Entry> members_;
  std::string folder_;  // "archive/": before all names of PyTorch's own
};

}  // namespace moka

#endif  // MOKA_CONVERTER_TORCH_ARCHIVE_H_
