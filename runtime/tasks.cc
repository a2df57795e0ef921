#include "moka/tasks.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "runtime/guard.h"
#include "runtime/model_spec.h"

namespace moka {
namespace {

const char* head_name(OutputKind kind) {
  switch (kind) {
    case OutputKind::kHidden: return "no head, its output are hidden states";
    case OutputKind::kLanguage: return "a language head";
    case OutputKind::kClassifier: return "a classifier";
    case OutputKind::kPair: return "a comparison of two sequences";
    case OutputKind::kRegression: return "a regression head";
    case OutputKind::kEmbedding: return "an embedding head";
  }
  return "an unknown head";
}

Status need_head(const Model& model, OutputKind needed, const char* task) {
  if (model.info().output == needed) return Status();
  return Status(StatusCode::kInvalidArgument, std::string(task) + " needs a model with " +
                                                  head_name(needed) + "; this one has " +
                                                  head_name(model.info().output));
}

// The one row of a model that pools.
Result<std::vector<float>> pooled_row(const Model& model, const SequenceInput& input,
                                      const ReadOptions& options) {
  std::vector<float> row;
  const size_t size = model.info().outputs;
  const LogitsSink sink = [&](size_t, size_t, const float* logits, size_t) {
    row.assign(logits, logits + size);
    return Status();
  };
  MOKA_RETURN_IF_ERROR(read_sequence(model, input, sink, options));
  if (row.empty()) return Status(StatusCode::kInternal, "the model gave no row of output");
  return row;
}

// log of the sum of exp(logits): in double, and without overflow.
double log_sum_exp(const float* logits, size_t count) {
  const double high = *std::max_element(logits, logits + count);
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += std::exp(static_cast<double>(logits[i]) - high);
  return high + std::log(sum);
}

size_t first_largest(const float* numbers, size_t count) {
  return static_cast<size_t>(std::max_element(numbers, numbers + count) - numbers);
}

// Where the median stands in a row of quantiles: 0.5 if it is among them, else the middle one.
size_t middle_of(const std::vector<float>& quantiles) {
  for (size_t i = 0; i < quantiles.size(); ++i) {
    if (std::fabs(quantiles[i] - 0.5f) < 1e-6f) return i;
  }
  return quantiles.empty() ? 0 : (quantiles.size() - 1) / 2;
}

// Gives the last row of output for a history that grows. A causal model reads what is new, with a
// Session; one that looks ahead reads all of it again.
class HistoryReader {
 public:
  static Result<HistoryReader> create(const Model& model, const ReadOptions& options) {
    HistoryReader reader(model, options);
    if (!model.info().causal) return reader;
    MOKA_ASSIGN_OR_RETURN(Session session, options.executor == nullptr
                                               ? model.new_session()
                                               : model.new_session(*options.executor));
    if (!options.memory.values.empty()) {
      MOKA_RETURN_IF_ERROR(session.append_memory_values(options.memory.values));
    }
    reader.session_ = std::move(session);
    return reader;
  }

  // `fresh`: steps that have not been given before.
  Status read(Span<const float> fresh) {
    if (session_) return read_causal(fresh);
    all_.insert(all_.end(), fresh.begin(), fresh.end());
    const size_t size = model_->info().outputs;
    const LogitsSink sink = [&](size_t, size_t rows, const float* logits, size_t stride) {
      const float* last = logits + (rows - 1) * stride;
      row_.assign(last, last + size);
      return Status();
    };
    return read_sequence(*model_, Span<const float>(all_), sink, *options_);
  }

  const std::vector<float>& row() const { return row_; }

 private:
  static constexpr size_t kSlice = 1024;  // steps between two looks at `cancel`

  HistoryReader(const Model& model, const ReadOptions& options)
      : model_(&model), options_(&options) {}

  Status read_causal(Span<const float> fresh) {
    const size_t slice = kSlice * std::max<size_t>(model_->info().features, 1);
    for (size_t at = 0; at < fresh.size(); at += slice) {
      if (options_->cancel != nullptr && options_->cancel->load()) {
        return Status(StatusCode::kCancelled, "cancelled");
      }
      const size_t count = std::min(slice, fresh.size() - at);
      MOKA_RETURN_IF_ERROR(session_->append_values(fresh.subspan(at, count)));
      if (options_->progress) {
        options_->progress(static_cast<double>(at + count) / static_cast<double>(fresh.size()));
      }
    }
    const Span<const float> row = session_->logits();
    row_.assign(row.begin(), row.end());
    return Status();
  }

