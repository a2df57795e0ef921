// The micro-benchmarks' main; every other file of this folder only adds benchmarks.
#include <benchmark/benchmark.h>

BENCHMARK_MAIN();
