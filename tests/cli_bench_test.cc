// `moka bench`: what it measures, the keys of its JSON, its trace, and how it refuses and stops.
#include <doctest/doctest.h>

#include <csignal>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "converter/writer.h"
#include "nlohmann/json.hpp"
#include "platforms/cli/bench.h"
#include "tests/cli_model.h"
#include "tests/process.h"
#include "tests/spec_builder.h"
#include "tests/task_models.h"

namespace moka::test {
namespace {

using Json = nlohmann::json;
using Call = std::vector<std::string>;

// A quick measurement; `more` is added.
Call quick(const std::string& model, const Call& more = {}) {
  Call call = {"bench", model, "--depth", "0", "--prompt", "8", "-n", "2", "--repeat", "1"};
  call.insert(call.end(), more.begin(), more.end());
  return call;
}

Json json_of(Call call) {
  call.push_back("--json");
  const ProcessResult result = moka_command(call);
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  CHECK(result.err == "");
  return Json::parse(result.out);
}

std::set<std::string> keys_of(const Json& json) {
  std::set<std::string> keys;
  for (const auto& item : json.items()) keys.insert(item.key());
  return keys;
}

void check_spread(const Json& spread) {
  CHECK(spread["min"].get<double>() > 0);
  CHECK(spread["min"].get<double>() <= spread["median"].get<double>());
  CHECK(spread["median"].get<double>() <= spread["max"].get<double>());
}

}  // namespace

TEST_CASE("cli bench: measures what it was asked for, under keys that stay") {
  const TemporaryFolder folder;
  write_text_model(folder / "m.moka");
  const Json json = json_of({"bench", folder / "m.moka", "--depth", "300,0,300", "--prompt", "16,4",
                             "-n", "4", "--repeat", "2", "--threads", "1,2", "--sessions", "1,3"});
  CHECK(keys_of(json) ==
        std::set<std::string>{"model", "architecture", "parameters", "weight_bytes", "state_bytes",
                              "state_bytes_per_token", "cpu", "cores", "isa", "version", "compiler",
                              "decode_tokens", "repeat", "runs"});
  CHECK(json["decode_tokens"] == 4);
  CHECK(json["repeat"] == 2);
  REQUIRE(json["runs"].size() == 2);
  for (size_t i = 0; i < 2; ++i) {
    const Json& run = json["runs"][i];
    CHECK(run["threads"] == i + 1);
    CHECK(keys_of(run) ==
          std::set<std::string>{"threads", "load_seconds", "peak_resident_bytes", "depths"});
    check_spread(run["load_seconds"]);
    CHECK(run["peak_resident_bytes"].get<uint64_t>() > 1'000'000);
    REQUIRE(run["depths"].size() == 2);
    CHECK(run["depths"][0]["depth"] == 0);
    CHECK(run["depths"][1]["depth"] == 300);
    for (const Json& depth : run["depths"]) {
      check_spread(depth["prefill_tokens_per_second"]);
      check_spread(depth["decode_tokens_per_second"]);
      CHECK(depth["bytes_read_per_token"] ==
            depth["weight_bytes_read_per_token"].get<uint64_t>() +
                depth["state_bytes_read_per_token"].get<uint64_t>());
      REQUIRE(depth["prompts"].size() == 2);
      CHECK(depth["prompts"][0]["prompt_tokens"] == 16);
      CHECK(depth["prompts"][1]["prompt_tokens"] == 4);
      CHECK(depth["prompts"][0]["prefill_tokens_per_second"] == depth["prefill_tokens_per_second"]);
      check_spread(depth["prompts"][1]["prefill_tokens_per_second"]);
      REQUIRE(depth["batches"].size() == 2);
      CHECK(depth["batches"][1]["sessions"] == 3);
      check_spread(depth["batches"][1]["total_tokens_per_second"]);
      CHECK(depth["batches"][1]["tokens_per_second_each"].get<double>() * 3 ==
            doctest::Approx(depth["batches"][1]["total_tokens_per_second"]["median"]));
    }
  }
}

TEST_CASE("cli bench: the text says the machine, the build, the model and every figure") {
  const TemporaryFolder folder;
  write_text_model(folder / "m.moka");
  const ProcessResult result =
      moka_command(quick(folder / "m.moka", {"--threads", "1,2", "--sessions", "2", "--bandwidth",
                                             "--prompt", "8,20", "--profile"}));
  CHECK(result.exit_code == 0);
  CHECK(result.err == "");
  for (const char* words : {"machine ",
                            "kernels ",
                            "build        moka ",
                            "model ",
                            " parameters, ",
                            "state ",
                            "2 tokens decoded, once",
                            "\n1 thread\n",
                            "\n2 threads\n",
                            "to the first token",
                            "peak memory",
                            "memory limit",
                            "GB/s",
                            "prefill 8, tokens/s",
                            "prefill 20, tokens/s",
                            "decode, tokens/s",
                            "of the limit",
                            "sessions together",
                            "against decoding one",
                            "profile of prompt of 8 tokens at depth 0",
                            "profile of 2 tokens decoded at depth 0",
                            "\nlogits ",
                            "\nsample ",
                            "(between)"}) {
    CHECK_MESSAGE(contains(result.out, words), words, " in: ", result.out);
  }
}

TEST_CASE("cli bench: the share of the memory limit is that of its own figures") {
  const TemporaryFolder folder;
  write_text_model(folder / "m.moka");
  const Json json = json_of(quick(folder / "m.moka", {"--threads", "2", "--bandwidth"}));
  const Json& run = json["runs"][0];
  const Json& limit = run["memory_limit"];
  CHECK(keys_of(limit) ==
        std::set<std::string>{"bytes_per_second", "streams_per_thread", "buffer_bytes"});
  // The slowest memory of today's devices and more than any cache: a wrong unit is far off.
  CHECK(limit["bytes_per_second"].get<double>() > 1e8);
  CHECK(limit["bytes_per_second"].get<double>() < 1e14);
  CHECK(limit["buffer_bytes"].get<uint64_t>() >= uint64_t{1} << 20);
  const Json& depth = run["depths"][0];
  CHECK(depth["share_of_memory_limit"].get<double>() ==
        doctest::Approx(depth["bytes_read_per_token"].get<double>() *
                        depth["decode_tokens_per_second"]["median"].get<double>() /
                        limit["bytes_per_second"].get<double>()));
}

TEST_CASE("cli bench: what a token reads is counted from the model") {
  TestModelOptions options;
  options.mixer = TestMixer::kMacchiato;
  options.width = 32, options.heads = 2, options.latents = 32, options.hidden = 64;
  options.layers = 2, options.window = 8, options.vocab_size = 50;
  options.positions = PositionKind::kNone;
  for (const DType weights : {DType::kF32, DType::kI8}) {
    for (const bool tied : {false, true}) {
      options.weights = weights;
      options.tied = tied;
      const TestModel made = make_test_model(options);
      uint64_t all = 0, table = 0;
      for (const Tensor& tensor : made.spec.tensors) all += tensor.size + tensor.scale_size;
      const Tensor* tokens = made.spec.tensor(std::get<TokenInput>(made.spec.input).table);
      table = tokens->size + tokens->scale_size;
      Result<cli::TokenBytes> bytes = cli::token_bytes(made.spec, 0);
      REQUIRE(bytes.ok());
      CAPTURE(static_cast<int>(weights));
      CAPTURE(tied);
      // One row of the table, all of it again where it is the head.
      CHECK(bytes.value().weights == all - (tied ? 0 : table) + table / 50);
    }
  }
  // Per layer 32 latents of 16 channels with two scalars, twice once there is an archive; a window
  // keeps 2 keys and values of 16 channels per token, 8 tokens at most, as halves: the weights are int8.
  const TestModel made = make_test_model(options);
  const auto state = [&](uint64_t depth) {
    Result<cli::TokenBytes> bytes = cli::token_bytes(made.spec, depth);
    REQUIRE(bytes.ok());
    return bytes.value().state / sizeof(float);
  };
  const uint64_t latents = 2 * 32 * (16 + 2), per_token = 2 * 2 * (16 + 16) / 2;
  CHECK(state(0) == latents);
  CHECK(state(3) == latents + 3 * per_token);
  CHECK(state(1000) == latents + 8 * per_token);
  CHECK(state(1024) == 2 * latents + 8 * per_token);
}

TEST_CASE("cli bench: times of operators and their parts add up") {
  const auto span = [](const char* name, bool part, uint64_t start, uint64_t duration) {
    ProfileSpan made;
    made.name = name;
    made.part = part;
    made.thread = part ? 1 : 0;
    made.start = start;
    made.duration = duration;
    return made;
  };
  Profile profile;
  profile.spans = {span("norm", false, 0, 10),        span("mixer", false, 10, 50),
                   span("mixer.window", true, 11, 9), span("mixer.latent", true, 20, 30),
                   span("norm", false, 60, 20),       span("mixer", false, 80, 40),
                   span("mixer.latent", true, 81, 31)};
  const std::vector<cli::OperatorTime> times = cli::operator_times(profile);
  REQUIRE(times.size() == 4);
  const char* const names[] = {"mixer", "mixer.latent", "mixer.window", "norm"};
  const uint64_t calls[] = {2, 2, 1, 2};
  const double seconds[] = {90e-9, 61e-9, 9e-9, 30e-9};
  for (size_t i = 0; i < 4; ++i) {
    CHECK(times[i].name == names[i]);
    CHECK(times[i].part == (i == 1 || i == 2));
    CHECK(times[i].calls == calls[i]);
    CHECK(times[i].seconds == doctest::Approx(seconds[i]));
  }

  cli::BenchReport report;
  report.runs.resize(1);
  report.runs[0].threads = 2;
  cli::ProfileResult result;
  result.key = "decode";
  result.profile = profile;
  result.profile.dropped = 1500;
  result.tokens = 1;
  result.seconds = 150e-9;
  for (ProfileSpan& one : result.profile.spans) one.start += 1'000'000'007;
  report.runs[0].profiles.push_back(result);
  const Json trace = Json::parse(cli::trace_json(report, "m.moka").dump());
  CHECK(trace["otherData"]["dropped_spans"] == 1500);
  CHECK(contains(trace["otherData"]["warning"], "1,500 spans found no room"));
  CHECK(contains(cli::profile_text(result), "1,500 spans found no room"));
  const Json& events = trace["traceEvents"];
  REQUIRE(events.size() == 3 + 7);  // names of the process and its threads come first
  CHECK(events[0]["args"]["name"] == "m.moka, 2 threads");
  const Json expected = {{"name", "mixer.window"},
                         {"cat", "decode,part"},
                         {"ph", "X"},
                         {"ts", 0.011},
                         {"dur", 0.009},
                         {"pid", 1},
                         {"tid", 1},
                         {"args", {{"block", -1}, {"rows", 0}}}};
  CHECK(events[5] == expected);
}

TEST_CASE("cli bench: a trace that other programs open, and the profile in JSON") {
  const TemporaryFolder folder;
  write_text_model(folder / "m.moka");
  const std::string path = folder / "trace.json";
  Call call = quick(folder / "m.moka",
                    {"--threads", "1,2", "--sessions", "3", "--trace", path, "--profile"});
  call[3] = "0,5";  // the depths
  const Json json = json_of(call);
  for (const Json& run : json["runs"]) {
    REQUIRE(run["profiles"].size() == 3);
    CHECK(run["profiles"][0]["of"] == "prompt");
    CHECK(run["profiles"][0]["tokens"] == 8);
    CHECK(run["profiles"][1]["of"] == "decode");
    CHECK(run["profiles"][1]["tokens"] == 2);
    CHECK(run["profiles"][2]["of"] == "batch");
    CHECK(run["profiles"][2]["tokens"] == 6);
    for (const Json& profile : run["profiles"]) {
      CHECK(profile["depth"] == 5);
      double seconds = 0;
      std::set<std::string> names;
      for (const Json& one : profile["operators"]) {
        names.insert(one["name"]);
        CHECK(one["calls"].get<uint64_t>() > 0);
        if (!one["part"].get<bool>()) seconds += one["seconds"].get<double>();
      }
      CHECK(names.count("logits") == 1);
      CHECK(names.count("sample") == (profile["of"] == "prompt" ? 0 : 1));
      CHECK(seconds > 0);
      CHECK(seconds <= profile["seconds"].get<double>());
      CHECK(profile["dropped_spans"] == 0);
    }
  }

  const Json trace = Json::parse(read_file(path));
  CHECK(trace["displayTimeUnit"] == "ms");
  std::map<int, std::map<int, double>> ends;  // of the operators, by process and thread
  std::set<std::string> names, categories;
  for (const Json& event : trace["traceEvents"]) {
    REQUIRE(event["pid"].is_number_integer());
    REQUIRE(event["tid"].is_number_integer());
    const int pid = event["pid"], tid = event["tid"];
    if (event["ph"] == "M") {
      names.insert(event["args"]["name"]);
      continue;
    }
    REQUIRE(event["ph"] == "X");
    REQUIRE(event["name"].is_string());
    categories.insert(event["cat"]);
    const double start = event["ts"], duration = event["dur"];
    CHECK(start >= 0);
    CHECK(duration >= 0);
    if (!contains(event["cat"], "operator")) continue;
    CHECK(start >= ends[pid][tid] - 1e-6);  // one after the other on the caller's thread
    ends[pid][tid] = start + duration;
    CHECK(tid == 0);
  }
  CHECK(ends.size() == 2);
  CHECK(names.count(folder / "m.moka" + std::string(", 1 thread")) == 1);
  CHECK(names.count(folder / "m.moka" + std::string(", 2 threads")) == 1);
  CHECK(names.count("caller") == 1);
  for (const char* category : {"prompt,operator", "decode,operator", "batch,operator"}) {
    CHECK_MESSAGE(categories.count(category) == 1, category);
  }

  const ProcessResult refused = moka_command(quick(folder / "m.moka", {"--trace", path}));
  CHECK(refused.exit_code == 2);
  CHECK(contains(refused.err, "--trace: '" + path + "' exists; --force replaces it"));
  CHECK(Json::parse(read_file(path)) == trace);
  CHECK(moka_command(quick(folder / "m.moka", {"--trace", path, "--force"})).exit_code == 0);
  CHECK(Json::parse(read_file(path)) != trace);
  const ProcessResult nowhere =
      moka_command(quick(folder / "m.moka", {"--trace", folder / "no/trace.json"}));
  CHECK(nowhere.exit_code == 1);
  CHECK(contains(nowhere.err, "no/trace.json"));
}

TEST_CASE("cli bench: a wrong argument ends with 2 and words") {
  const TemporaryFolder folder;
  TestModelOptions options;
  options.positions = PositionKind::kLearned;
  options.max_length = 64;
  const TestModel limited = make_test_model(options);
  REQUIRE(write_model(folder / "limited.moka", limited.spec).ok());
  const std::string model = folder / "limited.moka";
  const struct {
    Call more;
    std::vector<std::string> words;
  } cases[] = {
      {{"--depth", "0,x"}, {"--depth", "'x' in '0,x'", "0,4096,32768"}},
      {{"--depth", ""}, {"--depth", "''"}},
      {{"--depth", "1,,2"}, {"--depth", "'' in '1,,2'"}},
      {{"--depth", "-1"}, {"--depth"}},
      {{"--prompt", "0"}, {"--prompt", "'0'", "from 1 to 1000000", "64,512"}},
      {{"--threads", "1,0"}, {"--threads", "'0' in '1,0'", "from 1 to 256"}},
      {{"--threads", "257"}, {"--threads", "'257'"}},
      {{"--sessions", "4097"}, {"--sessions", "'4097'", "from 1 to 4096", "1,4,16"}},
      {{"--sessions", "two"}, {"--sessions", "'two'"}},
      {{"-n", "0"}, {"--tokens", "'0'"}},
      {{"--repeat", "0"}, {"--repeat", "'0'"}},
      {{"--trace"}, {"--trace", "value is missing"}},
      {{"--depth", "60"}, {"--depth: 60 and the tokens measured there are 68", "at most 64"}},
      {{"--prompt", "8,65"}, {"--depth: 0 and the tokens measured there are 65", "at most 64"}},
  };
  for (const auto& one : cases) {
    std::string words;
    for (const std::string& word : one.more) words += word + " ";
    CAPTURE(words);
    const ProcessResult result = moka_command(quick(model, one.more));
    CHECK(result.exit_code == 2);
    CHECK(result.out == "");
    for (const std::string& word : one.words) {
      CHECK_MESSAGE(contains(result.err, word), "'", word, "' in: ", result.err);
    }
  }
  std::string many = "1";
  for (int i = 0; i < 100; ++i) many += ",1";
  CHECK(contains(moka_command(quick(model, {"--depth", many})).err, "more than 100 numbers"));
}

TEST_CASE("cli bench: models that it cannot measure end with 4") {
  const TemporaryFolder folder;
  write_task_model(folder / "m.moka", memory_model(true));
  const ProcessResult result = moka_command(quick(folder / "m.moka"));
  CHECK(result.exit_code == 4);
  CHECK(contains(result.err, "needs a causal language model that reads one sequence"));
}

TEST_CASE("cli bench: Ctrl-C stops it wherever it is") {
  const TemporaryFolder folder;
  write_text_model(folder / "m.moka");
  const Call calls[] = {
      quick(folder / "m.moka", {"--depth", "1000000000"}),              // on the way to a depth
      quick(folder / "m.moka", {"-n", "1000000", "--repeat", "1000"}),  // while decoding
      quick(folder / "m.moka", {"--sessions", "40", "-n", "100000", "--repeat", "1000"}),
      quick(folder / "m.moka", {"--bandwidth", "--repeat", "1000"}),
      quick(folder / "m.moka", {"--trace", folder / "trace.json", "-n", "1000000"}),
  };
  for (const Call& call : calls) {
    CAPTURE(call.back());
    ProcessOptions options;
    options.signal = SIGINT;
    options.signal_after_seconds = 0.4;
    options.seconds = 60;
    const ProcessResult result = moka_command(call, options);
    CHECK(result.exit_code == 130);
    CHECK(result.out == "");
    CHECK(contains(result.err, "moka bench: interrupted"));
  }
  CHECK(moka_command({"inspect", folder / "trace.json"}).exit_code == 3);  // nothing half-written
}

}  // namespace moka::test
