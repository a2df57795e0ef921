// Every form of tokenizer that a checkpoint may come with, by its one entry point; the tokenizers
// of the published Latte models; whole documents.
#include <doctest/doctest.h>

#include <fstream>
#include <string>
#include <vector>

#include "converter/tokenizer_source.h"
#include "moka/tokenizer.h"
#include "tests/temp_folder.h"

namespace {

using moka::StatusCode;
using moka::Tokenizer;
using moka::TokenizerRequest;
using moka::TokenizerSource;
using Ids = std::vector<moka::TokenId>;

const std::string kData = std::string(MOKA_SOURCE_DIR) + "/tests/data/tokenizers/";

class Files {
 public:
  std::string put(const std::string& name, const std::string& text) const {
    std::ofstream(folder_.file(name), std::ios::binary) << text;
    return folder_.file(name);
  }
  std::string path() const { return folder_.path(); }

 private:
  moka::test::TempFolder folder_;
};

TokenizerRequest request(const std::string& source) {
  TokenizerRequest result;
  result.source = source;
  return result;
}

TokenizerSource read(const TokenizerRequest& wanted) {
  auto source = moka::read_tokenizer(wanted);
  REQUIRE_MESSAGE(source.ok(), source.status().message());
  return std::move(source).value();
}

Tokenizer make(const moka::TokenizerSpec& spec) {
  auto tokenizer = Tokenizer::create(spec);
  REQUIRE_MESSAGE(tokenizer.ok(), tokenizer.status().message());
  return std::move(tokenizer).value();
}

Ids encode(const Tokenizer& tokenizer, const std::string& text) {
  Ids ids;
  const moka::Status status = tokenizer.encode(text, &ids);
  REQUIRE_MESSAGE(status.ok(), status.message());
  return ids;
}

void refuse(const TokenizerRequest& wanted, StatusCode code, const std::string& message) {
  const auto source = moka::read_tokenizer(wanted);
  REQUIRE_FALSE(source.ok());
  CHECK_MESSAGE(source.status().code() == code, source.status().to_string());
  CHECK_MESSAGE(source.status().message() == message, source.status().message());
}

void refuse_text(const Tokenizer& tokenizer, const std::string& text, const std::string& message) {
  Ids ids = {7};
  const moka::Status status = tokenizer.encode(text, &ids);
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK_MESSAGE(status.message() == message, status.message());
  CHECK(ids == Ids{7});
}

}  // namespace

TEST_CASE("tokenizer forms: bytes, and documents cut as in training") {
  TokenizerRequest wanted = request("bytes");
  wanted.add_eos = true;
  wanted.max_length = 5;
  wanted.vocab_size = 260;
  wanted.ids.pad = 256;
  const TokenizerSource source = read(wanted);
  CHECK(source.form == "bytes");
  CHECK(source.files.empty());
  CHECK(source.notes.empty());
  CHECK(source.spec.max_length == 5);
  CHECK(source.spec.add_eos);
  CHECK_FALSE(source.spec.add_bos);
  const Tokenizer bytes = make(source.spec);
  Ids ids;
  REQUIRE(bytes.encode_document("abc", &ids, 5).ok());
  CHECK(ids == Ids{'a', 'b', 'c', 259});
  ids = {1};
  REQUIRE(bytes.encode_document("abc\xC3\xA9xyz", &ids, 5).ok());
  CHECK(ids == Ids{1, 'a', 'b', 'c', 0xC3, 259});  // a cut may split a character
  ids.clear();
  REQUIRE(bytes.encode_document("abcdefgh", &ids).ok());
  CHECK(ids.size() == 9);  // nothing is cut unless asked
  ids.clear();
  REQUIRE(bytes.encode_document("", &ids, 1).ok());
  CHECK(ids == Ids{259});
  CHECK(bytes.encode_document("x", nullptr).code() == StatusCode::kInvalidArgument);

  wanted.ids.pad = 0;
  refuse(wanted, StatusCode::kInvalidArgument,
         "the pad id was given as 0, but tokenizer bytes has 256");
  wanted.ids.pad = -1;
  wanted.vocab_size = 200;
  refuse(wanted, StatusCode::kInvalidArgument,
         "bytes: the tokenizer has 260 tokens, the model has rows for 200");
  wanted.vocab_size = 264;
  CHECK(read(wanted).notes ==
        std::vector<std::string>{"the tokenizer has 260 tokens, the model has "
                                 "rows for 264; ids beyond have no text"});
}

TEST_CASE("tokenizer forms: a document with bos and eos") {
  TokenizerSource source = read(request("bytes"));
  source.spec.add_bos = source.spec.add_eos = true;
  const Tokenizer bytes = make(source.spec);
  Ids ids;
  REQUIRE(bytes.encode_document("abcdef", &ids, 4).ok());
  CHECK(ids == Ids{258, 'a', 'b', 259});
  const moka::Status status = bytes.encode_document("a", &ids, 1);
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message() == "encode_document: max_length is 1, but bos and eos alone are 2 tokens");
}

