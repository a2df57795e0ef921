// The regular expressions of tokenizers: what they match, what is refused, how much work they do.
#include "runtime/text/pattern.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "runtime/text/split.h"

namespace {

using moka::StatusCode;
using moka::text::Match;
using moka::text::Matcher;
using moka::text::Pattern;
using Pieces = std::vector<std::string>;

// The split rules of well-known tokenizers, as their files write them.
const char kGpt2[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const char kCl100k[] = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+)"
                       R"(| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++\z|\s*[\r\n]+|\s+(?!\S)|\s)";
const char kLlama3[] = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})"
                       R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char kQwen2[] = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})"
                      R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char kO200k[] =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// All matches, the searches going on behind each.
Pieces matches(const std::string& expression, const std::string& text) {
  auto pattern = Pattern::compile(expression);
  REQUIRE_MESSAGE(pattern.ok(), pattern.status().message());
  Matcher matcher(pattern.value());
  matcher.start(text);
  Pieces pieces;
  for (size_t from = 0; from <= text.size();) {
    Match match;
    auto found = matcher.find(from, &match);
    REQUIRE_MESSAGE(found.ok(), found.status().message());
    if (!found.value()) break;
    pieces.push_back(text.substr(match.begin, match.end - match.begin));
    from = match.end > from ? match.end : match.end + 1;
  }
  return pieces;
}

std::string refusal(const std::string& expression) {
  auto pattern = Pattern::compile(expression);
  if (pattern.ok()) return "accepted";
  CHECK(pattern.status().code() == StatusCode::kUnsupported);
  return pattern.status().message();
}

void mentions(const std::string& message, const std::string& part) {
  const bool found = message.find(part) != std::string::npos;
  CHECK_MESSAGE(found, "\"", part, "\" is not in: ", message);
}

// Contractions, case, digits, accents as one and as two code points, line ends, wide spaces.
const char kText[] =
    "I'll DON'T x1234 \xC3\xBC"
    "ber\xC3\x9F  na\xC3\xAFve\t\r\n\n  "
    "\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E\xEF\xBC\x81"
    "45 \xC2\xBD!?\n ok\xC2\xA0 a\xCC\x81"
    "b  ";

}  // namespace

// Expected pieces: computed with Python's regex module 2026.5.9.
TEST_CASE("pattern: GPT-2") {
  CHECK(matches(kGpt2, kText) == Pieces{"I",
                                        "'ll",
                                        " DON",
                                        "'",
                                        "T",
                                        " x",
                                        "1234",
                                        " \xC3\xBC"
                                        "ber\xC3\x9F",
                                        " ",
                                        " na\xC3\xAFve",
                                        "\t\r\n\n ",
                                        " \xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E",
                                        "\xEF\xBC\x81",
                                        "45",
                                        " \xC2\xBD",
                                        "!?",
                                        "\n",
                                        " ok",
                                        "\xC2\xA0",
                                        " a",
                                        "\xCC\x81",
                                        "b",
                                        "  "});
}

TEST_CASE("pattern: Llama 3, and cl100k with its possessive quantifiers") {
  const Pieces expected = {"I",
                           "'ll",
                           " DON",
                           "'T",
                           " x",
                           "123",
                           "4",
                           " \xC3\xBC"
                           "ber\xC3\x9F",
                           " ",
                           " na\xC3\xAFve",
                           "\t\r\n\n",
                           " ",
                           " \xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E",
                           "\xEF\xBC\x81",
                           "45",
                           " ",
                           "\xC2\xBD",
                           "!?\n",
                           " ok",
                           "\xC2\xA0",
                           " a",
                           "\xCC\x81"
                           "b",
                           "  "};
  CHECK(matches(kLlama3, kText) == expected);
  CHECK(matches(kCl100k, kText) == expected);
}

TEST_CASE("pattern: Qwen 2") {
  CHECK(matches(kQwen2, kText) == Pieces{"I",
                                         "'ll",
                                         " DON",
                                         "'T",
                                         " x",
                                         "1",
                                         "2",
                                         "3",
                                         "4",
                                         " \xC3\xBC"
                                         "ber\xC3\x9F",
                                         " ",
                                         " na\xC3\xAFve",
                                         "\t\r\n\n",
                                         " ",
                                         " \xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E",
                                         "\xEF\xBC\x81",
                                         "4",
                                         "5",
                                         " ",
                                         "\xC2\xBD",
                                         "!?\n",
                                         " ok",
                                         "\xC2\xA0",
                                         " a",
                                         "\xCC\x81"
                                         "b",
                                         "  "});
}

