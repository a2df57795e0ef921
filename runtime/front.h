// The recurrent front of a mixer: short convolution and RG-LRU over the layer's input.
#ifndef MOKA_RUNTIME_FRONT_H_
#define MOKA_RUNTIME_FRONT_H_

#include <cstddef>
#include <cstdint>

#include "runtime/kernels/kernels.h"
#include "runtime/plan.h"

namespace moka {

// Floats of scratch that run_front needs for `rows` tokens.
size_t front_scratch(const FrontPlan& plan, size_t width, size_t rows);

// z[rows][D] = front(x[rows][D]) for consecutive tokens of one sequence, the first at `position`.
// conv_state [K-1][D] and hidden [D] are those of the session, and are brought up to date.
void run_front(const FrontPlan& plan, const Kernels& kernels, size_t width, uint64_t position,
               size_t rows, const float* x, float* conv_state, float* hidden, float* z,
               float* scratch);

}  // namespace moka

#endif  // MOKA_RUNTIME_FRONT_H_
