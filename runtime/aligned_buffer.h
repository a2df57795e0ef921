// Memory aligned to 64 bytes, with room after its end that vector code and XNNPACK may read.
#ifndef MOKA_RUNTIME_ALIGNED_BUFFER_H_
#define MOKA_RUNTIME_ALIGNED_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "moka/status.h"

namespace moka {

// Where the memory of all buffers comes from: packed weights, states of sessions, scratch. `allocate`
// gives `size` bytes, or null; `release` takes them back. Any thread.
struct BufferAllocator {
  void* (*allocate)(void* user, size_t size, size_t alignment) = nullptr;
  void (*release)(void* user, void* memory, size_t size) = nullptr;
  void* user = nullptr;
};

// For the process, once, before the first buffer is made: kFailedPrecondition afterwards, because
// memory has to go back to where it came from. The only setting that the runtime has outside of its
// objects, and it cannot change once it is looked at.
Status set_buffer_allocator(const BufferAllocator& allocator);

constexpr size_t kBufferAlignment = 64;
// All bytes zero. Large ones are pages that the system has yet to give: what is never touched costs
// no memory, and no time. Null when there is no memory; what an allocator gives without that
// alignment counts as none.
void* allocate_buffer(size_t bytes) noexcept;
void release_buffer(void* memory, size_t bytes) noexcept;

template <class T>
class AlignedBuffer {
 public:
  static constexpr size_t kTail = 128;  // readable bytes after the last element

  AlignedBuffer() = default;
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~AlignedBuffer() { release(); }

  // All bytes zero. False when there is no memory; the buffer is then empty.
  [[nodiscard]] bool allocate(size_t count) {
    release();
    if (count > (SIZE_MAX - kTail) / sizeof(T)) return false;
    const size_t bytes = count * sizeof(T) + kTail;
    data_ = static_cast<T*>(allocate_buffer(bytes));
    if (data_ == nullptr) return false;
    size_ = count;
    return true;
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return size_; }
  size_t bytes() const { return size_ * sizeof(T); }

 private:
  void release() {
    if (data_ != nullptr) release_buffer(data_, size_ * sizeof(T) + kTail);
    data_ = nullptr;
    size_ = 0;
  }

  T* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace moka

#endif  // MOKA_RUNTIME_ALIGNED_BUFFER_H_