TEST_CASE("pattern: o200k") {
  CHECK(matches(kO200k, kText) == Pieces{"I'll",
                                         " DON'T",
                                         " x",
                                         "123",
                                         "4",
                                         " \xC3\xBC"
                                         "ber\xC3\x9F",
                                         " ",
                                         " na\xC3\xAFve",
                                         "\t\r\n\n",
                                         " ",
                                         " \xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E",
                                         "\xEF\xBC\x81",
                                         "45",
                                         " ",
                                         "\xC2\xBD",
                                         "!?\n",
                                         " ok",
                                         "\xC2\xA0",
                                         " a\xCC\x81"
                                         "b",
                                         "  "});
}

TEST_CASE("pattern: the leftmost alternative that lets the rest match wins") {
  CHECK(matches("a|ab|abc", "abc") == Pieces{"a"});
  CHECK(matches("(?:a|ab)c", "abc") == Pieces{"abc"});
  CHECK(matches("(?:a|ab)(?:c|bcd)d?", "abcd") == Pieces{"abcd"});
  CHECK(matches("x|", "ax") == Pieces{"", "x", ""});
}

TEST_CASE("pattern: quantifiers") {
  CHECK(matches("a?", "aab") == Pieces{"a", "a", "", ""});
  CHECK(matches("a{2}", "aaaaa") == Pieces{"aa", "aa"});
  CHECK(matches("a{2,3}", "aaaaa") == Pieces{"aaa", "aa"});
  CHECK(matches("a{2,}", "abaaab") == Pieces{"aaa"});
  CHECK(matches("a+?", "aaa") == Pieces{"a", "a", "a"});
  CHECK(matches("<.+?>", "<a><b>") == Pieces{"<a>", "<b>"});
  CHECK(matches("<.+>", "<a><b>") == Pieces{"<a><b>"});
  CHECK(matches("a*ab", "aaab") == Pieces{"aaab"});
  CHECK(matches("a*+ab", "aaab").empty());  // possessive: gives nothing back
  CHECK(matches("(?>a*)ab", "aaab").empty());
  CHECK(matches("(?:ab)+", "ababa") == Pieces{"abab"});
  CHECK(matches("(?:ab){1,2}?a", "ababa") == Pieces{"aba"});
  CHECK(matches("(?:ab|a)++b", "abab").empty());
  CHECK(matches("(?:ab|a)+b", "abaab") == Pieces{"abaab"});
  CHECK(matches("\\p{N}{1,3}+5", "1235").size() == 1);
  CHECK(matches("\\p{N}{1,4}+5", "1235").empty());
}

TEST_CASE("pattern: looking ahead and behind") {
  CHECK(matches("a(?=b)", "abac") == Pieces{"a"});
  CHECK(matches("a(?!b)", "abac") == Pieces{"a"});
  CHECK(matches("\\w+(?=,)", "ab, cd") == Pieces{"ab"});
  CHECK(matches("x(?=(?:ab)+c)", "xababd xabc") == Pieces{"x"});
  CHECK(matches("x(?!(?:ab)+c)", "xababd xabc") == Pieces{"x"});
  CHECK(matches("(?<=a)b", "ab bb") == Pieces{"b"});
  CHECK(matches("(?<!a)b", "ab bb") == Pieces{"b", "b"});
  CHECK(matches("(?<=\xC3\xA9)b",
                "\xC3\xA9"
                "bb") == Pieces{"b"});
  CHECK(matches("^a|b$", "a\naab\nb") == Pieces{"a", "a", "b", "b"});
  CHECK(matches("\\Aa|b\\z", "a\naab\nb") == Pieces{"a", "b"});
}

TEST_CASE("pattern: classes and escapes") {
  CHECK(matches("[a-c]+", "xabcd") == Pieces{"abc"});
  CHECK(matches("[^a-c]+", "xabcd") == Pieces{"x", "d"});
  CHECK(matches("[\\]\\-a]+", "]-ab") == Pieces{"]-a"});
  CHECK(matches("[a-]+", "-ab") == Pieces{"-a"});
  CHECK(matches("[^\\r\\n]+", "a\r\nb") == Pieces{"a", "b"});
  CHECK(matches("[\xE4\xB8\x80-\xE9\xBE\xA5]+",
                "a\xE6\x97\xA5"
                "b") == Pieces{"\xE6\x97\xA5"});
  CHECK(matches(".+", "ab\ncd\xC2\x85") == Pieces{"ab", "cd\xC2\x85"});
  CHECK(matches("\\x41\\x{42}\\u0043", "ABC") == Pieces{"ABC"});
  CHECK(matches("\\t\\f\\v\\a\\e\\.\\|", "\t\f\v\a\x1B.|") == Pieces{"\t\f\v\a\x1B.|"});
  CHECK(matches("\\x{1F600}", "\xF0\x9F\x98\x80") == Pieces{"\xF0\x9F\x98\x80"});
}

