// A shipped model with its int8 tensors as float32, to separate their rounding from the rest.
#ifndef MOKA_TESTS_WIDEN_H_
#define MOKA_TESTS_WIDEN_H_

#include <list>
#include <vector>

#include "runtime/tiles.h"

namespace moka::test {

// Does nothing to a tensor that is no int8 in tiles. Its numbers move to `storage`.
inline void widen_tensor(Tensor* tensor, std::list<std::vector<float>>* storage) {
  if (tensor->dtype != DType::kI8 || tensor->layout != TensorLayout::kTiles) return;
  const size_t rows = tensor->rows(), columns = tensor->shape[1];
  constexpr size_t kTail = 32;  // readable floats after a tensor
  std::vector<float>& out = storage->emplace_back(rows * columns + kTail);
  for (size_t r = 0; r < rows; ++r) read_tile_row(*tensor, r, out.data() + r * columns);
  tensor->dtype = DType::kF32;
  tensor->quantization = Quantization::kNone;
  tensor->layout = TensorLayout::kRows;
  tensor->data = out.data();
  tensor->size = rows * columns * sizeof(float);
  tensor->scales = nullptr;
  tensor->scale_size = 0;
}

}  // namespace moka::test

#endif  // MOKA_TESTS_WIDEN_H_
