// What cores this process may use, and which of them are fast.
#include <algorithm>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "runtime/thread_pool.h"

#if defined(__linux__)
#include <sched.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace moka {
namespace {

#if defined(__linux__)
// Linux on Arm gives every core a capacity, 1024 for the fastest; elsewhere its highest clock is what
// there is. 0: unknown.
unsigned long speed_of(int core) {
  const std::string folder = "/sys/devices/system/cpu/cpu" + std::to_string(core);
  for (const char* name : {"/cpu_capacity", "/cpufreq/cpuinfo_max_freq"}) {
    std::FILE* file = std::fopen((folder + name).c_str(), "r");
    if (file == nullptr) continue;
    unsigned long speed = 0;
    const bool read = std::fscanf(file, "%lu", &speed) == 1;
    std::fclose(file);
    if (read) return speed;
  }
  return 0;
}
#endif

}  // namespace

int available_cores() {
#if defined(__EMSCRIPTEN__) && !defined(__EMSCRIPTEN_PTHREADS__)
  return 1;  // what the machine has is of no use without threads
#endif
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
#endif
  const unsigned cores = std::thread::hardware_concurrency();
  return cores == 0 ? 1 : static_cast<int>(cores);
}

int fast_cores() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    std::vector<unsigned long> speeds;
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (CPU_ISSET(core, &set)) speeds.push_back(speed_of(core));
    }
    if (!speeds.empty()) {
      // Two thirds: the prime and the big cores of a phone are one kind, its little ones another.
      const unsigned long least = *std::max_element(speeds.begin(), speeds.end()) / 3 * 2;
      return static_cast<int>(std::count_if(speeds.begin(), speeds.end(),
                                            [&](unsigned long speed) { return speed >= least; }));
    }
  }
#elif defined(__APPLE__)
  // Level 0 are the fast cores of Apple's own chips; Intel's have no levels.
  int count = 0;
  size_t size = sizeof(count);
  if (sysctlbyname("hw.perflevel0.logicalcpu", &count, &size, nullptr, 0) == 0 && count > 0) {
    return count;
  }
#endif
  return available_cores();
}

}  // namespace moka
