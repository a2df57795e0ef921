// Everything that an instruction set's file includes inside its namespace, after it has defined
// Vec, kTileCols, tile_rows(), kName and kNeeds. The order matters: each file uses those before it.
// clang-format off
#include "runtime/kernels/vec_scalar-inl.h"
#include "runtime/kernels/math-inl.h"
#include "runtime/kernels/pointwise-inl.h"
#include "runtime/kernels/gemm-inl.h"
#include "runtime/kernels/latent-inl.h"
#include "runtime/kernels/window-inl.h"
#include "runtime/kernels/table-inl.h"
// clang-format on
