// Dense kernels for AVX-512 with VNNI: one instruction multiplies 16 outputs by 4 inputs.
#include "runtime/kernels/dense_isa.h"

#if (defined(__x86_64__) || defined(_M_X64)) && !defined(MOKA_WITHOUT_AVX512)

#include <immintrin.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

MOKA_TARGET_BEGIN("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")

namespace moka {
namespace dense_avx512_vnni_isa {

#include "runtime/kernels/dense_avx512-inl.h"

// needs what stands above
#include "runtime/kernels/dense-inl.h"

constexpr DenseKernels kTable = {
    "avx512_vnni",  "avx512",   kCpuAvx512 | kCpuAvx2Fma | kCpuAvx512Vnni,
    dense_quantise, dense_int8, dense_int4,
    0, kUnpackBytes};

}  // namespace dense_avx512_vnni_isa
}  // namespace moka

MOKA_TARGET_END

namespace moka {
const DenseKernels* dense_avx512_vnni() { return &dense_avx512_vnni_isa::kTable; }
}  // namespace moka

#else

namespace moka {
const DenseKernels* dense_avx512_vnni() { return nullptr; }
}  // namespace moka

#endif
