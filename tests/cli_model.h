// Model files for the tests of the command.
#ifndef MOKA_TESTS_CLI_MODEL_H_
#define MOKA_TESTS_CLI_MODEL_H_

#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "tests/process.h"
#include "tests/spec_builder.h"

namespace moka::test {

// The built command with these arguments.
ProcessResult moka_command(std::vector<std::string> arguments, const ProcessOptions& options = {});

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Output that is one JSON document on each line.
std::vector<nlohmann::json> json_lines(const std::string& text);

// A small random language model that reads bytes, as most tests here use it: 2 layers, 260 ids, and
// a test vector that holds when `right_test_vector` is set.
TestModel text_model(bool right_test_vector = true);
// The same, written to `path`.
void write_text_model(const std::string& path, bool right_test_vector = true);

}  // namespace moka::test

#endif  // MOKA_TESTS_CLI_MODEL_H_
