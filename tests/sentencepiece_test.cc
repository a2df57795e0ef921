// SentencePiece models: what is read into a spec, refusals by name, damaged files, long texts.
#include "converter/sentencepiece.h"

#include <doctest/doctest.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "moka/tokenizer.h"
#include "runtime/text/chars_map.h"
#include "runtime/text/piece_trie.h"

namespace {

using moka::StatusCode;
using moka::Tokenizer;
using moka::TokenizerSpec;
using Ids = std::vector<moka::TokenId>;

const std::string kFolder = std::string(MOKA_SOURCE_DIR) + "/tests/data/tokenizers/sentencepiece/";

std::string file_of(const std::string& name) {
  std::ifstream file(kFolder + name, std::ios::binary);
  REQUIRE(file);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 128; value >>= 7) bytes.push_back(static_cast<char>((value & 127) | 128));
  bytes.push_back(static_cast<char>(value));
  return bytes;
}
std::string field(uint32_t number, const std::string& bytes) {
  return varint(number << 3 | 2) + varint(bytes.size()) + bytes;
}
std::string field(uint32_t number, uint64_t value) { return varint(number << 3) + varint(value); }
std::string piece(const std::string& text, float score, uint64_t type) {
  std::string bits(4, '\0');
  std::memcpy(bits.data(), &score, 4);
  return field(1, field(1, text) + varint(2 << 3 | 5) + bits + field(3, type));
}

// unk, <s>, </s>, and the normal pieces given, with falling scores.
std::string model(const std::vector<std::string>& pieces, uint64_t type = 1,
                  const std::string& more = "") {
  std::string bytes = piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3);
  float score = -1;
  for (const std::string& text : pieces) bytes += piece(text, score--, 1);
  return bytes + field(2, field(3, type)) + more;
}

TokenizerSpec read(const std::string& bytes) {
  auto spec = moka::parse_sentencepiece(bytes, "m", {});
  REQUIRE_MESSAGE(spec.ok(), spec.status().message());
  return std::move(spec).value();
}

void refuse(const std::string& bytes, StatusCode code, const std::string& message) {
  const auto spec = moka::parse_sentencepiece(bytes, "m", {});
  REQUIRE_FALSE(spec.ok());
  CHECK_MESSAGE(spec.status().code() == code, spec.status().to_string());
  CHECK_MESSAGE(spec.status().message() == message, spec.status().message());
}

Ids encode(const TokenizerSpec& spec, const std::string& text) {
  auto tokenizer = Tokenizer::create(spec);
  REQUIRE_MESSAGE(tokenizer.ok(), tokenizer.status().message());
  Ids ids;
  const moka::Status status = tokenizer.value().encode(text, &ids);
  REQUIRE_MESSAGE(status.ok(), status.message());
  return ids;
}

const std::string kMark = "\xE2\x96\x81";

}  // namespace

TEST_CASE("sentencepiece: a model by hand") {
  const TokenizerSpec spec = read(model({kMark + "ab", "a", "b", kMark, "c"}));
  CHECK(spec.kind == moka::TokenizerKind::kUnigram);
  CHECK(spec.unknown_id == 0);
  CHECK(spec.bos_id == 1);
  CHECK(spec.eos_id == 2);
  CHECK(spec.pad_id == -1);
  CHECK(spec.normalizers.size() == 3);
  CHECK(spec.source_hash.size() == 16);
  CHECK(encode(spec, "ab  c") == Ids{3, 6, 7});
  CHECK(encode(spec, "<s>xyz") == Ids{6, 0});  // control pieces are plain text
  auto tokenizer = Tokenizer::create(spec);
  REQUIRE(tokenizer.ok());
  CHECK(tokenizer.value().piece(3) == " ab");
  CHECK(tokenizer.value().decode(Ids{1, 3, 6, 7, 0, 2}).value() == "ab c \xE2\x81\x87 ");
  CHECK(tokenizer.value().is_control(2));
  CHECK_FALSE(tokenizer.value().is_control(0));
}

TEST_CASE("sentencepiece: ids of the configuration") {
  moka::TokenizerIds ids;
  ids.pad = 2;
  CHECK(moka::parse_sentencepiece(model({"a"}), "m", ids).value().pad_id == 2);
  ids.pad = 4;
  CHECK(moka::parse_sentencepiece(model({"a"}), "m", ids).status().message() ==
        "m: the pad id was given as 4, but ids are 0 to 3");
}

TEST_CASE("sentencepiece: BPE merges by score, equals from the left") {
  const std::string bytes = piece("<unk>", 0, 2) + piece("a", -9, 1) + piece("aa", -1, 1) +
                            piece("aaa", -1, 1) + piece("xy", -3, 1) + piece("y", -4, 1) +
                            field(2, field(3, uint64_t{2})) + field(3, field(3, uint64_t{0}));
  const TokenizerSpec spec = read(bytes);
  CHECK(spec.kind == moka::TokenizerKind::kBpe);
  CHECK(encode(spec, "aaa") == Ids{3});
  CHECK(encode(spec, "aaaaa") == Ids{3, 2});
  CHECK(encode(spec, "xyx") == Ids{4, 0});  // x is no piece, xy is
  CHECK(encode(spec, "yxzx") == Ids{5, 0});
}

