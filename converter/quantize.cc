#include "converter/quantize.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace moka {
namespace {

constexpr int kLimit = 127;

// Adding and taking away 1.5 * 2^23 rounds a float below 2^22 to the nearest integer, ties to even,
// in the rounding mode that every program starts with; unlike rintf it needs no library call.
float round_to_integer(float value) {
  constexpr float kMagic = 12582912.0f;
  return (value + kMagic) - kMagic;
}

}  // namespace

const char* weight_type_name(WeightType type) {
  switch (type) {
    case WeightType::kF32: return "f32";
    case WeightType::kF16: return "f16";
    case WeightType::kInt8: return "int8";
    default: return "unknown";
  }
}

std::optional<WeightType> parse_weight_type(const std::string& text) {
  for (const WeightType type : {WeightType::kF32, WeightType::kF16, WeightType::kInt8}) {
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

}  // namespace moka
