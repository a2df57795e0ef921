// Time and memory of ways of attention against the length of the sequence: one head, one thread.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/bench/attention/methods.h"
#include "tests/kernel_testing.h"

namespace moka::attention {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

constexpr size_t kShortest = 1024;
constexpr size_t kNumbers = 16384 * kChannels;
constexpr size_t kFitFrom = 8192;  // shorter ones have shares of fixed cost

const char kUsage[] =
    "usage: moka_attention_bench [--max T] [--limit SECONDS] [--json FILE] [--isa NAME]\n"
    "  --max T          longest sequence, 1024 times a power of two (default: 524288)\n"
    "  --limit SECONDS  a method stops before a run that would take longer (default: 20)\n"
    "  --json FILE      all measurements, for plot.py\n"
    "  --isa NAME       kernels: avx512, avx2, neon or scalar (default: the best)\n";

struct Options {
  size_t max = 524288;
  double limit = 20;
  std::string json, isa;
};

bool parse(int argc, char** argv, Options* options) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    char* end = nullptr;
    if (name == "--json") {
      options->json = value;
    } else if (name == "--isa") {
      options->isa = value;
    } else if (name == "--max") {
      const unsigned long long n = std::strtoull(value.c_str(), &end, 10);
      const bool power = n >= kShortest && n <= (1u << 30) && (n & (n - 1)) == 0;
      if (!power || *end != '\0') return false;
      options->max = static_cast<size_t>(n);
    } else if (name == "--limit") {
      options->limit = std::strtod(value.c_str(), &end);
      if (end == value.c_str() || *end != '\0' || !(options->limit > 0)) return false;
    } else {
      return false;
    }
  }
  return argc % 2 == 1;
}

struct Point {
  size_t n = 0;
  double seconds = 0;  // the quickest of its runs
  size_t bytes = 0, parameter_bytes = 0;
  int runs = 0;
};

struct Curve {
  std::string name;
  bool causal = true;
  std::vector<Point> points;
  std::string stopped;  // why there are no more; empty: the longest was reached
};

// Exponent of a power law through the points from kFitFrom on: slope of log over log by least
// squares. NaN for less than two points.
double exponent(const std::vector<Point>& points, double (*value)(const Point&)) {
  double count = 0, x = 0, y = 0, xx = 0, xy = 0;
  for (const Point& point : points) {
    if (point.n < kFitFrom) continue;
    const double a = std::log(static_cast<double>(point.n)), b = std::log(value(point));
    count += 1, x += a, y += b, xx += a * a, xy += a * b;
  }
  if (count < 2) return NAN;
  const double slope = (count * xy - x * y) / (count * xx - x * x);
  return std::fabs(slope) < 0.005 ? 0.0 : slope;  // no "-0.00" of rounding
}

double seconds_of(const Point& point) { return point.seconds; }
double bytes_of(const Point& point) { return static_cast<double>(point.bytes); }

// Runs for at least half a second and three times, but not when one run is long.
void measure(Method& method, const Sequence& sequence, float* y, Point* point) {
  double spent = 0;
  point->seconds = INFINITY;
  while (point->runs < 1 || (spent < 4 && (spent < 0.5 || point->runs < 3))) {
    const Clock::time_point start = Clock::now();
    method.run(sequence, y);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    point->seconds = std::min(point->seconds, seconds);
    spent += seconds;
    ++point->runs;
  }
}

std::string short_time(double seconds) {
  char text[32];
  std::snprintf(text, sizeof(text), seconds < 1 ? "%.3g ms" : "%.3g s",
                seconds < 1 ? seconds * 1e3 : seconds);
  return text;
}

std::string short_bytes(size_t bytes) {
  char text[32];
  const double kib = static_cast<double>(bytes) / 1024;
  std::snprintf(text, sizeof(text), kib < 1024 ? "%.0f KiB" : "%.1f MiB",
                kib < 1024 ? kib : kib / 1024);
  return text;
}

Curve sweep(Method& method, const Options& options, Sequence sequence, float* y) {
  Curve curve;
  curve.name = method.name();
  curve.causal = method.causal();
  std::fprintf(stderr, "measuring %s\n", curve.name.c_str());
  for (size_t n = kShortest; n <= options.max; n *= 2) {
    if (!curve.points.empty()) {
      // As the last doubling, but at least linear.
      const size_t last = curve.points.size() - 1;
      const double grown =
          last == 0 ? 2 : curve.points[last].seconds / curve.points[last - 1].seconds;
      const double expected = curve.points[last].seconds * std::max(2.0, grown);
      if (expected > options.limit) {
        curve.stopped = "a run at " + std::to_string(n) + " would take about " +
                        short_time(expected) + ", over the limit of " + short_time(options.limit);
        break;
      }
    }
    if (!method.prepare(n)) {
      curve.stopped = "no memory at " + std::to_string(n);
      break;
    }
    Point point;
    point.n = n, point.bytes = method.bytes(n), point.parameter_bytes = method.parameter_bytes(n);
    sequence.n = n;
    measure(method, sequence, y, &point);
    curve.points.push_back(point);
  }
  return curve;
}

