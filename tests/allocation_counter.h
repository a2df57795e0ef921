// Counts heap allocations of this process, malloc and new alike, and makes chosen ones fail.
#ifndef MOKA_TESTS_ALLOCATION_COUNTER_H_
#define MOKA_TESTS_ALLOCATION_COUNTER_H_

#include <cstdint>

namespace moka::test {

// False where allocation functions cannot be replaced (sanitizers, C libraries other than glibc).
bool counts_allocations();
uint64_t allocations();      // since the process began, by any thread
int64_t live_allocations();  // those that were not given back

// From now on the `nth` allocation of the process fails (1: the next one), and with `all_after` every
// later one too, until stop_failing(), which says how many failed.
void fail_allocations(uint64_t nth, bool all_after);
uint64_t stop_failing();

}  // namespace moka::test

#endif  // MOKA_TESTS_ALLOCATION_COUNTER_H_
