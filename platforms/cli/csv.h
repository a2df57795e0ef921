// Series from CSV: rows are steps, columns are told by name or number.
//
// The separator is the first of comma, semicolon or tab in the first line; cells may be quoted, lines
// end with LF or CRLF, a byte order mark is passed over. The first line is a header when none of
// its cells is a number. Numbers have a decimal point. A column is numeric when some cell of it is
// a number and the others are missing ("", "NA", "N/A", "NaN", "null", "-").
#ifndef MOKA_PLATFORMS_CLI_CSV_H_
#define MOKA_PLATFORMS_CLI_CSV_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "moka/status.h"

namespace moka::cli {

struct Series {
  std::vector<std::string> columns;  // names; "column 2" where there is no header
  size_t steps = 0;
  std::vector<float> values;  // [steps][columns]
};

// `wanted` are names or numbers from 1, a name first; empty: the numeric columns, which must be
// `expected` ones. `name` begins messages. kInvalidArgument: no rows, a column that is not there,
// columns to choose from (the message lists them). kCorrupt: a line with too many or too few cells,
// an open quote, a cell that is missing or no number (the message gives the line and the column).
Result<Series> parse_series(std::string_view text, const std::vector<std::string>& wanted,
                            size_t expected, const std::string& name);

}  // namespace moka::cli

#endif  // MOKA_PLATFORMS_CLI_CSV_H_
