// Code points in UTF-8 text and the Unicode properties that tokenizers ask for.
//
// Text may hold bytes that are not UTF-8. Each such byte counts as one "code point" of its own,
// with a value above U+10FFFF, of no category: it is no letter, number, mark or space. All
// functions are pure; any thread. Property data: utf8proc.
#ifndef MOKA_RUNTIME_TEXT_UNICODE_H_
#define MOKA_RUNTIME_TEXT_UNICODE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace moka::text {

using CodePoint = uint32_t;

constexpr CodePoint kMaxCodePoint = 0x10FFFF;
// The byte b where no UTF-8 sequence starts reads as kInvalidByte + b.
constexpr CodePoint kInvalidByte = 0x110000;

struct Decoded {
  CodePoint code_point;
  uint32_t length;  // bytes, at least 1
};

// What stands at the start of a text that is not empty.
struct Utf8Scan {
  enum Kind {
    kValid,    // a sequence of RFC 3629
    kCut,      // the text ends inside what may still become one
    kInvalid,  // what can never become one
  };
  Kind kind;
  uint32_t length;  // bytes; of kInvalid: as many as a decoder replaces by one U+FFFD
};
Utf8Scan scan_utf8(std::string_view text);

// Decodes a position whose first byte is not ASCII; use decode().
Decoded decode_slow(std::string_view text, size_t position);

// The code point at `position`, which must be less than text.size().
inline Decoded decode(std::string_view text, size_t position) {
  const auto byte = static_cast<unsigned char>(text[position]);
  if (byte < 0x80) return {byte, 1};
  return decode_slow(text, position);
}

// Start of the code point that ends at `position`, which must be a boundary and greater than 0.
size_t step_back(std::string_view text, size_t position);

// Bytes of the grapheme cluster (what a reader takes for one character) that begins at `position`,
// which must be less than text.size().
size_t cluster_length(std::string_view text, size_t position);

// Appends the UTF-8 form; kInvalidByte + b becomes the byte b again.
void append_utf8(CodePoint code_point, std::string* out);

// General categories as a set of bits: bit c is category c in the order of Category.
using CategorySet = uint32_t;
enum Category : uint32_t {
  kCn,
  kLu,
  kLl,
  kLt,
  kLm,
  kLo,
  kMn,
  kMc,
  kMe,
  kNd,
  kNl,
  kNo,
  kPc,
  kPd,
  kPs,
  kPe,
  kPi,
  kPf,
  kPo,
  kSm,
  kSc,
  kSk,
  kSo,
  kZs,
  kZl,
  kZp,
  kCc,
  kCf,
  kCs,
  kCo,
  kNotUtf8 = 31,  // of bytes that are not UTF-8; in no named set
};
constexpr CategorySet bit(Category category) { return CategorySet{1} << category; }

Category category(CodePoint code_point);

// The set of a property name such as "L", "Lu" or "Punctuation"; 0 for an unknown name.
CategorySet category_set(std::string_view name);

// White_Space of the Unicode character database.
bool is_space(CodePoint code_point);

// Alphabetic, marks, decimal numbers and connectors: \w.
bool is_word(CodePoint code_point);

// Simple case folding: two characters are equal without regard to case when these are equal.
CodePoint fold_case(CodePoint code_point);

struct Range {
  CodePoint low, high;  // both included
};

// The characters that have case variants: (folding, character), sorted; about 3000 entries.
using CaseTable = std::vector<std::pair<CodePoint, CodePoint>>;
CaseTable make_case_table();
// The characters outside `ranges` that differ only in case from one inside.
std::vector<Range> case_variants(const CaseTable& table, const std::vector<Range>& ranges);

// Lower case of every character by itself (no final sigma, U+0130 becomes two code points).
void append_lower(CodePoint code_point, std::string* out);

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };
// Bytes that are not UTF-8 stay as they are. False when memory ran out.
bool normalize(std::string_view text, NormalForm form, std::string* out);

}  // namespace moka::text

#endif  // MOKA_RUNTIME_TEXT_UNICODE_H_
