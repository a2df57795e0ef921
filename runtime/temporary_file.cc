#include "runtime/temporary_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <utility>

#ifdef _WIN32
#include <io.h>
#include <process.h>
#else
#include <sys/file.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/vfs.h>
#elif defined(__APPLE__) || defined(__FreeBSD__)
#include <sys/mount.h>
#include <sys/param.h>
#ifdef __APPLE__
#include <TargetConditionals.h>
#endif
#endif
#endif

namespace moka {
namespace {

#ifdef _WIN32
int process_id() { return _getpid(); }
int open_new(const char* path) {
  return ::_open(path, _O_RDWR | _O_CREAT | _O_EXCL | _O_BINARY | _O_NOINHERIT,
                 _S_IREAD | _S_IWRITE);
}
#else
int process_id() { return static_cast<int>(::getpid()); }
int open_new(const char* path) {
  int descriptor = -1;
  do {
    descriptor = ::open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (descriptor < 0 && errno == EINTR);
  return descriptor;
}
#endif

// Of a name that is not shared with other processes.
int create_private(const std::string& target, const char* kind, TemporaryFile* file) {
  static std::atomic<uint32_t> counter{0};
  // A file of a process that ended may have our name when process numbers come round again.
  for (int attempt = 0; attempt < 100; ++attempt) {
    std::string path = target + ".moka-" + std::to_string(process_id()) + "-" +
                       std::to_string(counter.fetch_add(1)) + "." + kind;
    file->descriptor = open_new(path.c_str());
    if (file->descriptor >= 0) {
      file->path = std::move(path);
      return 0;
    }
    if (errno != EEXIST) return errno;
  }
  return EEXIST;
}

#ifndef _WIN32

constexpr int kSlots = 8;

std::string slot_path(const std::string& target, int slot, const char* kind) {
  return target + ".moka-" + std::to_string(slot) + "." + kind;
}

// Whether locks reach every process that may see the file.
bool is_local(int descriptor) {
#ifdef __linux__
  struct statfs info = {};
  if (::fstatfs(descriptor, &info) != 0) return false;
  switch (static_cast<uint32_t>(info.f_type)) {
    case 0xEF53:      // ext2 to ext4
    case 0x58465342:  // xfs
    case 0x9123683E:  // btrfs
    case 0xF2F52010:  // f2fs
    case 0xCA451A4E:  // bcachefs
    case 0x2FC12FC1:  // zfs
    case 0x3153464A:  // jfs
    case 0x01021994:  // tmpfs
    case 0x858458F6:  // ramfs
    case 0x794C7630:  // overlayfs
    case 0x4D44:      // vfat
    case 0x2011BAB0:  // exfat
    case 0x7366746E:  // ntfs3
      return true;
    default: return false;
  }
#elif defined(TARGET_OS_IPHONE) && TARGET_OS_IPHONE
  // An app there has files of its own device alone. (Apple counts fstatfs() among the calls that need a
  // reason in an app's privacy manifest, and has no reason like this one.)
  (void)descriptor;
  return true;
#elif defined(MNT_LOCAL)
  struct statfs info = {};
  return ::fstatfs(descriptor, &info) == 0 && (info.f_flags & MNT_LOCAL) != 0;
#else
  (void)descriptor;
  return false;
#endif
}

// Whether `path` still is the name of this regular file.
bool is_named(const std::string& path, int descriptor) {
  struct stat open = {}, named = {};
  return ::fstat(descriptor, &open) == 0 && S_ISREG(open.st_mode) &&
         ::lstat(path.c_str(), &named) == 0 && open.st_dev == named.st_dev &&
         open.st_ino == named.st_ino;
}

bool lock(int descriptor) {
  int result = 0;
  do {
    result = ::flock(descriptor, LOCK_EX | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  return result == 0;
}

struct Closed {
  const int descriptor;
  ~Closed() { ::close(descriptor); }
};

// The lock is held from the look to the removal: nobody who keeps to it gives the name away meanwhile.
void remove_if_stale(const std::string& path, void (*also)(const std::string& path)) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
  if (descriptor < 0) return;
  const Closed closed{descriptor};
  if (!is_local(descriptor) || !lock(descriptor) || !is_named(path, descriptor)) return;
  if (also != nullptr) also(path);
  ::unlink(path.c_str());
}

#endif

}  // namespace

#ifdef _WIN32

int create_temporary(const std::string& target, const char* kind, TemporaryFile* file) {
  return create_private(target, kind, file);
}
void remove_stale(const std::string&, const char*, void (*)(const std::string&)) {}
bool can_tell_stale(const std::string&) { return false; }

#else

int create_temporary(const std::string& target, const char* kind, TemporaryFile* file) {
  for (int slot = 0; slot < kSlots; ++slot) {
    std::string path = slot_path(target, slot, kind);
    const int descriptor = open_new(path.c_str());
    if (descriptor < 0 && errno == EEXIST) continue;
    if (descriptor < 0) return errno;
    const bool local = is_local(descriptor);
    if (local && lock(descriptor) && is_named(path, descriptor)) {
      file->path = std::move(path);
      file->descriptor = descriptor;
      return 0;
    }
    // Between the two calls somebody took it for stale, and removes it; or nobody could tell.
    if (!local) ::unlink(path.c_str());
    ::close(descriptor);
    if (!local) break;
  }
  return create_private(target, kind, file);
}

void remove_stale(const std::string& target, const char* kind,
                  void (*also)(const std::string& path)) {
  for (int slot = 0; slot < kSlots; ++slot) remove_if_stale(slot_path(target, slot, kind), also);
}

bool can_tell_stale(const std::string& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return false;
  const bool local = is_local(descriptor);
  ::close(descriptor);
  return local;
}

#endif

}  // namespace moka
