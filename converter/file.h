// Files as the converter needs them: bounded reading at an offset, checksums, scratch files.
//
// Checkpoints are read through pread and not through a mapping: a file that shrinks while it is
// read gives an error and not a signal, and memory stays what the caller asked for. Output goes
// through the runtime's AtomicFile.
#ifndef MOKA_CONVERTER_FILE_H_
#define MOKA_CONVERTER_FILE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "moka/status.h"

namespace moka {

// An open regular file. Reads from several threads may run at once.
class InputFile {
 public:
  // kNotFound when there is none, kIo when it cannot be opened or is not a regular file.
  static Result<InputFile> open(const std::string& path);
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) noexcept;
  ~InputFile();

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }

  // Exactly `count` bytes from `offset`. kIo when the file has become shorter or cannot be read.
  Status read(uint64_t offset, void* out, size_t count) const;

 private:
  InputFile() = default;
  std::string path_;
  uint64_t size_ = 0;
  int descriptor_ = -1;
};

// The whole file. kOutOfRange when it is larger than `max_bytes`; otherwise as InputFile.
Result<std::string> read_text_file(const std::string& path, uint64_t max_bytes);

struct FileHash {
  uint64_t size = 0;
  uint64_t xxh3 = 0;
};
// Reads the file in pieces. `progress` gets the bytes done; false ends the call with kCancelled.
Result<FileHash> hash_file(const std::string& path,
                           const std::function<bool(uint64_t done)>& progress = {});

bool path_exists(
    const std::string& path);  // a file, folder, or link of that name, even a broken one
bool is_folder(const std::string& path);
std::string join_path(const std::string& folder, const std::string& name);
std::string base_name(const std::string& path);    // "b" of "a/b" and of "a/b/"
std::string folder_of(const std::string& path);    // "a" of "a/b", "." of "b"
std::string folder_name(const std::string& path);  // its own name, also of "." and "a/.."

// A name beside `target` that no other process or call uses, "TARGET.moka-<slot>.scratch.model". The
// file of that name, if there is one, is removed when the object goes, or by the next one for the same
// target if the process ended before; an empty file without ".model" holds the lock that says so.
class ScratchPath {
 public:
  explicit ScratchPath(const std::string& target);
  // Removes what dead processes left for this target.
  static void remove_stale(const std::string& target);
  ScratchPath(const ScratchPath&) = delete;
  ScratchPath& operator=(const ScratchPath&) = delete;
  ~ScratchPath();
  const std::string& path() const { return path_; }

 private:
  std::string lock_, path_;
  int descriptor_ = -1;
};

}  // namespace moka

#endif  // MOKA_CONVERTER_FILE_H_
