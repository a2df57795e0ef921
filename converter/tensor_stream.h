// TensorStream: from tensors of a checkpoint to the bytes of a stored one, in pieces.
#ifndef MOKA_CONVERTER_TENSOR_STREAM_H_
#define MOKA_CONVERTER_TENSOR_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "converter/checkpoint.h"
#include "converter/convert.h"
#include "converter/latte_layout.h"
#include "converter/writer.h"
#include "runtime/tiles.h"

namespace moka {

// Converts as the layout says. Memory: about 1 MiB, or a row of a matrix as float32 and 16 as stored,
// twice, if that is more; for a tensor whose numbers change their order, its source as float32 besides, which is kept until
// another such source is needed (the parts of a fused projection follow each other).
class TensorStream {
 public:
  // `checkpoint` and `layout` outlive the stream.
  TensorStream(Checkpoint* checkpoint, const LatteLayout& layout);

  // Sends tensor `index` of the layout to `sink`. kCorrupt: a weight is NaN or infinite (also a
  // float64 beyond float32), a variance is negative; kOutOfRange: a weight beyond float16. All name
  // tensor and element.
  Status send(size_t index, TensorSink& sink);

  // Of the tensors sent so far that are not stored as they were.
  const std::vector<TensorError>& errors() const { return errors_; }

 private:
  Status send_f32(const Tensor& tensor, const TensorRecipe& recipe, TensorSink& sink);
  Status send_f16(const Tensor& tensor, const TensorRecipe& recipe, TensorSink& sink);
  Status send_tiles(const Tensor& tensor, const TensorRecipe& recipe, TensorSink& sink);
  // One row to place `slot` of the tile in work; the tile of `rows` rows to the sink.
  void quantise_row(const Tensor& tensor, const float* values, size_t slot);
  Status send_tile(const Tensor& tensor, size_t rows, TensorSink& sink);
  // Numbers [first, first + count) of the stored tensor to values_, all finite.
  Status make(const TensorRecipe& recipe, uint64_t first, size_t count);
  Status gather(const TensorRecipe& recipe, uint64_t first, size_t count);
  Status fold_batch_norm(const TensorRecipe& recipe, uint64_t first, size_t count);
  // Reads numbers of a source and checks them.
  Status read(size_t source, uint64_t first, size_t count, std::vector<float>* out);
  Status hold(size_t source);
  Status bad_value(StatusCode code, size_t source, uint64_t element, float value,
                   const char* what) const;
  // The same for number `element` of the stored tensor.
  Status bad_stored(StatusCode code, const TensorRecipe& recipe, uint64_t element, float value,
                    const char* what) const;

  Checkpoint* checkpoint_;
  const LatteLayout& layout_;
  std::vector<float> values_;
  std::vector<uint8_t> bytes_;
  // The tile in work: 16 rows of numbers, their scales, and the scales as they are packed.
  std::vector<int8_t> quantised_;
  float row_scales_[kTileOutputs] = {};  // int8
  std::vector<uint8_t> codes_;           // int4, of blocks
  std::vector<uint8_t> tile_scales_;
  std::optional<size_t> held_source_;
  std::vector<float> held_;
  QuantizationError error_;
  std::vector<TensorError> errors_;
};

}  // namespace moka

#endif  // MOKA_CONVERTER_TENSOR_STREAM_H_
