// What both kinds of picture need, and the one of characters.
#include "platforms/cli/plot.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>

namespace moka::cli {
namespace {

enum Layer { kBand = 1, kHistory = 2, kTruth = 4, kMiddle = 8 };

// Dots of what is drawn, by layer. (0, 0) is at the top left.
class Canvas {
 public:
  Canvas(size_t width, size_t height)
      : width_(width), height_(height), dots_(width * height, uint8_t{0}) {}

  size_t width() const { return width_; }
  size_t height() const { return height_; }
  int at(size_t x, size_t y) const { return dots_[y * width_ + x]; }
  void dot(long x, long y, Layer layer) {
    if (x < 0 || y < 0 || x >= static_cast<long>(width_) || y >= static_cast<long>(height_)) return;
    uint8_t& dot = dots_[static_cast<size_t>(y) * width_ + static_cast<size_t>(x)];
    dot = static_cast<uint8_t>(dot | layer);
  }
  void line(long x0, long y0, long x1, long y1, Layer layer) {
    const long steps = std::max({std::labs(x1 - x0), std::labs(y1 - y0), 1L});
    for (long i = 0; i <= steps; i++) {
      dot(x0 + std::lround(static_cast<double>((x1 - x0) * i) / static_cast<double>(steps)),
          y0 + std::lround(static_cast<double>((y1 - y0) * i) / static_cast<double>(steps)), layer);
    }
  }

 private:
  size_t width_, height_;
  std::vector<uint8_t> dots_;
};

// Where steps and values of a panel are on a canvas.
struct Scale {
  double low, high;
  size_t steps;  // history and forecast together
  size_t width, height;

