// How fast this machine reads memory: what a program that reads all weights for each token cannot
// pass.
#ifndef MOKA_PLATFORMS_CLI_BENCH_BANDWIDTH_H_
#define MOKA_PLATFORMS_CLI_BENCH_BANDWIDTH_H_

#include <cstdint>

#include "moka/status.h"

namespace moka::cli {

struct ReadSpeed {
  double bytes_per_second = 0;  // of all threads together, the best of all runs
  int threads = 0;
  int streams = 0;            // that each thread read at once in the best run
  uint64_t buffer_bytes = 0;  // read again and again
};

// Reads a buffer of about `bytes` (at least 1 MiB, at most 1 GiB), `runs` times in each of several
// ways: 1 to 16 streams per thread, with prefetches. With the bytes of a token for `bytes`, caches
// give to both what they give. kOutOfMemory; kCancelled after an interrupt.
Result<ReadSpeed> measure_read_speed(int threads, uint64_t bytes, uint64_t runs);

}  // namespace moka::cli

#endif  // MOKA_PLATFORMS_CLI_BENCH_BANDWIDTH_H_
