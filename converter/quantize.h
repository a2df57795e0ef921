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

// q[c] = round(row[c] / scale of its block of 32), within -8..7; stored is q[c] * scale. `row` is
// finite; scales: one bfloat16 per block, of which the last may be shorter.
//
// The scale is the one with the least squared error among thirteen that put the number of largest
// magnitude between -6 and -9 (the integers reach one further below zero, so its sign becomes
// theirs: scales may be negative), each once more after the least-squares fit to the integers that
// it gives; all as bfloat16, which is how they are stored. On the matrices of models/stories-hf the
// root of the squared error is 0.0877 of that of the weights; 0.0926 where the largest becomes -8
// exactly, 0.1047 where its magnitude becomes 7, and searching finer or wider gains nothing more.
//
// Scales are normal numbers: a block of zeros has scale 1, and a block so small that its scale might
// not be normal becomes zeros with scale 1.
void quantize_row_int4(const float* row, size_t columns, int8_t* q, uint16_t* scales);

}  // namespace moka

#endif  // MOKA_CONVERTER_QUANTIZE_H_
