#include "runtime/text/sentence_rules.h"

#include "runtime/text/unicode.h"

namespace moka::text {

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

}  // namespace

Result<SentenceRules> SentenceRules::take(const std::vector<Normalizer>& rules, size_t first,
                                          const PieceTrie* kept, size_t* count) {
  SentenceRules result;
  result.kept_ = kept;
  size_t at = first;
  auto is = [&](NormalizerKind kind) { return at < rules.size() && rules[at].kind == kind; };
  *count = 0;
  if (is(NormalizerKind::kPrecompiledMap) && rules[at].literal) {
    MOKA_ASSIGN_OR_RETURN(CharsMap map, CharsMap::parse(rules[at].data));
    result.map_ = std::make_shared<const CharsMap>(std::move(map));
    ++at;
  }
  if (is(NormalizerKind::kCollapseSpaces)) {
    result.collapse_ = true;
    ++at;
  }
  const bool begun = at > first;
  if (is(NormalizerKind::kPrepend) && rules[at].content == " ") {
    const bool underline_follows =
        at + 1 < rules.size() && rules[at + 1].kind == NormalizerKind::kSpacesToUnderline;
    if (begun || underline_follows) {
      result.space_in_front_ = true;
      ++at;
    }
  }
  if (is(NormalizerKind::kSpacesToUnderline)) {
    result.underline_ = true;
    ++at;
  }
  *count = at - first;
  return result;
}

std::string_view SentenceRules::next(std::string_view text, size_t* length) const {
  if (kept_ != nullptr && kept_->longest(text, 0, length) >= 0) return text.substr(0, *length);
  if (map_ != nullptr) {
    const CharsMap::Found found = map_->longest(text);
    if (found.length != 0) {
      *length = found.length;
      return found.replacement;
    }
  }
  const Decoded d = decode(text, 0);
  *length = d.length;
  return d.code_point > kMaxCodePoint ? kReplacement : text.substr(0, d.length);
}

void SentenceRules::apply(std::string_view text, std::string* out) const {
  size_t length = 0;
  while (collapse_ && !text.empty() && next(text, &length) == " ") text.remove_prefix(length);
  if (text.empty()) return;
  const std::string_view space = underline_ ? kSpaceMark : std::string_view(" ");
  out->reserve(out->size() + text.size() + text.size() / 2);
  const size_t begin = out->size();
  if (space_in_front_) out->append(space);

  bool after_space = collapse_;
  while (!text.empty()) {
    std::string_view part = next(text, &length);
    while (after_space && !part.empty() && part[0] == ' ') part.remove_prefix(1);
    for (const char c : part) {
      if (c == ' ') {
        out->append(space);
      } else {
        out->push_back(c);
      }
    }
    if (!part.empty()) after_space = collapse_ && part.back() == ' ';
    text.remove_prefix(length);
  }
  while (collapse_ && ends_with(std::string_view(*out).substr(begin), space)) {
    out->resize(out->size() - space.size());
  }
}

}  // namespace moka::text
