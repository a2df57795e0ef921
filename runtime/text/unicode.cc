#include "runtime/text/unicode.h"

#include <utf8proc.h>

#include <algorithm>

namespace moka::text {

namespace {

unsigned char byte_at(std::string_view text, size_t i) {
  return static_cast<unsigned char>(text[i]);
}

struct CategoryName {
  std::string_view short_name, long_name;
  CategorySet set;
};

constexpr CategorySet kCased = bit(kLu) | bit(kLl) | bit(kLt);
constexpr CategorySet kLetter = kCased | bit(kLm) | bit(kLo);
constexpr CategorySet kMark = bit(kMn) | bit(kMc) | bit(kMe);
constexpr CategorySet kNumber = bit(kNd) | bit(kNl) | bit(kNo);
constexpr CategorySet kPunctuation =
    bit(kPc) | bit(kPd) | bit(kPs) | bit(kPe) | bit(kPi) | bit(kPf) | bit(kPo);
constexpr CategorySet kSymbol = bit(kSm) | bit(kSc) | bit(kSk) | bit(kSo);
constexpr CategorySet kSeparator = bit(kZs) | bit(kZl) | bit(kZp);
constexpr CategorySet kOther = bit(kCc) | bit(kCf) | bit(kCs) | bit(kCo) | bit(kCn);

constexpr CategoryName kCategoryNames[] = {
    {"L", "Letter", kLetter},
    {"LC", "Cased_Letter", kCased},
    {"Lu", "Uppercase_Letter", bit(kLu)},
    {"Ll", "Lowercase_Letter", bit(kLl)},
    {"Lt", "Titlecase_Letter", bit(kLt)},
    {"Lm", "Modifier_Letter", bit(kLm)},
    {"Lo", "Other_Letter", bit(kLo)},
    {"M", "Mark", kMark},
    {"Mn", "Nonspacing_Mark", bit(kMn)},
    {"Mc", "Spacing_Mark", bit(kMc)},
    {"Me", "Enclosing_Mark", bit(kMe)},
    {"N", "Number", kNumber},
    {"Nd", "Decimal_Number", bit(kNd)},
    {"Nl", "Letter_Number", bit(kNl)},
    {"No", "Other_Number", bit(kNo)},
    {"P", "Punctuation", kPunctuation},
    {"Pc", "Connector_Punctuation", bit(kPc)},
    {"Pd", "Dash_Punctuation", bit(kPd)},
    {"Ps", "Open_Punctuation", bit(kPs)},
    {"Pe", "Close_Punctuation", bit(kPe)},
    {"Pi", "Initial_Punctuation", bit(kPi)},
    {"Pf", "Final_Punctuation", bit(kPf)},
    {"Po", "Other_Punctuation", bit(kPo)},
    {"S", "Symbol", kSymbol},
    {"Sm", "Math_Symbol", bit(kSm)},
    {"Sc", "Currency_Symbol", bit(kSc)},
    {"Sk", "Modifier_Symbol", bit(kSk)},
    {"So", "Other_Symbol", bit(kSo)},
    {"Z", "Separator", kSeparator},
    {"Zs", "Space_Separator", bit(kZs)},
    {"Zl", "Line_Separator", bit(kZl)},
    {"Zp", "Paragraph_Separator", bit(kZp)},
    {"C", "Other", kOther},
    {"Cc", "Control", bit(kCc)},
    {"Cf", "Format", bit(kCf)},
    {"Cs", "Surrogate", bit(kCs)},
    {"Co", "Private_Use", bit(kCo)},
    {"Cn", "Unassigned", bit(kCn)},
};

CodePoint to_lower(CodePoint c) {
  return static_cast<CodePoint>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
}
CodePoint to_upper(CodePoint c) {
  return static_cast<CodePoint>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c)));
}

// No character that has a case variant lies at or above this one (Adlam, U+1E900 to U+1E943, is the
// last cased script), so scans for variants end here.
constexpr CodePoint kCaseEnd = 0x1F000;

int combining_class(CodePoint c) {
  return utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class;
}

