// Reading tokenizer.json and GPT-2's files: what is understood, and exact refusals of the rest.
#include "converter/tokenizer_json.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "moka/tokenizer.h"
#include "nlohmann/json.hpp"

namespace {

using Json = nlohmann::json;
using moka::StatusCode;
using moka::TokenId;
using moka::Tokenizer;
using moka::TokenizerSpec;
using Ids = std::vector<TokenId>;

const std::string kData = std::string(MOKA_SOURCE_DIR) + "/tests/data/";

// A whole file by hand: nine pieces, three merges, two added tokens. U+0120 is the space.
Json small_file() {
  return Json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [
      {"id": 9, "content": "<|end|>", "single_word": false, "lstrip": false, "rstrip": false,
       "normalized": false, "special": true},
      {"id": 10, "content": "\u00e9t\u00e9", "single_word": false, "lstrip": false, "rstrip": false,
       "normalized": true, "special": false}],
    "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                      "use_regex": true},
    "post_processor": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false,
                       "use_regex": true},
    "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
                "use_regex": true},
    "model": {"type": "BPE", "dropout": null, "unk_token": null,
      "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": false,
      "byte_fallback": false, "ignore_merges": false,
      "vocab": {"a": 0, "b": 1, "c": 2, "\u0120": 3, "\u00c3": 4, "\u00a9": 5, "ab": 6,
                "\u0120ab": 7, "\u00c3\u00a9": 8},
      "merges": ["a b", "\u0120 ab", "\u00c3 \u00a9"]}})");
}

moka::Result<TokenizerSpec> read(const Json& json, const moka::TokenizerIds& ids = {}) {
  return moka::parse_tokenizer_json(json.dump(), "t.json", ids);
}

Ids encode(const TokenizerSpec& spec, const std::string& text, bool parse_special = true) {
  auto tokenizer = Tokenizer::create(spec);
  REQUIRE_MESSAGE(tokenizer.ok(), tokenizer.status().message());
  Ids ids;
  const moka::Status status = tokenizer.value().encode(text, &ids, parse_special);
  REQUIRE_MESSAGE(status.ok(), status.message());
  return ids;
}

// `message` is the beginning of the expected one.
void check_refused(const Json& json, StatusCode code, const std::string& message,
                   const moka::TokenizerIds& ids = {}) {
  auto spec = read(json, ids);
  REQUIRE_FALSE(spec.ok());
  CHECK_MESSAGE(spec.status().code() == code, spec.status().to_string());
  CHECK_MESSAGE(spec.status().message().substr(0, message.size()) == message,
                spec.status().message());
}

template <class Change>
Json changed(const Change& change) {
  Json json = small_file();
  change(json);
  return json;
}

}  // namespace

TEST_CASE("tokenizer: a tokenizer.json by hand") {
  moka::TokenizerIds ids;
  ids.eos = 9;
  auto spec = read(small_file(), ids);
  REQUIRE_MESSAGE(spec.ok(), spec.status().message());
  const TokenizerSpec& s = spec.value();
  CHECK(s.kind == moka::TokenizerKind::kBpe);
  CHECK(s.piece_ends.size() == 11);
  CHECK(std::string(s.pieces.begin(), s.pieces.end()) ==
        "abc \xC3\xA9"
        "ab ab\xC3\xA9<|end|>\xC3\xA9t\xC3\xA9");
  CHECK(s.merges == std::vector<uint32_t>{0, 1, 6, 3, 6, 7, 4, 5, 8});
  CHECK(s.eos_id == 9);
  CHECK(s.bos_id == -1);
  CHECK_FALSE(s.add_bos);
  CHECK(s.source_hash.size() == 16);
  REQUIRE(s.pre_tokenizers.size() == 1);
  CHECK(s.pre_tokenizers[0].pattern ==
        R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)");
  CHECK(encode(s, "ab ab\xC3\xA9") == Ids{6, 7, 8});
  CHECK(encode(s, "c<|end|>\xC3\xA9t\xC3\xA9") == Ids{2, 9, 10});
  CHECK(s.special_tokens[0].control);
  CHECK_FALSE(s.special_tokens[1].control);
}

