// Pictures of forecasts: whole XML, round ticks, characters of a terminal.
#include <cmath>
#include <string>
#include <vector>

#include "doctest/doctest.h"
#include "platforms/cli/plot.h"

namespace moka::test {
namespace {

using cli::Plot;
using cli::PlotPanel;

Plot sine_plot() {
  Plot plot;
  plot.title = "t < u & \"v\"\x01\xff";
  plot.middle_name = "median";
  plot.band_name = "10 % to 90 %";
  plot.history_steps = 100;
  PlotPanel panel;
  panel.title = "millivolt";
  for (int i = 0; i < 60; ++i) panel.history.push_back(static_cast<float>(std::sin(i * 0.3)));
  for (int i = 60; i < 84; ++i) {
    const auto value = static_cast<float>(std::sin(i * 0.3));
    panel.middle.push_back(value);
    panel.truth.push_back(value + 0.1f);
  }
  std::vector<float> low = panel.middle, high = panel.middle;
  for (float& value : low) value -= 0.5f;
  for (float& value : high) value += 0.5f;
  panel.bands.emplace_back(low, high);
  plot.panels = {panel, panel};
  return plot;
}

// Tags close in the order in which they opened; no stray markup. Enough of XML for our own.
bool well_formed(const std::string& xml) {
  std::vector<std::string> open;
  for (size_t i = 0; i < xml.size(); ++i) {
    const char c = xml[i];
    if (c == '&') {
      const size_t end = xml.find(';', i);
      const std::string name = xml.substr(i + 1, end - i - 1);
      if (name != "amp" && name != "lt" && name != "gt" && name != "quot") return false;
    }
    if (c == '>') return false;  // outside of a tag
    if (c != '<') continue;
    const size_t end = xml.find('>', i);
    if (end == std::string::npos) return false;
    const std::string tag = xml.substr(i + 1, end - i - 1);
    if (tag.find('<') != std::string::npos) return false;
    const std::string name = tag.substr(0, tag.find_first_of(" /"));
    size_t quotes = 0;
    for (const char t : tag) quotes += t == '"' ? 1 : 0;
    if (quotes % 2 != 0) return false;
    if (tag[0] == '?') {
    } else if (tag[0] == '/') {
      if (open.empty() || open.back() != tag.substr(1)) return false;
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(name);
    }
    i = end;
  }
  return open.empty();
}

}  // namespace

TEST_CASE("plot: the SVG is whole XML that holds title, labels and lines") {
  const std::string svg = svg_of(sine_plot());
  CHECK(well_formed(svg));
  CHECK(svg.rfind("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg ", 0) == 0);
  for (const char* part : {"t &lt; u &amp; &quot;v&quot;?"
                           "?</title>",
                           ">millivolt</text>", ">median<", ">10 % to 90 %<", ">actual<",
                           "<polygon ", "<polyline ", ">step<"}) {
    CHECK_MESSAGE(svg.find(part) != std::string::npos, part);
  }
  CHECK(svg.find("nan") == std::string::npos);
  CHECK(svg.find("inf") == std::string::npos);
}

TEST_CASE("plot: a single step, equal values, nothing before") {
  Plot plot;
  plot.panels.resize(1);
  plot.panels[0].middle = {5.0f};
  for (const bool history : {false, true}) {
    if (history) plot.panels[0].history = {5.0f};
    plot.history_steps = history ? 1 : 0;
    const std::string svg = svg_of(plot);
    CHECK(well_formed(svg));
    CHECK(svg.find("nan") == std::string::npos);
    CHECK(!terminal_plot(plot, 40, 6, true).empty());
    CHECK(!terminal_plot(plot, 1, 1, false).empty());
  }
}

TEST_CASE("plot: characters fit the width, and the forecast begins at its mark") {
  for (const bool unicode : {false, true}) {
    const std::string text = terminal_plot(sine_plot(), 70, 10, unicode);
    size_t lines = 0, columns = 0;
    for (const char c : text) {
      if (c == '\n') {
        CHECK(columns <= 70);
        columns = 0;
        ++lines;
      } else if ((static_cast<unsigned char>(c) & 0xc0) != 0x80) {
        ++columns;
      }
    }
    CHECK(lines == 1 + 2 * (1 + 10 + 1));  // title; per panel a name, the lines, the mark
    CHECK(text.find("^ forecast") != std::string::npos);
  }
  const std::string ascii = terminal_plot(sine_plot(), 70, 10, false);
  for (const char mark : {'*', 'o', 'x', '.'}) CHECK(ascii.find(mark) != std::string::npos);
}

TEST_CASE("plot: ticks are round and inside") {
  CHECK(cli::round_ticks(0.0, 1.0, 5) ==
        std::vector<double>{0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0});
  CHECK(cli::round_ticks(-3.0, 17.0, 4) == std::vector<double>{0.0, 5.0, 10.0, 15.0});
  CHECK(cli::tick_text(0.6000000000000001, 0.2) == "0.6");
  CHECK(cli::tick_text(12.0, 5.0) == "12");
  CHECK(cli::tick_text(2.5e9, 1e9) == "2.5e+09");
}

}  // namespace moka::test
