// CharClass: a set of code points such as [^\r\n\p{L}\p{N}].
//
// Membership of code points below U+0800 is one bit test; above that, categories and ranges are
// asked. Built step by step, then sealed; immutable and safe for any thread after seal().
#ifndef MOKA_RUNTIME_TEXT_CHAR_CLASS_H_
#define MOKA_RUNTIME_TEXT_CHAR_CLASS_H_

#include <array>
#include <cstdint>
#include <vector>

#include "runtime/text/unicode.h"

namespace moka::text {

class CharClass {
 public:
  void add_range(CodePoint low, CodePoint high);
  void add_categories(CategorySet categories, bool negated);
  void add_spaces(bool negated);
  void add_words(bool negated);
  // Adds what differs only in case from the ranges added so far. False if the class also has
  // categories that tell cases apart, for which "without regard to case" has no agreed meaning.
  bool ignore_case(const CaseTable& table);
  // Turns the whole class around; call it last before seal().
  void negate() { negated_ = true; }
  void seal();

  bool contains(CodePoint c) const {
    return c < kTable ? (table_[c / 64] >> (c % 64) & 1) != 0 : contains_slow(c);
  }
  // Whether some member's UTF-8 form, or a stray byte that is a member, may begin with `byte`.
  bool may_begin_with(uint8_t byte) const { return byte >= 0x80 || contains(byte); }

 private:
  static constexpr CodePoint kTable = 0x800;

  bool contains_slow(CodePoint c) const;

  std::vector<Range> ranges_;
  CategorySet categories_ = 0;
  bool spaces_ = false, not_spaces_ = false, words_ = false, not_words_ = false;
  bool negated_ = false;
  std::array<uint64_t, kTable / 64> table_{};
};

}  // namespace moka::text

#endif  // MOKA_RUNTIME_TEXT_CHAR_CLASS_H_
