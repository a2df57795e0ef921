// Tokenizers: GPT-2's own vectors, raw bytes, streaming, and the rules that a model file may carry.
#include "moka/tokenizer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "converter/tokenizer_json.h"
#include "nlohmann/json.hpp"

namespace {

using moka::SpecialToken;
using moka::StatusCode;
using moka::TextStream;
using moka::TokenId;
using moka::Tokenizer;
using moka::TokenizerSpec;
using Ids = std::vector<TokenId>;

const std::string kData = std::string(MOKA_SOURCE_DIR) + "/tests/data/";

Tokenizer make(moka::Result<TokenizerSpec> spec) {
  REQUIRE_MESSAGE(spec.ok(), spec.status().message());
  auto tokenizer = Tokenizer::create(std::move(spec).value());
  REQUIRE_MESSAGE(tokenizer.ok(), tokenizer.status().message());
  return std::move(tokenizer).value();
}

const Tokenizer& gpt2() {
  static const Tokenizer tokenizer = make(moka::read_gpt2_tokenizer(
      kData + "tokenizers/gpt2-encoder.json", kData + "tokenizers/gpt2-vocab.bpe", {}));
  return tokenizer;
}

Ids encode(const Tokenizer& tokenizer, const std::string& text, bool parse_special = true) {
  Ids ids;
  const moka::Status status = tokenizer.encode(text, &ids, parse_special);
  REQUIRE_MESSAGE(status.ok(), status.message());
  return ids;
}

std::string decode(const Tokenizer& tokenizer, const Ids& ids) {
  auto text = tokenizer.decode(ids);
  REQUIRE_MESSAGE(text.ok(), text.status().message());
  return text.value();
}

// The pieces of the text, for readable expectations.
std::vector<std::string> pieces(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<std::string> result;
  for (TokenId id : encode(tokenizer, text)) result.emplace_back(tokenizer.piece(id));
  return result;
}
using Pieces = std::vector<std::string>;

// A byte-level vocabulary of the 256 bytes and what `merges` make of them, written by hand.
TokenizerSpec small_spec(const std::vector<std::pair<std::string, std::string>>& merges) {
  TokenizerSpec spec = moka::bytes_tokenizer_spec();
  spec.kind = moka::TokenizerKind::kBpe;
  spec.special_tokens.clear();
  spec.piece_ends.resize(256);
  spec.pieces.resize(256);
  spec.unknown_id = spec.bos_id = spec.eos_id = spec.pad_id = -1;
  std::vector<std::string> known;
  for (int b = 0; b < 256; ++b) known.emplace_back(1, static_cast<char>(b));
  auto id_of = [&](const std::string& piece) {
    return static_cast<uint32_t>(std::find(known.begin(), known.end(), piece) - known.begin());
  };
  for (const auto& [left, right] : merges) {
    const std::string whole = left + right;
    if (id_of(whole) == known.size()) {
      known.push_back(whole);
      spec.pieces.insert(spec.pieces.end(), whole.begin(), whole.end());
      spec.piece_ends.push_back(static_cast<uint32_t>(spec.pieces.size()));
    }
    spec.merges.insert(spec.merges.end(), {id_of(left), id_of(right), id_of(whole)});
  }
  return spec;
}

// Adds a token behind the others.
uint32_t add_special(TokenizerSpec* spec, const std::string& text) {
  SpecialToken token;
  token.id = static_cast<uint32_t>(spec->piece_ends.size());
  token.text = text;
  spec->pieces.insert(spec->pieces.end(), text.begin(), text.end());
  spec->piece_ends.push_back(static_cast<uint32_t>(spec->pieces.size()));
  spec->special_tokens.push_back(token);
  return token.id;
}

moka::Status creation(TokenizerSpec spec) { return Tokenizer::create(std::move(spec)).status(); }

void check_failure(const moka::Status& status, StatusCode code, const std::string& part) {
  CHECK_MESSAGE(status.code() == code, status.to_string());
  const bool found = status.message().find(part) != std::string::npos;
  CHECK_MESSAGE(found, "\"", part, "\" is not in: ", status.message());
}

}  // namespace

TEST_CASE("tokenizer: GPT-2's ids, all vectors") {
  std::ifstream file(kData + "tokenizers/gpt2-vectors.jsonl");
  REQUIRE(file);
  size_t count = 0;
  for (std::string line; std::getline(file, line); ++count) {
    const auto vector = nlohmann::json::parse(line);
    const std::string text = vector["text"];
    CAPTURE(text);
    // The program that made them takes "<|endoftext|>" for plain text.
    const Ids ids = encode(gpt2(), text, false);
    CHECK(ids == vector["ids"].get<Ids>());
    CHECK(decode(gpt2(), ids) == text);
  }
  CHECK(count == 57);
}

