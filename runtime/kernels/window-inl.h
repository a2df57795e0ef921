// Sliding-window softmax attention of one head over a ring of past keys and values. Included once
// inside each instruction set's namespace. Layouts: WindowArgs in kernels.h.

// Turns scores[begin, end) into exp(z - max z) with z = cap(scale * score), everything else in
// [0, width) into 0, and returns the sum. width is a multiple of kRowPad; what is left out may hold
// anything.
inline float window_exp(float* score, size_t begin, size_t end, size_t width, float scale,
                        float softcap) {
  const Vec::R nothing = Vec::set(-3.4028234663852886e38f);  // its exponential is 0
  const Vec::R factor = Vec::set(scale);
  Vec::R most = nothing;
  for (size_t i = 0; i < width; i += Vec::kWidth) {
    Vec::R z = Vec::mul(Vec::load(score + i), factor);
    if (softcap > 0.0f) {
      // c tanh(z / c) = c (2 sigmoid(2 z / c) - 1)
      const Vec::R turn = sigmoid_vector<Vec>(Vec::mul(z, Vec::set(2.0f / softcap)));
      z = Vec::mul(Vec::set(softcap), Vec::sub(Vec::add(turn, turn), Vec::set(1.0f)));
    }
    if (i < begin) {
      z = Vec::first(begin - i < Vec::kWidth ? begin - i : Vec::kWidth, nothing, z);
    }
    if (i + Vec::kWidth > end) z = Vec::first(i < end ? end - i : 0, z, nothing);
    Vec::store(score + i, z);
    most = Vec::max(most, z);
  }
  const Vec::R top = Vec::set(Vec::largest(most));
  Vec::R total = Vec::set(0.0f);
  for (size_t i = 0; i < width; i += Vec::kWidth) {
    const Vec::R e = exp_vector<Vec>(Vec::sub(Vec::load(score + i), top));
    Vec::store(score + i, e);
    total = Vec::add(total, e);
  }
  return Vec::sum(total);
}

// y = factor * sum, or y += factor * sum when blending.
inline void window_output(const WindowArgs& g, size_t t, float total, const float* sum) {
  float* y = g.y + t * g.y_stride;
  const Vec::R factor = Vec::set((g.blend != nullptr ? g.blend[t] : 1.0f) / total);
  for (size_t d = 0; d < g.dh_pad; d += Vec::kWidth) {
    const Vec::R part = Vec::mul(factor, Vec::load(sum + d));
    Vec::store(y + d, g.blend != nullptr ? Vec::add(Vec::load(y + d), part) : part);
  }
}

inline void window_store_values(const WindowArgs& g, size_t t) {
  const size_t slot = static_cast<size_t>((g.position + t) % g.capacity);
  const float* v = g.v + t * g.v_stride;
  float* row = g.ring_v + slot * g.dh_pad;
  for (size_t d = 0; d < g.dh_pad; d += Vec::kWidth) Vec::store(row + d, Vec::load(v + d));
}

// Raw scores of the kCols vectors of slots from `at` on, and on the way the new key into its slot: its
// cache line has just been read. The new key's own score is not among them.
template <size_t kCols>
inline void window_step_scores(const WindowArgs& g, size_t slot, size_t at, float* score) {
  const size_t cp = pad_row(g.capacity);
  Vec::R acc[kCols];
  MOKA_UNROLL
  for (size_t j = 0; j < kCols; ++j) acc[j] = Vec::set(0.0f);
  const bool holds = slot - at < kCols * Vec::kWidth;  // false for slot < at, too
  for (size_t i = 0; i < g.dh; ++i) {
    const size_t d = stream_row(i, g.dh);
    float* row = g.ring_k + d * cp;
    const Vec::R q = Vec::set(g.q[d]);
    MOKA_UNROLL
    for (size_t j = 0; j < kCols; ++j) {
      __builtin_prefetch(row + kStreamAhead + at + j * Vec::kWidth);
      acc[j] = Vec::fma(q, Vec::load(row + at + j * Vec::kWidth), acc[j]);
    }
    if (holds) row[slot] = g.k[d];
  }
  MOKA_UNROLL
  for (size_t j = 0; j < kCols; ++j) Vec::store(score + at + j * Vec::kWidth, acc[j]);
}