TEST_CASE("tokenizer: both forms of merges are the same") {
  Json pairs = small_file();
  for (Json& merge : pairs["model"]["merges"]) {
    const std::string text = merge;
    merge = {text.substr(0, text.find(' ')), text.substr(text.find(' ') + 1)};
  }
  auto a = read(small_file()), b = read(pairs);
  REQUIRE(a.ok());
  REQUIRE_MESSAGE(b.ok(), b.status().message());
  CHECK(a.value().merges == b.value().merges);
  CHECK(a.value().pieces == b.value().pieces);
}

TEST_CASE("tokenizer: rules of a tokenizer.json reach the spec") {
  auto spec = read(changed([](Json& j) {
    j["truncation"] = Json::parse(
        R"({"direction": "Right", "max_length": 512, "strategy": "LongestFirst", "stride": 0})");
    j["normalizer"] = Json::parse(R"({"type": "Sequence", "normalizers": [
      {"type": "NFC"}, {"type": "Lowercase"},
      {"type": "Strip", "strip_left": true, "strip_right": false},
      {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "},
      {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "a"}]}]})");
    j["pre_tokenizer"] = Json::parse(R"({"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": "\\p{N}{1,3}|\\s+"}, "behavior": "MergedWithNext",
       "invert": true},
      {"type": "Split", "pattern": {"String": "."}, "behavior": "Removed", "invert": false},
      {"type": "Digits", "individual_digits": true},
      {"type": "Punctuation", "behavior": "Contiguous"}, {"type": "Whitespace"}, {"type": "WhitespaceSplit"},
      {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})");
    j["post_processor"] = Json::parse(R"({"type": "Sequence", "processors": [
      {"type": "ByteLevel", "trim_offsets": true},
      {"type": "TemplateProcessing",
       "single": [{"SpecialToken": {"id": "<|end|>", "type_id": 0}},
                  {"Sequence": {"id": "A", "type_id": 0}},
                  {"SpecialToken": {"id": "<|end|>", "type_id": 0}}],
       "pair": [], "special_tokens": {
         "<|end|>": {"id": "<|end|>", "ids": [9], "tokens": ["<|end|>"]}}}]})");
    j["model"]["ignore_merges"] = true;
    j["model"]["unk_token"] = "c";
    j["model"]["fuse_unk"] = true;
  }));
  REQUIRE_MESSAGE(spec.ok(), spec.status().message());
  const TokenizerSpec& s = spec.value();
  CHECK(s.max_length == 512);
  REQUIRE(s.normalizers.size() == 5);
  CHECK(s.normalizers[0].kind == moka::NormalizerKind::kNfc);
  CHECK(s.normalizers[2].kind == moka::NormalizerKind::kReplace);  // a strip of one side
  CHECK(s.normalizers[2].pattern == "\\A\\s+");
  CHECK(s.normalizers[3].content == " ");
  CHECK_FALSE(s.normalizers[3].literal);
  CHECK(s.normalizers[4].content == "a");
  REQUIRE(s.pre_tokenizers.size() == 6);
  CHECK(s.pre_tokenizers[0].invert);
  CHECK(s.pre_tokenizers[0].behavior == moka::SplitBehavior::kMergedWithNext);
  CHECK(s.pre_tokenizers[1].literal);
  CHECK(s.pre_tokenizers[2].individual_digits);
  CHECK(s.pre_tokenizers[3].behavior == moka::SplitBehavior::kContiguous);
  CHECK(s.pre_tokenizers[5].kind == moka::PreTokenizerKind::kWhitespaceSplit);
  CHECK(s.add_bos);
  CHECK(s.add_eos);
  CHECK(s.bos_id == 9);
  CHECK(s.eos_id == 9);
  CHECK(s.ignore_merges);
  CHECK(s.fuse_unknown);
  CHECK(s.unknown_id == 2);
}