TEST_CASE("sentencepiece: BPE whose pieces go on over spaces") {
  const std::string start = piece("<unk>", 0, 2) + piece("a", -9, 1) + piece(kMark, -9, 1);
  const std::string end = field(2, field(3, uint64_t{2})) +
                          field(3, field(3, uint64_t{0}) + field(4, uint64_t{0}));
  // "a_a" is made of "a_" and "a"; without them words stand alone.
  const TokenizerSpec over =
      read(start + piece("a" + kMark, -1, 1) + piece("a" + kMark + "a", -2, 1) + end);
  CHECK(encode(over, "a a a") == Ids{3, 4});
  const TokenizerSpec apart =
      read(start + piece(kMark + "a", -1, 1) + piece(kMark + kMark, -2, 1) + end);
  CHECK(encode(apart, "a a   a ") == Ids{1, 3, 4, 3, 2});
  CHECK(encode(apart, "xyz x ") == Ids{0, 2, 0, 2});
}

TEST_CASE("sentencepiece: what is refused") {
  const StatusCode no = StatusCode::kUnsupported, bad = StatusCode::kCorrupt;
  refuse(model({"a"}, 3), no, "m: trainer_spec.model_type is WORD; UNIGRAM and BPE are read");
  refuse(model({"a"}, 4), no, "m: trainer_spec.model_type is CHAR; UNIGRAM and BPE are read");
  refuse(model({"a"}, 9), no, "m: trainer_spec.model_type is 9; UNIGRAM and BPE are read");
  refuse(model({"a"}, 1, field(2, field(24, uint64_t{1}))), no,
         "m: trainer_spec.treat_whitespace_as_suffix is true; only spaces before words are known");
  refuse(model({"a"}, 1, field(5, field(2, "xxxx"))), no,
         "m: denormalizer_spec has a table, which changes decoded text");
  refuse(model({"a"}, 1, field(3, field(9, uint64_t{1}))), no,
         "m: normalizer_spec has field 9, which is not known");
  refuse(model({"a"}, 2, piece("b", 0, 5)), no,
         "m: piece 4 \"b\" is an unused piece of a BPE model");
  refuse(model({"a"}, 1, piece("b", 0, 7)), no, "m: piece 4 has type 7, expected 1 to 6");
  refuse(model({"a", "a"}), bad, "m: piece 4 \"a\" is there twice");
  refuse(model({"a"}, 1, piece("u", 0, 2)), bad, "m: piece 4 \"u\" is a second unknown piece");
  refuse(model({""}), bad, "m: piece 3 has 0 bytes, expected 1 to 4096");
  refuse(model({"a"}, 1, piece("b", std::numeric_limits<float>::quiet_NaN(), 1)), bad,
         "m: piece 4 has a score that is not finite");
  refuse(model({"a"}, 1, piece("<0x41>", 0, 6)), bad,
         "m: piece 4 \"<0x41>\" is a byte piece, but trainer_spec.byte_fallback is false");
  const std::string fallback = field(2, field(35, uint64_t{1}));
  refuse(model({"a"}, 1, piece("<0x4g>", 0, 6) + fallback), bad,
         "m: piece 4 \"<0x4g>\" is a byte piece, but not <0x00> to <0xFF>");
  refuse(model({"a"}, 1, piece("<0x41>", 0, 6) + fallback), bad,
         "m: trainer_spec.byte_fallback is true, but there are 1 byte pieces of 256");
  refuse(piece("a", 0, 1), bad, "m: there is no unknown piece");
  refuse("", bad, "m: there are no pieces; this is no SentencePiece model");
  refuse(model({"a"}, 1, field(3, field(2, "abc"))), bad,
         "m: tokenizer: normalizer 0: PrecompiledMap: has 3 bytes, at least 9 are needed");
}

TEST_CASE("sentencepiece: damaged protobuf") {
  const StatusCode bad = StatusCode::kCorrupt;
  const std::string end = "; this is no SentencePiece model, or a damaged one";
  refuse(
      "\x0A\x05"
      "ab",
      bad, "m: byte 0 is a field of 5 bytes, but only 2 are left" + end);
  refuse("\x0A", bad, "m: byte 1 begins a number that has no end" + end);
  refuse(std::string("\x00\x00", 2), bad, "m: byte 0 is no field of protobuf" + end);
  refuse("\x0B", bad, "m: byte 0 has wire type 3" + end);
  refuse("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", bad,
         "m: byte 1 begins a number of more than 64 bits" + end);
  refuse("\x08\x01", bad, "m: a part of the model has wire type 0, expected 2");
  refuse(field(1, field(2, uint64_t{1})), bad, "m: piece 0.score has wire type 0, expected 5");
}

