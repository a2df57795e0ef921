// What this CPU can run. The only user of cpuinfo.
#if !defined(__wasm__)
#include <cpuinfo.h>
#endif

#include "runtime/kernels/kernels.h"

#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace moka {
namespace {

// Linux keeps the tile registers from a process until it asks: their 8 KiB must fit where signals
// save the registers. Asked once; it holds for all threads.
#if defined(__x86_64__) && defined(__linux__)
bool may_use_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // arch/x86/include/uapi/asm/prctl.h
  static const bool kMay = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return kMay;
}
#elif defined(__x86_64__) || defined(_M_X64)
bool may_use_tiles() { return false; }
#endif

}  // namespace

uint32_t cpu_features() {
  uint32_t features = 0;
#if defined(__wasm__)
#if defined(__wasm_simd128__)
  features |= kCpuWasmSimd;  // this module runs, so the engine has it
#endif
  return features;
#else
  if (!cpuinfo_initialize()) return features;
#if defined(__x86_64__) || defined(_M_X64)
  if (cpuinfo_has_x86_avx2() && cpuinfo_has_x86_fma3() && cpuinfo_has_x86_f16c()) {
    features |= kCpuAvx2Fma;
  }
  if (cpuinfo_has_x86_avx512f() && cpuinfo_has_x86_avx512bw() && cpuinfo_has_x86_avx512dq() &&
      cpuinfo_has_x86_avx512vl()) {
    features |= kCpuAvx512;
  }
  if (cpuinfo_has_x86_avxvnni()) features |= kCpuAvxVnni;
  if (cpuinfo_has_x86_avx512vnni()) features |= kCpuAvx512Vnni;
  if (cpuinfo_has_x86_amx_tile() && cpuinfo_has_x86_amx_int8() && may_use_tiles()) {
    features |= kCpuAmxInt8;
  }
#elif defined(__aarch64__)
  features |= kCpuNeon;
  if (cpuinfo_has_arm_neon_dot()) features |= kCpuNeonDot;
#endif
  return features;
#endif
}

}  // namespace moka
