#include "platforms/cli/jsonl.h"

#include <exception>

#include "platforms/cli/input.h"
#include "platforms/cli/interrupt.h"
#include "platforms/cli/terminal.h"

namespace moka::cli {
namespace {

constexpr int kMaxDepth = 64;

struct TooDeep : std::exception {};

struct Counts {
  uint64_t lines = 0, failed = 0;
};

Outcome run_file(const std::string& path, const LineWork& work, Counts* counts) {
  MOKA_ASSIGN_OR_RETURN(InputStream file, InputStream::open(path));
  LineReader reader(std::move(file));
  std::string line;
  for (;;) {
    MOKA_ASSIGN_OR_RETURN(const LineReader::Line kind, reader.next(&line));
    if (kind == LineReader::Line::kEnd) return {};
    if (kind == LineReader::Line::kRead && line.find_first_not_of(" \t") == std::string::npos) {
      continue;
    }
    counts->lines++;
    Json answer = Json::object();
    Status status;
    if (kind == LineReader::Line::kTooLong) {
      status = Status(StatusCode::kOutOfRange, "the line is longer than 64 MiB");
    } else {
      Result<Json> object = parse_json_line(line);
      status = object.status();
      if (object.ok()) {
        const auto id = object.value().find("id");
        if (id != object.value().end()) answer["id"] = *id;
        Result<Json> fields = work(object.value());
        status = fields.status();
        if (fields.ok()) answer.update(fields.value());
      }
    }
    if (status.code() == StatusCode::kCancelled || interrupted()) {
      return {kExitInterrupted, ""};
    }
    if (!status.ok()) {
      counts->failed++;
      answer["line"] = reader.number();
      answer["error"] = status.message();
    }
    if (!write_output(json_line(answer))) return {kExitOk, ""};  // finish() tells why
  }
}

}  // namespace

Result<Json> parse_json_line(const std::string& line) {
  const auto bounded = [](int depth, Json::parse_event_t, Json&) {
    if (depth > kMaxDepth) throw TooDeep();
    return true;
  };
  try {
    Json json = Json::parse(line, bounded);
    if (json.is_object()) return json;
    return Status(StatusCode::kCorrupt, "the line is not a JSON object");
  } catch (const TooDeep&) {
    return Status(StatusCode::kCorrupt,
                  "the line is nested deeper than " + std::to_string(kMaxDepth));
  } catch (const Json::parse_error& error) {
    return Status(StatusCode::kCorrupt,
                  "the line is not JSON from byte " + std::to_string(error.byte) + " on");
  } catch (const Json::exception&) {  // a number beyond double
    return Status(StatusCode::kCorrupt, "the line is not JSON: a number is out of range");
  }
}

Outcome run_json_lines(const std::vector<std::string>& paths, const LineWork& work) {
  Counts counts;
  const std::vector<std::string> all = paths.empty() ? std::vector<std::string>{"-"} : paths;
  for (const std::string& path : all) {
    Outcome outcome = run_file(path, work, &counts);
    if (outcome.exit_code != kExitOk) return outcome;
    if (output_closed()) return {};
  }
  if (counts.failed == 0) return {};
  return {kExitFailure, with_commas(counts.failed) + " of " + with_commas(counts.lines) +
                            (counts.lines == 1 ? " line" : " lines") +
                            " had an error; the answers of these say which"};
}

}  // namespace moka::cli
