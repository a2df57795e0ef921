// Which matrices can be int4 and which must stay int8, so that a language model loses no more than a
// stated divergence from float32: measured, not guessed.
//
// The candidates are groups of matrices, those of a layer that read the same input together (they run
// as one product) and table and head alone. How much each one costs is measured on the beginning of
// the text with that group alone at int4. Divergences of groups add up nearly, so groups go to
// int8 in the order of divergence saved per byte spent, until the model as a whole holds the limit,
// first on that beginning, then on the whole text.
#ifndef MOKA_CONVERTER_AUTO_WEIGHTS_H_
#define MOKA_CONVERTER_AUTO_WEIGHTS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "converter/evaluate.h"
#include "moka/model.h"
#include "moka/status.h"
#include "runtime/model_spec.h"

namespace moka {

// Matrices that are widened together.
struct WeightGroup {
  std::string name;                  // "blocks.3 mixer in", "embed.weight"
  std::vector<std::string> tensors;  // their names
  uint64_t bytes = 0;                // that int8 takes more than int4
  double kl = 0;  // KL(float32 || stored) that this group alone costs at int4, nats per token
};

struct AutoWeights {
  std::set<std::string> wide;     // tensors to store as int8; all other candidates are int4
  std::vector<WeightGroup> kept;  // the groups among them, the most worth its bytes first
  size_t groups = 0;              // candidates in all
  Comparison comparison;          // of the chosen model with float32, on the whole text
};

// Both specs describe the same model, `narrow` with every candidate as int4 and `wide` with all of
// them as int8, and their tensors have data. `reference` is that model in float32, with tokenizer.
struct AutoWeightsInput {
  const Model& reference;
  const ModelSpec& narrow;
  const ModelSpec& wide;
  OpenOptions open;        // how the trials run
  std::string text;        // a file, as compare_on_text reads it
  std::string text_words;  // what messages call it
  double max_kl = 0;       // nats per token
};

// Told what is being done: "trying int4" and "choosing" count models, "measuring" bytes of the text.
// A failure ends the search with it.
using AutoWeightsProgress = std::function<Status(const char* stage, uint64_t done, uint64_t total)>;

// The text's first tokens, on which single groups are measured.
constexpr uint64_t kProbeTokens = 2048;
// Of a model with more groups, those of neighbouring layers are joined.
constexpr size_t kMaxWeightGroups = 64;

// kOutOfRange: int8 throughout exceeds max_kl too; the message has the value. Otherwise errors of
// compare_on_text and Model::from_spec. The same input gives the same choice.
Result<AutoWeights> choose_weights(const AutoWeightsInput& input,
                                   const AutoWeightsProgress& progress);

// The candidates: tensors that differ in type, by layer and place. At most `limit` groups, in the
// order of the spec.
std::vector<WeightGroup> weight_groups(const ModelSpec& narrow, const ModelSpec& wide,
                                       size_t limit = kMaxWeightGroups);

// `narrow` with the tensors of `names` as they are in `wide`.
ModelSpec mixed_spec(const ModelSpec& narrow, const ModelSpec& wide,
                     const std::set<std::string>& names);

}  // namespace moka

#endif  // MOKA_CONVERTER_AUTO_WEIGHTS_H_
