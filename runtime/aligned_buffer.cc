#include "runtime/aligned_buffer.h"

#include <atomic>
#include <new>
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
  if (settled() == Choice::kDefault) {
    return ::operator new (bytes, std::align_val_t{kBufferAlignment}, std::nothrow);
  }
  const BufferAllocator& allocator = custom();
  void* memory = allocator.allocate(allocator.user, bytes, kBufferAlignment);
  if (reinterpret_cast<uintptr_t>(memory) % kBufferAlignment == 0) return memory;
  allocator.release(allocator.user, memory, bytes);
  return nullptr;
}

void release_buffer(void* memory, size_t bytes) noexcept {
  if (settled() == Choice::kDefault) {
    ::operator delete (memory, std::align_val_t{kBufferAlignment});
  } else {
    custom().release(custom().user, memory, bytes);
  }
}

}  // namespace moka
