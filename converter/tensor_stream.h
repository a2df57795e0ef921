// TensorStream: from a tensor of a checkpoint to the bytes of a stored one, in pieces.
#ifndef MOKA_CONVERTER_TENSOR_STREAM_H_
#define MOKA_CONVERTER_TENSOR_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "converter/checkpoint.h"
#include "converter/convert.h"
#include "converter/latte_layout.h"
#include "converter/writer.h"

namespace moka {

// Converts as the layout says. Memory: about 1 MiB, or one row of a matrix if that is more.
class TensorStream {
 public:
  // `checkpoint` and `layout` outlive the stream.
  TensorStream(Checkpoint* checkpoint, const LatteLayout& layout);

  // Sends tensor `index` of the layout to `sink`. kCorrupt: a weight is NaN or infinite (also a
  // float64 beyond float32); kOutOfRange: a weight beyond float16. Both name tensor and element.
  Status send(size_t index, TensorSink& sink);

  // Of the tensors sent so far that are not stored as they were.
  const std::vector<TensorError>& errors() const { return errors_; }

 private:
  Status send_f32(const Tensor& tensor, size_t source, TensorSink& sink);
  Status send_f16(const Tensor& tensor, size_t source, TensorSink& sink);
  Status send_i8(const Tensor& tensor, size_t source, TensorSink& sink);
  // Reads numbers [first, first + count) into values_ and checks them.
  Status read(size_t source, uint64_t first, size_t count);
  Status bad_value(StatusCode code, size_t source, uint64_t element, float value,
                   const char* what) const;

  Checkpoint* checkpoint_;
  const LatteLayout& layout_;
  std::vector<float> values_;
  std::vector<uint8_t> bytes_;
  QuantizationError error_;
  std::vector<TensorError> errors_;
};

}  // namespace moka

#endif  // MOKA_CONVERTER_TENSOR_STREAM_H_
