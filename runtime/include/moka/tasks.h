// What models are used for, one function each: classify, compare, embed, score, forecast.
//
// Thin layers over reading.h and sessions: inputs and errors are those of read_sequence, and a model
// with another head is kInvalidArgument, naming what it has and what the task needs.
#ifndef MOKA_TASKS_H_
#define MOKA_TASKS_H_

#include <cstddef>
#include <string>
#include <vector>

#include "moka/model.h"
#include "moka/reading.h"
#include "moka/span.h"
#include "moka/status.h"

namespace moka {

struct Classification {
  std::vector<float> logits;         // one per class
  std::vector<float> probabilities;  // softmax of the logits
  size_t best = 0;                   // class with the largest logit, the first of equal ones
};

// Names of the classes of a classifier or pair model; "0", "1", ... when the file holds none.
// Empty for other models.
std::vector<std::string> class_names(const Model& model);

// The classes for a row of output that is at hand, such as Session::logits() in a stream; `logits`
// is not empty.
Classification classification_of(Span<const float> logits);

// Needs a classifier.
Result<Classification> classify(const Model& model, const SequenceInput& input,
                                const ReadOptions& options = {});

// Needs a pair model.
Result<Classification> compare(const Model& model, const SequenceInput& first,
                               const SequenceInput& second, const ReadOptions& options = {});

// The vector of a sequence: info().outputs floats. Needs an embedding head.
Result<std::vector<float>> embed(const Model& model, const SequenceInput& input,
                                 const ReadOptions& options = {});
// Cosine of the angle between two vectors of equal size; 0 when one of them is zero.
double cosine_similarity(Span<const float> a, Span<const float> b);

struct Score {
  double log_likelihood = 0;            // natural logarithm, of all scored tokens together
  std::vector<double> log_likelihoods;  // of each scored token
  std::vector<TokenId> most_likely;     // the token that the model put first, in each place
};

// How likely a language model finds tokens[first ...), each given all before it; first >= 1.
// kOutOfRange when nothing is left to score.
Result<Score> score(const Model& model, Span<const TokenId> tokens, size_t first,
                    const ReadOptions& options = {});

struct Forecast {
  size_t steps = 0;              // the horizon
  size_t outputs = 0;            // numbers per step
  std::vector<float> quantiles;  // rising; empty: one number, the mean
  std::vector<float> values;     // [steps][outputs][quantiles, or 1], in the units of the data
  size_t middle = 0;             // of the quantiles: the median, or the middle one
};

// The `horizon` steps after `history`, [steps][info().features]. Needs a regression head. A head
// that tells fewer steps than the horizon gets its own medians (the middle quantile, or the mean) as
// input for the rest, which narrows the band of quantiles there; that needs as many outputs as
// features, else kOutOfRange.
Result<Forecast> forecast(const Model& model, Span<const float> history, size_t horizon,
                          const ReadOptions& options = {});

}  // namespace moka

#endif  // MOKA_TASKS_H_
