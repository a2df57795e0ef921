#include "platforms/cli/memory.h"

#include <memory>
#include <set>
#include <vector>

#include "runtime/dense.h"
#include "runtime/plan.h"
#include "runtime/state.h"
#include "runtime/tiles.h"

namespace moka::cli {
namespace {

// Weights as they lie in memory while the model runs. What lies in tiles in the file runs from there,
// so a head that shares its token table is there once.
uint64_t weight_bytes(const PackedWeights& weights, const Plan& plan) {
  uint64_t bytes = 0;
  std::set<const Tensor*> tiled;
  for (const DenseLayer& layer : weights.layers()) {
    if (layer.kind == DenseKind::kFloat32) {
      bytes += (uint64_t{layer.in} + 1) * layer.out * sizeof(float);
      continue;
    }
    const Tensor& weight = *layer.weights[0];
    if (!tiled.insert(&weight).second) continue;
    bytes += tile_count(weight.rows()) *
             (tile_data_bytes(weight.dtype, layer.in) + tile_scale_bytes(weight.dtype, layer.in));
  }
  for (const Tensor* table : {plan.input.token_table, plan.position_table}) {
    if (table == nullptr) continue;
    const bool runs = tiled.count(table) != 0 && table->layout == TensorLayout::kTiles;
    if (!runs) bytes += table->size + table->scale_size;
  }
  return bytes;
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
  need.weights = weight_bytes(*weights, plan);
  if (!need.whole && need.per_token == 0) {
    need.session = need.state + uint64_t{plan.outputs} * sizeof(float) + kSessionBytes;
  }
  return need;
}

uint64_t sessions_within(const MemoryNeed& need, uint64_t bytes) {
  const uint64_t first = need.weights + kWorkingBytes;
  return need.session == 0 || bytes < first ? 0 : (bytes - first) / need.session;
}

}  // namespace moka::cli
