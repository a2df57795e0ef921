// LSH attention of Reformer.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "tests/bench/attention/methods.h"
#include "tests/kernel_testing.h"

namespace moka::attention {
namespace {

constexpr size_t kSeen =
    2 * kChunk;  // keys before a chunk's mask: those of the chunk before it first

// Index of the largest of x and -x, `half` numbers.
size_t largest_of_both(const float* x, size_t half) {
  size_t best = 0;
  float top = x[0];
  for (size_t i = 0; i < 2 * half; ++i) {
    const float value = i < half ? x[i] : -x[i - half];
    if (value > top) top = value, best = i;
  }
  return best;
}

}  // namespace

void Lsh::allocate(size_t n) {
  // At least n / kChunk pairs, of two powers of two: x and -x are a bucket each.
  first_ = second_ = 2;
  while (first_ * second_ * kChunk < n) (first_ > second_ ? second_ : first_) *= 2;
  const size_t columns = (first_ + second_) / 2;
  test::Random random(13);
  for (std::vector<float>& rotation : rotations_) {
    rotation.resize(kChannels * columns);
    for (float& value : rotation) value = random.normal();
  }
  const auto integers = [&](size_t count) {
    static_assert(sizeof(uint32_t) == sizeof(float), "counted as floats");
    return reinterpret_cast<uint32_t*>(workspace_.floats(count));
  };
  bucket_ = integers(n);
  order_ = integers(n);
  count_ = integers(first_ * second_ + 1);
  log_total_ = workspace_.floats(n);
  projected_ = workspace_.floats(kChunk * columns);
  query_ = workspace_.floats(kChunk * kChannels);
  keys_t_ = workspace_.floats(kChannels * kSeen);
  value_ = workspace_.floats(kSeen * kChannels);
  score_ = workspace_.floats(kChunk * kSeen);
  weight_ = workspace_.floats(kChunk * kSeen);
  out_ = workspace_.floats(kChunk * kChannels);
}

void Lsh::hash(const Sequence& sequence, size_t round) {
  const size_t a = first_ / 2, b = second_ / 2;
  for (size_t start = 0; start < sequence.n; start += kChunk) {
    GemmArgs turn;
    turn.m = std::min(kChunk, sequence.n - start), turn.n = a + b, turn.k = kChannels;
    turn.a = sequence.q + start * kChannels, turn.lda = kChannels;
    turn.b = rotations(round), turn.ldb = a + b;
    turn.c = projected_, turn.ldc = a + b;
    kernels_.gemm(turn);
    for (size_t t = 0; t < turn.m; ++t) {
      const float* x = projected_ + t * (a + b);
      bucket_[start + t] =
          static_cast<uint32_t>(largest_of_both(x, a) * second_ + largest_of_both(x + a, b));
    }
  }
}

// order_: tokens by bucket, those of one bucket by place.
void Lsh::sort(size_t n) {
  const size_t buckets = first_ * second_;
  std::fill_n(count_, buckets + 1, 0u);
  for (size_t t = 0; t < n; ++t) ++count_[bucket_[t] + 1];
  for (size_t i = 0; i < buckets; ++i) count_[i + 1] += count_[i];
  for (size_t t = 0; t < n; ++t) order_[count_[bucket_[t]]++] = static_cast<uint32_t>(t);
}

// Moves the chunk before to the first half of keys and values, and puts this one into the second.
void Lsh::load_chunk(const Sequence& sequence, size_t start, size_t rows) {
  for (size_t d = 0; d < kChannels; ++d) {
    std::memcpy(keys_t_ + d * kSeen, keys_t_ + d * kSeen + kChunk, kChunk * sizeof(float));
  }
  std::memcpy(value_, value_ + kChunk * kChannels, kChunk * kChannels * sizeof(float));
  const float scale = 1.0f / std::sqrt(static_cast<float>(kChannels));
  float inverse[kChunk];
  for (size_t t = 0; t < rows; ++t) {
    const float* q = sequence.q + order_[start + t] * kChannels;
    float square = 0.0f;
    for (size_t d = 0; d < kChannels; ++d) {
      square += q[d] * q[d];
      query_[t * kChannels + d] = scale * q[d];
    }
    inverse[t] = square > 0.0f ? 1.0f / (scale * std::sqrt(square)) : 0.0f;
    std::memcpy(value_ + (kChunk + t) * kChannels, sequence.v + order_[start + t] * kChannels,
                kChannels * sizeof(float));
  }
  for (size_t d = 0; d < kChannels; ++d) {
    float* row = keys_t_ + d * kSeen + kChunk;
    for (size_t t = 0; t < rows; ++t) row[t] = inverse[t] * query_[t * kChannels + d];
  }
}

void Lsh::run_chunk(const Sequence& sequence, bool first_round, size_t start, size_t rows,
                    float* y) {
  load_chunk(sequence, start, rows);
  GemmArgs scores;
  scores.m = rows, scores.n = kSeen, scores.k = kChannels;
  scores.a = query_, scores.lda = kChannels, scores.b = keys_t_, scores.ldb = kSeen;
  scores.c = score_, scores.ldc = kSeen;
  kernels_.gemm(scores);

  // Column j is sorted place `start + j - kChunk`. Of one bucket, earlier places are earlier
  // tokens.
  const size_t none = start == 0 ? kChunk : 0;  // columns without a token
  float earlier[kChunk];
  for (size_t t = 0; t < rows; ++t) {
    float* score = score_ + t * kSeen;
    const uint32_t bucket = bucket_[order_[start + t]];
    size_t begin = kChunk + t;
    while (begin > none && bucket_[order_[start + begin - 1 - kChunk]] == bucket) --begin;
    std::fill(score, score + begin, kMasked);
    score[kChunk + t] = kSelf;
    std::fill(score + kChunk + t + 1, score + kSeen, kMasked);
    earlier[t] = continue_softmax(kernels_, score, kSeen, first_round,
                                  &log_total_[order_[start + t]], weight_ + t * kSeen);
  }
  GemmArgs sum;
  sum.m = rows, sum.n = kChannels, sum.k = kSeen;
  sum.a = weight_, sum.lda = kSeen, sum.b = value_, sum.ldb = kChannels;
  sum.c = out_, sum.ldc = kChannels;
  kernels_.gemm(sum);
  for (size_t t = 0; t < rows; ++t) {
    float* row = y + order_[start + t] * kChannels;
    for (size_t d = 0; d < kChannels; ++d) {
      row[d] = earlier[t] * row[d] + out_[t * kChannels + d];
    }
  }
}

void Lsh::run(const Sequence& sequence, float* y) {
  std::fill_n(y, sequence.n * kChannels, 0.0f);
  std::fill_n(value_, kSeen * kChannels, 0.0f);  // columns without a token have weight 0
  std::fill_n(keys_t_, kChannels * kSeen, 0.0f);
  for (size_t round = 0; round < kRounds; ++round) {
    hash(sequence, round);
    sort(sequence.n);
    for (size_t start = 0; start < sequence.n; start += kChunk) {
      run_chunk(sequence, round == 0, start, std::min(kChunk, sequence.n - start), y);
    }
  }
}

}  // namespace moka::attention
