#include "platforms/cli/classes.h"

#include <algorithm>
#include <cstdio>
#include <numeric>

#include "platforms/cli/terminal.h"

namespace moka::cli {
namespace {

std::vector<size_t> best_first(const Classification& result, size_t top) {
  std::vector<size_t> order(result.logits.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return result.logits[a] > result.logits[b]; });
  order.resize(std::min(order.size(), top));
  return order;
}

std::string probability_text(float value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.4f", static_cast<double>(value));
  return text;
}

// A label or a path in a column: no tabs, no ends of lines.
std::string cell(const std::string& text) {
  std::string out = printable(text);
  std::replace(out.begin(), out.end(), '\n', '?');
  return out;
}

}  // namespace

Json classification_json(const Classification& result, const std::vector<std::string>& names) {
  return {{"label", names[result.best]},
          {"class", result.best},
          {"probability", float_json(result.probabilities[result.best])},
          {"probabilities", floats_json(result.probabilities)},
          {"logits", floats_json(result.logits)}};
}

std::string classification_table(const Classification& result,
                                 const std::vector<std::string>& names, size_t top) {
  Table table({{"class"}, {"probability", true}});
  for (const size_t i : best_first(result, top)) {
    table.add({cell(names[i]), probability_text(result.probabilities[i])});
  }
  return table.to_string();
}

std::string classification_line(const std::string& name, const Classification& result,
                                const std::vector<std::string>& names, size_t top) {
  std::string line = cell(name);
  for (const size_t i : best_first(result, top)) {
    line += "\t" + cell(names[i]) + "\t" + probability_text(result.probabilities[i]);
  }
  return line + "\n";
}

}  // namespace moka::cli
