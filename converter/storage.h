// Storage: as which numbers, and in which layout, the matrices of a model are stored.
#ifndef MOKA_CONVERTER_STORAGE_H_
#define MOKA_CONVERTER_STORAGE_H_

#include <cstdint>
#include <string>

#include "converter/quantize.h"
#include "runtime/model_spec.h"

namespace moka {

// Matrices of so few rows, gates above all, weigh too little to be worth a loss.
constexpr uint32_t kFewRows = 64;

// False for matrices of few rows, and of so few columns that whole blocks take more than int8 does.
bool int4_is_worth(uint32_t rows, uint32_t columns);

// As what a matrix is stored in a model of `weights`: kF32, kF16, kInt8 or kInt4. kInt4 leaves the
// token table and the head at int8 (every token passes through the first, the second alone decides
// between likely tokens), and matrices that are not worth it. kAuto stands for int4 wherever it is
// worth it: where the search for those that must be int8 begins.
WeightType stored_type(WeightType weights, const std::string& name, uint32_t rows,
                       uint32_t columns);

// Gives a tensor, whose shape is set, the members that say how its numbers lie: dtype, quantization,
// block, layout and sizes. int8 and int4 are for matrices; they lie in tiles.
void set_stored_type(WeightType type, Tensor* tensor);

}  // namespace moka

#endif  // MOKA_CONVERTER_STORAGE_H_
