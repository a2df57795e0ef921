// FileMap: a whole file in memory, read-only, its pages read from disk when they are touched.
//
// The bytes stay valid while the FileMap lives, even when the file is renamed or deleted. A file
// that another program shortens meanwhile faults (SIGBUS) when the lost pages are read; Moka itself
// replaces files only by rename, which leaves mapped ones alone.
#ifndef MOKA_RUNTIME_FILE_MAP_H_
#define MOKA_RUNTIME_FILE_MAP_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "moka/span.h"
#include "moka/status.h"

namespace moka {

class FileMap {
 public:
  // kNotFound: no such file. kInvalidArgument: not a regular file. kIo: the system refused.
  // kOutOfMemory: larger than this process's address space. Any thread.
  static Result<std::shared_ptr<FileMap>> open(const std::string& path);

  FileMap(const FileMap&) = delete;
  FileMap& operator=(const FileMap&) = delete;
  ~FileMap();

  // The whole file, at least page-aligned. Empty for an empty file.
  Span<const uint8_t> bytes() const { return {data_, size_}; }

  // Gives the memory of the whole pages inside [begin, begin + size) back to the system; they are
  // read from the file again when touched. A hint: it cannot fail, and does nothing where the
  // system has no such call. The range must lie in bytes(). Any thread.
  void release(const void* begin, size_t size) const;

 private:
  FileMap(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  const uint8_t* data_;
  size_t size_;
};

}  // namespace moka

#endif  // MOKA_RUNTIME_FILE_MAP_H_
