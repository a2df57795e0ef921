// Where the time goes: the table of --profile and the file of --trace.
#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "platforms/cli/bench.h"
#include "platforms/cli/terminal.h"

namespace moka::cli {
namespace {

constexpr double kNano = 1e-9;

std::string percent(double share) { return short_number(100 * share) + " %"; }

std::string dropped_words(uint64_t dropped) {
  return with_commas(dropped) + " spans found no room: the latest ones are missing";
}

// Operators and parts of one name, as they come.
struct Sums {
  std::map<std::string, size_t> known;
  std::vector<OperatorTime> times;
  OperatorTime& of(const std::string& name, bool part) {
    const auto [entry, added] = known.try_emplace(name, times.size());
    if (added) times.push_back({name, part, 0, 0});
    return times[entry->second];
  }
  void add(const std::string& name, bool part, uint64_t nanoseconds) {
    OperatorTime& time = of(name, part);
    ++time.calls;
    time.seconds += static_cast<double>(nanoseconds) * kNano;
  }
};

void sort_by_time(std::vector<OperatorTime>* times) {
  std::stable_sort(times->begin(), times->end(), [](const OperatorTime& a, const OperatorTime& b) {
    return a.seconds > b.seconds;
  });
}

Json event_json(const ProfileSpan& span, const std::string& category, uint64_t base, int pid) {
  const auto micro = [](uint64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1000; };
  return {{"name", span.name},
          {"cat", category + (span.part ? ",part" : ",operator")},
          {"ph", "X"},
          {"ts", micro(span.start - base)},
          {"dur", micro(span.duration)},
          {"pid", pid},
          {"tid", span.thread},
          {"args", {{"block", span.block}, {"rows", span.rows}}}};
}

Json name_json(const char* what, const std::string& name, int pid, uint32_t thread) {
  return {{"name", what}, {"ph", "M"}, {"pid", pid}, {"tid", thread}, {"args", {{"name", name}}}};
}

// A process in the trace: one number of threads, first the prompt, then the decoding.
void add_process(const ThreadsResult& run, const std::string& model, int pid, Json* events) {
  uint64_t base = UINT64_MAX;
  uint32_t threads = 1;
  for (const ProfileResult& result : run.profiles) {
    for (const ProfileSpan& span : result.profile.spans) {
      base = std::min(base, span.start);
      threads = std::max(threads, span.thread + 1);
    }
  }
  const std::string count =
      std::to_string(run.threads) + (run.threads == 1 ? " thread" : " threads");
  events->push_back(name_json("process_name", model + ", " + count, pid, 0));
  for (uint32_t thread = 0; thread < threads; ++thread) {
    events->push_back(name_json(
        "thread_name", thread == 0 ? "caller" : "worker " + std::to_string(thread), pid, thread));
  }
  for (const ProfileResult& result : run.profiles) {
    for (const ProfileSpan& span : result.profile.spans) {
      events->push_back(event_json(span, result.key, base, pid));
    }
  }
}

}  // namespace

std::vector<OperatorTime> operator_times(const Profile& profile) {
  Sums operators;
  std::map<std::string, Sums> parts;  // by operator
  std::string running;
  for (const ProfileSpan& span : profile.spans) {
    if (!span.part) {
      running = span.name;
      operators.add(running, false, span.duration);
    } else {
      parts[running].add(span.name, true, span.duration);
    }
  }
  sort_by_time(&operators.times);
  std::vector<OperatorTime> all;
  for (const OperatorTime& time : operators.times) {
    all.push_back(time);
    std::vector<OperatorTime>& inside = parts[time.name].times;
    sort_by_time(&inside);
    all.insert(all.end(), inside.begin(), inside.end());
  }
  return all;
}

std::string profile_text(const ProfileResult& result) {
  Table table({{"operator", false},
               {"calls", true},
               {"time", true},
               {"share", true},
               {"per call", true},
               {"per token", true}});
  const auto tokens = static_cast<double>(result.tokens);
  double between = result.seconds;
  for (const OperatorTime& time : operator_times(result.profile)) {
    if (!time.part) between -= time.seconds;
    table.add({(time.part ? "  " : "") + time.name, with_commas(time.calls),
               seconds_words(time.seconds), time.part ? "" : percent(time.seconds / result.seconds),
               seconds_words(time.seconds / static_cast<double>(time.calls)),
               seconds_words(time.seconds / tokens)});
  }
  between = std::max(between, 0.0);
  table.add({"(between)", "", seconds_words(between), percent(between / result.seconds), "",
             seconds_words(between / tokens)});
  std::string text = "profile of " + result.what + " at depth " + with_commas(result.depth) + ", " +
                     seconds_words(result.seconds) + "; parts: time on all threads together\n";
  text += table.to_string();
  if (result.profile.dropped > 0) text += dropped_words(result.profile.dropped) + "\n";
  return text;
}

Json profile_json(const ProfileResult& result) {
  Json operators = Json::array();
  for (const OperatorTime& time : operator_times(result.profile)) {
    operators.push_back({{"name", time.name},
                         {"part", time.part},
                         {"calls", time.calls},
                         {"seconds", time.seconds}});
  }
  return {{"of", result.key},
          {"depth", result.depth},
          {"tokens", result.tokens},
          {"seconds", result.seconds},
          {"dropped_spans", result.profile.dropped},
          {"operators", operators}};
}

Json trace_json(const BenchReport& report, const std::string& model) {
  Json events = Json::array();
  uint64_t dropped = 0;
  int pid = 0;
  for (const ThreadsResult& run : report.runs) {
    add_process(run, model, ++pid, &events);
    for (const ProfileResult& result : run.profiles) dropped += result.profile.dropped;
  }
  Json other = {{"model", model}, {"isa", report.info.isa}, {"dropped_spans", dropped}};
  if (dropped > 0) other["warning"] = dropped_words(dropped);
  return {{"displayTimeUnit", "ms"}, {"otherData", other}, {"traceEvents", events}};
}

}  // namespace moka::cli
