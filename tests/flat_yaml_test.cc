// Flat YAML: what values mean, and that everything else is refused with its line.
#include "converter/flat_yaml.h"

#include <string>

#include "doctest/doctest.h"

namespace moka {
namespace {

using Json = nlohmann::json;

Json parsed(const std::string& text) {
  const auto result = parse_flat_yaml(text, "c.yaml");
  REQUIRE_MESSAGE(result.ok(), result.status().message());
  return result.value();
}

}  // namespace

TEST_CASE("yaml: values are what the trainers' reader makes of them") {
  const Json config = parsed(
      "\xef\xbb\xbf---\n"
      "# a run\r\n"
      "\n"
      "lr: 5.e-5\r\n"
      "epochs: 20\n"
      "offset: -3\n"
      "warmup: .25\n"
      "dataset_name: \"aan\" # \"imdb\" #\"x\"\n"
      "path: '/home/it''s/a#b.json'\n"
      "plain: some words # a comment\n"
      "hash: a#b\n"
      "time: a:b\n"
      "batchnorm: False\n"
      "prenorm:   True   \n"
      "old: yes\n"
      "nothing:\n"
      "tilde: ~ # none\n"
      "\"quoted key\": \"a \\\"b\\\" \\\\ c\"\n"
      "version: 1.2.3\n"
      "last: end");
  CHECK(config["lr"] == 5e-5);
  CHECK(config["epochs"] == 20u);
  CHECK(config["epochs"].is_number_unsigned());
  CHECK(config["offset"] == -3);
  CHECK(config["warmup"] == 0.25);
  CHECK(config["dataset_name"] == "aan");
  CHECK(config["path"] == "/home/it's/a#b.json");
  CHECK(config["plain"] == "some words");
  CHECK(config["hash"] == "a#b");
  CHECK(config["time"] == "a:b");
  CHECK(config["batchnorm"] == false);
  CHECK(config["prenorm"] == true);
  CHECK(config["old"] == true);
  CHECK(config["nothing"].is_null());
  CHECK(config["tilde"].is_null());
  CHECK(config["quoted key"] == "a \"b\" \\ c");
  CHECK(config["version"] == "1.2.3");
  CHECK(config["last"] == "end");
  CHECK(parsed("").empty());
  CHECK(parsed("# only words\n  \n").empty());
}

TEST_CASE("yaml: everything else is refused by its line") {
  struct Case {
    const char* text;
    StatusCode code;
    const char* words;
  };
  const StatusCode other = StatusCode::kUnsupported, bad = StatusCode::kCorrupt;
  const Case cases[] = {
      {"a: 1\n  b: 2\n", other, "line 2 is indented, expected `key: value`"},
      {"a: 1\n- b\n", other, "line 2 is an entry of a list, expected `key: value`"},
      {"a: [1, 2]\n", other, "line 1 has a value that begins with '[', expected `key: value`"},
      {"a: {b: 1}\n", other, "line 1 has a value that begins with '{', expected `key: value`"},
      {"a: &x 1\n", other, "line 1 has a value that begins with '&', expected `key: value`"},
      {"a: *x\n", other, "line 1 has a value that begins with '*', expected `key: value`"},
      {"a: !!int 1\n", other, "line 1 has a value that begins with '!', expected `key: value`"},
      {"a: |\n", other, "line 1 has a value that begins with '|', expected `key: value`"},
      {"? a\n", other, "line 1 begins with '?', expected `key: value`"},
      {"a: 1\n---\nb: 2\n", other, "line 2 begins another document, expected `key: value`"},
      {"a: 010\n", other,
       "line 1 has the number \"010\", which programs read in different ways, expected `key: "
       "value`"},
      {"a: 1_000\n", other,
       "line 1 has the number \"1_000\", which programs read in different ways, expected `key: "
       "value`"},
      {"a: 1:30\n", other,
       "line 1 has the number \"1:30\", which programs read in different ways, expected `key: "
       "value`"},
      {"a: 99999999999999999999\n", other,
       "line 1 has the number \"99999999999999999999\", which programs read in different ways, "
       "expected `key: value`"},
      {"a: \"b\\n\"\n", other, "line 1 has the escape \\n, expected `key: value`"},
      {"a: \"b\n", bad, "line 1 opens a quote that it does not close"},
      {"a: \"b\" c\n", bad, "line 1 has more after the quoted value: \" c\""},
      {"a: b: c\n", bad, "line 1 has a second key in its value \"b: c\""},
      {"\n\nwords\n", bad, "line 3 is \"words\", expected `key: value`"},
      {"a:1\n", bad, "line 1 is \"a:1\", expected `key: value`"},
      {"a: 1\na: 2\n", bad, "line 2 repeats the key \"a\""},
  };
  for (const Case& c : cases) {
    CAPTURE(c.text);
    const Status status = parse_flat_yaml(c.text, "c.yaml").status();
    CHECK(status.code() == c.code);
    CHECK(status.message() == std::string("c.yaml: ") + c.words);
  }
  const Status binary = parse_flat_yaml(std::string("a: \0b\n", 6), "c.yaml").status();
  CHECK(binary.message() == "c.yaml: line 1 is no text");
}

}  // namespace moka
