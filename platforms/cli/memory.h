// Memory that a model needs, known from its header alone. Pure functions.
#ifndef MOKA_PLATFORMS_CLI_MEMORY_H_
#define MOKA_PLATFORMS_CLI_MEMORY_H_

#include <cstdint>

#include "moka/status.h"
#include "runtime/model_spec.h"

namespace moka::cli {

// All in bytes. The parts of the state add up to `state`, padding included.
struct MemoryNeed {
  uint64_t state = 0;    // of one session, exact
  uint64_t latents = 0;  // running maxima, normalisers and sums of latent attention
  uint64_t windows = 0;  // keys and values of the window
  uint64_t fronts = 0;   // recurrences in front of queries and keys
  uint64_t pooling = 0;  // the running mean of a head that pools
  // What each token adds: keys and values of softmax attention.
  uint64_t per_token = 0;
  // The model sees ahead, so there are no sessions; a sequence needs `per_step` for each step while
  // it is read.
  bool whole = false;
  uint64_t per_step = 0;
  // A session that was read into: state, last output, and what belongs to it. 0 where sessions grow
  // or there are none.
  uint64_t session = 0;
  // Weights as the kernels hold them, and tables that stay in the mapped file. Without the
  // padding of the packed form: a few parts in a thousand.
  uint64_t weights = 0;
};

// `spec` has passed check_spec and check_supported.
Result<MemoryNeed> memory_need(const ModelSpec& spec);

// What a process takes beside weights and sessions, and a session beside state and output: rounded up
// from what was measured.
constexpr uint64_t kWorkingBytes = uint64_t{16} << 20, kSessionBytes = 4096;

// Sessions that fit in so much memory, beside the weights and one executor. 0 for models whose
// sessions grow.
uint64_t sessions_within(const MemoryNeed& need, uint64_t bytes);

}  // namespace moka::cli

#endif  // MOKA_PLATFORMS_CLI_MEMORY_H_
