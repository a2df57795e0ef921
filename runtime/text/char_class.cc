#include "runtime/text/char_class.h"

#include <algorithm>

namespace moka::text {

void CharClass::add_range(CodePoint low, CodePoint high) { ranges_.push_back({low, high}); }

void CharClass::add_categories(CategorySet categories, bool negated) {
  categories_ |= negated ? ~categories : categories;
}

void CharClass::add_spaces(bool negated) { (negated ? not_spaces_ : spaces_) = true; }

void CharClass::add_words(bool negated) { (negated ? not_words_ : words_) = true; }

bool CharClass::ignore_case(const CaseTable& table) {
  constexpr CategorySet kCased = bit(kLu) | bit(kLl) | bit(kLt);
  const CategorySet cased = categories_ & kCased;
  if (cased != 0 && cased != kCased) return false;
  const std::vector<Range> variants = case_variants(table, ranges_);
  ranges_.insert(ranges_.end(), variants.begin(), variants.end());
  return true;
}

void CharClass::seal() {
  std::sort(ranges_.begin(), ranges_.end(),
            [](const Range& a, const Range& b) { return a.low < b.low; });
  size_t kept =
      0;  // overlapping and touching ranges become one, so that contains_slow() can search
  for (size_t i = 1; i < ranges_.size(); ++i) {
    if (ranges_[i].low <= ranges_[kept].high + 1) {
      ranges_[kept].high = std::max(ranges_[kept].high, ranges_[i].high);
    } else {
      ranges_[++kept] = ranges_[i];
    }
  }
  if (!ranges_.empty()) ranges_.resize(kept + 1);
  for (CodePoint c = 0; c < kTable; ++c) {
    if (contains_slow(c)) table_[c / 64] |= uint64_t{1} << (c % 64);
  }
}

bool CharClass::contains_slow(CodePoint c) const {
  auto holds = [this, c] {
    if ((spaces_ || not_spaces_) && (is_space(c) ? spaces_ : not_spaces_)) return true;
    if (categories_ != 0 && (bit(category(c)) & categories_) != 0) return true;
    if ((words_ || not_words_) && (is_word(c) ? words_ : not_words_)) return true;
    auto after = std::upper_bound(ranges_.begin(), ranges_.end(), c,
                                  [](CodePoint value, const Range& r) { return value < r.low; });
    return after != ranges_.begin() && c <= (after - 1)->high;
  };
  return holds() != negated_;
}

}  // namespace moka::text
