// Number formats of stored weights, and what they cost.
//
// Everything here is deterministic: the same input gives the same bytes on every platform (IEEE
// arithmetic, round to nearest, ties to even, no fused operations). Pure functions; any thread.
#ifndef MOKA_CONVERTER_QUANTIZE_H_
#define MOKA_CONVERTER_QUANTIZE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace moka {

// How matrices are stored. Norm scales, biases, convolutions and recurrences stay float32. kAuto:
// int4 where a measured loss allows it, int8 elsewhere.
enum class WeightType : uint8_t { kF32 = 0, kF16 = 1, kInt8 = 2, kInt4 = 3, kAuto = 4 };

const char* weight_type_name(WeightType type);  // "f32", "f16", "int8", "int4", "auto"
std::optional<WeightType> parse_weight_type(const std::string& text);

// Distance between a tensor and what was stored of it, gathered number by number.
struct QuantizationError {
  double max_abs = 0;         // largest |stored - source|
  double squared_error = 0;   // sum of (stored - source)^2
  double squared_source = 0;  // sum of source^2
  // sqrt(squared_error / squared_source); 0 for an all-zero tensor.
  double relative_rms() const;
  void add(float source, float stored);
};

// q[c] = round(row[c] / scale), within -127..127; stored is q[c] * scale. `row` is finite.
//
// The scale is that of the largest magnitude, absmax / 127. (Clipping a row to a smaller range and
// searching for the one with the least squared error gains under 1 % of the error in rows of 2304
// normally distributed weights and nothing in shorter ones: not worth the code.)
//
// Returns the scale, a positive normal float as kernels want it: an all-zero row has scale 1, and a
// row so small that its scale would not be normal becomes zeros with scale 1.
float quantize_row_int8(const float* row, size_t columns, int8_t* q);

// Stored is q[c] * scale here too, with q[c] = (nibble - zero) * multiplier: zero and multiplier are
// small integers of each block of 32, in the code of the block (runtime/tiles.h; the last block may
// be shorter). `row` is finite.
//
// For each block alone the scale and zero with the least squared error are searched for; then among
// nine scales of the row, around the one that just reaches all of those, the one with the least
// squared error, blocks taking the best multiplier and zero for it; at last the scale is fitted to the
// integers by least squares. On the matrices of models/stories-hf the root of the squared error is
// 0.0864 of that of the weights. One scale per block that makes the number of largest magnitude -8,
// as Q4_0 of llama.cpp has it, leaves 0.0947, with a quarter of a bit more per weight.
//
// Returns the scale, a positive normal float: a row of zeros has scale 1, and a row so small that its
// scale might not be normal becomes zeros with scale 1.
float quantize_row_int4(const float* row, size_t columns, int8_t* q, uint8_t* codes);

}  // namespace moka

#endif  // MOKA_CONVERTER_QUANTIZE_H_
