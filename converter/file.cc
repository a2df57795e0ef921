#ifndef _FILE_OFFSET_BITS
// Files beyond 2 GiB on 32-bit systems. The name is the C library's. NOLINTNEXTLINE
#define _FILE_OFFSET_BITS 64
#endif

#include "converter/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "runtime/checksum.h"
#include "runtime/temporary_file.h"

namespace moka {
namespace {

constexpr size_t kPiece = size_t{1} << 20;

Status io_error(const std::string& path, const char* what, int error) {
  const StatusCode code =
      error == ENOENT || error == ENOTDIR ? StatusCode::kNotFound : StatusCode::kIo;
  return Status(code, path + ": " + what + ": " + std::strerror(error));
}

}  // namespace

Result<InputFile> InputFile::open(const std::string& path) {
  InputFile file;
  file.path_ = path;
  // O_NONBLOCK: opening a named pipe must not wait for its writer; it is refused below.
  file.descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file.descriptor_ < 0) return io_error(path, "cannot open", errno);
  struct stat info = {};
  if (::fstat(file.descriptor_, &info) != 0) return io_error(path, "cannot stat", errno);
  if (!S_ISREG(info.st_mode)) {
    return Status(StatusCode::kIo, path + ": is a folder or a device, expected a regular file");
  }
  file.size_ = static_cast<uint64_t>(info.st_size);
  return file;
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)),
      size_(other.size_),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(size_, other.size_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

InputFile::~InputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Status InputFile::read(uint64_t offset, void* out, size_t count) const {
  auto* bytes = static_cast<uint8_t*>(out);
  while (count > 0) {
    const size_t piece = std::min(count, size_t{1} << 30);
    const ssize_t got = ::pread(descriptor_, bytes, piece, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error(path_, "cannot read", errno);
    if (got == 0) {
      return Status(StatusCode::kIo, path_ + ": ends at byte " + std::to_string(offset) +
                                         ", it was " + std::to_string(size_) +
                                         " bytes long when it was opened");
    }
    bytes += got;
    offset += static_cast<uint64_t>(got);
    count -= static_cast<size_t>(got);
  }
  return Status();
}

Result<std::string> read_text_file(const std::string& path, uint64_t max_bytes) {
  MOKA_ASSIGN_OR_RETURN(const InputFile file, InputFile::open(path));
  if (file.size() > max_bytes) {
    return Status(StatusCode::kOutOfRange, path + ": is " + std::to_string(file.size()) +
                                               " bytes long, expected at most " +
                                               std::to_string(max_bytes));
  }
  std::string text(static_cast<size_t>(file.size()), '\0');
  MOKA_RETURN_IF_ERROR(file.read(0, text.data(), text.size()));
  return text;
}

Result<FileHash> hash_file(const std::string& path,
                           const std::function<bool(uint64_t done)>& progress) {
  MOKA_ASSIGN_OR_RETURN(const InputFile file, InputFile::open(path));
  Xxh3Stream hash;
  std::vector<uint8_t> piece(static_cast<size_t>(std::min<uint64_t>(file.size(), kPiece)));
  for (uint64_t offset = 0; offset < file.size();) {
    const auto count = static_cast<size_t>(std::min<uint64_t>(file.size() - offset, kPiece));
    MOKA_RETURN_IF_ERROR(file.read(offset, piece.data(), count));
    hash.update(piece.data(), count);
    offset += count;
    if (progress && !progress(offset)) {
      return Status(StatusCode::kCancelled, path + ": cancelled while it was read");
    }
  }
  return FileHash{file.size(), hash.digest()};
}

bool path_exists(const std::string& path) {
  struct stat info = {};
  return ::lstat(path.c_str(), &info) == 0;
}

bool is_folder(const std::string& path) {
  struct stat info = {};
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

std::string join_path(const std::string& folder, const std::string& name) {
  if (folder.empty() || folder.back() == '/') return folder + name;
  return folder + "/" + name;
}

std::string base_name(const std::string& path) {
  const size_t end = path.find_last_not_of('/');
  if (end == std::string::npos) return path.empty() ? "" : "/";
  const size_t slash = path.find_last_of('/', end);
  const size_t begin = slash == std::string::npos ? 0 : slash + 1;
  return path.substr(begin, end + 1 - begin);
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string folder_name(const std::string& path) {
  const std::unique_ptr<char, void (*)(void*)> resolved(::realpath(path.c_str(), nullptr),
                                                        std::free);
  return base_name(resolved == nullptr ? path : resolved.get());
}

namespace {

constexpr char kScratch[] = "scratch", kData[] = ".model";

void remove_data(const std::string& lock) {
  const std::string path = lock + kData;
  moka::remove_stale(path, "part");
  ::unlink(path.c_str());
}

}  // namespace

void ScratchPath::remove_stale(const std::string& target) {
  moka::remove_stale(target, kScratch, remove_data);
}

ScratchPath::ScratchPath(const std::string& target) {
  remove_stale(target);
  path_.reserve(target.size() + 80);  // nothing may throw once the file is there
  TemporaryFile made;
  // Where it cannot be made, nothing can be written under its name either, and that is told then.
  if (create_temporary(target, kScratch, &made) == 0) {
    lock_ = std::move(made.path);
    descriptor_ = made.descriptor;
  } else {
    lock_ = target + ".moka-0." + kScratch;
  }
  path_.append(lock_).append(kData);
}

ScratchPath::~ScratchPath() {
  if (descriptor_ < 0) return;
  ::unlink(path_.c_str());
  ::unlink(lock_.c_str());
  ::close(descriptor_);
}

}  // namespace moka
