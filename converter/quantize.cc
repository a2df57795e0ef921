#include "converter/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "runtime/tiles.h"

namespace moka {
namespace {

constexpr int kLimit = 127;

// Adding and taking away 1.5 * 2^23 rounds a float below 2^22 to the nearest integer, ties to even,
// in the rounding mode that every program starts with; unlike rintf it needs no library call.
float round_to_integer(float value) {
  constexpr float kMagic = 12582912.0f;
  return (value + kMagic) - kMagic;
}

// ---- int4 --------------------------------------------------------------------------------------

constexpr int kFirstZero = 6, kLastZero = 9;  // wider gains 0.3 % of the error

// A block of a row that was multiplied by a power of two; zeros fill it up.
struct Int4Block {
  float x[kTileBlock] = {};
  float scale = 0;  // the best on its own, multiplier included; 0 for a block of zeros
  int zero = 8;     // that goes with it
};

float to_int4(float value, int zero) {
  const auto low = static_cast<float>(-zero), high = static_cast<float>(15 - zero);
  return std::min(std::max(round_to_integer(value), low), high);
}

// The squared error that a scale leaves. It runs in lanes: a compiler may not reorder a single sum, and
// one alone would be slow.
float int4_error(const float (&x)[kTileBlock], float scale, int zero) {
  constexpr size_t kLanes = 8;
  float error[kLanes] = {};
  const float inverse = 1.0f / scale;
  const auto low = static_cast<float>(-zero), high = static_cast<float>(15 - zero);
  for (size_t i = 0; i < kTileBlock; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float value = x[i + lane];
      const float q = std::min(std::max(round_to_integer(value * inverse), low), high);
      const float difference = q * scale - value;
      error[lane] += difference * difference;
    }
  }
  return ((error[0] + error[1]) + (error[2] + error[3])) +
         ((error[4] + error[5]) + (error[6] + error[7]));
}

// Scale and zero with the least error: for every zero, scales that take the whole block in and some
// that clip its largest numbers.
void fit_block(Int4Block* block) {
  float low = 0, high = 0;
  for (const float value : block->x) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  float least = std::numeric_limits<float>::infinity();
  for (int zero = kFirstZero; zero <= kLastZero && (low < 0 || high > 0); ++zero) {
    const float whole =
        std::max(-low / static_cast<float>(zero), high / static_cast<float>(15 - zero));
    for (int percent = 75; percent <= 105; percent += 5) {
      const float scale = whole * (static_cast<float>(percent) / 100.0f);
      const float error = int4_error(block->x, scale, zero);
      if (error >= least) continue;
      least = error;
      block->scale = scale;
      block->zero = zero;
    }
  }
}

// The code with the least error for a block of a row with this scale, and the error.
uint8_t choose_code(const Int4Block& block, float row_scale, float* error) {
  uint8_t best = tile_code(1, block.zero);
  *error = std::numeric_limits<float>::infinity();
  const auto below = static_cast<int>(block.scale / row_scale);
  for (int zero = kFirstZero; zero <= kLastZero; ++zero) {
    for (int multiplier = below; multiplier <= below + 1; ++multiplier) {
      const int allowed = std::min(std::max(multiplier, 1), max_multiplier(zero));
      const float tried = int4_error(block.x, row_scale * static_cast<float>(allowed), zero);
      if (tried >= *error) continue;
      *error = tried;
      best = tile_code(allowed, zero);
    }
  }
  return best;
}

// The integers of a row, and its scale: the one with the least squared error to them.
float round_row(const std::vector<Int4Block>& blocks, const std::vector<uint8_t>& codes,
                float row_scale, size_t columns, int8_t* q) {
  double product = 0, square = 0;
  for (size_t c = 0; c < columns; ++c) {
    const uint8_t code = codes[c / kTileBlock];
    const int multiplier = code_multiplier(code);
    const float value = blocks[c / kTileBlock].x[c % kTileBlock];
    const float steps =
        to_int4(value * (1.0f / (row_scale * static_cast<float>(multiplier))), code_zero(code));
    q[c] = static_cast<int8_t>(static_cast<int>(steps) * multiplier);
    product += static_cast<double>(value) * q[c];
    square += static_cast<double>(q[c]) * q[c];
  }
  return square > 0 ? static_cast<float>(product / square) : row_scale;
}

}  // namespace

