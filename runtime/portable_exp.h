// e to the x with additions and multiplications alone, in an order that the source fixes, so that
// every platform rounds alike. The C library's exp differs from one to the next in the last bit,
// which is enough to draw another token.
#ifndef MOKA_RUNTIME_PORTABLE_EXP_H_
#define MOKA_RUNTIME_PORTABLE_EXP_H_

#include <cstdint>
#include <cstring>

namespace moka {

// For x up to 709; relative error below 1e-15. Below -708, where results would be denormal, 0.
// Compile with -ffp-contract=off, as the build does.
inline double portable_exp(double x) {
  // The bits of 2^(j/64), rounded to nearest.
  static constexpr uint64_t kPowers[64] = {
      0x3FF0000000000000, 0x3FF02C9A3E778061, 0x3FF059B0D3158574, 0x3FF0874518759BC8,
      0x3FF0B5586CF9890F, 0x3FF0E3EC32D3D1A2, 0x3FF11301D0125B51, 0x3FF1429AAEA92DE0,
      0x3FF172B83C7D517B, 0x3FF1A35BEB6FCB75, 0x3FF1D4873168B9AA, 0x3FF2063B88628CD6,
      0x3FF2387A6E756238, 0x3FF26B4565E27CDD, 0x3FF29E9DF51FDEE1, 0x3FF2D285A6E4030B,
      0x3FF306FE0A31B715, 0x3FF33C08B26416FF, 0x3FF371A7373AA9CB, 0x3FF3A7DB34E59FF7,
      0x3FF3DEA64C123422, 0x3FF4160A21F72E2A, 0x3FF44E086061892D, 0x3FF486A2B5C13CD0,
      0x3FF4BFDAD5362A27, 0x3FF4F9B2769D2CA7, 0x3FF5342B569D4F82, 0x3FF56F4736B527DA,
      0x3FF5AB07DD485429, 0x3FF5E76F15AD2148, 0x3FF6247EB03A5585, 0x3FF6623882552225,
      0x3FF6A09E667F3BCD, 0x3FF6DFB23C651A2F, 0x3FF71F75E8EC5F74, 0x3FF75FEB564267C9,
      0x3FF7A11473EB0187, 0x3FF7E2F336CF4E62, 0x3FF82589994CCE13, 0x3FF868D99B4492ED,
      0x3FF8ACE5422AA0DB, 0x3FF8F1AE99157736, 0x3FF93737B0CDC5E5, 0x3FF97D829FDE4E50,
      0x3FF9C49182A3F090, 0x3FFA0C667B5DE565, 0x3FFA5503B23E255D, 0x3FFA9E6B5579FDBF,
      0x3FFAE89F995AD3AD, 0x3FFB33A2B84F15FB, 0x3FFB7F76F2FB5E47, 0x3FFBCC1E904BC1D2,
      0x3FFC199BDD85529C, 0x3FFC67F12E57D14B, 0x3FFCB720DCEF9069, 0x3FFD072D4A07897C,
      0x3FFD5818DCFBA487, 0x3FFDA9E603DB3285, 0x3FFDFC97337B9B5F, 0x3FFE502EE78B3FF6,
      0x3FFEA4AFA2A490DA, 0x3FFEFA1BEE615A27, 0x3FFF50765B6E4540, 0x3FFFA7C1819E90D8,
  };
  constexpr double kLowest = -708.0;
  constexpr double kStepsPerUnit = 0x1.71547652b82fep+6;  // 64 / ln 2
  // ln 2 / 64 in two parts; the first has so few digits that its product with n is exact.
  constexpr double kStepHigh = 0x1.62e42fef00000p-7;
  constexpr double kStepLow = 0x1.473de6af278edp-40;
  constexpr double kRound = 0x1.8p+52;  // adding it leaves an integer in the low bits

  if (!(x >= kLowest)) return 0.0;
  const double rounded = x * kStepsPerUnit + kRound;
  const double n = rounded - kRound;
  uint64_t bits;
  std::memcpy(&bits, &rounded, sizeof bits);
  const auto steps = static_cast<uint32_t>(bits);  // n = 64 * exponent + j, modulo 2^32
  const uint32_t j = steps & 63;

  const double r = (x - n * kStepHigh) - n * kStepLow;  // at most ln 2 / 128
  double p = 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r;

  // 2^(n/64): the exponent goes to its bits, 52 and up; what overflows is its sign.
  const uint64_t power_bits = kPowers[j] + (static_cast<uint64_t>(steps - j) << 46);
  double power;
  std::memcpy(&power, &power_bits, sizeof power);
  return power + power * p;
}

}  // namespace moka

#endif  // MOKA_RUNTIME_PORTABLE_EXP_H_