  const Model* model_;
  const ReadOptions* options_;
  std::optional<Session> session_;
  std::vector<float> all_;
  std::vector<float> row_;
};

Status check_history(const ModelInfo& info, const RegressionHead& head, Span<const float> history,
                     size_t horizon) {
  if (info.input != InputKind::kValues) {
    return Status(StatusCode::kInvalidArgument,
                  "forecast needs a model that reads numbers; this one reads " +
                      std::string(info.input == InputKind::kTokens ? "tokens" : "images"));
  }
  if (horizon == 0) return Status(StatusCode::kInvalidArgument, "forecast: the horizon is 0");
  if (history.empty()) return Status(StatusCode::kInvalidArgument, "forecast: no history");
  if (history.size() % info.features != 0) {
    return Status(StatusCode::kInvalidArgument,
                  "forecast: a history of " + std::to_string(history.size()) +
                      " numbers is not whole steps of " + std::to_string(info.features));
  }
  if (horizon > head.steps && head.outputs != info.features) {
    return Status(StatusCode::kOutOfRange,
                  "forecast: a horizon of " + std::to_string(horizon) + "; the model tells " +
                      std::to_string(head.steps) +
                      " steps, and cannot go on from them, because it reads " +
                      std::to_string(info.features) + " numbers per step and tells " +
                      std::to_string(head.outputs));
  }
  return Status();
}

}  // namespace

std::vector<std::string> class_names(const Model& model) {
  const ModelInfo& info = model.info();
  if (info.output != OutputKind::kClassifier && info.output != OutputKind::kPair) return {};
  const Head& head = model.spec().head;
  const std::vector<std::string>& labels = std::holds_alternative<PairHead>(head)
                                               ? std::get<PairHead>(head).labels
                                               : std::get<ClassifierHead>(head).labels;
  if (!labels.empty()) return labels;
  std::vector<std::string> names;
  for (uint32_t i = 0; i < info.outputs; ++i) names.push_back(std::to_string(i));
  return names;
}

Classification classification_of(Span<const float> logits) {
  Classification result;
  result.logits.assign(logits.begin(), logits.end());
  result.best = first_largest(logits.data(), logits.size());
  const double norm = log_sum_exp(logits.data(), logits.size());
  result.probabilities.reserve(logits.size());
  for (const float logit : logits) {
    result.probabilities.push_back(static_cast<float>(std::exp(static_cast<double>(logit) - norm)));
  }
  return result;
}

Result<Classification> classify(const Model& model, const SequenceInput& input,
                                const ReadOptions& options) {
  return guarded("the answer", [&]() -> Result<Classification> {
    MOKA_RETURN_IF_ERROR(need_head(model, OutputKind::kClassifier, "classify"));
    MOKA_ASSIGN_OR_RETURN(const std::vector<float> logits, pooled_row(model, input, options));
    return classification_of(logits);
  });
}

Result<Classification> compare(const Model& model, const SequenceInput& first,
                               const SequenceInput& second, const ReadOptions& options) {
  return guarded("the answer", [&]() -> Result<Classification> {
    MOKA_RETURN_IF_ERROR(need_head(model, OutputKind::kPair, "compare"));
    MOKA_ASSIGN_OR_RETURN(const std::vector<float> logits,
                          read_pair(model, first, second, options));
    return classification_of(logits);
  });
}

Result<std::vector<float>> embed(const Model& model, const SequenceInput& input,
                                 const ReadOptions& options) {
  return guarded("the answer", [&]() -> Result<std::vector<float>> {
    MOKA_RETURN_IF_ERROR(need_head(model, OutputKind::kEmbedding, "embed"));
    return pooled_row(model, input, options);
  });
}

double cosine_similarity(Span<const float> a, Span<const float> b) {
  double product = 0, a_square = 0, b_square = 0;
  const size_t size = std::min(a.size(), b.size());
  for (size_t i = 0; i < size; ++i) {
    const double x = a[i], y = b[i];
    product += x * y;
    a_square += x * x;
    b_square += y * y;
  }
  if (a_square == 0 || b_square == 0) return 0;
  // Rounding must not give an angle that does not exist.
  return std::clamp(product / (std::sqrt(a_square) * std::sqrt(b_square)), -1.0, 1.0);
}

Result<Score> score(const Model& model, Span<const TokenId> tokens, size_t first,
                    const ReadOptions& options) {
  return guarded("the answer", [&]() -> Result<Score> {
    MOKA_RETURN_IF_ERROR(need_head(model, OutputKind::kLanguage, "score"));
    if (!model.info().causal) {
      return Status(StatusCode::kInvalidArgument,
                    "score needs a causal model; this one sees the tokens that it would score");
    }
    if (first == 0) {
      return Status(
          StatusCode::kInvalidArgument,
          "score: the first token has nothing before it; the first scored one is 1 or later");
    }
    if (first >= tokens.size()) {
      return Status(StatusCode::kOutOfRange,
                    "score: nothing is left to score: " + std::to_string(tokens.size()) +
                        " tokens, of which " + std::to_string(first) + " are context");
    }
    const size_t vocab = model.info().outputs;
    // The scored ones index rows of logits, and the last one is never read.
    for (size_t i = first; i < tokens.size(); ++i) {
      if (tokens[i] >= 0 && static_cast<size_t>(tokens[i]) < vocab) continue;
      return Status(StatusCode::kOutOfRange,
                    "score: token " + std::to_string(tokens[i]) + " at " + std::to_string(i) +
                        " is outside of the vocabulary of " + std::to_string(vocab));
    }
    Score result;
    result.log_likelihoods.reserve(tokens.size() - first);
    result.most_likely.reserve(tokens.size() - first);
    const LogitsSink sink = [&](size_t at, size_t rows, const float* logits, size_t stride) {
      for (size_t row = 0; row < rows; ++row) {
        const size_t target = at + row + 1;
        if (target < first) continue;
        const float* scores = logits + row * stride;
        const double value = static_cast<double>(scores[static_cast<size_t>(tokens[target])]) -
                             log_sum_exp(scores, vocab);
        result.log_likelihood += value;
        result.log_likelihoods.push_back(value);
        result.most_likely.push_back(static_cast<TokenId>(first_largest(scores, vocab)));
      }
      return Status();
    };
    MOKA_RETURN_IF_ERROR(read_sequence(model, tokens.subspan(0, tokens.size() - 1), sink, options));
    return result;
  });
}

Result<Forecast> forecast(const Model& model, Span<const float> history, size_t horizon,
                          const ReadOptions& options) {
  return guarded("the answer", [&]() -> Result<Forecast> {
    MOKA_RETURN_IF_ERROR(need_head(model, OutputKind::kRegression, "forecast"));
    const RegressionHead& head = std::get<RegressionHead>(model.spec().head);
    MOKA_RETURN_IF_ERROR(check_history(model.info(), head, history, horizon));
    Forecast result;
    result.steps = horizon;
    result.outputs = head.outputs;
    result.quantiles = head.quantiles;
    result.middle = middle_of(head.quantiles);
    const size_t levels = std::max<size_t>(head.quantiles.size(), 1);
    const size_t step_size = head.outputs * levels;

    MOKA_ASSIGN_OR_RETURN(HistoryReader reader, HistoryReader::create(model, options));
    std::vector<float> medians;
    Span<const float> fresh = history;
    for (size_t told = 0; told < horizon;) {
      MOKA_RETURN_IF_ERROR(reader.read(fresh));
      const std::vector<float>& row = reader.row();
      const size_t count = std::min<size_t>(head.steps, horizon - told);
      if (row.size() != head.steps * step_size) {
        return Status(StatusCode::kInternal, "the model gave a row of another size");
      }
      result.values.insert(result.values.end(), row.begin(),
                           row.begin() + static_cast<std::ptrdiff_t>(count * step_size));
      medians.clear();
      for (size_t i = 0; i < count * head.outputs; ++i)
        medians.push_back(row[i * levels + result.middle]);
      fresh = medians;
      told += count;
    }
    return result;
  });
}

}  // namespace moka
