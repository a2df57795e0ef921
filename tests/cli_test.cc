// The command as a shell sees it: exit codes, stdout and stderr, pipes and signals.
#include <algorithm>
#include <csignal>
#include <sstream>
#include <string>
#include <vector>

#include "converter/writer.h"
#include "doctest/doctest.h"
#include "moka/moka.h"
#include "nlohmann/json.hpp"
#include "tests/cli_model.h"
#include "tests/process.h"
#include "tests/spec_builder.h"

namespace moka::test {
namespace {

using Json = nlohmann::json;

const char* const kVerbs[] = {"run",     "classify", "compare", "embed", "score",  "forecast",
                              "convert", "inspect",  "verify",  "eval",  "logits", "bench"};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// Exit code, nothing on stdout, and words on stderr that name the culprit.
void check_failure(const ProcessResult& result, int exit_code,
                   const std::vector<std::string>& words) {
  CHECK(result.exit_code == exit_code);
  CHECK(result.out == "");
  for (const std::string& word : words) {
    CHECK_MESSAGE(contains(result.err, word), "'", word, "' in: ", result.err);
  }
}

// A call of each verb that reads a model, complete but for what is in the model.
std::vector<std::vector<std::string>> calls_on(const std::string& model,
                                               const TemporaryFolder& folder) {
  return {{"run", model, "-p", "x", "-n", "2"},
          {"classify", model, "-p", "x"},
          {"compare", model, "-p", "x", "-p", "y"},
          {"embed", model, "-p", "x"},
          {"score", model, "-p", "x"},
          {"forecast", model, folder / "series.csv"},
          {"inspect", model},
          {"verify", model},
          {"eval", model, "--text", folder / "text.txt"},
          {"logits", model, "--ids", folder / "ids.npy", "-o", folder / "out.npy"},
          {"bench", model, "--depth", "0", "-n", "1", "--prompt", "1", "--repeat", "1"}};
}

}  // namespace

TEST_CASE("cli: help and version go to stdout and name everything") {
  const ProcessResult help = moka_command({"--help"});
  CHECK(help.exit_code == 0);
  CHECK(help.err == "");
  for (const char* verb : kVerbs) {
    CHECK_MESSAGE(contains(help.out, std::string("\n  ") + verb + " "), verb);
    const ProcessResult one = moka_command({verb, "--help"});
    CHECK(one.exit_code == 0);
    CHECK(one.err == "");
    CHECK(contains(one.out, std::string("usage: moka ") + verb));
    CHECK(contains(one.out, "--json"));
    CHECK(contains(one.out, std::string("Examples:\n  moka ") + verb));
    CHECK(contains(one.out, "Exit codes:\n  0 "));
    for (const std::string& line : lines_of(one.out)) CHECK_MESSAGE(line.size() <= 80, line);
  }
  CHECK(lines_of(moka_command({"eval", "--help"}).out).front() ==
        "usage: moka eval MODEL --text FILE [options]");
  CHECK(lines_of(moka_command({"logits", "--help"}).out).front() ==
        "usage: moka logits MODEL --output FILE [options]");
  const ProcessResult version = moka_command({"--version"});
  CHECK(version.exit_code == 0);
  CHECK(version.out.rfind("moka 0.", 0) == 0);
  CHECK(contains(version.out, "scalar"));
  CHECK(contains(version.out, "(in use)"));
  ProcessOptions plain;
  plain.environment = {{"MOKA_ISA", "scalar"}};
  const ProcessResult scalar = moka_command({"--version"}, plain);
  CHECK(contains(scalar.out, "scalar (in use)\n"));
  CHECK(contains(scalar.out, "\nproducts      scalar\n"));
}

TEST_CASE("cli: a wrong argument ends with 2 and says which, and what would be right") {
  struct Wrong {
    std::vector<std::string> arguments;
    std::vector<std::string> words;
  };
  const std::vector<Wrong> cases = {
      {{}, {"a verb is needed", "moka --help"}},
      {{"rum"}, {"no verb 'rum'", "'run'", "moka --help"}},
      {{"--wat"}, {"no option '--wat'"}},
      {{"run"}, {"MODEL is required", "moka run --help"}},
      {{"run", "m", "x"}, {"'x'", "too many"}},
      {{"run", "m", "--temprature", "1"}, {"'--temprature'", "'--temperature'"}},
      {{"run", "m", "--temperature", "-1"}, {"--temperature", "'-1'", "from 0 to 100"}},
      {{"run", "m", "--temperature", "nan"}, {"--temperature", "'nan'"}},
      {{"run", "m", "--temperature", ""}, {"--temperature", "''"}},
      {{"run", "m", "--top-p", "1.5"}, {"--top-p", "'1.5'", "from 0 to 1"}},
      {{"run", "m", "--threads", "0"}, {"--threads", "'0'", "from 1 to 256"}},
      {{"run", "m", "--threads=two"}, {"--threads", "'two'"}},
      {{"run", "m", "-n", "-5"}, {"--tokens", "'-5'"}},
      {{"run", "m", "-n", "1e3"}, {"--tokens", "'1e3'"}},
      {{"run", "m", "--seed", "18446744073709551616"}, {"--seed"}},
      {{"run", "m", "-p"}, {"--prompt", "value is missing"}},
      {{"run", "m", "-p", "a", "-f", "b"}, {"--prompt", "--file", "together"}},
      {{"run", "m", "--greedy", "--temperature", "1"}, {"--greedy", "--temperature", "together"}},
      {{"convert"}, {"CHECKPOINT is required", "moka convert --help"}},
      {{"convert", "f"}, {"--output"}},
      {{"convert", "f", "-o", "x", "--weights", "q3"}, {"--weights", "'q3'", "f32, f16, int8"}},
      {{"eval", "m"}, {"--text is required"}},
      {{"logits", "m", "--ids", "i"}, {"--output is required"}},
      {{"classify"}, {"MODEL is required", "moka classify --help"}},
      {{"classify", "m", "f", "--top", "x"}, {"--top", "'x'"}},
      {{"classfy", "m"}, {"no verb 'classfy'", "'classify'"}},
      {{"compare", "m", "a", "b", "c"}, {"two inputs are compared, 3 given"}},
      {{"forecast", "m", "a", "b"}, {"SERIES", "more than once"}},
      {{"forecast", "m", "a", "--horizon", "0"}, {"--horizon", "'0'", "from 1 to 100000"}},
      {{"forecast", "m", "a", "--horizon", "2", "--holdout", "2"},
       {"--holdout", "--horizon", "together"}},
      {{"forecast", "m", "a", "--season", "2"}, {"--season", "--holdout"}},
      {{"forecast", "m", "--jsonl", "--plot", "x"}, {"--jsonl", "--plot"}},
      {{"embed", "m", "-p", "x", "-o", "/", "--json"}, {"'/' exists", "--force"}},
      {{"bench", "m", "--depth", "0,x"}, {"--depth", "'x'", "0,4096,32768"}},
      {{"bench", "m", "--repeat", "0"}, {"--repeat", "'0'"}},
  };
  for (const Wrong& wrong : cases) {
    std::string words;
    for (const std::string& argument : wrong.arguments) words += argument + " ";
    CAPTURE(words);
    check_failure(moka_command(wrong.arguments), 2, wrong.words);
  }
}

TEST_CASE("cli: a missing, empty, foreign or truncated model ends with 3") {
  const TemporaryFolder folder;
  write_text_model(folder / "whole.moka");
  const std::string whole = read_file(folder / "whole.moka");
  write_file(folder / "text.txt", "some text\n");
  write_file(folder / "series.csv", "1\n2\n");
  write_file(folder / "ids.npy", "");
  write_file(folder / "empty.moka", "");
  write_file(folder / "foreign.moka", "GGUF" + std::string(4096, '\1'));
  write_file(folder / "words.moka", std::string(100, 'w'));
  write_file(folder / "short.moka", whole.substr(0, whole.size() - 1));
  write_file(folder / "half.moka", whole.substr(0, whole.size() / 2));
  write_file(folder / "stump.moka", whole.substr(0, 7));
  for (const char* name : {"missing.moka", "empty.moka", "foreign.moka", "words.moka", "short.moka",
                           "half.moka", "stump.moka"}) {
    CAPTURE(name);
    for (const auto& call : calls_on(folder / name, folder)) {
      CAPTURE(call.front());
      check_failure(moka_command(call), 3, {"moka " + call.front() + ": ", name});
    }
  }
}

TEST_CASE("cli: a valid model that cannot run ends with 4, and inspect still shows it") {
  const TemporaryFolder folder;
  write_file(folder / "text.txt", "some text\n");
  write_file(folder / "ids.npy", "");
  int unsupported = 0;
  for (int which = 0; which < kFormatModels; ++which) {
    const TestModel model = make_format_model(which);
    if (check_supported(model.spec, "model").ok()) continue;
    CAPTURE(which);
    ++unsupported;
    const std::string path = folder / ("format" + std::to_string(which) + ".moka");
    REQUIRE(write_model(path, model.spec).ok());
    for (const auto& call : calls_on(path, folder)) {
      if (call.front() == "inspect" || call.front() == "verify") continue;
      check_failure(moka_command(call), 4, {"moka " + call.front() + ": "});
    }
    const ProcessResult text = moka_command({"inspect", path, "--tensors"});
    CHECK(text.exit_code == 0);
    CHECK(contains(text.out, "runs here"));
    const ProcessResult shown = moka_command({"inspect", path, "--json"});
    CHECK(shown.exit_code == 0);
    const Json json = Json::parse(shown.out);
    CHECK(json["supported"] == false);
    CHECK_FALSE(json["unsupported_reason"].get<std::string>().empty());
    CHECK(json["tensors"].size() == model.spec.tensors.size());
    CHECK(json["layers"] == model.spec.blocks.size());
  }
  CHECK(unsupported > 0);
}

TEST_CASE("cli: verify tells damage, a different result and a whole file apart") {
  const TemporaryFolder folder;
  const std::string path = folder / "m.moka";
  write_text_model(path);
  const ProcessResult good = moka_command({"verify", path});
  CHECK(good.exit_code == 0);
  CHECK(good.err == "");
  CHECK(contains(good.out, "test vector   ok"));
  const Json json = Json::parse(moka_command({"verify", path, "--json"}).out);
  CHECK(json["ok"] == true);
  CHECK(json["checksums"] == "ok");
  CHECK(json["test_vector"]["status"] == "ok");
  CHECK(json["test_vector"]["found"] == json["test_vector"]["expected"]);

  SUBCASE("one bit of the weights") {
    std::string bytes = read_file(path);
    bytes[bytes.size() - 400] = static_cast<char>(bytes[bytes.size() - 400] ^ 4);
    write_file(path, bytes);
    const ProcessResult bad = moka_command({"verify", path, "--json"});
    CHECK(bad.exit_code == 3);
    CHECK(contains(bad.err, "m.moka"));
    const Json report = Json::parse(bad.out);
    CHECK(report["ok"] == false);
    CHECK(report["header"] == "ok");
    CHECK(report["checksums"] == "failed");
  }
  SUBCASE("another continuation") {
    write_text_model(folder / "other.moka", false);
    const ProcessResult other = moka_command({"verify", folder / "other.moka"});
    CHECK(other.exit_code == 1);
    CHECK(contains(other.err, "expected"));
    CHECK(contains(other.err, "found"));
    CHECK(contains(other.err, "258 72 105"));
  }
}

TEST_CASE("cli: inspect gives the exact numbers of the header") {
  const TemporaryFolder folder;
  const std::string path = folder / "m.moka";
  const TestModel model = text_model();
  REQUIRE(write_model(path, model.spec).ok());
  Result<Model> opened = Model::open(path);
  REQUIRE(opened.ok());
  const ModelInfo& info = opened.value().info();
  const ProcessResult result = moka_command({"inspect", path, "--json"});
  CHECK(result.exit_code == 0);
  CHECK(result.err == "");
  const Json json = Json::parse(result.out);
  CHECK(json["supported"] == true);
  CHECK(json["file_bytes"] == read_file(path).size());
  CHECK(json["parameters"] == info.parameters);
  CHECK(json["weight_bytes"] == info.weight_bytes);
  CHECK(json["state"]["bytes"] == info.state_bytes);
  CHECK(json["state"]["latent_bytes"].get<uint64_t>() +
            json["state"]["window_bytes"].get<uint64_t>() +
            json["state"]["front_bytes"].get<uint64_t>() ==
        info.state_bytes);
  CHECK(json["tensors"].size() == model.spec.tensors.size());
  CHECK(json["tensors"][0]["name"] == model.spec.tensors[0].name);
  CHECK(json["metadata"]["license"] == "Apache-2.0");
  CHECK(json["blocks"].size() == 1);
  CHECK(json["blocks"][0]["last"] == 1);

  const ProcessResult text = moka_command({"inspect", path, "--tensors"});
  CHECK(text.exit_code == 0);
  for (const Tensor& tensor : model.spec.tensors) CHECK(contains(text.out, tensor.name + " "));
  CHECK(contains(text.out, "macchiato"));
  CHECK(contains(text.out, "stored as"));
  CHECK_FALSE(contains(moka_command({"inspect", path}).out, "stored as"));
}

TEST_CASE("cli: inspect says how many sessions fit") {
  const std::string path = std::string(MOKA_SOURCE_DIR) + "/models/stories.moka";
  const auto ask = [&](const std::string& size) {
    return moka_command({"inspect", path, "--memory", size, "--json"});
  };
  const Json json = Json::parse(ask("4GiB").out);
  // Weights run as they lie in the file, the token table once for both of its uses.
  const uint64_t weights =
      json["memory_bytes_about"].get<uint64_t>() - json["state"]["bytes"].get<uint64_t>();
  CHECK(weights <= json["file_bytes"]);
  CHECK(weights > json["file_bytes"].get<uint64_t>() * 97 / 100);
  const uint64_t each = json["sessions"]["bytes_each"];
  CHECK(each == json["state"]["bytes"].get<uint64_t>() + 8192 * 4 + 4096);
  CHECK(json["sessions"]["memory_bytes"] == uint64_t{4} << 30);
  CHECK(json["sessions"]["fit"] == ((uint64_t{4} << 30) - weights - (16u << 20)) / each);
  CHECK(Json::parse(ask("1.5 GB").out)["sessions"]["memory_bytes"] == 1500000000);
  CHECK(Json::parse(ask("20MB").out)["sessions"]["fit"] == 0);
  CHECK(contains(moka_command({"inspect", path, "--memory", "1000000000"}).out, " fit in 1.00 GB"));
  for (const char* wrong : {"0", "-5MB", "few", "4GX", "", "1e300", "nan", "4 GB more"}) {
    const ProcessResult result = ask(wrong);
    CHECK(result.exit_code == 2);
    CHECK(contains(result.err, "--memory: '" + std::string(wrong) + "' is no size"));
  }
}

TEST_CASE("cli: what a file calls itself cannot steer the terminal") {
  const TemporaryFolder folder;
  TestModel model = text_model();
  model.spec.metadata.name = "evil\x1b[2Jname\r\x07";
  REQUIRE(write_model(folder / "m.moka", model.spec).ok());
  const ProcessResult result = moka_command({"inspect", folder / "m.moka"});
  CHECK(result.exit_code == 0);
  CHECK(contains(result.out, "evil?[2Jname??"));
  const auto steers = [](char c) { return c != '\n' && static_cast<unsigned char>(c) < 0x20; };
  CHECK(std::none_of(result.out.begin(), result.out.end(), steers));
}

TEST_CASE("cli: convert turns a folder into a file that verifies") {
  const TemporaryFolder folder;
  const std::string source = std::string(MOKA_SOURCE_DIR) + "/tests/data/hf/transformer_pre_latte";
  const std::string output = folder / "m.moka";
  const ProcessResult plan = moka_command({"convert", source, "--dry-run", "--json"});
  CHECK_MESSAGE(plan.exit_code == 0, plan.err);
  CHECK_FALSE(Json::parse(plan.out).empty());

  const ProcessResult done = moka_command({"convert", source, "-o", output, "--weights", "f32"});
  CHECK_MESSAGE(done.exit_code == 0, done.err);
  CHECK(done.err == "");  // no progress where stderr is no terminal
  CHECK(moka_command({"verify", output}).exit_code == 0);

  const std::string before = read_file(output);
  check_failure(moka_command({"convert", source, "-o", output}), 2, {"exists", "--force"});
  check_failure(moka_command({"convert", folder / "none", "-o", output, "--force"}), 3, {"none"});
  CHECK(read_file(output) == before);
  const ProcessResult forced = moka_command({"convert", source, "-o", output, "--force", "--json"});
  CHECK(forced.exit_code == 0);
  CHECK_FALSE(Json::parse(forced.out).empty());
  CHECK(read_file(output).size() < before.size());  // int8 now
}

}  // namespace moka::test
