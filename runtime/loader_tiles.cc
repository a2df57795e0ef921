// verify_tiles: what lies in tiles besides the numbers themselves is redundant or fills up, and a
// kernel believes all of it. A writer's mistake there passes every checksum and is found here.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>

#include "runtime/loader.h"
#include "runtime/tiles.h"

namespace moka {
namespace {

constexpr uint64_t kPiece = uint64_t{4} << 20;  // looked at before pages are given back

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}

// One tile, seen as integers, scales, sums and codes.
class TileReader {
 public:
  TileReader(const Tensor& tensor, uint64_t tile)
      : i4_(tensor.dtype == DType::kI4),
        inputs_(tensor.shape[1]),
        data_(static_cast<const uint8_t*>(tensor.data) +
              tile * tile_data_bytes(tensor.dtype, inputs_)),
        scales_(static_cast<const uint8_t*>(tensor.scales) +
                tile * tile_scale_bytes(tensor.dtype, inputs_)) {}

  // Inputs with those that only fill up the last group or block.
  size_t inputs() const { return tile_inputs(i4_ ? DType::kI4 : DType::kI8, inputs_); }
  size_t blocks() const { return i4_ ? tile_blocks(inputs_) : 0; }

  int value(size_t row, size_t input) const {
    const size_t group = input / kTileGroup;
    const size_t at =
        ((i4_ ? group / 2 : group) * kTileOutputs + row) * kTileGroup + input % kTileGroup;
    if (!i4_) return static_cast<int8_t>(data_[at]);
    const int nibble = group % 2 == 0 ? data_[at] & 15 : data_[at] >> 4;
    const uint8_t of_block = code(row, input / kTileBlock);
    return (nibble - code_zero(of_block)) * code_multiplier(of_block);
  }

  float scale(size_t row) const { return load<float>(row * sizeof(float)); }
  int32_t sum(size_t row) const { return load<int32_t>((kTileOutputs + row) * sizeof(int32_t)); }
  uint8_t code(size_t row, size_t block) const {
    return scales_[kTileOutputs * (sizeof(float) + sizeof(int32_t) + block) + row];
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
    const size_t inputs = tensor_.shape[1];
    MOKA_RETURN_IF_ERROR(check_scale(r, fill));
    for (size_t b = 0; b < reader_.blocks(); ++b) MOKA_RETURN_IF_ERROR(check_code(r, b));
    int64_t sum = 0;
    for (size_t c = 0; c < reader_.inputs(); ++c) {
      const int value = reader_.value(r, c);
      if (value != 0 && (fill || c >= inputs)) {
        return fail(r, "holds " + std::to_string(value) + " at column " + std::to_string(c) +
                           ", which only fills up the tile: expected 0");
      }
      sum += value;
    }
    if (reader_.sum(r) == sum) return Status();
    return fail(r, "its sum is " + std::to_string(reader_.sum(r)) + ", but its numbers add up to " +
                       std::to_string(sum));
  }

  Status check_scale(size_t r, bool fill) const {
    const float scale = reader_.scale(r);
    if (fill && scale != 1.0f) {
      return fail(r, "only fills up the tile, but its scale is " + number(scale) + ", expected 1");
    }
    if (std::isnormal(scale) && scale > 0) return Status();
    return fail(r, "its scale is " + number(scale) + ", expected a positive normal number");
  }

  Status check_code(size_t r, size_t block) const {
    const uint8_t code = reader_.code(r, block);
    const int multiplier = code_multiplier(code), most = max_multiplier(code_zero(code));
    if (multiplier >= 1 && multiplier <= most) return Status();
    return fail(r, "the code of block " + std::to_string(block) + " has multiplier " +
                       std::to_string(multiplier) + ", expected 1 to " + std::to_string(most) +
                       " with zero " + std::to_string(code_zero(code)));
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