TEST_CASE("pattern: Unicode categories") {
  CHECK(matches("\\p{Lu}+",
                "AB\xC3\x89"
                "a") == Pieces{"AB\xC3\x89"});
  CHECK(matches("\\p{Uppercase_Letter}", "aB") == Pieces{"B"});
  CHECK(matches("\\pL+", "1ab2") == Pieces{"ab"});
  CHECK(matches("\\p{^L}+|\\PN", "1ab2") == Pieces{"1", "a", "b", "2"});
  CHECK(matches("[\\P{L}]+", "1ab2") == Pieces{"1", "2"});
  CHECK(matches("\\p{M}", "a\xCC\x81") == Pieces{"\xCC\x81"});
  CHECK(matches("\\p{P}+", "a!?\xE3\x80\x82") == Pieces{"!?\xE3\x80\x82"});
  CHECK(matches("\\p{S}+", "a+\xE2\x82\xAC\xF0\x9F\x98\x80") ==
        Pieces{"+\xE2\x82\xAC\xF0\x9F\x98\x80"});
  CHECK(matches("\\p{Z}", "a\xE3\x80\x80\n") == Pieces{"\xE3\x80\x80"});
  CHECK(matches("\\s+", "a\t\n\v\f\r \xC2\x85\xC2\xA0\xE2\x80\xA8\xE3\x80\x80z") ==
        Pieces{"\t\n\v\f\r \xC2\x85\xC2\xA0\xE2\x80\xA8\xE3\x80\x80"});
  CHECK(matches("\\d+",
                "\xD9\xA3"
                "4\xC2\xBD") == Pieces{"\xD9\xA3"
                                       "4"});
  CHECK(matches("\\w+", "a_1\xE3\x81\x82-\xE2\x93\x90") ==
        Pieces{"a_1\xE3\x81\x82", "\xE2\x93\x90"});
  CHECK(matches("[^\\W\\d]+", "ab12-c") == Pieces{"ab", "c"});
  CHECK(matches("[\\S\\n]+", "a \n") == Pieces{"a", "\n"});
}

TEST_CASE("pattern: without regard to case") {
  CHECK(matches("(?i:ab)c", "ABc abC") == Pieces{"ABc"});
  CHECK(matches("(?i)ab", "ABab") == Pieces{"AB", "ab"});
  CHECK(matches("(?i:[a-c]+)x", "AbCx") == Pieces{"AbCx"});
  CHECK(matches("(?i:[^a])", "aAb") == Pieces{"b"});
  CHECK(matches("(?i:s)", "sS\xC5\xBF") == Pieces{"s", "S", "\xC5\xBF"});   // long s
  CHECK(matches("(?i:\xCF\x83)", "\xCE\xA3\xCF\x83\xCF\x82").size() == 3);  // three sigmas
  CHECK(matches("(?i:i)", "iI\xC4\xB0\xC4\xB1") == Pieces{"i", "I"});       // not the Turkish two
  CHECK(matches("(?i:\\p{L}')", "A'") == Pieces{"A'"});
}

TEST_CASE("pattern: bytes that are not UTF-8 are characters of no category") {
  CHECK(matches("\\p{L}+",
                "a\xFF"
                "b") == Pieces{"a", "b"});
  CHECK(matches("[^\\s\\p{L}\\p{N}]+", "a\xFF\x80!b") == Pieces{"\xFF\x80!"});
  CHECK(matches("\\P{L}", "\xE6\x97").size() == 2);  // a cut sequence: two of them
  CHECK(matches("\\p{C}", "\xFF").empty());
  CHECK(matches(".", "\xED\xA0\x80").size() == 3);  // a surrogate is not UTF-8
  CHECK(matches("(?<=[^a])b",
                "\x80"
                "b") == Pieces{"b"});
}