// Canonical order: marks between two starters by class, equal classes in their order. A stable sort
// and not utf8proc's exchange of neighbours, which is quadratic on a long run of marks.
void sort_marks(std::vector<utf8proc_int32_t>* points) {
  auto is_starter = [](utf8proc_int32_t c) {
    return combining_class(static_cast<CodePoint>(c)) == 0;
  };
  auto by_class = [](utf8proc_int32_t a, utf8proc_int32_t b) {
    return combining_class(static_cast<CodePoint>(a)) < combining_class(static_cast<CodePoint>(b));
  };
  auto run = points->begin();
  while (run != points->end()) {
    run = std::find_if_not(run, points->end(), is_starter);
    auto end = std::find_if(run, points->end(), is_starter);
    std::stable_sort(run, end, by_class);
    run = end;
  }
}

bool normalize_valid(std::string_view text, NormalForm form, std::string* out) {
  const bool compat = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  const bool compose = form == NormalForm::kNfc || form == NormalForm::kNfkc;
  int options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
  if (compat) options |= UTF8PROC_COMPAT;

  std::vector<utf8proc_int32_t> points;
  points.reserve(text.size());
  constexpr utf8proc_ssize_t kMostParts = 64;  // the longest decomposition in Unicode has 18
  utf8proc_int32_t parts[kMostParts];
  for (size_t i = 0; i < text.size();) {
    const Decoded d = decode(text, i);
    i += d.length;
    int boundary_class = 0;
    const utf8proc_ssize_t n =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(d.code_point), parts, kMostParts,
                                static_cast<utf8proc_option_t>(options), &boundary_class);
    if (n < 0 || n > kMostParts) return false;
    points.insert(points.end(), parts, parts + n);
  }
  sort_marks(&points);
  auto count = static_cast<utf8proc_ssize_t>(points.size());
  if (compose) {
    count = utf8proc_normalize_utf32(
        points.data(), count, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    if (count < 0) return false;
  }
  for (utf8proc_ssize_t i = 0; i < count; ++i) {
    append_utf8(static_cast<CodePoint>(points[static_cast<size_t>(i)]), out);
  }
  return true;
}

}  // namespace

Utf8Scan scan_utf8(std::string_view text) {
  const unsigned char lead = byte_at(text, 0);
  if (lead < 0x80) return {Utf8Scan::kValid, 1};
  // Bounds of the second byte shut out overlong forms, surrogates and values above U+10FFFF.
  unsigned char low = 0x80, high = 0xBF;
  uint32_t length = 0;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {Utf8Scan::kInvalid, 1};
  }
  for (uint32_t i = 1; i < length; ++i) {
    if (i == text.size()) return {Utf8Scan::kCut, i};
    if (byte_at(text, i) < low || byte_at(text, i) > high) return {Utf8Scan::kInvalid, i};
    low = 0x80;
    high = 0xBF;
  }
  return {Utf8Scan::kValid, length};
}

Decoded decode_slow(std::string_view text, size_t position) {
  const std::string_view rest = text.substr(position, 4);
  const CodePoint b0 = byte_at(rest, 0);
  auto tail = [&](size_t i) -> CodePoint { return byte_at(rest, i) & 0x3Fu; };
  const Utf8Scan scan = scan_utf8(rest);
  switch (scan.kind == Utf8Scan::kValid ? scan.length : 0) {
    case 1: return {b0, 1};
    case 2: return {(b0 & 0x1Fu) << 6 | tail(1), 2};
    case 3: return {(b0 & 0x0Fu) << 12 | tail(1) << 6 | tail(2), 3};
    case 4: return {(b0 & 0x07u) << 18 | tail(1) << 12 | tail(2) << 6 | tail(3), 4};
    default: return {kInvalidByte + b0, 1};
  }
}

size_t step_back(std::string_view text, size_t position) {
  // A lead byte is never inside another sequence, so a sequence that ends here is the only reading.
  const size_t most = std::min<size_t>(position, 4);
  for (size_t n = 2; n <= most; ++n) {
    const unsigned char byte = byte_at(text, position - n);
    if (byte < 0x80) break;
    if (byte >= 0xC0) {
      const Utf8Scan scan = scan_utf8(text.substr(position - n, n));
      return scan.kind == Utf8Scan::kValid && scan.length == n ? position - n : position - 1;
    }
  }
  return position - 1;
}

