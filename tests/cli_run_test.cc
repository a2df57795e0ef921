// `moka run`, `eval` and `logits`: what they write, and how they end when their surroundings do.
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

#include "converter/npy.h"
#include "converter/writer.h"
#include "doctest/doctest.h"
#include "moka/moka.h"
#include "nlohmann/json.hpp"
#include "tests/cli_model.h"
#include "tests/process.h"

namespace moka::test {
namespace {

using Json = nlohmann::json;

// A .npy file of int32 or int64 numbers.
template <class T>
std::string npy_of(const std::vector<T>& numbers, const std::string& shape) {
  std::string header = "{'descr': '<i" + std::to_string(sizeof(T)) +
                       "', 'fortran_order': False, 'shape': (" + shape + "), }";
  header.resize(118 - 1, ' ');
  header += '\n';
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes += static_cast<char>(header.size());
  bytes += '\0';
  bytes += header;
  bytes.append(reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(T));
  return bytes;
}

// The one model of these tests, in a folder of its own.
struct Fixture {
  TemporaryFolder folder;
  std::string model = folder / "m.moka";
  Fixture() { write_text_model(model); }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "cli: run writes the prompt and its continuation, the same for a seed") {
  const std::vector<std::string> call = {"run", model, "-p", "Once", "-n", "50", "--seed", "7"};
  const ProcessResult first = moka_command(call);
  CHECK(first.exit_code == 0);
  CHECK(first.out.rfind("Once", 0) == 0);
  CHECK(first.out.size() > 20);
  CHECK(first.out.back() == '\n');
  for (const char* word :
       {"prompt   5 tokens", "written  50 tokens", "tokens/s", "state ", "seed     7"}) {
    CHECK_MESSAGE(contains(first.err, word), first.err);
  }
  CHECK(moka_command(call).out == first.out);
  CHECK(moka_command({"run", model, "-p", "Once", "-n", "50", "--seed", "8"}).out != first.out);
  std::vector<std::string> threads = call;
  threads.insert(threads.end(), {"--threads", "2"});
  CHECK(moka_command(threads).out == first.out);
}

TEST_CASE_FIXTURE(Fixture, "cli: a prompt is the same from an argument, a file and stdin") {
  const std::vector<std::string> rest = {"-n", "20", "--greedy"};
  const auto call = [&](std::vector<std::string> middle) {
    std::vector<std::string> all = {"run", model};
    all.insert(all.end(), middle.begin(), middle.end());
    all.insert(all.end(), rest.begin(), rest.end());
    return all;
  };
  const std::string expected = moka_command(call({"-p", "-a\nb"})).out;
  CHECK(expected.rfind("-a\nb", 0) == 0);
  ProcessOptions stdin_options;
  stdin_options.input = "-a\nb\n";  // the last newline is not of the prompt
  CHECK(moka_command(call({}), stdin_options).out == expected);
  CHECK(moka_command(call({"-f", "-"}), stdin_options).out == expected);
  write_file(folder / "prompt.txt", "-a\nb\r\n");
  CHECK(moka_command(call({"-f", folder / "prompt.txt"})).out == expected);
  const ProcessResult missing = moka_command(call({"-f", folder / "none.txt"}));
  CHECK(missing.exit_code == 3);
  CHECK(contains(missing.err, "none.txt"));
  CHECK(missing.out == "");
}

TEST_CASE_FIXTURE(Fixture, "cli: run -n 0 reads the prompt only, and no prompt is an empty text") {
  const ProcessResult none = moka_command({"run", model, "-p", "abc", "-n", "0"});
  CHECK(none.exit_code == 0);
  CHECK(none.out == "abc\n");
  const ProcessResult empty = moka_command({"run", model, "-n", "5"});  // stdin is at its end
  CHECK(empty.exit_code == 0);
  CHECK(contains(empty.err, "prompt   1 token "));
}

TEST_CASE_FIXTURE(Fixture, "cli: run --json gives one object per line with the same text") {
  // Hot enough that ends of text are drawn.
  const std::vector<std::string> call = {"run",  model,    "-p", "Once",          "-n",
                                         "3000", "--seed", "3",  "--temperature", "5"};
  std::vector<std::string> as_json = call;
  as_json.push_back("--json");
  const ProcessResult result = moka_command(as_json);
  CHECK(result.exit_code == 0);
  const std::vector<Json> lines = json_lines(result.out);
  REQUIRE(lines.size() == 3002);
  CHECK(lines.front()["type"] == "prompt");
  CHECK(lines.front()["text"] == "Once");
  CHECK(lines.front()["tokens"] == 5);
  const Json& summary = lines.back();
  CHECK(summary["type"] == "summary");
  CHECK(summary["generated_tokens"] == 3000);
  CHECK(summary["finish_reason"] == "length");
  CHECK(summary["seed"] == 3);
  std::string text;
  size_t ends = 0;
  for (size_t i = 0; i < lines.size(); ++i) {
    text += lines[i]["text"].get<std::string>();
    if (i == 0 || i + 1 == lines.size()) continue;
    CHECK(lines[i]["type"] == "token");
    CHECK(lines[i]["index"] == i - 1);
    const TokenId id = lines[i]["id"].get<TokenId>();
    const bool end = id == 258 || id == 259;
    CHECK(lines[i].contains("end_of_text") == end);
    ends += end ? 1 : 0;
  }
  CHECK(ends > 0);
  const std::string plain = moka_command(call).out;
  CHECK(plain == text + (text.back() == '\n' ? "" : "\n"));
}

TEST_CASE_FIXTURE(Fixture,
                  "cli: without -n a text ends where the model ends it, or at 512 tokens") {
  const ProcessResult hot =
      moka_command({"run", model, "-p", "x", "--seed", "3", "--temperature", "5", "--json"});
  const Json summary = json_lines(hot.out).back();
  const auto written = summary["generated_tokens"].get<uint64_t>();
  if (summary["finish_reason"] == "end_of_text") {
    CHECK(written < 512);
  } else {
    CHECK(summary["finish_reason"] == "length");
    CHECK(written == 512);
  }
}

TEST_CASE("cli: run ends a text that goes round in circles, and one without time") {
  const TemporaryFolder folder;
  const std::string path = folder / "m.moka";
  // All scores are 0, so the greedy choice is token 0 for ever.
  TestModel model = text_model();
  const Tensor& scale = *model.spec.tensor(model.spec.final_norm.scale);
  std::memset(const_cast<void*>(scale.data), 0, static_cast<size_t>(scale.size));
  model.spec.test_vector.reset();
  REQUIRE(write_model(path, model.spec).ok());
  const auto summary = [&](std::vector<std::string> more) {
    std::vector<std::string> call = {"run", path, "-p", "Once", "--greedy", "--json"};
    call.insert(call.end(), more.begin(), more.end());
    const ProcessResult result = moka_command(call);
    CHECK_MESSAGE(result.exit_code == 0, result.err);
    return json_lines(result.out).back();
  };
  Json last = summary({});
  CHECK(last["finish_reason"] == "loop");
  CHECK(last["generated_tokens"] == 256);
  last = summary({"--loop-guard", "0"});
  CHECK(last["finish_reason"] == "length");
  CHECK(last["generated_tokens"] == 512);
  // With -n the count is a promise, so the guard must be asked for.
  last = summary({"-n", "400"});
  CHECK(last["finish_reason"] == "length");
  CHECK(last["generated_tokens"] == 400);
  last = summary({"-n", "400", "--loop-guard", "64"});
  CHECK(last["finish_reason"] == "loop");
  CHECK(last["generated_tokens"] == 64);
  last = summary({"-n", "100000000", "--max-ms", "20"});
  CHECK(last["finish_reason"] == "time_budget");
  CHECK(last["generated_tokens"] > 0);
  const ProcessResult words = moka_command({"run", path, "-p", "Once", "--greedy"});
  CHECK(contains(words.err, " tokens/s, in a loop of 1 token\n"));
}

TEST_CASE_FIXTURE(Fixture, "cli: a pipe that its reader closes ends the run quietly") {
  ProcessOptions options;
  options.close_after = 1000;
  const ProcessResult result =
      moka_command({"run", model, "-p", "x", "-n", "1000000000000"}, options);
  CHECK(result.exit_code == 0);
  CHECK(result.err == "");
}

TEST_CASE_FIXTURE(Fixture, "cli: Ctrl-C while writing ends with the summary and 130") {
  ProcessOptions options;
  options.signal = SIGINT;
  options.signal_after = 1000;
  for (const bool json : {false, true}) {
    std::vector<std::string> call = {"run", model, "-p", "x", "-n", "1000000000000"};
    if (json) call.push_back("--json");
    const ProcessResult result = moka_command(call, options);
    CHECK(result.exit_code == 130);
    CHECK(contains(result.err, "interrupted"));
    CHECK(contains(result.err, "seed     "));
    CHECK(result.out.back() == '\n');
    if (json) CHECK(json_lines(result.out).back()["finish_reason"] == "interrupted");
  }
}

TEST_CASE_FIXTURE(Fixture, "cli: Ctrl-C while the prompt is read ends with 130, SIGTERM with 143") {
  ProcessOptions options;
  options.input = std::string(20 << 20, 'x');  // more than is read in that time
  options.signal_after_seconds = 0.5;
  options.signal = SIGINT;
  const std::vector<std::string> call = {"run", model, "-n", "1"};
  const ProcessResult interrupted = moka_command(call, options);
  CHECK(interrupted.exit_code == 130);
  CHECK(interrupted.out == "");
  CHECK(interrupted.err == "moka run: interrupted\n");
  options.signal = SIGTERM;
  CHECK(moka_command(call, options).exit_code == 143);
}

TEST_CASE_FIXTURE(Fixture, "cli: a full disk behind stdout is a failure") {
  struct stat device;
  if (stat("/dev/full", &device) != 0) return;  // only Linux has it
  ProcessOptions options;
  options.out_path = "/dev/full";
  for (const auto& call :
       {std::vector<std::string>{"run", model, "-p", "x", "-n", "5"},
        std::vector<std::string>{"inspect", model}, std::vector<std::string>{"--help"}}) {
    const ProcessResult result = moka_command(call, options);
    CHECK(result.exit_code == 1);
    CHECK(contains(result.err, "standard output"));
  }
}

TEST_CASE_FIXTURE(Fixture, "cli: MOKA_ISA chooses kernels, and a wrong name is an error") {
  ProcessOptions options;
  options.environment = {{"MOKA_ISA", "scalar"}};
  const ProcessResult scalar =
      moka_command({"run", model, "-p", "x", "-n", "1", "--json"}, options);
  CHECK(scalar.exit_code == 0);
  CHECK(json_lines(scalar.out).back()["isa"] == "scalar");
  options.environment = {{"MOKA_ISA", "sse9"}};
  const ProcessResult wrong = moka_command({"run", model, "-p", "x"}, options);
  CHECK(wrong.exit_code == 2);
  CHECK(wrong.out == "");
  CHECK(contains(wrong.err, "sse9"));
  CHECK(contains(wrong.err, "scalar"));
}

TEST_CASE_FIXTURE(Fixture, "cli: eval counts documents, bytes and tokens") {
  const std::string path = folder / "text.txt";
  write_file(path, "first text\n<|endoftext|>\nsecond\n");
  const ProcessResult result = moka_command({"eval", model, "--text", path, "--json"});
  CHECK(result.exit_code == 0);
  CHECK(result.err == "");
  const Json json = Json::parse(result.out);
  CHECK(json["documents"] == 2);
  CHECK(json["bytes"] == 18);
  CHECK(json["tokens"] == 19);  // one end of text
  const double nll = json["negative_log_likelihood"].get<double>();
  CHECK(json["bits_per_byte"].get<double>() == doctest::Approx(nll / std::log(2.0) / 18));
  CHECK(json["perplexity"].get<double>() == doctest::Approx(std::exp(nll / 19)));
  const ProcessResult words = moka_command({"eval", model, "--text", path});
  CHECK(contains(words.out, "bits per byte  "));

  const ProcessResult missing = moka_command({"eval", model, "--text", folder / "none.txt"});
  CHECK(missing.exit_code == 3);
  CHECK(missing.out == "");
  CHECK(contains(missing.err, "none.txt"));
  write_file(path, "");
  CHECK(moka_command({"eval", model, "--text", path}).exit_code == 1);
}

TEST_CASE_FIXTURE(Fixture, "cli: logits are those of the library, row after row") {
  const std::vector<int64_t> ids = {258, 72, 105, 33, 258, 1, 2, 3};
  const std::string ids_path = folder / "ids.npy";
  const std::string out_path = folder / "logits.npy";
  write_file(ids_path, npy_of(ids, "2, 4"));
  const ProcessResult result = moka_command({"logits", model, "--ids", ids_path, "-o", out_path});
  CHECK(result.exit_code == 0);
  CHECK(result.out == "");
  CHECK(contains(result.err, "(2, 4, 260)"));

  Result<NpyArray> array = read_npy(out_path);
  REQUIRE(array.ok());
  CHECK(array.value().shape == std::vector<uint64_t>{2, 4, 260});
  Result<std::vector<float>> found = array.value().to_float32();
  REQUIRE(found.ok());
  Result<Model> opened = Model::open(model);
  REQUIRE(opened.ok());
  for (size_t row = 0; row < 2; ++row) {
    Result<Session> session = opened.value().new_session();
    REQUIRE(session.ok());
    std::vector<TokenId> sequence(ids.begin() + static_cast<ptrdiff_t>(row * 4),
                                  ids.begin() + static_cast<ptrdiff_t>(row * 4 + 4));
    REQUIRE(session.value().append(sequence).ok());
    const Span<const float> last = session.value().logits();
    CHECK(std::equal(last.begin(), last.end(),
                     found.value().begin() + static_cast<ptrdiff_t>((row * 4 + 3) * 260)));
  }

  // The same ids as int32 in one dimension; the output is there already.
  write_file(ids_path, npy_of(std::vector<int32_t>{258, 72, 105, 33}, "4,"));
  const std::string before = read_file(out_path);
  const ProcessResult refused = moka_command({"logits", model, "--ids", ids_path, "-o", out_path});
  CHECK(refused.exit_code == 2);
  CHECK(contains(refused.err, "--force"));
  CHECK(read_file(out_path) == before);
  const ProcessResult forced =
      moka_command({"logits", model, "--ids", ids_path, "-o", out_path, "--force", "--json"});
  CHECK(forced.exit_code == 0);
  CHECK(Json::parse(forced.out)["shape"] == Json({4, 260}));
  const std::string flat = read_file(out_path);
  CHECK(before.find(flat.substr(flat.size() - 4 * 260 * 4)) != std::string::npos);
}

TEST_CASE_FIXTURE(Fixture, "cli: logits refuses ids that cannot be right and leaves no output") {
  const std::string ids_path = folder / "ids.npy";
  const std::string out_path = folder / "logits.npy";
  const auto fails = [&](int exit_code, const std::string& word) {
    const ProcessResult result = moka_command({"logits", model, "--ids", ids_path, "-o", out_path});
    CHECK(result.exit_code == exit_code);
    CHECK_MESSAGE(contains(result.err, word), result.err);
    CHECK(result.out == "");
    struct stat file;
    CHECK(stat(out_path.c_str(), &file) != 0);
  };
  fails(3, "ids.npy");
  write_file(ids_path, "no array");
  fails(3, "ids.npy");
  write_file(ids_path, npy_of(std::vector<int32_t>{1, 2, 3, 260}, "2, 2"));
  fails(1, "ids[1, 1] is 260");
  write_file(ids_path, npy_of(std::vector<int32_t>{1, -1}, "2,"));
  fails(1, "ids[1] is -1");
  write_file(ids_path, npy_of(std::vector<int64_t>{1, int64_t{1} << 40}, "2,"));
  fails(1, "ids.npy");
  write_file(ids_path, npy_of(std::vector<int32_t>{1, 2, 3, 4}, "1, 2, 2"));
  fails(1, "(B, T)");
  write_file(ids_path, npy_of(std::vector<int32_t>{}, "0,"));
  fails(1, "(B, T)");
  write_file(ids_path, npy_of(std::vector<int32_t>{1, 2, 3}, "2, 2"));
  fails(3, "ids.npy");
}

}  // namespace moka::test
