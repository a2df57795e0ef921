// `moka bench`: speed and memory, with what is needed to compare two measurements.
#include "platforms/cli/bench.h"

#include <unistd.h>

#include <memory>

#include "platforms/cli/interrupt.h"
#include "platforms/cli/options.h"
#include "platforms/cli/terminal.h"
#include "runtime/atomic_file.h"

namespace moka::cli {
namespace {

const char kDescription[] =
    "Measures load time (from the start of opening the file to the first token; the system may "
    "have the file cached), the speed of reading prompts and of decoding at each depth, and peak "
    "memory. A depth is the number of tokens that the session has really read before. Tokens are "
    "made up, the same in every run; decoding takes the most likely token. Each figure is the "
    "median of --repeat runs, with the least and the most.\n\n"
    "\"reads\" is what one token of one session reads: weights, and state as of that depth. "
    "--bandwidth compares that with what the same threads can read of a buffer of the same size. "
    "--sessions steps many sessions together, as a server does. --profile and --trace record "
    "passes of their own at the greatest depth: a prompt of the first size, --tokens of one "
    "session, "
    "and of the most of --sessions. Peak "
    "memory is that of the process until then, so all sessions and thread counts before count.";

const char kExamples[] =
    "  moka bench stories.moka\n"
    "  moka bench stories.moka --depth 0,1000,1000000 --threads 1,2 --repeat 9\n"
    "  moka bench stories.moka --depth 0 --sessions 1,4,16 --bandwidth\n"
    "  moka bench stories.moka --depth 4096 --profile --trace trace.json\n"
    "  MOKA_ISA=avx2 moka bench stories.moka --json > avx2.json\n";

constexpr uint64_t kMaxDepth = 1'000'000'000'000;
constexpr uint64_t kMaxPrompt = 1'000'000;
constexpr uint64_t kMaxThreads = 256;
constexpr uint64_t kMaxSessions = 4096;
constexpr size_t kMaxList = 100;

// "0,4096,32768"
CLI::Option* add_list(CLI::App* app, const std::string& name, std::vector<uint64_t>* values,
                      uint64_t low, uint64_t high, const std::string& example,
                      const std::string& description) {
  const auto parse = [=](const std::string& text) {
    values->clear();
    for (size_t begin = 0; begin <= text.size();) {
      const size_t end = std::min(text.find(',', begin), text.size());
      const std::string word = text.substr(begin, end - begin);
      const std::optional<uint64_t> value = parse_whole(word, low, high);
      if (!value) {
        throw CLI::ValidationError(name, "'" + word + "' in '" + text +
                                             "' is not a whole number from " + std::to_string(low) +
                                             " to " + std::to_string(high) + "; an example is " +
                                             example);
      }
      if (values->size() == kMaxList) {
        throw CLI::ValidationError(name, "more than " + std::to_string(kMaxList) + " numbers");
      }
      values->push_back(*value);
      begin = end + 1;
    }
  };
  return app->add_option_function<std::string>(name, parse, description)
      ->take_last()
      ->type_name("LIST");
}

Status write_trace(const BenchOptions& options, const BenchReport& report) {
  const std::string text = json_line(trace_json(report, options.model));
  return write_file(options.trace, options.force ? Existing::kReplace : Existing::kRefuse,
                    {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

Outcome run_bench(const BenchOptions& options) {
  if (!options.trace.empty() && !options.force && ::access(options.trace.c_str(), F_OK) == 0) {
    return Outcome::usage("--trace: '" + options.trace + "' exists; --force replaces it");
  }
  BenchReport report;
  for (const uint64_t threads : options.threads) {
    ThreadsResult result;
    const Outcome outcome =
        measure_threads(options, static_cast<int>(threads), &report.info, &result);
    if (outcome.exit_code != kExitOk) return outcome;
    report.runs.push_back(std::move(result));
  }
  if (interrupted()) return {kExitInterrupted, ""};
  if (!options.trace.empty()) {
    const Status written = write_trace(options, report);
    if (!written.ok()) return Outcome::failure(written);
  }
  write_output(options.json ? json_document(bench_json(options, report))
                            : bench_text(options, report));
  return {};
}

}  // namespace

Verb add_bench(CLI::App& moka) {
  auto options = std::make_shared<BenchOptions>();
  BenchOptions* o = options.get();
  CLI::App* app = add_verb(moka, "bench", "Measure speed and memory", kDescription, kExamples);
  add_model_argument(app, &o->model);
  add_list(app, "--depth", &o->depths, 0, kMaxDepth, "0,4096,32768",
           "Tokens read before measuring, separated by commas (default: 0,4096,32768)");
  add_list(app, "--prompt", &o->prompts, 1, kMaxPrompt, "64,512",
           "Tokens read at once when reading prompts is measured (default: 512)");
  add_whole(
      app, "-n,--tokens", [o](uint64_t n) { o->count = n; },
      "Tokens written when decoding is measured (default: 128)", 1, 1'000'000);
  add_list(app, "--sessions", &o->sessions, 1, kMaxSessions, "1,4,16",
           "Also decode with so many sessions stepped together");
  add_whole(
      app, "--repeat", [o](uint64_t n) { o->repeat = n; }, "Runs of each measurement (default: 5)",
      1, 1000);
  add_list(app, "--threads", &o->threads, 1, kMaxThreads, "1,2",
           "Threads to compute with; a table for each count (default: one per core, at most 4). "
           "Results do not depend on it");
  app->add_flag("--bandwidth", o->bandwidth,
                "Also measure how fast memory is read, and which share of that decoding reaches");
  app->add_flag("--profile", o->profile, "Also show the time by operator");
  app->add_option("--trace", o->trace, "Also write a trace that Perfetto and chrome://tracing open")
      ->type_name("FILE");
  app->add_flag("--force", o->force, "Replace an existing trace");
  add_json_flag(app, &o->json, "One JSON object on stdout");
  return {app, [options] { return run_bench(*options); }};
}

}  // namespace moka::cli