size_t cluster_length(std::string_view text, size_t position) {
  Decoded previous = decode(text, position);
  size_t end = position + previous.length;
  utf8proc_int32_t state = 0;
  while (end < text.size()) {
    const Decoded next = decode(text, end);
    const bool apart = previous.code_point > kMaxCodePoint || next.code_point > kMaxCodePoint;
    if (apart ||
        utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(previous.code_point),
                                         static_cast<utf8proc_int32_t>(next.code_point), &state)) {
      break;
    }
    end += next.length;
    previous = next;
  }
  return end - position;
}

void append_utf8(CodePoint c, std::string* out) {
  auto put = [out](CodePoint byte) { out->push_back(static_cast<char>(byte & 0xFFu)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0u | c >> 6);
    put(0x80u | (c & 0x3Fu));
  } else if (c < 0x10000) {
    put(0xE0u | c >> 12);
    put(0x80u | (c >> 6 & 0x3Fu));
    put(0x80u | (c & 0x3Fu));
  } else if (c <= kMaxCodePoint) {
    put(0xF0u | c >> 18);
    put(0x80u | (c >> 12 & 0x3Fu));
    put(0x80u | (c >> 6 & 0x3Fu));
    put(0x80u | (c & 0x3Fu));
  } else {
    put(c - kInvalidByte);
  }
}

Category category(CodePoint c) {
  if (c > kMaxCodePoint) return kNotUtf8;
  return static_cast<Category>(utf8proc_category(static_cast<utf8proc_int32_t>(c)));
}

CategorySet category_set(std::string_view name) {
  for (const CategoryName& entry : kCategoryNames) {
    if (name == entry.short_name || name == entry.long_name) return entry.set;
  }
  return 0;
}

bool is_space(CodePoint c) {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_word(CodePoint c) {
  constexpr CategorySet kWord = kLetter | kMark | bit(kNd) | bit(kNl) | bit(kPc);
  if ((bit(category(c)) & kWord) != 0) return true;
  // Circled and squared Latin letters: symbols that are Alphabetic.
  return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
         (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
}

CodePoint fold_case(CodePoint c) {
  if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 32 : c;
  // The dotted capital I and the dotless small i fold to nothing else outside Turkic languages.
  if (c > kMaxCodePoint || c == 0x130 || c == 0x131) return c;
  return to_lower(to_upper(c));
}

CaseTable make_case_table() {
  CaseTable table;
  for (CodePoint c = 0; c < kCaseEnd; ++c) {
    const CodePoint folded = fold_case(c);
    if (folded == c) continue;
    table.emplace_back(folded, c);
    table.emplace_back(folded, folded);
  }
  std::sort(table.begin(), table.end());
  table.erase(std::unique(table.begin(), table.end()), table.end());
  return table;
}

std::vector<Range> case_variants(const CaseTable& table, const std::vector<Range>& ranges) {
  auto contains = [&ranges](CodePoint c) {
    return std::any_of(ranges.begin(), ranges.end(),
                       [c](const Range& r) { return c >= r.low && c <= r.high; });
  };
  std::vector<Range> variants;
  for (auto group = table.begin(); group != table.end();) {
    auto end = group;
    bool any = false;
    for (; end != table.end() && end->first == group->first; ++end) any |= contains(end->second);
    for (; group != end; ++group) {
      if (any && !contains(group->second)) variants.push_back({group->second, group->second});
    }
  }
  return variants;
}

void append_lower(CodePoint c, std::string* out) {
  if (c == 0x130) {
    append_utf8('i', out);
    append_utf8(0x307, out);
  } else {
    append_utf8(c > kMaxCodePoint ? c : to_lower(c), out);
  }
}

bool normalize(std::string_view text, NormalForm form, std::string* out) {
  out->clear();
  if (std::all_of(text.begin(), text.end(),
                  [](char c) { return static_cast<unsigned char>(c) < 0x80; })) {
    out->assign(text);  // ASCII is in every normal form
    return true;
  }
  size_t start = 0;  // of the current run of valid UTF-8
  for (size_t i = 0; i <= text.size();) {
    const bool end = i == text.size();
    const Decoded d = end ? Decoded{kInvalidByte, 1} : decode(text, i);
    if (d.code_point >= kInvalidByte) {
      if (!normalize_valid(text.substr(start, i - start), form, out)) return false;
      if (!end) out->push_back(text[i]);
      start = i + 1;
    }
    i += d.length;
  }
  return true;
}

}  // namespace moka::text
