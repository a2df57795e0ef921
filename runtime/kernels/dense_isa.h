// What every dense_*.cc needs before it opens its target region.
#ifndef MOKA_RUNTIME_KERNELS_DENSE_ISA_H_
#define MOKA_RUNTIME_KERNELS_DENSE_ISA_H_

#include "runtime/kernels/dense.h"
#include "runtime/kernels/isa.h"

namespace moka {

// Null where the library was built without the instruction set.
const DenseKernels* dense_scalar();
const DenseKernels* dense_avx2();
const DenseKernels* dense_avx_vnni();
const DenseKernels* dense_avx512_vnni();
const DenseKernels* dense_amx();
const DenseKernels* dense_neon();
const DenseKernels* dense_neon_dot();
const DenseKernels* dense_wasm();

}  // namespace moka

#endif  // MOKA_RUNTIME_KERNELS_DENSE_ISA_H_
