// Latent attention, and the two forms of softmax that the runtime has too.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/bench/attention/methods.h"

namespace moka::attention {

// ---- latent ------------------------------------------------------------------------------------

void Latent::allocate(size_t) {
  m_ = workspace_.floats(kChannels);
  z_ = workspace_.floats(kChannels);
  s_ = workspace_.floats(kChannels * kChannels);
  p_ = workspace_.floats(kChunk * kChannels);
  scratch_ = workspace_.floats(latent_scratch(kChunk, kChannels));
}

void Latent::run(const Sequence& sequence, float* y) {
  std::fill_n(m_, kChannels, std::numeric_limits<float>::lowest());
  std::fill_n(z_, kChannels, 0.0f);
  std::fill_n(s_, kChannels * kChannels, 0.0f);
  for (size_t start = 0; start < sequence.n; start += kChunk) {
    const size_t rows = std::min(kChunk, sequence.n - start);
    for (size_t t = 0; t < rows; ++t) {
      kernels_.mixture(sequence.q + (start + t) * kChannels, nullptr, 1.0f, kChannels,
                       p_ + t * kChannels, nullptr);
    }
    LatentArgs args;
    args.n = rows, args.lh = kChannels, args.dh_pad = kChannels;
    args.p = p_, args.p_stride = kChannels;
    args.k = sequence.k + start * kChannels, args.k_stride = kChannels;
    args.v = sequence.v + start * kChannels, args.v_stride = kChannels;
    args.m = m_, args.z = z_, args.s = s_;
    args.y = y + start * kChannels, args.y_stride = kChannels;
    args.scratch = scratch_;
    kernels_.latent(args);
  }
}

// ---- standard ----------------------------------------------------------------------------------

namespace {

// Rows of a tile do not lie a power of two apart: they would compete for the same cache lines.
constexpr size_t kTileStride = Standard::kTile + kRowPad;
constexpr size_t kTileSize = kChannels * kTileStride;

}  // namespace

void Standard::allocate(size_t n) {
  keys_ = workspace_.floats((n + kTile - 1) / kTile * kTileSize);
  score_ = workspace_.floats(kChunk * kTileStride);
  weight_ = workspace_.floats(kChunk * kTileStride);
  query_ = workspace_.floats(kChunk * kChannels);
}

// Rows start ... start + rows against all tiles up to their own.
void Standard::run_block(const Sequence& sequence, size_t start, size_t rows, float* y) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(kChannels));
  for (size_t i = 0; i < rows * kChannels; ++i) {
    query_[i] = scale * sequence.q[start * kChannels + i];
  }
  float log_total[kChunk] = {};
  for (size_t tile = 0; tile < start + rows; tile += kTile) {
    const size_t seen = std::min(kTile, start + rows - tile);  // keys, by the last row
    GemmArgs s;
    s.m = rows, s.n = pad_row(seen), s.k = kChannels;
    s.a = query_, s.lda = kChannels;
    s.b = keys_ + tile / kTile * kTileSize, s.ldb = kTileStride;
    s.c = score_, s.ldc = kTileStride;
    kernels_.gemm(s);
    for (size_t t = 0; t < rows; ++t) {
      float* weight = weight_ + t * kTileStride;
      const size_t count = std::min(seen, start + t + 1 - tile);
      const float earlier = continue_softmax(kernels_, score_ + t * kTileStride, count, tile == 0,
                                             &log_total[t], weight);
      std::fill(weight + count, weight + seen, 0.0f);
      for (size_t d = 0; d < kChannels; ++d) y[(start + t) * kChannels + d] *= earlier;
    }
    GemmArgs sum;
    sum.m = rows, sum.n = kChannels, sum.k = seen;
    sum.a = weight_, sum.lda = kTileStride;
    sum.b = sequence.v + tile * kChannels, sum.ldb = kChannels;
    sum.c = y + start * kChannels, sum.ldc = kChannels;
    sum.accumulate = true;
    kernels_.gemm(sum);
  }
}

void Standard::run(const Sequence& sequence, float* y) {
  std::fill_n(y, sequence.n * kChannels, 0.0f);
  for (size_t start = 0; start < sequence.n; start += kChunk) {
    const size_t rows = std::min(kChunk, sequence.n - start);
    transpose(sequence.k + start * kChannels, rows, kChannels, kChannels,
              keys_ + start / kTile * kTileSize + start % kTile, kTileStride);
    run_block(sequence, start, rows, y);
  }
}

// ---- window ------------------------------------------------------------------------------------

void Window::allocate(size_t) {
  ring_k_ = workspace_.floats(kChannels * pad_row(kWindow));
  ring_v_ = workspace_.floats(kWindow * kChannels);
  scratch_ = workspace_.floats(window_scratch(kChunk, kWindow, kChannels, kChannels));
}

void Window::run(const Sequence& sequence, float* y) {
  for (size_t start = 0; start < sequence.n; start += kChunk) {
    WindowArgs args;
    args.n = std::min(kChunk, sequence.n - start);
    args.dh = kChannels, args.dh_pad = kChannels, args.capacity = kWindow;
    args.position = start;
    args.q = sequence.q + start * kChannels, args.q_stride = kChannels;
    args.k = sequence.k + start * kChannels, args.k_stride = kChannels;
    args.v = sequence.v + start * kChannels, args.v_stride = kChannels;
    args.ring_k = ring_k_, args.ring_v = ring_v_;
    args.scale = 1.0f / std::sqrt(static_cast<float>(kChannels));
    args.y = y + start * kChannels, args.y_stride = kChannels;
    args.scratch = scratch_;
    kernels_.window(args);
  }
}

}  // namespace moka::attention