TEST_CASE("tokenizer forms: characters of a corpus") {
  const Files files;
  const std::string a = files.put("train.txt", "hello\n"), b = files.put("valid.txt", "\xC3\xA9h!");
  const TokenizerSource source = read(request("chars:" + a + "," + b));
  CHECK(source.form == "characters of a corpus");
  CHECK(source.files == std::vector<std::string>{a, b});
  const Tokenizer t = make(source.spec);
  CHECK(t.vocab_size() == 11);  // \n ! e h l o e-acute, then unk, pad, bos, eos
  CHECK(encode(t, "hello\n") == Ids{3, 2, 4, 4, 5, 0});
  CHECK(encode(t, "\xC3\xA9?\xFF!") == Ids{6, 7, 7, 1});
  CHECK(encode(t, "<unk>") == Ids{7, 7, 7, 7, 7});
  CHECK(t.unknown_id() == 7);
  CHECK(t.pad_id() == 8);
  CHECK(t.bos_id() == 9);
  CHECK(t.eos_id() == 10);
  CHECK(t.decode(Ids{9, 3, 6, 10, 8}).value() == "h\xC3\xA9");

  // The same as a stored list.
  const TokenizerSource list =
      read(request(files.put("list.json", R"(["\n", "!", "e", "h", "l", "o", "\u00e9"])")));
  CHECK(list.form == "list of characters");
  CHECK(list.spec.pieces == source.spec.pieces);
  CHECK(list.spec.piece_ends == source.spec.piece_ends);

  const std::string bad = files.put("bad.txt", std::string(1 << 20, 'a') + "\xE2\x82");
  refuse(request("chars:" + bad), StatusCode::kCorrupt, bad + ": byte 1048576 is not UTF-8");
  const std::string twice = files.put("twice.json", R"(["a", "b", "a"])");
  refuse(request(twice), StatusCode::kCorrupt, twice + ": entry 2, \"a\", is there twice");
  const std::string word = files.put("word.json", R"(["a", "bc"])");
  refuse(request(word), StatusCode::kCorrupt, word + ": entry 1, \"bc\", is not one character");
  refuse(request("chars:" + a + ","), StatusCode::kInvalidArgument,
         "tokenizer \"chars:" + a + ",\": a file name is empty");
}

TEST_CASE("tokenizer forms: a character cut by the reader's pieces") {
  const Files files;
  for (int before = 0; before < 4; ++before) {
    const std::string text =
        std::string((size_t{1} << 20) - 1 - static_cast<size_t>(before), 'a') + "\xF0\x9F\x98\x80z";
    const Tokenizer t = make(read(request("chars:" + files.put("t.txt", text))).spec);
    CHECK(t.vocab_size() == 7);
    CHECK(encode(t, "az\xF0\x9F\x98\x80") == Ids{0, 1, 2});
  }
}

TEST_CASE("tokenizer forms: symbols of a corpus by falling count") {
  const Files files;
  const std::string a = files.put("train.txt", " The cat <unk>\nsat the\tb \n\n"),
                    b = files.put("test.txt", "B\xC3\x89 sat <unk>");
  const TokenizerSource source = read(request("charfile:" + a + "," + b));
  CHECK(source.form == "symbols of a corpus");
  CHECK(source.notes.empty());
  const Tokenizer t = make(source.spec);
  // the 2, sat 2, cat 1, b 1, b-e-acute 1; ties by first appearance
  CHECK(t.vocab_size() == 9);
  CHECK(encode(t, "THE sat\ncat  b\n b\xC3\xA9 <unk>") == Ids{4, 5, 6, 7, 8, 0});
  CHECK(t.decode(Ids{2, 4, 6, 0, 3}).value() == "the cat <unk>");
  CHECK(t.pad_id() == 1);
  CHECK(t.bos_id() == 2);
  CHECK(t.eos_id() == 3);
  CHECK(t.unknown_id() == -1);
  refuse_text(t, "the dog",
              "tokenizer: the word \"dog\" is not in the vocabulary, and the model has no unknown "
              "token");
  moka::TextStream stream(t);
  CHECK(stream.push(4) == "the");
  CHECK(stream.push(2) == "");
  CHECK(stream.push(6) == " cat");

  const TokenizerSource list = read(
      request(files.put("list.json", R"({"symbols": ["the", "sat", "cat", "b", "b\u00e9"]})")));
  CHECK(list.spec.pieces == source.spec.pieces);
}

