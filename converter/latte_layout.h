// Where every tensor of a checkpoint of the Latte family goes: a configuration and the names and
// shapes of a checkpoint in, a ModelSpec without data out. README.md lists the names.
//
// There is one layout. It knows stored tensors by the names that the "latte" folder has for them;
// where a checkpoint has others, a TensorNames tells what the stored ones are made of.
#ifndef MOKA_CONVERTER_LATTE_LAYOUT_H_
#define MOKA_CONVERTER_LATTE_LAYOUT_H_

#include <cstddef>
#include <string>
#include <vector>

#include "converter/checkpoint.h"
#include "converter/latte_config.h"
#include "converter/quantize.h"
#include "converter/source_map.h"
#include "moka/status.h"
#include "runtime/model_spec.h"

namespace moka {

// The names of one kind of checkpoint.
class TensorNames {
 public:
  virtual ~TensorNames() = default;
  // What the stored tensor `name` of `shape` is made of. `map` tells what the checkpoint has.
  virtual Recipe recipe(const std::string& name, const Shape& shape,
                        const SourceMap& map) const = 0;
};

// Names of the "latte" folder and of a PyTorch state dict with the same names: stored number for
// number, but for the kernels of convolutions over images and gates kept in the query matrix.
class LatteNames : public TensorNames {
 public:
  explicit LatteNames(const LatteConfig& config) : config_(config) {}
  Recipe recipe(const std::string& name, const Shape& shape, const SourceMap& map) const override;

 private:
  // The query matrix of a macchiato layer that has its gates in it; empty where it has none.
  std::string fused_queries(const std::string& name, const SourceMap& map) const;
  const LatteConfig config_;
};

// spec.tensors[i] is made by recipes[i].
struct LatteLayout {
  ModelSpec spec;  // input, blocks, head and tensors; no tokenizer, no metadata
  std::vector<TensorRecipe> recipes;
};

// Matrices are stored as stored_type(weights) says; norm scales, biases, convolutions, RG-LRU parameters, tables of
// positions and projections of numbers as float32. Every tensor of the checkpoint is used exactly
// once. kCorrupt: tensors that are missing, unknown or of another shape; kUnsupported: tensors of
// integers; up to 20 problems at once, beginning with `where`.
Result<LatteLayout> latte_layout(const LatteConfig& config, const TensorNames& names,
                                 const Checkpoint& checkpoint, WeightType weights,
                                 const std::string& where);

}  // namespace moka

#endif  // MOKA_CONVERTER_LATTE_LAYOUT_H_
