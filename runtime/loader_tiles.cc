// verify_tiles: what lies in tiles besides the numbers themselves is redundant or fills up, and a
// kernel believes all of it. A writer's mistake there passes every checksum and is found here.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>

#include "runtime/half.h"
#include "runtime/loader.h"
#include "runtime/tiles.h"

namespace moka {
namespace {

// Of the sum of a row's products, their magnitudes added up: sums in float in any order pass.
constexpr double kSumTolerance = 0x1p-20;
constexpr uint64_t kPiece = uint64_t{4} << 20;  // looked at before pages are given back

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}

// One tile, seen as numbers, scales and sums.
class TileReader {
 public:
  TileReader(const Tensor& tensor, uint64_t tile)
      : i4_(tensor.dtype == DType::kI4),
        inputs_(tensor.shape[1]),
        data_(static_cast<const uint8_t*>(tensor.data) +
              tile * tile_data_bytes(tensor.dtype, inputs_)),
        scales_(static_cast<const uint8_t*>(tensor.scales) +
                tile * tile_scale_bytes(tensor.dtype, inputs_)) {}

  // Groups of inputs, with what fills up the last block; and those of one scale.
  size_t groups() const { return tile_inputs(i4_ ? DType::kI4 : DType::kI8, inputs_) / kTileGroup; }
  size_t blocks() const { return i4_ ? tile_blocks(inputs_) : 1; }

  int value(size_t row, size_t input) const {
    const size_t group = input / kTileGroup;
    const size_t at =
        ((i4_ ? group / 2 : group) * kTileOutputs + row) * kTileGroup + input % kTileGroup;
    if (!i4_) return static_cast<int8_t>(data_[at]);
    return static_cast<int>(group % 2 == 0 ? data_[at] & 15u : data_[at] >> 4) - 8;
  }

  float scale(size_t row, size_t block) const {
    if (!i4_) return load<float>(row * sizeof(float));
    return bfloat16_to_float(load<uint16_t>((block * kTileOutputs + row) * sizeof(uint16_t)));
  }

  double sum(size_t row) const {
    const size_t begin =
        i4_ ? blocks() * kTileOutputs * sizeof(uint16_t) : kTileOutputs * sizeof(float);
    return i4_ ? static_cast<double>(load<float>(begin + row * sizeof(float)))
               : static_cast<double>(load<int32_t>(begin + row * sizeof(int32_t)));
  }

 private:
  template <class T>
  T load(size_t at) const {
    T value;
    std::memcpy(&value, scales_ + at, sizeof value);
    return value;
  }

  bool i4_;
  size_t inputs_;
  const uint8_t* data_;
  const uint8_t* scales_;
};

class TileCheck {
 public:
  TileCheck(const Tensor& tensor, uint64_t tile, const std::string& where)
      : tensor_(tensor), tile_(tile), where_(where), reader_(tensor, tile) {}

  Status check() const {
    for (size_t r = 0; r < kTileOutputs; ++r) {
      const bool fill = tile_ * kTileOutputs + r >= tensor_.rows();
      MOKA_RETURN_IF_ERROR(check_row(r, fill));
    }
    return Status();
  }

 private:
  Status fail(size_t row, const std::string& what) const {
    return Status(StatusCode::kCorrupt,
                  where_ + ": tensor '" + tensor_.name + "', tile " + std::to_string(tile_) +
                      ", row " + std::to_string(tile_ * kTileOutputs + row) + ": " + what);
  }

  Status check_row(size_t r, bool fill) const {
    const bool i4 = tensor_.dtype == DType::kI4;
    const size_t inputs = tensor_.shape[1], all = reader_.groups() * kTileGroup;
    const size_t per_block = all / reader_.blocks();
    double sum = 0, magnitude = 0;
    for (size_t b = 0; b < reader_.blocks(); ++b) {
      const float scale = reader_.scale(r, b);
      MOKA_RETURN_IF_ERROR(check_scale(r, fill, i4, b, scale));
      int64_t block_sum = 0;
      for (size_t c = b * per_block; c < (b + 1) * per_block; ++c) {
        const int value = reader_.value(r, c);
        if (value != 0 && (fill || c >= inputs)) {
          return fail(r, "holds " + std::to_string(value) + " at column " + std::to_string(c) +
                             ", which only fills up the tile: expected 0");
        }
        block_sum += value;
      }
      const double term = static_cast<double>(block_sum) * (i4 ? static_cast<double>(scale) : 1.0);
      sum += term;
      magnitude += std::fabs(term);
    }
    // The sum of int8 is an integer, and exact. Written so that NaN fails.
    const double tolerance = i4 ? magnitude * kSumTolerance : 0.0;
    if (std::fabs(reader_.sum(r) - sum) <= tolerance) return Status();
    return fail(
        r, "its sum is " + number(reader_.sum(r)) + ", but its numbers add up to " + number(sum));
  }

  Status check_scale(size_t r, bool fill, bool i4, size_t block, float scale) const {
    const std::string of_block = i4 ? " of block " + std::to_string(block) : "";
    if (fill && scale != 1.0f) {
      return fail(r, "only fills up the tile, but its scale" + of_block + " is " + number(scale) +
                         ", expected 1");
    }
    // Blocks of int4 may have either sign: -8 is then their largest number, not their smallest.
    if (std::isnormal(scale) && (i4 || scale > 0)) return Status();
    return fail(r, "its scale" + of_block + " is " + number(scale) + ", expected a " +
                       (i4 ? "" : "positive ") + "normal number");
  }

  const Tensor& tensor_;
  uint64_t tile_;
  const std::string& where_;
  TileReader reader_;
};

}  // namespace

Status verify_tiles(const LoadedModel& model, const std::string& where,
                    const VerifyProgress& progress) {
  uint64_t total = 0, done = 0;
  for (const Tensor& tensor : model.spec.tensors) {
    if (tensor.layout == TensorLayout::kTiles) total += tensor.size;
  }
  for (const Tensor& tensor : model.spec.tensors) {
    if (tensor.layout != TensorLayout::kTiles) continue;
    const uint64_t bytes = tile_data_bytes(tensor.dtype, tensor.shape[1]);
    const auto* const data = static_cast<const uint8_t*>(tensor.data);
    uint64_t held = 0, end = 0;  // bytes of the tensor: given back, looked at
    for (uint64_t tile = 0; tile < tile_count(tensor.rows()); ++tile) {
      MOKA_RETURN_IF_ERROR(TileCheck(tensor, tile, where).check());
      end += bytes;
      if (end - held < kPiece && end < tensor.size) continue;
      if (model.map) model.map->release(data + held, static_cast<size_t>(end - held));
      held = end;
      if (progress) MOKA_RETURN_IF_ERROR(progress(done + end, total));
    }
    done += tensor.size;
  }
  return Status();
}

}  // namespace moka
