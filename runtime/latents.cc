#include "runtime/latents.h"

#include <cmath>

namespace moka {

void set_latents(const MixerPlan& mixer, float* state, uint64_t position, size_t head,
                 LatentArgs* args) {
  const MixerState& at = mixer.state;
  const size_t scalars = head * mixer.lh, sums = head * mixer.lh * mixer.dh_pad;
  args->lh = mixer.lh;
  args->dh_pad = mixer.dh_pad;
  args->m = state + at.maximum + scalars;
  args->z = state + at.norm + scalars;
  args->s = state + at.sum + sums;
  if (position < kArchiveTokens) return;
  args->archive_m = state + at.archive_maximum + scalars;
  args->archive_z = state + at.archive_norm + scalars;
  args->archive_mean = state + at.archive_mean + sums;
}

void archive_latents(const MixerPlan& mixer, float* state, uint64_t before, uint64_t after) {
  archive_latents(mixer, state, before, after, 0, mixer.heads);
}

void archive_latents(const MixerPlan& mixer, float* state, uint64_t before, uint64_t after,
                     size_t first, size_t count) {
  if (!mixer.latent || before / kArchiveTokens == after / kArchiveTokens) return;
  const MixerState& at = mixer.state;
  const size_t dp = mixer.dh_pad;
  for (size_t l = first * mixer.lh; l < (first + count) * mixer.lh; ++l) {
    const double maximum = static_cast<double>(state[at.maximum + l]);
    float* norm = state + at.norm + l;
    float* older_norm = state + at.archive_norm + l;
    float* carry = state + at.archive_carry + l;
    float* sum = state + at.sum + l * dp;
    float* mean = state + at.archive_mean + l * dp;
    // 0 as long as the archive is empty: its maximum is then the lowest float.
    const double factor = std::exp(static_cast<double>(state[at.archive_maximum + l]) - maximum);
    const double archived = static_cast<double>(*older_norm) + static_cast<double>(*carry);
    const double total = factor * archived + static_cast<double>(*norm);
    // Nothing came since, or all of it too small to count: the mean stays.
    if (*norm > 0.0f) {
      const double unit = 1.0 / static_cast<double>(*norm);
      const double share = static_cast<double>(*norm) / total;
      for (size_t d = 0; d < dp; ++d) {
        const double old = static_cast<double>(mean[d]);
        mean[d] = static_cast<float>(old + share * (static_cast<double>(sum[d]) * unit - old));
        sum[d] = 0.0f;
      }
    }
    *older_norm = static_cast<float>(total);
    *carry = static_cast<float>(total - static_cast<double>(*older_norm));
    *norm = 0.0f;
    state[at.archive_maximum + l] = state[at.maximum + l];
  }
}

}  // namespace moka
