#include "tests/png_builder.h"

#include <algorithm>

namespace moka::test {
namespace {

std::string big_endian(uint32_t value) {
  std::string out;
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 0xff);
  return out;
}

uint32_t crc32(const std::string& bytes) {
  uint32_t crc = 0xffffffffu;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int i = 0; i < 8; ++i) crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0xedb88320u : 0u);
  }
  return ~crc;
}

std::string chunk(const std::string& type, const std::string& data) {
  return big_endian(static_cast<uint32_t>(data.size())) + type + data +
         big_endian(crc32(type + data));
}

// A zlib stream of stored blocks.
std::string stored(const std::string& data) {
  std::string out = "\x78\x01";
  uint32_t a = 1, b = 0;
  for (const char c : data) {
    a = (a + static_cast<unsigned char>(c)) % 65521;
    b = (b + a) % 65521;
  }
  size_t at = 0;
  do {
    const size_t size = std::min<size_t>(data.size() - at, 65535);
    out += at + size == data.size() ? '\x01' : '\x00';
    const auto low = static_cast<uint16_t>(size);
    const auto inverse = static_cast<uint16_t>(~low);
    for (const uint16_t value : {low, inverse}) {
      out += static_cast<char>(value & 0xff);
      out += static_cast<char>(value >> 8);
    }
    out += data.substr(at, size);
    at += size;
  } while (at < data.size());
  return out + big_endian(b << 16 | a);
}

}  // namespace

std::string make_png(uint32_t width, uint32_t height, int depth, int color,
                     const std::vector<std::string>& rows, const std::string& palette) {
  std::string header = big_endian(width) + big_endian(height);
  header += static_cast<char>(depth);
  header += static_cast<char>(color);
  header += std::string(3, '\0');
  std::string data;
  for (const std::string& row : rows) data += std::string(1, '\0') + row;
  std::string png = "\x89PNG\r\n\x1a\n" + chunk("IHDR", header);
  if (!palette.empty()) png += chunk("PLTE", palette);
  return png + chunk("IDAT", stored(data)) + chunk("IEND", "");
}

}  // namespace moka::test
