// Dense layers y = x W^T + b: quantised ones on Moka's own kernels (kernels/dense.h), float ones on
// XNNPACK (dense_float.h).
//
// PackedWeights belongs to a model: the description of its dense layers and, where the stored form is
// not what the kernels read, their packed form, made once and shared. DenseRunner belongs to an
// Executor: scratch and operators, one caller at a time. Nothing allocates after create().
#ifndef MOKA_RUNTIME_DENSE_H_
#define MOKA_RUNTIME_DENSE_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "moka/status.h"
#include "runtime/kernels/dense.h"
#include "runtime/model_spec.h"
#include "runtime/thread_pool.h"

namespace moka {

enum class DenseKind {
  kFloat32,  // float weights (float16 and bfloat16 are widened when packed), float arithmetic
  kInt8,     // int8 weights per output channel, activations quantised to int8 row by row
  kInt4,     // int4 weights per row and block of 32, activations likewise
};

// One quantised matrix [out, in], or several float ones over one input, stacked along their outputs
// into one operator.
struct DenseLayer {
  DenseKind kind = DenseKind::kFloat32;
  size_t in = 0;
  size_t out = 0;
  size_t column = 0;  // where the first output goes in an output row
  size_t row = 0;     // floats from one output row to the next
  std::vector<const Tensor*> weights;
  std::vector<const Tensor*> biases;  // one per weight; null for none
};

// Consecutive layers that read the same input and write to one output row.
struct DenseGroup {
  size_t first = 0;
  size_t count = 0;
  size_t in = 0;
  size_t row = 0;
};

class PackedWeights {
 public:
  // `kernels` null: the best that this CPU runs.
  static Result<std::unique_ptr<PackedWeights>> create(const DenseKernels* kernels = nullptr);
  ~PackedWeights();

  // Adds the layers for `linears` over an input of `in` channels and returns their group. Outputs
  // stand in the order given, starting at `column` of a row of `row` floats; float neighbours are
  // fused. Called before the first DenseRunner is made.
  DenseGroup add(const ModelSpec& spec, const std::vector<Linear>& linears, size_t in,
                 size_t column, size_t row);

  // Told of each weight when its packed form exists and its original is not read by a product any
  // more, so that the memory of a mapped file can go back layer by layer.
  using Release = std::function<void(const void* data, size_t size)>;
  void set_release(Release release);

  const std::vector<DenseLayer>& layers() const;
  // Bytes of packed forms, which are memory of their own; 0 before the first DenseRunner is made.
  size_t bytes() const;

 private:
  friend class DenseRunner;
  struct Store;
  PackedWeights();
  std::unique_ptr<Store> store_;
};

class DenseRunner {
 public:
  // Packs what is not packed yet. `pool` outlives the runner. Several may be made side by side.
  static Result<std::unique_ptr<DenseRunner>> create(PackedWeights& weights, ThreadPool& pool,
                                                     size_t max_rows);
  ~DenseRunner();

  // y[r] = x[r] W^T + b for each layer of the group. x: rows of group.in floats; y: rows of
  // group.row floats; 16 bytes after x must be readable. rows <= max_rows.
  Status run(const DenseGroup& group, size_t rows, const float* x, float* y);

  size_t scratch_bytes() const;

 private:
  struct Impl;
  struct Job;
  explicit DenseRunner(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moka

#endif  // MOKA_RUNTIME_DENSE_H_
