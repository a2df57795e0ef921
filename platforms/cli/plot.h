// A forecast as a picture: an SVG file, or characters for a terminal.
#ifndef MOKA_PLATFORMS_CLI_PLOT_H_
#define MOKA_PLATFORMS_CLI_PLOT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace moka::cli {

// One quantity. All but `history` and `truth` have one number per step of the forecast.
struct PlotPanel {
  std::string title;
  std::vector<float> history;  // what came before; may be empty
  std::vector<float> middle;
  // Widest first: lower and upper edges.
  std::vector<std::pair<std::vector<float>, std::vector<float>>> bands;
  std::vector<float> truth;  // what really came, where it is known; else empty
};

struct Plot {
  std::string title;
  std::string middle_name;     // "median"
  std::string band_name;       // "10 % to 90 %", of the widest band
  uint64_t history_steps = 0;  // of the whole series: the forecast begins at the step after it
  std::vector<PlotPanel> panels;
};

// A whole SVG document that needs nothing else, panels below each other.
std::string svg_of(const Plot& plot);

// Lines of `width` columns, `height` of them for each panel. Dots of Braille characters, or with
// `unicode` false "*" for what came before, "o" for the middle, "." for the band, "x" for the truth.
std::string terminal_plot(const Plot& plot, size_t width, size_t height, bool unicode);

// By the environment (LC_ALL, LC_CTYPE, LANG): the terminal shows UTF-8.
bool locale_is_utf8();

// Round numbers in [low, high], at most `count` + 1; low < high.
std::vector<double> round_ticks(double low, double high, size_t count);
std::string tick_text(double value, double step);

// The range of all numbers of a panel, a little wider; never empty.
std::pair<double, double> panel_range(const PlotPanel& panel);

}  // namespace moka::cli

#endif  // MOKA_PLATFORMS_CLI_PLOT_H_
