// `moka forecast` as a shell sees it.
#include <algorithm>
#include <cmath>
#include <sstream>
#include <string>
#include <vector>

#include "doctest/doctest.h"
#include "moka/moka.h"
#include "nlohmann/json.hpp"
#include "tests/cli_model.h"
#include "tests/process.h"
#include "tests/task_models.h"

namespace moka::test {
namespace {

using Json = nlohmann::json;

std::vector<std::vector<std::string>> cells_of(const std::string& csv) {
  std::vector<std::vector<std::string>> rows;
  std::istringstream stream(csv);
  for (std::string line; std::getline(stream, line);) {
    std::vector<std::string> row;
    std::istringstream cells(line);
    for (std::string cell; std::getline(cells, cell, ',');) row.push_back(cell);
    rows.push_back(row);
  }
  return rows;
}

// Two columns of numbers and one of dates.
std::string series(size_t steps) {
  std::string text = "date,level,flow\n";
  for (size_t i = 0; i < steps; ++i) {
    const double x = static_cast<double>(i);
    text += "2020-01-" + std::to_string(i) + "," + std::to_string(10 + std::sin(x / 3)) + "," +
            std::to_string(8 + std::cos(x / 5)) + "\n";
  }
  return text;
}

struct Setup {
  TemporaryFolder folder;
  std::string one, two;
  TestModel one_model = forecast_model(1, 3, {0.1f, 0.5f, 0.9f});