TEST_CASE("tokenizer: rules that are not understood are named by their place") {
  const StatusCode no = StatusCode::kUnsupported;
  auto refused = [&](const std::string& pointer, const char* value, const std::string& message) {
    check_refused(changed([&](Json& j) { j[Json::json_pointer(pointer)] = Json::parse(value); }),
                  no, "t.json: " + message);
  };
  refused("/model/type", "\"WordPiece\"",
          "model.type: \"WordPiece\" is not known; BPE and Unigram are");
  refused("/model/type", "\"Unigram\"",
          "model.continuing_subword_prefix: is a member that is not known");
  refused("/model/dropout", "0.1", "model.dropout: makes ids random");
  refused("/model/end_of_word_suffix", "\"</w>\"", "model.end_of_word_suffix: \"</w>\"");
  refused("/model/byte_fallback", "true",
          "pre_tokenizer.type: ByteLevel, but the pieces are characters");
  refused("/model/extra", "1", "model.extra: is a member that is not known");
  refused("/extra", "1", "extra: is a member that is not known");
  refused("/version", "\"2.0\"", "version: \"2.0\" is not 1.0");
  refused("/normalizer", R"({"type": "StripAccents"})",
          "normalizer.type: normalizer \"StripAccents\" is not known");
  refused("/normalizer",
          R"({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "BertNormalizer"}]})",
          "normalizer.normalizers[1].type: normalizer \"BertNormalizer\"");
  refused("/normalizer", R"({"type": "NFC", "x": 1})", "normalizer.x: is a member");
  refused("/pre_tokenizer", "null", "pre_tokenizer: has no ByteLevel");
  refused("/pre_tokenizer", R"({"type": "Metaspace", "replacement": "_"})",
          "pre_tokenizer.type: pre-tokenizer \"Metaspace\" is not known");
  refused("/pre_tokenizer", R"({"type": "Whitespace"})", "pre_tokenizer: has no ByteLevel");
  refused("/pre_tokenizer/extra", "1", "pre_tokenizer.extra: is a member");
  refused(
      "/pre_tokenizer",
      R"({"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}, {"type": "Whitespace"}]})",
      "pre_tokenizer.pretokenizers[1]: \"Whitespace\" behind ByteLevel");
  refused(
      "/pre_tokenizer",
      R"({"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, {"type": "ByteLevel"}]})",
      "pre_tokenizer.pretokenizers[1].add_prefix_space: is true behind");
  refused("/pre_tokenizer",
          R"({"type": "Split", "pattern": {"Regex": "a\\b"}, "behavior": "Isolated"})",
          "pre_tokenizer.pattern.Regex: pattern \"a\\b\": at byte 1");
  refused("/pre_tokenizer",
          R"({"type": "Split", "pattern": {"Regex": "\\d{1,3}+"}, "behavior": "Isolated"})",
          "pre_tokenizer.pattern.Regex: at byte 7: \"+\" after {m,n}");
  refused("/pre_tokenizer",
          R"({"type": "Split", "pattern": {"String": "a"}, "behavior": "Sideways"})",
          "pre_tokenizer.behavior: \"Sideways\"");
  refused("/decoder", "null", "decoder: is null");
  refused("/decoder", R"({"type": "WordPiece"})", "decoder.type: decoder \"WordPiece\"");
  refused("/post_processor", R"({"type": "BertProcessing"})",
          "post_processor.type: post-processor \"BertProcessing\"");
  refused("/truncation", R"({"max_length": 5, "direction": "Left"})",
          "truncation.direction: \"Left\"");
  refused("/padding", R"({"strategy": {"Fixed": 8}})", "padding.strategy");
  refused("/added_tokens/0/role", "\"x\"", "added_tokens[0].role: is a member");
  check_refused(changed([](Json& j) {
                  j["model"]["vocab"].erase("c");
                  j["model"]["vocab"]["\u4e00"] = 2;
                }),
                no,
                "t.json: model.vocab: piece \"\xE4\xB8\x80\" (id 2) has a character that stands");
}

