// The limits of OpenOptions: what a model asks against what the caller allows.
#ifndef MOKA_RUNTIME_CHECK_LIMITS_H_
#define MOKA_RUNTIME_CHECK_LIMITS_H_

#include <cstdint>
#include <string>

#include "moka/model.h"
#include "moka/status.h"
#include "runtime/dense.h"
#include "runtime/plan.h"

namespace moka {

// kOutOfRange when `value` is above `limit`: "x.moka: has 12 tensors, more than the limit of 10
// (OpenOptions::limits.tensors)".
Status check_limit(const std::string& where, const char* what, uint64_t value, uint64_t limit,
                   const char* member);

// The tokens that a model reads or writes, and the entries of its tokenizer.
Status check_vocabulary(const ModelSpec& spec, const ModelLimits& limits, const std::string& where);

// What opening is about to allocate: packed weights, one session, the rows of the default Executor.
uint64_t memory_needed(const Plan& plan, const PackedWeights& weights,
                       const ExecutorOptions& options);
Status check_memory(const Plan& plan, const PackedWeights& weights, const OpenOptions& options,
                    const std::string& where);

}  // namespace moka

#endif  // MOKA_RUNTIME_CHECK_LIMITS_H_
