// Norms, activations, mixture, rotation and widening, on every table that this CPU runs, against
// double precision.
#include <doctest/doctest.h>

#include <cstring>

#include "runtime/half.h"
#include "tests/kernel_reference.h"
#include "tests/kernel_testing.h"

namespace moka::test {
namespace {

constexpr float kLowest = std::numeric_limits<float>::lowest();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Runs the body once per table and row length, with both in doctest's context.
template <class Body>
void for_each_table(Body body) {
  for (const Kernels* table : kernel_tables()) {
    const std::string isa = table->name;
    CAPTURE(isa);
    body(*table);
  }
}
template <class Body>
void for_each_length(Body body) {
  for_each_table([&](const Kernels& kernels) {
    for (const size_t n : row_lengths()) {
      CAPTURE(n);
      body(kernels, n);
    }
  });
}

// Mostly moderate numbers, with the ends of the activations' range among them.
Floats activation_inputs(size_t n, uint64_t seed) {
  static const float kSpecial[] = {0.0f,  -0.0f,  1.0f,   -1.0f,   20.0f, -20.0f, 40.0f,  -40.0f,
                                   88.0f, -88.0f, 100.0f, -100.0f, 1e4f,  -1e4f,  1e-20f, -1e-20f};
  Floats x = normals(n, seed, 4.0f);
  for (size_t i = 0; i < n; i += 3) x[i] = kSpecial[(i / 3 + seed) % 16];
  return x;
}

using Unary = void (*)(const float*, size_t, float*);
using Binary = void (*)(const float*, const float*, size_t, float*);

// `rounding(x)` is the relative error allowed at x. Below exp(-88) results may be 0.
void check_unary(Unary Kernels::*member, double (*reference)(double), double (*rounding)(double)) {
  for_each_length([&](const Kernels& kernels, size_t n) {
    const Floats x = activation_inputs(n, n);
    Floats y = outputs(n), in_place = copy_of(x, true);
    (kernels.*member)(x.data(), n, y.data());
    (kernels.*member)(in_place.data(), n, in_place.data());
    Deviation deviation;
    for (size_t i = 0; i < n; ++i) {
      const double want = reference(x[i]);
      deviation.add(y[i], want, rounding(x[i]) * std::fabs(want) + 1e-34, i);
    }
    CHECK_DEVIATION(deviation);
    CHECK_INTACT(y);
    CHECK_INTACT(in_place);
    CHECK(same_bits(y.data(), in_place.data(), n));
  });
}

void check_product(Binary Kernels::*member, double (*reference)(double),
                   double (*rounding)(double)) {
  for_each_length([&](const Kernels& kernels, size_t n) {
    const Floats x = activation_inputs(n, n), factor = normals(n, n + 1);
    Floats y = outputs(n);
    (kernels.*member)(x.data(), factor.data(), n, y.data());
    Deviation deviation;
    for (size_t i = 0; i < n; ++i) {
      const double want = reference(x[i]) * factor[i];
      deviation.add(y[i], want, (rounding(x[i]) + kEps) * std::fabs(want) + 1e-33, i);
    }
    CHECK_DEVIATION(deviation);
    CHECK_INTACT(y);
  });
}

double flat_rounding(double) { return 8 * kEps; }
// An absolute error of the exponent is a relative one of the result; gelu's exponent is
// 2 sqrt(2/pi) (x + 0.0447 x^3).
double gelu_rounding(double x) {
  return 8 * kEps + 6 * kEps * std::min(90.0, 1.6 * std::fabs(x + 0.044715 * x * x * x));
}

}  // namespace

TEST_CASE("kernel tables: names, needs and every entry") {
  const std::vector<const Kernels*> here = kernel_tables();
  REQUIRE(!here.empty());
  CHECK(std::string(compiled_kernels()[compiled_kernels().size() - 1]->name) == "scalar");
  for (const Kernels* table : compiled_kernels()) {
    const std::string isa = table->name;
    CAPTURE(isa);
    CHECK((isa == "scalar") == (table->needs == 0));
    // Members after `needs` are all pointers to functions; none may be forgotten in table-inl.h.
    const size_t first = offsetof(Kernels, gemm);
    static_assert((sizeof(Kernels) - offsetof(Kernels, gemm)) % sizeof(void (*)()) == 0);
    for (size_t at = first; at < sizeof(Kernels); at += sizeof(void (*)())) {
      void (*entry)() = nullptr;
      std::memcpy(&entry, reinterpret_cast<const char*>(table) + at, sizeof(entry));
      CAPTURE(at);
      CHECK(entry != nullptr);
    }
  }
}

TEST_CASE("kernel tables: selection by name") {
  for (const Kernels* table : kernel_tables()) {
    const Result<const Kernels*> found = select_kernels(table->name);
    REQUIRE(found.ok());
    CHECK(found.value() == table);
  }
  const Result<const Kernels*> unknown = select_kernels("avx1024");
  CHECK(unknown.status().code() == StatusCode::kInvalidArgument);
  CHECK(unknown.status().message().find("'avx1024'") != std::string::npos);
  CHECK(unknown.status().message().find("scalar") != std::string::npos);
#if defined(__aarch64__)
  CHECK(select_kernels("avx2").status().code() == StatusCode::kUnsupported);
#else
  CHECK(select_kernels("neon").status().code() == StatusCode::kUnsupported);
#endif
}

TEST_CASE("kernel exp: within two units in the last place") {
  for_each_table([&](const Kernels& kernels) {
    // An odd count, so that the tail takes part; a step that meets all fractions of ln 2.
    constexpr size_t kCount = 200003;
    Floats x(kCount), y = outputs(kCount);
    for (size_t i = 0; i < kCount; ++i) {
      x[i] = static_cast<float>(-87.0 + 175.0 * static_cast<double>(i) / (kCount - 1));
    }
    kernels.exp(x.data(), kCount, y.data());
    Deviation deviation;
    for (size_t i = 0; i < kCount; ++i) {
      const double want = std::exp(static_cast<double>(x[i]));
      deviation.add(y[i], want, 2 * std::ldexp(1.0, std::ilogb(want) - 23), i);
    }
    CHECK_DEVIATION(deviation);
    CHECK_INTACT(y);
  });
}

TEST_CASE("kernel exp: the ends of its range, in every lane") {
  struct Point {
    float x;
    bool zero;
  };
  const Point points[] = {{-87.4f, true},     {-88.0f, true},  {-104.0f, true},
                          {-300.0f, true},    {-1e30f, true},  {kLowest, true},
                          {-kInfinity, true}, {-87.0f, false}, {88.0f, false}};
  for_each_length([&](const Kernels& kernels, size_t n) {
    Floats x(n), y = outputs(n);
    for (const Point& point : points) {
      CAPTURE(point.x);
      std::fill(x.begin(), x.end(), point.x);
      kernels.exp(x.data(), n, y.data());
      for (size_t i = 0; i < n; ++i) {
        if (point.zero) CHECK(y[i] == 0.0f);
        if (!point.zero) CHECK(std::fabs(y[i] / std::exp(point.x) - 1.0f) < 3e-7f);
      }
    }
    // Beyond the range the result stays finite, so that no sum of exponentials becomes Inf - Inf.
    for (const float large : {88.5f, 89.0f, 300.0f, 1e30f, kInfinity}) {
      std::fill(x.begin(), x.end(), large);
      kernels.exp(x.data(), n, y.data());
      for (size_t i = 0; i < n; ++i) CHECK((std::isfinite(y[i]) && y[i] > 1.6e38f));
    }
    std::fill(x.begin(), x.end(), 0.0f);
    kernels.exp(x.data(), n, x.data());
    for (size_t i = 0; i < n; ++i) CHECK(x[i] == 1.0f);
    CHECK_INTACT(y);
  });
}

TEST_CASE("kernel activations") {
  SUBCASE("gelu") { check_unary(&Kernels::gelu, gelu, gelu_rounding); }
  SUBCASE("silu") { check_unary(&Kernels::silu, silu, flat_rounding); }
  SUBCASE("gelu_mul") { check_product(&Kernels::gelu_mul, gelu, gelu_rounding); }
  SUBCASE("silu_mul") { check_product(&Kernels::silu_mul, silu, flat_rounding); }
  SUBCASE("sigmoid_mul") { check_product(&Kernels::sigmoid_mul, sigmoid, flat_rounding); }
}

TEST_CASE("kernel add and add_scaled") {
  for_each_length([&](const Kernels& kernels, size_t n) {
    const Floats x = normals(n, n), start = normals(n, n + 9, 3.0f);
    Floats sum = copy_of(start, true), scaled = copy_of(start, true);
    kernels.add(x.data(), n, sum.data());
    kernels.add_scaled(x.data(), -0.37f, n, scaled.data());
    Deviation deviation;
    for (size_t i = 0; i < n; ++i) {
      CHECK(sum[i] == start[i] + x[i]);
      const double term = static_cast<double>(x[i]) * static_cast<double>(-0.37f);
      deviation.add(scaled[i], start[i] + term, 2 * kEps * (std::fabs(start[i]) + std::fabs(term)),
                    i);
    }
    CHECK_DEVIATION(deviation);
    CHECK_INTACT(sum);
    CHECK_INTACT(scaled);
  });
}

namespace {

// Inputs for norms: plain, far from zero, tiny, all equal.
struct NormCase {
  float spread, centre;
};
constexpr NormCase kNormCases[] = {{1.0f, 0.0f},     {1.0f, 100.0f}, {1e-4f, 0.0f},
                                   {300.0f, -50.0f}, {0.0f, 0.0f},   {0.0f, 2.5f}};

}  // namespace

TEST_CASE("kernel rms_norm") {
  for_each_length([&](const Kernels& kernels, size_t n) {
    for (const NormCase& c : kNormCases) {
      for (const float offset : {0.0f, 1.0f}) {
        const float eps = 1e-6f;
        const Floats x = normals(n, n, c.spread, c.centre), scale = normals(n, n + 1);
        Floats y = outputs(n), in_place = copy_of(x, true);
        kernels.rms_norm(x.data(), scale.data(), offset, eps, n, y.data());
        kernels.rms_norm(in_place.data(), scale.data(), offset, eps, n, in_place.data());
        double square = 0;
        for (size_t i = 0; i < n; ++i) square += static_cast<double>(x[i]) * x[i];
        const double factor = 1.0 / std::sqrt(square / static_cast<double>(n) + eps);
        const double rounding = (8 + std::sqrt(static_cast<double>(n))) * kEps;
        Deviation deviation;
        for (size_t i = 0; i < n; ++i) {
          const double unit = x[i] * factor, weight = static_cast<double>(scale[i]) + offset;
          deviation.add(y[i], unit * weight,
                        rounding * std::fabs(unit) * (std::fabs(weight) + offset), i);
        }
        CHECK_DEVIATION(deviation);
        CHECK_INTACT(y);
        CHECK_INTACT(in_place);
        CHECK(same_bits(y.data(), in_place.data(), n));
      }
    }
  });
}

TEST_CASE("kernel layer_norm") {
  for_each_length([&](const Kernels& kernels, size_t n) {
    for (const NormCase& c : kNormCases) {
      const float eps = 1e-5f;
      const Floats x = normals(n, n, c.spread, c.centre), scale = normals(n, n + 1);
      const Floats bias = normals(n, n + 2);
      Floats y = outputs(n), in_place = copy_of(x, true);
      kernels.layer_norm(x.data(), scale.data(), bias.data(), eps, n, y.data());
      kernels.layer_norm(in_place.data(), scale.data(), bias.data(), eps, n, in_place.data());
      double mean = 0, variance = 0, largest = 0;
      for (size_t i = 0; i < n; ++i) mean += x[i] / static_cast<double>(n);
      for (size_t i = 0; i < n; ++i) {
        variance += (x[i] - mean) * (x[i] - mean) / static_cast<double>(n);
        largest = std::max(largest, std::fabs(static_cast<double>(x[i])));
      }
      const double factor = 1.0 / std::sqrt(variance + eps);
      const double rounding = (8 + std::sqrt(static_cast<double>(n))) * kEps;
      Deviation deviation;
      for (size_t i = 0; i < n; ++i) {
        // The mean is off by a rounding of the largest element, and so is every difference from it.
        const double unit = (x[i] - mean) * factor;
        const double error = rounding * (std::fabs(unit) + largest * factor);
        deviation.add(y[i], unit * scale[i] + bias[i],
                      error * std::fabs(scale[i]) + 2 * kEps * std::fabs(bias[i]), i);
      }
      CHECK_DEVIATION(deviation);
      CHECK_INTACT(y);
      CHECK_INTACT(in_place);
      CHECK(same_bits(y.data(), in_place.data(), n));
    }
  });
}

TEST_CASE("kernel affine") {
  for_each_length([&](const Kernels& kernels, size_t n) {
    const Floats x = normals(n, n, 3.0f), scale = normals(n, n + 1), bias = normals(n, n + 2);
    Floats y = outputs(n), in_place = copy_of(x, true);
    kernels.affine(x.data(), scale.data(), bias.data(), n, y.data());
    kernels.affine(in_place.data(), scale.data(), bias.data(), n, in_place.data());
    Deviation deviation;
    for (size_t i = 0; i < n; ++i) {
      const double term = static_cast<double>(x[i]) * scale[i];
      deviation.add(y[i], term + bias[i], 2 * kEps * (std::fabs(term) + std::fabs(bias[i])), i);
    }
    CHECK_DEVIATION(deviation);
    CHECK_INTACT(y);
    CHECK_INTACT(in_place);
    CHECK(same_bits(y.data(), in_place.data(), n));
  });
}

namespace {

void check_mixture(const Kernels& kernels, const Floats& q, const float* gate, float scale) {
  const size_t n = q.size();
  Floats p = outputs(n), p_gate = outputs(1);
  kernels.mixture(q.data(), gate, scale, n, p.data(), gate == nullptr ? nullptr : p_gate.data());
  std::vector<double> logits;
  double top = scale * static_cast<double>(q[0]);
  for (size_t i = 0; i < n; ++i) logits.push_back(scale * static_cast<double>(q[i]));
  if (gate != nullptr) logits.push_back(scale * static_cast<double>(*gate));
  for (const double logit : logits) top = std::max(top, logit);
  const std::vector<double> want = softmax(logits);
  // q - top is rounded once, relative to itself; the sum is rounded n times; what is below exp(-87)
  // of the largest becomes 0.
  const double summing = static_cast<double>(n) / 8;
  const auto tolerance = [&](size_t i) {
    return want[i] * (16 + summing + 4 * std::min(90.0, top - logits[i])) * kEps + 2e-38;
  };
  Deviation deviation;
  double total = 0;
  for (size_t i = 0; i < n; ++i) {
    deviation.add(p[i], want[i], tolerance(i), i);
    total += p[i];
  }
  if (gate != nullptr) {
    deviation.add(p_gate[0], want[n], tolerance(n), n);
    total += p_gate[0];
  }
  CHECK_DEVIATION(deviation);
  CHECK(std::fabs(total - 1.0) < (16 + summing) * kEps);
  CHECK_INTACT(p);
  CHECK_INTACT(p_gate);
}

}  // namespace

TEST_CASE("kernel mixture") {
  for_each_length([&](const Kernels& kernels, size_t n) {
    const float gates[] = {0.3f, 90.0f, -90.0f, kLowest};
    for (const float spread : {0.0f, 1.0f, 30.0f, 300.0f}) {
      const Floats q = normals(n, n + 3, spread);
      for (const float scale : {1.0f, 0.15f}) {
        CAPTURE(spread);
        CAPTURE(scale);
        check_mixture(kernels, q, nullptr, scale);
        for (const float& gate : gates) check_mixture(kernels, q, &gate, scale);
      }
    }
    // One latent that stands 400 above all others takes everything, wherever it is.
    Floats q(n), p = outputs(n);
    for (size_t best = 0; best < n; ++best) {
      std::fill(q.begin(), q.end(), -200.0f);
      q[best] = 200.0f;
      kernels.mixture(q.data(), nullptr, 1.0f, n, p.data(), nullptr);
      size_t wrong = 0;
      for (size_t i = 0; i < n; ++i) wrong += p[i] == (i == best ? 1.0f : 0.0f) ? 0 : 1;
      CAPTURE(best);
      CHECK(wrong == 0);
    }
    CHECK_INTACT(p);
  });
}

// Any number of rows, with strides, gives each row what it gets alone.
TEST_CASE("kernel mixtures: rows of a head and heads of a row, bit for bit") {
  for_each_length([&](const Kernels& kernels, size_t n) {
    for (const size_t rows : {1, 2, 15, 16, 17, 33}) {
      for (const bool gated : {false, true}) {
        CAPTURE(rows);
        CAPTURE(gated);
        MixtureArgs args;
        args.rows = rows, args.n = n;
        args.q_stride = n + 3, args.p_stride = n + 2, args.gate_stride = 2;
        const Floats q = normals((rows - 1) * args.q_stride + n, n + rows, 5.0f);
        const Floats gate = normals((rows - 1) * args.gate_stride + 1, n, 5.0f);
        Floats p = outputs((rows - 1) * args.p_stride + n), p_gate = outputs(rows);
        args.q = q.data(), args.p = p.data();
        args.scale = 0.7f;
        if (gated) args.gate = gate.data(), args.p_gate = p_gate.data();
        kernels.mixtures(args);
        Floats alone = outputs(n), alone_gate = outputs(1);
        bool equal = true;
        for (size_t t = 0; t < rows; ++t) {
          kernels.mixture(q.data() + t * args.q_stride, gated ? gate.data() + 2 * t : nullptr, 0.7f,
                          n, alone.data(), gated ? alone_gate.data() : nullptr);
          equal = equal && same_bits(p.data() + t * args.p_stride, alone.data(), n);
          equal = equal && p_gate[t] == alone_gate[0];
        }
        CHECK(equal);
        CHECK_INTACT(p);
        CHECK_INTACT(p_gate);
      }
    }
  });
}

TEST_CASE("kernel rotate_rows: each row by its own angles, or all by the same") {
  for_each_length([&](const Kernels& kernels, size_t half) {
    constexpr size_t kRows = 11;
    const size_t stride = 2 * half + 3;
    const Floats start = normals((kRows - 1) * stride + 2 * half, half);
    const Floats cosine = normals(kRows * half, half + 1), sine = normals(kRows * half, half + 2);
    for (const size_t angles : {size_t{0}, half}) {
      for (const bool interleaved : {false, true}) {
        Floats x = copy_of(start, true), want = copy_of(start, false);
        RotateArgs args;
        args.rows = kRows;
        args.x = x.data(), args.x_stride = stride;
        args.cosine = cosine.data(), args.sine = sine.data();
        args.angle_stride = angles, args.half = half;
        args.interleaved = interleaved;
        kernels.rotate_rows(args);
        for (size_t t = 0; t < kRows; ++t) {
          kernels.rotate(want.data() + t * stride, cosine.data() + t * angles,
                         sine.data() + t * angles, half, interleaved);
        }
        CHECK(same_bits(x.data(), want.data(), want.size()));
        CHECK_INTACT(x);
      }
    }
  });
}

TEST_CASE("kernel rotate: both pairings, odd channels stay") {
  for_each_length([&](const Kernels& kernels, size_t half) {
    for (const bool interleaved : {false, true}) {
      for (const size_t rest : {0, 1, 2}) {
        CAPTURE(interleaved);
        CAPTURE(rest);
        const size_t width = 2 * half + rest;
        const Floats start = normals(width, half + rest);
        Floats x = copy_of(start, true), cosine(half), sine(half);
        for (size_t i = 0; i < half; ++i) {
          const double angle = 1e-3 + 2.7 * static_cast<double>(i);
          cosine[i] = static_cast<float>(std::cos(angle));
          sine[i] = static_cast<float>(std::sin(angle));
        }
        kernels.rotate(x.data(), cosine.data(), sine.data(), half, interleaved);
        Deviation deviation;
        for (size_t i = 0; i < half; ++i) {
          const size_t ia = interleaved ? 2 * i : i, ib = interleaved ? 2 * i + 1 : half + i;
          const double a = start[ia], b = start[ib], c = cosine[i], s = sine[i];
          const double tolerance = 3 * kEps * (std::fabs(a) + std::fabs(b));
          deviation.add(x[ia], a * c - b * s, tolerance, ia);
          deviation.add(x[ib], b * c + a * s, tolerance, ib);
        }
        CHECK_DEVIATION(deviation);
        CHECK(same_bits(x.data() + 2 * half, start.data() + 2 * half, rest));
        CHECK_INTACT(x);
      }
    }
  });
}

TEST_CASE("kernel widen_i8: exact, every value in every lane") {
  for_each_length([&](const Kernels& kernels, size_t n) {
    Block<int8_t> x(n);
    Floats y = outputs(n);
    const float scale = 0.0123f;
    for (int value = -128; value <= 127; ++value) {
      for (size_t i = 0; i < n; ++i) x[i] = static_cast<int8_t>(value ^ static_cast<int>(i & 1));
      kernels.widen_i8(x.data(), scale, n, y.data());
      size_t wrong = 0;
      for (size_t i = 0; i < n; ++i) wrong += y[i] == static_cast<float>(x[i]) * scale ? 0 : 1;
      CAPTURE(value);
      CHECK(wrong == 0);
    }
    CHECK_INTACT(y);
  });
}

TEST_CASE("kernel widen_f16: every bit pattern, every length") {
  for_each_length([&](const Kernels& kernels, size_t n) {
    Block<uint16_t> x(n);
    Floats y = outputs(n);
    size_t wrong = 0;
    for (uint32_t first = 0; first < 65536; first += static_cast<uint32_t>(n)) {
      for (size_t i = 0; i < n; ++i) x[i] = static_cast<uint16_t>(first + i);
      kernels.widen_f16(x.data(), n, y.data());
      for (size_t i = 0; i < n; ++i) {
        const float want = half_to_float(x[i]);
        const bool good = std::isnan(want) ? std::isnan(y[i]) : same_bits(&want, y.data() + i, 1);
        wrong += good ? 0 : 1;
      }
    }
    CHECK(wrong == 0);
    CHECK_INTACT(y);
  });
}

}  // namespace moka::test
