// What every isa_*.cc needs before it opens its target region: standard headers (they must not be
// compiled for an instruction set that the CPU may lack) and the region macros.
#ifndef MOKA_RUNTIME_KERNELS_ISA_H_
#define MOKA_RUNTIME_KERNELS_ISA_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "runtime/half.h"
#include "runtime/kernels/kernels.h"

#define MOKA_PRAGMA(x) _Pragma(#x)

// A region of functions compiled for more than the baseline. GCC and clang spell it differently; it
// stands outside of namespaces, and no lambda or namespace-scope vector lives in it.
#if defined(__clang__)
#define MOKA_TARGET_BEGIN(features) \
  MOKA_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define MOKA_TARGET_END MOKA_PRAGMA(clang attribute pop)
#define MOKA_UNROLL MOKA_PRAGMA(clang loop unroll(full))
#define MOKA_UNROLL_16 MOKA_UNROLL
#else
#define MOKA_TARGET_BEGIN(features) MOKA_PRAGMA(GCC push_options) MOKA_PRAGMA(GCC target(features))
#define MOKA_TARGET_END MOKA_PRAGMA(GCC pop_options)
#define MOKA_UNROLL MOKA_PRAGMA(GCC unroll 8)
#define MOKA_UNROLL_16 MOKA_PRAGMA(GCC unroll 16)
#endif

// For the large bodies that several kernels call: one copy of each.
#define MOKA_NOINLINE __attribute__((noinline))

namespace moka {

// Null where the library was built without the instruction set.
const Kernels* kernels_scalar();
const Kernels* kernels_avx2();
const Kernels* kernels_avx512();
const Kernels* kernels_neon();
const Kernels* kernels_wasm();

}  // namespace moka

#endif  // MOKA_RUNTIME_KERNELS_ISA_H_
