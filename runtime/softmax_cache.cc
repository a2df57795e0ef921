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
    const float* from = other.floats_.data() + other.keys_at(mixer);
    for (size_t row = 0; row < mixer.heads * mixer.dh; ++row) {
      std::memcpy(keys(mixer) + row * capacity_, from + row * other.capacity_,
                  count * sizeof(float));
    }
    from = other.floats_.data() + other.values_at(mixer);
    for (size_t head = 0; head < mixer.heads; ++head) {
      std::memcpy(values(mixer) + head * capacity_ * mixer.dh_pad,
                  from + head * other.capacity_ * mixer.dh_pad,
                  count * mixer.dh_pad * sizeof(float));
    }
  }
}

}  // namespace moka
