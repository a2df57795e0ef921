// SoftmaxCache: keys and values of every token that a session has read, for the layers of full softmax
// attention. The one part of a session that grows; sessions of other models never allocate it.
//
// Layout for a capacity of C tokens (a multiple of kRowPad), per layer: keys [H][Dh][C], values
// [H][C][Dh padded], which is the ring of a window that never wraps; floats, or halves with
// MixerPlan::half_window.
#ifndef MOKA_RUNTIME_SOFTMAX_CACHE_H_
#define MOKA_RUNTIME_SOFTMAX_CACHE_H_

#include <cstddef>
#include <cstdint>

#include "moka/status.h"
#include "runtime/aligned_buffer.h"
#include "runtime/plan.h"

namespace moka {

class SoftmaxCache {
 public:
  // Makes room for `tokens`, keeping those of the first `used`. Grows by at least a half, so that
  // appending costs a constant time per token on average. kOutOfMemory leaves it as it was.
  Status reserve(const Plan& plan, uint64_t tokens, uint64_t used);

  // Becomes a copy of the first `used` tokens of another cache.
  Status copy(const Plan& plan, const SoftmaxCache& other, uint64_t used);

  size_t capacity() const { return capacity_; }
  void* keys(const MixerPlan& mixer) { return floats_.data() + keys_at(mixer); }
  void* values(const MixerPlan& mixer) { return floats_.data() + values_at(mixer); }
  size_t bytes() const { return floats_.bytes(); }

 private:
  size_t keys_at(const MixerPlan& mixer) const { return mixer.state.cache * capacity_; }
  size_t values_at(const MixerPlan& mixer) const {
    return keys_at(mixer) + window_floats(mixer, mixer.heads * mixer.dh * capacity_);
  }

  void take(const Plan& plan, const SoftmaxCache& other, size_t count);

  size_t capacity_ = 0;
  AlignedBuffer<float> floats_;
};

}  // namespace moka

#endif  // MOKA_RUNTIME_SOFTMAX_CACHE_H_
