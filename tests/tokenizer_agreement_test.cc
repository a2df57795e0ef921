// Ids and texts of SentencePiece and of Hugging Face's tokenizers, on the same models.
//
// tests/data/tokenizers/sentencepiece/vectors.json has 145 texts and what the two programs make of
// them; make_vectors.py there made it and the small models beside it. The two larger models of
// SentencePiece's own tests are not in the project: their vectors are checked where the files are.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "converter/tokenizer_source.h"
#include "moka/tokenizer.h"
#include "nlohmann/json.hpp"
#include "tests/model_file.h"

namespace {

using Json = nlohmann::json;
using Ids = std::vector<moka::TokenId>;

const std::string kFolder = std::string(MOKA_SOURCE_DIR) + "/tests/data/tokenizers/sentencepiece/";
const std::string kShared = std::string(MOKA_SOURCE_DIR) + "/../shared/data/tokenizers/";

const Json& vectors() {
  static const Json json = [] {
    std::ifstream file(kFolder + "vectors.json");
    REQUIRE(file);
    return Json::parse(file);
  }();
  return json;
}

// The tokenizer of a file, by way of a model file.
moka::Tokenizer open(const std::string& path) {
  moka::TokenizerRequest request;
  request.source = path;
  auto source = moka::read_tokenizer(request);
  REQUIRE_MESSAGE(source.ok(), source.status().message());
  moka::test::TestModelOptions options;
  options.vocab_size = static_cast<uint32_t>(source.value().spec.piece_ends.size());
  moka::test::TestModel model = moka::test::make_test_model(options);
  model.spec.tokenizer = std::move(source).value().spec;
  const moka::ModelBytes bytes = moka::test::written(model.spec);
  auto loaded = moka::load_model(bytes.bytes(), "t.moka");
  REQUIRE_MESSAGE(loaded.ok(), loaded.status().message());
  REQUIRE(loaded.value().spec.tokenizer.has_value());
  auto tokenizer = moka::Tokenizer::create(*loaded.value().spec.tokenizer);
  REQUIRE_MESSAGE(tokenizer.ok(), tokenizer.status().message());
  return std::move(tokenizer).value();
}

void check_model(const std::string& path, bool parse_special) {
  const std::string name = std::filesystem::path(path).filename().string();
  CAPTURE(name);
  const moka::Tokenizer tokenizer = open(path);
  const Json& texts = vectors()["texts"];
  const Json& expected = vectors()["models"][name];
  REQUIRE(texts.size() == 145);
  REQUIRE(expected["ids"].size() == texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string text = texts[i];
    CAPTURE(text);
    Ids ids;
    const moka::Status status = tokenizer.encode(text, &ids, parse_special);
    REQUIRE_MESSAGE(status.ok(), status.message());
    CHECK(ids == expected["ids"][i].get<Ids>());
    if (!expected.contains("decoded")) continue;
    const auto decoded = tokenizer.decode(ids);
    REQUIRE(decoded.ok());
    CHECK(decoded.value() == expected["decoded"][i].get<std::string>());
    // What is streamed is the same but for spaces in front.
    moka::TextStream stream(tokenizer);
    std::string streamed;
    for (const moka::TokenId id : ids) streamed += stream.push(id);
    streamed += stream.finish();
    REQUIRE(streamed.size() >= decoded.value().size());
    CHECK(streamed.substr(streamed.size() - decoded.value().size()) == decoded.value());
    CHECK(streamed.find_first_not_of(' ') >= streamed.size() - decoded.value().size());
  }
}

}  // namespace

TEST_CASE("tokenizer agreement: SentencePiece unigram with bytes, symbols and a map") {
  check_model(kFolder + "unigram-bytes.model", true);
}

TEST_CASE("tokenizer agreement: SentencePiece unigram that keeps spaces") {
  check_model(kFolder + "unigram-plain.model", true);
}

TEST_CASE("tokenizer agreement: SentencePiece BPE with symbols and an unknown piece") {
  check_model(kFolder + "bpe.model", true);
}

TEST_CASE("tokenizer agreement: SentencePiece BPE with bytes") {
  check_model(kFolder + "bpe-bytes.model", true);
}

TEST_CASE("tokenizer agreement: SentencePiece's own test models") {
  for (const char* name : {"sentencepiece-test.model", "sentencepiece-test-ja.model"}) {
    if (std::filesystem::exists(kShared + name)) {
      check_model(kShared + name, true);
    } else {
      MESSAGE("skipped: ", name, " is not here");
    }
  }
}

TEST_CASE("tokenizer agreement: tokenizer.json Unigram, map and marks always") {
  check_model(kFolder + "hf-always.json", true);
}

TEST_CASE("tokenizer agreement: tokenizer.json Unigram, marks first, scores in double") {
  check_model(kFolder + "hf-first.json", true);
}

TEST_CASE("tokenizer agreement: tokenizer.json Unigram, words with marks never") {
  check_model(kFolder + "hf-never.json", true);
}

TEST_CASE("tokenizer agreement: tokenizer.json BPE of characters with bytes") {
  check_model(kFolder + "hf-bpe.json", true);
}

TEST_CASE("tokenizer agreement: GPT-2's files, found from either name") {
  const std::string folder = std::string(MOKA_SOURCE_DIR) + "/tests/data/tokenizers/";
  for (const char* name : {"gpt2-vocab.bpe", "gpt2-encoder.json"}) {
    const moka::Tokenizer tokenizer = open(folder + name);
    std::ifstream file(folder + "gpt2-vectors.jsonl");
    REQUIRE(file);
    size_t count = 0;
    for (std::string line; std::getline(file, line); ++count) {
      const Json vector = Json::parse(line);
      const std::string text = vector["text"];
      CAPTURE(text);
      Ids ids;
      REQUIRE(tokenizer.encode(text, &ids, false).ok());
      CHECK(ids == vector["ids"].get<Ids>());
      CHECK(tokenizer.decode(ids).value() == text);
    }
    CHECK(count == 57);
  }
}
