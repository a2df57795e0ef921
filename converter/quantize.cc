#include "converter/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "runtime/half.h"
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

constexpr float kLow = -8.0f, kHigh = 7.0f;

// To the nearest bfloat16, ties to even. Finite and far from the largest float.
float round_to_bfloat16(float value) {
  const uint32_t bits = bits_of_float(value);
  return float_from_bits((bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u);
}

float to_int4(float value) { return std::min(std::max(round_to_integer(value), kLow), kHigh); }

// What a scale does to a block.
struct Int4Fit {
  float scale = 1;
  float error = std::numeric_limits<float>::infinity();  // squared
  float product = 0, square = 0;                         // sums of x q and q q
};

// Sums run in lanes: a compiler may not reorder a single one, and one alone would be slow.
Int4Fit try_scale(const float (&x)[kTileBlock], float scale) {
  constexpr size_t kLanes = 8;
  float error[kLanes] = {}, product[kLanes] = {}, square[kLanes] = {};
  const float inverse = 1.0f / scale;
  for (size_t i = 0; i < kTileBlock; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float value = x[i + lane];
      const float q = to_int4(value * inverse);
      const float difference = q * scale - value;
      error[lane] += difference * difference;
      product[lane] += value * q;
      square[lane] += q * q;
    }
  }
  Int4Fit fit;
  fit.scale = scale;
  fit.error = 0;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    fit.error += error[lane];
    fit.product += product[lane];
    fit.square += square[lane];
  }
  return fit;
}

// The best scale for a block whose largest magnitude is 1 to 2: `extreme`, with its sign.
float search_scale(const float (&x)[kTileBlock], float extreme) {
  constexpr int kFirst = 24, kLast = 36;  // quarters: the extreme becomes -6 to -9
  Int4Fit best;
  for (int quarters = kFirst; quarters <= kLast; ++quarters) {
    const Int4Fit fit =
        try_scale(x, round_to_bfloat16(extreme * -4.0f / static_cast<float>(quarters)));
    if (fit.error < best.error) best = fit;
    if (fit.square == 0) continue;
    const float refined = round_to_bfloat16(fit.product / fit.square);
    if (std::fabs(refined) < 0.01f) continue;  // nothing that fits so badly is the best
    const Int4Fit again = try_scale(x, refined);
    if (again.error < best.error) best = again;
  }
  return best.scale;
}

uint16_t quantize_block_int4(const float* block, size_t count, int8_t* q) {
  float extreme = 0;
  for (size_t i = 0; i < count; ++i) {
    if (std::fabs(block[i]) > std::fabs(extreme)) extreme = block[i];
  }
  // Scales are a tenth of it or less.
  if (std::fabs(extreme) < 16 * std::numeric_limits<float>::min()) {
    std::memset(q, 0, count);
    return static_cast<uint16_t>(bits_of_float(1.0f) >> 16);
  }
  // Squares of large and small numbers leave the range of float, so the search sees the block times
  // a power of two. It loses nothing: bfloat16 has the exponents of float.
  const int exponent = std::ilogb(extreme);
  const float unit = std::ldexp(1.0f, -exponent);
  float x[kTileBlock] = {};
  for (size_t i = 0; i < count; ++i) x[i] = block[i] * unit;
  const float scale = search_scale(x, extreme * unit);
  for (size_t i = 0; i < count; ++i) q[i] = static_cast<int8_t>(to_int4(x[i] / scale));
  return static_cast<uint16_t>(bits_of_float(std::ldexp(scale, exponent)) >> 16);
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

void quantize_row_int4(const float* row, size_t columns, int8_t* q, uint16_t* scales) {
  for (size_t c = 0; c < columns; c += kTileBlock) {
    *scales++ = quantize_block_int4(row + c, std::min(kTileBlock, columns - c), q + c);
  }
}

}  // namespace moka
