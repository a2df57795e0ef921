#include "runtime/check_limits.h"

#include <algorithm>
#include <limits>
#include <set>
#include <variant>

#include "runtime/forward.h"
#include "runtime/thread_pool.h"

namespace moka {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

uint64_t add(uint64_t a, uint64_t b) { return a > kMax - b ? kMax : a + b; }
uint64_t multiply(uint64_t a, uint64_t b) { return b != 0 && a > kMax / b ? kMax : a * b; }

// Bytes of what is packed because the file does not hold it as the kernels read it: float weights
// as float32, int8 ones in rows as tiles. Layers may share a weight.
uint64_t packed_bytes(const PackedWeights& weights) {
  uint64_t bytes = 0;
  std::set<const Tensor*> seen;
  for (const DenseLayer& layer : weights.layers()) {
    for (const Tensor* weight : layer.weights) {
      if (weight->layout == TensorLayout::kTiles || !seen.insert(weight).second) continue;
      const uint64_t each = layer.kind == DenseKind::kFloat32 ? sizeof(float) : 1;
      bytes = add(bytes, multiply(weight->elements(), each));
    }
  }
  return bytes;
}

// Floats of the rows of a chunk on their way through the layers, and of the scratch of all threads.
uint64_t row_floats(const Plan& plan, uint32_t chunk, uint64_t threads) {
  uint64_t wide = plan.width, hidden = 0, scratch = 0;
  for (const auto* blocks : {&plan.blocks, &plan.memory_blocks}) {
    for (const BlockPlan& block : *blocks) {
      wide = std::max<uint64_t>({wide, block.mixer.row, block.feed_forward.in.row});
      hidden = std::max<uint64_t>(hidden, block.feed_forward.width);
      scratch = std::max<uint64_t>(scratch,
                                   Forward::head_scratch(block.mixer, chunk, block.mixer.capacity));
    }
  }
  const uint64_t row = 4 * uint64_t{plan.width} + wide + hidden + plan.input.features;
  return add(multiply(row, chunk), multiply(scratch, threads));
}

}  // namespace

Status check_limit(const std::string& where, const char* what, uint64_t value, uint64_t limit,
                   const char* member) {
  if (value <= limit) return Status();
  return Status(StatusCode::kOutOfRange, where + ": has " + std::to_string(value) + " " + what +
                                             ", more than the limit of " + std::to_string(limit) +
                                             " (OpenOptions::limits." + member + ")");
}

Status check_vocabulary(const ModelSpec& spec, const ModelLimits& limits,
                        const std::string& where) {
  uint64_t tokens = 0;
  if (const auto* input = std::get_if<TokenInput>(&spec.input)) tokens = input->vocab_size;
  if (spec.tokenizer) tokens = std::max<uint64_t>(tokens, spec.tokenizer->piece_ends.size());
  return check_limit(where, "tokens in its vocabulary", tokens, limits.vocab_size, "vocab_size");
}

uint64_t memory_needed(const Plan& plan, const PackedWeights& weights,
                       const ExecutorOptions& options) {
  const int threads = options.threads > 0 ? options.threads : fast_cores();
  const uint64_t session = add(plan.state_floats, plan.outputs);
  const uint64_t floats =
      add(session, row_floats(plan, options.chunk, static_cast<uint64_t>(threads)));
  return add(packed_bytes(weights), multiply(floats, sizeof(float)));
}

Status check_memory(const Plan& plan, const PackedWeights& weights, const OpenOptions& options,
                    const std::string& where) {
  const uint64_t limit = options.limits.memory_bytes;
  if (limit == 0) return Status();
  const uint64_t needed = memory_needed(plan, weights, options.executor);
  if (needed <= limit) return Status();
  return Status(StatusCode::kOutOfRange,
                where + ": needs " + std::to_string(needed) +
                    " bytes of memory for packed weights, one session and the rows of a chunk, "
                    "more than the limit of " +
                    std::to_string(limit) + " (OpenOptions::limits.memory_bytes)");
}

}  // namespace moka
