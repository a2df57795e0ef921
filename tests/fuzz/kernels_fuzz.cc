// Any numbers and extents to every kernel table that this CPU runs: all must agree with the scalar
// one, and stay inside their memory (blocks end where the kernel's extents do; run it with the
// address sanitizer). Disagreement ends the process with a line that says where.
//
// Bytes: kernel, extents, a pattern for the magnitude of numbers, then the numbers, one byte each;
// what is missing reads as zero.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "runtime/half.h"
#include "tests/fuzz/choices.h"
#include "tests/fuzz/targets.h"
#include "tests/kernel_testing.h"

namespace {

using moka::Kernels;
using moka::fuzz::Choices;
using moka::fuzz::require;
using moka::test::Block;
using moka::test::Deviation;
using moka::test::Floats;
using moka::test::kEps;

// One kernel's run on one table: everything that it wrote, and if it is the one that the others are
// held to, how far they may be from that, element by element.
struct Written {
  bool held_to = false;
  std::vector<float> values, tolerance;
  bool intact = true;
  void add(const Floats& block, const std::function<double(size_t)>& allowed) {
    values.insert(values.end(), block.data(), block.data() + block.size());
    for (size_t i = 0; held_to && i < block.size(); ++i) {
      tolerance.push_back(static_cast<float>(allowed(i)));
    }
    intact = intact && block.intact();
  }
};

using Runner = std::function<void(const Kernels&, Written*)>;

void compare(const char* kernel, const Runner& run) {
  static const std::vector<const Kernels*> tables = moka::test::kernel_tables();
  Written want;
  want.held_to = true;
  run(*tables.back(), &want);  // scalar
  require(want.intact, *tables.back(), std::string(kernel) + " wrote outside of its extents");
  for (const Kernels* table : tables) {
    Written got;
    run(*table, &got);
    require(got.intact, *table, std::string(kernel) + " wrote outside of its extents");
    Deviation deviation;
    for (size_t i = 0; i < want.values.size(); ++i) {
      deviation.add(got.values[i], want.values[i], want.tolerance[i], i);
    }
    require(deviation.ok(), *table, std::string(kernel) + ": " + deviation.text());
  }
}

const float kSpreads[] = {1.0f, 0.0f, 1e-3f, 10.0f, 40.0f};

void activations(Choices* in) {
  const size_t n = in->extent(140), which = in->below(6);
  const Floats x = in->numbers(n, kSpreads[in->below(5)]), factor = in->numbers(n, 1.0f);
  const auto allowed = [&](size_t i) {
    const double size = std::fabs(x[i]) + 1;
    return 64 * kEps * size * (1 + std::fabs(factor[i]));
  };
  compare("an activation", [&](const Kernels& kernels, Written* written) {
    Floats y = moka::test::outputs(n);
    switch (which) {
      case 0: kernels.gelu(x.data(), n, y.data()); break;
      case 1: kernels.silu(x.data(), n, y.data()); break;
      case 2: kernels.gelu_mul(x.data(), factor.data(), n, y.data()); break;
      case 3: kernels.silu_mul(x.data(), factor.data(), n, y.data()); break;
      case 4: kernels.sigmoid_mul(x.data(), factor.data(), n, y.data()); break;
      default: kernels.add_scaled(x.data(), factor[0], n, y.data());
    }
    written->add(y, allowed);
  });
}

void exponential(Choices* in) {
  const size_t n = in->extent(140);
  const Floats x = in->numbers(n, kSpreads[in->below(5)]);
  compare("exp", [&](const Kernels& kernels, Written* written) {
    Floats y = moka::test::outputs(n);
    kernels.exp(x.data(), n, y.data());
    written->add(y,
                 [&](size_t i) { return 4e-7 * std::exp(std::min(88.4, double{x[i]})) + 2e-38; });
  });
}

void norms(Choices* in) {
  const size_t n = in->extent(140), which = in->below(3);
  const Floats x = in->numbers(n, kSpreads[in->below(5)]), scale = in->numbers(n, 1.0f);
  const Floats bias = in->numbers(n, 1.0f);
  double mean = 0, variance = 0, largest = 1;
  for (size_t i = 0; i < n; ++i) {
    mean += x[i] / static_cast<double>(n);
    largest = std::max(largest, std::fabs(double{x[i]}));
  }
  for (size_t i = 0; i < n; ++i) variance += (x[i] - mean) * (x[i] - mean) / static_cast<double>(n);
  const double factor = which == 2 ? 1.0 : 1.0 / std::sqrt(variance + 1e-5);
  compare("a norm", [&](const Kernels& kernels, Written* written) {
    Floats y = moka::test::outputs(n);
    if (which == 0) kernels.rms_norm(x.data(), scale.data(), 1.0f, 1e-5f, n, y.data());
    if (which == 1) kernels.layer_norm(x.data(), scale.data(), bias.data(), 1e-5f, n, y.data());
    if (which == 2) kernels.affine(x.data(), scale.data(), bias.data(), n, y.data());
    // Rows near a constant lose digits: x - mean is as exact as x.
    written->add(y, [&](size_t i) {
      return 32 * kEps *
             ((largest * factor + std::sqrt(static_cast<double>(n))) * (1 + std::fabs(scale[i])) +
              std::fabs(bias[i]));
    });
  });
}

void mixture(Choices* in) {
  const size_t n = in->extent(140);
  const bool gated = in->below(2) == 1;
  const Floats q = in->numbers(n, kSpreads[in->below(5)]);
  const float gate = in->number(10.0f), scale = 1.0f / static_cast<float>(1 + in->below(8));
  compare("mixture", [&](const Kernels& kernels, Written* written) {
    Floats p = moka::test::outputs(n), p_gate = moka::test::outputs(1);
    kernels.mixture(q.data(), gated ? &gate : nullptr, scale, n, p.data(),
                    gated ? p_gate.data() : nullptr);
    written->add(p, [](size_t) { return 128 * kEps; });
    written->add(p_gate, [](size_t) { return 128 * kEps; });
  });
}

void rotation(Choices* in) {
  const size_t half = in->extent(70), rest = in->below(3);
  const bool interleaved = in->below(2) == 1;
  const Floats start = in->numbers(2 * half + rest, 1.0f);
  const Floats cosine = in->numbers(half, 0.125f), sine = in->numbers(half, 0.125f);
  compare("rotate", [&](const Kernels& kernels, Written* written) {
    Floats x = moka::test::copy_of(start, true);
    kernels.rotate(x.data(), cosine.data(), sine.data(), half, interleaved);
    written->add(x, [](size_t) { return 64 * kEps; });
  });
}

void widening(Choices* in) {
  const size_t n = in->extent(140);
  const bool half = in->below(2) == 1;
  Block<int8_t> bytes(n);
  Block<uint16_t> halves(n);
  for (size_t i = 0; i < n; ++i) {
    bytes[i] = static_cast<int8_t>(in->byte());
    halves[i] = static_cast<uint16_t>((in->byte() << 8 | in->byte()) & 0xbbff);  // finite
  }
  compare("widening", [&](const Kernels& kernels, Written* written) {
    Floats y = moka::test::outputs(n);
    if (half) kernels.widen_f16(halves.data(), n, y.data());
    if (!half) kernels.widen_i8(bytes.data(), 0.01f, n, y.data());
    written->add(y, [](size_t) { return 0.0; });
  });
}

void gemm(Choices* in) {
  moka::GemmArgs args;
  args.m = in->extent(20), args.n = in->extent(140), args.k = in->below(40);
  args.lda = args.k + in->below(3), args.ldb = args.n + in->below(3),
  args.ldc = args.n + in->below(3);
  args.accumulate = in->below(2) == 1;
  args.triangle = static_cast<moka::Triangle>(in->below(3));
  args.shift = in->below(8);
  const float spread = kSpreads[in->below(5)];
  Floats a = in->numbers((args.m - 1) * args.lda + args.k, spread);
  const Floats b = in->numbers(args.k == 0 ? 0 : (args.k - 1) * args.ldb + args.n, 1.0f);
  const Floats start = in->numbers((args.m - 1) * args.ldc + args.n, 1.0f);
  if (args.triangle == moka::Triangle::kLowerInput) {
    for (size_t i = 0; i < args.m; ++i) {
      for (size_t x = i + args.shift + 1; x < args.k; ++x) a[i * args.lda + x] = 0.0f;
    }
  }
  compare("gemm", [&](const Kernels& kernels, Written* written) {
    Floats c = moka::test::copy_of(start, true);
    args.a = a.data(), args.b = b.data(), args.c = c.data();
    kernels.gemm(args);
    for (size_t i = 0; args.triangle == moka::Triangle::kLowerOutput && i < args.m; ++i) {
      for (size_t j = i + 1; j < args.n; ++j) c[i * args.ldc + j] = 0.0f;
    }
    const double terms = 64.0 * static_cast<double>(spread) * static_cast<double>(args.k) + 8.0;
    written->add(c, [&](size_t) { return (2 + static_cast<double>(args.k)) * kEps * terms; });
  });
}

// Mixture weights of any sizes, summing to one as softmax makes them.
Floats weights(Choices* in, size_t rows, size_t width, size_t stride) {
  Floats p = in->numbers((rows - 1) * stride + width, 1.0f);
  for (size_t t = 0; t < rows; ++t) {
    float total = 0;
    for (size_t l = 0; l < width; ++l)
      total += p[t * stride + l] = std::fabs(p[t * stride + l]) + 1e-3f;
    for (size_t l = 0; l < width; ++l) p[t * stride + l] /= total;
  }
  return p;
}

void latent(Choices* in) {
  const size_t n = in->extent(40), lh = in->extent(40), dh = in->extent(40);
  const size_t dp = moka::pad_row(dh), cut = 1 + in->below(n);
  const Floats k = in->numbers(n * lh, kSpreads[in->below(5)]);
  const Floats p = weights(in, n, lh, lh);
  Floats v = in->numbers(n * dp, 1.0f);
  for (size_t i = 0; i < v.size(); ++i) v[i] = i % dp < dh ? v[i] : 0.0f;
  compare("latent", [&](const Kernels& kernels, Written* written) {
    Floats m = moka::test::outputs(lh), z = moka::test::outputs(lh),
           s = moka::test::outputs(lh * dp);
    Floats y = moka::test::outputs(n * dp);
    std::fill(m.begin(), m.end(), std::numeric_limits<float>::lowest());
    for (const size_t start : {size_t{0}, cut}) {
      moka::LatentArgs args;
      args.n = start == 0 ? cut : n - cut, args.lh = lh, args.dh_pad = dp;
      if (args.n == 0) continue;
      Floats scratch = moka::test::outputs(moka::latent_scratch(args.n, lh));
      args.p = p.data() + start * lh, args.p_stride = lh;
      args.k = k.data() + start * lh, args.k_stride = lh;
      args.v = v.data() + start * dp, args.v_stride = dp;
      args.m = m.data(), args.z = z.data(), args.s = s.data();
      args.y = y.data() + start * dp, args.y_stride = dp;
      args.scratch = scratch.data();
      kernels.latent(args);
      require(scratch.intact(), kernels, "latent wrote outside of its scratch");
    }
    written->add(m, [](size_t) { return 0.0; });
    written->add(z, [&](size_t) { return 4e-6 * static_cast<double>(n); });
    written->add(s, [&](size_t) { return 4e-5 * static_cast<double>(n); });
    written->add(y, [](size_t) { return 4e-5; });
  });
}

// Ring numbers as T keeps them: floats as they are, or halves, any finite ones.
float kept(float number, float) { return number; }
uint16_t kept(float number, uint16_t) { return moka::float_to_half(number); }
float shown(float number) { return number; }
float shown(uint16_t number) { return moka::half_to_float(number); }

template <class T>
Block<T> ring(Choices* in, size_t size) {
  Block<T> block(size);
  for (T& value : block) value = kept(in->number(1.0f), T());
  return block;
}

template <class T>
Floats widened(const Block<T>& ring) {
  Floats floats(ring.size());
  for (size_t i = 0; i < ring.size(); ++i) floats[i] = shown(ring[i]);
  return floats;
}

template <class T>
void window(Choices* in) {
  constexpr bool kHalf = sizeof(T) == sizeof(uint16_t);
  const size_t n = in->extent(40), dh = in->extent(40), capacity = in->extent(20);
  const size_t dp = moka::pad_row(dh), cp = moka::pad_row(capacity), cut = 1 + in->below(n);
  const uint64_t position = in->below(64);
  const float softcap = in->below(2) == 1 ? 20.0f : 0.0f, spread = 0.1f * kSpreads[in->below(4)];
  const Floats q = in->numbers(n * dh, spread), k = in->numbers(n * dh, 1.0f);
  Floats v = in->numbers(n * dp, 1.0f);
  for (size_t i = 0; i < v.size(); ++i) v[i] = i % dp < dh ? v[i] : 0.0f;
  const Block<T> past_k = ring<T>(in, dh * cp), past_v = ring<T>(in, capacity * dp);
  compare(kHalf ? "window of halves" : "window", [&](const Kernels& kernels, Written* written) {
    Block<T> ring_k(past_k.size(), true), ring_v(past_v.size(), true);
    std::copy(past_k.data(), past_k.data() + past_k.size(), ring_k.data());
    std::copy(past_v.data(), past_v.data() + past_v.size(), ring_v.data());
    Floats y = moka::test::outputs(n * dp);
    for (const size_t start : {size_t{0}, cut}) {
      moka::WindowArgs args;
      args.n = start == 0 ? cut : n - cut, args.dh = dh, args.dh_pad = dp, args.capacity = capacity;
      if (args.n == 0) continue;
      Floats scratch = moka::test::outputs(moka::window_scratch(args.n, capacity, dh, dp, kHalf));
      args.position = position + start;
      args.q = q.data() + start * dh, args.q_stride = dh;
      args.k = k.data() + start * dh, args.k_stride = dh;
      args.v = v.data() + start * dp, args.v_stride = dp;
      args.half = kHalf;
      args.ring_k = ring_k.data(), args.ring_v = ring_v.data();
      args.scale = 0.25f, args.softcap = softcap;
      args.y = y.data() + start * dp, args.y_stride = dp;
      args.scratch = scratch.data();
      kernels.window(args);
      require(scratch.intact(), kernels, "window wrote outside of its scratch");
    }
    require(ring_k.intact() && ring_v.intact(), kernels, "window wrote outside of its ring");
    written->add(widened(ring_k), [](size_t) { return 0.0; });
    written->add(widened(ring_v), [](size_t) { return 0.0; });
    // A logit is a sum of dh terms of up to 64 spread, and its error one of the weights.
    const double logit = 64.0 * static_cast<double>(spread) * static_cast<double>(dh);
    written->add(y, [&](size_t) { return 8.0 * (64 + 4 * logit) * kEps; });
  });
}

}  // namespace

void moka::fuzz::kernels_fuzz(const uint8_t* data, size_t size) {
  using Kernel = void (*)(Choices*);
  static constexpr Kernel kKernels[] = {activations,   exponential,     norms, mixture,
                                        rotation,      widening,        gemm,  latent,
                                        window<float>, window<uint16_t>};
  Choices in(data, size);
  kKernels[in.below(sizeof(kKernels) / sizeof(kKernels[0]))](&in);
}