TEST_CASE("tokenizer: GPT-2's special token") {
  CHECK(gpt2().vocab_size() == 50257);
  CHECK(gpt2().eos_id() == 50256);
  CHECK(gpt2().bos_id() == 50256);
  CHECK(gpt2().pad_id() == -1);
  CHECK(gpt2().unknown_id() == -1);
  CHECK(gpt2().is_control(50256));
  CHECK_FALSE(gpt2().is_control(50255));
  CHECK(gpt2().piece(50256) == "<|endoftext|>");
  CHECK(gpt2().piece(995) == " world");
  CHECK(gpt2().piece(50257).empty());
  CHECK(gpt2().piece(-1).empty());
  CHECK(encode(gpt2(), "Hello<|endoftext|> world") == Ids{15496, 50256, 995});
  CHECK(encode(gpt2(), "<|endoftext|>", false) == Ids{27, 91, 437, 1659, 5239, 91, 29});
  CHECK(decode(gpt2(), {15496, 50256, 995}) == "Hello world");
  check_failure(gpt2().decode(Ids{1, 50257}).status(), StatusCode::kOutOfRange,
                "ids[1] is 50257, not 0 to 50256");
  check_failure(gpt2().decode(Ids{-1}).status(), StatusCode::kOutOfRange, "ids[0] is -1");
}

TEST_CASE("tokenizer: encode appends, and says what is wrong with its arguments") {
  Ids ids = {7};
  REQUIRE(gpt2().encode("Hello", &ids).ok());
  CHECK(ids == Ids{7, 15496});
  check_failure(gpt2().encode("x", nullptr), StatusCode::kInvalidArgument, "ids is null");
}

TEST_CASE("tokenizer: any bytes come back as they were") {
  const Tokenizer bytes = make(moka::bytes_tokenizer_spec());
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    std::string text(random() % 200, '\0');
    for (char& c : text) c = static_cast<char>(random() % (round % 3 == 0 ? 256 : 128));
    CHECK(decode(gpt2(), encode(gpt2(), text, false)) == text);
    CHECK(decode(bytes, encode(bytes, text, false)) == text);
  }
}

TEST_CASE("tokenizer: raw bytes") {
  const Tokenizer bytes = make(moka::bytes_tokenizer_spec());
  CHECK(bytes.vocab_size() == 260);
  CHECK(bytes.pad_id() == 256);
  CHECK(bytes.unknown_id() == 257);
  CHECK(bytes.bos_id() == 258);
  CHECK(bytes.eos_id() == 259);
  CHECK(encode(bytes, "h\xC3\xA9\xFF") == Ids{104, 0xC3, 0xA9, 0xFF});
  CHECK(encode(bytes, "<eos>") == Ids{'<', 'e', 'o', 's', '>'});  // text never makes special ids
  CHECK(encode(bytes, "").empty());
  CHECK(decode(bytes, {258, 104, 105, 259, 256}) == "hi");
  CHECK(bytes.piece(259) == "<eos>");
  CHECK(bytes.piece(0) == std::string(1, '\0'));
}

TEST_CASE("tokenizer: streams give whole code points only") {
  const Tokenizer bytes = make(moka::bytes_tokenizer_spec());
  TextStream stream(bytes);
  CHECK(stream.push('a') == "a");
  CHECK(stream.push(0xF0) == "");
  CHECK(stream.push(0x9F) == "");
  CHECK(stream.push(259) == "");  // a control token neither shows nor breaks the character
  CHECK(stream.push(0x98) == "");
  CHECK(stream.push(0x80) == "\xF0\x9F\x98\x80");
  CHECK(stream.finish() == "");

  // One U+FFFD for each part that can never become a character.
  CHECK(stream.push(0xFF) == "\xEF\xBF\xBD");
  CHECK(stream.push(0xE2) == "");
  CHECK(stream.push(0x82) == "");
  CHECK(stream.push('a') ==
        "\xEF\xBF\xBD"
        "a");
  CHECK(stream.push(0xED) == "");
  CHECK(stream.push(0xA0) == "\xEF\xBF\xBD\xEF\xBF\xBD");  // a surrogate
  CHECK(stream.push(0xE2) == "");
  CHECK(stream.finish() == "\xEF\xBF\xBD");
  CHECK(stream.finish() == "");
  CHECK(stream.push(-1) == "");
  CHECK(stream.push(260) == "");
}

