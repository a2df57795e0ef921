#include "runtime/softmax_cache.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "runtime/kernels/kernels.h"

namespace moka {

Status SoftmaxCache::reserve(const Plan& plan, uint64_t tokens, uint64_t used) {
  if (plan.cache_floats == 0 || tokens <= capacity_) return Status();
  constexpr size_t kFirst = 256;
  const uint64_t wanted = std::max<uint64_t>({tokens, capacity_ + capacity_ / 2, kFirst});
  SoftmaxCache larger;
  const bool fits = wanted < SIZE_MAX / plan.cache_floats - kRowPad;
  if (fits) larger.capacity_ = pad_row(static_cast<size_t>(wanted));
  if (!fits || !larger.floats_.allocate(plan.cache_floats * larger.capacity_)) {
    return Status(StatusCode::kOutOfMemory,
                  "no memory for the keys and values of " + std::to_string(wanted) +
                      " tokens: softmax attention keeps " +
                      std::to_string(plan.cache_floats * sizeof(float)) + " bytes of each token");
  }
  larger.take(plan, *this, static_cast<size_t>(used));
  std::swap(capacity_, larger.capacity_);
  std::swap(floats_, larger.floats_);
  return Status();
}

Status SoftmaxCache::copy(const Plan& plan, const SoftmaxCache& other, uint64_t used) {
  if (plan.cache_floats == 0) return Status();
  MOKA_RETURN_IF_ERROR(reserve(plan, used, 0));
  take(plan, other, static_cast<size_t>(used));
  return Status();
}

void SoftmaxCache::take(const Plan& plan, const SoftmaxCache& other, size_t count) {
  if (count == 0) return;
  for (const BlockPlan& block : plan.blocks) {
    const MixerPlan& mixer = block.mixer;
    if (!mixer.growing) continue;
    const size_t element = mixer.half_window ? sizeof(uint16_t) : sizeof(float);
    const auto copy_rows = [element](const float* from, size_t from_stride, float* to,
                                     size_t to_stride, size_t rows, size_t n) {
      const char* source = reinterpret_cast<const char*>(from);
      char* target = reinterpret_cast<char*>(to);
      for (size_t row = 0; row < rows; ++row) {
        std::memcpy(target + row * to_stride * element, source + row * from_stride * element,
                    n * element);
      }
    };
    copy_rows(other.floats_.data() + other.keys_at(mixer), other.capacity_,
              floats_.data() + keys_at(mixer), capacity_, mixer.heads * mixer.dh, count);
    const size_t width = mixer.dh_pad;
    copy_rows(other.floats_.data() + other.values_at(mixer), other.capacity_ * width,
              floats_.data() + values_at(mixer), capacity_ * width, mixer.heads, count * width);
  }
}

}  // namespace moka
