// JSON lines in, JSON lines out: one object per line, in order, each written as soon as it is known,
// so that it runs in pipes, under xargs, GNU parallel or a Spark pipe().
//
// A line gets exactly one line of answer: {"id": ..., what `work` made of it}, with the id when the
// object has one, or {"id": ..., "line": N, "error": "..."}. Blank lines are passed over.
#ifndef MOKA_PLATFORMS_CLI_JSONL_H_
#define MOKA_PLATFORMS_CLI_JSONL_H_

#include <functional>
#include <string>
#include <vector>

#include "platforms/cli/exit_codes.h"
#include "platforms/cli/json.h"

namespace moka::cli {

// Makes the fields of the answer of one object. A kCancelled status ends everything, others are
// written as the answer of the line.
using LineWork = std::function<Result<Json>(const Json& object)>;

// Reads `paths` one after the other; "-", or none, is stdin. Exit code 1 when lines had errors, with
// their count; 3 when a file cannot be read.
Outcome run_json_lines(const std::vector<std::string>& paths, const LineWork& work);

// One line as an object. kCorrupt: not JSON, not UTF-8, not an object, nested deeper than 64.
Result<Json> parse_json_line(const std::string& line);

}  // namespace moka::cli

#endif  // MOKA_PLATFORMS_CLI_JSONL_H_
