// The kernels' mathematics in double precision, written for clearness: every formula as the
// specification states it, without vectors, ring or chunks.
#ifndef MOKA_TESTS_KERNEL_REFERENCE_H_
#define MOKA_TESTS_KERNEL_REFERENCE_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace moka::test {

inline double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
inline double silu(double x) { return x * sigmoid(x); }
inline double gelu(double x) {
  const double inner = std::sqrt(2.0 / 3.14159265358979323846) * (x + 0.044715 * x * x * x);
  // tanh form; for large negative x, 1 + tanh loses everything that the sigmoid keeps.
  return x * sigmoid(2.0 * inner);
}

// Softmax weights of the logits.
inline std::vector<double> softmax(const std::vector<double>& logits) {
  double top = logits[0], total = 0;
  for (const double logit : logits) top = std::max(top, logit);
  std::vector<double> weights;
  for (const double logit : logits) weights.push_back(std::exp(logit - top));
  for (const double weight : weights) total += weight;
  for (double& weight : weights) weight /= total;
  return weights;
}

// Causal latent attention of one head, fed token by token: the step form, which the spec calls the
// truth. Sums are relative to the largest key so far, so that no key is too large.
class LatentReference {
 public:
  LatentReference(size_t lh, size_t dh) : lh_(lh), dh_(dh), sums_(lh) {}

  // y_t for mixture weights p[lh], keys k[lh], values v[dh].
  std::vector<double> step(const float* p, const float* k, const float* v) {
    std::vector<double> y(dh_, 0.0);
    for (size_t l = 0; l < lh_; ++l) {
      State& state = sums_[l];
      const double key = k[l];
      const double top = state.empty ? key : std::max(state.top, key);
      const double decay = state.empty ? 0.0 : std::exp(state.top - top),
                   gain = std::exp(key - top);
      state.values.resize(dh_, 0.0);
      state.empty = false;
      state.top = top;
      state.z = decay * state.z + gain;
      for (size_t d = 0; d < dh_; ++d) {
        state.values[d] = decay * state.values[d] + gain * v[d];
        y[d] += p[l] * state.values[d] / state.z;
      }
    }
    return y;
  }

  double top(size_t l) const { return sums_[l].top; }
  double z(size_t l) const { return sums_[l].z; }  // sum of exp(k - top)
  double value(size_t l, size_t d) const { return sums_[l].values[d]; }

 private:
  struct State {
    bool empty = true;
    double top = 0, z = 0;
    std::vector<double> values;
  };
  size_t lh_, dh_;
  std::vector<State> sums_;
};

// Softmax attention over the last `capacity` tokens. Holds all tokens.
class WindowReference {
 public:
  WindowReference(size_t dh, size_t capacity, double scale, double softcap)
      : dh_(dh), capacity_(capacity), scale_(scale), softcap_(softcap) {}

  void remember(const float* k, const float* v) {
    keys_.emplace_back(k, k + dh_);
    values_.emplace_back(v, v + dh_);
  }

  std::vector<double> step(const float* q, const float* k, const float* v) {
    remember(k, v);
    const size_t begin = keys_.size() > capacity_ ? keys_.size() - capacity_ : 0;
    std::vector<double> logits;
    for (size_t i = begin; i < keys_.size(); ++i) {
      double dot = 0;
      for (size_t d = 0; d < dh_; ++d) dot += static_cast<double>(q[d]) * keys_[i][d];
      dot *= scale_;
      logits.push_back(softcap_ > 0 ? softcap_ * std::tanh(dot / softcap_) : dot);
    }
    const std::vector<double> weights = softmax(logits);
    std::vector<double> y(dh_, 0.0);
    for (size_t i = begin; i < keys_.size(); ++i) {
      for (size_t d = 0; d < dh_; ++d) y[d] += weights[i - begin] * values_[i][d];
    }
    return y;
  }

 private:
  size_t dh_, capacity_;
  double scale_, softcap_;
  std::vector<std::vector<double>> keys_, values_;
};

}  // namespace moka::test

#endif  // MOKA_TESTS_KERNEL_REFERENCE_H_
