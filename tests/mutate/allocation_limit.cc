#include "tests/mutate/allocation_limit.h"

#include <atomic>
#include <cstdlib>
#include <new>

#include "runtime/aligned_buffer.h"

namespace {

std::atomic<size_t> g_limit{SIZE_MAX}, g_largest{0};
std::atomic<uint64_t> g_above{0};

void* allocate(size_t size, size_t alignment) noexcept {
  if (size > g_limit.load(std::memory_order_relaxed)) g_above.fetch_add(1);
  size_t largest = g_largest.load(std::memory_order_relaxed);
  while (size > largest && !g_largest.compare_exchange_weak(largest, size)) {
  }
  if (size == 0) size = 1;
  if (alignment <= alignof(std::max_align_t)) return std::malloc(size);
  if (size > SIZE_MAX - alignment) return nullptr;
  return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

void* or_throw(void* block) {
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

constexpr size_t kPlain = alignof(std::max_align_t);

}  // namespace

void* operator new(size_t size) { return or_throw(allocate(size, kPlain)); }
void* operator new[](size_t size) { return or_throw(allocate(size, kPlain)); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return allocate(size, kPlain); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return allocate(size, kPlain); }
void* operator new(size_t size, std::align_val_t alignment) {
  return or_throw(allocate(size, static_cast<size_t>(alignment)));
}
void* operator new(size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return allocate(size, static_cast<size_t>(alignment));
}
void operator delete(void* block) noexcept { std::free(block); }
void operator delete[](void* block) noexcept { std::free(block); }
void operator delete(void* block, size_t) noexcept { std::free(block); }
void operator delete[](void* block, size_t) noexcept { std::free(block); }
void operator delete(void* block, std::align_val_t) noexcept { std::free(block); }
void operator delete(void* block, size_t, std::align_val_t) noexcept { std::free(block); }

namespace moka::mutate {

void set_allocation_limit(size_t bytes) {
  // Buffers take the C library's zeros otherwise, past operator new.
  static const moka::Status set = moka::set_buffer_allocator(
      {[](void*, size_t size, size_t alignment) { return allocate(size, alignment); },
       [](void*, void* block, size_t) { std::free(block); }, nullptr});
  if (!set.ok()) std::abort();  // no buffer was made before
  g_limit.store(bytes);
  g_largest.store(0);
  g_above.store(0);
}
uint64_t allocations_above_limit() { return g_above.load(); }
size_t largest_allocation() { return g_largest.load(); }

}  // namespace moka::mutate
