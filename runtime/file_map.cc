#include "runtime/file_map.h"

#include <algorithm>
#include <cerrno>
#include <limits>
#include <system_error>
#include <utility>

#ifdef _WIN32
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace moka {
namespace {

#ifdef _WIN32
int last_error() { return static_cast<int>(GetLastError()); }
bool is_missing(int error) {
  return error == ERROR_FILE_NOT_FOUND || error == ERROR_PATH_NOT_FOUND;
}
#else
int last_error() { return errno; }
bool is_missing(int error) { return error == ENOENT || error == ENOTDIR; }
#endif

Status system_failure(const std::string& path, const char* action, int error) {
  const StatusCode code = is_missing(error) ? StatusCode::kNotFound : StatusCode::kIo;
  return Status(code, path + ": cannot " + action + ": " + std::system_category().message(error));
}

Status not_regular(const std::string& path, const char* what) {
  return Status(StatusCode::kInvalidArgument,
                path + ": is " + what + "; a model is a regular file, because it is mapped");
}

Status too_large(const std::string& path, uint64_t size) {
  return Status(StatusCode::kOutOfMemory, path + ": has " + std::to_string(size) +
                                              " bytes, more than this process can address");
}

}  // namespace

#ifdef _WIN32

namespace {

// Closes a handle at the end of the scope. A view outlives the handles it was made from.
struct Handle {
  HANDLE value;
  ~Handle() {
    if (value != nullptr && value != INVALID_HANDLE_VALUE) CloseHandle(value);
  }
};

std::wstring wide(const std::string& utf8) {
  const int size = static_cast<int>(utf8.size());
  std::wstring text(
      static_cast<size_t>(MultiByteToWideChar(CP_UTF8, 0, utf8.data(), size, nullptr, 0)), L'\0');
  MultiByteToWideChar(CP_UTF8, 0, utf8.data(), size, text.data(), static_cast<int>(text.size()));
  return text;
}

}  // namespace

Result<std::shared_ptr<FileMap>> FileMap::open(const std::string& path) {
  const Handle file{CreateFileW(wide(path).c_str(), GENERIC_READ,
                                FILE_SHARE_READ | FILE_SHARE_DELETE, nullptr, OPEN_EXISTING,
                                FILE_ATTRIBUTE_NORMAL, nullptr)};
  if (file.value == INVALID_HANDLE_VALUE) return system_failure(path, "open", last_error());
  if (GetFileType(file.value) != FILE_TYPE_DISK) return not_regular(path, "a device or a pipe");
  LARGE_INTEGER size;
  if (!GetFileSizeEx(file.value, &size)) return system_failure(path, "read the size", last_error());
  const uint64_t bytes = static_cast<uint64_t>(size.QuadPart);
  if (bytes > std::numeric_limits<size_t>::max() / 2) return too_large(path, bytes);
  if (bytes == 0) return std::shared_ptr<FileMap>(new FileMap(nullptr, 0));
  const Handle mapping{CreateFileMappingW(file.value, nullptr, PAGE_READONLY, 0, 0, nullptr)};
  if (mapping.value == nullptr) return system_failure(path, "map", last_error());
  const void* view = MapViewOfFile(mapping.value, FILE_MAP_READ, 0, 0, 0);
  if (view == nullptr) return system_failure(path, "map", last_error());
  return std::shared_ptr<FileMap>(
      new FileMap(static_cast<const uint8_t*>(view), static_cast<size_t>(bytes)));
}

FileMap::~FileMap() {
  if (mapped()) UnmapViewOfFile(data_);
}

void FileMap::release(const void*, size_t) const {}
void FileMap::fetch(const void*, size_t) const {}

Result<std::shared_ptr<FileMap>> FileMap::open_descriptor(int, uint64_t, uint64_t,
                                                          const std::string& name) {
  return Status(StatusCode::kUnsupported,
                name + ": file descriptors are not read on Windows; open the file by its path");
}

#else

namespace {

struct Descriptor {
  int value;
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
};

int open_for_reading(const char* path) {
  // Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
  int descriptor = -1;
  do {
    descriptor = ::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  } while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

Result<uint64_t> size_of(int descriptor, const std::string& name) {
  struct stat info = {};
  if (::fstat(descriptor, &info) != 0) return system_failure(name, "read the size", last_error());
  if (S_ISDIR(info.st_mode)) return not_regular(name, "a folder");
  if (!S_ISREG(info.st_mode)) return not_regular(name, "a device or a pipe");
  return static_cast<uint64_t>(info.st_size);
}

// Of one system call: Apple's systems refuse 2 GiB, Linux reads less than was asked for.
constexpr size_t kPiece = size_t{1} << 30;

// Fills the whole buffer from the file at `offset`.
Status read_at(int descriptor, uint64_t offset, const std::string& name,
               AlignedBuffer<uint8_t>* buffer) {
  for (size_t done = 0; done < buffer->size();) {
    const ssize_t count =
        ::pread(descriptor, buffer->data() + done, std::min(buffer->size() - done, kPiece),
                static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return system_failure(name, "read", last_error());
    if (count == 0) {
      return Status(StatusCode::kIo, name + ": the file became shorter while it was read");
    }
    done += static_cast<size_t>(count);
  }
  return Status();
}

struct View {
  const uint8_t* data = nullptr;
  bool large_pages = false;
};

// Maps `size` bytes, at least 1, from `offset`, a multiple of the page size.
Result<View> map_bytes(int descriptor, uint64_t offset, uint64_t size, const std::string& name) {
  void* view = ::mmap(nullptr, static_cast<size_t>(size), PROT_READ, MAP_PRIVATE, descriptor,
                      static_cast<off_t>(offset));
  if (view != MAP_FAILED) {
    bool large_pages = false;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    // A page fault then reads 2 MiB at once, and on file systems that have large pages (ext4 from Linux
    // 6.16 on) they stay together: entering them later takes half of the time and fewer TLB entries.
    large_pages = ::madvise(view, static_cast<size_t>(size), MADV_HUGEPAGE) == 0;
#endif
    return View{static_cast<const uint8_t*>(view), large_pages};
  }
  if (errno == ENOMEM) return too_large(name, size);
  return system_failure(name, "map", last_error());
}

// The whole pages inside of a range.
struct Pages {
  char* begin = nullptr;
  size_t count = 0, size = 0;
};

[[maybe_unused]] Pages pages_inside(const void* begin, size_t size) {
  const long page_size = ::sysconf(_SC_PAGESIZE);
  if (page_size <= 0) return {};
  const uintptr_t page = static_cast<uintptr_t>(page_size);
  const uintptr_t address = reinterpret_cast<uintptr_t>(begin);
  const uintptr_t first = (address + page - 1) / page * page;
  const uintptr_t last = (address + size) / page * page;
  if (first >= last) return {};
  char* at = static_cast<char*>(const_cast<void*>(begin)) + (first - address);
  return {at, static_cast<size_t>((last - first) / page), static_cast<size_t>(page)};
}

}  // namespace

Result<std::shared_ptr<FileMap>> FileMap::open(const std::string& path) {
  const Descriptor file{open_for_reading(path.c_str())};
  if (file.value < 0) return system_failure(path, "open", last_error());
  MOKA_ASSIGN_OR_RETURN(const uint64_t bytes, size_of(file.value, path));
  if (bytes > std::numeric_limits<size_t>::max() / 2) return too_large(path, bytes);
  if (bytes == 0) return std::shared_ptr<FileMap>(new FileMap(nullptr, 0));
  MOKA_ASSIGN_OR_RETURN(const View view, map_bytes(file.value, 0, bytes, path));
  std::shared_ptr<FileMap> map(new FileMap(view.data, static_cast<size_t>(bytes)));
  map->large_pages_ = view.large_pages;
  return map;
}

Result<std::shared_ptr<FileMap>> FileMap::open_descriptor(int descriptor, uint64_t offset,
                                                          uint64_t length,
                                                          const std::string& name) {
  if (descriptor < 0 || ::fcntl(descriptor, F_GETFD) < 0) {
    return Status(StatusCode::kInvalidArgument,
                  name + ": " + std::to_string(descriptor) + " is no open file descriptor");
  }
  MOKA_ASSIGN_OR_RETURN(const uint64_t file_bytes, size_of(descriptor, name));
  if (offset > file_bytes || length > file_bytes - offset) {
    return Status(StatusCode::kOutOfRange, name + ": offset " + std::to_string(offset) +
                                               " and length " + std::to_string(length) +
                                               " reach beyond the file's " +
                                               std::to_string(file_bytes) + " bytes");
  }
  const uint64_t bytes = length == 0 ? file_bytes - offset : length;
  if (bytes > std::numeric_limits<size_t>::max() / 4) return too_large(name, bytes);
  if (bytes == 0) return std::shared_ptr<FileMap>(new FileMap(nullptr, 0));
  if (offset % 64 != 0) {
    AlignedBuffer<uint8_t> copy;
    if (!copy.allocate(static_cast<size_t>(bytes))) {
      return Status(StatusCode::kOutOfMemory,
                    name + ": no memory for " + std::to_string(bytes) +
                        " bytes; a model at an offset that is a multiple of 64 is mapped instead");
    }
    MOKA_RETURN_IF_ERROR(read_at(descriptor, offset, name, &copy));
    return std::shared_ptr<FileMap>(new FileMap(std::move(copy)));
  }
  const long page_size = ::sysconf(_SC_PAGESIZE);
  const uint64_t page = page_size > 0 ? static_cast<uint64_t>(page_size) : 4096;
  const uint64_t before = offset % page;
  MOKA_ASSIGN_OR_RETURN(const View view,
                        map_bytes(descriptor, offset - before, bytes + before, name));
  std::shared_ptr<FileMap> map(
      new FileMap(view.data + static_cast<size_t>(before), static_cast<size_t>(bytes)));
  map->before_ = static_cast<size_t>(before);
  map->large_pages_ = view.large_pages;
  return map;
}

FileMap::~FileMap() {
  if (mapped()) ::munmap(const_cast<uint8_t*>(data_ - before_), before_ + size_);
}

void FileMap::release(const void* begin, size_t size) const {
#ifdef MADV_DONTNEED
  // Pages of a copy would come back as zeros.
  const Pages pages = mapped() ? pages_inside(begin, size) : Pages();
  // Only a hint: a refusal leaves the pages where they are.
  if (pages.count > 0) ::madvise(pages.begin, pages.count * pages.size, MADV_DONTNEED);
#else
  (void)begin;
  (void)size;
#endif
}

void FileMap::fetch(const void* begin, size_t size) const {
#ifdef __linux__
#ifndef MADV_POPULATE_READ
  constexpr int MADV_POPULATE_READ = 22;  // since Linux 5.14; an older one refuses
#endif
  Pages pages = mapped() ? pages_inside(begin, size) : Pages();
  while (pages.count > 0) {
    unsigned char held[4096] = {};  // bit 0 of a page: whether it is in memory
    const size_t count = std::min(pages.count, sizeof(held));
    const bool known = ::mincore(pages.begin, count * pages.size, held) == 0;
    for (size_t i = 0, next = 0; i < count; i = next) {
      for (next = i + 1; next < count && ((held[next] ^ held[i]) & 1) == 0;) ++next;
      char* run = pages.begin + i * pages.size;
      const size_t bytes = (next - i) * pages.size;
      const bool enter = known && (held[i] & 1) != 0;
      if (enter && ::madvise(run, bytes, MADV_POPULATE_READ) == 0) continue;
      // WILLNEED would read them as small pages.
      if (!large_pages_) ::madvise(run, bytes, MADV_WILLNEED);
    }
    pages.begin += count * pages.size;
    pages.count -= count;
  }
#else
  (void)begin;
  (void)size;
#endif
}

#endif  // _WIN32

}  // namespace moka
