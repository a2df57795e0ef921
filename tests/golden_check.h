// What the parity tests share: tolerances, inputs, and the runners of whole models.
#ifndef MOKA_TESTS_GOLDEN_CHECK_H_
#define MOKA_TESTS_GOLDEN_CHECK_H_

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "runtime/kernels/kernels.h"
#include "tests/golden_case.h"

namespace moka::golden {

// The worst violation of |got - want| <= atol + rtol |want|, as a share of the right side.
template <class T>
inline double worst(const Case& c, const std::string& name, const T* got, size_t count,
                    size_t offset = 0) {
  const Array& want = c.expected.at(name);
  REQUIRE(offset + count <= want.size());
  double share = 0;
  for (size_t i = 0; i < count; ++i) {
    const double value = want.data[offset + i];
    const double error = std::fabs(static_cast<double>(got[i]) - value);
    share = std::max(share, std::isnan(error) ? 1e9 : error / (c.atol + c.rtol * std::fabs(value)));
  }
  return share;
}

#define CHECK_CLOSE(c, name, got, count, offset)                        \
  do {                                                                  \
    const double share_ = worst((c), (name), (got), (count), (offset)); \
    INFO((name) << " reaches " << share_ << " of the tolerance");       \
    CHECK(share_ <= 1.0);                                               \
  } while (false)

inline std::vector<float> input(const Case& c, const std::string& name) {
  const Array& array = c.inputs.at(name);
  return std::vector<float>(array.data.begin(), array.data.end());
}

// Causal models through sessions, cut as `way` says; a negative piece means: save and restore first.
void run_streamed(const Case& c, const Kernels& kernels, int threads, const std::vector<int>& way);
// Any model through read_sequence and read_pair, in chunks of `chunk` steps.
void run_whole(const Case& c, const Kernels& kernels, int threads, uint32_t chunk);

}  // namespace moka::golden

#endif  // MOKA_TESTS_GOLDEN_CHECK_H_