TEST_CASE("tokenizer: a streamed text is the text") {
  const std::string text =
      "emoji \xF0\x9F\x98\x80\xF0\x9F\x91\x8D\xF0\x9F\x8F\xBD and \xE6\xBC\xA2.";
  TextStream stream(gpt2());
  std::string all;
  size_t silent = 0;
  for (TokenId id : encode(gpt2(), text)) {
    const std::string_view part = stream.push(id);
    silent += part.empty();
    // Each part is UTF-8 by itself: it begins with no continuation byte and ends no sequence early.
    CHECK((part.empty() || (static_cast<unsigned char>(part[0]) & 0xC0) != 0x80));
    all += part;
  }
  CHECK(stream.finish() == "");
  CHECK(all == text);
  CHECK(silent >= 4);
}

TEST_CASE("tokenizer: merges go by rank, the leftmost of equals first") {
  const Tokenizer t = make(small_spec({{"b", "c"}, {"a", "b"}, {"a", "a"}, {"aa", "a"}}));
  CHECK(pieces(t, "abc") == Pieces{"a", "bc"});
  CHECK(pieces(t, "aabc") == Pieces{"aa", "bc"});
  CHECK(pieces(t, "aaab") == Pieces{"aa", "ab"});
  CHECK(pieces(t, "aaa") == Pieces{"aaa"});
  CHECK(pieces(t, "aaaaa") == Pieces{"aa", "aaa"});
}

TEST_CASE("tokenizer: long pieces merge as short ones do") {
  const std::vector<std::pair<std::string, std::string>> merges = {
      {"a", "b"}, {"b", "a"}, {"ab", "a"}, {"a", "a"},     {"aa", "b"},  {"c", "ab"},
      {"b", "c"}, {"c", "c"}, {"cc", "c"}, {"aba", "aba"}, {"aa", "aa"}, {"ba", "ba"}};
  const Tokenizer t = make(small_spec(merges));
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    std::string text(1 + random() % 150, 'a');
    for (char& c : text) c = "abc"[random() % 3];
    // The definition, taken literally.
    Pieces expected;
    for (char c : text) expected.emplace_back(1, c);
    for (size_t rank = 0; rank < merges.size();) {
      size_t at = 0;
      while (at + 1 < expected.size() &&
             (expected[at] != merges[rank].first || expected[at + 1] != merges[rank].second)) {
        ++at;
      }
      if (at + 1 >= expected.size()) {
        ++rank;
        continue;
      }
      expected[at] += expected[at + 1];
      expected.erase(expected.begin() + static_cast<std::ptrdiff_t>(at) + 1);
      rank = 0;  // the new piece may take part in a better merge
    }
    CHECK(pieces(t, text) == expected);
  }
}

TEST_CASE("tokenizer: ignore_merges takes a whole piece") {
  TokenizerSpec spec = small_spec({{"a", "b"}, {"b", "c"}, {"a", "bc"}});
  spec.merges.resize(6);  // "abc" is in the vocabulary, and no merge reaches it
  CHECK(pieces(make(spec), "abc") == Pieces{"ab", "c"});
  spec.ignore_merges = true;
  CHECK(pieces(make(spec), "abc") == Pieces{"abc"});
  CHECK(pieces(make(spec), "abcd") == Pieces{"ab", "c", "d"});
}

TEST_CASE("tokenizer: special tokens in text") {
  TokenizerSpec spec = small_spec({});
  add_special(&spec, "<s>");
  add_special(&spec, "<s>x");
  add_special(&spec, "[L]");
  spec.special_tokens.back().strip_left = true;
  add_special(&spec, "[R]");
  spec.special_tokens.back().strip_right = true;
  add_special(&spec, "word");
  spec.special_tokens.back().single_word = true;
  spec.special_tokens.back().control = false;
  const Tokenizer t = make(spec);
  CHECK(encode(t, "a<s>b<s>x<s") == Ids{'a', 256, 'b', 257, '<', 's'});
  CHECK(encode(t, "a \t[L] [R]\n b") == Ids{'a', 258, ' ', 259, 'b'});
  CHECK(encode(t, "a word,words") == Ids{'a', ' ', 260, ',', 'w', 'o', 'r', 'd', 's'});
  CHECK(encode(t, "<s>word", false) == Ids{'<', 's', '>', 260});  // ordinary vocabulary stays
  CHECK(decode(t, {256, 260, 258}) == "word");
}

