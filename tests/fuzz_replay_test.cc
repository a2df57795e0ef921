// Every input that once broke a fuzz target or reached far in it, through every target: a target ends
// the process when a promise is broken, and the name of the file is then in the output of the test.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/fuzz/targets.h"
#include "tests/process.h"

namespace moka::test {
namespace {

struct FuzzTarget {
  const char* name;
  void (*run)(const uint8_t* data, size_t size);
};

#define MOKA_FUZZ_ENTRY(name) {#name, &fuzz::name},
const FuzzTarget kTargets[] = {MOKA_FUZZ_TARGETS(MOKA_FUZZ_ENTRY)};
#undef MOKA_FUZZ_ENTRY

// The bytes begin where a heap block does and end where it ends, so that a sanitizer sees a read
// outside of them.
void run(const FuzzTarget& target, const std::string& input) {
  const std::vector<uint8_t> bytes(input.begin(), input.end());
  target.run(bytes.data(), bytes.size());
}

}  // namespace

TEST_CASE("fuzz: each source of a target is in the list of targets") {
  std::vector<std::string> files, names;
  const std::string folder = std::string(MOKA_SOURCE_DIR) + "/tests/fuzz";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().stem().string();
    const bool target = name.size() > 5 && name.compare(name.size() - 5, 5, "_fuzz") == 0;
    if (target && entry.path().extension() == ".cc") files.push_back(name);
  }
  for (const FuzzTarget& target : kTargets) names.push_back(target.name);
  std::sort(files.begin(), files.end());
  CHECK(files == names);
}

TEST_CASE("fuzz: what once broke a target passes through all of them") {
  const std::string folder = std::string(MOKA_SOURCE_DIR) + "/tests/data/fuzz";
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    const bool input = entry.is_regular_file() && entry.path().extension() != ".md";
    if (input) files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  CHECK(!files.empty());
  for (const std::string& file : files) {
    const std::string input = read_file(file);
    CHECK_MESSAGE(input.size() <= 16384, file, ": minimize it before it is kept");
    for (const FuzzTarget& target : kTargets) {
      INFO(file << " through " << std::string(target.name));
      run(target, input);
      CHECK(true);  // names what was running when a target ends the process
    }
  }
}

// A little of what the fuzzers do, without them: each mode of each target is entered.
TEST_CASE("fuzz: short inputs of every first byte pass") {
  for (const FuzzTarget& target : kTargets) {
    INFO(std::string(target.name));
    run(target, "");
    uint32_t state = 1;
    for (int first = 0; first < 256; ++first) {
      std::string input(1, static_cast<char>(first));
      for (int i = 0; i < first % 24; ++i) {
        state = state * 1664525u + 1013904223u;
        input += static_cast<char>(state >> 24);
      }
      run(target, input);
    }
    CHECK(true);
  }
}
}  // namespace moka::test
