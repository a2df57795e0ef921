// Speed of every kernel on every table that this CPU runs, at the shapes of a small model: heads of
// 64 latents and 64 channels, rows of 512 channels, prompts in chunks of 64, a window of 128.
// "flops" counts multiplications and additions of the formula; bytes are what must move at least.
// limit_bench.cc measures what the machine could do; README.md compares the two.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>

#include "runtime/half.h"
#include "tests/kernel_testing.h"

namespace moka::test {
namespace {

constexpr size_t kHead = 64, kRow = 512, kChunk = 64, kWindow = 128;

// Work of one call.
struct Work {
  double flops, bytes;
};

void report(benchmark::State* state, const Work& work) {
  const auto rate = benchmark::Counter::kIsIterationInvariantRate;
  state->counters["flops"] = benchmark::Counter(work.flops, rate);
  state->counters["bytes"] =
      benchmark::Counter(work.bytes, rate, benchmark::Counter::OneK::kIs1024);
}

using Call = std::function<void()>;

void add(const Kernels& kernels, const std::string& name, const Work& work, const Call& call) {
  benchmark::RegisterBenchmark((name + "/" + kernels.name).c_str(), [=](benchmark::State& state) {
    for (auto _ : state) {
      call();
      benchmark::ClobberMemory();
    }
    report(&state, work);
  });
}

// What the calls work on; lives as long as the program.
Floats* numbers(size_t n, uint64_t seed = 1) { return new Floats(normals(n, seed)); }

// Keys or values of a window, as floats or as halves.
void* ring(size_t n, uint64_t seed, bool half) {
  Floats* floats = numbers(n, seed);
  if (!half) return floats->data();
  auto* halves = new Block<uint16_t>(n);
  for (size_t i = 0; i < n; ++i) (*halves)[i] = float_to_half((*floats)[i]);
  return halves->data();
}

void add_rows(const Kernels& k) {
  static const float* const x = numbers(kRow)->data();
  static const float* const w = numbers(kRow, 2)->data();
  static float* const y = numbers(kRow, 3)->data();
  const auto row = [&](const char* name, double flops, double arrays, const Call& call) {
    const double n = static_cast<double>(kRow);
    add(k, std::string("row512/") + name, {flops * n, 4 * arrays * n}, call);
  };
  const Kernels* t = &k;
  row("rms_norm", 4, 3, [=] { t->rms_norm(x, w, 0.0f, 1e-6f, kRow, y); });
  row("layer_norm", 7, 4, [=] { t->layer_norm(x, w, w, 1e-6f, kRow, y); });
  row("affine", 2, 4, [=] { t->affine(x, w, w, kRow, y); });
  row("add", 1, 3, [=] { t->add(w, kRow, y); });
  row("add_scaled", 2, 3, [=] { t->add_scaled(w, 1e-6f, kRow, y); });
  // Exponentials count as one.
  row("exp", 1, 2, [=] { t->exp(x, kRow, y); });
  row("gelu", 8, 2, [=] { t->gelu(x, kRow, y); });
  row("silu", 4, 2, [=] { t->silu(x, kRow, y); });
  row("gelu_mul", 9, 3, [=] { t->gelu_mul(x, w, kRow, y); });
  row("silu_mul", 5, 3, [=] { t->silu_mul(x, w, kRow, y); });
  row("sigmoid_mul", 4, 3, [=] { t->sigmoid_mul(x, w, kRow, y); });
  static const int8_t* const bytes = (new Block<int8_t>(kRow))->data();
  static const uint16_t* const halves = (new Block<uint16_t>(kRow))->data();
  row("widen_i8", 1, 1.25, [=] { t->widen_i8(bytes, 0.1f, kRow, y); });
  row("widen_f16", 0, 1.5, [=] { t->widen_f16(halves, kRow, y); });
  // True angles: others would let the numbers grow or shrink from call to call.
  static float* const turned = numbers(kHead)->data();
  static float* const cosine = numbers(kHead / 2)->data();
  static float* const sine = numbers(kHead / 2)->data();
  for (size_t i = 0; i < kHead / 2; ++i) {
    cosine[i] = std::cos(static_cast<float>(i));
    sine[i] = std::sin(static_cast<float>(i));
  }
  for (const bool interleaved : {false, true}) {
    add(k, std::string("head64/rotate") + (interleaved ? "_interleaved" : ""),
        {3.0 * kHead, 12.0 * kHead},
        [=] { t->rotate(turned, cosine, sine, kHead / 2, interleaved); });
  }
  add(k, "head64/mixture", {4.0 * kHead, 8.0 * kHead},
      [=] { t->mixture(x, x + kHead, 1.0f, kHead, y, y + kHead); });
  static const float* const logits = numbers(kChunk * kHead)->data();
  static float* const shares = numbers(kChunk * (kHead + 1))->data();
  MixtureArgs args;
  args.rows = kChunk, args.n = kHead;
  args.q = logits, args.q_stride = kHead;
  args.gate = logits, args.gate_stride = 1;
  args.p = shares, args.p_stride = kHead, args.p_gate = shares + kChunk * kHead;
  add(k, "head64/mixtures_of_64", {4.0 * kHead * kChunk, 8.0 * kHead * kChunk},
      [=] { t->mixtures(args); });
}

void add_gemm(const Kernels& k) {
  static const float* const a = numbers(kChunk * kWindow)->data();
  static const float* const b = numbers(kWindow * kWindow, 2)->data();
  static float* const c = numbers(kChunk * kWindow, 3)->data();
  const Kernels* t = &k;
  struct Shape {
    size_t m, n, k;
  };
  for (const Shape& s : {Shape{1, 64, 64}, Shape{1, 128, 64}, Shape{64, 64, 64}, Shape{64, 128, 64},
                         Shape{64, 43, 43}}) {
    GemmArgs args;
    args.m = s.m, args.n = s.n, args.k = s.k;
    args.a = a, args.lda = s.k, args.b = b, args.ldb = s.n, args.c = c, args.ldc = s.n;
    const double m = static_cast<double>(s.m), n = static_cast<double>(s.n),
                 depth = static_cast<double>(s.k);
    add(k, "gemm/" + std::to_string(s.m) + "x" + std::to_string(s.n) + "x" + std::to_string(s.k),
        {2 * m * n * depth, 4 * (m * depth + depth * n + m * n)}, [=] { t->gemm(args); });
  }
}

void add_latent(const Kernels& k) {
  static const float* const p = numbers(kChunk * kHead)->data();
  static const float* const keys = numbers(kChunk * kHead, 2)->data();
  static const float* const v = numbers(kChunk * kHead, 3)->data();
  static float* const state = (new Floats((kHead + 2) * kHead))->data();
  static float* const y = numbers(kChunk * kHead, 5)->data();
  static float* const scratch = numbers(latent_scratch(kChunk, kHead))->data();
  const Kernels* t = &k;
  for (const size_t n : {size_t{1}, size_t{2}, size_t{8}, size_t{32}, size_t{64}}) {
    LatentArgs args;
    args.n = n, args.lh = kHead, args.dh_pad = kHead;
    args.p = p, args.p_stride = kHead, args.k = keys, args.k_stride = kHead;
    args.v = v, args.v_stride = kHead, args.y = y, args.y_stride = kHead;
    args.m = state, args.z = state + kHead, args.s = state + 2 * kHead;
    args.scratch = scratch;
    const double rows = static_cast<double>(n), area = 1.0 * kHead * kHead;
    // A step: decay, gain and output for each element of the state. A chunk: four products, two of
    // them triangles within a round, and the decay once a round.
    const double round = static_cast<double>(std::min(n, kLatentChunk));
    const double flops =
        n == 1 ? 5 * area : rows * (4 * area + 2 * (round + 1) * kHead) + rows / round * area;
    add(k, "latent64x64/" + std::to_string(n) + "_tokens",
        {flops, 4 * (2 * area + rows * 4 * kHead)}, [=] { t->latent(args); });
  }
}

void add_window(const Kernels& k) {
  static const float* const q = numbers(kChunk * kHead)->data();
  static const float* const keys = numbers(kChunk * kHead, 2)->data();
  static const float* const v = numbers(kChunk * kHead, 3)->data();
  static void* const ring_k[] = {ring(kHead * kWindow, 4, false), ring(kHead * kWindow, 4, true)};
  static void* const ring_v[] = {ring(kHead * kWindow, 5, false), ring(kHead * kWindow, 5, true)};
  static float* const y = numbers(kChunk * kHead, 6)->data();
  static float* const scratch =
      numbers(window_scratch(kChunk, kWindow, kHead, kHead, true) + pad_row(kWindow))->data();
  const Kernels* t = &k;
  for (const bool half : {false, true}) {
    for (const size_t n : {1, 2, 8, 16, 32, 64}) {
      WindowArgs args;
      args.n = n, args.dh = kHead, args.dh_pad = kHead, args.capacity = kWindow;
      args.position = 1000, args.scale = 0.125f;
      args.q = q, args.q_stride = kHead, args.k = keys, args.k_stride = kHead;
      args.v = v, args.v_stride = kHead, args.y = y, args.y_stride = kHead;
      args.half = half, args.ring_k = ring_k[half], args.ring_v = ring_v[half];
      args.scratch = scratch;
      const double rows = static_cast<double>(n), area = 1.0 * kHead * kWindow;
      add(k, std::string("window128x64") + (half ? "_half/" : "/") + std::to_string(n) + "_tokens",
          {rows * (4 * area + 3 * kWindow), (half ? 2 : 4) * 2 * area + 4 * rows * 4 * kHead},
          [=] { t->window(args); });
    }
  }
}

// One step of all heads of a model, whose states together are larger than the second cache: what
// generation does between two reads of the weights.
void add_steps(const Kernels& k) {
  constexpr size_t kHeads = 144;
  constexpr size_t kSums = kHead * kHead, kRing = kHead * kWindow;
  static const float* const row = numbers(4 * kHead)->data();
  static float* const sums = numbers(kHeads * 2 * kSums)->data();
  static float* const scalars = numbers(kHeads * 2 * kHead)->data();
  static void* const rings[] = {ring(kHeads * 2 * kRing, 1, false),
                                ring(kHeads * 2 * kRing, 1, true)};
  static float* const y = numbers(kHead)->data();
  static float* const scratch =
      numbers(std::max(latent_scratch(1, kHead), window_scratch(1, kWindow, kHead, kHead)))->data();
  const Kernels* t = &k;
  for (const bool archive : {false, true}) {
    const auto latents = [=] {
      for (size_t h = 0; h < kHeads; ++h) {
        LatentArgs args;
        args.n = 1, args.lh = kHead, args.dh_pad = kHead;
        args.p = row, args.k = row + kHead, args.v = row + 2 * kHead, args.y = y;
        args.m = scalars + 2 * h * kHead, args.z = args.m + kHead;
        args.s = sums + h * kSums;
        if (archive) {
          args.archive_m = row, args.archive_z = row + kHead;
          args.archive_mean = sums + (kHeads + h) * kSums;
        }
        args.scratch = scratch;
        args.ahead = args.s + kSums;
        t->latent(args);
      }
    };
    add(k, std::string("model/latent_step") + (archive ? "_with_archive" : ""),
        {kHeads * (archive ? 7.0 : 5.0) * kSums, kHeads * 4.0 * (archive ? 3 : 2) * kSums},
        latents);
  }
  for (const bool half : {false, true}) {
    const size_t element = half ? 2 : 4;
    char* const keys = static_cast<char*>(rings[half]);
    const auto windows = [=] {
      for (size_t h = 0; h < kHeads; ++h) {
        WindowArgs args;
        args.n = 1, args.dh = kHead, args.dh_pad = kHead, args.capacity = kWindow;
        args.position = 1000 + h, args.scale = 0.125f;
        args.q = row, args.k = row + kHead, args.v = row + 2 * kHead, args.y = y;
        args.half = half, args.ring_k = keys + h * kRing * element;
        args.ring_v = keys + (kHeads + h) * kRing * element;
        args.scratch = scratch;
        args.ahead = keys + (h + 1) * kRing * element;
        t->window(args);
      }
    };
    add(k, std::string("model/window_step") + (half ? "_half" : ""),
        {kHeads * 4.0 * kRing, kHeads * static_cast<double>(element) * 2 * kRing}, windows);
  }
}

const bool kRegistered = [] {
  for (const Kernels* table : kernel_tables()) {
    add_rows(*table);
    add_gemm(*table);
    add_latent(*table);
    add_window(*table);
    add_steps(*table);
  }
  return true;
}();

}  // namespace
}  // namespace moka::test
