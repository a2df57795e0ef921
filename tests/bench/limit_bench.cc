// What this machine could do: multiplications and additions from registers alone, and bytes read from
// buffers of the size of a session's state (12 MiB) and of a model's weights (256 MiB). Kernels are
// compared with these (README.md).
#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>

#include "runtime/kernels/kernels.h"
#include "tests/kernel_testing.h"

namespace moka::test {
namespace {

constexpr size_t kChains = 12;
constexpr size_t kRounds = 4096;

// The build keeps multiplications and additions apart; here they shall be one instruction.
#if defined(__clang__)
#define MOKA_CONTRACT
#define MOKA_CONTRACT_HERE _Pragma("clang fp contract(fast)")
#else
#define MOKA_CONTRACT __attribute__((optimize("fp-contract=fast")))
#define MOKA_CONTRACT_HERE
#endif

// Twelve independent sums, enough to hide the latency of any CPU's fma, by name: an array of vectors
// would live in memory.
#define MOKA_PEAK(name, bytes, attribute)                                                 \
  typedef float name##_vector __attribute__((vector_size(bytes)));                        \
  attribute MOKA_CONTRACT float name(float seed) {                                        \
    MOKA_CONTRACT_HERE                                                                    \
    const name##_vector half = name##_vector{} + 0.5f, more = name##_vector{} + seed;     \
    name##_vector a = more, b = a + 1, c = b + 1, d = c + 1, e = d + 1, f = e + 1;        \
    name##_vector g = f + 1, h = g + 1, i = h + 1, j = i + 1, k = j + 1, l = k + 1;       \
    for (size_t round = 0; round < kRounds; ++round) {                                    \
      a = a * half + more, b = b * half + more, c = c * half + more, d = d * half + more; \
      e = e * half + more, f = f * half + more, g = g * half + more, h = h * half + more; \
      i = i * half + more, j = j * half + more, k = k * half + more, l = l * half + more; \
    }                                                                                     \
    const name##_vector sum = a + b + c + d + e + f + g + h + i + j + k + l;              \
    return sum[0];                                                                        \
  }

#if defined(__x86_64__)
MOKA_PEAK(peak_avx512, 64, __attribute__((target("avx512f"))))
MOKA_PEAK(peak_avx2, 32, __attribute__((target("avx2,fma"))))
#endif
MOKA_PEAK(peak_baseline, 16, )

struct Peak {
  float (*run)(float seed);
  size_t floats;  // in a vector
};

Peak peak_of(const std::string& isa) {
#if defined(__x86_64__)
  if (isa == "avx512") return {peak_avx512, 16};
  if (isa == "avx2") return {peak_avx2, 8};
#endif
  return {peak_baseline, 4};
}

void measure_peak(benchmark::State& state, const Peak& peak) {
  float seed = 0.25f;
  for (auto _ : state) {
    benchmark::DoNotOptimize(seed);
    float sum = peak.run(seed);
    benchmark::DoNotOptimize(sum);
  }
  const double flops = 2.0 * static_cast<double>(kChains * kRounds * peak.floats);
  state.counters["flops"] =
      benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
}

// Sums a buffer of so many MiB. Stretches of 16 KiB are read side by side, as many as there are
// streams, each asked for a page ahead.
void measure_read(benchmark::State& state) {
  constexpr size_t kLine = 64, kAhead = 4096, kStretch = size_t{16} << 10;
  const size_t bytes = static_cast<size_t>(state.range(1)) << 20;
  const size_t streams = static_cast<size_t>(state.range(0)), round = streams * kStretch;
  const auto buffer = std::make_unique<uint8_t[]>(bytes + kAhead);
  std::memset(buffer.get(), 1, bytes + kAhead);
  for (auto _ : state) {
    uint64_t sum = 0;
    for (size_t start = 0; start + round <= bytes; start += round) {
      for (size_t at = 0; at < kStretch; at += kLine) {
        for (size_t s = 0; s < streams; ++s) {
          const uint8_t* line = buffer.get() + start + s * kStretch + at;
          __builtin_prefetch(line + kAhead);
          uint64_t word;  // of each line: the whole line is fetched
          std::memcpy(&word, line, sizeof(word));
          sum += word;
        }
      }
    }
    benchmark::DoNotOptimize(sum);
  }
  state.counters["bytes"] =
      benchmark::Counter(static_cast<double>(bytes), benchmark::Counter::kIsIterationInvariantRate,
                         benchmark::Counter::OneK::kIs1024);
}

const bool kRegistered = [] {
  for (const Kernels* table : kernel_tables()) {
    const Peak peak = peak_of(table->name);
    benchmark::RegisterBenchmark((std::string("limit/fma/") + table->name).c_str(),
                                 [peak](benchmark::State& state) { measure_peak(state, peak); });
  }
  benchmark::RegisterBenchmark("limit/read_streams", measure_read)
      ->ArgNames({"streams", "MiB"})
      ->ArgsProduct({{1, 4, 8}, {12, 256}});
  return true;
}();

}  // namespace
}  // namespace moka::test