TEST_CASE("tokenizer: normalizers and the space in front") {
  auto with = [](std::vector<moka::Normalizer> rules, bool space = false) {
    TokenizerSpec spec = small_spec({});
    spec.normalizers = std::move(rules);
    spec.add_prefix_space = space;
    add_special(&spec, "<s>");
    return make(std::move(spec));
  };
  auto rule = [](moka::NormalizerKind kind, const std::string& pattern = "",
                 const std::string& content = "", bool literal = false) {
    moka::Normalizer r;
    r.kind = kind;
    r.pattern = pattern;
    r.content = content;
    r.literal = literal;
    return r;
  };
  using K = moka::NormalizerKind;
  auto run = [&](const std::vector<moka::Normalizer>& rules, const std::string& text) {
    const Tokenizer t = with(rules);
    return decode(t, encode(t, text));
  };
  CHECK(run({rule(K::kNfc)}, "e\xCC\x81\xFF\xE1\x84\x80\xE1\x85\xA1") ==
        "\xC3\xA9\xFF\xEA\xB0\x80");
  CHECK(run({rule(K::kNfd)}, "\xC3\xA9\xEA\xB0\x80") == "e\xCC\x81\xE1\x84\x80\xE1\x85\xA1");
  CHECK(run({rule(K::kNfkc)}, "\xEF\xAC\x81\xE2\x91\xA0") == "fi1");
  CHECK(run({rule(K::kNfkd)}, "\xEF\xAC\x81\xC3\xA9") == "fie\xCC\x81");
  CHECK(run({rule(K::kNfd)}, "a\xCC\x81\xCC\xA3") ==
        "a\xCC\xA3\xCC\x81");  // marks in canonical order
  CHECK(run({rule(K::kLowercase)}, "AB\xC3\x89\xC4\xB0\xFF") == "ab\xC3\xA9i\xCC\x87\xFF");
  CHECK(run({rule(K::kStrip)}, " \t a b\xC2\xA0\n") == "a b");
  CHECK(run({rule(K::kPrepend, "", "_")}, "ab") == "_ab");
  CHECK(run({rule(K::kReplace, "a+", "x")}, "aabaa") == "xbx");
  CHECK(run({rule(K::kReplace, "a+", "x", true)}, "aaa+") == "aax");
  CHECK(run({rule(K::kReplace, "b*", "-")}, "abc") == "-a-c-");
  CHECK(run({rule(K::kLowercase), rule(K::kReplace, "a", "b")}, "AA") == "bb");

  const Tokenizer spaced = with({}, true);
  CHECK(encode(spaced, "a") == Ids{' ', 'a'});
  CHECK(encode(spaced, " a") == Ids{' ', 'a'});
  CHECK(encode(spaced, "<s>b") == Ids{256, ' ', 'b'});
  CHECK(encode(spaced, "").empty());

  TokenizerSpec spec = small_spec({});  // a token that is looked for in normalized text
  spec.normalizers = {rule(K::kLowercase)};
  add_special(&spec, "<S>");
  spec.special_tokens[0].normalized = true;
  CHECK(encode(make(spec), "A<s>") == Ids{'a', 256});
}

TEST_CASE("tokenizer: a run of a million marks is normalized in reasonable time") {
  TokenizerSpec spec = small_spec({});
  moka::Normalizer nfc;
  spec.normalizers = {nfc};
  const Tokenizer t = make(spec);
  std::string text = "a";
  for (int i = 0; i < 500000; ++i) text += "\xCC\x81\xCC\xA3";
  CHECK(encode(t, text).size() > 1000000);
}

TEST_CASE("tokenizer: bytes that the vocabulary lacks") {
  TokenizerSpec spec;
  spec.kind = moka::TokenizerKind::kBpe;
  spec.pieces = {'a', 'b', '?'};
  spec.piece_ends = {1, 2, 3};
  Ids ids = {9};
  check_failure(make(spec).encode("abxa", &ids), StatusCode::kInvalidArgument,
                "byte 120 at offset 2 of the text");
  CHECK(ids == Ids{9});  // nothing is left of a call that failed
  spec.unknown_id = 2;
  CHECK(encode(make(spec), "axyb") == Ids{0, 2, 2, 1});
  spec.fuse_unknown = true;
  CHECK(encode(make(spec), "axyb") == Ids{0, 2, 1});
}

