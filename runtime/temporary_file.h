// Files on their way to a name: "TARGET.moka-<slot>.<kind>" beside it, slot 0 to 7.
//
// Whoever makes one holds a lock on it (flock) until it is renamed or removed. The system lets the lock
// go when the process ends, however it ends, so a file of such a name whose lock is free belongs to
// nobody, and remove_stale() removes it. Where that cannot be told for sure nothing is removed: on
// Windows, on file systems of a network or unknown kinds, where a lock may hold for one machine only.
// There, and where all slots are taken, the name is "TARGET.moka-<process>-<number>.<kind>", which
// nobody but its maker removes.
#ifndef MOKA_RUNTIME_TEMPORARY_FILE_H_
#define MOKA_RUNTIME_TEMPORARY_FILE_H_

#include <string>

namespace moka {

struct TemporaryFile {
  std::string path;
  int descriptor = -1;  // for reading and writing; holds the lock
};

// Makes a new, empty file. 0, or the system's error number; then there is none.
int create_temporary(const std::string& target, const char* kind, TemporaryFile* file);

// Removes what dead processes left for this target. `also`, if not null, is called first with the path
// of each, while its lock is held.
void remove_stale(const std::string& target, const char* kind,
                  void (*also)(const std::string& path) = nullptr);

// Whether locks in this folder, which must exist, say what is stale.
bool can_tell_stale(const std::string& folder);

}  // namespace moka

#endif  // MOKA_RUNTIME_TEMPORARY_FILE_H_
