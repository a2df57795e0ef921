// `moka forecast`: how a series goes on.
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>

#include "platforms/cli/csv.h"
#include "platforms/cli/forecast_report.h"
#include "platforms/cli/input.h"
#include "platforms/cli/interrupt.h"
#include "platforms/cli/task.h"
#include "platforms/cli/terminal.h"
#include "runtime/atomic_file.h"
#include "runtime/model_spec.h"

namespace moka::cli {
namespace {

constexpr uint64_t kDefaultHorizon = 24;  // where the model tells one step at a time
constexpr uint64_t kMaxHorizon = 100000;
constexpr size_t kPlotHeight = 12;  // lines in the terminal

const char kDescription[] =
    "Reads a CSV file with a row per step, oldest first, with or without a header, and writes the "
    "steps that follow as CSV on stdout: step, then a column for each quantile that the model "
    "tells. Numbers are in the units of the data; the model holds its own scaling. A missing "
    "value is an error that names its line.\n\n"
    "A model that tells fewer steps than the horizon goes on from its own medians; the band is "
    "then too narrow.\n\n"
    "With --holdout N, the last N rows are kept back, forecast, and compared: mean absolute error, "
    "beside that of repeating the last value and, with --season, the last season. With "
    "--windows K, K stretches of N rows before the end are forecast one after the other, each from "
    "all that comes before it, and the errors are those of all together; stdout has the last "
    "one.\n\n"
    "With --jsonl, SERIES or stdin has one JSON object per line: {\"values\": [...]}, with "
    "\"horizon\" and \"id\" if you like. Each gets one line of answer at once, in order: "
    "{\"columns\": [...], \"values\": [[...], ...]}, with the \"id\"; or {\"error\": ...}, and the "
    "next line goes on.";

const char kExamples[] =
    "  moka forecast weather.moka hourly.csv --column temperature --horizon 48\n"
    "  moka forecast weather.moka hourly.csv --plot next.svg > next.csv\n"
    "  moka forecast weather.moka hourly.csv --holdout 48 --season 24 --show\n"
    "  moka forecast weather.moka --jsonl < series.jsonl > answers.jsonl\n";

struct ForecastOptions {
  std::string model, plot;
  std::vector<std::string> files;
  std::vector<std::string> columns;
  std::optional<uint64_t> horizon;
  uint64_t last = 0, holdout = 0, season = 0, windows = 1;
  bool show = false, json = false, jsonl = false, force = false;
  int threads = 0;
};

class Forecaster {
 public:
  Forecaster(const ForecastOptions& options, const Model& model)
      : options_(options),
        model_(model),
        head_(std::get<RegressionHead>(model.spec().head)),
        features_(model.info().features) {}

  Outcome run_file(const std::string& path);
  Result<Json> answer(const Json& object) const;

 private:
  uint64_t default_horizon() const { return head_.steps > 1 ? head_.steps : kDefaultHorizon; }
  bool tells_what_it_reads() const { return head_.outputs == features_; }
  std::vector<std::string> output_names(const std::vector<std::string>& columns) const;
  Result<Forecast> forecast_from(Span<const float> history, uint64_t horizon,
                                 const ReadOptions& read) const;
  uint64_t own_steps(uint64_t horizon) const;
  Status check_horizon(uint64_t horizon) const;
  size_t read_steps(size_t steps, uint64_t horizon) const;
  Status check_series(size_t steps, const std::string& name) const;
  Result<ForecastReport> report_for(const Series& series, size_t known, uint64_t horizon) const;
  Outcome write(const ForecastReport& report, const std::vector<HoldoutErrors>& errors,
                const std::string& title);
  void add_errors(const ForecastReport& report, size_t windows,
                  std::vector<HoldoutErrors>* mean) const;
  std::string holdout_words(const std::vector<HoldoutErrors>& errors,
                            const ForecastReport& report) const;