TEST_CASE("tokenizer: specifications that cannot be run or contradict themselves") {
  using K = moka::TokenizerKind;
  const TokenizerSpec good = small_spec({{"a", "b"}});
  auto with = [&](auto change) {
    TokenizerSpec spec = good;
    change(spec);
    return creation(std::move(spec));
  };
  CHECK(creation(good).ok());
  const StatusCode unsupported = StatusCode::kUnsupported, corrupt = StatusCode::kCorrupt;
  check_failure(with([](auto& s) { s.kind = K::kUnigram; }), corrupt, "0 scores of 257 pieces");
  check_failure(with([](auto& s) { s.kind = K::kChars; }), corrupt,
                "there are merges, but it is no bpe tokenizer");
  check_failure(with([](auto& s) {
                  s.kind = K::kWords;
                  s.merges.clear();
                  s.byte_fallback = true;
                }),
                corrupt, "byte_fallback is set");
  check_failure(with([](auto& s) {
                  s.kind = K::kChars;
                  s.merges.clear();
                  s.ignore_merges = true;
                }),
                corrupt, "ignore_merges is set");
  check_failure(with([](auto& s) { s.scores.resize(257); }), corrupt, "both scores and merges");
  check_failure(with([](auto& s) {
                  s.kind = K::kUnigram;
                  s.merges.clear();
                  s.scores.resize(257);
                  s.scores[9] = std::numeric_limits<float>::infinity();
                }),
                corrupt, "scores[9] is not finite");
  check_failure(with([](auto& s) {
                  s.pre_tokenizers.resize(1);
                  s.pre_tokenizers[0].kind = moka::PreTokenizerKind::kMetaspace;
                }),
                unsupported, "pre-tokenizer 0: Metaspace before byte-level BPE");
  check_failure(with([](auto& s) { s.kind = K::kNone; }), unsupported, "None");
  check_failure(with([](auto& s) { s.kind = static_cast<K>(77); }), unsupported, "kind 77");
  check_failure(with([](auto& s) {
                  s.normalizers.resize(1);
                  s.normalizers[0].kind = moka::NormalizerKind::kPrecompiledMap;
                }),
                corrupt, "normalizer 0: PrecompiledMap: has 0 bytes, at least 9 are needed");
  check_failure(with([](auto& s) {
                  s.pre_tokenizers.resize(1);
                  s.pre_tokenizers[0].pattern = "(";
                }),
                unsupported, "pre-tokenizer 0: pattern \"(\": at byte 0");
  check_failure(with([](auto& s) { s.pre_tokenizers.resize(33); }), unsupported, "at most 32");
  check_failure(with([](auto& s) { s.piece_ends.clear(); }), corrupt, "piece_ends has 0 pieces");
  check_failure(with([](auto& s) { s.piece_ends[3] = 2; }), corrupt, "piece_ends[3] is 2");
  check_failure(with([](auto& s) { s.pieces.pop_back(); }), corrupt, "piece_ends ends at");
  check_failure(with([](auto& s) { s.merges.pop_back(); }), corrupt, "not 3 per merge");
  check_failure(with([](auto& s) { s.merges[2] = 999; }), corrupt,
                "merges[0] names piece 999 of 257");
  check_failure(with([](auto& s) { s.merges[2] = 'a'; }), corrupt,
                "merges[0]: piece 97 is not piece 97");
  check_failure(with([](auto& s) {
                  s.merges.insert(s.merges.end(), {'a', 'b', 256});
                }),
                corrupt, "merges[1] joins the same pieces");
  check_failure(with([](auto& s) { s.eos_id = 257; }), corrupt, "eos_id is 257");
  check_failure(with([](auto& s) { s.pad_id = -2; }), corrupt, "pad_id is -2");
  check_failure(with([](auto& s) { s.special_tokens.resize(1); }), corrupt, "has no text");
  check_failure(with([](auto& s) {
                  add_special(&s, "<s>");
                  s.special_tokens[0].id = 258;
                }),
                corrupt, "special_tokens[0].id is 258");
  check_failure(with([](auto& s) {
                  add_special(&s, "<s>");
                  add_special(&s, "<s>");
                }),
                corrupt, "257 and 258 have the same text");
  TokenizerSpec bytes = moka::bytes_tokenizer_spec();
  bytes.pieces[7] = 8;
  check_failure(creation(bytes), corrupt, "piece 7 is not that byte");
}
