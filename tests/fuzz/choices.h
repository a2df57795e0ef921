// Choices: the bytes of a fuzz input as small decisions and numbers; what is missing reads as zero.
#ifndef MOKA_TESTS_FUZZ_CHOICES_H_
#define MOKA_TESTS_FUZZ_CHOICES_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/kernel_testing.h"

namespace moka::fuzz {

class Choices {
 public:
  Choices(const uint8_t* data, size_t size) : data_(data), end_(data + size) {}
  uint8_t byte() { return data_ == end_ ? uint8_t{0} : *data_++; }
  size_t below(size_t n) { return byte() % n; }
  // From 1 to `limit`: three times of four at most 20, which has all tails of the widest vectors, so
  // that many executions fit into the time of a large one.
  size_t extent(size_t limit) {
    const size_t small = byte();
    return 1 + (small < 192 ? small % (limit < 20 ? limit : 20) : below(limit));
  }
  int8_t int8() { return static_cast<int8_t>(byte()); }
  // A multiple of 1/16 in [-8, 8), times `spread`.
  float number(float spread) { return static_cast<float>(int8()) / 16.0f * spread; }
  moka::test::Floats numbers(size_t n, float spread) {
    moka::test::Floats block(n);
    for (float& value : block) value = number(spread);
    return block;
  }

 private:
  const uint8_t* data_;
  const uint8_t* end_;
};

// Ends the process unless the kernel table keeps its promise.
template <class Table>
void require(bool good, const Table& table, const std::string& what) {
  if (good) return;
  std::fprintf(stderr, "kernel table %s: %s\n", table.name, what.c_str());
  std::abort();
}

}  // namespace moka::fuzz

#endif  // MOKA_TESTS_FUZZ_CHOICES_H_