// Channels from `at` on, kCols vectors, of the weighted sum of `fill` values.
template <size_t kCols>
inline void window_step_values(const WindowArgs& g, size_t fill, const float* weight, size_t at,
                               float* sum) {
  Vec::R acc[kCols];
  MOKA_UNROLL
  for (size_t j = 0; j < kCols; ++j) acc[j] = Vec::set(0.0f);
  for (size_t n = 0; n < fill; ++n) {
    const size_t i = stream_row(n, fill);
    const Vec::R w = Vec::set(weight[i]);
    const float* row = g.ring_v + i * g.dh_pad + at;
    MOKA_UNROLL
    for (size_t j = 0; j < kCols; ++j) {
      __builtin_prefetch(row + kStreamAhead + j * Vec::kWidth);
      acc[j] = Vec::fma(w, Vec::load(row + j * Vec::kWidth), acc[j]);
    }
  }
  MOKA_UNROLL
  for (size_t j = 0; j < kCols; ++j) Vec::store(sum + at + j * Vec::kWidth, acc[j]);
}

inline void window_step(const WindowArgs& g) {
  const size_t slot = static_cast<size_t>(g.position % g.capacity);
  const size_t fill =
      g.position + 1 < g.capacity ? static_cast<size_t>(g.position + 1) : g.capacity;
  const size_t width = pad_row(fill);
  float* score = g.scratch;
  float* sum = score + pad_row(g.capacity);
  window_store_values(g, 0);
  size_t at = 0;
  for (; at + 8 * Vec::kWidth <= width; at += 8 * Vec::kWidth) {
    window_step_scores<8>(g, slot, at, score);
  }
  for (; at < width; at += Vec::kWidth) window_step_scores<1>(g, slot, at, score);
  float own = 0.0f;
  for (size_t d = 0; d < g.dh; ++d) own = Scalar::fma(g.q[d], g.k[d], own);
  score[slot] = own;
  const float total = window_exp(score, 0, fill, width, g.scale, g.softcap);
  at = 0;
  for (; at + 4 * Vec::kWidth <= g.dh_pad; at += 4 * Vec::kWidth) {
    window_step_values<4>(g, fill, score, at, sum);
  }
  switch ((g.dh_pad - at) / Vec::kWidth) {
    case 3: window_step_values<3>(g, fill, score, at, sum); break;
    case 2: window_step_values<2>(g, fill, score, at, sum); break;
    case 1: window_step_values<1>(g, fill, score, at, sum); break;
    default: break;
  }
  window_output(g, 0, total, sum);
}

// A chunk's keys, in the order of time, lie in columns: the `past` tokens before it end at column
// `first`, a multiple of kRowPad, where its own begin. Column c of channel d stands at
// keys + c / 16 * block + 16 d + c % 16.
struct WindowChunk {
  size_t reach, past, first, block;
  float *keys, *score, *sum;
};

inline float* window_column(const WindowChunk& w, size_t column) {
  return w.keys + column / kRowPad * w.block + column % kRowPad;
}

inline void window_copy(const float* from, float* to, size_t n) {
  if (n == kRowPad) {
    for (size_t i = 0; i < kRowPad; i += Vec::kWidth) Vec::store(to + i, Vec::load(from + i));
  } else {
    for (size_t i = 0; i < n; ++i) to[i] = from[i];
  }
}

// Keys of columns [begin, end) from the ring, or to it: stretches that end neither in a block nor at
// the end of the ring.
template <bool kStore>
inline void window_move_keys(const WindowArgs& g, const WindowChunk& w, size_t begin, size_t end) {
  const size_t cp = pad_row(g.capacity);
  while (begin < end) {
    // Column c holds the token at g.position + c - first.
    const size_t slot = static_cast<size_t>((g.position + begin - w.first) % g.capacity);
    size_t n = kRowPad - begin % kRowPad;
    n = n < g.capacity - slot ? n : g.capacity - slot;
    n = n < end - begin ? n : end - begin;
    float* column = window_column(w, begin);
    float* ring = g.ring_k + slot;
    for (size_t d = 0; d < g.dh; ++d) {
      if (kStore) {
        window_copy(column + d * kRowPad, ring + d * cp, n);
      } else {
        window_copy(ring + d * cp, column + d * kRowPad, n);
      }
    }
    begin += n;
  }
}