  Setup() : one(folder / "one.moka"), two(folder / "two.moka") {
    write_task_model(one, one_model);
    write_task_model(two, forecast_model(2, 1, {}));
    write_file(folder / "s.csv", series(40));
  }
  std::string csv() const { return folder / "s.csv"; }
};

void check_refused(const ProcessResult& result, int exit_code, const std::string& words) {
  CHECK(result.exit_code == exit_code);
  CHECK(result.out == "");
  CHECK(result.err ==
        "moka forecast: " + words + "\n" + (exit_code == 2 ? "Try 'moka forecast --help'.\n" : ""));
}

}  // namespace

TEST_CASE("cli forecast: CSV, JSON and JSON lines hold what the library tells") {
  const Setup setup;
  const ProcessResult csv =
      moka_command({"forecast", setup.one, setup.csv(), "--column", "level", "--horizon", "5"});
  CHECK(csv.exit_code == 0);
  CHECK(csv.err == "");  // stdout is no terminal
  const auto rows = cells_of(csv.out);
  REQUIRE(rows.size() == 6);
  CHECK(rows[0] == std::vector<std::string>{"step", "q0.1", "q0.5", "q0.9"});
  CHECK(rows[5][0] == "5");

  std::vector<float> history;
  for (size_t i = 0; i < 40; ++i) {
    history.push_back(std::stof(std::to_string(10 + std::sin(static_cast<double>(i) / 3))));
  }
  Result<Model> opened = Model::from_spec(setup.one_model.spec);
  REQUIRE(opened.ok());
  const Result<Forecast> expected = forecast(opened.value(), history, 5);
  REQUIRE_MESSAGE(expected.ok(), expected.status().to_string());
  for (size_t i = 0; i < 5; ++i) {
    for (size_t q = 0; q < 3; ++q) {
      CHECK(std::stof(rows[i + 1][q + 1]) == expected.value().values[i * 3 + q]);
    }
  }

  const ProcessResult json =
      moka_command({"forecast", setup.one, setup.csv(), "--column", "2", "--json"});
  const Json object = Json::parse(json.out);
  CHECK(object.at("columns") == Json({"q0.1", "q0.5", "q0.9"}));
  CHECK(object.at("values").size() == 3);  // as many as the model tells at once
  CHECK(object.at("history_steps") == 40);
  CHECK(object.at("values")[0][1].get<float>() == expected.value().values[1]);

  ProcessOptions input;
  Json line = {{"id", "s"}, {"values", history}, {"horizon", 5}};
  input.input = line.dump() + "\n{\"values\": [1, null]}\n{\"values\": [1], \"horizon\": 0}\n{}\n";
  const ProcessResult lines = moka_command({"forecast", setup.one, "--jsonl"}, input);
  CHECK(lines.exit_code == 1);
  std::istringstream stream(lines.out);
  std::vector<Json> answers;
  for (std::string text; std::getline(stream, text);) answers.push_back(Json::parse(text));
  REQUIRE(answers.size() == 4);
  CHECK(answers[0].at("id") == "s");
  CHECK(answers[0].at("values")[4][2].get<float>() == expected.value().values[14]);
  CHECK(answers[1].at("error") ==
        "\"values\"[1]: null is not a number of float32; models need every value");
  CHECK(answers[2].at("error") == "\"horizon\": 0 is not a whole number from 1 to 100000");
  CHECK(answers[3].at("error") == "the object has no \"values\"");

  ProcessOptions piped;
  piped.input = series(40);
  CHECK(moka_command({"forecast", setup.one, "--column", "level", "--horizon", "5"}, piped).out ==
        csv.out);
}

TEST_CASE("cli forecast: several columns, and a model without quantiles") {
  const Setup setup;
  const ProcessResult all = moka_command({"forecast", setup.two, setup.csv(), "--horizon", "2"});
  REQUIRE(all.exit_code == 0);
  CHECK(cells_of(all.out)[0] == std::vector<std::string>{"step", "level:mean", "flow:mean"});
  const ProcessResult named = moka_command({"forecast", setup.two, setup.csv(), "--column", "level",
                                            "--column", "flow", "--horizon", "2"});
  CHECK(named.out == all.out);
  check_refused(moka_command({"forecast", setup.one, setup.csv()}), 2,
                setup.csv() +
                    ": this model reads 1 number per step; choose with --column from "
                    "\"level\", \"flow\"");
  check_refused(moka_command({"forecast", setup.one, setup.csv(), "--column", "lvl"}), 2,
                setup.csv() +
                    ": --column: there is no column \"lvl\" among the 3; the numeric "
                    "ones are \"level\", \"flow\"");
}

TEST_CASE("cli forecast: bad series are told by file, line and column") {
  const Setup setup;
  const std::string bad = setup.folder / "bad.csv";
  write_file(bad, "t\n1\n2\nNaN\n4\n");
  check_refused(moka_command({"forecast", setup.one, bad}), 3,
                bad +
                    ": line 4: column \"t\": the value is missing (\"NaN\"); models need every "
                    "one, fill it in or leave the rows out");
  write_file(bad, "");
  check_refused(moka_command({"forecast", setup.one, bad}), 1, bad + ": no rows of numbers");
  write_file(bad, std::string("\0\1\2", 3));
  check_refused(moka_command({"forecast", setup.one, bad}), 1,
                bad + ": not a CSV text: it has zero bytes");
  check_refused(moka_command({"forecast", setup.one, setup.folder.path()}), 3,
                setup.folder.path() + ": Is a directory");
  check_refused(moka_command({"forecast", setup.one, setup.folder / "no"}), 3,
                setup.folder / "no" + ": No such file or directory");
}

TEST_CASE("cli forecast: --holdout compares with the end of the series") {
  const Setup setup;
  const std::vector<std::string> call = {"forecast",  setup.one, setup.csv(), "--column", "level",
                                         "--holdout", "6",       "--season",  "19"};
  const ProcessResult words = moka_command(call);
  CHECK(words.exit_code == 0);
  const auto rows = cells_of(words.out);
  REQUIRE(rows.size() == 7);
  CHECK(rows[0] == std::vector<std::string>{"step", "q0.1", "q0.5", "q0.9", "actual"});
  CHECK(std::stof(rows[1][4]) == doctest::Approx(10 + std::sin(34.0 / 3)).epsilon(1e-6));
  CHECK(words.err.rfind("mean absolute error  ", 0) == 0);
  CHECK(contains(words.err, "last value"));
  CHECK(contains(words.err, "season of 19"));
  CHECK(contains(words.err, "inside of the band"));

  std::vector<std::string> as_json = call;
  as_json.push_back("--json");
  const Json json = Json::parse(moka_command(as_json).out);
  double model = 0, last = 0, seasonal = 0;
  const auto level = [](int i) { return 10 + std::sin(i / 3.0); };
  for (int i = 0; i < 6; ++i) {
    model += std::fabs(std::stod(rows[static_cast<size_t>(i) + 1][2]) - level(34 + i)) / 6;
    last += std::fabs(level(33) - level(34 + i)) / 6;
    seasonal += std::fabs(level(34 + i - 19) - level(34 + i)) / 6;
  }
  const Json& errors = json.at("holdout")[0];
  CHECK(errors.at("name") == "level");
  CHECK(errors.at("mean_absolute_error").get<double>() == doctest::Approx(model).epsilon(1e-4));
  CHECK(errors.at("last_value").get<double>() == doctest::Approx(last).epsilon(1e-4));
  CHECK(errors.at("seasonal").get<double>() == doctest::Approx(seasonal).epsilon(1e-4));
  CHECK(json.at("history_steps") == 34);

  check_refused(
      moka_command({"forecast", setup.one, setup.csv(), "--column", "level", "--holdout", "40"}), 2,
      setup.csv() +
          ": --holdout 40: the series has 40 steps, so nothing would be "
          "left to read");
  check_refused(moka_command({"forecast", setup.one, setup.csv(), "--column", "level", "--holdout",
                              "6", "--season", "35"}),
                2, setup.csv() + ": --season 35: only 34 steps are left before the holdout");
}

TEST_CASE("cli forecast: pictures") {
  const Setup setup;
  const std::string svg = setup.folder / "p.svg";
  const ProcessResult drawn = moka_command(
      {"forecast", setup.one, setup.csv(), "--column", "level", "--plot", svg, "--show"});
  CHECK(drawn.exit_code == 0);
  CHECK(cells_of(drawn.out).size() == 4);
  CHECK(contains(drawn.err, "^ forecast"));
  const std::string text = read_file(svg);
  CHECK(text.rfind("<?xml", 0) == 0);
  CHECK(contains(text, "level, 3 steps forecast by task test</title>"));
  CHECK(text.substr(text.size() - 7) == "</svg>\n");
  check_refused(
      moka_command({"forecast", setup.one, setup.csv(), "--column", "level", "--plot", svg}), 2,
      "--plot: '" + svg + "' exists; --force replaces it");
  CHECK(moka_command(
            {"forecast", setup.one, setup.csv(), "--column", "level", "--plot", svg, "--force"})
            .exit_code == 0);
  // A plot that cannot be written comes before any output.
  const ProcessResult nowhere = moka_command({"forecast", setup.one, setup.csv(), "--column",
                                              "level", "--plot", setup.folder / "no/p.svg"});
  CHECK(nowhere.exit_code == 1);
  CHECK(nowhere.out == "");
  CHECK(contains(nowhere.err, "no/p.svg"));

  ProcessOptions utf8;
  utf8.environment = {{"LC_ALL", "C.UTF-8"}};
  const ProcessResult braille =
      moka_command({"forecast", setup.one, setup.csv(), "--column", "level", "--show"}, utf8);
  CHECK(contains(braille.err, "\xe2\xa0"));
  ProcessOptions plain;
  plain.environment = {{"LC_ALL", "C"}};
  const ProcessResult ascii =
      moka_command({"forecast", setup.one, setup.csv(), "--column", "level", "--show"}, plain);
  CHECK(std::all_of(ascii.err.begin(), ascii.err.end(),
                    [](char c) { return static_cast<unsigned char>(c) < 0x80; }));
}

TEST_CASE("cli forecast: a history beyond the model's limit is cut, and it says so") {
  const TemporaryFolder folder;
  TaskModelOptions options;
  options.position_limit = 16;
  const TestModel model = forecast_model(1, 2, {}, options);
  write_task_model(folder / "m.moka", model);
  std::string text;
  for (int i = 0; i < 40; ++i) text += std::to_string(i % 7) + "\n";
  write_file(folder / "s.csv", text);
  const std::string m = folder / "m.moka", s = folder / "s.csv";
  const ProcessResult cut = moka_command({"forecast", m, s, "--horizon", "4"});
  CHECK(cut.exit_code == 0);
  CHECK(cut.err ==
        "moka forecast: note: the last 14 of 40 steps are read, the most that this "
        "model can\n");
  const ProcessResult last = moka_command({"forecast", m, s, "--horizon", "4", "--last", "14"});
  CHECK(last.err == "");
  CHECK(last.out == cut.out);
  const ProcessResult fewer = moka_command({"forecast", m, s, "--horizon", "4", "--last", "3"});
  CHECK(fewer.exit_code == 0);
  CHECK(fewer.out != cut.out);
  check_refused(moka_command({"forecast", m, s, "--horizon", "100"}), 2,
                "the horizon is too long: the model reads 16 steps and tells 2 at once, so it "
                "goes on for 16 at most");
}

}  // namespace moka::test
