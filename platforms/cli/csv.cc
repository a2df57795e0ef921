#include "platforms/cli/csv.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "converter/json.h"  // in_quotes
#include "platforms/cli/options.h"

namespace moka::cli {
namespace {

constexpr size_t kMaxColumns = 4096;
constexpr size_t kMaxNumber = 64;  // characters

using Row = std::vector<std::string>;

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool is_missing(std::string_view cell) {
  cell = trimmed(cell);
  if (cell.size() > 4) return false;
  std::string word(cell);
  for (char& c : word) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  for (const char* missing : {"", "na", "n/a", "nan", "null", "none", "-"}) {
    if (word == missing) return true;
  }
  return false;
}

// A decimal number and nothing else; not what strtod takes besides: hexadecimals, "inf", "nan".
std::optional<double> number_of(std::string_view cell) {
  cell = trimmed(cell);
  if (cell.empty() || cell.size() > kMaxNumber) return std::nullopt;
  for (const char c : cell) {
    if ((c < '0' || c > '9') && std::strchr("+-.eE", c) == nullptr) return std::nullopt;
  }
  if (std::strchr("eE", cell.front()) != nullptr) return std::nullopt;
  const std::string text(cell);
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || *end != '\0') return std::nullopt;
  return value;
}

class RowReader {
 public:
  RowReader(std::string_view text, const std::string& name) : rest_(text), name_(name) {
    if (rest_.substr(0, 3) == "\xef\xbb\xbf") rest_.remove_prefix(3);
    const size_t end = rest_.find('\n');
    bool quoted = false;
    for (const char c : rest_.substr(0, end)) {
      if (c == '"') quoted = !quoted;
      if (quoted || (c != ',' && c != ';' && c != '\t')) continue;
      separator_ = c;
      break;
    }
  }

  // False at the end. Empty lines at the end are passed over; another one is a row of one cell.
  Result<bool> next(Row* row) {
    row->clear();
    if (rest_.find_first_not_of("\r\n") == std::string_view::npos) return false;
    line_ = next_line_;
    for (;;) {
      std::string cell;
      MOKA_RETURN_IF_ERROR(read_cell(&cell));
      row->push_back(std::move(cell));
      if (row->size() > kMaxColumns) {
        return fail("more than " + std::to_string(kMaxColumns) + " columns");
      }
      if (!rest_.empty() && rest_[0] == separator_) {
        rest_.remove_prefix(1);
        continue;
      }
      if (rest_.substr(0, 2) == "\r\n") rest_.remove_prefix(1);
      if (!rest_.empty()) rest_.remove_prefix(1);  // "\n"
      next_line_++;
      return true;
    }
  }

  uint64_t line() const { return line_; }  // where the row begins, from 1
  Status fail(const std::string& words) const {
    return Status(StatusCode::kCorrupt, name_ + ": line " + std::to_string(line_) + ": " + words);
  }

 private:
  // Up to a separator or the end of the line.
  Status read_cell(std::string* cell) {
    if (rest_.empty() || rest_[0] != '"') {
      const char ends[] = {separator_, '\n', '\0'};
      size_t end = rest_.find_first_of(ends);
      if (end == std::string_view::npos) end = rest_.size();
      *cell = rest_.substr(0, end);
      if (!cell->empty() && cell->back() == '\r' && (end == rest_.size() || rest_[end] == '\n')) {
        cell->pop_back();
      }
      rest_.remove_prefix(end);
      return Status();
    }
    rest_.remove_prefix(1);
    for (;;) {
      const size_t end = rest_.find('"');
      if (end == std::string_view::npos) return fail("a quote is opened and not closed");
      *cell += rest_.substr(0, end);
      rest_.remove_prefix(end + 1);
      if (rest_.empty() || rest_[0] != '"') break;
      *cell += '"';
      rest_.remove_prefix(1);
    }
    next_line_ += static_cast<uint64_t>(std::count(cell->begin(), cell->end(), '\n'));
    const bool ends =
        rest_.empty() || rest_[0] == separator_ || rest_[0] == '\n' || rest_.substr(0, 2) == "\r\n";
    return ends ? Status() : fail("text after the closing quote");
  }

