// Evaluation of a language model on a text: one rule for `moka eval` and `moka convert --check`.
//
// The rule. The text is split at lines that are exactly "<|endoftext|>"; the newline after such a
// line belongs to the separator, the text before it keeps its own. Every document starts from an
// empty session: the tokenizer's bos (its eos where it has no bos) is read as context of the first
// token, then the whole document is streamed with carried state. Every token of the document is
// scored, and the final eos too if the separator line was there. Inside a document,
// "<|endoftext|>" is plain text.
//
//   bits per byte = total negative log-likelihood / ln 2 / bytes of document text
//   perplexity    = exp(negative log-likelihood per scored token)
//
// Separators are not counted as bytes. Log-softmax is computed in double. Memory is bounded by the
// longest document, never by the file.
#ifndef MOKA_CONVERTER_EVALUATE_H_
#define MOKA_CONVERTER_EVALUATE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "moka/model.h"
#include "moka/span.h"
#include "moka/status.h"

namespace moka {

// Bytes of the text file that are done, and of all of it. False ends the call with kCancelled.
using EvaluateProgress = std::function<bool(uint64_t done, uint64_t total)>;

struct Evaluation {
  uint64_t documents = 0;
  uint64_t text_bytes = 0;  // of documents
  uint64_t tokens = 0;      // scored
  double nll = 0;           // nats, total
  double bits_per_byte() const;
  double perplexity() const;
};

// Of `stored` against `reference`, both on the same tokens.
struct Comparison {
  Evaluation stored, reference;
  double kl_mean = 0;  // KL(reference || stored), nats per scored token
  double kl_max = 0;
  double argmax_agreement = 0;  // share of scored tokens whose most likely token is the same
};

// kNotFound, kIo: the text. kInvalidArgument: an empty text, text that the tokenizer cannot encode,
// a model that does not give logits per token. kFailedPrecondition: no tokenizer, or one without
// bos and eos. kOutOfRange: a document longer than the model's position limit, or than 1 GiB.
Result<Evaluation> evaluate_text(const Model& model, const std::string& text_path,
                                 const EvaluateProgress& progress = {});

// The same, for two models with the same vocabulary; the tokenizer is that of `reference`. With
// max_tokens, only so many tokens from the beginning of the text are scored; then `text_bytes`, and
// with it bits per byte, counts the documents that were begun.
Result<Comparison> compare_on_text(const Model& reference, const Model& stored,
                                   const std::string& text_path,
                                   const EvaluateProgress& progress = {}, uint64_t max_tokens = 0);

// -log softmax(logits)[target] in nats. `count` is at least 1, target below it.
double negative_log_likelihood(const float* logits, size_t count, size_t target);

// A text file split into documents by the rule above, one in memory at a time.
class DocumentReader {
 public:
  static Result<DocumentReader> open(const std::string& path);
  DocumentReader(DocumentReader&&) noexcept;
  DocumentReader& operator=(DocumentReader&&) noexcept;
  ~DocumentReader();

  struct Document {
    std::string text;
    bool ended = false;  // by a separator line
  };
  // False at the end of the file. An empty rest after the last separator is no document.
  Result<bool> next(Document* document);
  uint64_t bytes_read() const;
  uint64_t file_bytes() const;

 private:
  struct Impl;
  explicit DocumentReader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moka

#endif  // MOKA_CONVERTER_EVALUATE_H_
