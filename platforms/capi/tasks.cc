// Whole sequences, and what models are used for.
#include "moka/tasks.h"

#include <atomic>
#include <string>
#include <variant>

#include "moka/reading.h"
#include "platforms/capi/border.h"
#include "platforms/capi/handles.h"
#include "runtime/model_spec.h"

namespace moka::capi {
namespace {

moka_read_options default_read() {
  moka_read_options options{};
  options.struct_size = sizeof options;
  return options;
}

SequenceInput input_of(const Steps& steps) {
  SequenceInput input;
  input.tokens = steps.tokens;
  input.values = steps.values;
  return input;
}

Result<SequenceInput> input_of(const moka_sequence* sequence, const char* name) {
  MOKA_ASSIGN_OR_RETURN(const Steps steps, steps_of(sequence, name));
  return input_of(steps);
}

// The options of a call, and what they point to.
class Reading {
 public:
  Reading() = default;
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;

  Status begin(const moka_read_options* given) {
    moka_read_options read = default_read();
    MOKA_RETURN_IF_ERROR(read_options(given, "moka_read_options", &read));
    if (read.executor != nullptr) options_.executor = &read.executor->executor;
    if (read.memory != nullptr) {
      MOKA_ASSIGN_OR_RETURN(options_.memory, input_of(read.memory, "memory"));
    }
    if (read.progress != nullptr) {
      options_.cancel = &cancelled_;
      options_.progress = [this, fn = read.progress, user = read.progress_user](double share) {
        if (fn(user, share) != 0) cancelled_.store(true);
      };
    }
    return Status();
  }
  const ReadOptions& options() const { return options_; }

 private:
  ReadOptions options_;
  std::atomic<bool> cancelled_{false};
};

// Before the work: whether the buffers take `count` floats each.
Status check_buffers(const void* first, const void* second, size_t capacity, size_t count) {
  if ((first == nullptr && second == nullptr) || capacity >= count) return Status();
  return Status(StatusCode::kOutOfRange, "the buffers have room for " + std::to_string(capacity) +
                                             " elements, needed are " + std::to_string(count));
}

template <class T>
void copy_to(const std::vector<T>& items, T* buffer) {
  if (buffer != nullptr) std::copy(items.begin(), items.end(), buffer);
}

void give_classes(const Classification& result, float* logits, float* probabilities,
                  uint32_t* best) {
  copy_to(result.logits, logits);
  copy_to(result.probabilities, probabilities);
  if (best != nullptr) *best = static_cast<uint32_t>(result.best);
}

const RegressionHead* regression_of(const Model& model) {
  return std::get_if<RegressionHead>(&model.spec().head);
}

}  // namespace
}  // namespace moka::capi

using namespace moka::capi;  // NOLINT: every function below is one of the C interface
using moka::Result;
using moka::SequenceInput;
using moka::Span;
using moka::Status;
using moka::StatusCode;
using moka::TokenId;

void moka_read_options_init(moka_read_options* options, uint32_t struct_size) {
  init_struct(default_read(), options, struct_size);
}

moka_status moka_read(const moka_model* model, const moka_sequence* input,
                      const moka_read_options* options, moka_rows_fn rows, void* user,
                      moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(model, "model"));
    MOKA_ASSIGN_OR_RETURN(const SequenceInput sequence, input_of(input, "input"));
    if (rows == nullptr) return invalid("rows is NULL");
    Reading reading;
    MOKA_RETURN_IF_ERROR(reading.begin(options));
    return moka::read_sequence(model->model(), sequence, sink_of(rows, user), reading.options());
  });
}

moka_status moka_classify(const moka_model* model, const moka_sequence* input,
                          const moka_read_options* options, float* logits, float* probabilities,
                          size_t capacity, uint32_t* best, moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(model, "model"));
    MOKA_ASSIGN_OR_RETURN(const SequenceInput sequence, input_of(input, "input"));
    Reading reading;
    MOKA_RETURN_IF_ERROR(reading.begin(options));
    MOKA_RETURN_IF_ERROR(
        check_buffers(logits, probabilities, capacity, model->shared->class_names.size()));
    MOKA_ASSIGN_OR_RETURN(const moka::Classification result,
                          moka::classify(model->model(), sequence, reading.options()));
    give_classes(result, logits, probabilities, best);
    return Status();
  });
}

