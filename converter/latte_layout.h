// Where every tensor of a Latte checkpoint goes: a configuration and the names and shapes of a
// checkpoint in, a ModelSpec without data out. README.md lists the names.
#ifndef MOKA_CONVERTER_LATTE_LAYOUT_H_
#define MOKA_CONVERTER_LATTE_LAYOUT_H_

#include <cstddef>
#include <string>
#include <vector>

#include "converter/checkpoint.h"
#include "converter/latte_config.h"
#include "converter/quantize.h"
#include "moka/status.h"
#include "runtime/model_spec.h"

namespace moka {

// spec.tensors[i] is made from tensor sources[i] of the checkpoint, number for number.
struct LatteLayout {
  ModelSpec spec;  // input, blocks, head and tensors; no tokenizer, no metadata
  std::vector<size_t> sources;
};

// Matrices are stored as `weights`; norm scales, biases, convolutions and RG-LRU parameters as
// float32. Every tensor of the checkpoint is used exactly once. kCorrupt: tensors that are missing,
// unknown or of another shape; kUnsupported: tensors of integers; up to 20 problems at once,
// beginning with `where`.
Result<LatteLayout> latte_layout(const LatteConfig& config, const Checkpoint& checkpoint,
                                 WeightType weights, const std::string& where);

}  // namespace moka

#endif  // MOKA_CONVERTER_LATTE_LAYOUT_H_
