// check_spec: the order of the checks, and those of tensors, input and positions.
#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/features.h"
#include "runtime/spec_checker.h"
#include "runtime/tiles.h"

namespace moka {

Status check_spec(const ModelSpec& spec, const std::string& where) {
  return SpecChecker(spec, where).check();
}

Status SpecChecker::check() {
  MOKA_RETURN_IF_ERROR(range("width", spec_.width, 1, kMaxWidth));
  MOKA_RETURN_IF_ERROR(check_tensors());
  MOKA_RETURN_IF_ERROR(check_input());
  MOKA_RETURN_IF_ERROR(check_positions());
  MOKA_RETURN_IF_ERROR(check_blocks());
  MOKA_RETURN_IF_ERROR(check_head());
  MOKA_RETURN_IF_ERROR(check_all_used());
  MOKA_RETURN_IF_ERROR(check_tokenizer());
  MOKA_RETURN_IF_ERROR(check_test_vector());
  MOKA_RETURN_IF_ERROR(check_metadata());
  return check_snapshots();
}

Status SpecChecker::fail(const std::string& what) const {
  std::string message = where_ + ": ";
  if (!place_.empty()) message += place_ + ": ";
  return Status(StatusCode::kCorrupt, message + what);
}

Status SpecChecker::require(bool condition, const std::string& what) const {
  return condition ? Status() : fail(what);
}

// ---- tensors ---------------------------------------------------------------------------------

Status SpecChecker::check_tensors() {
  place_.clear();
  MOKA_RETURN_IF_ERROR(range("the number of tensors", spec_.tensors.size(), 0, kMaxTensors));
  for (size_t i = 0; i < spec_.tensors.size(); ++i) {
    const Tensor& tensor = spec_.tensors[i];
    place_ = "tensor " + std::to_string(i);
    MOKA_RETURN_IF_ERROR(check_name(tensor.name));
    place_ = "tensor '" + tensor.name + "'";
    MOKA_RETURN_IF_ERROR(check_tensor(tensor));
  }
  return check_names();
}

// Names appear in messages and on terminals, so control characters have no place in them.
Status SpecChecker::check_name(const std::string& name) const {
  MOKA_RETURN_IF_ERROR(range("length of the name", name.size(), 1, kMaxNameBytes));
  const bool plain = std::none_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
  return require(plain, "the name has control characters");
}

Status SpecChecker::check_tensor(const Tensor& tensor) const {
  MOKA_RETURN_IF_ERROR(range("the number of extents", tensor.shape.size(), 1, 4));
  uint64_t elements = 1;
  for (const uint32_t extent : tensor.shape) {
    // The bound keeps every later product of a size within 64 bits.
    constexpr uint64_t kMaxElements = uint64_t{1} << 48;
    if (extent == 0 || elements > kMaxElements / extent) {
      return fail("has shape " + tensor.shape_string() +
                  ", but extents are at least 1 and their product at most 2^48");
    }
    elements *= extent;
  }
  if (tensor.layout == TensorLayout::kTiles) return check_tiles(tensor);
  const uint64_t rows = tensor.rows();
  const uint64_t size = tensor_data_size(tensor.dtype, rows, elements / rows);
  if (tensor.size != size) {
    return fail("has " + std::to_string(tensor.size) + " bytes, expected " + std::to_string(size) +
                " for shape " + tensor.shape_string() + " of " + dtype_name(tensor.dtype));
  }
  return check_quantization(tensor);
}

Status SpecChecker::check_quantization(const Tensor& tensor) const {
  const bool integer = tensor.dtype == DType::kI8 || tensor.dtype == DType::kI4;
  if (!integer) {
    return require(tensor.quantization == Quantization::kNone && tensor.block == 0 &&
                       tensor.scale_size == 0 && tensor.scales == nullptr,
                   std::string("has type ") + dtype_name(tensor.dtype) +
                       ", so it has no quantization, block or scales");
  }
  MOKA_RETURN_IF_ERROR(require(tensor.shape.size() == 2,
                               "has shape " + tensor.shape_string() + " and type " +
                                   dtype_name(tensor.dtype) + ", but only matrices are quantized"));
  const uint64_t rows = tensor.rows();
  const uint64_t columns = tensor.shape[1];
  uint64_t scale_size = 0;
  switch (tensor.quantization) {
    case Quantization::kNone:
      return fail(std::string("has type ") + dtype_name(tensor.dtype) +
                  ", but no quantization that says what its numbers mean");
    case Quantization::kPerChannel:
      MOKA_RETURN_IF_ERROR(
          require(tensor.block == 0, "has scales per channel, so block must be 0"));
      scale_size = 4 * rows;
      break;
    case Quantization::kPerBlock:
      MOKA_RETURN_IF_ERROR(require(tensor.block != 0 && columns % tensor.block == 0,
                                   "has block " + std::to_string(tensor.block) +
                                       ", which does not divide its " + std::to_string(columns) +
                                       " columns"));
      scale_size = 2 * rows * (columns / tensor.block);
      break;
    case Quantization::kTwoLevel:
      return fail("has scales at two levels, which only tiles can hold");
  }
  return require(tensor.scale_size == scale_size, "has " + std::to_string(tensor.scale_size) +
                                                      " bytes of scales, expected " +
                                                      std::to_string(scale_size));
}

Status SpecChecker::check_tiles(const Tensor& tensor) const {
  const bool i8 = tensor.dtype == DType::kI8 && tensor.quantization == Quantization::kPerChannel &&
                  tensor.block == 0;
  const bool i4 = tensor.dtype == DType::kI4 && tensor.quantization == Quantization::kTwoLevel &&
                  tensor.block == kTileBlock;
  MOKA_RETURN_IF_ERROR(require(tensor.shape.size() == 2 && (i8 || i4),
                               "lies in tiles, so it must be a matrix of i8 with scales per "
                               "channel or of i4 with scales at two levels and "
                               "blocks of 32; it has shape " +
                                   tensor.shape_string() + ", type " + dtype_name(tensor.dtype) +
                                   ", quantization " +
                                   std::to_string(static_cast<int>(tensor.quantization)) +
                                   " and block " + std::to_string(tensor.block)));
  // Filled up to whole tiles, 2^48 numbers become fewer than 2^50: nothing wraps.
  const uint64_t tiles = tile_count(tensor.rows()), columns = tensor.shape[1];
  const uint64_t size = tiles * tile_data_bytes(tensor.dtype, columns);
  if (tensor.size != size) {
    return fail("has " + std::to_string(tensor.size) + " bytes, expected " + std::to_string(size) +
                " for shape " + tensor.shape_string() + " of " + dtype_name(tensor.dtype) +
                " in tiles");
  }
  const uint64_t scale_size = tiles * tile_scale_bytes(tensor.dtype, columns);
  return require(tensor.scale_size == scale_size, "has " + std::to_string(tensor.scale_size) +
                                                      " bytes of scales, expected " +
                                                      std::to_string(scale_size) + " in tiles");
}

Status SpecChecker::check_names() const {
  std::vector<std::string_view> names;
  names.reserve(spec_.tensors.size());
  for (const Tensor& tensor : spec_.tensors) names.push_back(tensor.name);
  std::sort(names.begin(), names.end());
  const auto twin = std::adjacent_find(names.begin(), names.end());
  if (twin == names.end()) return Status();
  return Status(StatusCode::kCorrupt,
                where_ + ": two tensors are named '" + std::string(*twin) + "'");
}

Status SpecChecker::check_all_used() const {
  const auto unused = std::find(used_.begin(), used_.end(), false);
  if (unused == used_.end()) return Status();
  const Tensor& tensor = spec_.tensors[static_cast<size_t>(unused - used_.begin())];
  return Status(StatusCode::kCorrupt, where_ + ": tensor '" + tensor.name + "' of shape " +
                                          tensor.shape_string() + " is used by nothing");
}

// ---- input and positions ---------------------------------------------------------------------

Status SpecChecker::check_input() {
  place_ = std::string("input (") + member_name(spec_.input) + ")";
  return std::visit([this](const auto& input) { return check_input_member(input); }, spec_.input);
}

Status SpecChecker::check_input_member(const TokenInput& input) {
  MOKA_RETURN_IF_ERROR(range("vocab_size", input.vocab_size, 1, kMaxVocab));
  MOKA_RETURN_IF_ERROR(range("image width", input.image_width, 0, 1u << 15));
  MOKA_RETURN_IF_ERROR(range("image height", input.image_height, 0, 1u << 15));
  MOKA_RETURN_IF_ERROR(require((input.image_width == 0) == (input.image_height == 0),
                               "the image is " + std::to_string(input.image_width) + " by " +
                                   std::to_string(input.image_height) +
                                   " pixels, expected two sizes or none"));
  return matrix("table", input.table, {input.vocab_size, "vocab_size"}, width());
}

Status SpecChecker::check_input_member(const FloatInput& input) {
  MOKA_RETURN_IF_ERROR(range("features", input.features, 1, kMaxWidth));
  MOKA_RETURN_IF_ERROR(
      linear("projection", input.projection, width(), {input.features, "features"}));
  return scaling(input.mean, input.deviation, input.features, "feature");
}

Status SpecChecker::check_input_member(const PixelDenseInput& input) {
  MOKA_RETURN_IF_ERROR(range("image width", input.width, 1, 1u << 15));
  MOKA_RETURN_IF_ERROR(range("image height", input.height, 1, 1u << 15));
  MOKA_RETURN_IF_ERROR(linear("projection", input.projection, width(), {1, "grey value"}));
  return scaling({input.mean}, {input.deviation}, 1, "image");
}

Status SpecChecker::check_input_member(const PixelConvInput& input) {
  MOKA_RETURN_IF_ERROR(range("image width", input.width, 1, 1u << 15));
  MOKA_RETURN_IF_ERROR(range("image height", input.height, 1, 1u << 15));
  const size_t count = input.kernels.size();
  MOKA_RETURN_IF_ERROR(range("the number of kernels", count, 1, 64));
  MOKA_RETURN_IF_ERROR(range("the number of biases", input.biases.size(), count, count));
  Extent in{1, "grey value"};
  for (size_t i = 0; i < count; ++i) {
    const std::string number = "[" + std::to_string(i) + "]";
    const Tensor* kernel = spec_.tensor(input.kernels[i]);
    const uint64_t rows = kernel == nullptr ? 0 : kernel->rows();
    const Extent out = i + 1 == count ? width() : Extent{rows, "channels out"};
    MOKA_RETURN_IF_ERROR(
        floats("kernels" + number, input.kernels[i], {out, {3, "rows"}, {3, "columns"}, in}));
    if (input.biases[i] != kNoTensor) {
      MOKA_RETURN_IF_ERROR(floats("biases" + number, input.biases[i], {out}));
    }
    in = {out.value, "channels in"};
  }
  MOKA_RETURN_IF_ERROR(check_norm("norm", input.norm, spec_.width));
  return scaling({input.mean}, {input.deviation}, 1, "image");
}

Status SpecChecker::check_positions() {
  const Positions& positions = spec_.positions;
  place_ = "positions";
  MOKA_RETURN_IF_ERROR(range("max_length", positions.max_length, 0, kMaxPositions));
  if (positions.kind != PositionKind::kLearned) {
    MOKA_RETURN_IF_ERROR(absent("table", positions.table));
    return require(
        positions.kind == PositionKind::kNone || spec_.width % 2 == 0,
        "sinusoidal positions need an even width, which is " + std::to_string(spec_.width));
  }
  const Tensor* table = spec_.tensor(positions.table);
  const uint64_t rows = table == nullptr ? 0 : table->rows();
  MOKA_RETURN_IF_ERROR(matrix("table", positions.table, {rows, "positions"}, width()));
  MOKA_RETURN_IF_ERROR(
      range("max_length, given the rows of the learned table,", positions.max_length, 1, rows));
  return require(!positions.allow_extrapolation,
                 "allow_extrapolation is set, but a learned table ends with its last row");
}

}  // namespace moka
