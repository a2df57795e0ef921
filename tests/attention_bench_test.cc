// The methods of tests/bench/attention against their own formulas in double precision, row by row
// and without any of their blocks, tiles and running sums.
#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "tests/bench/attention/methods.h"
#include "tests/kernel_testing.h"

namespace moka::attention {
namespace {

// Not a multiple of a chunk, and more than a tile of the standard softmax.
constexpr size_t kTokens = 601;

const double kScale = 1.0 / std::sqrt(static_cast<double>(kChannels));

struct Inputs {
  test::Floats q = test::normals(kTokens * kChannels, 1), k = test::normals(kTokens * kChannels, 2),
               v = test::normals(kTokens * kChannels, 3);
  Sequence sequence() const { return {kTokens, q.data(), k.data(), v.data()}; }
};

double dot(const float* a, const float* b) {
  return std::inner_product(a, a + kChannels, b, 0.0, std::plus<double>(),
                            [](float x, float y) { return static_cast<double>(x) * y; });
}

const float* row(const float* rows, size_t t) { return rows + t * kChannels; }

// A weighted mean of rows, given by the logarithms of their weights.
class Mean {
 public:
  void add(double log_weight, const float* v) { terms_.push_back({log_weight, v}); }
  std::vector<double> result() const {
    double top = -INFINITY, total = 0;
    for (const Term& term : terms_) top = std::max(top, term.log_weight);
    std::vector<double> y(kChannels);
    for (const Term& term : terms_) {
      const double weight = std::exp(term.log_weight - top);
      total += weight;
      for (size_t d = 0; d < kChannels; ++d) y[d] += weight * term.v[d];
    }
    for (double& value : y) value /= total;
    return y;
  }