  std::string_view rest_;
  const std::string& name_;
  char separator_ = ',';
  uint64_t line_ = 1, next_line_ = 1;
};

// What the first pass finds out.
struct TableFacts {
  std::vector<std::string> names;
  std::vector<bool> numeric;
  bool header = false;
  size_t rows = 0;
};

Status scan(std::string_view text, const std::string& name, TableFacts* table) {
  RowReader reader(text, name);
  Row row;
  std::vector<bool> number_seen, text_seen;
  for (bool first = true;; first = false) {
    MOKA_ASSIGN_OR_RETURN(const bool more, reader.next(&row));
    if (!more) break;
    if (first) {
      number_seen.resize(row.size());
      text_seen.resize(row.size());
      table->header = true;
      for (const std::string& cell : row) table->header = table->header && !number_of(cell);
      for (size_t i = 0; i < row.size(); i++) {
        table->names.push_back(table->header ? std::string(trimmed(row[i]))
                                             : "column " + std::to_string(i + 1));
      }
      if (table->header) continue;
    }
    if (row.size() != table->names.size()) {
      if (row.size() == 1 && row[0].empty()) return reader.fail("is empty");
      return reader.fail(std::to_string(row.size()) + (row.size() == 1 ? " cell" : " cells") +
                         ", the first line has " + std::to_string(table->names.size()));
    }
    for (size_t i = 0; i < row.size(); i++) {
      if (number_of(row[i])) {
        number_seen[i] = true;
      } else if (!is_missing(row[i])) {
        text_seen[i] = true;
      }
    }
    table->rows++;
  }
  for (size_t i = 0; i < table->names.size(); i++) {
    table->numeric.push_back(number_seen[i] && !text_seen[i]);
  }
  return Status();
}

std::string column_list(const TableFacts& table, bool numeric_only) {
  constexpr size_t kShown = 20;
  std::string words;
  size_t shown = 0;
  for (size_t i = 0; i < table.names.size(); i++) {
    if (numeric_only && !table.numeric[i]) continue;
    if (shown++ == kShown) return words + ", ...";
    words += (words.empty() ? "" : ", ") +
             (table.header ? in_quotes(table.names[i]) : std::to_string(i + 1));
  }
  return words.empty() ? "none" : words;
}

Status invalid(const std::string& name, const std::string& words) {
  return Status(StatusCode::kInvalidArgument, name + ": " + words);
}

Result<size_t> find_column(const TableFacts& table, const std::string& wanted,
                           const std::string& name) {
  size_t found = 0, count = 0;
  for (size_t i = 0; table.header && i < table.names.size(); i++) {
    if (table.names[i] != wanted) continue;
    found = i;
    count++;
  }
  if (count > 1) {
    return invalid(name, "--column: " + std::to_string(count) + " columns are called " +
                             in_quotes(wanted) + "; give the number of one, from 1");
  }
  if (count == 1) return found;
  const std::optional<uint64_t> number = parse_whole(wanted, 1, table.names.size());
  if (number) return static_cast<size_t>(*number - 1);
  return invalid(name, "--column: there is no column " + in_quotes(wanted) + " among the " +
                           std::to_string(table.names.size()) + "; the numeric ones are " +
                           column_list(table, true));
}

Result<std::vector<size_t>> choose(const TableFacts& table, const std::vector<std::string>& wanted,
                                   size_t expected, const std::string& name) {
  std::vector<size_t> chosen;
  for (const std::string& one : wanted) {
    MOKA_ASSIGN_OR_RETURN(const size_t column, find_column(table, one, name));
    chosen.push_back(column);
  }
  if (wanted.empty()) {
    for (size_t i = 0; i < table.numeric.size(); i++) {
      if (table.numeric[i]) chosen.push_back(i);
    }
  }
  if (chosen.size() == expected) return chosen;
  const std::string needs = "this model reads " + std::to_string(expected) +
                            (expected == 1 ? " number" : " numbers") + " per step";
  if (!wanted.empty()) {
    return invalid(name, "--column is given " + std::to_string(wanted.size()) +
                             (wanted.size() == 1 ? " time; " : " times; ") + needs);
  }
  if (chosen.empty()) {
    return invalid(name, "no column holds numbers; the columns are " + column_list(table, false));
  }
  return invalid(name, needs + "; choose with --column from " + column_list(table, true));
}

}  // namespace

Result<Series> parse_series(std::string_view text, const std::vector<std::string>& wanted,
                            size_t expected, const std::string& name) {
  if (text.find('\0') != std::string_view::npos) {
    return invalid(name, "not a CSV text: it has zero bytes");
  }
  TableFacts table;
  MOKA_RETURN_IF_ERROR(scan(text, name, &table));
  if (table.rows == 0) return invalid(name, "no rows of numbers");
  MOKA_ASSIGN_OR_RETURN(const std::vector<size_t> chosen, choose(table, wanted, expected, name));
  Series series;
  for (const size_t column : chosen) series.columns.push_back(table.names[column]);
  series.steps = table.rows;
  series.values.reserve(table.rows * chosen.size());

  RowReader reader(text, name);
  Row row;
  if (table.header) MOKA_RETURN_IF_ERROR(reader.next(&row).status());
  for (;;) {
    MOKA_ASSIGN_OR_RETURN(const bool more, reader.next(&row));
    if (!more) return series;
    for (const size_t column : chosen) {
      const std::string where =
          table.header ? "column " + in_quotes(table.names[column]) : table.names[column];
      const std::string& cell = row[column];
      if (is_missing(cell)) {
        return reader.fail(where + ": the value is missing" +
                           (cell.empty() ? "" : " (" + in_quotes(cell) + ")") +
                           "; models need every one, fill it in or leave the rows out");
      }
      const std::optional<double> value = number_of(cell);
      if (!value) return reader.fail(where + ": " + in_quotes(cell) + " is not a number");
      const auto number = static_cast<float>(*value);
      if (!std::isfinite(number)) {
        return reader.fail(where + ": " + in_quotes(cell) + " is beyond float32");
      }
      series.values.push_back(number);
    }
  }
}

}  // namespace moka::cli
