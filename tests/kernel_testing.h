// What tests of kernels share: the tables that this CPU runs, memory that shows every access past
// its end, numbers that are the same on every platform, comparison with a reference in double.
#ifndef MOKA_TESTS_KERNEL_TESTING_H_
#define MOKA_TESTS_KERNEL_TESTING_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "runtime/kernels/kernels.h"

namespace moka::test {

inline std::vector<const Kernels*> kernel_tables() {
  std::vector<const Kernels*> tables;
  for (const Kernels* table : compiled_kernels()) {
    if ((table->needs & ~cpu_features()) == 0) tables.push_back(table);
  }
  return tables;
}

// Row lengths that equal, divide, miss and exceed the vector widths 1, 4, 8 and 16, alone and times
// the 2, 4 and 8 vectors that kernels take at a time.
inline const std::vector<size_t>& row_lengths() {
  static const std::vector<size_t> kLengths = {1,  2,  3,  4,  5,  7,  8,  9,   12,  15,  16, 17,
                                               24, 31, 32, 33, 43, 64, 65, 127, 128, 129, 516};
  return kLengths;
}

// SplitMix64: plain integer arithmetic, so that a failure on one machine is one on all.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  uint64_t bits() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  size_t below(size_t n) { return static_cast<size_t>(bits() % n); }
  float uniform(float low, float high) {
    const double unit = static_cast<double>(bits() >> 11) * 0x1p-53;
    return static_cast<float>(low + unit * (static_cast<double>(high) - low));
  }
  // Roughly normal, deviation 1, within +-6.
  float normal() {
    float sum = -6.0f;
    for (int i = 0; i < 12; ++i) sum += uniform(0.0f, 1.0f);
    return sum;
  }

 private:
  uint64_t state_;
};

// `size` elements, off alignment by one element, whose last one ends its heap block (where the
// address sanitizer then stands guard), or, with guards, between two rows of canaries for builds
// without sanitizers. Kernels get inputs without guards and outputs with them.
template <class T>
class Block {
 public:
  explicit Block(size_t size, bool guarded = false)
      : size_(size), guard_(guarded ? kGuard : 0), memory_(new T[1 + size + 2 * guard_]) {
    std::memset(static_cast<void*>(memory_.get()), 0, (1 + guard_) * sizeof(T));
    for (size_t i = 0; i < guard_; ++i) {
      memory_[1 + i] = canary();
      memory_[1 + guard_ + size + i] = canary();
    }
    for (size_t i = 0; i < size; ++i) data()[i] = T();
  }
  template <class U>
  Block(const std::vector<U>& values, bool guarded) : Block(values.size(), guarded) {
    for (size_t i = 0; i < size_; ++i) data()[i] = static_cast<T>(values[i]);
  }

  T* data() { return memory_.get() + 1 + guard_; }
  const T* data() const { return memory_.get() + 1 + guard_; }
  size_t size() const { return size_; }
  T& operator[](size_t i) { return data()[i]; }
  const T& operator[](size_t i) const { return data()[i]; }
  T* begin() { return data(); }
  T* end() { return data() + size_; }

  // False when something was written outside.
  bool intact() const {
    const T want = canary();
    for (size_t i = 0; i < guard_; ++i) {
      if (std::memcmp(&memory_[1 + i], &want, sizeof(T)) != 0) return false;
      if (std::memcmp(&memory_[1 + guard_ + size_ + i], &want, sizeof(T)) != 0) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kGuard = 32;  // two of the widest vectors
  static T canary() { return static_cast<T>(-77); }
  size_t size_, guard_;
  std::unique_ptr<T[]> memory_;
};

using Floats = Block<float>;

inline Floats outputs(size_t size) { return Floats(size, true); }

inline Floats normals(size_t size, uint64_t seed, float spread = 1.0f, float centre = 0.0f) {
  Floats block(size);
  Random random(seed);
  for (float& value : block) value = centre + spread * random.normal();
  return block;
}

inline Floats copy_of(const Floats& other, bool guarded) {
  Floats block(other.size(), guarded);
  std::copy(other.data(), other.data() + other.size(), block.data());
  return block;
}

template <class T>
bool same_bits(const T* a, const T* b, size_t n) {
  return std::memcmp(a, b, n * sizeof(T)) == 0;
}

// How far results are from a reference, as a share of the tolerance; the worst is remembered.
class Deviation {
 public:
  void add(double got, double want, double tolerance, size_t index) {
    const double error = std::fabs(got - want);
    const double share = error == 0 ? 0 : error / tolerance;
    if (share <= worst_) return;  // false for NaN
    worst_ = std::isnan(share) ? std::numeric_limits<double>::infinity() : share;
    index_ = index, got_ = got, want_ = want;
  }
  bool ok() const { return worst_ <= 1.0; }
  double worst() const { return worst_; }
  std::string text() const {
    return "element " + std::to_string(index_) + " is " + std::to_string(got_) + ", expected " +
           std::to_string(want_) + ": " + std::to_string(worst_) + " of the tolerance";
  }

 private:
  double worst_ = 0, got_ = 0, want_ = 0;
  size_t index_ = 0;
};

constexpr double kEps = 0x1p-24;  // relative error of one rounding to float32

}  // namespace moka::test

// Needs doctest. `deviation` is a Deviation, `block` a Block with guards.
#define CHECK_DEVIATION(deviation) \
  do {                             \
    INFO((deviation).text());      \
    CHECK((deviation).ok());       \
  } while (false)
#define CHECK_INTACT(block)                             \
  do {                                                  \
    INFO(#block " was written outside of its extents"); \
    CHECK((block).intact());                            \
  } while (false)

#endif  // MOKA_TESTS_KERNEL_TESTING_H_
