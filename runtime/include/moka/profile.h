// Profile: where an Executor's time went, operator by operator. What Executor-level calls hand out;
// the runtime records it (runtime/profile.h).
#ifndef MOKA_PROFILE_H_
#define MOKA_PROFILE_H_

#include <cstdint>
#include <vector>

namespace moka {

// One stretch of work on one thread. Times are nanoseconds of std::chrono::steady_clock.
struct ProfileSpan {
  const char* name = "";  // the operator: "norm", "qkv", "mixer", ...; lives as long as the program
  int32_t block = -1;     // layer, from 0; -1 outside of the layers
  uint32_t thread = 0;    // 0 is the thread that called
  uint32_t rows = 0;      // steps that the work was for
  // False: an operator. Those follow each other on thread 0 and do not overlap, so their durations
  // sum to the time of the calls but for what lies between them. True: a piece of an operator, on
  // the thread that ran it, within the operator's span.
  bool part = false;
  uint64_t start = 0;
  uint64_t duration = 0;
};

struct Profile {
  std::vector<ProfileSpan> spans;  // by start; an operator before its parts
  uint64_t dropped = 0;            // spans that there was no room for: the latest ones are missing
};

}  // namespace moka

#endif  // MOKA_PROFILE_H_