TEST_CASE("pattern: what is not understood is refused with its place") {
  mentions(refusal("ab(?P<x>c)"), "at byte 2: \"(?P<\"");
  mentions(refusal("a\\b"), "at byte 1: \"\\b\"");
  mentions(refusal("(a)\\1"), "at byte 3: references");
  mentions(refusal("x\\p{Han}"), "at byte 1: property \"Han\"");
  mentions(refusal("[a[b]]"), "at byte 2: a class inside a class");
  mentions(refusal("[a&&b]"), "at byte 2: \"&&\"");
  mentions(refusal("[a"), "at byte 0: \"[\" without");
  mentions(refusal("[]"), "at byte 1: an empty class");
  mentions(refusal("a)"), "at byte 1: \")\" without");
  mentions(refusal("(a"), "at byte 0: \"(\" without");
  mentions(refusal("*a"), "at byte 0: \"*\" has nothing");
  mentions(refusal("a**"), "at byte 2: a quantifier after a quantifier");
  mentions(refusal("a{2}?"), "at byte 4: \"?\" after {m}");
  mentions(refusal("a{3,2}"), "wrong order");
  mentions(refusal("a{,3}"), "at byte 1: \"{\" begins no");
  mentions(refusal("a{1001}"), "more than 1000");
  mentions(refusal("[b-a]"), "at byte 1: the bounds");
  mentions(refusal("(?<=ab)c"), "at byte 0: a lookbehind");
  mentions(refusal("\\xE9"), "at byte 0: \\x80 to \\xFF");
  mentions(refusal("\\x{110000}"), "no Unicode character");
  mentions(refusal("\\uD800"), "no Unicode character");
  mentions(refusal("a\\"), "at byte 1: \"\\\" at the end");
  mentions(refusal("a(?i)b"), "at byte 1: \"(?i)");
  mentions(refusal("(?i:\\p{Lu})"), "(?i) with");
  mentions(refusal("(?:a*)*"), "can match nothing");
  mentions(refusal("\xFF"), "at byte 0: a byte that is not UTF-8");
  mentions(refusal(std::string(70000, 'a')), "at most 65536");
  mentions(refusal(std::string(200, '(') + std::string(200, ')')), "nest deeper than 100");
  mentions(refusal("(?:(?:(?:ab){1000}){1000}){1000}"), "unroll to more than");
  mentions(refusal("(?:(?:(?:(?:){1000}){1000}){1000}){1000}"), "unroll to more than");
}

TEST_CASE("pattern: {m,n}+ is marked, because programs differ about it") {
  CHECK(Pattern::compile("\\p{N}{1,3}+").value().possessive_interval() == 10);
  CHECK(Pattern::compile("\\p{N}++a{1,3}").value().possessive_interval() == std::string::npos);
}

TEST_CASE("pattern: the rules of tokenizers do linear work on ten megabytes without a line end") {
  const size_t size = 10 << 20;
  const std::string texts[] = {std::string(size, 'a'), std::string(size, ' '),
                               std::string(size, '1'), std::string(size, '\n'),
                               std::string(size - 1, ' ') + "x"};
  for (const char* expression : {kGpt2, kCl100k, kLlama3, kQwen2, kO200k}) {
    auto pattern = Pattern::compile(expression);
    REQUIRE(pattern.ok());
    Matcher matcher(pattern.value());
    for (const std::string& text : texts) {
      matcher.start(text);
      size_t at = 0, count = 0;
      while (at < text.size()) {
        Match match;
        auto found = matcher.find(at, &match);
        REQUIRE_MESSAGE(found.ok(), found.status().message());
        REQUIRE(found.value());
        REQUIRE(match.begin == at);
        REQUIRE(match.end > at);
        at = match.end;
        if (++count == 1000) break;
      }
    }
  }
}

TEST_CASE("pattern: work without bound ends with an error") {
  auto pattern = Pattern::compile("(?:a|aa)+b");
  REQUIRE(pattern.ok());
  Matcher matcher(pattern.value());
  const std::string text(60, 'a');
  matcher.start(text);
  Match match;
  auto found = matcher.find(0, &match);
  REQUIRE_FALSE(found.ok());
  CHECK(found.status().code() == StatusCode::kOutOfRange);
  mentions(found.status().message(), "at byte 0 of 60: more work");
}

namespace {

Pieces cut(const moka::PreTokenizer& rule, const std::string& text) {
  auto splitter = moka::text::Splitter::create({rule});
  REQUIRE_MESSAGE(splitter.ok(), splitter.status().message());
  Pieces pieces;
  moka::text::SplitRun run(splitter.value());
  const moka::Status status = run.cut(text, true, [&](std::string_view piece) {
    pieces.emplace_back(piece);
    return moka::Status();
  });
  REQUIRE(status.ok());
  return pieces;
}

moka::PreTokenizer split_rule(const std::string& pattern, moka::SplitBehavior behavior,
                              bool invert = false) {
  moka::PreTokenizer rule;
  rule.pattern = pattern;
  rule.behavior = behavior;
  rule.invert = invert;
  return rule;
}

}  // namespace

