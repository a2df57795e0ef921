// Runs the shell examples of README.md, so that what a newcomer types works.
//
// An example is a fenced block of kind `sh` right after a line <!-- test -->. It runs in bash, as a
// whole, with `set -e`, in a folder that looks like a checkout that has been built:
// build/release/moka is the command under test, and models/ and tests/ are the project's. A line
// <!-- test: WORDS --> asks that stdout has WORDS.
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "doctest/doctest.h"
#include "tests/process.h"

namespace moka::test {
namespace {

namespace fs = std::filesystem;

struct Example {
  size_t line = 0;  // in README.md
  std::string script;
  std::string expected;
};

const std::string kMark = "<!-- test";

// Examples in the order of the page. A mark without a block is an error of the page.
std::vector<Example> examples_of(const std::string& page) {
  std::vector<Example> examples;
  std::istringstream stream(page);
  size_t number = 0;
  bool marked = false, inside = false;
  std::string expected;
  for (std::string line; std::getline(stream, line);) {
    ++number;
    if (inside) {
      if (line == "```") {
        inside = false;
      } else {
        examples.back().script += line + "\n";
      }
    } else if (line.rfind(kMark, 0) == 0) {
      REQUIRE_MESSAGE(!marked, "README.md line ", number,
                      ": the mark before this one has no block");
      marked = true;
      const size_t end = line.find(" -->");
      REQUIRE_MESSAGE(end != std::string::npos, "README.md line ", number);
      expected = line.size() > kMark.size() + 2 && line[kMark.size()] == ':'
                     ? line.substr(kMark.size() + 2, end - kMark.size() - 2)
                     : "";
    } else if (marked && !line.empty()) {
      REQUIRE_MESSAGE(line == "```sh", "README.md line ", number,
                      ": a ```sh block must follow the mark");
      examples.push_back({number, "", expected});
      marked = false;
      inside = true;
    }
  }
  REQUIRE_MESSAGE((!inside && !marked), "README.md ends inside an example");
  return examples;
}

}  // namespace

TEST_CASE("readme: examples are found as they are marked") {
  const auto examples = examples_of(
      "text\n```sh\nnot this\n```\n<!-- test -->\n```sh\na\nb\n```\n<!-- test: out put "
      "-->\n\n```sh\nc\n```\n");
  REQUIRE(examples.size() == 2);
  CHECK(examples[0].script == "a\nb\n");
  CHECK(examples[0].expected == "");
  CHECK(examples[0].line == 6);
  CHECK(examples[1].script == "c\n");
  CHECK(examples[1].expected == "out put");
}

TEST_CASE("readme: every marked example runs") {
  const fs::path source = MOKA_SOURCE_DIR;
  const auto examples = examples_of(read_file((source / "README.md").string()));
  REQUIRE_MESSAGE(!examples.empty(), "README.md has no example marked with ", kMark, " -->");
  const TemporaryFolder folder;
  const fs::path root = folder.path();
  fs::create_directories(root / "build/release");
  fs::create_symlink(MOKA_COMMAND, root / "build/release/moka");
  for (const char* name : {"models", "tests"}) fs::create_symlink(source / name, root / name);
  for (const Example& example : examples) {
    CAPTURE(example.script);
    ProcessOptions options;
    options.directory = folder.path();
    options.seconds = 300;
    const ProcessResult result =
        run_process({"/bin/bash", "-c", "set -e -o pipefail\n" + example.script}, options);
    CHECK_MESSAGE(result.exit_code == 0, "README.md line ", example.line, ": ", result.err);
    CHECK_MESSAGE(result.out.find(example.expected) != std::string::npos, "README.md line ",
                  example.line, ": '", example.expected, "' is not in: ", result.out);
  }
}

}  // namespace moka::test
