// Profiler: records where the time of a Forward goes. Nothing is measured without one: each place that
// could record costs a branch on a null pointer.
//
//   const ProfileScope scope(profiler_, "norm", block, rows);    // an operator, on the caller's thread
//   const ProfilePart part(profiler_, "mixer.latent", block, rows, thread);   // a piece, on any thread
//
// Each thread of the pool writes to a row of spans of its own, so recording takes no lock. Memory is
// bounded: spans for which a row has no room are counted instead.
#ifndef MOKA_RUNTIME_PROFILE_H_
#define MOKA_RUNTIME_PROFILE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "moka/profile.h"
#include "moka/status.h"

namespace moka {

class Profiler {
 public:
  // Bounds of a row, in spans.
  static constexpr size_t kMaxSpans = size_t{1} << 24;

  // Room for `spans` spans of each of `threads` threads; threads >= 1. kInvalidArgument unless spans
  // is 1 to kMaxSpans; kOutOfMemory names the size.
  static Result<std::unique_ptr<Profiler>> create(size_t threads, size_t spans);

  size_t threads() const { return rows_.size(); }

  // Nanoseconds of std::chrono::steady_clock.
  static uint64_t now();

  // Records a span on row span.thread, below threads(), to which no other thread writes at the same
  // time. Allocates nothing.
  void add(const ProfileSpan& span);

  // Hands over what was recorded and starts again. Not while something records.
  Profile take();

 private:
  struct Row {
    std::vector<ProfileSpan> spans;  // reserved; never grows beyond its capacity
    uint64_t dropped = 0;
    char padding[64] = {};  // rows of two threads share no cache line
  };
  explicit Profiler(size_t threads) : rows_(threads) {}
  std::vector<Row> rows_;
  size_t capacity_ = 0;
};

// From here to the end of the block.
class ProfileScope {
 public:
  ProfileScope(Profiler* profiler, const char* name, int block = -1, size_t rows = 0)
      : ProfileScope(profiler, name, block, rows, 0, false) {}
  ~ProfileScope() {
    if (profiler_ != nullptr) finish();
  }
  ProfileScope(const ProfileScope&) = delete;
  ProfileScope& operator=(const ProfileScope&) = delete;

 protected:
  ProfileScope(Profiler* profiler, const char* name, int block, size_t rows, size_t thread,
               bool part)
      : profiler_(profiler) {
    if (profiler == nullptr) return;
    span_.name = name;
    span_.block = block;
    span_.thread = static_cast<uint32_t>(thread);
    span_.rows = static_cast<uint32_t>(rows);
    span_.part = part;
    span_.start = Profiler::now();
  }

 private:
  void finish();
  Profiler* profiler_;
  ProfileSpan span_;
};

// The same for a piece of an operator, on the thread of the pool that runs it.
class ProfilePart : public ProfileScope {
 public:
  ProfilePart(Profiler* profiler, const char* name, int block, size_t rows, size_t thread)
      : ProfileScope(profiler, name, block, rows, thread, true) {}
};

}  // namespace moka

#endif  // MOKA_RUNTIME_PROFILE_H_