TEST_CASE("sentencepiece: cut and changed files are refused or run") {
  for (const char* name : {"unigram-bytes.model", "bpe.model"}) {
    const std::string good = file_of(name);
    auto run = [](const std::string& bytes) {
      auto spec = moka::parse_sentencepiece(bytes, "m", {});
      if (!spec.ok()) return;
      auto tokenizer = Tokenizer::create(std::move(spec).value());
      REQUIRE(tokenizer.ok());
      Ids ids;
      const moka::Status status =
          tokenizer.value().encode("Hello  w\xC3\xB6rld \xEF\xAC\x81\xCC\x81<sep>\xFF", &ids);
      CHECK((status.ok() || ids.empty()));
      CHECK(tokenizer.value().decode(ids).ok());
    };
    for (size_t size = 0; size < good.size(); size += 131) run(good.substr(0, size));
    std::mt19937 random(5);
    for (int round = 0; round < 150; ++round) {
      std::string bytes = good;
      for (int i = 0; i < 3; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
      run(bytes);
    }
  }
}

TEST_CASE("sentencepiece: a word of a megabyte") {
  const size_t size = size_t{1} << 20;
  // No place in it that every cut must have: "aa" and "aaa" overlap throughout.
  const TokenizerSpec unigram = read(model({"aaa", "aa", "a", kMark}));
  Ids ids = encode(unigram, std::string(size, 'a'));
  size_t letters = 0;
  for (const moka::TokenId id : ids) letters += id == 3 ? 3 : id == 4 ? 2 : id == 5 ? 1 : 0;
  CHECK(letters == size);
  CHECK(ids.size() == (size + 2) / 3 + 1);
  CHECK(ids[0] == 6);
  CHECK(encode(unigram, std::string(size, 'z')) == Ids{6, 0});  // one unknown

  const TokenizerSpec bpe = read(model({"aa", "aaaa", "a", kMark}, 2));
  ids = encode(bpe, std::string(size, 'a'));
  CHECK(ids.size() == size / 4 + 1);
}

TEST_CASE("sentencepiece: long texts are cut as short ones are") {
  // Many words: given out in stretches, with sums that go on.
  const TokenizerSpec spec = read(file_of("unigram-bytes.model"));
  const std::string sentence = "once upon a time the baker said good day. ";
  std::string text;
  for (int i = 0; i < 1000; ++i) text += sentence;
  const Ids one = encode(spec, sentence), all = encode(spec, text);
  REQUIRE(all.size() == 1000 * one.size());
  for (size_t i = 0; i < all.size(); ++i) REQUIRE(all[i] == one[i % one.size()]);
}

TEST_CASE("tokenizer: the trie finds the longest piece") {
  moka::text::PieceTrie trie;
  std::vector<std::string> pieces = {"", "a", "ab", "abcd", "b"};
  for (int byte = 1; byte < 256; ++byte)
    pieces.push_back(std::string("q") + static_cast<char>(byte));
  std::vector<std::pair<std::string_view, uint32_t>> entries;
  for (size_t i = 0; i < pieces.size(); ++i) entries.emplace_back(pieces[i], i);
  entries.emplace_back("a", 900);  // of equal pieces the least value stays
  trie.build(entries);
  size_t end = 0;
  CHECK(trie.longest("xabcx", 1, &end) == 2);
  CHECK(end == 3);
  CHECK(trie.longest("abcd", 0, &end) == 3);
  CHECK(trie.longest("x", 0, &end) == -1);
  CHECK(trie.find("a") == 1);
  CHECK(trie.find("abc") == -1);
  CHECK(trie.find("") == -1);
  for (size_t i = 5; i < pieces.size(); ++i) CHECK(trie.find(pieces[i]) == static_cast<int32_t>(i));
  trie.build({});
  CHECK(trie.empty());
  CHECK(trie.longest("a", 0, &end) == -1);
}

TEST_CASE("tokenizer: maps of characters that are damaged") {
  auto message = [](const std::vector<uint8_t>& data) {
    return moka::text::CharsMap::parse(data).status().message();
  };
  CHECK(message({1, 2, 3}) == "PrecompiledMap: has 3 bytes, at least 9 are needed");
  CHECK(message({3, 0, 0, 0, 1, 2, 3, 4, 0}) ==
        "PrecompiledMap: the array is said to have 3 bytes of 5, not a multiple of 4 within them");
  CHECK(message({8, 0, 0, 0, 1, 2, 3, 4, 0}) ==
        "PrecompiledMap: the array is said to have 8 bytes of 5, not a multiple of 4 within them");
  CHECK(message({4, 0, 0, 0, 1, 2, 3, 4, 9}) ==
        "PrecompiledMap: the last replacement has no zero byte at its end");
  // An array whose units lead anywhere ends the walk.
  std::vector<uint8_t> wild = {16, 0, 0, 0};
  for (int i = 0; i < 16; ++i) wild.push_back(0xFF);
  wild.push_back(0);
  const auto map = moka::text::CharsMap::parse(wild);
  REQUIRE(map.ok());
  for (int byte = 0; byte < 256; ++byte) {
    CHECK(map.value().longest(std::string(3, static_cast<char>(byte))).length == 0);
  }
}
