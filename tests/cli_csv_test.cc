// Series from CSV: columns, headers, quotes, and the exact words about what is wrong.
#include <string>
#include <vector>

#include "doctest/doctest.h"
#include "platforms/cli/csv.h"

namespace moka::test {
namespace {

using cli::parse_series;
using cli::Series;

Series good(const std::string& text, const std::vector<std::string>& wanted, size_t expected) {
  Result<Series> series = parse_series(text, wanted, expected, "x.csv");
  REQUIRE_MESSAGE(series.ok(), series.status().to_string());
  return std::move(series).value();
}

void bad(const std::string& text, const std::vector<std::string>& wanted, size_t expected,
         StatusCode code, const std::string& message) {
  CAPTURE(text.substr(0, 80));
  const Result<Series> series = parse_series(text, wanted, expected, "x.csv");
  CHECK(series.status().code() == code);
  CHECK(series.status().message() == "x.csv: " + message);
}

}  // namespace

TEST_CASE("csv: one column, with and without a header") {
  const std::string header = "millivolt\n-0.245\n+0.5\n1e-3\n";
  const Series with = good(header, {}, 1);
  CHECK(with.columns == std::vector<std::string>{"millivolt"});
  CHECK(with.steps == 3);
  CHECK(with.values == std::vector<float>{-0.245f, 0.5f, 0.001f});
  const Series without = good("1\n2\n.5", {}, 1);
  CHECK(without.columns == std::vector<std::string>{"column 1"});
  CHECK(without.values == std::vector<float>{1.0f, 2.0f, 0.5f});
}

TEST_CASE("csv: columns by name, by number, in the order that is asked for") {
  const std::string text =
      "date,pressure,temperature,wind\n2010-01-01,1016.6,4.0,3.8\n2010-01-02,1016.7,3.9,3.7\n";
  CHECK(good(text, {"temperature"}, 1).values == std::vector<float>{4.0f, 3.9f});
  CHECK(good(text, {"4"}, 1).values == std::vector<float>{3.8f, 3.7f});
  CHECK(good(text, {"wind", "pressure"}, 2).values ==
        std::vector<float>{3.8f, 1016.6f, 3.7f, 1016.7f});
  CHECK(good(text, {}, 3).columns == std::vector<std::string>{"pressure", "temperature", "wind"});
  bad(text, {}, 1, StatusCode::kInvalidArgument,
      "this model reads 1 number per step; choose with --column from \"pressure\", "
      "\"temperature\", \"wind\"");
  bad(text, {"temprature"}, 1, StatusCode::kInvalidArgument,
      "--column: there is no column \"temprature\" among the 4; the numeric ones are "
      "\"pressure\", \"temperature\", \"wind\"");
  bad(text, {"5"}, 1, StatusCode::kInvalidArgument,
      "--column: there is no column \"5\" among the 4; the numeric ones are \"pressure\", "
      "\"temperature\", \"wind\"");
  bad(text, {"wind"}, 2, StatusCode::kInvalidArgument,
      "--column is given 1 time; this model reads 2 numbers per step");
  bad(text, {"date"}, 1, StatusCode::kCorrupt,
      "line 2: column \"date\": \"2010-01-01\" is not a number");
  // A name that is written like a number is still a name; where none is, it counts.
  CHECK(good("x2,b\n1,2\n", {"2"}, 1).values == std::vector<float>{2.0f});
  CHECK(good("b,2nd\n1,5\n", {"2"}, 1).values == std::vector<float>{5.0f});
  bad("a,a\n1,2\n", {"a"}, 1, StatusCode::kInvalidArgument,
      "--column: 2 columns are called \"a\"; give the number of one, from 1");
}

TEST_CASE("csv: separators, quotes, line ends, byte order mark") {
  CHECK(good("\xef\xbb\xbfx;y\r\n1;2\r\n3;4\r\n\r\n", {"y"}, 1).values ==
        std::vector<float>{2.0f, 4.0f});
  CHECK(good("x\ty\n1\t2\n", {"x"}, 1).values == std::vector<float>{1.0f});
  const Series quoted = good("\"a, \"\"b\"\"\",c\n\"1\",\"two\nlines\"\n2,x\n", {}, 1);
  CHECK(quoted.columns == std::vector<std::string>{"a, \"b\""});
  CHECK(quoted.values == std::vector<float>{1.0f, 2.0f});
  // The line is that of the file, also after a cell of two lines.
  bad("a,c\n1,\"two\nlines\"\nNA,x\n", {"a"}, 1, StatusCode::kCorrupt,
      "line 4: column \"a\": the value is missing (\"NA\"); models need every one, fill it in or "
      "leave the rows out");
}

TEST_CASE("csv: what is missing or no number is told by line and column") {
  bad("t\n1\n\n3\n", {}, 1, StatusCode::kCorrupt,
      "line 3: column \"t\": the value is missing; models need every one, fill it in or leave the "
      "rows out");
  bad("1,2\n1,nan\n", {"2"}, 1, StatusCode::kCorrupt,
      "line 2: column 2: the value is missing (\"nan\"); models need every one, fill it in or "
      "leave the rows out");
  bad("t\n1\n2,5\n", {}, 1, StatusCode::kCorrupt, "line 3: 2 cells, the first line has 1");
  bad("a,b\n1,2\n\n3,4\n", {"a"}, 1, StatusCode::kCorrupt, "line 3: is empty");
  bad("t\n1\n0x10\n", {"t"}, 1, StatusCode::kCorrupt,
      "line 3: column \"t\": \"0x10\" is not a number");
  bad("t\n1\ninf\n", {"t"}, 1, StatusCode::kCorrupt,
      "line 3: column \"t\": \"inf\" is not a number");
  bad("t\n1\n1e39\n", {"t"}, 1, StatusCode::kCorrupt,
      "line 3: column \"t\": \"1e39\" is beyond float32");
  bad("t\n1,\n", {}, 1, StatusCode::kCorrupt, "line 2: 2 cells, the first line has 1");
  bad("t\n\"1\n", {}, 1, StatusCode::kCorrupt, "line 2: a quote is opened and not closed");
  bad("t\n\"1\"x\n", {}, 1, StatusCode::kCorrupt, "line 2: text after the closing quote");
}

TEST_CASE("csv: texts that hold no series") {
  bad("", {}, 1, StatusCode::kInvalidArgument, "no rows of numbers");
  bad("\n\r\n", {}, 1, StatusCode::kInvalidArgument, "no rows of numbers");
  bad("a,b\n", {}, 1, StatusCode::kInvalidArgument, "no rows of numbers");
  bad("a,b\nx,y\n", {}, 1, StatusCode::kInvalidArgument,
      "no column holds numbers; the columns are \"a\", \"b\"");
  bad(std::string("1\n\0\n", 4), {}, 1, StatusCode::kInvalidArgument,
      "not a CSV text: it has zero bytes");
  bad(std::string(5000, ','), {}, 1, StatusCode::kCorrupt, "line 1: more than 4096 columns");
}

TEST_CASE("csv: no cut of a good file crashes or reads past its end") {
  const std::string whole = "\"d\",\"t\"\r\n\"a\"\"b\",1.5\r\n\"c\nd\",-2e3\r\n";
  for (size_t size = 0; size <= whole.size(); ++size) {
    const std::string part = whole.substr(0, size);
    const Result<Series> series = parse_series(part, {"2"}, 1, "x.csv");
    CHECK((series.ok() || !series.status().message().empty()));
  }
}

}  // namespace moka::test
