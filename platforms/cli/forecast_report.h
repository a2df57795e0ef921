// What `moka forecast` shows: a table as CSV or JSON, errors against what came, a picture.
#ifndef MOKA_PLATFORMS_CLI_FORECAST_REPORT_H_
#define MOKA_PLATFORMS_CLI_FORECAST_REPORT_H_

#include <optional>
#include <string>
#include <vector>

#include "moka/tasks.h"
#include "platforms/cli/json.h"
#include "platforms/cli/plot.h"

namespace moka::cli {

// A forecast beside the data. Matrices are [steps][outputs]; `history` and `truth` are there only
// when the model reads what it tells.
struct ForecastReport {
  std::vector<std::string> names;  // of the outputs
  Forecast forecast;
  std::vector<float> history;
  std::vector<float> truth;    // kept back with --holdout
  uint64_t history_steps = 0;  // rows of the series before the forecast
};

// Mean absolute errors of one output over the steps that were kept back.
struct HoldoutErrors {
  double model = 0;                // of the median
  double last_value = 0;           // of saying the last value again
  std::optional<double> seasonal;  // of saying the values of a season ago
  std::optional<double> coverage;  // share of the values inside of the widest band
};

// {"q0.1", "q0.5", ...} for one output, {"name:q0.1", ...} for several; "mean" without quantiles.
// With the truth, "actual" comes last for each output.
std::vector<std::string> report_columns(const ForecastReport& report);
// Rows of those columns, the first column being the step, from 1.
std::string report_csv(const ForecastReport& report);
// {"columns": [...], "values": [[...], ...]}
Json report_json(const ForecastReport& report);

// `season` 0: none. `truth` and `history` are there.
std::vector<HoldoutErrors> holdout_errors(const ForecastReport& report, size_t season);

// The last part of the history and the forecast.
Plot report_plot(const ForecastReport& report, const std::string& title);

}  // namespace moka::cli

#endif  // MOKA_PLATFORMS_CLI_FORECAST_REPORT_H_
