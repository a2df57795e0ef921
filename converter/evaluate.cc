#include "converter/evaluate.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "moka/session.h"
#include "moka/tokenizer.h"

namespace moka {
namespace {

// Rows of logits held at once when two models are compared.
constexpr size_t kMaxHeldBytes = size_t{16} << 20;
constexpr size_t kMaxHeldRows = 256;

struct Row {
  double maximum = 0;
  size_t argmax = 0;  // the lowest index wins a tie
};

Row find_maximum(const float* logits, size_t count) {
  Row row{logits[0], 0};
  for (size_t i = 1; i < count; ++i) {
    if (logits[i] > row.maximum) row = {logits[i], i};
  }
  return row;
}

// What a document becomes: the token that is the first one's context, then all that are scored.
struct Sequence {
  std::vector<TokenId> ids;
  size_t scored() const { return ids.empty() ? 0 : ids.size() - 1; }
};

// Walks the documents of a text; the callers differ in what they do with a sequence.
class TextWalk {
 public:
  TextWalk(const Model& model, const std::string& path, const EvaluateProgress& progress)
      : model_(model), path_(path), progress_(progress) {}

  // Checks what holds for the whole text and opens it.
  Status open() {
    if (model_.info().vocab_size == 0 || model_.info().outputs != model_.info().vocab_size) {
      return Status(StatusCode::kInvalidArgument,
                    "the model gives no scores of next tokens, so it cannot be measured on a text");
    }
    if (!model_.has_tokenizer()) {
      return Status(StatusCode::kFailedPrecondition,
                    "the model has no tokenizer, so it cannot be measured on a text");
    }
    const Tokenizer& tokenizer = model_.tokenizer();
    eos_ = tokenizer.eos_id();
    context_ = tokenizer.begin_id();
    if (context_ < 0) {
      return Status(StatusCode::kFailedPrecondition,
                    "the tokenizer has neither bos nor eos, so the first token of a document has "
                    "nothing before it");
    }
    MOKA_ASSIGN_OR_RETURN(DocumentReader reader, DocumentReader::open(path_));
    reader_ = std::make_unique<DocumentReader>(std::move(reader));
    return Status();
  }

  // False when there is no more.
  Result<bool> next(Sequence* sequence) {
    done_before_ = reader_->bytes_read();
    MOKA_ASSIGN_OR_RETURN(const bool more, reader_->next(&document_));
    if (!more) return false;
    ++documents_;
    text_bytes_ += document_.text.size();
    sequence->ids = {context_};
    const Status status = model_.tokenizer().encode(document_.text, &sequence->ids, false);
    if (!status.ok()) return Status(status.code(), place() + ": " + status.message());
    if (document_.ended && eos_ >= 0) sequence->ids.push_back(eos_);
    const uint64_t limit = model_.info().position_limit;
    if (limit != 0 && sequence->scored() > limit) {
      return Status(StatusCode::kOutOfRange,
                    place() + ": has " + std::to_string(sequence->scored()) +
                        " tokens, the model reads at most " + std::to_string(limit) +
                        "; end documents with lines that are exactly <|endoftext|>");
    }
    return true;
  }

  // `scored` tokens of `sequence` are done.
  Status report(const Sequence& sequence, size_t scored) {
    if (!progress_) return Status();
    const uint64_t bytes = reader_->bytes_read() - done_before_;
    const double share =
        static_cast<double>(scored) / static_cast<double>(std::max<size_t>(sequence.scored(), 1));
    const auto inside = static_cast<uint64_t>(static_cast<double>(bytes) * share);
    if (progress_(done_before_ + std::min(bytes, inside), reader_->file_bytes())) return Status();
    return Status(StatusCode::kCancelled, path_ + ": cancelled");
  }

  Status not_finite(size_t token) const {
    return Status(StatusCode::kCorrupt, place() + ": the scores of token " + std::to_string(token) +
                                            " are not finite; the weights are damaged");
  }

  // Totals for `result`, which must not be empty.
  Status finish(Evaluation* result) const {
    result->documents = documents_;
    result->text_bytes = text_bytes_;
    if (text_bytes_ == 0) {
      return Status(StatusCode::kInvalidArgument,
                    path_ + ": has no text, so there is nothing to measure");
    }
    return Status();
  }

