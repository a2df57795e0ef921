// The scripts of tests/bench/peers that make a table of measurements; what measures needs a chroot
// and a quiet machine and is not run here.
#include <string>
#include <vector>

#include "doctest/doctest.h"
#include "tests/process.h"

namespace moka::test {
namespace {

const std::string kPeers = std::string(MOKA_SOURCE_DIR) + "/tests/bench/peers/";

bool no_python() {
  const ProcessResult python = run_process({"/usr/bin/env", "python3", "-c", "import json"});
  if (python.exit_code != 0) MESSAGE("skipped: there is no python3: " << python.err);
  return python.exit_code != 0;
}

ProcessResult report(const std::vector<std::string>& folders) {
  std::vector<std::string> command = {"/usr/bin/env", "PYTHONDONTWRITEBYTECODE=1", "python3",
                                      kPeers + "report.py"};
  command.insert(command.end(), folders.begin(), folders.end());
  return run_process(command);
}

std::string machine() {
  const std::string model = R"({"weights_read": 110, "parameters": 134})";
  return R"({"group": "machine", "time": "2026-11-25 10:00 UTC", "cpu": "Test CPU", "cpus": 2, )"
         R"("l2": "1 MiB", "l3": "2 MiB", "kernel": "6", "memory_bytes": 1073741824, )"
         R"("llama": "llama.cpp 1", "llama_backend": "x.so", "moka": "moka 1", "commit": "c", )"
         R"("quick": false, "threads": [1], "run": "run.sh X", "models": {)"
         R"("macchiato-134m-int8": )" +
         model + R"(, "mamba-130m-q8_0": {"weights_read": 220, "parameters": 220}}})" + "\n";
}

std::string line(const std::string& group, int round, const std::string& model, double speed,
                 double other_cpu, int depth = 0) {
  return R"({"group": ")" + group + R"(", "round": )" + std::to_string(round) + R"(, "model": ")" +
         model + R"(", "threads": 1, "depth": )" + std::to_string(depth) +
         R"(, "kind": "generate", "speed": )" + std::to_string(speed) + R"(, "other_cpu": )" +
         std::to_string(other_cpu) + "}\n";
}

// The row of a table that begins with `what`; empty if there is none.
std::string row(const std::string& table, const std::string& what) {
  const size_t begin = table.find("| " + what + " |");
  return begin == std::string::npos ? "" : table.substr(begin, table.find('\n', begin) - begin);
}

const char kMoka[] = "macchiato-134m-int8";

}  // namespace

TEST_CASE("peers: ratios are of rounds, without those that others disturbed") {
  if (no_python()) return;
  const TemporaryFolder folder;
  write_file(folder / "raw.jsonl",
             machine() + line("speed", 0, "llama-134m-q8_0", 100, 0) +
                 line("speed", 0, kMoka, 200, 0) + line("speed", 1, "llama-134m-q8_0", 50, 0) +
                 line("speed", 1, kMoka, 150, 0) + line("speed", 2, "llama-134m-q8_0", 1, 0.2) +
                 line("speed", 2, kMoka, 150, 0) + line("speed", 0, "mamba-130m-q8_0", 60, 0.9));
  const ProcessResult result = report({folder.path(), folder.path()});
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  const std::string table = read_file(folder / "table.md");
  CHECK(result.out == table + "\n");
  CHECK(
      row(table, "generate, Macchiato, int8, 1 thread") ==
      "| generate, Macchiato, int8, 1 thread | 150 (macchiato-134m-int8) | 75 (llama-134m-q8_0) | "
      "2.5 (2 to 3) | 1.3 or more | yes |");
  // Half as many weights read: 200 * 110 against 60 * 220; the only measurement, so it is used.
  CHECK(row(table, "generate, int8, per weight read, 1 thread") ==
        "| generate, int8, per weight read, 1 thread | 150 (macchiato-134m-int8) | "
        "60 (mamba-130m-q8_0) | 1.67 * | 2 or more | **no** |");
  CHECK(row(table, "generate, Macchiato, int4, 1 thread") ==
        "| generate, Macchiato, int4, 1 thread | not measured |  |  | 1.3 |  |");
  CHECK(table.find("Not measured here: depth, deep, small, million, sessions, start, limit.") !=
        std::string::npos);
  CHECK(table.find("| macchiato-134m-int8 | 0 | 1 |  | 150 (150 to 200) |") != std::string::npos);
}

TEST_CASE("peers: the better of two ways counts, and a later folder's group") {
  if (no_python()) return;
  const TemporaryFolder first, second, out;
  const std::string peer = "llama-134m-q8_0";
  write_file(first / "raw.jsonl",
             machine() + line("speed", 0, kMoka, 300, 0) + line("depth", 0, kMoka, 1, 0, 4096));
  write_file(second / "raw.jsonl", machine() + line("depth", 0, peer, 50, 0, 4096) +
                                       line("depth", 0, peer, 20, 0, 4096) +
                                       line("depth", 0, kMoka, 290, 0, 4096));
  const ProcessResult result = report({out.path(), first.path(), second.path()});
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  CHECK(row(read_file(out / "table.md"), "generate at depth 4,096, int8, 1 thread") ==
        "| generate at depth 4,096, int8, 1 thread | 290 (macchiato-134m-int8) | "
        "50 (llama-134m-q8_0) | 5.8 | 6 or more | **no** |");
  const std::string plot = read_file(out / "depth.svg");
  CHECK(plot.find(">Moka int8</text>") != std::string::npos);
  CHECK(plot.find(">llama.cpp Q8_0</text>") != std::string::npos);
  CHECK(plot.find(">4,096</text>") != std::string::npos);
  CHECK(plot.find("Moka int4") == std::string::npos);  // it has no points
  CHECK(plot.find("prefers-color-scheme: dark") != std::string::npos);
}

TEST_CASE("peers: wrong arguments and damaged measurements are told") {
  if (no_python()) return;
  const TemporaryFolder folder;
  CHECK(report({folder.path()}).err == "usage: report.py OUT RESULTS...\n");
  const ProcessResult none = report({folder.path(), folder.path()});
  CHECK(none.exit_code == 1);
  CHECK(none.err.find("raw.jsonl") != std::string::npos);
  write_file(folder / "raw.jsonl", line("speed", 0, kMoka, 1, 0));
  CHECK(report({folder.path(), folder.path()}).err ==
        "report.py: " + folder.path() + "/raw.jsonl does not say what machine it is of\n");

  const auto run = [&](const std::vector<std::string>& arguments) {
    std::vector<std::string> command = {"/bin/sh", kPeers + "run.sh"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    const ProcessResult result = run_process(command);
    CHECK(result.exit_code == 1);
    return result.err;
  };
  const std::string usage =
      "usage: run.sh [--quick] [--only GROUP,...] [--threads N,...] [--moka PATH] DIR\n";
  CHECK(run({}) == "peers: " + usage);
  CHECK(run({"--fast", folder.path()}) == "peers: --fast is no option; " + usage);
  CHECK(run({folder.path(), "--only"}) == "peers: --only needs a value; " + usage);
  CHECK(run({"--threads", "1,x", folder.path()}) ==
        "peers: --threads 1,x: a list as in 1,2 is needed\n");
}

}  // namespace moka::test
