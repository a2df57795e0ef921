// Replaces operator new of the program: allocations above a limit are counted and remembered.
#ifndef MOKA_TESTS_MUTATE_ALLOCATION_LIMIT_H_
#define MOKA_TESTS_MUTATE_ALLOCATION_LIMIT_H_

#include <cstddef>
#include <cstdint>

namespace moka::mutate {

void set_allocation_limit(size_t bytes);
uint64_t allocations_above_limit();
size_t largest_allocation();  // since the last call of set_allocation_limit

}  // namespace moka::mutate

#endif  // MOKA_TESTS_MUTATE_ALLOCATION_LIMIT_H_
