// Float dense layers y = x W^T + b on XNNPACK: the float half of runtime/dense.h.
//
// XNNPACK packs its weights and holds them by this file's cache, once per model; operators hold
// shapes and pointers, so each runner has its own.
#ifndef MOKA_RUNTIME_DENSE_FLOAT_H_
#define MOKA_RUNTIME_DENSE_FLOAT_H_

#include <cstddef>
#include <memory>

#include "moka/status.h"
#include "runtime/dense.h"

namespace moka {

// Packed weights of all float layers of a model, each known by its number.
class FloatWeights {
 public:
  static Result<std::unique_ptr<FloatWeights>> create();
  ~FloatWeights();
  size_t bytes() const;

 private:
  friend class FloatRunner;
  struct Store;
  FloatWeights();
  std::unique_ptr<Store> store_;
};

class FloatRunner {
 public:
  FloatRunner(FloatWeights& weights, ThreadPool& pool, size_t layers);
  ~FloatRunner();
  // Makes the operator of layer `index` and packs its weights if that has not happened; *packed
  // tells. Not for several threads over one FloatWeights.
  Status add(const DenseLayer& layer, size_t index, bool* packed);
  // After the last add().
  Status finish();
  // y: rows of layer.row floats; writes from layer.column on. 16 bytes after x must be readable.
  Status run(const DenseLayer& layer, size_t index, size_t rows, const float* x, float* y);
  size_t scratch_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace moka

#endif  // MOKA_RUNTIME_DENSE_FLOAT_H_
