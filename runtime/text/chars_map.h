// SentencePiece's table of replacements (precompiled_charsmap): texts of one or more characters and
// what they become, as a double array and the replacements one after the other.
//
//   uint32 bytes of the array | the array, uint32 units | replacements, each ended by a zero byte
//
// A unit (the layout of Darts-clone): bits 0-7 label, bit 8 a value follows, bits 10-30 offset to
// the children (in steps of 256 where bit 9 is set); a value unit has bit 31 and 31 bits of value.
#ifndef MOKA_RUNTIME_TEXT_CHARS_MAP_H_
#define MOKA_RUNTIME_TEXT_CHARS_MAP_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "moka/status.h"

namespace moka::text {

// Immutable; any thread. Nothing in the table is trusted: a walk that would leave the array ends.
class CharsMap {
 public:
  // kCorrupt: `data` is no such table.
  static Result<CharsMap> parse(const std::vector<uint8_t>& data);

  struct Found {
    std::string_view replacement;
    size_t length = 0;  // bytes of the text that it replaces; 0: none
  };
  // The longest entry with which `text` begins.
  Found longest(std::string_view text) const { return find(text, false); }
  // The shortest one.
  Found shortest(std::string_view text) const { return find(text, true); }

 private:
  Found find(std::string_view text, bool shortest) const;

  std::vector<uint32_t> units_;
  std::string replacements_;  // ends with a zero byte
};

}  // namespace moka::text

#endif  // MOKA_RUNTIME_TEXT_CHARS_MAP_H_
