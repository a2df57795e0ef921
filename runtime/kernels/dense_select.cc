// Chooses the dense kernels that go with a kernel table.
#include <cstring>

#include "runtime/kernels/dense_isa.h"

namespace moka {
namespace {

struct DenseTables {
  const DenseKernels* list[8] = {};
  size_t count = 0;
  DenseTables() {
    for (const DenseKernels* table :
         {dense_amx(), dense_avx512_vnni(), dense_avx_vnni(), dense_avx2(), dense_neon_dot(),
          dense_neon(), dense_wasm(), dense_scalar()}) {
      if (table != nullptr) list[count++] = table;
    }
  }
};

}  // namespace

Span<const DenseKernels* const> compiled_dense_kernels() {
  static const DenseTables kTables;
  return Span<const DenseKernels* const>(kTables.list, kTables.count);
}

bool runs_here(const DenseKernels& table) { return (table.needs & ~cpu_features()) == 0; }

const DenseKernels& select_dense_kernels(const Kernels& kernels) {
  // AVX-512 without VNNI multiplies as AVX2 does.
  for (const char* family : {kernels.name, "avx2"}) {
    for (const DenseKernels* table : compiled_dense_kernels()) {
      if (std::strcmp(table->family, family) == 0 && runs_here(*table)) return *table;
    }
    if (std::strcmp(kernels.name, "avx512") != 0) break;
  }
  return *dense_scalar();
}

}  // namespace moka
