#include "runtime/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>

#include "runtime/temporary_file.h"

#ifdef _WIN32
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <io.h>
#include <windows.h>
#else
#include <unistd.h>
#endif

namespace moka {
namespace {

// The largest piece of one system call; Linux takes at most 2 GiB, Windows 4 GiB.
constexpr size_t kPiece = size_t{1} << 24;
constexpr char kKind[] = "part";

#ifdef _WIN32
int remove_file(const char* path) { return ::_unlink(path); }
#else
int remove_file(const char* path) { return ::unlink(path); }
#endif

#ifndef _WIN32
std::string folder_of(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}
#endif

Status exists_already(const std::string& path) {
  return Status(StatusCode::kFailedPrecondition,
                path + ": exists already and would be replaced; choose another name or allow it");
}

// Whether `path` is there, and that it is something which a file may replace.
Status check_target(const std::string& path, Existing existing, bool* present) {
  struct stat info = {};
  *present = ::stat(path.c_str(), &info) == 0;
  if (!*present) return Status();
  if ((info.st_mode & S_IFMT) != S_IFREG) {
    return Status(StatusCode::kInvalidArgument,
                  path + ": is a folder or a device; the output must be a regular file");
  }
  return existing == Existing::kRefuse ? exists_already(path) : Status();
}

}  // namespace

Status AtomicFile::fail(const char* action, int error) const {
  const StatusCode code = error == ENOENT ? StatusCode::kNotFound : StatusCode::kIo;
  return Status(code, path_ + ": cannot " + action + ": " + std::generic_category().message(error));
}

Result<AtomicFile> AtomicFile::create(const std::string& path, Existing existing) {
  AtomicFile file;
  file.path_ = path;
  file.existing_ = existing;
  bool present = false;
  MOKA_RETURN_IF_ERROR(check_target(path, existing, &present));
  remove_stale(path, kKind);
  TemporaryFile temporary;
  const int error = create_temporary(path, kKind, &temporary);
  if (error != 0) return file.fail("create it in its folder", error);
  file.temporary_ = std::move(temporary.path);
  file.descriptor_ = temporary.descriptor;
#ifndef _WIN32
  struct stat info = {};
  if (present && ::stat(path.c_str(), &info) == 0) {
    // A replaced file keeps its permissions. Where that is refused, the new file has the usual ones.
    const int refused = ::fchmod(file.descriptor_, info.st_mode & 07777);
    (void)refused;
  }
#endif
  return file;
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept { *this = std::move(other); }

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
  if (this != &other) {
    abandon();
    path_ = std::move(other.path_);
    temporary_ = std::move(other.temporary_);
    existing_ = other.existing_;
    descriptor_ = std::exchange(other.descriptor_, -1);
    size_ = std::exchange(other.size_, 0);
    other.temporary_.clear();
  }
  return *this;
}

AtomicFile::~AtomicFile() { abandon(); }

void AtomicFile::close_file() {
  if (descriptor_ < 0) return;
#ifdef _WIN32
  ::_close(descriptor_);
#else
  ::close(descriptor_);
#endif
  descriptor_ = -1;
}

void AtomicFile::abandon() {
#ifdef _WIN32
  close_file();  // an open file cannot be removed there
#endif
  // While its lock is held: behind it the name may be another's.
  if (!temporary_.empty()) remove_file(temporary_.c_str());
  temporary_.clear();
  close_file();
}

Status AtomicFile::write(const void* data, size_t size) {
  if (descriptor_ < 0) return Status(StatusCode::kFailedPrecondition, path_ + ": was finished");
  const char* next = static_cast<const char*>(data);
  while (size > 0) {
#ifdef _WIN32
    const int count = ::_write(descriptor_, next, static_cast<unsigned>(std::min(size, kPiece)));
#else
    const ssize_t count = ::write(descriptor_, next, std::min(size, kPiece));
#endif
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return fail("write", count < 0 ? errno : ENOSPC);
    next += count;
    size -= static_cast<size_t>(count);
    size_ += static_cast<uint64_t>(count);
  }
  return Status();
}

Status AtomicFile::write_at(uint64_t offset, const void* data, size_t size) {
  if (descriptor_ < 0) return Status(StatusCode::kFailedPrecondition, path_ + ": was finished");
  if (offset > size_ || size > size_ - offset) {
    return Status(StatusCode::kOutOfRange, path_ + ": bytes " + std::to_string(offset) + " to " +
                                               std::to_string(offset + size) +
                                               " were not written yet");
  }
  const uint64_t end = size_;
#ifdef _WIN32
  const auto seek = [this](uint64_t to) {
    return ::_lseeki64(descriptor_, static_cast<int64_t>(to), SEEK_SET) >= 0;
  };
#else
  const auto seek = [this](uint64_t to) {
    return ::lseek(descriptor_, static_cast<off_t>(to), SEEK_SET) >= 0;
  };
#endif
  if (!seek(offset)) return fail("seek", errno);
  const Status written = write(data, size);
  size_ = end;
  if (!seek(end)) return fail("seek", errno);
  return written;
}

Status AtomicFile::sync() {
#ifdef _WIN32
  if (::_commit(descriptor_) != 0) return fail("bring it to the disk", errno);
#else
#ifdef F_FULLFSYNC
  // On Apple's systems fsync() leaves the bytes in the drive's own cache.
  if (::fcntl(descriptor_, F_FULLFSYNC) == 0) return Status();
#endif
  // EINVAL: a file system that has nothing to sync.
  while (::fsync(descriptor_) != 0) {
    if (errno == EINVAL) break;
    if (errno != EINTR) return fail("bring it to the disk", errno);
  }
#endif
  return Status();
}

#ifdef _WIN32

Status AtomicFile::rename_into_place() {
  const DWORD flags =
      MOVEFILE_WRITE_THROUGH | (existing_ == Existing::kReplace ? MOVEFILE_REPLACE_EXISTING : 0);
  if (MoveFileExA(temporary_.c_str(), path_.c_str(), flags)) {
    temporary_.clear();
    return Status();
  }
  const DWORD error = GetLastError();
  if (error == ERROR_ALREADY_EXISTS || error == ERROR_FILE_EXISTS) return exists_already(path_);
  return Status(StatusCode::kIo, path_ + ": cannot give it its name: " +
                                     std::system_category().message(static_cast<int>(error)));
}

#else

Status AtomicFile::rename_into_place() {
  if (existing_ == Existing::kRefuse) {
    // link() is the call that fails when the name is taken. Some file systems (FAT) have no links:
    // there a look before the rename leaves a small gap.
    if (::link(temporary_.c_str(), path_.c_str()) == 0) {
      ::unlink(temporary_.c_str());
      temporary_.clear();
      return Status();
    }
    if (errno == EEXIST) return exists_already(path_);
    bool present = false;
    MOKA_RETURN_IF_ERROR(check_target(path_, existing_, &present));
  }
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return fail("give it its name", errno);
  temporary_.clear();
  return Status();
}

#endif

Status AtomicFile::commit() {
  if (descriptor_ < 0) return Status(StatusCode::kFailedPrecondition, path_ + ": was finished");
#ifndef _WIN32
  const std::string folder_path = folder_of(path_);  // what needs memory comes before the rename
#endif
  MOKA_RETURN_IF_ERROR(sync());
#ifdef _WIN32
  close_file();  // nor can it be renamed
#endif
  MOKA_RETURN_IF_ERROR(rename_into_place());
  close_file();
#ifndef _WIN32
  // The new name must survive a power cut too. Some systems do not let a folder be opened or
  // synced; the file itself is whole either way.
  const int folder = ::open(folder_path.c_str(), O_RDONLY | O_CLOEXEC);
  if (folder >= 0) {
    const int synced = ::fsync(folder);
    const int error = errno;
    ::close(folder);
    if (synced != 0 && error != EINVAL && error != EROFS && error != EBADF) {
      return fail("sync its folder", error);
    }
  }
#endif
  return Status();
}

Status write_file(const std::string& path, Existing existing, Span<const uint8_t> bytes) {
  MOKA_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path, existing));
  MOKA_RETURN_IF_ERROR(file.write(bytes.data(), bytes.size()));
  return file.commit();
}

}  // namespace moka
