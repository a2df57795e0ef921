#include "converter/storage.h"

#include "runtime/tiles.h"

namespace moka {

bool int4_is_worth(uint32_t rows, uint32_t columns) {
  const auto bytes = [columns](DType dtype) {
    return tile_data_bytes(dtype, columns) + tile_scale_bytes(dtype, columns);
  };
  return rows >= kFewRows && bytes(DType::kI4) < bytes(DType::kI8);
}

WeightType stored_type(WeightType weights, const std::string& name, uint32_t rows,
                       uint32_t columns) {
  if (weights != WeightType::kInt4 && weights != WeightType::kAuto) return weights;
  const bool end = name == "embed.weight" || name == "head.weight" || name == "hidden.weight";
  const bool wide = !int4_is_worth(rows, columns) || (end && weights == WeightType::kInt4);
  return wide ? WeightType::kInt8 : WeightType::kInt4;
}

void set_stored_type(WeightType type, Tensor* tensor) {
  const uint64_t rows = tensor->rows(), columns = tensor->elements() / rows;
  switch (type) {
    case WeightType::kF16: tensor->dtype = DType::kF16; break;
    case WeightType::kInt8:
      tensor->dtype = DType::kI8;
      tensor->quantization = Quantization::kPerChannel;
      tensor->layout = TensorLayout::kTiles;
      break;
    case WeightType::kInt4:
      tensor->dtype = DType::kI4;
      tensor->quantization = Quantization::kTwoLevel;
      tensor->block = kTileBlock;
      tensor->layout = TensorLayout::kTiles;
      break;
    default: tensor->dtype = DType::kF32; break;
  }
  if (tensor->layout == TensorLayout::kTiles) {
    const uint64_t tiles = tile_count(tensor->rows());
    tensor->size = tiles * tile_data_bytes(tensor->dtype, columns);
    tensor->scale_size = tiles * tile_scale_bytes(tensor->dtype, columns);
  } else {
    tensor->size = tensor_data_size(tensor->dtype, rows, columns);
  }
}

}  // namespace moka
