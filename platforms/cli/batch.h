// Sequences from a NumPy file: which of its dimensions is the batch, which the sequence.
//
// With T steps: token ids are (T) or (B, T); pixels (T), (B, T), (B, T, 1) or (B, H, W); values
// (T, F) or (B, T, F), and for one number per step (T) or (B, T) too. Models that compare two
// sequences take (2, ...) or (B, 2, ...) of these.
#ifndef MOKA_PLATFORMS_CLI_BATCH_H_
#define MOKA_PLATFORMS_CLI_BATCH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "converter/npy.h"
#include "moka/moka.h"
#include "moka/reading.h"

namespace moka::cli {

struct Batch {
  std::vector<TokenId> ids;   // sequence after sequence; those of models that read tokens
  std::vector<float> values;  // the others'
  size_t sequences = 0;       // twice the number of pairs
  size_t steps = 0;           // of each
  bool batched = false;       // there was a first dimension B

  SequenceInput sequence(size_t index) const;
};

// kInvalidArgument: a shape or type that the model does not read. kOutOfRange: an id outside of the
// vocabulary, naming its place; a sequence longer than the model reads. `name` begins messages.
Result<Batch> batch_of(const NpyArray& array, const ModelInfo& info, const std::string& name);

// "token ids", "4 numbers per step", "images of 32 x 32"
std::string reads_words(const ModelInfo& info);

}  // namespace moka::cli

#endif  // MOKA_PLATFORMS_CLI_BATCH_H_
