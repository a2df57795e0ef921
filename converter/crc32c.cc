#include "converter/crc32c.h"

#include <array>

namespace moka {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78u;  // 0x1edc6f41 with its bits reversed

// What a byte does to the remainder.
constexpr std::array<uint32_t, 256> make_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit) {
      remainder = (remainder >> 1) ^ ((remainder & 1) != 0 ? kPolynomial : 0);
    }
    table[byte] = remainder;
  }
  return table;
}

constexpr std::array<uint32_t, 256> kTable = make_table();

}  // namespace

uint32_t crc32c(const uint8_t* bytes, size_t count) {
  uint32_t remainder = 0xffffffffu;
  for (size_t i = 0; i < count; ++i) {
    remainder = (remainder >> 8) ^ kTable[(remainder ^ bytes[i]) & 0xff];
  }
  return ~remainder;
}

}  // namespace moka