  long x(size_t step) const {
    if (steps < 2) return static_cast<long>(width / 2);
    return std::lround(static_cast<double>(step) * static_cast<double>(width - 1) /
                       static_cast<double>(steps - 1));
  }
  long y(double value) const {
    return std::lround((high - value) / (high - low) * static_cast<double>(height - 1));
  }
};

void draw_line(Canvas* canvas, const Scale& scale, const std::vector<float>& values, size_t first,
               Layer layer) {
  for (size_t i = 0; i < values.size(); i++) {
    const size_t before = i == 0 ? 0 : i - 1;
    canvas->line(scale.x(first + before), scale.y(values[before]), scale.x(first + i),
                 scale.y(values[i]), layer);
  }
}

// Every other dot between the edges of the band, so that lines in it can be seen.
void draw_band(Canvas* canvas, const Scale& scale, const PlotPanel& panel, size_t first) {
  if (panel.bands.empty()) return;
  const auto& [low, high] = panel.bands.front();
  for (long x = scale.x(first); x < static_cast<long>(canvas->width()); x++) {
    size_t step = 0;  // the one nearest to this column
    for (size_t i = 0; i < low.size(); i++) {
      if (std::labs(scale.x(first + i) - x) < std::labs(scale.x(first + step) - x)) step = i;
    }
    for (long y = scale.y(high[step]); y <= scale.y(low[step]); y++) {
      if ((x + y) % 2 == 0 && x % 2 == 0) canvas->dot(x, y, kBand);
    }
  }
}

Canvas draw(const PlotPanel& panel, size_t width, size_t height, const Scale& scale) {
  Canvas canvas(width, height);
  const size_t first = panel.history.size();
  draw_band(&canvas, scale, panel, first);
  draw_line(&canvas, scale, panel.history, 0, kHistory);
  draw_line(&canvas, scale, panel.truth, first, kTruth);
  draw_line(&canvas, scale, panel.middle, first, kMiddle);
  return canvas;
}

std::string utf8_of(uint32_t code) {  // from U+0800 to U+FFFF
  return {static_cast<char>(0xe0 | (code >> 12)), static_cast<char>(0x80 | ((code >> 6) & 0x3f)),
          static_cast<char>(0x80 | (code & 0x3f))};
}

// The eight dots of a cell, two wide and four high, as a Braille character.
std::string braille_cell(const Canvas& canvas, size_t column, size_t row) {
  static const uint8_t kBits[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
  uint32_t bits = 0;
  for (size_t y = 0; y < 4; y++) {
    for (size_t x = 0; x < 2; x++) {
      if (canvas.at(2 * column + x, 4 * row + y) != 0) bits |= kBits[y][x];
    }
  }
  return bits == 0 ? " " : utf8_of(0x2800 + bits);
}

char ascii_cell(int layers) {
  if ((layers & kMiddle) != 0) return 'o';
  if ((layers & kTruth) != 0) return 'x';
  if ((layers & kHistory) != 0) return '*';
  return (layers & kBand) != 0 ? '.' : ' ';
}

std::string panel_text(const PlotPanel& panel, size_t width, size_t height, bool unicode) {
  const auto [low, high] = panel_range(panel);
  const double step = (high - low) / 4;
  const size_t middle_row = height / 2;
  const double middle_value =
      high - (high - low) * static_cast<double>(middle_row) / static_cast<double>(height - 1);
  const std::string labels[] = {tick_text(high, step), tick_text(middle_value, step),
                                tick_text(low, step)};
  size_t margin = 0;
  for (const std::string& label : labels) margin = std::max(margin, label.size());
  const size_t columns = width > margin + 12 ? width - margin - 2 : 10;

  const size_t dots_x = unicode ? 2 : 1, dots_y = unicode ? 4 : 1;
  const Scale scale{low, high, panel.history.size() + panel.middle.size(), columns * dots_x,
                    height * dots_y};
  const Canvas canvas = draw(panel, columns * dots_x, height * dots_y, scale);
  std::string text;
  for (size_t row = 0; row < height; row++) {
    const std::string label = row == 0            ? labels[0]
                              : row == middle_row ? labels[1]
                              : row + 1 == height ? labels[2]
                                                  : "";
    std::string line = std::string(margin - label.size(), ' ') + label + (unicode ? " " : " |");
    if (unicode) line += utf8_of(0x2502);  // a vertical line
    for (size_t column = 0; column < columns; column++) {
      line += unicode ? braille_cell(canvas, column, row)
                      : std::string(1, ascii_cell(canvas.at(column, row)));
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  // A mark below the step where the forecast begins.
  const auto mark = static_cast<size_t>(scale.x(panel.history.size())) / dots_x;
  return text + std::string(margin + 2 + mark, ' ') + "^ forecast\n";
}

}  // namespace

std::pair<double, double> panel_range(const PlotPanel& panel) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  const auto add = [&](const std::vector<float>& values) {
    for (const float value : values) {
      if (!std::isfinite(value)) continue;
      low = std::min(low, static_cast<double>(value));
      high = std::max(high, static_cast<double>(value));
    }
  };
  add(panel.history);
  add(panel.middle);
  add(panel.truth);
  for (const auto& [lower, upper] : panel.bands) {
    add(lower);
    add(upper);
  }
  if (low > high) return {0.0, 1.0};
  const double room = high > low ? (high - low) * 0.05 : std::max(std::fabs(high) * 0.1, 1.0);
  return {low - room, high + room};
}

std::vector<double> round_ticks(double low, double high, size_t count) {
  const double rough = (high - low) / static_cast<double>(std::max<size_t>(count, 1));
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough) {
      step = factor * power;
      break;
    }
  }
  std::vector<double> ticks;
  for (double k = std::ceil(low / step); k * step <= high && ticks.size() <= count; k++) {
    ticks.push_back(k == 0 ? 0.0 : k * step);
  }
  return ticks;
}

std::string tick_text(double value, double step) {
  char text[48];
  const double size = std::max(std::fabs(value), step);
  if (size >= 1e7 || size < 1e-4) {
    std::snprintf(text, sizeof(text), "%.3g", value);
  } else {
    const int digits = static_cast<int>(std::clamp(std::ceil(-std::log10(step)), 0.0, 8.0));
    std::snprintf(text, sizeof(text), "%.*f", digits, value);
  }
  return text;
}

std::string terminal_plot(const Plot& plot, size_t width, size_t height, bool unicode) {
  std::string text = plot.title + "\n";
  for (const PlotPanel& panel : plot.panels) {
    if (plot.panels.size() > 1) text += panel.title + "\n";
    text += panel_text(panel, width, std::max<size_t>(height, 4), unicode);
  }
  return text;
}

bool locale_is_utf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == '\0') continue;
    std::string words = value;
    for (char& c : words) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    return words.find("utf-8") != std::string::npos || words.find("utf8") != std::string::npos;
  }
  return false;
}

}  // namespace moka::cli