TEST_CASE("pattern: the five behaviours of Split") {
  using B = moka::SplitBehavior;
  const std::string text = "the-final--countdown-";  // the example of Hugging Face's documentation
  CHECK(cut(split_rule("-", B::kRemoved), text) == Pieces{"the", "final", "countdown"});
  CHECK(cut(split_rule("-", B::kIsolated), text) ==
        Pieces{"the", "-", "final", "-", "-", "countdown", "-"});
  CHECK(cut(split_rule("-", B::kMergedWithPrevious), text) ==
        Pieces{"the-", "final-", "-", "countdown-"});
  CHECK(cut(split_rule("-", B::kMergedWithNext), text) ==
        Pieces{"the", "-final", "-", "-countdown", "-"});
  CHECK(cut(split_rule("-", B::kContiguous), text) ==
        Pieces{"the", "-", "final", "--", "countdown", "-"});
  CHECK(cut(split_rule("[a-z]+", B::kRemoved, true), text) == Pieces{"the", "final", "countdown"});
  CHECK(cut(split_rule("-", B::kMergedWithPrevious), "--a") == Pieces{"-", "-", "a"});
  CHECK(cut(split_rule("-", B::kMergedWithNext), "--a") == Pieces{"-", "-a"});
  CHECK(cut(split_rule("(?=[A-Z])", B::kIsolated), "aBCd") == Pieces{"a", "B", "Cd"});
  CHECK(cut(split_rule("x", B::kIsolated), "").empty());
}

TEST_CASE("pattern: pre-tokenizers without a pattern of their own") {
  moka::PreTokenizer rule;
  rule.kind = moka::PreTokenizerKind::kDigits;
  CHECK(cut(rule,
            "ab12\xC2\xBD"
            "c") == Pieces{"ab", "12\xC2\xBD", "c"});
  rule.individual_digits = true;
  CHECK(cut(rule, "ab12c") == Pieces{"ab", "1", "2", "c"});
  rule.kind = moka::PreTokenizerKind::kPunctuation;
  CHECK(cut(rule, "a?!b$\xE3\x80\x82") == Pieces{"a", "?", "!", "b", "$", "\xE3\x80\x82"});
  rule.kind = moka::PreTokenizerKind::kWhitespace;
  CHECK(cut(rule, "Hey, man!\xE3\x81\x82") == Pieces{"Hey", ",", "man", "!", "\xE3\x81\x82"});
  rule.kind = moka::PreTokenizerKind::kWhitespaceSplit;
  CHECK(cut(rule, " Hey,  man!") == Pieces{"Hey,", "man!"});
  moka::PreTokenizer literal;
  literal.literal = true;
  literal.pattern = "a+";
  CHECK(cut(literal, "aaa+b") == Pieces{"aa", "a+", "b"});

  const std::string mark = "\xE2\x96\x81";
  rule = moka::PreTokenizer();
  rule.kind = moka::PreTokenizerKind::kMetaspace;
  rule.behavior = moka::SplitBehavior::kMergedWithNext;
  CHECK(cut(rule, "a  b c") == Pieces{"a", mark, mark + "b", mark + "c"});
  rule.add_prefix_space = true;
  CHECK(cut(rule, "a b") == Pieces{mark + "a", mark + "b"});
  CHECK(cut(rule, " a") == Pieces{mark + "a"});
  CHECK(cut(rule, mark + "a") == Pieces{mark + "a"});
  rule.behavior = moka::SplitBehavior::kContiguous;
  CHECK(cut(rule, "a b") == Pieces{mark + "a" + mark + "b"});

  // Behind another rule, "only where the text begins" means its first piece.
  moka::PreTokenizer words;
  words.kind = moka::PreTokenizerKind::kWhitespaceSplit;
  rule.literal = true;
  const auto both = moka::text::Splitter::create({words, rule});
  REQUIRE(both.ok());
  auto run_both = [&](const std::string& text, bool first) {
    moka::text::SplitRun run(both.value());
    Pieces pieces;
    REQUIRE(run.cut(text, first,
                    [&](std::string_view piece) {
                      pieces.emplace_back(piece);
                      return moka::Status();
                    })
                .ok());
    return pieces;
  };
  CHECK(run_both("a b", true) == Pieces{mark + "a", "b"});
  CHECK(run_both(" a b", true) == Pieces{"a", "b"});
  CHECK(run_both("a b", false) == Pieces{"a", "b"});

  rule.kind = static_cast<moka::PreTokenizerKind>(99);
  auto refused = moka::text::Splitter::create({literal, rule});
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.status().code() == StatusCode::kUnsupported);
  mentions(refused.status().message(), "pre-tokenizer 1: kind 99 is not known");
}
