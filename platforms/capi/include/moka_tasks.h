// moka_tasks.h: whole sequences, and what models are used for. A part of moka.h: include that.
//
// These calls run any model, causal or not, on a sequence that is at hand; each starts from an empty
// memory and keeps nothing. They may come from any thread; those on one executor wait for each other.
// Common failures: MOKA_INVALID_ARGUMENT for a model with another head, for what the model does not
// read, an empty sequence, values that are not finite or not whole steps; MOKA_OUT_OF_RANGE for a
// token outside the vocabulary, a sequence longer than the model allows, an image of another size,
// nothing but padding. Tokens equal to info.padding are left out.
#include "moka.h"  // before the guard: it includes this file where its place is

#ifndef MOKA_C_MOKA_TASKS_H_
#define MOKA_C_MOKA_TASKS_H_

#ifdef __cplusplus
extern "C" {
#endif

typedef struct moka_read_options {
  uint32_t struct_size;
  uint32_t reserved;              // 0
  const moka_executor* executor;  // NULL, the default: that of the model
  const moka_sequence* memory;    // for models with info.reads_memory
  moka_progress_fn progress;      // may be NULL; also the way to cancel
  void* progress_user;
} moka_read_options;
MOKA_API void moka_read_options_init(moka_read_options* options, uint32_t struct_size);

// Sends the output to `rows`: a row per step, in order, of language models, regression and hidden
// states; one row (first 0) of classifiers and embeddings. Not for pair models.
MOKA_API moka_status moka_read(const moka_model* model, const moka_sequence* input,
                               const moka_read_options* options, moka_rows_fn rows, void* user,
                               moka_error* error);

// Needs a classifier. Fills `logits` and `probabilities`, each of which may be NULL, with
// info.classes floats each (`capacity` is that of both), and *best with the likeliest class, the
// first of equal ones.
MOKA_API moka_status moka_classify(const moka_model* model, const moka_sequence* input,
                                   const moka_read_options* options, float* logits,
                                   float* probabilities, size_t capacity, uint32_t* best,
                                   moka_error* error);
// The same for two sequences; needs a pair model.
MOKA_API moka_status moka_compare(const moka_model* model, const moka_sequence* first,
                                  const moka_sequence* second, const moka_read_options* options,
                                  float* logits, float* probabilities, size_t capacity,
                                  uint32_t* best, moka_error* error);

// The vector of a sequence, info.outputs floats. Needs an embedding head.
MOKA_API moka_status moka_embed(const moka_model* model, const moka_sequence* input,
                                const moka_read_options* options, float* vector, size_t capacity,
                                size_t* needed, moka_error* error);
// Cosine of the angle between two vectors of `size` floats; 0 when one is zero or NULL.
MOKA_API double moka_cosine_similarity(const float* a, const float* b, size_t size);

// How likely a language model finds tokens[first ...), first at least 1, each given all before it.
// *log_likelihood is the natural logarithm for all of them together. The buffers, which may be NULL,
// get an element per scored token, token_count - first of them: its logarithm, and the token that the
// model put in its place. MOKA_OUT_OF_RANGE: nothing to score.
MOKA_API moka_status moka_score(const moka_model* model, const moka_token* tokens,
                                size_t token_count, size_t first, const moka_read_options* options,
                                double* log_likelihood, double* log_likelihoods,
                                moka_token* most_likely, size_t capacity, moka_error* error);

// The `horizon` steps that follow `history`, [steps][info.features]: horizon *
// info.forecast_outputs * info.forecast_quantiles floats in this order, in the units of the data.
// Needs a regression head. A head that tells fewer steps at once reads its own medians for the rest,
// which needs as many outputs as features, else MOKA_OUT_OF_RANGE.
MOKA_API moka_status moka_forecast(const moka_model* model, const float* history, size_t count,
                                   size_t horizon, const moka_read_options* options, float* values,
                                   size_t capacity, size_t* needed, moka_error* error);
// The levels of the quantiles, rising, such as 0.1, 0.5, 0.9; none when the head tells the mean.
MOKA_API moka_status moka_model_quantiles(const moka_model* model, float* levels, size_t capacity,
                                          size_t* needed, moka_error* error);

#ifdef __cplusplus
}
#endif

#endif  // MOKA_C_MOKA_TASKS_H_
