// A model in words, for `moka inspect`. Works on every valid specification, also on those that this
// build cannot run. Pure functions.
#ifndef MOKA_PLATFORMS_CLI_DESCRIBE_H_
#define MOKA_PLATFORMS_CLI_DESCRIBE_H_

#include <string>
#include <vector>

#include "moka/tokenizer.h"
#include "runtime/model_spec.h"

namespace moka::cli {

// "tokens, vocabulary of 8,192", "images of 28 x 28, three 3x3 convolutions", ...
std::string input_words(const ModelSpec& spec);
std::string positions_words(const Positions& positions);
std::string norm_words(const Norm& norm);
// "macchiato, 6 heads, 384 latents, window of 128, rope theta 10,000"
std::string mixer_words(const Mixer& mixer);
// "gated silu, 384 to 1,024"
std::string feed_forward_words(const ModelSpec& spec, const FeedForward& feed_forward);
std::string head_words(const ModelSpec& spec);
std::string tokenizer_words(const TokenizerSpec& tokenizer);

// Runs of layers that are described alike: {first, last, words}.
struct BlockRun {
  size_t first = 0, last = 0;
  std::string mixer, feed_forward, norms;
};
std::vector<BlockRun> block_runs(const ModelSpec& spec, const std::vector<Block>& blocks);

// How a sequence is given to the model: "one step at a time; ...".
std::string reading_words(const ModelSpec& spec);
// Names of the classes, those that the file holds; padding id of a head that pools, -1 for none.
std::vector<std::string> labels_of(const ModelSpec& spec);
TokenId pad_id_of(const ModelSpec& spec);

// Numbers in all tensors, each counted once.
uint64_t count_parameters(const ModelSpec& spec);
// Bytes of all tensors and their scales.
uint64_t count_weight_bytes(const ModelSpec& spec);

}  // namespace moka::cli

#endif  // MOKA_PLATFORMS_CLI_DESCRIBE_H_
