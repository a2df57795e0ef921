// The parts of `moka bench`: what is asked for, what was measured, how it is told.
#ifndef MOKA_PLATFORMS_CLI_BENCH_H_
#define MOKA_PLATFORMS_CLI_BENCH_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "moka/moka.h"
#include "moka/profile.h"
#include "platforms/cli/bench_bandwidth.h"
#include "platforms/cli/exit_codes.h"
#include "platforms/cli/json.h"

namespace moka::cli {

struct BenchOptions {
  std::string model;
  std::vector<uint64_t> depths = {0, 4096, 32768};
  std::vector<uint64_t> prompts = {512};
  std::vector<uint64_t> threads = {0};  // 0: automatic
  std::vector<uint64_t> sessions;       // batches that are stepped together
  uint64_t count = 128;
  uint64_t repeat = 5;
  bool bandwidth = false;
  bool profile = false;
  std::string trace;  // a file; empty: none
  bool force = false;
  bool json = false;
};

// Least, median and most of some measurements.
struct Spread {
  double low = 0, median = 0, high = 0;
};
Spread spread_of(std::vector<double> values);

// What one token of one session reads, at a depth.
struct TokenBytes {
  uint64_t weights = 0;
  uint64_t state = 0;
  uint64_t total() const { return weights + state; }
};
Result<TokenBytes> token_bytes(const ModelSpec& spec, uint64_t depth);

struct PromptResult {
  uint64_t tokens = 0;
  Spread speed;  // tokens per second, as all of them
};

struct SessionsResult {
  uint64_t sessions = 0;
  Spread total;  // of all sessions together
};

struct DepthResult {
  uint64_t depth = 0;
  std::vector<PromptResult> prompts;
  Spread decode;
  TokenBytes bytes;
  std::vector<SessionsResult> sessions;
};

// One recorded stretch of calls.
struct ProfileResult {
  std::string what;  // "prompt of 512 tokens"
  std::string key;   // "prompt", "decode" or "batch"
  uint64_t depth = 0;
  uint64_t tokens = 0;  // of all sessions
  double seconds = 0;   // from the first call to the return of the last
  Profile profile;
};

// Everything measured with one number of threads.
struct ThreadsResult {
  int threads = 0;
  Spread load;               // seconds to the first token
  uint64_t peak_memory = 0;  // of the process so far, before any profile
  std::vector<DepthResult> depths;
  std::optional<ReadSpeed> limit;
  std::vector<ProfileResult> profiles;
};

struct BenchReport {
  ModelInfo info;
  std::vector<ThreadsResult> runs;
};

// bench_measure.cc: opens the model with `threads` threads (0: automatic) and measures it.
Outcome measure_threads(const BenchOptions& options, int threads, ModelInfo* info,
                        ThreadsResult* result);

// bench_report.cc
std::string bench_text(const BenchOptions& options, const BenchReport& report);
Json bench_json(const BenchOptions& options, const BenchReport& report);

// bench_profile.cc: time by operator, most first.
struct OperatorTime {
  std::string name;
  bool part = false;  // of the operator before it; time on all threads together
  uint64_t calls = 0;
  double seconds = 0;
};
std::vector<OperatorTime> operator_times(const Profile& profile);
std::string profile_text(const ProfileResult& result);
Json profile_json(const ProfileResult& result);
// The Trace Event Format, which Perfetto and chrome://tracing open.
Json trace_json(const BenchReport& report, const std::string& model);

}  // namespace moka::cli

#endif  // MOKA_PLATFORMS_CLI_BENCH_H_
