// Small random models of every kind, for the tests of tasks and of the command.
#ifndef MOKA_TESTS_TASK_MODELS_H_
#define MOKA_TESTS_TASK_MODELS_H_

#include <string>
#include <vector>

#include "tests/spec_builder.h"

namespace moka::test {

struct TaskModelOptions {
  bool causal = true;
  Pooling pooling = Pooling::kMean;
  bool labels = true;
  bool eos = false;             // the tokenizer ends a text with its eos (259)
  uint32_t max_length = 0;      // the tokenizer's training cut
  uint32_t position_limit = 0;  // learned positions, so many
};

// Reads bytes (260 ids, padding 256); 3 classes "bad", "fair", "good".
TestModel classifier_model(const TaskModelOptions& options = {});
// Compares two texts; 2 classes without names.
TestModel pair_model(const TaskModelOptions& options = {});
// Vectors of 24 numbers, unit length.
TestModel embedding_model(const TaskModelOptions& options = {});
// Reads `features` numbers per step, tells `features` numbers for each of `steps` steps.
TestModel forecast_model(uint32_t features, uint32_t steps, std::vector<float> quantiles,
                         const TaskModelOptions& options = {});
// Classes "a" to "d" of grey images of 4 x 3, given as pixels, or as tokens (256 ids).
TestModel image_model(bool tokens);

// Answers from a text that is read first: a classifier, or a language model.
TestModel memory_model(bool language);
// A language model whose attention keeps every token: 2 layers of width 24.
TestModel softmax_model();

// A classifier by linformer layers, for at most `max_length` bytes. `zero_row`: token 0 is a row of
// zeros, which the first layer cannot divide by its length.
TestModel linformer_model(uint32_t max_length, bool zero_row = false);

// Replaces the file; the test fails when the model is not valid.
void write_task_model(const std::string& path, const TestModel& model);

}  // namespace moka::test

#endif  // MOKA_TESTS_TASK_MODELS_H_
