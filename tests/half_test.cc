// Conversions between float32 and its 16-bit relatives, over all bit patterns of the 16-bit ones.
#include "runtime/half.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

namespace moka {
namespace {

// The value of a binary16 by its definition (IEEE 754, 3.6).
double half_value(uint32_t bits) {
  const double sign = (bits & 0x8000u) != 0 ? -1.0 : 1.0;
  const int exponent = static_cast<int>((bits >> 10) & 31u);
  const double fraction = static_cast<double>(bits & 1023u) / 1024.0;
  if (exponent == 31) {
    return fraction != 0 ? std::numeric_limits<double>::quiet_NaN()
                         : sign * std::numeric_limits<double>::infinity();
  }
  return exponent == 0 ? sign * std::ldexp(fraction, -14)
                       : sign * std::ldexp(1.0 + fraction, exponent - 15);
}

}  // namespace

TEST_CASE("kernel half: all 65536 patterns widen to their value and narrow back") {
  size_t wrong_value = 0, wrong_sign = 0, wrong_back = 0;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const uint16_t half = static_cast<uint16_t>(bits);
    const float value = half_to_float(half);
    const double want = half_value(bits);
    if (std::isnan(want)) {
      wrong_value += std::isnan(value) ? 0 : 1;
      wrong_back += std::isnan(half_to_float(float_to_half(value))) ? 0 : 1;
    } else {
      wrong_value += static_cast<double>(value) == want ? 0 : 1;
      wrong_back += float_to_half(value) == half ? 0 : 1;
    }
    wrong_sign += std::signbit(value) == ((bits & 0x8000u) != 0) ? 0 : 1;
  }
  CHECK(wrong_value == 0);
  CHECK(wrong_sign == 0);
  CHECK(wrong_back == 0);
}

TEST_CASE("kernel half: narrowing rounds to nearest, ties to even") {
  // Between every two neighbours: below the middle down, above it up, at it to the even one.
  size_t wrong = 0;
  for (uint32_t bits = 0; bits < 0x7bffu; ++bits) {
    const double low = half_value(bits), high = half_value(bits + 1);
    const float middle = static_cast<float>((low + high) / 2);  // exact: 12 significant bits
    const uint16_t down = static_cast<uint16_t>(bits), up = static_cast<uint16_t>(bits + 1);
    const uint16_t even = (bits & 1u) == 0 ? down : up;
    wrong += float_to_half(middle) == even ? 0 : 1;
    wrong += float_to_half(-middle) == (even | 0x8000u) ? 0 : 1;
    wrong += float_to_half(std::nextafter(middle, 0.0f)) == down ? 0 : 1;
    wrong += float_to_half(std::nextafter(middle, 1e9f)) == up ? 0 : 1;
  }
  CHECK(wrong == 0);
}

TEST_CASE("kernel half: beyond the largest binary16") {
  CHECK(float_to_half(65504.0f) == 0x7bffu);
  CHECK(float_to_half(std::nextafter(65520.0f, 0.0f)) == 0x7bffu);
  CHECK(float_to_half(65520.0f) == 0x7c00u);  // the tie between the largest and infinity
  CHECK(float_to_half(-65520.0f) == 0xfc00u);
  CHECK(float_to_half(std::numeric_limits<float>::max()) == 0x7c00u);
  CHECK(float_to_half(std::numeric_limits<float>::infinity()) == 0x7c00u);
  CHECK(float_to_half(std::numeric_limits<float>::denorm_min()) == 0x0000u);
  CHECK(float_to_half(-std::numeric_limits<float>::min()) == 0x8000u);
  CHECK(std::isnan(half_to_float(float_to_half(std::numeric_limits<float>::quiet_NaN()))));
}

TEST_CASE("kernel half: bfloat16 is the upper half of a float32") {
  CHECK(bfloat16_to_float(0x3f80u) == 1.0f);
  CHECK(bfloat16_to_float(0xc0a0u) == -5.0f);
  CHECK(bfloat16_to_float(0x0001u) == float_from_bits(0x00010000u));
  CHECK(bfloat16_to_float(0x7f80u) == std::numeric_limits<float>::infinity());
  CHECK(std::isnan(bfloat16_to_float(0x7fc0u)));
  size_t wrong = 0;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    wrong += bits_of_float(bfloat16_to_float(static_cast<uint16_t>(bits))) == bits << 16 ? 0 : 1;
  }
  CHECK(wrong == 0);
}

}  // namespace moka
