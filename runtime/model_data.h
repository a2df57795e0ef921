// ModelData: what a Model handle points to. Immutable once made, shared by sessions and executors.
#ifndef MOKA_RUNTIME_MODEL_DATA_H_
#define MOKA_RUNTIME_MODEL_DATA_H_

#include <memory>
#include <optional>

#include "moka/model.h"
#include "runtime/dense.h"
#include "runtime/file_map.h"
#include "runtime/kernels/kernels.h"
#include "runtime/model_spec.h"
#include "runtime/plan.h"

namespace moka {

struct ModelData {
  std::shared_ptr<FileMap> map;  // null when the caller owns the bytes
  ModelSpec spec;                // its tensors point into the map
  const Kernels* kernels = nullptr;
  std::unique_ptr<PackedWeights> weights;
  Plan plan;  // points into spec; its dense layers are in weights
  std::optional<Tokenizer> tokenizer;
  ModelInfo info;
};

}  // namespace moka

#endif  // MOKA_RUNTIME_MODEL_DATA_H_
