// Test vector: a prompt and the model's greedy continuation, stored in the file so that
// `moka verify` can tell whether another machine computes the same.
#ifndef MOKA_CONVERTER_TEST_VECTOR_H_
#define MOKA_CONVERTER_TEST_VECTOR_H_

#include <cstdint>
#include <functional>
#include <optional>

#include "moka/model.h"
#include "moka/status.h"
#include "runtime/model_spec.h"

namespace moka {

// Up to 32 tokens after one of a few fixed English prompts, which bos begins (eos where there is no
// bos). Instruction sets round differently, so a token is stored only if it is clearly
// more likely than the next best; the continuation ends before one that is not. Of the prompts, the
// first with the longest continuation is taken. Nothing when no prompt has a clear first token.
// kFailedPrecondition: no tokenizer. `progress` gets tokens; its failure ends the call.
Result<std::optional<TestVector>> make_test_vector(
    const Model& model, const std::function<Status(uint64_t done, uint64_t total)>& progress);

}  // namespace moka

#endif  // MOKA_CONVERTER_TEST_VECTOR_H_
