// Whole sequences: the way to run any model, causal or not, on a sequence that is at hand.
//
// A model that looks ahead (bidirectional Latte, Linformer) needs this; a causal one gives here what
// a Session would. Each call starts from an empty memory and keeps nothing. Calls may come from any
// thread; those on one Executor wait for each other.
//
// Memory: one row of `width` floats per step for models that look ahead (a float32 each), and
// nothing that grows for causal ones.
#ifndef MOKA_READING_H_
#define MOKA_READING_H_

#include <atomic>
#include <functional>
#include <vector>

#include "moka/model.h"
#include "moka/session.h"
#include "moka/span.h"
#include "moka/status.h"

namespace moka {

// One sequence; which of the two a model reads is info().input. Tokens equal to info().pad_id are
// padding: they are not read, and pooling leaves them out.
struct SequenceInput {
  Span<const TokenId> tokens;
  Span<const float> values;  // [steps][info().features]

  SequenceInput() = default;
  SequenceInput(Span<const TokenId> t) : tokens(t) {}  // NOLINT(google-explicit-constructor)
  SequenceInput(Span<const float> v) : values(v) {}    // NOLINT(google-explicit-constructor)
  SequenceInput(const std::vector<TokenId>& t) : tokens(t) {}  // NOLINT: outlives the call
  SequenceInput(const std::vector<float>& v) : values(v) {}    // NOLINT
};

struct ReadOptions {
  const Executor* executor = nullptr;         // null: the model's default one
  SequenceInput memory;                       // for models that read a memory
  const std::atomic<bool>* cancel = nullptr;  // set by any thread: kCancelled soon after
  std::function<void(double)> progress;       // share of the work done, 0 to 1
};

// Reads a sequence and sends its output to `sink`: a row per step, in order, for language models,
// regression and headless models; one row for classifiers and embeddings (first 0, rows 1).
// kInvalidArgument: the model does not read this, an empty sequence, numbers that are not finite or
// not whole steps, a pair model. kOutOfRange: a token outside the vocabulary, a sequence longer than
// the model allows, an image of another size, nothing but padding.
Status read_sequence(const Model& model, const SequenceInput& input, const LogitsSink& sink,
                     const ReadOptions& options = {});

// Reads two sequences with a pair model and gives its one row: info().outputs floats.
Result<std::vector<float>> read_pair(const Model& model, const SequenceInput& first,
                                     const SequenceInput& second, const ReadOptions& options = {});

}  // namespace moka

#endif  // MOKA_READING_H_