const char* weight_type_name(WeightType type) {
  switch (type) {
    case WeightType::kF32: return "f32";
    case WeightType::kF16: return "f16";
    case WeightType::kInt8: return "int8";
    case WeightType::kInt4: return "int4";
    case WeightType::kAuto: return "auto";
    default: return "unknown";
  }
}

std::optional<WeightType> parse_weight_type(const std::string& text) {
  for (const WeightType type : {WeightType::kF32, WeightType::kF16, WeightType::kInt8,
                                WeightType::kInt4, WeightType::kAuto}) {
    if (text == weight_type_name(type)) return type;
  }
  return std::nullopt;
}

double QuantizationError::relative_rms() const {
  return squared_source > 0 ? std::sqrt(squared_error / squared_source) : 0.0;
}

void QuantizationError::add(float source, float stored) {
  const double difference = std::fabs(static_cast<double>(stored) - source);
  if (difference > max_abs) max_abs = difference;
  squared_error += difference * difference;
  squared_source += static_cast<double>(source) * source;
}

float quantize_row_int8(const float* row, size_t columns, int8_t* q) {
  float absmax = 0;
  for (size_t c = 0; c < columns; ++c) {
    const float magnitude = std::fabs(row[c]);
    if (magnitude > absmax) absmax = magnitude;
  }
  const float scale = absmax / kLimit;
  if (scale < std::numeric_limits<float>::min()) {
    std::memset(q, 0, columns);
    return 1.0f;
  }
  for (size_t c = 0; c < columns; ++c) {
    // At most 127 and a rounding error, which round_to_integer takes away.
    q[c] = static_cast<int8_t>(round_to_integer(row[c] / scale));
  }
  return scale;
}

float quantize_row_int4(const float* row, size_t columns, int8_t* q, uint8_t* codes) {
  const size_t count = tile_blocks(columns);
  float largest = 0;
  for (size_t c = 0; c < columns; ++c) largest = std::max(largest, std::fabs(row[c]));
  // Scales are a 512th of it or more.
  if (largest < 512 * std::numeric_limits<float>::min()) {
    std::memset(q, 0, columns);
    std::memset(codes, tile_code(1, 8), count);
    return 1.0f;
  }
  // Squares of large and small numbers leave the range of float, so the search sees the row times a
  // power of two.
  const int exponent = std::ilogb(largest);
  const float unit = std::ldexp(1.0f, -exponent);
  std::vector<Int4Block> blocks(count);
  float whole = 0;  // row scale with which no multiplier is too large
  for (size_t c = 0; c < columns; ++c) blocks[c / kTileBlock].x[c % kTileBlock] = row[c] * unit;
  for (Int4Block& block : blocks) {
    fit_block(&block);
    whole = std::max(whole, block.scale / static_cast<float>(max_multiplier(block.zero)));
  }
  float least = std::numeric_limits<float>::infinity(), scale = whole;
  std::vector<uint8_t> tried(count), best;
  for (int percent = 84; percent <= 108; percent += 3) {
    const float row_scale = whole * (static_cast<float>(percent) / 100.0f);
    float total = 0, error = 0;
    for (size_t b = 0; b < count; ++b) {
      tried[b] = choose_code(blocks[b], row_scale, &error);
      total += error;
    }
    if (total >= least) continue;
    least = total;
    scale = row_scale;
    best = tried;
  }
  std::memcpy(codes, best.data(), count);
  return std::ldexp(round_row(blocks, best, scale, columns, q), exponent);
}

}  // namespace moka