// The keys of `count` tokens from `t` on, which fill one block or the beginning of one.
inline void window_new_keys(const WindowArgs& g, const WindowChunk& w, size_t t, size_t count) {
  float* block = window_column(w, w.first + t);
  if (count < kRowPad) {
    for (size_t i = 0; i < g.dh * kRowPad; ++i) block[i] = 0.0f;
  }
  transpose(count, g.dh, g.k + t * g.k_stride, g.k_stride, block, kRowPad);
}

// sum (+)= the weights of `rows` queries, from `column` on, times `count` values.
inline void window_values(const WindowArgs& g, const WindowChunk& w, size_t rows, size_t stride,
                          const float* weights, const float* values, size_t value_stride,
                          size_t count, bool accumulate) {
  GemmArgs y;
  y.m = rows, y.n = g.dh_pad, y.k = count;
  y.a = weights, y.lda = stride;
  y.b = values, y.ldb = value_stride;
  y.c = w.sum, y.ldc = g.dh_pad;
  y.accumulate = accumulate;
  gemm(y);
}

// Queries t ... t + rows of the chunk, rows <= kWindowQueries.
inline void window_queries(const WindowArgs& g, const WindowChunk& w, size_t t, size_t rows) {
  const size_t own = w.first + t;  // column of the first query's own key
  const size_t oldest = own > w.reach + w.first - w.past ? own - w.reach : w.first - w.past;
  const size_t left = oldest / kRowPad * kRowPad, width = pad_row(own + rows) - left;
  GemmArgs s;
  s.m = rows, s.n = width, s.k = g.dh;
  s.a = g.q + t * g.q_stride, s.lda = g.q_stride;
  s.b = window_column(w, left), s.ldb = kRowPad, s.b_block = w.block;
  s.c = w.score, s.ldc = width;
  gemm(s);
  float total[kWindowQueries];
  for (size_t i = 0; i < rows; ++i) {
    const size_t end = own + i + 1;
    const size_t begin = end > oldest + w.reach + 1 ? end - w.reach - 1 : oldest;
    total[i] = window_exp(w.score + i * width, begin - left, end - left, width, g.scale, g.softcap);
  }
  // Values of the past stand in the ring, in at most two stretches, the others where they were made.
  size_t column = oldest;
  while (column < w.first) {
    const size_t slot = static_cast<size_t>((g.position + column - w.first) % g.capacity);
    size_t n = w.first - column;
    n = n < g.capacity - slot ? n : g.capacity - slot;
    window_values(g, w, rows, width, w.score + column - left, g.ring_v + slot * g.dh_pad, g.dh_pad,
                  n, column > oldest);
    column += n;
  }
  window_values(g, w, rows, width, w.score + column - left, g.v + (column - w.first) * g.v_stride,
                g.v_stride, own + rows - column, column > oldest);
  for (size_t i = 0; i < rows; ++i) window_output(g, t + i, total[i], w.sum + i * g.dh_pad);
}

inline void window_chunk(const WindowArgs& g) {
  WindowChunk w;
  w.reach = g.capacity - 1;  // tokens before the current one that it sees
  w.past = g.position < w.reach ? static_cast<size_t>(g.position) : w.reach;
  w.first = pad_row(w.past);
  w.block = g.dh * kRowPad;
  w.keys = g.scratch;
  w.score = w.keys + (w.first + pad_row(g.n)) * g.dh;
  w.sum = w.score + kWindowQueries * (pad_row(g.capacity) + kRowPad);

  if (w.past < w.first) {
    for (size_t i = 0; i < w.block; ++i) w.keys[i] = 0.0f;  // columns before the past
  }
  window_move_keys<false>(g, w, w.first - w.past, w.first);
  for (size_t t = 0; t < g.n; t += kWindowQueries) {
    const size_t rows = g.n - t < kWindowQueries ? g.n - t : kWindowQueries;
    window_new_keys(g, w, t, rows);
    window_queries(g, w, t, rows);
  }
  const size_t keep = g.n < g.capacity ? g.n : g.capacity;
  window_move_keys<true>(g, w, w.first + g.n - keep, w.first + g.n);
  for (size_t t = g.n - keep; t < g.n; ++t) window_store_values(g, t);
}

inline void window(const WindowArgs& g) {
  if (g.n == 1) {
    window_step(g);
  } else {
    window_chunk(g);
  }
}
