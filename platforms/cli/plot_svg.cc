// The forecast as an SVG document.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "platforms/cli/plot.h"

namespace moka::cli {
namespace {

// In pixels. A panel is what its axes enclose.
constexpr double kWidth = 860, kLeft = 78, kRight = 24;
constexpr double kTop = 74, kPanel = 250, kBetween = 66, kBottom = 14;
constexpr double kPlotWidth = kWidth - kLeft - kRight;

const char kHistory[] = "#374151";
const char kMiddle[] = "#1d4ed8";
const char kBand[] = "#93c5fd";
const char kTruth[] = "#b45309";

std::string number(double value) {
  char text[48];
  std::snprintf(text, sizeof(text), "%.2f", value);
  return text;
}

// Length of the UTF-8 sequence at the start of `text`, 0 for bytes that are none.
size_t utf8_length(const std::string& text, size_t at) {
  const auto byte = [&](size_t i) {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0u;
  };
  const auto follows = [&](size_t i) { return (byte(i) & 0xc0u) == 0x80u; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return follows(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    const bool bad = (first == 0xe0 && byte(1) < 0xa0) || (first == 0xed && byte(1) > 0x9f) ||
                     (first == 0xef && byte(1) == 0xbf && byte(2) > 0xbd);  // U+FFFE, U+FFFF
    return !bad && follows(1) && follows(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    const bool bad = (first == 0xf0 && byte(1) < 0x90) || (first == 0xf4 && byte(1) > 0x8f);
    return !bad && follows(1) && follows(2) && follows(3) ? 4 : 0;
  }
  return 0;
}

// Text as XML takes it: no markup, no control characters, whole UTF-8.
std::string xml(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const size_t length = utf8_length(text, i);
    const char c = text[i];
    if (length == 0 || (length == 1 && (static_cast<unsigned char>(c) < 0x20 || c == 0x7f))) {
      out += '?';
    } else if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else {
      out.append(text, i, length);
    }
    i += std::max<size_t>(length, 1);
  }
  return out;
}

std::string text_element(double x, double y, const char* anchor, const std::string& more,
                         const std::string& words) {
  return "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" text-anchor=\"" + anchor + "\"" +
         more + ">" + xml(words) + "</text>\n";
}

std::string line_element(double x0, double y0, double x1, double y1, const std::string& more) {
  return "<line x1=\"" + number(x0) + "\" y1=\"" + number(y0) + "\" x2=\"" + number(x1) +
         "\" y2=\"" + number(y1) + "\" " + more + "/>\n";
}

class PanelPainter {
 public:
  PanelPainter(const Plot& plot, const PlotPanel& panel, double top)
      : plot_(plot), panel_(panel), top_(top), range_(panel_range(panel)) {
    first_ = panel.history.size();
    steps_ = first_ + panel.middle.size();
  }

  std::string paint() const {
    std::string out = axes();
    for (size_t i = 0; i < panel_.bands.size(); i++) out += band(i);
    if (first_ > 0) {
      const double x = (this->x(first_ - 1) + this->x(first_)) / 2;
      out += line_element(x, top_, x, top_ + kPanel, "stroke=\"#9ca3af\" stroke-dasharray=\"3 3\"");
    }
    out += line(panel_.history, 0, kHistory, "");
    out += line(panel_.truth, first_, kTruth, " stroke-dasharray=\"5 3\"");
    return out + line(panel_.middle, first_, kMiddle, "");
  }

 private:
  double x(size_t step) const {
    if (steps_ < 2) return kLeft + kPlotWidth / 2;
    return kLeft + kPlotWidth * static_cast<double>(step) / static_cast<double>(steps_ - 1);
  }
  double y(double value) const {
    return top_ + kPanel * (range_.second - value) / (range_.second - range_.first);
  }

  std::string points(const std::vector<float>& values, size_t first) const {
    std::string out;
    for (size_t i = 0; i < values.size(); i++) {
      if (!std::isfinite(values[i])) continue;
      out += (out.empty() ? "" : " ") + number(x(first + i)) + "," + number(y(values[i]));
    }
    return out;
  }

  std::string line(const std::vector<float>& values, size_t first, const char* color,
                   const std::string& more) const {
    if (values.empty()) return "";
    if (values.size() == 1) {  // a line of one point is not seen
      return "<circle cx=\"" + number(x(first)) + "\" cy=\"" + number(y(values[0])) +
             "\" r=\"3\" fill=\"" + color + "\"/>\n";
    }
    return "<polyline points=\"" + points(values, first) + "\" fill=\"none\" stroke=\"" + color +
           "\" stroke-width=\"1.6\" stroke-linejoin=\"round\"" + more + "/>\n";
  }

  std::string band(size_t index) const {
    const auto& [low, high] = panel_.bands[index];
    std::string outline = points(high, first_);
    for (size_t i = low.size(); i-- > 0;) {
      if (std::isfinite(low[i])) outline += " " + number(x(first_ + i)) + "," + number(y(low[i]));
    }
    return "<polygon points=\"" + outline + "\" fill=\"" + kBand + "\" fill-opacity=\"0.45\"/>\n";
  }

  std::string axes() const {
    std::string out = "<rect x=\"" + number(kLeft) + "\" y=\"" + number(top_) + "\" width=\"" +
                      number(kPlotWidth) + "\" height=\"" + number(kPanel) +
                      "\" fill=\"none\" stroke=\"#d1d5db\"/>\n";
    const std::vector<double> ticks = round_ticks(range_.first, range_.second, 6);
    const double step = ticks.size() > 1 ? ticks[1] - ticks[0] : 1;
    for (const double tick : ticks) {
      out += line_element(kLeft, y(tick), kLeft + kPlotWidth, y(tick), "stroke=\"#e5e7eb\"");
      out += text_element(kLeft - 8, y(tick) + 4, "end", "", tick_text(tick, step));
    }
    const auto begin = static_cast<double>(plot_.history_steps - first_ + 1);
    const double end = begin + static_cast<double>(steps_ - 1);
    if (end > begin) {
      for (const double tick : round_ticks(begin, end, 8)) {
        if (tick != std::floor(tick)) continue;
        const double at = kLeft + kPlotWidth * (tick - begin) / (end - begin);
        out += line_element(at, top_ + kPanel, at, top_ + kPanel + 5, "stroke=\"#6b7280\"");
        out += text_element(at, top_ + kPanel + 19, "middle", "", tick_text(tick, 1));
      }
    }
    out += text_element(kLeft + kPlotWidth / 2, top_ + kPanel + 38, "middle", " fill=\"#4b5563\"",
                        "step");
    return out + text_element(18, top_ + kPanel / 2, "middle",
                              " fill=\"#4b5563\" transform=\"rotate(-90 18 " +
                                  number(top_ + kPanel / 2) + ")\"",
                              panel_.title);
  }

  const Plot& plot_;
  const PlotPanel& panel_;
  double top_;
  std::pair<double, double> range_;
  size_t first_ = 0, steps_ = 0;
};

// What the colours mean, in a row below the title.
std::string legend(const Plot& plot) {
  std::string out;
  double x = kLeft;
  const auto entry = [&](const std::string& mark, const std::string& words) {
    out += mark + text_element(x + 32, 56, "start", " fill=\"#374151\"", words);
    x += 58 + 7.0 * static_cast<double>(words.size());
  };
  const auto stroke = [&](const char* color, const std::string& more) {
    return line_element(x, 52, x + 26, 52,
                        std::string("stroke=\"") + color + "\" stroke-width=\"2\"" + more);
  };
  const bool history = !plot.panels.empty() && !plot.panels[0].history.empty();
  const bool truth = !plot.panels.empty() && !plot.panels[0].truth.empty();
  const bool bands = !plot.panels.empty() && !plot.panels[0].bands.empty();
  if (history) entry(stroke(kHistory, ""), "history");
  entry(stroke(kMiddle, ""), plot.middle_name);
  if (bands) {
    entry("<rect x=\"" + number(x) + "\" y=\"45\" width=\"26\" height=\"14\" fill=\"" + kBand +
              "\" fill-opacity=\"0.6\"/>\n",
          plot.band_name);
  }
  if (truth) entry(stroke(kTruth, " stroke-dasharray=\"5 3\""), "actual");
  return out;
}

}  // namespace

std::string svg_of(const Plot& plot) {
  const auto panels = static_cast<double>(plot.panels.size());
  const double height = kTop + panels * (kPanel + kBetween) + kBottom - 20;
  const std::string size = number(kWidth) + "\" height=\"" + number(height);
  std::string svg =
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" +
      size + "\" viewBox=\"0 0 " + number(kWidth) + " " + number(height) +
      "\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#111827\">\n"
      "<title>" +
      xml(plot.title) +
      "</title>\n"
      "<rect width=\"" +
      size + "\" fill=\"#ffffff\"/>\n";
  svg += text_element(kLeft, 28, "start", " font-size=\"17\" font-weight=\"bold\"", plot.title);
  svg += legend(plot);
  double top = kTop;
  for (const PlotPanel& panel : plot.panels) {
    svg += PanelPainter(plot, panel, top).paint();
    top += kPanel + kBetween;
  }
  return svg + "</svg>\n";
}

}  // namespace moka::cli
