// Memory aligned to 64 bytes, with room after its end that vector code and XNNPACK may read.
#ifndef MOKA_RUNTIME_ALIGNED_BUFFER_H_
#define MOKA_RUNTIME_ALIGNED_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>

namespace moka {

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
  ~AlignedBuffer() { ::operator delete (data_, std::align_val_t{64}); }

  // All bytes zero. False when there is no memory; the buffer is then empty.
  [[nodiscard]] bool allocate(size_t count) {
    ::operator delete (data_, std::align_val_t{64});
    data_ = nullptr;
    size_ = 0;
    if (count > (SIZE_MAX - kTail) / sizeof(T)) return false;
    const size_t bytes = count * sizeof(T) + kTail;
    data_ = static_cast<T*>(::operator new (bytes, std::align_val_t{64}, std::nothrow));
    if (data_ == nullptr) return false;
    std::memset(static_cast<void*>(data_), 0, bytes);
    size_ = count;
    return true;
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return size_; }
  size_t bytes() const { return size_ * sizeof(T); }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace moka

#endif  // MOKA_RUNTIME_ALIGNED_BUFFER_H_
