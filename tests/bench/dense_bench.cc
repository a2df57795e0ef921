// Speed of dense layers for one token and for a chunk of a prompt, with one thread and with two.
#include <benchmark/benchmark.h>

#include <cstring>
#include <memory>
#include <string>

#include "runtime/aligned_buffer.h"
#include "runtime/dense.h"
#include "tests/kernel_testing.h"

namespace moka::test {
namespace {

constexpr size_t kMaxRows = 64;

// One layer of random weights, ready to run.
struct Layer {
  Status prepare(DType dtype, size_t out, size_t in, int threads) {
    Tensor tensor;
    tensor.name = "weight";
    tensor.dtype = dtype;
    tensor.shape = {static_cast<uint32_t>(out), static_cast<uint32_t>(in)};
    const size_t size = dtype == DType::kI8 ? 1 : sizeof(float);
    if (!data.allocate(out * in * size) || !scales.allocate(out) || !x.allocate(kMaxRows * in) ||
        !y.allocate(kMaxRows * out)) {
      return Status(StatusCode::kOutOfMemory, "no memory for a benchmark");
    }
    Random random(in);
    for (size_t i = 0; i < out * in; ++i) {
      const float value = random.uniform(-0.1f, 0.1f);
      const int8_t q = static_cast<int8_t>(value * 1270.0f);
      std::memcpy(data.data() + i * size,
                  dtype == DType::kI8 ? static_cast<const void*>(&q) : &value, size);
    }
    for (size_t i = 0; i < out; ++i) scales.data()[i] = 1.0f / 1270.0f;
    for (size_t i = 0; i < kMaxRows * in; ++i) x.data()[i] = random.uniform(-1.0f, 1.0f);
    tensor.data = data.data();
    tensor.scales = scales.data();
    spec.tensors.push_back(tensor);
    Linear linear;
    linear.weight = 0;
    MOKA_ASSIGN_OR_RETURN(weights, PackedWeights::create());
    group = weights->add(spec, {linear}, in, 0, out);
    MOKA_ASSIGN_OR_RETURN(pool, ThreadPool::create(threads));
    MOKA_ASSIGN_OR_RETURN(runner, DenseRunner::create(*weights, *pool, kMaxRows));
    return Status();
  }

  ModelSpec spec;
  AlignedBuffer<uint8_t> data;
  AlignedBuffer<float> scales, x, y;
  std::unique_ptr<PackedWeights> weights;
  std::unique_ptr<ThreadPool> pool;
  std::unique_ptr<DenseRunner> runner;
  DenseGroup group;
};

void dense(benchmark::State& state, DType dtype, size_t in, size_t out) {
  const size_t rows = static_cast<size_t>(state.range(0));
  Layer layer;
  const Status prepared = layer.prepare(dtype, out, in, static_cast<int>(state.range(1)));
  if (!prepared.ok()) return state.SkipWithError(prepared.message().c_str());
  for (auto _ : state) {
    const Status status = layer.runner->run(layer.group, rows, layer.x.data(), layer.y.data());
    if (!status.ok()) return state.SkipWithError(status.message().c_str());
    benchmark::ClobberMemory();
  }
  const double products = static_cast<double>(rows * in * out);
  const double weights = static_cast<double>(in * out) * (dtype == DType::kI8 ? 1 : 4);
  const auto rate = benchmark::Counter::kIsIterationInvariantRate;
  state.counters["flops"] = benchmark::Counter(2 * products, rate);
  state.counters["bytes"] =
      benchmark::Counter(weights + 4.0 * static_cast<double>(rows * (in + out)), rate,
                         benchmark::Counter::OneK::kIs1024);
}

const bool kRegistered = [] {
  struct Shape {
    size_t in, out;
  };
  for (const DType dtype : {DType::kF32, DType::kI8}) {
    for (const Shape& shape :
         {Shape{512, 512}, Shape{512, 1536}, Shape{1536, 512}, Shape{512, 8192}}) {
      const std::string name = std::string("dense_") + dtype_name(dtype) + "/" +
                               std::to_string(shape.in) + "x" + std::to_string(shape.out);
      benchmark::RegisterBenchmark(
          name.c_str(), [=](benchmark::State& state) { dense(state, dtype, shape.in, shape.out); })
          ->ArgNames({"rows", "threads"})
          ->ArgsProduct({{1, 64}, {1, 2}})
          ->UseRealTime();
    }
  }
  return true;
}();

}  // namespace
}  // namespace moka::test
