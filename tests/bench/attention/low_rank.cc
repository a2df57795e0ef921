// Methods that put a product of low rank in the place of the softmax's matrix: Performer's random
// features, Linformer's mixtures of rows.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "tests/bench/attention/methods.h"
#include "tests/kernel_testing.h"

namespace moka::attention {

// ---- Performer ---------------------------------------------------------------------------------

namespace {

// Rows of kChannels numbers: orthogonal within each block of kChannels rows, each as long as a
// vector of normal numbers.
std::vector<float> orthogonal_features(size_t count) {
  test::Random random(11);
  std::vector<double> block(kChannels * kChannels);
  std::vector<float> features;
  for (size_t f = 0; f < count; ++f) {
    const size_t in_block = f % kChannels;
    double* row = block.data() + in_block * kChannels;
    double wanted = 0;  // squared length
    for (size_t d = 0; d < kChannels; ++d) {
      const double x = static_cast<double>(random.normal());
      wanted += x * x;
      row[d] = static_cast<double>(random.normal());
    }
    for (size_t other = 0; other < in_block; ++other) {  // Gram-Schmidt; rows before have length 1
      const double* before = block.data() + other * kChannels;
      double along = 0;
      for (size_t d = 0; d < kChannels; ++d) along += row[d] * before[d];
      for (size_t d = 0; d < kChannels; ++d) row[d] -= along * before[d];
    }
    double square = 0;
    for (size_t d = 0; d < kChannels; ++d) square += row[d] * row[d];
    for (size_t d = 0; d < kChannels; ++d) {
      row[d] /= std::sqrt(square);
      features.push_back(static_cast<float>(std::sqrt(wanted) * row[d]));
    }
  }
  return features;
}

}  // namespace

Performer::Performer(const Kernels& kernels, size_t features)
    : Method(kernels),
      features_(features),
      w_(orthogonal_features(features)),
      rows_(features * kInputs),
      columns_(kInputs * features) {
  for (size_t f = 0; f < features; ++f) {
    std::copy_n(w_.data() + f * kChannels, kChannels, rows_.data() + f * kInputs);
    rows_[f * kInputs + kChannels] = 1.0f;
  }
  transpose(rows_.data(), features, kInputs, kInputs, columns_.data(), features);
}

std::string Performer::name() const {
  return "linear (Performer), " + std::to_string(features_) + " features";
}

void Performer::allocate(size_t) {
  state_ = workspace_.floats(features_ * kOutputs);
  input_ = workspace_.floats(2 * kChunk * kInputs + kInputs * kChunk);
  phi_q_ = workspace_.floats(kChunk * features_);
  phi_k_ = workspace_.floats(features_ * kChunk);
  mix_ = workspace_.floats(kChunk * kChunk);
  value_ = workspace_.floats(kChunk * kOutputs);
  out_ = workspace_.floats(kChunk * kOutputs);
}

// A chunk's own pairs by the triangle of phi(q) phi(k)^T, everything before by the state. No
// largest exponent is taken off: w x' - |x'|^2 / 2 is at most |w|^2 / 2, about kChannels / 2, and
// the exponential of that times a sequence is far from float32's end.
void Performer::run_chunk(const Sequence& sequence, size_t start, size_t rows, float* y) {
  float* q = input_;
  float* k = q + kChunk * kInputs;
  float* k_t = k + kChunk * kInputs;  // pad columns of a short chunk hold an earlier one: not used
  const float scale = 1.0f / std::sqrt(std::sqrt(static_cast<float>(kChannels)));
  const auto scaled = [&](const float* from, float* to) {
    float square = 0.0f;
    for (size_t d = 0; d < kChannels; ++d) {
      to[d] = scale * from[d];
      square += to[d] * to[d];
    }
    to[kChannels] = -0.5f * square;
  };
  for (size_t t = 0; t < rows; ++t) {
    scaled(sequence.q + (start + t) * kChannels, q + t * kInputs);
    scaled(sequence.k + (start + t) * kChannels, k + t * kInputs);
    std::copy_n(sequence.v + (start + t) * kChannels, kChannels, value_ + t * kOutputs);
    value_[t * kOutputs + kChannels] = 1.0f;
  }
  transpose(k, rows, kInputs, kInputs, k_t, kChunk);

  const auto product = [&](size_t m, size_t n, size_t depth, const float* a, size_t lda,
                           const float* b, size_t ldb, float* c, size_t ldc) {
    GemmArgs args;
    args.m = m, args.n = n, args.k = depth;
    args.a = a, args.lda = lda, args.b = b, args.ldb = ldb, args.c = c, args.ldc = ldc;
    return args;
  };
  kernels_.gemm(
      product(rows, features_, kInputs, q, kInputs, columns_.data(), features_, phi_q_, features_));
  kernels_.exp(phi_q_, rows * features_, phi_q_);
  kernels_.gemm(
      product(features_, kChunk, kInputs, rows_.data(), kInputs, k_t, kChunk, phi_k_, kChunk));
  kernels_.exp(phi_k_, features_ * kChunk, phi_k_);

  GemmArgs mix = product(rows, kChunk, features_, phi_q_, features_, phi_k_, kChunk, mix_, kChunk);
  mix.triangle = Triangle::kLowerOutput;
  kernels_.gemm(mix);
  for (size_t t = 0; t < rows; ++t) {
    std::fill(mix_ + t * kChunk + t + 1, mix_ + (t + 1) * kChunk, 0.0f);
  }
  GemmArgs near = product(rows, kOutputs, rows, mix_, kChunk, value_, kOutputs, out_, kOutputs);
  near.triangle = Triangle::kLowerInput;
  kernels_.gemm(near);
  GemmArgs far =
      product(rows, kOutputs, features_, phi_q_, features_, state_, kOutputs, out_, kOutputs);
  far.accumulate = true;
  kernels_.gemm(far);
  GemmArgs sum =
      product(features_, kOutputs, rows, phi_k_, kChunk, value_, kOutputs, state_, kOutputs);
  sum.accumulate = true;
  kernels_.gemm(sum);

  for (size_t t = 0; t < rows; ++t) {
    const float total = out_[t * kOutputs + kChannels];
    const float inverse = total > 0.0f ? 1.0f / total : 0.0f;
    for (size_t d = 0; d < kChannels; ++d) {
      y[(start + t) * kChannels + d] = inverse * out_[t * kOutputs + d];
    }
  }
}

void Performer::run(const Sequence& sequence, float* y) {
  std::fill_n(state_, features_ * kOutputs, 0.0f);
  for (size_t start = 0; start < sequence.n; start += kChunk) {
    run_chunk(sequence, start, std::min(kChunk, sequence.n - start), y);
  }
}

// ---- Linformer ---------------------------------------------------------------------------------

void Linformer::allocate(size_t n) {
  keys_ = workspace_.floats(kRank * kChannels);
  values_ = workspace_.floats(kRank * kChannels);
  keys_t_ = workspace_.floats(kChannels * kRank);
  score_ = workspace_.floats(kChunk * kRank);
  weight_ = workspace_.floats(kChunk * kRank);
  query_ = workspace_.floats(kChunk * kChannels);
  // Parameters, so not counted as memory of the head.
  const size_t chunks = (n + kChunk - 1) / kChunk;
  if (!e_.allocate(chunks * kRank * kChunk)) {
    workspace_.fail();
    return;
  }
  // Sums have about the spread of one row. The numbers are many, so they are made the cheap way.
  const float spread = 2.0f / std::sqrt(static_cast<float>(n));
  uint32_t state = 1;
  for (size_t i = 0; i < e_.size(); ++i) {
    state = state * 1664525u + 1013904223u;  // Numerical Recipes' generator
    e_.data()[i] = spread * (static_cast<float>(state >> 8) / 8388608.0f - 1.0f);
  }
}

void Linformer::run(const Sequence& sequence, float* y) {
  std::fill_n(keys_, kRank * kChannels, 0.0f);
  std::fill_n(values_, kRank * kChannels, 0.0f);
  for (size_t start = 0; start < sequence.n; start += kChunk) {
    GemmArgs gather;
    gather.m = kRank, gather.n = kChannels, gather.k = std::min(kChunk, sequence.n - start);
    gather.a = e_.data() + start * kRank, gather.lda = kChunk;
    gather.b = sequence.k + start * kChannels, gather.ldb = kChannels;
    gather.c = keys_, gather.ldc = kChannels;
    gather.accumulate = true;
    kernels_.gemm(gather);
    gather.b = sequence.v + start * kChannels;
    gather.c = values_;
    kernels_.gemm(gather);
  }
  transpose(keys_, kRank, kChannels, kChannels, keys_t_, kRank);

  const float scale = 1.0f / std::sqrt(static_cast<float>(kChannels));
  for (size_t start = 0; start < sequence.n; start += kChunk) {
    const size_t rows = std::min(kChunk, sequence.n - start);
    for (size_t i = 0; i < rows * kChannels; ++i) {
      query_[i] = scale * sequence.q[start * kChannels + i];
    }
    GemmArgs scores;
    scores.m = rows, scores.n = kRank, scores.k = kChannels;
    scores.a = query_, scores.lda = kChannels, scores.b = keys_t_, scores.ldb = kRank;
    scores.c = score_, scores.ldc = kRank;
    kernels_.gemm(scores);
    for (size_t t = 0; t < rows; ++t) {
      kernels_.mixture(score_ + t * kRank, nullptr, 1.0f, kRank, weight_ + t * kRank, nullptr);
    }
    GemmArgs sum;
    sum.m = rows, sum.n = kChannels, sum.k = kRank;
    sum.a = weight_, sum.lda = kRank, sum.b = values_, sum.ldb = kChannels;
    sum.c = y + start * kChannels, sum.ldc = kChannels;
    kernels_.gemm(sum);
  }
}

}  // namespace moka::attention