TEST_CASE("tokenizer: contradictions in a tokenizer.json") {
  const StatusCode bad = StatusCode::kCorrupt;
  auto refused = [&](const std::string& pointer, const char* value, const std::string& message) {
    check_refused(changed([&](Json& j) { j[Json::json_pointer(pointer)] = Json::parse(value); }),
                  bad, "t.json: " + message);
  };
  refused("/model/vocab/c", "1", "model.vocab: id 1 belongs to both \"b\" and \"c\"");
  refused("/model/vocab/c", "99", "model.vocab: id 99 is too large");
  refused("/model/vocab/c", "-1", "model.vocab: the id of \"c\" is not an id");
  refused("/model/vocab/c", "1.5", "model.vocab: the id of \"c\" is not an id");
  check_refused(changed([](Json& j) { j["model"]["vocab"].erase("c"); }), bad,
                "t.json: added_tokens[1]: id 10 is too large");
  check_refused(changed([](Json& j) {
                  j["added_tokens"].erase(0);
                  j["added_tokens"][0]["id"] = 2;
                }),
                bad, "t.json: added_tokens[0]: id 2 belongs to both");
  refused("/model/merges/1", "\"a d\"", "model.merges[1]: \"a\" + \"d\": piece \"d\" is not in");
  refused("/model/merges/1", "\"b c\"", "model.merges[1]: \"b\" + \"c\": piece \"bc\" is not in");
  refused("/model/merges/1", "\"ab\"", "model.merges[1]: \"ab\" is not two pieces");
  refused("/model/merges/1", "\"a b c\"", "model.merges[1]: \"a b c\" is not two pieces");
  refused("/model/merges/1", "[\"a\"]", "model.merges[1]: is neither");
  refused("/model/merges", "{}", "model.merges: is not a list");
  refused("/model/vocab", "[]", "model.vocab: is not an object");
  refused("/model/unk_token", "\"zz\"", "model.unk_token: \"zz\" is not in the vocabulary");
  refused("/model", "null", "model: is missing");
  refused("/model/fuse_unk", "3", "model.fuse_unk: is not true or false");
  refused("/added_tokens/0/content", "\"\"", "added_tokens[0].content: is empty");
  refused("/added_tokens/0/id", "\"9\"", "added_tokens[0].id: is not an id");
  refused("/pre_tokenizer/type", "7", "pre_tokenizer.type: is not a string");
  check_refused(changed([](Json& j) {
                  // Two ids for one piece, through the added tokens.
                  j["added_tokens"][1]["content"] = "ab";
                }),
                bad, "t.json: added_tokens[1]: \"ab\" has both id 6 and id 10");
  check_refused(changed([](Json& j) { j["model"]["merges"][1] = "a b"; }), bad,
                "t.json: tokenizer: merges[1] joins the same pieces");
  moka::TokenizerIds ids;
  ids.pad = 11;
  check_refused(small_file(), StatusCode::kInvalidArgument,
                "t.json: the pad id was given as 11, but ids are 0 to 10", ids);
}

TEST_CASE("tokenizer: files that are no tokenizer.json") {
  auto text = moka::parse_tokenizer_json("{\"model\": ", "t.json", {});
  CHECK(text.status().code() == StatusCode::kCorrupt);
  text = moka::parse_tokenizer_json(std::string(100000, '['), "t.json", {});
  CHECK(text.status().code() == StatusCode::kCorrupt);
  text = moka::parse_tokenizer_json("[1]", "t.json", {});
  CHECK(text.status().code() == StatusCode::kCorrupt);
  CHECK(moka::read_tokenizer_json(kData + "no such file", {}).status().code() ==
        StatusCode::kNotFound);
  CHECK(moka::read_gpt2_tokenizer(kData + "no such file", kData + "x", {}).status().code() ==
        StatusCode::kNotFound);
}

TEST_CASE("tokenizer: every tokenizer.json of the test data can be run") {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kData)) {
    if (entry.path().filename() == "tokenizer.json") files.push_back(entry.path());
  }
  REQUIRE(!files.empty());  // that of the demo model at least
  const std::string text = "Once upon a time, 3 caf\xC3\xA9s \xF0\x9F\x98\x80\n\n  \"it's\" \xFF";
  for (const auto& path : files) {
    CAPTURE(path.string());
    auto spec = moka::read_tokenizer_json(path.string(), {});
    REQUIRE_MESSAGE(spec.ok(), spec.status().message());
    auto tokenizer = Tokenizer::create(std::move(spec).value());
    REQUIRE_MESSAGE(tokenizer.ok(), tokenizer.status().message());
    Ids ids;
    const moka::Status status = tokenizer.value().encode(text, &ids);
    REQUIRE_MESSAGE(status.ok(), status.message());
    CHECK(ids.size() <= text.size());
    CHECK(tokenizer.value().decode(ids).value() == text);
  }
}
