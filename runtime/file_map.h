// FileMap: a file, or a part of one, in memory, read-only; its pages are read from disk when they are
// touched.
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
#include <utility>

#include "moka/span.h"
#include "moka/status.h"
#include "runtime/aligned_buffer.h"

namespace moka {

class FileMap {
 public:
  // kNotFound: no such file. kInvalidArgument: not a regular file. kIo: the system refused.
  // kOutOfMemory: larger than this process's address space. Any thread.
  static Result<std::shared_ptr<FileMap>> open(const std::string& path);

  // `length` bytes from `offset` of an open file, or all from there when `length` is 0: what a model
  // is inside a package of files. The descriptor is left as it is, its position too, and may be
  // closed afterwards. Where `offset` is no multiple of 64 the bytes cannot be used as they lie: they
  // are read into memory instead of being mapped. `name` begins messages.
  // kInvalidArgument: not a descriptor of a regular file. kOutOfRange: the file ends before.
  // kIo, kOutOfMemory as above. kUnsupported on Windows. Any thread.
  static Result<std::shared_ptr<FileMap>> open_descriptor(int descriptor, uint64_t offset,
                                                          uint64_t length, const std::string& name);

  FileMap(const FileMap&) = delete;
  FileMap& operator=(const FileMap&) = delete;
  ~FileMap();

  // The whole file, page-aligned, or the part of it, aligned to 64 bytes. Empty for an empty file.
  Span<const uint8_t> bytes() const { return {data_, size_}; }

  // Gives the memory of the whole pages inside [begin, begin + size) back to the system; they are
  // read from the file again when touched. A hint: it cannot fail, and does nothing where the
  // system has no such call, or where the bytes were read and not mapped. The range must lie in
  // bytes(). Any thread.
  void release(const void* begin, size_t size) const;

  // [begin, begin + size) will be read soon: pages that the system holds already are entered into the
  // process at once, which is cheaper than a fault for each few of them, and it is asked to read the
  // others ahead, unless a fault reads large pages. A hint, likewise: never waits for the disk. The range
  // must lie in bytes(). Any thread.
  void fetch(const void* begin, size_t size) const;

 private:
  FileMap(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  explicit FileMap(AlignedBuffer<uint8_t> copy)
      : copy_(std::move(copy)), data_(copy_.data()), size_(copy_.size()) {}

  bool mapped() const { return data_ != nullptr && copy_.data() == nullptr; }

  AlignedBuffer<uint8_t> copy_;  // empty when the bytes are mapped
  const uint8_t* data_;
  size_t size_;
  size_t before_ = 0;  // bytes of the mapping before data_
  bool large_pages_ = false;
};

}  // namespace moka

#endif  // MOKA_RUNTIME_FILE_MAP_H_