moka_status moka_compare(const moka_model* model, const moka_sequence* first,
                         const moka_sequence* second, const moka_read_options* options,
                         float* logits, float* probabilities, size_t capacity, uint32_t* best,
                         moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(model, "model"));
    MOKA_ASSIGN_OR_RETURN(const SequenceInput a, input_of(first, "first"));
    MOKA_ASSIGN_OR_RETURN(const SequenceInput b, input_of(second, "second"));
    Reading reading;
    MOKA_RETURN_IF_ERROR(reading.begin(options));
    MOKA_RETURN_IF_ERROR(
        check_buffers(logits, probabilities, capacity, model->shared->class_names.size()));
    MOKA_ASSIGN_OR_RETURN(const moka::Classification result,
                          moka::compare(model->model(), a, b, reading.options()));
    give_classes(result, logits, probabilities, best);
    return Status();
  });
}

moka_status moka_embed(const moka_model* model, const moka_sequence* input,
                       const moka_read_options* options, float* vector, size_t capacity,
                       size_t* needed, moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(model, "model"));
    const moka::ModelInfo& info = model->model().info();
    if (info.output == moka::OutputKind::kEmbedding) {  // else the call itself says what is wrong
      MOKA_RETURN_IF_ERROR(check_room(vector, capacity, info.outputs, needed, "vector"));
      if (only_asks(vector, capacity)) return Status();
    }
    MOKA_ASSIGN_OR_RETURN(const SequenceInput sequence, input_of(input, "input"));
    Reading reading;
    MOKA_RETURN_IF_ERROR(reading.begin(options));
    MOKA_ASSIGN_OR_RETURN(const std::vector<float> result,
                          moka::embed(model->model(), sequence, reading.options()));
    return give(Span<const float>(result), vector, capacity, needed, "vector");
  });
}

double moka_cosine_similarity(const float* a, const float* b, size_t size) {
  if (a == nullptr || b == nullptr) return 0.0;
  return moka::cosine_similarity(Span<const float>(a, size), Span<const float>(b, size));
}

moka_status moka_score(const moka_model* model, const moka_token* tokens, size_t token_count,
                       size_t first, const moka_read_options* options, double* log_likelihood,
                       double* log_likelihoods, moka_token* most_likely, size_t capacity,
                       moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(model, "model"));
    MOKA_ASSIGN_OR_RETURN(const Span<const TokenId> ids, span_of(tokens, token_count, "tokens"));
    Reading reading;
    MOKA_RETURN_IF_ERROR(reading.begin(options));
    const size_t scored = first < token_count ? token_count - first : 0;
    MOKA_RETURN_IF_ERROR(check_buffers(log_likelihoods, most_likely, capacity, scored));
    MOKA_ASSIGN_OR_RETURN(const moka::Score result,
                          moka::score(model->model(), ids, first, reading.options()));
    if (log_likelihood != nullptr) *log_likelihood = result.log_likelihood;
    copy_to(result.log_likelihoods, log_likelihoods);
    copy_to(result.most_likely, most_likely);
    return Status();
  });
}

moka_status moka_forecast(const moka_model* model, const float* history, size_t count,
                          size_t horizon, const moka_read_options* options, float* values,
                          size_t capacity, size_t* needed, moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(model, "model"));
    if (const moka::RegressionHead* head = regression_of(model->model())) {
      const size_t step =
          size_t{head->outputs} * (head->quantiles.empty() ? 1 : head->quantiles.size());
      if (horizon > SIZE_MAX / sizeof(float) / step) {
        return Status(StatusCode::kOutOfRange,
                      "horizon is " + std::to_string(horizon) + " steps, more than any memory");
      }
      MOKA_RETURN_IF_ERROR(check_room(values, capacity, horizon * step, needed, "values"));
      if (only_asks(values, capacity)) return Status();
    }
    MOKA_ASSIGN_OR_RETURN(const Span<const float> numbers, span_of(history, count, "history"));
    Reading reading;
    MOKA_RETURN_IF_ERROR(reading.begin(options));
    MOKA_ASSIGN_OR_RETURN(const moka::Forecast result,
                          moka::forecast(model->model(), numbers, horizon, reading.options()));
    return give(Span<const float>(result.values), values, capacity, needed, "values");
  });
}

moka_status moka_model_quantiles(const moka_model* model, float* levels, size_t capacity,
                                 size_t* needed, moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(model, "model"));
    const moka::RegressionHead* head = regression_of(model->model());
    if (head == nullptr) return invalid("the model does not forecast, so it has no quantiles");
    return give(Span<const float>(head->quantiles), levels, capacity, needed, "levels");
  });
}
