// Counts heap allocations of this process, malloc and new alike.
#ifndef MOKA_TESTS_ALLOCATION_COUNTER_H_
#define MOKA_TESTS_ALLOCATION_COUNTER_H_

#include <cstdint>

namespace moka::test {

// False where allocation functions cannot be replaced (sanitizers, C libraries other than glibc).
bool counts_allocations();
uint64_t allocations();  // since the process began, by any thread

}  // namespace moka::test

#endif  // MOKA_TESTS_ALLOCATION_COUNTER_H_
