// The state of a session: one flat array of floats whose size the model fixes, whatever the number
// of tokens read. Keys and values of MixerPlan::half_window are IEEE half floats, two in a float's
// place.
//
// Per layer, at the offsets of MixerPlan::state (every array starts on a 64-byte boundary):
//   latents  maximum [L], norm [L], sum [H][Lh][Dh padded]      running softmax over all past tokens
//            of the archive: maximum, norm, carry [L], mean [H][Lh][Dh padded], see latents.h
//   window   keys [H][Dh][capacity padded], values [H][capacity][Dh padded]     ring of past tokens
//   front    conv [K-1][D] last inputs, oldest first; hidden [D] of the RG-LRU
// and of a pooled head: the sum of all rows [D] and its rounding error [D], or the first row [D].
// Layers that read a memory count its steps, the others those of the session. Models with softmax
// attention keep a SoftmaxCache beside the state, the only thing that grows.
//
// I1  maximum is finite; it is the lowest float where nothing was read yet. That of the archive is at
//     most the recent one.
// I2  norm >= 0; after the first token the norms of both together, each times the exponential of its
//     maximum less the larger one, are >= 1, because the largest key adds exp(0).
// I3  pad columns of sum and values are 0.
// I4  slot i % capacity of the ring holds the token at position i, as float or as half; slots never
//     written are 0.
// Every number is finite, halves too.
//
// The serialised form has no padding and does not depend on the instruction set.
#ifndef MOKA_RUNTIME_STATE_H_
#define MOKA_RUNTIME_STATE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "moka/span.h"
#include "moka/status.h"
#include "runtime/plan.h"
#include "runtime/softmax_cache.h"

namespace moka {

// The empty state, valid as it is: no first token needs a special case.
void reset_state(const Plan& plan, float* state);
// The same of memory that is all zero: touches little of it, so that what a session does not use yet
// need not be there (aligned_buffer.h).
void begin_state(const Plan& plan, float* state);

// Makes `to`, an empty state, a copy of `from` after `position` steps, and touches only what they
// used. (Of another state all of it is copied.)
void copy_to_empty_state(const Plan& plan, const float* from, uint64_t position, float* to);

// Bytes of memory of one layer's state, padding included.
struct LayerStateBytes {
  uint64_t latents = 0, window = 0, front = 0;
};
LayerStateBytes layer_state_bytes(const MixerPlan& mixer, size_t width);

// What save_state writes about the session beside the state.
struct SessionRecord {
  uint64_t fingerprint = 0;  // of the model
  uint64_t position = 0;
  uint64_t memory = 0;                             // steps read of the memory
  std::vector<float> logits;                       // of the last token; empty at position 0
  std::optional<uint64_t> expected_position = {};  // of what is restored; nothing: any
};

// Little-endian: "MOKASTAT", version, counts, fingerprint, positions, the logits, the state layer by
// layer (floats in 4 bytes, halves in 2), XXH3-64 of it all.
// `cache` may be null for plans without one.
std::vector<uint8_t> save_state(const Plan& plan, const float* state, const SoftmaxCache* cache,
                                const SessionRecord& record);

// Fills `state` (all of it), `cache` and `record` only when everything is right. kCorrupt for damaged bytes,
// kVersion for another version, kFailedPrecondition for another model (on entry, record->fingerprint is
// the expected one and expected_position, if there is one, the position that it must have).
Status restore_state(const Plan& plan, Span<const uint8_t> bytes, float* state, SoftmaxCache* cache,
                     SessionRecord* record);

}  // namespace moka

#endif  // MOKA_RUNTIME_STATE_H_
