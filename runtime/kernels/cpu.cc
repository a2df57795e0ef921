// What this CPU can run. The only user of cpuinfo.
#include <cpuinfo.h>

#include "runtime/kernels/kernels.h"

namespace moka {

uint32_t cpu_features() {
  uint32_t features = 0;
  if (!cpuinfo_initialize()) return features;
#if defined(__x86_64__) || defined(_M_X64)
  if (cpuinfo_has_x86_avx2() && cpuinfo_has_x86_fma3() && cpuinfo_has_x86_f16c()) {
    features |= kCpuAvx2Fma;
  }
  if (cpuinfo_has_x86_avx512f() && cpuinfo_has_x86_avx512bw() && cpuinfo_has_x86_avx512dq() &&
      cpuinfo_has_x86_avx512vl()) {
    features |= kCpuAvx512;
  }
#elif defined(__aarch64__)
  features |= kCpuNeon;
#endif
  return features;
}

}  // namespace moka