  const ForecastOptions& options_;
  const Model& model_;
  const RegressionHead& head_;
  size_t features_;
};

std::vector<std::string> Forecaster::output_names(const std::vector<std::string>& columns) const {
  if (tells_what_it_reads()) return columns;
  std::vector<std::string> names;
  for (uint32_t i = 0; i < head_.outputs; i++) names.push_back("output " + std::to_string(i + 1));
  return names;
}

// Steps of its own that the model reads to go on for `horizon` ones.
uint64_t Forecaster::own_steps(uint64_t horizon) const {
  return (horizon - 1) / head_.steps * head_.steps;
}

Status Forecaster::check_horizon(uint64_t horizon) const {
  const uint64_t limit = model_.info().position_limit;
  if (limit == 0 || own_steps(horizon) < limit) return Status();
  const uint64_t most = (limit - 1) / head_.steps * head_.steps + head_.steps;
  return Status(StatusCode::kOutOfRange,
                "the horizon is too long: the model reads " + with_commas(limit) +
                    " steps and tells " + with_commas(head_.steps) +
                    " at once, so it goes on for " + with_commas(most) + " at most");
}

// The last steps of a history that the model can read, with room for what it goes on from.
size_t Forecaster::read_steps(size_t steps, uint64_t horizon) const {
  size_t count = steps;
  if (options_.last != 0) count = std::min(count, static_cast<size_t>(options_.last));
  const uint64_t limit = model_.info().position_limit;
  if (limit == 0) return count;
  return std::min(count, static_cast<size_t>(limit - own_steps(horizon)));
}

Result<Forecast> Forecaster::forecast_from(Span<const float> history, uint64_t horizon,
                                           const ReadOptions& read) const {
  MOKA_RETURN_IF_ERROR(check_horizon(horizon));
  const size_t steps = history.size() / features_;
  const size_t count = read_steps(steps, horizon);
  return forecast(model_, history.subspan((steps - count) * features_, count * features_), horizon,
                  read);
}

Status Forecaster::check_series(size_t steps, const std::string& name) const {
  if (options_.holdout == 0) return Status();
  const auto invalid = [&](const std::string& words) {
    return Status(StatusCode::kInvalidArgument, name + ": " + words);
  };
  if (!tells_what_it_reads()) {
    return invalid("--holdout: this model reads " + std::to_string(features_) +
                   " numbers per step and tells " + std::to_string(head_.outputs) +
                   ", so they cannot be compared");
  }
  const std::string asked =
      "--holdout " + std::to_string(options_.holdout) +
      (options_.windows == 1 ? "" : " --windows " + std::to_string(options_.windows));
  if (options_.windows > (steps - 1) / options_.holdout) {
    return invalid(asked + ": the series has " + with_commas(steps) +
                   " steps, so nothing would be left to read");
  }
  const uint64_t left = steps - options_.holdout * options_.windows;
  if (options_.season > left) {
    return invalid("--season " + std::to_string(options_.season) + ": only " + with_commas(left) +
                   (left == 1 ? " step is" : " steps are") + " left before the holdout");
  }
  return Status();
}

Outcome Forecaster::run_file(const std::string& path) {
  const std::string name = path == "-" ? "standard input" : path;
  MOKA_ASSIGN_OR_RETURN(const std::string text, read_text(path));
  Result<Series> parsed = parse_series(text, options_.columns, features_, name);
  if (!parsed.ok()) {
    const bool choice = parsed.status().message().find("--column") != std::string::npos;
    return choice ? Outcome::of_arguments(parsed.status()) : Outcome(parsed.status());
  }
  const Series& series = parsed.value();
  const Status checked = check_series(series.steps, name);
  if (!checked.ok()) return Outcome::of_arguments(checked);
  const auto holdout = static_cast<size_t>(options_.holdout);
  const uint64_t horizon = holdout != 0 ? holdout : options_.horizon.value_or(default_horizon());
  const Status possible = check_horizon(horizon);
  if (!possible.ok()) return Outcome::of_arguments(possible);
  const size_t known = series.steps - holdout;
  const size_t read = read_steps(known, horizon);
  if (read < known && options_.last == 0) {
    say("moka forecast: note: the last " + with_commas(read) + " of " + with_commas(known) +
        " steps are read, the most that this model can");
  }
  std::vector<HoldoutErrors> errors;
  const auto windows = static_cast<size_t>(options_.windows);
  for (size_t window = 0; window + 1 < windows; window++) {
    Result<ForecastReport> earlier =
        report_for(series, series.steps - holdout * (windows - window), horizon);
    if (!earlier.ok()) return Outcome::of_arguments(earlier.status());
    add_errors(earlier.value(), windows, &errors);
  }
  Result<ForecastReport> report = report_for(series, known, horizon);
  if (!report.ok()) return Outcome::of_arguments(report.status());
  if (holdout != 0) add_errors(report.value(), windows, &errors);
  const std::string model_name = model_.info().name.empty() ? options_.model : model_.info().name;
  return write(report.value(), errors,
               (series.columns.size() == 1 ? series.columns[0] + ", " : "") + with_commas(horizon) +
                   (horizon == 1 ? " step" : " steps") + " forecast by " + model_name);
}

// The forecast after the first `known` steps of a series, beside what came where that is known.
Result<ForecastReport> Forecaster::report_for(const Series& series, size_t known,
                                              uint64_t horizon) const {
  const Span<const float> values(series.values);
  const Span<const float> history = values.subspan(0, known * features_);
  ForecastReport report;
  report.names = output_names(series.columns);
  report.history_steps = known;
  if (tells_what_it_reads()) report.history.assign(history.begin(), history.end());
  if (options_.holdout != 0) {
    const Span<const float> after =
        values.subspan(history.size(), static_cast<size_t>(horizon) * features_);
    report.truth.assign(after.begin(), after.end());
  }
  const size_t steps = read_steps(known, horizon);
  Progress bar("reading", steps, "steps");
  ReadOptions read;
  read.cancel = interrupt_flag();
  read.progress = [&](double share) {
    bar.update(static_cast<uint64_t>(share * static_cast<double>(steps)));
  };
  MOKA_ASSIGN_OR_RETURN(report.forecast, forecast_from(history, horizon, read));
  return report;
}

// Adds the errors of one of `windows` forecasts to their mean.
void Forecaster::add_errors(const ForecastReport& report, size_t windows,
                            std::vector<HoldoutErrors>* mean) const {
  const std::vector<HoldoutErrors> errors =
      holdout_errors(report, static_cast<size_t>(options_.season));
  const auto share = 1.0 / static_cast<double>(windows);
  mean->resize(errors.size());
  for (size_t i = 0; i < errors.size(); i++) {
    HoldoutErrors& sum = (*mean)[i];
    sum.model += errors[i].model * share;
    sum.last_value += errors[i].last_value * share;
    if (errors[i].seasonal) sum.seasonal = sum.seasonal.value_or(0) + *errors[i].seasonal * share;
    if (errors[i].coverage) sum.coverage = sum.coverage.value_or(0) + *errors[i].coverage * share;
  }
}

std::string Forecaster::holdout_words(const std::vector<HoldoutErrors>& errors,
                                      const ForecastReport& report) const {
  std::vector<Table::Column> columns = {
      {"mean absolute error"}, {"model", true}, {"last value", true}};
  if (options_.season != 0) {
    columns.push_back({"season of " + std::to_string(options_.season), true});
  }
  if (errors[0].coverage) columns.push_back({"inside of the band", true});
  Table table(columns);
  for (size_t i = 0; i < errors.size(); i++) {
    std::vector<std::string> cells = {report.names[i], short_number(errors[i].model),
                                      short_number(errors[i].last_value)};
    if (errors[i].seasonal) cells.push_back(short_number(*errors[i].seasonal));
    if (errors[i].coverage) cells.push_back(short_number(*errors[i].coverage * 100) + " %");
    table.add(cells);
  }
  std::string text = table.to_string();
  text.pop_back();
  return text;
}

Outcome Forecaster::write(const ForecastReport& report, const std::vector<HoldoutErrors>& errors,
                          const std::string& title) {
  const bool picture = !options_.plot.empty() || options_.show || is_terminal(STDOUT_FILENO);
  const Plot plot = picture ? report_plot(report, title) : Plot();
  if (!options_.plot
           .empty()) {  // first: a plot that cannot be written is an error before any output
    const std::string svg = svg_of(plot);
    const Status status =
        write_file(options_.plot, options_.force ? Existing::kReplace : Existing::kRefuse,
                   {reinterpret_cast<const uint8_t*>(svg.data()), svg.size()});
    if (!status.ok()) return Outcome::failure(status);
  }
  if (options_.json) {
    Json json = report_json(report);
    json["history_steps"] = report.history_steps;
    for (size_t i = 0; i < errors.size(); i++) {
      Json one = {{"name", report.names[i]},
                  {"mean_absolute_error", errors[i].model},
                  {"last_value", errors[i].last_value}};
      if (errors[i].seasonal) one["seasonal"] = *errors[i].seasonal;
      if (errors[i].coverage) one["inside_of_band"] = *errors[i].coverage;
      json["holdout"].push_back(std::move(one));
    }
    write_output(json_line(json));
  } else {
    write_output(report_csv(report));
    if (!errors.empty()) say(holdout_words(errors, report));
  }
  if (options_.show || (is_terminal(STDOUT_FILENO) && !options_.json)) {
    const size_t width = std::min<size_t>(terminal_width(STDERR_FILENO), 120);
    say(terminal_plot(plot, width, kPlotHeight, locale_is_utf8()));
  }
  return {};
}

Result<Json> Forecaster::answer(const Json& object) const {
  if (!object.contains("values")) {
    return Status(StatusCode::kInvalidArgument, "the object has no \"values\"");
  }
  uint64_t horizon = options_.horizon.value_or(default_horizon());
  if (object.contains("horizon")) {
    const Json& value = object.at("horizon");
    horizon = value.is_number_unsigned() ? value.get<uint64_t>() : 0;
    if (horizon == 0 || horizon > kMaxHorizon) {
      return Status(StatusCode::kInvalidArgument, "\"horizon\": " + value.dump().substr(0, 40) +
                                                      " is not a whole number from 1 to " +
                                                      std::to_string(kMaxHorizon));
    }
  }
  const SampleReader reader(model_, false);
  MOKA_ASSIGN_OR_RETURN(const std::vector<float> values,
                        reader.numbers_of(object.at("values"), "\"values\""));
  ReadOptions read;
  read.cancel = interrupt_flag();
  ForecastReport report;
  MOKA_ASSIGN_OR_RETURN(report.forecast, forecast_from(values, horizon, read));
  std::vector<std::string> columns;
  for (size_t i = 0; i < features_; i++) columns.push_back("column " + std::to_string(i + 1));
  report.names = output_names(columns);
  return report_json(report);
}

Outcome check_options(const ForecastOptions& o) {
  if (o.jsonl) {
    if (o.holdout != 0 || !o.plot.empty() || o.show || !o.columns.empty()) {
      return Outcome::usage(
          "--jsonl answers in JSON only, without --column, --holdout, --plot and --show");
    }
    return {};
  }
  if (o.files.empty() && is_terminal(STDIN_FILENO)) {
    return Outcome::usage("nothing to read: give a SERIES, or pipe it in");
  }
  if (o.season != 0 && o.holdout == 0) {
    return Outcome::usage("--season is what --holdout compares with; give both");
  }
  if (o.windows != 1 && o.holdout == 0) {
    return Outcome::usage("--windows is how often --holdout is done; give both");
  }
  if (!o.plot.empty() && !o.force && ::access(o.plot.c_str(), F_OK) == 0) {
    return Outcome::usage("--plot: '" + o.plot + "' exists; --force replaces it");
  }
  return {};
}

Outcome forecast_command(const ForecastOptions& options) {
  Outcome outcome = check_options(options);
  if (outcome.exit_code != kExitOk) return outcome;
  OpenedModel opened = open_model(options.model, options.threads);
  if (!opened.model) return opened.outcome;
  const Model& model = *opened.model;
  outcome = check_head(model, options.model, "forecast", {OutputKind::kRegression});
  if (outcome.exit_code != kExitOk) return outcome;
  if (model.info().input != InputKind::kValues || model.info().reads_memory) {
    return {kExitUnsupported, options.model +
                                  ": `moka forecast` needs a model that reads one series of "
                                  "numbers; `moka logits` runs this one"};
  }
  Forecaster forecaster(options, model);
  if (options.jsonl) {
    return run_json_lines(options.files,
                          [&](const Json& object) { return forecaster.answer(object); });
  }
  return forecaster.run_file(options.files.empty() ? "-" : options.files[0]);
}

}  // namespace

Verb add_forecast(CLI::App& moka) {
  auto options = std::make_shared<ForecastOptions>();
  ForecastOptions* o = options.get();
  CLI::App* app = add_verb(moka, "forecast", "Tell how a series of numbers goes on", kDescription,
                           kExamples, kJsonLinesExit);
  add_model_argument(app, &o->model);
  app->add_option("SERIES", o->files, "The series, a CSV file; - is stdin")
      ->type_name("")
      ->expected(0, 1);
  app->add_option(
         "--column", o->columns,
         "Column to read, by name or number from 1; repeat it for models that read several "
         "(default: the numeric ones)")
      ->type_name("NAME")
      ->expected(1)
      ->allow_extra_args(false)  // or "[a,b]" would be taken for a list
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  CLI::Option* horizon = add_whole(
      app, "--horizon", [o](uint64_t n) { o->horizon = n; },
      "Steps to forecast (default: as many as the model tells at once, or 24)", 1, kMaxHorizon);
  add_whole(
      app, "--last", [o](uint64_t n) { o->last = n; }, "Read only the last N steps", 1,
      uint64_t{1} << 40);
  add_whole(
      app, "--holdout", [o](uint64_t n) { o->holdout = n; },
      "Keep the last N steps back, forecast them and compare", 1, kMaxHorizon)
      ->excludes(horizon);
  add_whole(
      app, "--season", [o](uint64_t n) { o->season = n; },
      "With --holdout: compare with the values N steps before too", 1, uint64_t{1} << 40);
  add_whole(
      app, "--windows", [o](uint64_t n) { o->windows = n; },
      "With --holdout: forecast so many stretches before the end (default: 1)", 1, 1000000);
  app->add_option("--plot", o->plot, "Draw history and forecast as an SVG file")->type_name("FILE");
  app->add_flag("--show", o->show, "Draw them on stderr too (default: when stdout is a terminal)");
  app->add_flag("--force", o->force, "Replace an existing plot");
  app->add_flag("--jsonl", o->jsonl, "One JSON object per line, in and out");
  add_threads_option(app, &o->threads);
  add_json_flag(app, &o->json, "One JSON object on stdout");
  return {app, [options] { return forecast_command(*options); }};
}

}  // namespace moka::cli
