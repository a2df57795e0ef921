// plan_mixer.cc, as plan.cc sees it.
#ifndef MOKA_RUNTIME_PLAN_MIXER_H_
#define MOKA_RUNTIME_PLAN_MIXER_H_

#include "runtime/plan.h"

namespace moka {

// The numbers of a float32 tensor; null for an absent one.
inline const float* floats(const ModelSpec& spec, TensorIndex index) {
  const Tensor* tensor = spec.tensor(index);
  return tensor == nullptr ? nullptr : static_cast<const float*>(tensor->data);
}

// Adds the mixer's products to `weights`, and to `plan` its rotations and what it keeps in a
// session. The spec has passed check_spec and check_supported.
MixerPlan plan_mixer(const ModelSpec& spec, const Mixer& mixer, PackedWeights& weights, Plan* plan);

}  // namespace moka

#endif  // MOKA_RUNTIME_PLAN_MIXER_H_
