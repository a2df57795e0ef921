#include "platforms/cli/forecast_report.h"

#include <algorithm>
#include <cmath>

#include "platforms/cli/terminal.h"

namespace moka::cli {
namespace {

constexpr size_t kMaxHistoryShown = 2000;
constexpr size_t kMinHistoryShown = 60;
constexpr size_t kMaxPanels = 8;

std::string level_text(float level) { return float_text(level); }

std::string percent(float level) { return float_text(level * 100) + " %"; }

// A name as a cell of CSV.
std::string csv_cell(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? "\"\"" : std::string(1, c);
  return out + "\"";
}

size_t levels_of(const Forecast& forecast) {
  return std::max<size_t>(forecast.quantiles.size(), 1);
}

float value_at(const Forecast& forecast, size_t step, size_t output, size_t level) {
  return forecast.values[(step * forecast.outputs + output) * levels_of(forecast) + level];
}

std::vector<float> column_of(const Forecast& forecast, size_t output, size_t level) {
  std::vector<float> column;
  for (size_t i = 0; i < forecast.steps; i++) {
    column.push_back(value_at(forecast, i, output, level));
  }
  return column;
}

}  // namespace

std::vector<std::string> report_columns(const ForecastReport& report) {
  const Forecast& forecast = report.forecast;
  std::vector<std::string> columns;
  for (size_t output = 0; output < forecast.outputs; output++) {
    const std::string prefix = forecast.outputs == 1 ? "" : report.names[output] + ":";
    if (forecast.quantiles.empty()) columns.push_back(prefix + "mean");
    for (const float level : forecast.quantiles)
      columns.push_back(prefix + "q" + level_text(level));
    if (!report.truth.empty()) columns.push_back(prefix + "actual");
  }
  return columns;
}

std::string report_csv(const ForecastReport& report) {
  const Forecast& forecast = report.forecast;
  std::string text = "step";
  for (const std::string& column : report_columns(report)) text += "," + csv_cell(column);
  text += "\n";
  for (size_t step = 0; step < forecast.steps; step++) {
    text += std::to_string(step + 1);
    for (size_t output = 0; output < forecast.outputs; output++) {
      for (size_t level = 0; level < levels_of(forecast); level++) {
        text += "," + float_text(value_at(forecast, step, output, level));
      }
      if (!report.truth.empty()) {
        text += "," + float_text(report.truth[step * forecast.outputs + output]);
      }
    }
    text += "\n";
  }
  return text;
}

Json report_json(const ForecastReport& report) {
  const Forecast& forecast = report.forecast;
  Json json = {{"columns", report_columns(report)}};
  json["values"] = Json::array();
  for (size_t step = 0; step < forecast.steps; step++) {
    Json row = Json::array();
    for (size_t output = 0; output < forecast.outputs; output++) {
      for (size_t level = 0; level < levels_of(forecast); level++) {
        row.push_back(float_json(value_at(forecast, step, output, level)));
      }
      if (!report.truth.empty()) {
        row.push_back(float_json(report.truth[step * forecast.outputs + output]));
      }
    }
    json["values"].push_back(std::move(row));
  }
  return json;
}

std::vector<HoldoutErrors> holdout_errors(const ForecastReport& report, size_t season) {
  const Forecast& forecast = report.forecast;
  const size_t outputs = forecast.outputs;
  const size_t steps = forecast.steps;
  const size_t before = report.history.size() / outputs;
  const size_t median = forecast.middle;
  std::vector<HoldoutErrors> all;
  for (size_t output = 0; output < outputs; output++) {
    HoldoutErrors errors;
    double model = 0, last = 0, seasonal = 0;
    size_t inside = 0;
    for (size_t step = 0; step < steps; step++) {
      const double truth = report.truth[step * outputs + output];
      model += std::fabs(value_at(forecast, step, output, median) - truth);
      last += std::fabs(report.history[(before - 1) * outputs + output] - truth);
      if (season != 0) {
        const size_t from = before - season + step % season;  // the last season, again and again
        seasonal += std::fabs(report.history[from * outputs + output] - truth);
      }
      if (forecast.quantiles.size() > 1) {
        inside += value_at(forecast, step, output, 0) <= truth &&
                          truth <= value_at(forecast, step, output, levels_of(forecast) - 1)
                      ? 1
                      : 0;
      }
    }
    const auto count = static_cast<double>(steps);
    errors.model = model / count;
    errors.last_value = last / count;
    if (season != 0) errors.seasonal = seasonal / count;
    if (forecast.quantiles.size() > 1) errors.coverage = static_cast<double>(inside) / count;
    all.push_back(errors);
  }
  return all;
}

Plot report_plot(const ForecastReport& report, const std::string& title) {
  const Forecast& forecast = report.forecast;
  const size_t outputs = forecast.outputs;
  const size_t levels = forecast.quantiles.size();
  Plot plot;
  plot.title = title;
  plot.history_steps = report.history_steps;
  plot.middle_name = levels == 0                                   ? "mean"
                     : forecast.quantiles[forecast.middle] == 0.5f ? "median"
                                                                   : "middle quantile";
  if (levels > 1) {
    plot.band_name =
        percent(forecast.quantiles.front()) + " to " + percent(forecast.quantiles.back());
  }
  const size_t known = report.history.size() / outputs;
  const size_t shown =
      std::min({known, kMaxHistoryShown, std::max(kMinHistoryShown, 3 * forecast.steps)});
  for (size_t output = 0; output < std::min(outputs, kMaxPanels); output++) {
    PlotPanel panel;
    panel.title = report.names[output];
    for (size_t i = known - shown; i < known; i++) {
      panel.history.push_back(report.history[i * outputs + output]);
    }
    for (size_t i = 0; i * outputs < report.truth.size(); i++) {
      panel.truth.push_back(report.truth[i * outputs + output]);
    }
    panel.middle = column_of(forecast, output, forecast.middle);
    for (size_t low = 0; low + 1 < levels - low; low++) {
      panel.bands.emplace_back(column_of(forecast, output, low),
                               column_of(forecast, output, levels - 1 - low));
    }
    plot.panels.push_back(std::move(panel));
  }
  return plot;
}

}  // namespace moka::cli