// A row for each method, a column for each length.
void print_table(const char* title, const std::vector<Curve>& curves, size_t max,
                 std::string (*cell)(const Point&), double (*value)(const Point&)) {
  std::printf("\n%s\n\n| method |", title);
  for (size_t n = kShortest; n <= max; n *= 2) std::printf(" %zuk |", n / 1024);
  std::printf(" exponent |\n| --- |");
  for (size_t n = kShortest; n <= max; n *= 2) std::printf(" --- |");
  std::printf(" --- |\n");
  for (const Curve& curve : curves) {
    std::printf("| %s%s |", curve.name.c_str(), curve.causal ? "" : " (sees ahead)");
    size_t i = 0;
    for (size_t n = kShortest; n <= max; n *= 2, ++i) {
      std::printf(" %s |", i < curve.points.size() ? cell(curve.points[i]).c_str() : "-");
    }
    const double slope = exponent(curve.points, value);
    std::printf(std::isnan(slope) ? " - |\n" : " %.2f |\n", slope);
  }
}

void print_tables(const std::vector<Curve>& curves, const Options& options, const char* isa) {
  std::printf(
      "One head of %zu channels and %zu latents, float32, 1 thread, kernels %s. The exponent is "
      "that "
      "of a\npower of the length, fitted from %zu tokens on.\n",
      kChannels, kChannels, isa, kFitFrom);
  print_table(
      "Time of a sequence", curves, options.max,
      [](const Point& p) { return short_time(p.seconds); }, seconds_of);
  print_table(
      "Memory that the head must hold", curves, options.max,
      [](const Point& p) { return short_bytes(p.bytes); }, bytes_of);
  std::printf("\n");
  for (const Curve& curve : curves) {
    if (!curve.stopped.empty()) {
      std::printf("- %s stops: %s.\n", curve.name.c_str(), curve.stopped.c_str());
    }
    if (!curve.points.empty() && curve.points.back().parameter_bytes > 0) {
      std::printf("- %s has parameters for each token besides: %s at %zuk.\n", curve.name.c_str(),
                  short_bytes(curve.points.back().parameter_bytes).c_str(),
                  curve.points.back().n / 1024);
    }
  }
}

bool write_json(const std::vector<Curve>& curves, const Options& options, const char* isa) {
  Json methods = Json::array();
  for (const Curve& curve : curves) {
    Json points = Json::array();
    for (const Point& point : curve.points) {
      points.push_back({{"tokens", point.n},
                        {"seconds", point.seconds},
                        {"bytes", point.bytes},
                        {"parameter_bytes", point.parameter_bytes},
                        {"runs", point.runs}});
    }
    const double time = exponent(curve.points, seconds_of);
    const double memory = exponent(curve.points, bytes_of);
    methods.push_back({{"name", curve.name},
                       {"causal", curve.causal},
                       {"time_exponent", std::isnan(time) ? Json() : Json(time)},
                       {"memory_exponent", std::isnan(memory) ? Json() : Json(memory)},
                       {"stopped", curve.stopped},
                       {"points", points}});
  }
  const std::string text =
      Json{{"channels", kChannels}, {"latents", kChannels}, {"isa", isa}, {"methods", methods}}
          .dump(1) +
      "\n";
  std::FILE* file = std::fopen(options.json.c_str(), "w");
  bool ok = file != nullptr && std::fwrite(text.data(), 1, text.size(), file) == text.size();
  if (file != nullptr) ok = std::fclose(file) == 0 && ok;
  if (!ok) std::fprintf(stderr, "cannot write %s\n", options.json.c_str());
  return ok;
}

int run(const Options& options) {
  const auto kernels = select_kernels(options.isa.empty() ? nullptr : options.isa.c_str());
  if (!kernels.ok()) {
    std::fprintf(stderr, "%s\n", kernels.status().message().c_str());
    return 2;
  }
  AlignedBuffer<float> q, k, v, y;
  const size_t floats = options.max * kChannels;
  if (!q.allocate(floats) || !k.allocate(floats) || !v.allocate(floats) || !y.allocate(floats)) {
    std::fprintf(stderr, "no memory for sequences of %zu tokens; give a smaller --max\n",
                 options.max);
    return 1;
  }
  test::Random random(1);
  for (AlignedBuffer<float>* rows : {&q, &k, &v}) {
    for (size_t i = 0; i < floats; ++i) {
      // The same 16,384 rows again and again: to make more would take longer than to measure.
      rows->data()[i] = i < kNumbers ? random.normal() : rows->data()[i - kNumbers];
    }
  }
  const Sequence sequence = {0, q.data(), k.data(), v.data()};
  std::vector<Curve> curves;
  for (auto& method : make_methods(*kernels.value())) {
    curves.push_back(sweep(*method, options, sequence, y.data()));
    method.reset();  // its memory is that of the longest sequence
  }
  print_tables(curves, options, kernels.value()->name);
  return options.json.empty() || write_json(curves, options, kernels.value()->name) ? 0 : 1;
}

}  // namespace
}  // namespace moka::attention

int main(int argc, char** argv) {
  try {
    moka::attention::Options options;
    if (!moka::attention::parse(argc, argv, &options)) {
      std::fputs(moka::attention::kUsage, stderr);
      return 2;
    }
    return moka::attention::run(options);
  } catch (const std::exception& error) {  // no memory, or a library's
    std::fprintf(stderr, "moka_attention_bench: %s\n", error.what());
    return 1;
  }
}
