#include "converter/tensor_stream.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "converter/json.h"
#include "runtime/half.h"
#include "runtime/tiles.h"

namespace moka {
namespace {

constexpr size_t kPiece = size_t{1} << 17;  // numbers

// Files are little-endian whatever the host is.
template <class T>
void put_little_endian(T value, uint8_t* out) {
  for (size_t i = 0; i < sizeof(T); ++i) out[i] = static_cast<uint8_t>(value >> (8 * i));
}

// The element's place in the tensor: "[3, 17]".
std::string place(const SourceTensor& tensor, uint64_t element) {
  std::vector<uint64_t> index(tensor.shape.size());
  for (size_t i = index.size(); i-- > 0; element /= tensor.shape[i]) {
    index[i] = element % tensor.shape[i];
  }
  std::string text = "[";
  for (size_t i = 0; i < index.size(); ++i)
    text.append(i == 0 ? "" : ", ").append(std::to_string(index[i]));
  return text + "]";
}

// The source's number that number `element` of a view is.
uint64_t source_element(const View& view, uint64_t element) {
  uint64_t at = view.offset;
  for (size_t i = view.extents.size(); i-- > 0; element /= view.extents[i]) {
    at += element % view.extents[i] * view.strides[i];
  }
  return at;
}

}  // namespace

TensorStream::TensorStream(Checkpoint* checkpoint, const LatteLayout& layout)
    : checkpoint_(checkpoint), layout_(layout) {}

Status TensorStream::bad_value(StatusCode code, size_t source, uint64_t element, float value,
                               const char* what) const {
  const SourceTensor& tensor = checkpoint_->tensors()[source];
  return Status(code, checkpoint_->files().front() + ": tensor " + in_quotes(tensor.name) +
                          " has the value " + std::to_string(value) + " at " +
                          place(tensor, element) + ", " + what);
}

Status TensorStream::bad_stored(StatusCode code, const TensorRecipe& recipe, uint64_t element,
                                float value, const char* what) const {
  return bad_value(code, recipe.sources.front(), source_element(recipe.view, element), value, what);
}

// ---- numbers -----------------------------------------------------------------------------------

Status TensorStream::read(size_t source, uint64_t first, size_t count, std::vector<float>* out) {
  out->resize(count);
  MOKA_RETURN_IF_ERROR(checkpoint_->read(source, first, count, out->data()));
  for (size_t i = 0; i < count; ++i) {
    const float value = (*out)[i];
    if (!std::isfinite(value)) {
      return bad_value(StatusCode::kCorrupt, source, first + i, value, "expected a finite float32");
    }
  }
  return Status();
}

Status TensorStream::hold(size_t source) {
  if (held_source_ == source) return Status();
  held_source_.reset();
  const auto total = static_cast<size_t>(checkpoint_->tensors()[source].elements);
  MOKA_RETURN_IF_ERROR(read(source, 0, total, &held_));
  held_source_ = source;
  return Status();
}

Status TensorStream::make(const TensorRecipe& recipe, uint64_t first, size_t count) {
  if (recipe.fold != Fold::kNone) return fold_batch_norm(recipe, first, count);
  if (!recipe.view.contiguous()) return gather(recipe, first, count);
  return read(recipe.sources.front(), recipe.view.offset + first, count, &values_);
}

Status TensorStream::gather(const TensorRecipe& recipe, uint64_t first, size_t count) {
  MOKA_RETURN_IF_ERROR(hold(recipe.sources.front()));
  const View& view = recipe.view;
  const uint64_t run = view.extents.back(), stride = view.strides.back();
  values_.resize(count);
  for (size_t done = 0; done < count;) {
    const uint64_t element = first + done;
    const auto length = static_cast<size_t>(std::min<uint64_t>(run - element % run, count - done));
    const float* source = held_.data() + source_element(view, element);
    for (size_t i = 0; i < length; ++i) values_[done + i] = source[i * stride];
    done += length;
  }
  return Status();
}

// In double: a running variance may be tiny and a mean large.
Status TensorStream::fold_batch_norm(const TensorRecipe& recipe, uint64_t first, size_t count) {
  constexpr double kEpsilon = 1e-5;
  std::vector<float> parts[4];
  for (size_t i = 0; i < recipe.sources.size(); ++i) {
    MOKA_RETURN_IF_ERROR(read(recipe.sources[i], first, count, &parts[i]));
  }
  values_.resize(count);
  for (size_t i = 0; i < count; ++i) {
    const float variance = parts[1][i];
    if (variance < 0) {
      return bad_value(StatusCode::kCorrupt, recipe.sources[1], first + i, variance,
                       "expected a variance of at least 0");
    }
    double value = parts[0][i] / std::sqrt(variance + kEpsilon);
    if (recipe.fold == Fold::kBatchNormBias) value = parts[2][i] - parts[3][i] * value;
    values_[i] = static_cast<float>(value);
    if (!std::isfinite(values_[i])) {
      return bad_value(StatusCode::kCorrupt, recipe.sources.front(), first + i, parts[0][i],
                       "which with the running statistics exceeds float32");
    }
  }
  return Status();
}

// ---- stored bytes ------------------------------------------------------------------------------

Status TensorStream::send(size_t index, TensorSink& sink) {
  const Tensor& tensor = layout_.spec.tensors[index];
  const TensorRecipe& recipe = layout_.recipes[index];
  error_ = QuantizationError();
  switch (tensor.dtype) {
    case DType::kF16: MOKA_RETURN_IF_ERROR(send_f16(tensor, recipe, sink)); break;
    case DType::kI8:
    case DType::kI4: MOKA_RETURN_IF_ERROR(send_tiles(tensor, recipe, sink)); break;
    default: return send_f32(tensor, recipe, sink);
  }
  errors_.push_back({tensor.name, tensor.dtype, error_});
  return Status();
}

Status TensorStream::send_f32(const Tensor& tensor, const TensorRecipe& recipe, TensorSink& sink) {
  const uint64_t total = tensor.elements();
  for (uint64_t first = 0; first < total; first += values_.size()) {
    MOKA_RETURN_IF_ERROR(
        make(recipe, first, static_cast<size_t>(std::min<uint64_t>(kPiece, total - first))));
    bytes_.resize(values_.size() * sizeof(float));
    for (size_t i = 0; i < values_.size(); ++i) {
      put_little_endian(bits_of_float(values_[i]), bytes_.data() + i * sizeof(float));
    }
    MOKA_RETURN_IF_ERROR(sink.data(bytes_.data(), bytes_.size()));
  }
  return Status();
}

Status TensorStream::send_f16(const Tensor& tensor, const TensorRecipe& recipe, TensorSink& sink) {
  const uint64_t total = tensor.elements();
  for (uint64_t first = 0; first < total; first += values_.size()) {
    MOKA_RETURN_IF_ERROR(
        make(recipe, first, static_cast<size_t>(std::min<uint64_t>(kPiece, total - first))));
    bytes_.resize(values_.size() * sizeof(uint16_t));
    for (size_t i = 0; i < values_.size(); ++i) {
      const uint16_t half = float_to_half(values_[i]);
      const float stored = half_to_float(half);
      if (!std::isfinite(stored)) {
        return bad_stored(StatusCode::kOutOfRange, recipe, first + i, values_[i],
                          "float16 ends at 65504; use --weights f32 or int8");
      }
      error_.add(values_[i], stored);
      put_little_endian(half, bytes_.data() + i * sizeof(uint16_t));
    }
    MOKA_RETURN_IF_ERROR(sink.data(bytes_.data(), bytes_.size()));
  }
  return Status();
}

Status TensorStream::send_tiles(const Tensor& tensor, const TensorRecipe& recipe,
                                TensorSink& sink) {
  const size_t columns = tensor.shape[1], all_rows = tensor.shape[0];
  const size_t tiles_at_once = kPiece / (columns * kTileOutputs);
  const size_t rows_at_once = tiles_at_once == 0 ? 1 : tiles_at_once * kTileOutputs;
  quantised_.resize(kTileOutputs * columns);
  for (size_t row = 0; row < all_rows;) {
    const size_t rows = std::min(rows_at_once, all_rows - row);
    MOKA_RETURN_IF_ERROR(make(recipe, static_cast<uint64_t>(row) * columns, rows * columns));
    for (size_t r = 0; r < rows; ++r, ++row) {
      quantise_row(tensor, values_.data() + r * columns, row % kTileOutputs);
      if ((row + 1) % kTileOutputs != 0 && row + 1 != all_rows) continue;
      MOKA_RETURN_IF_ERROR(send_tile(tensor, row % kTileOutputs + 1, sink));
    }
  }
  return Status();
}

void TensorStream::quantise_row(const Tensor& tensor, const float* values, size_t slot) {
  const size_t columns = tensor.shape[1];
  int8_t* q = quantised_.data() + slot * columns;
  float scale = 0;
  if (tensor.dtype == DType::kI8) {
    scale = quantize_row_int8(values, columns, q);
  } else {
    const size_t blocks = tile_blocks(columns);
    codes_.resize(kTileOutputs * blocks);
    scale = quantize_row_int4(values, columns, q, codes_.data() + slot * blocks);
  }
  row_scales_[slot] = scale;
  for (size_t c = 0; c < columns; ++c) error_.add(values[c], static_cast<float>(q[c]) * scale);
}

// Tiles are packed as this machine reads them. That is little-endian: the loader builds nowhere else.
Status TensorStream::send_tile(const Tensor& tensor, size_t rows, TensorSink& sink) {
  const size_t columns = tensor.shape[1];
  bytes_.resize(static_cast<size_t>(tile_data_bytes(tensor.dtype, columns)));
  tile_scales_.resize(static_cast<size_t>(tile_scale_bytes(tensor.dtype, columns)));
  if (tensor.dtype == DType::kI8) {
    pack_tile_i8(quantised_.data(), columns, row_scales_, rows, columns,
                 reinterpret_cast<int8_t*>(bytes_.data()), tile_scales_.data());
  } else {
    pack_tile_i4(quantised_.data(), columns, row_scales_, codes_.data(), rows, columns,
                 bytes_.data(), tile_scales_.data());
  }
  MOKA_RETURN_IF_ERROR(sink.data(bytes_.data(), bytes_.size()));
  return sink.scales(tile_scales_.data(), tile_scales_.size());
}

}  // namespace moka
