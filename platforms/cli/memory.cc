#include "platforms/cli/memory.h"

#include <memory>
#include <vector>

#include "runtime/dense.h"
#include "runtime/plan.h"
#include "runtime/state.h"

namespace moka::cli {
namespace {

uint64_t packed_bytes(const DenseLayer& layer) {
  const uint64_t numbers = uint64_t{layer.in} * layer.out;
  // int8: a scale, a bias and the sum of the row beside each output channel.
  return layer.kind == DenseKind::kInt8 ? numbers + layer.out * 12 : (numbers + layer.out) * 4;
}

}  // namespace

Result<MemoryNeed> memory_need(const ModelSpec& spec) {
  MOKA_ASSIGN_OR_RETURN(std::unique_ptr<PackedWeights> weights, PackedWeights::create());
  const Plan plan = make_plan(spec, *weights);
  MemoryNeed need;
  need.state = uint64_t{plan.state_floats} * sizeof(float);
  need.per_token = uint64_t{plan.cache_floats} * sizeof(float);
  need.whole = plan.whole;
  if (plan.whole) need.per_step = uint64_t{plan.width} * sizeof(float);
  std::vector<const BlockPlan*> blocks;
  for (const BlockPlan& block : plan.blocks) blocks.push_back(&block);
  for (const BlockPlan& block : plan.memory_blocks) blocks.push_back(&block);
  for (const BlockPlan* block : blocks) {
    const LayerStateBytes bytes = layer_state_bytes(block->mixer, plan.width);
    need.latents += bytes.latents;
    need.windows += bytes.window;
    need.fronts += bytes.front;
  }
  const uint64_t known = need.latents + need.windows + need.fronts;
  if (plan.head.pooled && need.state > known) need.pooling = need.state - known;
  for (const DenseLayer& layer : weights->layers()) need.weights += packed_bytes(layer);
  for (const Tensor* table : {plan.input.token_table, plan.position_table}) {
    if (table != nullptr) need.weights += table->size + table->scale_size;
  }
  return need;
}

}  // namespace moka::cli
