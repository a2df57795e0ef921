// AtomicFile: a file that appears under its name only when it is complete.
//
//   MOKA_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path, Existing::kRefuse));
//   MOKA_RETURN_IF_ERROR(file.write(bytes, size));
//   MOKA_RETURN_IF_ERROR(file.commit());
//
// The bytes go to a temporary file in the same folder, "NAME.moka-<slot>.part" (temporary_file.h).
// commit() brings them to the disk and renames; a file destroyed without commit() is removed. After a
// crash either the old file or the new one is there, whole, and the next create() for the same path
// removes what the dead process left. One thread at a time.
#ifndef MOKA_RUNTIME_ATOMIC_FILE_H_
#define MOKA_RUNTIME_ATOMIC_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "moka/span.h"
#include "moka/status.h"

namespace moka {

enum class Existing { kRefuse, kReplace };

class AtomicFile {
 public:
  // kFailedPrecondition: `path` exists and may not be replaced. kInvalidArgument: it is a folder, a
  // device or another thing that is no regular file. kNotFound: its folder is missing. kIo.
  static Result<AtomicFile> create(const std::string& path, Existing existing);

  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&& other) noexcept;
  ~AtomicFile();

  // Appends. kIo with the path and the system's reason, such as a full disk.
  Status write(const void* data, size_t size);
  // Overwrites bytes that were written before; kOutOfRange beyond them.
  Status write_at(uint64_t offset, const void* data, size_t size);
  uint64_t size() const { return size_; }

  // Syncs the file, gives it its name, syncs the folder. At most once, and nothing may follow it.
  // kFailedPrecondition when a file of that name appeared since create() and may not be replaced.
  Status commit();

 private:
  AtomicFile() = default;
  Status fail(const char* action, int error) const;
  Status sync();
  Status rename_into_place();
  void close_file();
  void abandon();  // closes and removes the temporary file, if there is one

  std::string path_;
  std::string temporary_;
  Existing existing_ = Existing::kRefuse;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

// All of a file at once: create, write, commit.
Status write_file(const std::string& path, Existing existing, Span<const uint8_t> bytes);

}  // namespace moka

#endif  // MOKA_RUNTIME_ATOMIC_FILE_H_
