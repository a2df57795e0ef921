// What `moka bench` says: a text to be pasted into an issue, or one JSON document.
#include <string>
#include <vector>

#include "moka/version.h"
#include "platforms/cli/bench.h"
#include "platforms/cli/terminal.h"
#include "platforms/cli/version.h"

namespace moka::cli {
namespace {

Json spread_json(const Spread& spread) {
  return {{"min", spread.low}, {"median", spread.median}, {"max", spread.high}};
}

// "193  (190 to 195)", or "193" where all runs came to the same digits.
std::string spread_words(const Spread& spread) {
  const std::string low = short_number(spread.low), high = short_number(spread.high);
  const std::string median = short_number(spread.median);
  return low == high ? median : median + "  (" + low + " to " + high + ")";
}

std::string threads_words(int threads) {
  return std::to_string(threads) + (threads == 1 ? " thread" : " threads");
}

double share_of_limit(const ThreadsResult& run, const DepthResult& depth) {
  return static_cast<double>(depth.bytes.total()) * depth.decode.median /
         run.limit->bytes_per_second;
}

std::string rate_words(double bytes_per_second) {
  return short_number(bytes_per_second * 1e-9) + " GB/s";
}

std::string depth_table(const ThreadsResult& run) {
  std::vector<Table::Column> columns = {{"depth", true}};
  for (const PromptResult& prompt : run.depths.front().prompts) {
    columns.push_back({"prefill " + with_commas(prompt.tokens) + ", tokens/s", true});
  }
  for (const char* title : {"decode, tokens/s", "per token", "reads", "at"}) {
    columns.push_back({title, true});
  }
  if (run.limit) columns.push_back({"of the limit", true});
  Table table(columns);
  for (const DepthResult& depth : run.depths) {
    std::vector<std::string> cells = {with_commas(depth.depth)};
    for (const PromptResult& prompt : depth.prompts) cells.push_back(spread_words(prompt.speed));
    cells.push_back(spread_words(depth.decode));
    cells.push_back(seconds_words(1.0 / depth.decode.median));
    cells.push_back(bytes_words(depth.bytes.total()));
    cells.push_back(rate_words(static_cast<double>(depth.bytes.total()) * depth.decode.median));
    if (run.limit) cells.push_back(short_number(100 * share_of_limit(run, depth)) + " %");
    table.add(std::move(cells));
  }
  return table.to_string();
}

std::string sessions_table(const ThreadsResult& run) {
  Table table({{"depth", true},
               {"sessions together", true},
               {"decode, tokens/s in all", true},
               {"each", true},
               {"against decoding one", true}});
  for (const DepthResult& depth : run.depths) {
    for (const SessionsResult& result : depth.sessions) {
      table.add({with_commas(depth.depth), with_commas(result.sessions), spread_words(result.total),
                 short_number(result.total.median / static_cast<double>(result.sessions)),
                 short_number(result.total.median / depth.decode.median) + " x"});
    }
  }
  return table.to_string();
}

Json depth_json(const BenchOptions& options, const ThreadsResult& run, const DepthResult& depth) {
  Json json = {{"depth", depth.depth},
               {"prefill_tokens_per_second", spread_json(depth.prompts.front().speed)},
               {"decode_tokens_per_second", spread_json(depth.decode)},
               {"bytes_read_per_token", depth.bytes.total()},
               {"weight_bytes_read_per_token", depth.bytes.weights},
               {"state_bytes_read_per_token", depth.bytes.state}};
  Json prompts = Json::array();
  for (const PromptResult& prompt : depth.prompts) {
    prompts.push_back({{"prompt_tokens", prompt.tokens},
                       {"prefill_tokens_per_second", spread_json(prompt.speed)}});
  }
  json["prompts"] = prompts;
  if (run.limit) json["share_of_memory_limit"] = share_of_limit(run, depth);
  if (options.sessions.empty()) return json;
  Json batches = Json::array();
  for (const SessionsResult& result : depth.sessions) {
    batches.push_back(
        {{"sessions", result.sessions},
         {"total_tokens_per_second", spread_json(result.total)},
         {"tokens_per_second_each", result.total.median / static_cast<double>(result.sessions)}});
  }
  json["batches"] = batches;
  return json;
}

Json run_json(const BenchOptions& options, const ThreadsResult& run) {
  Json json = {{"threads", run.threads},
               {"load_seconds", spread_json(run.load)},
               {"peak_resident_bytes", run.peak_memory}};
  if (run.limit) {
    json["memory_limit"] = {{"bytes_per_second", run.limit->bytes_per_second},
                            {"streams_per_thread", run.limit->streams},
                            {"buffer_bytes", run.limit->buffer_bytes}};
  }
  Json depths = Json::array();
  for (const DepthResult& depth : run.depths) depths.push_back(depth_json(options, run, depth));
  json["depths"] = depths;
  if (!options.profile) return json;
  Json profiles = Json::array();
  for (const ProfileResult& result : run.profiles) profiles.push_back(profile_json(result));
  json["profiles"] = profiles;
  return json;
}

}  // namespace

std::string bench_text(const BenchOptions& options, const BenchReport& report) {
  const ModelInfo& info = report.info;
  std::string out = "machine      " + cpu_name() + ", " + std::to_string(cpu_cores()) +
                    " cores; kernels " + info.isa + "\n";
  out += "build        moka " MOKA_VERSION_STRING ", " + compiler_name() + "\n";
  out += "model        " + printable(options.model) + ": " + info.architecture + ", " +
         with_commas(info.parameters) + " parameters, " + bytes_words(info.weight_bytes) + "\n";
  out += "state        " + bytes_words(info.state_bytes) + " per session";
  if (info.state_bytes_per_token > 0) {
    out += " and " + bytes_words(info.state_bytes_per_token) + " per token";
  }
  out +=
      "\nmeasured     " + with_commas(options.count) + " tokens decoded, " +
      (options.repeat == 1 ? "once"
                           : "median of " + with_commas(options.repeat) + " runs (least to most)") +
      "\n";
  for (const ThreadsResult& run : report.runs) {
    out += "\n" + threads_words(run.threads) + "\n";
    out += "load         " + seconds_words(run.load.median) + "  (" + seconds_words(run.load.low) +
           " to " + seconds_words(run.load.high) + ") to the first token\n";
    out += "peak memory  " + bytes_words(run.peak_memory) + "\n";
    if (run.limit) {
      out += "memory limit " + rate_words(run.limit->bytes_per_second) +
             ", the best of all reads of " + bytes_words(run.limit->buffer_bytes) + "\n";
    }
    out += "\n" + depth_table(run);
    if (!options.sessions.empty()) out += "\n" + sessions_table(run);
    if (!options.profile) continue;
    for (const ProfileResult& result : run.profiles) out += "\n" + profile_text(result);
  }
  return out;
}

Json bench_json(const BenchOptions& options, const BenchReport& report) {
  const ModelInfo& info = report.info;
  Json runs = Json::array();
  for (const ThreadsResult& run : report.runs) runs.push_back(run_json(options, run));
  return {{"model", options.model},
          {"architecture", info.architecture},
          {"parameters", info.parameters},
          {"weight_bytes", info.weight_bytes},
          {"state_bytes", info.state_bytes},
          {"state_bytes_per_token", info.state_bytes_per_token},
          {"cpu", cpu_name()},
          {"cores", cpu_cores()},
          {"isa", info.isa},
          {"version", MOKA_VERSION_STRING},
          {"compiler", compiler_name()},
          {"decode_tokens", options.count},
          {"repeat", options.repeat},
          {"runs", runs}};
}

}  // namespace moka::cli