TEST_CASE("tokenizer forms: enwik8's numbers are bytes") {
  const Files files;
  const std::string path = files.put("train.txt", "97 98 97 32\n195 97 98\n169 10 255\n");
  const TokenizerSource source = read(request("charfile:" + path));
  CHECK(source.notes == std::vector<std::string>{
                            "the symbols are numbers of bytes; the tokenizer reads the bytes"});
  const Tokenizer t = make(source.spec);
  CHECK(t.vocab_size() == 11);
  // 97 three times, 98 twice, then by appearance: 32 195 169 10 255
  CHECK(encode(t, "ab \xC3\xA9\n\xFF") == Ids{4, 5, 6, 7, 8, 9, 10});
  CHECK(t.decode(Ids{4, 7, 8}).value() == "a\xC3\xA9");
  refuse_text(t, "abc",
              "tokenizer: byte 99 at offset 2 of the text is not in the vocabulary, and the model "
              "has no unknown token");
  // Without a symbol 10, new lines only end the lines of the files.
  const Tokenizer lines = make(read(request("charfile:" + files.put("b.txt", "97 98\n98"))).spec);
  CHECK(encode(lines, "a\nb\n") == Ids{5, 4});
  // 256 is no byte, so these are words.
  CHECK(make(read(request("charfile:" + files.put("c.txt", "97 256"))).spec).separates_words());
}

TEST_CASE("tokenizer forms: ListOps") {
  const Files files;
  const std::string json = R"({"special_tokens": {"unk": "<unk>", "pad": "<pad>", "bos": "<bos>",
    "eos": "<eos>"}, "tokens": {"[MAX": 3, "X": 0, "7": 1, "2": 2, "<unk>": 4, "<pad>": 5,
    "<bos>": 6, "<eos>": 7}})";
  const std::string path = files.put("listops.json", json);
  TokenizerRequest wanted = request(path);
  wanted.max_length = 2000;
  const TokenizerSource source = read(wanted);
  CHECK(source.form == "ListOps symbols");
  CHECK(source.spec.max_length == 2000);
  const Tokenizer t = make(source.spec);
  CHECK(encode(t, "( ( ( [MAX 2 ) 7 ) ] )") == Ids{3, 2, 1, 0});
  CHECK(encode(t, "[MAX 2 ]] 9 <pad>") == Ids{3, 2, 4, 4, 5});
  CHECK(encode(t, "  ") == Ids{});
  CHECK(t.unknown_id() == 4);
  CHECK(t.pad_id() == 5);
  CHECK(t.eos_id() == 7);
  CHECK_FALSE(source.spec.add_eos);
  CHECK(t.decode(Ids{3, 2, 5, 0}).value() == "[MAX 2 X");
  Ids ids;
  REQUIRE(t.encode_document("[MAX 2 7 7 ]", &ids, 3).ok());
  CHECK(ids == Ids{3, 2, 1});

  const std::string hole = files.put("hole.json", R"({"tokens": {"a": 0, "b": 2},
    "special_tokens": {}})");
  refuse(request(hole), StatusCode::kCorrupt,
         hole + ": tokens.b is 2; the ids of 2 symbols are 0 to 1, each once");
  const std::string lost = files.put("lost.json", R"({"tokens": {"a": 0},
    "special_tokens": {"unk": "<unk>"}})");
  refuse(request(lost), StatusCode::kCorrupt,
         lost + ": special_tokens.unk is \"<unk>\", which is not in tokens");
}

TEST_CASE("tokenizer forms: GPT-2's end of text as pad") {
  TokenizerRequest wanted = request(kData + "gpt2-vocab.bpe");
  wanted.end_of_text_is_pad = true;
  wanted.vocab_size = 50257;
  const TokenizerSource source = read(wanted);
  CHECK(source.form == "GPT-2 BPE");
  CHECK(source.files ==
        std::vector<std::string>{kData + "gpt2-encoder.json", kData + "gpt2-vocab.bpe"});
  CHECK(source.spec.pad_id == 50256);
  CHECK(source.spec.eos_id == 50256);
  CHECK(source.spec.bos_id == -1);
  CHECK_FALSE(source.spec.add_bos);
  CHECK_FALSE(source.spec.add_eos);
}

TEST_CASE("tokenizer forms: folders and what is no tokenizer") {
  const Files files;
  refuse(request(files.path()), StatusCode::kNotFound,
         files.path() +
             ": no tokenizer in this folder (tokenizer.json, tokenizer.model, spiece.model, "
             "sentencepiece.bpe.model, vocab.bpe, merges.txt)");
  const std::string empty = files.put("empty", "");
  refuse(request(empty), StatusCode::kCorrupt, empty + ": is empty");
  const std::string text = files.put("words", "hello\n");
  refuse(request(text), StatusCode::kInvalidArgument,
         text +
             ": is no tokenizer that is known: tokenizer.json, a SentencePiece model, GPT-2's "
             "merges, or a list of symbols in JSON");
  const std::string merges = files.put("merges.txt", "#version: 0.2\na b\n");
  refuse(request(merges), StatusCode::kNotFound,
         merges + ": neither " + files.path() +
             "/encoder.json nor vocab.json lies beside these "
             "merges");
  files.put("vocab.json", R"({"a": 0, "b": 1, "ab": 2})");
  CHECK(make(read(request(files.path())).spec).vocab_size() == 3);
  TokenizerRequest eos = request(files.path());
  eos.add_eos = true;
  refuse(eos, StatusCode::kInvalidArgument,
         files.path() + ": documents shall end with eos, but there is no eos id");
  CHECK(moka::find_tokenizer(files.path()) == merges);
}
