// The archive of latent sums: what keeps a float32 state right beyond 2^24 tokens.
//
// A float32 sum of ones stops growing at 2^24; long before that, small terms lose their digits. So
// tokens are summed in two levels: into the recent sums m, Z, S, and every kArchiveTokens tokens these
// join the archive and start again from zero. The archive holds its own maximum, Z with the rounding
// error of Z, and the weighted mean S / Z of the values, which new tokens move by ever smaller parts
// and which does not drift while they stay the same; it would stop moving after 2^34 tokens. Reading
// adds both (kernels: LatentArgs::archive_*); a sequence that is shorter than kArchiveTokens has no
// archive and pays nothing. Spec: finite precision, 16.2.
#ifndef MOKA_RUNTIME_LATENTS_H_
#define MOKA_RUNTIME_LATENTS_H_

#include <cstddef>
#include <cstdint>

#include "runtime/kernels/kernels.h"
#include "runtime/plan.h"

namespace moka {

// Points a kernel's arguments at a head's latents in a session state that has seen `position` tokens.
void set_latents(const MixerPlan& mixer, float* state, uint64_t position, size_t head,
                 LatentArgs* args);

// To be called after the tokens [before, after) were read, for all heads before the next ones are:
// those from `first` on, or all.
void archive_latents(const MixerPlan& mixer, float* state, uint64_t before, uint64_t after,
                     size_t first, size_t count);
void archive_latents(const MixerPlan& mixer, float* state, uint64_t before, uint64_t after);

}  // namespace moka

#endif  // MOKA_RUNTIME_LATENTS_H_
