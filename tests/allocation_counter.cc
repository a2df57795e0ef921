#include "tests/allocation_counter.h"

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MOKA_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define MOKA_SANITIZED 1
#endif
#endif

#if defined(__GLIBC__) && !defined(MOKA_SANITIZED)

namespace {

std::atomic<uint64_t> g_allocations{0}, g_failed{0};
std::atomic<int64_t> g_live{0};
// Allocations left until one fails; negative: none will.
std::atomic<int64_t> g_until_failure{-1};
std::atomic<bool> g_all_after{false};

// Whether this allocation is one that must fail.
bool fails() {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  if (g_until_failure.load(std::memory_order_relaxed) < 0) return false;
  const int64_t left = g_until_failure.fetch_sub(1, std::memory_order_relaxed) - 1;
  if (left > 0) return false;
  if (g_all_after.load(std::memory_order_relaxed)) {
    g_until_failure.store(1, std::memory_order_relaxed);
  } else if (left < 0) {
    return false;
  }
  g_failed.fetch_add(1, std::memory_order_relaxed);
  errno = ENOMEM;
  return true;
}

void* counted(void* block) {
  if (block != nullptr) g_live.fetch_add(1, std::memory_order_relaxed);
  return block;
}

}  // namespace

// operator new calls malloc, so replacing the C functions counts both.
extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* block, size_t size);
void* __libc_memalign(size_t alignment, size_t size);
void __libc_free(void* block);

void* malloc(size_t size) { return fails() ? nullptr : counted(__libc_malloc(size)); }
void* calloc(size_t count, size_t size) {
  return fails() ? nullptr : counted(__libc_calloc(count, size));
}
void* realloc(void* block, size_t size) {
  if (fails()) return nullptr;
  void* moved = __libc_realloc(block, size);
  if (block == nullptr) return counted(moved);
  if (moved == nullptr && size == 0) g_live.fetch_sub(1, std::memory_order_relaxed);
  return moved;
}
void* memalign(size_t alignment, size_t size) {
  return fails() ? nullptr : counted(__libc_memalign(alignment, size));
}
void free(void* block) {
  if (block != nullptr) g_live.fetch_sub(1, std::memory_order_relaxed);
  __libc_free(block);
}
void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
int posix_memalign(void** block, size_t alignment, size_t size) {
  *block = memalign(alignment, size);
  return *block == nullptr ? ENOMEM : 0;
}
}

namespace moka::test {
bool counts_allocations() { return true; }
uint64_t allocations() { return g_allocations.load(std::memory_order_relaxed); }
int64_t live_allocations() { return g_live.load(std::memory_order_relaxed); }
void fail_allocations(uint64_t nth, bool all_after) {
  g_failed.store(0);
  g_all_after.store(all_after);
  g_until_failure.store(static_cast<int64_t>(nth));
}
uint64_t stop_failing() {
  g_until_failure.store(-1);
  return g_failed.load();
}
}  // namespace moka::test

#else

namespace moka::test {
bool counts_allocations() { return false; }
uint64_t allocations() { return 0; }
int64_t live_allocations() { return 0; }
void fail_allocations(uint64_t, bool) {}
uint64_t stop_failing() { return 0; }
}  // namespace moka::test

#endif