 private:
  std::string place() const { return path_ + ": document " + std::to_string(documents_); }

  const Model& model_;
  const std::string& path_;
  const EvaluateProgress& progress_;
  TokenId context_ = -1, eos_ = -1;
  std::unique_ptr<DocumentReader> reader_;
  DocumentReader::Document document_;
  uint64_t documents_ = 0, text_bytes_ = 0, done_before_ = 0;
};

// Sums over the scored tokens of a comparison.
struct ComparisonSums {
  double kl = 0;
  uint64_t agreed = 0;
};

// KL(reference || stored) of one row and both likelihoods, with one exponential per logit:
// sum p (x - y) - log sum exp x + log sum exp y.
class RowComparison {
 public:
  RowComparison(const float* reference, const float* stored, size_t count, size_t target) {
    const Row x = find_maximum(reference, count), y = find_maximum(stored, count);
    double sum_x = 0, sum_y = 0, weighted = 0;
    for (size_t i = 0; i < count; ++i) {
      const double e = std::exp(reference[i] - x.maximum);
      sum_x += e;
      sum_y += std::exp(stored[i] - y.maximum);
      weighted += e * (static_cast<double>(reference[i]) - stored[i]);
    }
    const double log_x = x.maximum + std::log(sum_x), log_y = y.maximum + std::log(sum_y);
    // Rounding can take the divergence of equal rows a little below 0.
    kl = std::max(0.0, weighted / sum_x - log_x + log_y);
    reference_nll = log_x - reference[target];
    stored_nll = log_y - stored[target];
    agree = x.argmax == y.argmax;
  }
  bool finite() const {
    return std::isfinite(kl) && std::isfinite(reference_nll) && std::isfinite(stored_nll);
  }

  double kl = 0, reference_nll = 0, stored_nll = 0;
  bool agree = false;
};

// Compares on one document, in pieces of `rows` tokens: the reference reads a piece and its logits
// are kept, then the other model reads it.
class DocumentComparison {
 public:
  DocumentComparison(Session* reference, Session* stored, size_t outputs, Comparison* result)
      : reference_(reference),
        stored_(stored),
        outputs_(outputs),
        rows_(std::clamp<size_t>(kMaxHeldBytes / (outputs * sizeof(float)), 1, kMaxHeldRows)),
        held_(rows_ * outputs),
        result_(result) {}

  Status run(const Sequence& sequence, TextWalk* walk) {
    reference_->reset();
    stored_->reset();
    for (size_t begin = 0; begin < sequence.scored(); begin += rows_) {
      const size_t count = std::min(rows_, sequence.scored() - begin);
      const Span<const TokenId> piece(sequence.ids.data() + begin, count);
      MOKA_RETURN_IF_ERROR(reference_->append(piece, hold()));
      MOKA_RETURN_IF_ERROR(stored_->append(piece, compare(sequence, begin, *walk)));
      MOKA_RETURN_IF_ERROR(walk->report(sequence, begin + count));
    }
    return Status();
  }

  void finish() const {
    const uint64_t tokens = result_->stored.tokens;
    result_->reference.tokens = tokens;
    if (tokens == 0) return;
    result_->kl_mean = sums_.kl / static_cast<double>(tokens);
    result_->argmax_agreement = static_cast<double>(sums_.agreed) / static_cast<double>(tokens);
  }

 private:
  LogitsSink hold() {
    return [this](size_t first, size_t rows, const float* logits, size_t stride) {
      for (size_t r = 0; r < rows; ++r) {
        std::copy_n(logits + r * stride, outputs_, held_.data() + (first + r) * outputs_);
      }
      return Status();
    };
  }

  LogitsSink compare(const Sequence& sequence, size_t begin, const TextWalk& walk) {
    return [this, &sequence, begin, &walk](size_t first, size_t rows, const float* logits,
                                           size_t stride) {
      for (size_t r = 0; r < rows; ++r) {
        const size_t token = begin + first + r + 1;
        const auto target = static_cast<size_t>(sequence.ids[token]);
        const RowComparison row(held_.data() + (first + r) * outputs_, logits + r * stride,
                                outputs_, target);
        if (!row.finite()) return walk.not_finite(token);
        result_->reference.nll += row.reference_nll;
        result_->stored.nll += row.stored_nll;
        result_->kl_max = std::max(result_->kl_max, row.kl);
        sums_.kl += row.kl;
        sums_.agreed += row.agree ? 1 : 0;
        ++result_->stored.tokens;
      }
      return Status();
    };
  }