 private:
  struct Term {
    double log_weight;
    const float* v;
  };
  std::vector<Term> terms_;
};

using Row = std::function<std::vector<double>(size_t t)>;  // the result's row t

// On every instruction set; `make` gives the method, `formula` its result.
void check(const std::function<std::unique_ptr<Method>(const Kernels&)>& make, const Inputs& inputs,
           const std::function<Row(Method*)>& formula, double tolerance) {
  std::vector<std::vector<double>> want;
  for (const Kernels* kernels : test::kernel_tables()) {
    const std::unique_ptr<Method> method = make(*kernels);
    INFO(method->name() << ", " << kernels->name);
    REQUIRE(method->prepare(kTokens));
    test::Floats y = test::outputs(kTokens * kChannels);
    std::fill(y.begin(), y.end(), 1e30f);  // what was there must not matter
    method->run(inputs.sequence(), y.data());
    if (want.empty()) {
      const Row reference = formula(method.get());
      for (size_t t = 0; t < kTokens; ++t) want.push_back(reference(t));
    }
    test::Deviation deviation;
    for (size_t t = 0; t < kTokens; ++t) {
      for (size_t d = 0; d < kChannels; ++d) {
        deviation.add(static_cast<double>(y[t * kChannels + d]), want[t][d], tolerance,
                      t * kChannels + d);
      }
    }
    CHECK_DEVIATION(deviation);
    CHECK_INTACT(y);

    test::Floats again = test::outputs(kTokens * kChannels);  // nothing of the first run is left
    method->run(inputs.sequence(), again.data());
    CHECK(test::same_bits(y.data(), again.data(), y.size()));
  }
}

template <class M>
std::unique_ptr<Method> plain(const Kernels& kernels) {
  return std::make_unique<M>(kernels);
}

// Softmax over the keys of tokens `begin` to t.
std::vector<double> softmax_row(const Inputs& in, size_t t, size_t begin) {
  Mean mean;
  for (size_t s = begin; s <= t; ++s) {
    mean.add(kScale * dot(row(in.q.data(), t), row(in.k.data(), s)), row(in.v.data(), s));
  }
  return mean.result();
}

// sum over latents l of softmax(q_t)[l] (sum over s <= t of exp(k_s[l]) v_s / sum of exp(k_s[l]))
std::vector<double> latent_row(const Inputs& in, size_t t) {
  std::vector<double> y(kChannels);
  const float* q = row(in.q.data(), t);
  double total = 0;
  for (size_t l = 0; l < kChannels; ++l) total += std::exp(static_cast<double>(q[l]));
  for (size_t l = 0; l < kChannels; ++l) {
    Mean mean;
    for (size_t s = 0; s <= t; ++s) {
      mean.add(static_cast<double>(row(in.k.data(), s)[l]), row(in.v.data(), s));
    }
    const std::vector<double> part = mean.result();
    const double p = std::exp(static_cast<double>(q[l])) / total;
    for (size_t d = 0; d < kChannels; ++d) y[d] += p * part[d];
  }
  return y;
}

// A key's weight is sum over features f of phi_f(q) phi_f(k).
struct PerformerReference {
  PerformerReference(const Inputs& in, std::vector<float> features) : w(std::move(features)) {
    for (size_t t = 0; t < kTokens; ++t) keys.push_back(exponents(row(in.k.data(), t)));
  }
  std::vector<double> exponents(const float* x) const {
    std::vector<double> e;
    for (size_t f = 0; f * kChannels < w.size(); ++f) {
      e.push_back(std::sqrt(kScale) * dot(row(w.data(), f), x) - kScale * dot(x, x) / 2);
    }
    return e;
  }
  std::vector<double> result(const Inputs& in, size_t t) const {
    const std::vector<double> q = exponents(row(in.q.data(), t));
    Mean mean;
    for (size_t s = 0; s <= t; ++s) {
      double weight = 0;
      for (size_t f = 0; f < q.size(); ++f) weight += std::exp(q[f] + keys[s][f]);
      mean.add(std::log(weight), row(in.v.data(), s));
    }
    return mean.result();
  }
  std::vector<float> w;
  std::vector<std::vector<double>> keys;
};

struct LinformerReference {
  LinformerReference(const Inputs& in, const Linformer& method)
      : keys(Linformer::kRank, std::vector<double>(kChannels)), values(keys) {
    for (size_t r = 0; r < Linformer::kRank; ++r) {
      for (size_t t = 0; t < kTokens; ++t) {
        const double e = static_cast<double>(method.mixture(r, t));
        for (size_t d = 0; d < kChannels; ++d) {
          keys[r][d] += e * row(in.k.data(), t)[d];
          values[r][d] += e * row(in.v.data(), t)[d];
        }
      }
    }
  }
  std::vector<double> result(const float* q) const {
    std::vector<double> y(kChannels);
    double total = 0;
    for (size_t r = 0; r < Linformer::kRank; ++r) {
      double score = 0;
      for (size_t d = 0; d < kChannels; ++d) score += kScale * q[d] * keys[r][d];
      total += std::exp(score);
      for (size_t d = 0; d < kChannels; ++d) y[d] += std::exp(score) * values[r][d];
    }
    for (double& value : y) value /= total;
    return y;
  }
  std::vector<std::vector<double>> keys, values;
};

// Of each round the buckets and the chunk that each token is sorted into.
struct LshReference {
  LshReference(const Inputs& in, const Lsh& method) {
    for (size_t round = 0; round < Lsh::kRounds; ++round) {
      std::vector<size_t> b(kTokens), order(kTokens), c(kTokens);
      for (size_t t = 0; t < kTokens; ++t) {
        b[t] = hash(row(in.q.data(), t), method, round, 0, method.first()) * method.second() +
               hash(row(in.q.data(), t), method, round, method.first() / 2, method.second());
      }
      std::iota(order.begin(), order.end(), 0u);
      std::stable_sort(order.begin(), order.end(), [&](size_t x, size_t y) { return b[x] < b[y]; });
      for (size_t place = 0; place < kTokens; ++place) c[order[place]] = place / kChunk;
      bucket.push_back(b);
      chunk.push_back(c);
    }
  }
  static size_t hash(const float* x, const Lsh& method, size_t round, size_t from, size_t buckets) {
    const size_t columns = (method.first() + method.second()) / 2;
    std::vector<double> turned;
    for (size_t c = 0; c < buckets / 2; ++c) {
      double sum = 0;
      for (size_t d = 0; d < kChannels; ++d) {
        sum += static_cast<double>(x[d]) * method.rotations(round)[d * columns + from + c];
      }
      turned.push_back(sum);
    }
    for (size_t c = 0; c < buckets / 2; ++c) turned.push_back(-turned[c]);
    const size_t best =
        static_cast<size_t>(std::max_element(turned.begin(), turned.end()) - turned.begin());
    for (size_t c = 0; c < buckets; ++c) {  // float32 must come to the same choice
      REQUIRE_MESSAGE((c == best || turned[best] - turned[c] > 1e-5), "a tie: take another seed");
    }
    return best;
  }
  std::vector<double> result(const Inputs& in, size_t t) const {
    Mean mean;
    for (size_t round = 0; round < Lsh::kRounds; ++round) {
      for (size_t s = 0; s <= t; ++s) {
        const size_t near = chunk[round][t] - chunk[round][s];  // wraps to a large one: not seen
        if (bucket[round][s] != bucket[round][t] || near > 1) continue;
        const float* k = row(in.q.data(), s);
        const double score = kScale * dot(row(in.q.data(), t), k) / std::sqrt(dot(k, k));
        mean.add(s == t ? static_cast<double>(Lsh::kSelf) : score, row(in.v.data(), s));
      }
    }
    return mean.result();
  }
  std::vector<std::vector<size_t>> bucket, chunk;
};

}  // namespace

TEST_CASE("attention bench: latent attention is its formula") {
  const Inputs in;
  check(
      plain<Latent>, in, [&](Method*) { return [&](size_t t) { return latent_row(in, t); }; },
      1e-5);
}

TEST_CASE("attention bench: standard and window softmax are their formulas") {
  const Inputs in;
  check(
      plain<Standard>, in, [&](Method*) { return [&](size_t t) { return softmax_row(in, t, 0); }; },
      1e-5);
  check(
      plain<Window>, in,
      [&](Method*) {
        return [&](size_t t) {
          return softmax_row(in, t, t < Window::kWindow ? 0 : t + 1 - Window::kWindow);
        };
      },
      1e-5);
}

TEST_CASE("attention bench: Performer is its formula") {
  const Inputs in;
  for (const size_t features : {size_t{16}, size_t{64}, size_t{128}}) {
    check([&](const Kernels& kernels) { return std::make_unique<Performer>(kernels, features); },
          in,
          [&](Method* method) -> Row {
            const PerformerReference reference(in, static_cast<Performer*>(method)->features());
            return [&in, reference](size_t t) { return reference.result(in, t); };
          },
          5e-5);
  }
}

TEST_CASE("attention bench: features of Performer are orthogonal in blocks") {
  const Performer method(*test::kernel_tables().front(), 128);
  const float* w = method.features().data();
  double squares = 0;
  for (size_t a = 0; a < 128; ++a) {
    squares += dot(row(w, a), row(w, a));
    for (size_t b = a / kChannels * kChannels; b < a; ++b) {
      CHECK(std::fabs(dot(row(w, a), row(w, b))) < 1e-4);
    }
  }
  CHECK(squares / 128 == doctest::Approx(kChannels).epsilon(0.1));
}

TEST_CASE("attention bench: Linformer is its formula") {
  const Inputs in;
  check(
      plain<Linformer>, in,
      [&](Method* method) -> Row {
        const LinformerReference reference(in, *static_cast<Linformer*>(method));
        return [&in, reference](size_t t) { return reference.result(row(in.q.data(), t)); };
      },
      1e-5);
}

TEST_CASE("attention bench: LSH is its formula") {
  const Inputs in;
  check(
      plain<Lsh>, in,
      [&](Method* method) -> Row {
        const LshReference reference(in, *static_cast<Lsh*>(method));
        std::set<size_t> used(reference.bucket[0].begin(), reference.bucket[0].end());
        CHECK(used.size() > kTokens / kChunk / 2);
        return [&in, reference](size_t t) { return reference.result(in, t); };
      },
      1e-5);
}

TEST_CASE("attention bench: memory is what it is said to be") {
  const Kernels& kernels = *test::kernel_tables().front();
  for (const auto& method : make_methods(kernels)) {
    INFO(method->name());
    REQUIRE(method->prepare(1024));
    const size_t little = method->bytes(1024);
    REQUIRE(method->prepare(4096));
    const size_t much = method->bytes(4096);
    const std::string name = method->name();
    const bool constant = name.find("Latte") != std::string::npos ||
                          name.find("window") != std::string::npos ||
                          name.find("Performer") != std::string::npos;
    CHECK(little > kChannels * sizeof(float));
    if (constant) CHECK(much == little);
    if (!constant) CHECK(much >= little + 3072 * kChannels * sizeof(float));
    CHECK(method->causal() == (name.find("Linformer") == std::string::npos));
  }
}

}  // namespace moka::attention
