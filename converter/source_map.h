// Which numbers of a checkpoint make which stored tensor: recipes, and the map that keeps count.
//
// A recipe is one of a small closed set. Most are views: the numbers of one source tensor in
// another order, or some of them (transposed, columns of a fused projection, a convolution kernel
// turned round). The others fold a BatchNorm with running statistics into scale and bias.
#ifndef MOKA_CONVERTER_SOURCE_MAP_H_
#define MOKA_CONVERTER_SOURCE_MAP_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "converter/checkpoint.h"
#include "converter/json.h"
#include "converter/quantize.h"
#include "moka/status.h"
#include "runtime/model_spec.h"

namespace moka {

using Shape = std::vector<uint32_t>;
std::string shape_text(const Shape& shape);  // "[384, 384]"

// Number i of the stored tensor, counted row by row over `extents`, is number
// offset + sum over k of index[k] * strides[k] of the source.
struct View {
  uint64_t offset = 0;
  std::vector<uint64_t> extents, strides;
  uint64_t elements() const;
  bool contiguous() const;  // numbers follow each other as they do in the source
};

enum class Fold : uint8_t {
  kNone,
  kBatchNormScale,  // scale / sqrt(var + 1e-5), of (scale, var)
  kBatchNormBias,   // bias - mean * scale / sqrt(var + 1e-5), of (scale, var, bias, mean)
};

// A tensor of the checkpoint by name, with the shape that it must have.
struct SourceUse {
  std::string name;
  Shape shape;
};

struct Recipe {
  std::vector<SourceUse> uses;  // one for a view
  Fold fold = Fold::kNone;
  View view;
  std::string words;  // for the plan: "transposed"; empty: number for number
};

// The recipes of views. Shapes are those of the source.
Recipe copied(const std::string& name, const Shape& shape);
// Extent k of the result is extent order[k] of the source: {1, 0} transposes a matrix.
Recipe permuted(const std::string& name, const Shape& shape, const std::vector<size_t>& order,
                const std::string& words);
// A source seen as a matrix (in, out), stored as [out, in]. `shape` may split `in` or `out` further.
Recipe transposed(const std::string& name, const Shape& shape, uint32_t in, uint32_t out);
// Columns [first, first + count) of (in, total), stored as [count, in].
Recipe columns(const std::string& name, uint32_t in, uint32_t total, uint32_t first,
               uint32_t count);
// Rows [first, first + count) of [total, in], or of [total] where `in` is 0.
Recipe rows(const std::string& name, uint32_t total, uint32_t in, uint32_t first, uint32_t count);
// Of [heads * (each + 1), in], where one of the rows of each head is its gate (the first of them or
// the last): the other rows, or the gates.
Recipe ungated_rows(const std::string& name, uint32_t heads, uint32_t each, uint32_t in,
                    bool gate_last);
Recipe gate_rows(const std::string& name, uint32_t heads, uint32_t each, uint32_t in,
                 bool gate_last);
// A BatchNorm of `width` channels: `module` holds scale and bias, `stats` mean and var.
Recipe batch_norm_scale(const std::string& module, const std::string& stats, uint32_t width);
Recipe batch_norm_bias(const std::string& module, const std::string& stats, uint32_t width);

// A recipe whose sources were found: indices into Checkpoint::tensors().
struct TensorRecipe {
  std::vector<size_t> sources;
  Fold fold = Fold::kNone;
  View view;
  std::string words;
};

// Finds the tensors of a checkpoint, notes which are used and everything that is wrong.
class SourceMap {
 public:
  // A checkpoint of another architecture misses every tensor of every layer; a few layers tell.
  static constexpr size_t kEnoughProblems = 20;

  explicit SourceMap(const Checkpoint& checkpoint);

  const SourceTensor* find(const std::string& name) const;
  // The recipe with its sources, which are used now. Nothing when one is missing, has another
  // shape or type; then that is a problem. `hint` ends the message about a missing one.
  std::optional<TensorRecipe> resolve(const Recipe& recipe, const std::string& hint = "");
  // Every tensor that no recipe used is a problem. `why` may explain one.
  void report_unused(const std::string& explained_name = "", const std::string& why = "");

  Problems& problems() { return problems_; }
  bool enough() const { return problems_.size() >= kEnoughProblems; }

 private:
  std::optional<size_t> take(const SourceUse& use, const std::string& hint);

  const Checkpoint& checkpoint_;
  std::vector<bool> used_;
  std::set<std::string> missing_;  // told already
  Problems problems_;
};

}  // namespace moka

#endif  // MOKA_CONVERTER_SOURCE_MAP_H_
