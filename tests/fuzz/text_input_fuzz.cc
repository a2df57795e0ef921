// Whatever bytes come as CSV or as a JSON line: an error with words, or whole steps of numbers.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "platforms/cli/csv.h"
#include "platforms/cli/jsonl.h"
#include "tests/fuzz/targets.h"

void moka::fuzz::text_input_fuzz(const uint8_t* data, size_t size) {
  if (size < 1) return;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 4 == 0) {
    const auto json = moka::cli::parse_json_line(std::string(text));
    if (json.ok() ? !json.value().is_object() : json.status().message().empty()) std::abort();
    return;
  }
  const size_t expected = data[0] % 4;
  const auto series = moka::cli::parse_series(text, {}, expected, "fuzz");
  if (!series.ok()) {
    if (series.status().message().empty()) std::abort();
    return;
  }
  if (series.value().values.size() != series.value().steps * expected) std::abort();
  for (const float value : series.value().values) {
    if (!std::isfinite(value)) std::abort();
  }
}
