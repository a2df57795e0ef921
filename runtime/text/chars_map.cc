#include "runtime/text/chars_map.h"

namespace moka::text {

namespace {

uint32_t read_u32(const uint8_t* bytes) {
  return uint32_t{bytes[0]} | uint32_t{bytes[1]} << 8 | uint32_t{bytes[2]} << 16 |
         uint32_t{bytes[3]} << 24;
}

bool has_value(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t offset_of(uint32_t unit) { return unit >> 10 << ((unit & 1u << 9) >> 6); }
// Of a value unit: never a byte, because of bit 31.
uint32_t label_of(uint32_t unit) { return unit & (1u << 31 | 0xFF); }

}  // namespace

Result<CharsMap> CharsMap::parse(const std::vector<uint8_t>& data) {
  auto corrupt = [&](const std::string& what) {
    return Status(StatusCode::kCorrupt, "PrecompiledMap: " + what);
  };
  if (data.size() < 9) {
    return corrupt("has " + std::to_string(data.size()) + " bytes, at least 9 are needed");
  }
  const uint64_t size = read_u32(data.data());
  if (size == 0 || size % 4 != 0 || size >= data.size() - 4) {
    return corrupt("the array is said to have " + std::to_string(size) + " bytes of " +
                   std::to_string(data.size() - 4) + ", not a multiple of 4 within them");
  }
  if (data.back() != 0) return corrupt("the last replacement has no zero byte at its end");
  CharsMap map;
  for (size_t i = 4; i < 4 + size; i += 4) map.units_.push_back(read_u32(data.data() + i));
  map.replacements_.assign(data.begin() + static_cast<std::ptrdiff_t>(4 + size), data.end());
  return map;
}

CharsMap::Found CharsMap::find(std::string_view text, bool shortest) const {
  Found found;
  size_t node = offset_of(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    node ^= byte;
    if (node >= units_.size() || label_of(units_[node]) != byte) break;
    const uint32_t unit = units_[node];
    node ^= offset_of(unit);
    if (!has_value(unit)) continue;
    if (node >= units_.size()) break;
    const size_t begin = units_[node] & 0x7FFFFFFFu;
    if (begin >= replacements_.size()) break;
    found.replacement = std::string_view(replacements_.data() + begin);  // up to its zero byte
    found.length = i + 1;
    if (shortest) break;
  }
  return found;
}

}  // namespace moka::text
