#include "runtime/aligned_buffer.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace moka {
namespace {

enum class Choice { kOpen, kBeingMade, kDefault, kCustom };

std::atomic<Choice>& choice() {
  static std::atomic<Choice> value{Choice::kOpen};
  return value;
}

// Written while the choice is being made, by whoever makes it; read after it was made.
BufferAllocator& custom() {
  static BufferAllocator value;
  return value;
}

// Looking at the choice settles it.
Choice settled() noexcept {
  Choice now = choice().load(std::memory_order_acquire);
  while (now == Choice::kOpen || now == Choice::kBeingMade) {
    if (now == Choice::kOpen) {
      choice().compare_exchange_strong(now, Choice::kDefault, std::memory_order_acq_rel);
    } else {
      std::this_thread::yield();
    }
    now = choice().load(std::memory_order_acquire);
  }
  return now;
}

// The C library's zeros, because it alone knows which pages are fresh. What it gave stands in front of
// the aligned memory.
void* allocate_zeros(size_t bytes) noexcept {
  static_assert(kBufferAlignment >= sizeof(void*) + alignof(void*));
  if (bytes > SIZE_MAX - kBufferAlignment) return nullptr;
  void* block = std::calloc(1, bytes + kBufferAlignment);
  if (block == nullptr) return nullptr;
  const uintptr_t address = reinterpret_cast<uintptr_t>(block);
  char* memory = static_cast<char*>(block) + (kBufferAlignment - address % kBufferAlignment);
  std::memcpy(memory - sizeof(block), &block, sizeof(block));
  return memory;
}

void release_zeros(void* memory) noexcept {
  void* block;
  std::memcpy(&block, static_cast<char*>(memory) - sizeof(block), sizeof(block));
  std::free(block);
}

}  // namespace

Status set_buffer_allocator(const BufferAllocator& allocator) {
  if (allocator.allocate == nullptr || allocator.release == nullptr) {
    return Status(StatusCode::kInvalidArgument,
                  std::string("the allocator's ") +
                      (allocator.allocate == nullptr ? "allocate" : "release") +
                      " is null; it needs both functions");
  }
  Choice now = Choice::kOpen;
  if (!choice().compare_exchange_strong(now, Choice::kBeingMade, std::memory_order_acq_rel)) {
    return Status(StatusCode::kFailedPrecondition,
                  now == Choice::kDefault
                      ? "a model was opened already; an allocator has to be set before"
                      : "this process has an allocator already; it is set once");
  }
  custom() = allocator;
  choice().store(Choice::kCustom, std::memory_order_release);
  return Status();
}

void* allocate_buffer(size_t bytes) noexcept {
  if (settled() == Choice::kDefault) return allocate_zeros(bytes);
  const BufferAllocator& allocator = custom();
  void* memory = allocator.allocate(allocator.user, bytes, kBufferAlignment);
  if (memory == nullptr) return nullptr;
  if (reinterpret_cast<uintptr_t>(memory) % kBufferAlignment == 0) {
    return std::memset(memory, 0, bytes);
  }
  allocator.release(allocator.user, memory, bytes);
  return nullptr;
}

void release_buffer(void* memory, size_t bytes) noexcept {
  if (settled() == Choice::kDefault) {
    release_zeros(memory);
  } else {
    custom().release(custom().user, memory, bytes);
  }
}

}  // namespace moka