  Session* reference_;
  Session* stored_;
  const size_t outputs_, rows_;
  std::vector<float> held_;
  ComparisonSums sums_;
  Comparison* result_;
};

}  // namespace

double Evaluation::bits_per_byte() const {
  return text_bytes == 0 ? 0.0 : nll / std::log(2.0) / static_cast<double>(text_bytes);
}

double Evaluation::perplexity() const {
  return tokens == 0 ? 1.0 : std::exp(nll / static_cast<double>(tokens));
}

double negative_log_likelihood(const float* logits, size_t count, size_t target) {
  const Row row = find_maximum(logits, count);
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += std::exp(logits[i] - row.maximum);
  return row.maximum + std::log(sum) - logits[target];
}

Result<Evaluation> evaluate_text(const Model& model, const std::string& text_path,
                                 const EvaluateProgress& progress) {
  TextWalk walk(model, text_path, progress);
  MOKA_RETURN_IF_ERROR(walk.open());
  MOKA_ASSIGN_OR_RETURN(Session session, model.new_session());
  const size_t outputs = model.info().outputs;
  Evaluation result;
  Sequence sequence;
  const LogitsSink score = [&](size_t first, size_t rows, const float* logits, size_t stride) {
    for (size_t r = 0; r < rows; ++r) {
      const size_t token = first + r + 1;
      const auto target = static_cast<size_t>(sequence.ids[token]);
      const double nll = negative_log_likelihood(logits + r * stride, outputs, target);
      if (!std::isfinite(nll)) return walk.not_finite(token);
      result.nll += nll;
    }
    result.tokens += rows;
    return walk.report(sequence, first + rows);
  };
  while (true) {
    MOKA_ASSIGN_OR_RETURN(const bool more, walk.next(&sequence));
    if (!more) break;
    session.reset();
    if (sequence.scored() == 0) continue;
    MOKA_RETURN_IF_ERROR(session.append({sequence.ids.data(), sequence.scored()}, score));
  }
  MOKA_RETURN_IF_ERROR(walk.finish(&result));
  return result;
}

Result<Comparison> compare_on_text(const Model& reference, const Model& stored,
                                   const std::string& text_path, const EvaluateProgress& progress,
                                   uint64_t max_tokens) {
  TextWalk walk(reference, text_path, progress);
  MOKA_RETURN_IF_ERROR(walk.open());
  const size_t outputs = reference.info().outputs;
  if (stored.info().vocab_size != reference.info().vocab_size || stored.info().outputs != outputs) {
    return Status(StatusCode::kInvalidArgument,
                  "the two models have vocabularies of " +
                      std::to_string(reference.info().vocab_size) + " and " +
                      std::to_string(stored.info().vocab_size) + " ids, expected equal ones");
  }
  MOKA_ASSIGN_OR_RETURN(Session reference_session, reference.new_session());
  MOKA_ASSIGN_OR_RETURN(Session stored_session, stored.new_session());
  Comparison result;
  DocumentComparison comparison(&reference_session, &stored_session, outputs, &result);
  Sequence sequence;
  while (true) {
    MOKA_ASSIGN_OR_RETURN(const bool more, walk.next(&sequence));
    if (!more) break;
    if (max_tokens != 0) {
      const uint64_t left = max_tokens - result.stored.tokens;
      if (sequence.scored() > left) sequence.ids.resize(static_cast<size_t>(left) + 1);
    }
    MOKA_RETURN_IF_ERROR(comparison.run(sequence, &walk));
    if (max_tokens != 0 && result.stored.tokens >= max_tokens) break;
  }
  MOKA_RETURN_IF_ERROR(walk.finish(&result.reference));
  MOKA_RETURN_IF_ERROR(walk.finish(&result.stored));
  comparison.finish();
  return result;
}

}  // namespace moka
