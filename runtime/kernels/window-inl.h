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

// What a ring is made of. kept() is what load() gives after store().
struct FloatRing {
  using T = float;
  static constexpr bool kExact = true;
  template <class V>
  static typename V::R load(const T* p) {
    return V::load(p);
  }
  template <class V>
  static void store(T* p, typename V::R v) {
    V::store(p, v);
  }
};

struct HalfRing {
  using T = uint16_t;
  static constexpr bool kExact = false;
  template <class V>
  static typename V::R load(const T* p) {
    return V::load_f16(p);
  }
  // The constants come first because max and min give their second operand when one is NaN.
  template <class V>
  static void store(T* p, typename V::R v) {
    using R = typename V::R;
    const R infinity = V::set(HUGE_VALF);
    R near = V::min(V::set(65504.0f), V::max(V::set(-65504.0f), v));
    near = V::add(near, V::keep_from(v, infinity, infinity));
    near = V::sub(near, V::keep_from(V::sub(V::set(0.0f), v), infinity, infinity));
    V::store_f16(p, near);
  }
};

template <class E>
inline typename E::T* ring_keys(const WindowArgs& g) {
  return static_cast<typename E::T*>(g.ring_k);
}
template <class E>
inline typename E::T* ring_values(const WindowArgs& g) {
  return static_cast<typename E::T*>(g.ring_v);
}

// to[i] = from[i] as it will be read from the ring; n is a multiple of kRowPad. In place, too.
template <class E>
inline void window_round(const float* from, size_t n, float* to) {
  typename E::T kept[Vec::kWidth];
  for (size_t i = 0; i < n; i += Vec::kWidth) {
    E::template store<Vec>(kept, Vec::load(from + i));
    Vec::store(to + i, E::template load<Vec>(kept));
  }
}

template <class E>
inline void window_store_values(const WindowArgs& g, size_t t) {
  const size_t slot = static_cast<size_t>((g.position + t) % g.capacity);
  const float* v = g.v + t * g.v_stride;
  typename E::T* row = ring_values<E>(g) + slot * g.dh_pad;
  for (size_t d = 0; d < g.dh_pad; d += Vec::kWidth) {
    E::template store<Vec>(row + d, Vec::load(v + d));
  }
}

// The new key of a step as the ring will have it, and its score.
template <class E>
inline float window_new_key(const WindowArgs& g, typename E::T* key) {
  Vec::R acc = Vec::set(0.0f);
  size_t d = 0;
  for (; d + Vec::kWidth <= g.dh; d += Vec::kWidth) {
    E::template store<Vec>(key + d, Vec::load(g.k + d));
    acc = Vec::fma(Vec::load(g.q + d), E::template load<Vec>(key + d), acc);
  }
  float own = Vec::sum(acc);
  for (; d < g.dh; ++d) {
    E::template store<Scalar>(key + d, g.k[d]);
    own = Scalar::fma(g.q[d], E::template load<Scalar>(key + d), own);
  }
  return own;
}

// Whether values, asked for while the keys are read, still are in the first cache when their turn comes.
template <class E>
inline bool window_is_small(const WindowArgs& g) {
  return pad_row(g.capacity) * g.dh * sizeof(typename E::T) <= kFarthestAhead;
}

// Raw scores of the kCols vectors of slots from `at` on, and on the way the new key into its slot: its
// cache line has just been read. The new key's own score is not among them. Meanwhile as many bytes
// of the values are asked for, or, of a large head, of the next slots.
template <class E, size_t kCols>
inline void window_step_scores(const WindowArgs& g, const typename E::T* key, size_t slot,
                               size_t at, float* score) {
  constexpr size_t kBytes = kCols * Vec::kWidth * sizeof(typename E::T);
  const size_t cp = pad_row(g.capacity), begin = at * g.dh * sizeof(typename E::T);
  const bool small = window_is_small<E>(g);
  Vec::R acc[kCols];
  MOKA_UNROLL
  for (size_t j = 0; j < kCols; ++j) acc[j] = Vec::set(0.0f);
  const bool holds = slot - at < kCols * Vec::kWidth;  // false for slot < at, too
  for (size_t i = 0; i < g.dh; ++i) {
    const size_t d = stream_row(i, g.dh);
    typename E::T* row = ring_keys<E>(g) + d * cp;
    const Vec::R q = Vec::set(g.q[d]);
    prefetch_bytes<kBytes>(small ? g.ring_v : row + at, small ? begin + d * kBytes : kBytes);
    MOKA_UNROLL
    for (size_t j = 0; j < kCols; ++j) {
      acc[j] = Vec::fma(q, E::template load<Vec>(row + at + j * Vec::kWidth), acc[j]);
    }
    if (holds) row[slot] = key[d];
  }
  MOKA_UNROLL
  for (size_t j = 0; j < kCols; ++j) Vec::store(score + at + j * Vec::kWidth, acc[j]);
}

// Channels from `at` on, kCols vectors, of the weighted sum of `fill` values. Meanwhile as many
// bytes of what comes next are asked for.
template <class E, size_t kCols>
inline void window_step_values(const WindowArgs& g, size_t fill, const float* weight, size_t at,
                               float* sum) {
  constexpr size_t kBytes = kCols * Vec::kWidth * sizeof(typename E::T);
  const size_t begin = at * fill * sizeof(typename E::T);
  const bool known = g.ahead != nullptr && window_is_small<E>(g);
  Vec::R acc[kCols];
  MOKA_UNROLL
  for (size_t j = 0; j < kCols; ++j) acc[j] = Vec::set(0.0f);
  for (size_t n = 0; n < fill; ++n) {
    const size_t i = stream_row(n, fill);
    const Vec::R w = Vec::set(weight[i]);
    const typename E::T* row = ring_values<E>(g) + i * g.dh_pad + at;
    prefetch_bytes<kBytes>(known ? g.ahead : row, known ? begin + i * kBytes : kStreamAhead);
    MOKA_UNROLL
    for (size_t j = 0; j < kCols; ++j) {
      acc[j] = Vec::fma(w, E::template load<Vec>(row + j * Vec::kWidth), acc[j]);
    }
  }
  MOKA_UNROLL
  for (size_t j = 0; j < kCols; ++j) Vec::store(sum + at + j * Vec::kWidth, acc[j]);
}

template <class E>
inline void window_step(const WindowArgs& g) {
  const size_t slot = static_cast<size_t>(g.position % g.capacity);
  const size_t fill =
      g.position + 1 < g.capacity ? static_cast<size_t>(g.position + 1) : g.capacity;
  const size_t width = pad_row(fill);
  float* score = g.scratch;
  float* sum = score + pad_row(g.capacity);
  typename E::T* key = reinterpret_cast<typename E::T*>(sum + g.dh_pad);
  const float own = window_new_key<E>(g, key);
  size_t at = 0;
  for (; at + 8 * Vec::kWidth <= width; at += 8 * Vec::kWidth) {
    window_step_scores<E, 8>(g, key, slot, at, score);
  }
  if (at + 4 * Vec::kWidth <= width) {
    window_step_scores<E, 4>(g, key, slot, at, score);
    at += 4 * Vec::kWidth;
  }
  for (; at + 2 * Vec::kWidth <= width; at += 2 * Vec::kWidth) {
    window_step_scores<E, 2>(g, key, slot, at, score);
  }
  for (; at < width; at += Vec::kWidth) window_step_scores<E, 1>(g, key, slot, at, score);
  score[slot] = own;
  window_store_values<E>(g, 0);  // after its line has been asked for
  const float total = window_exp(score, 0, fill, width, g.scale, g.softcap);
  at = 0;
  for (; at + 4 * Vec::kWidth <= g.dh_pad; at += 4 * Vec::kWidth) {
    window_step_values<E, 4>(g, fill, score, at, sum);
  }
  switch ((g.dh_pad - at) / Vec::kWidth) {
    case 3: window_step_values<E, 3>(g, fill, score, at, sum); break;
    case 2: window_step_values<E, 2>(g, fill, score, at, sum); break;
    case 1: window_step_values<E, 1>(g, fill, score, at, sum); break;
    default: break;
  }
  window_output(g, 0, total, sum);
}

// A chunk's keys, in the order of time, lie in columns: the `past` tokens before it end at column
// `first`, a multiple of kRowPad, where its own begin. Column c of channel d stands at
// keys + c / 16 * block + 16 d + c % 16. Of a ring of halves, the values lie likewise, as rows of dh_pad.
struct WindowChunk {
  size_t reach, past, first, block;
  float *keys, *values, *score, *sum;
};

inline float* window_column(const WindowChunk& w, size_t column) {
  return w.keys + column / kRowPad * w.block + column % kRowPad;
}

// Column c holds the token at g.position + c - first.
inline size_t window_slot(const WindowArgs& g, const WindowChunk& w, size_t column) {
  return static_cast<size_t>((g.position + column - w.first) % g.capacity);
}

// A row of the ring's keys from `slot` on to n columns of one block, n <= kRowPad. Whole blocks of
// the row are widened, wherever the stretch lies in them.
template <class E>
inline void window_load_keys(const typename E::T* row, size_t slot, size_t n, float* column) {
  if (n == kRowPad) {
    for (size_t i = 0; i < kRowPad; i += Vec::kWidth) {
      Vec::store(column + i, E::template load<Vec>(row + slot + i));
    }
    return;
  }
  float wide[2 * kRowPad];
  const size_t left = slot / kRowPad * kRowPad;
  for (size_t i = 0; left + i < slot + n; i += Vec::kWidth) {
    Vec::store(wide + i, E::template load<Vec>(row + left + i));
  }
  for (size_t i = 0; i < n; ++i) column[i] = wide[slot - left + i];
}

// Columns begin ... begin + n of a block, n <= kRowPad - begin, to a row of the ring.
template <class E>
inline void window_save_keys(const float* block, size_t begin, size_t n, typename E::T* to) {
  if (n == kRowPad) {
    for (size_t i = 0; i < kRowPad; i += Vec::kWidth) {
      E::template store<Vec>(to + i, Vec::load(block + i));
    }
    return;
  }
  typename E::T kept[kRowPad];
  for (size_t i = 0; i < kRowPad; i += Vec::kWidth) {
    E::template store<Vec>(kept + i, Vec::load(block + i));
  }
  for (size_t i = 0; i < n; ++i) to[i] = kept[begin + i];
}

// Keys of columns [begin, end) from the ring, or to it: stretches that end neither in a block nor at
// the end of the ring.
template <class E, bool kSave>
inline void window_move_keys(const WindowArgs& g, const WindowChunk& w, size_t begin, size_t end) {
  const size_t cp = pad_row(g.capacity);
  while (begin < end) {
    const size_t slot = window_slot(g, w, begin), in_block = begin % kRowPad;
    size_t n = kRowPad - in_block;
    n = n < g.capacity - slot ? n : g.capacity - slot;
    n = n < end - begin ? n : end - begin;
    float* block = window_column(w, begin - in_block);
    typename E::T* row = ring_keys<E>(g);
    for (size_t d = 0; d < g.dh; ++d, block += kRowPad, row += cp) {
      if (kSave) {
        window_save_keys<E>(block, in_block, n, row + slot);
      } else {
        window_load_keys<E>(row, slot, n, block + in_block);
      }
    }
    begin += n;
  }
}

inline void window_past_values(const WindowArgs& g, const WindowChunk& w) {
  for (size_t column = w.first - w.past; column < w.first; ++column) {
    const uint16_t* row = ring_values<HalfRing>(g) + window_slot(g, w, column) * g.dh_pad;
    float* to = w.values + column * g.dh_pad;
    for (size_t d = 0; d < g.dh_pad; d += Vec::kWidth) Vec::store(to + d, Vec::load_f16(row + d));
  }
}

// The keys of `count` tokens from `t` on, which fill one block or the beginning of one; and their
// values where they are rounded.
template <class E>
inline void window_new_tokens(const WindowArgs& g, const WindowChunk& w, size_t t, size_t count) {
  float* block = window_column(w, w.first + t);
  if (count < kRowPad) {
    for (size_t i = 0; i < w.block; ++i) block[i] = 0.0f;
  }
  transpose(count, g.dh, g.k + t * g.k_stride, g.k_stride, block, kRowPad);
  if (E::kExact) return;
  window_round<E>(block, w.block, block);
  for (size_t i = t; i < t + count; ++i) {
    window_round<E>(g.v + i * g.v_stride, g.dh_pad, w.values + (w.first + i) * g.dh_pad);
  }
}

// Values of the tokens in columns [column, end), as far as they lie together.
struct WindowValues {
  const float* rows;
  size_t stride, count;
};

// Of the past they stand in the ring, in at most two stretches, the others where they were made.
inline WindowValues window_stretch(FloatRing, const WindowArgs& g, const WindowChunk& w,
                                   size_t column, size_t end) {
  if (column >= w.first) {
    return {g.v + (column - w.first) * g.v_stride, g.v_stride, end - column};
  }
  const size_t slot = window_slot(g, w, column), past = w.first - column;
  const size_t n = past < g.capacity - slot ? past : g.capacity - slot;
  return {ring_values<FloatRing>(g) + slot * g.dh_pad, g.dh_pad, n};
}

inline WindowValues window_stretch(HalfRing, const WindowArgs& g, const WindowChunk& w,
                                   size_t column, size_t end) {
  return {w.values + column * g.dh_pad, g.dh_pad, end - column};
}

// Queries t ... t + rows of the chunk, rows <= kWindowQueries.
template <class E>
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
  for (size_t column = oldest; column < own + rows;) {
    const WindowValues v = window_stretch(E(), g, w, column, own + rows);
    GemmArgs y;
    y.m = rows, y.n = g.dh_pad, y.k = v.count;
    y.a = w.score + column - left, y.lda = width;
    y.b = v.rows, y.ldb = v.stride;
    y.c = w.sum, y.ldc = g.dh_pad;
    y.accumulate = column > oldest;
    gemm(y);
    column += v.count;
  }
  for (size_t i = 0; i < rows; ++i) window_output(g, t + i, total[i], w.sum + i * g.dh_pad);
}

template <class E>
inline void window_chunk(const WindowArgs& g) {
  WindowChunk w;
  w.reach = g.capacity - 1;  // tokens before the current one that it sees
  w.past = g.position < w.reach ? static_cast<size_t>(g.position) : w.reach;
  w.first = pad_row(w.past);
  w.block = g.dh * kRowPad;
  w.keys = g.scratch;
  w.values = w.keys + (w.first + pad_row(g.n)) * g.dh;
  w.score = w.values + (E::kExact ? 0 : (w.first + g.n) * g.dh_pad);
  w.sum = w.score + kWindowQueries * (pad_row(g.capacity) + kRowPad);

  if (w.past < w.first) {
    for (size_t i = 0; i < w.block; ++i) w.keys[i] = 0.0f;  // columns before the past
  }
  window_move_keys<E, false>(g, w, w.first - w.past, w.first);
  if (!E::kExact) window_past_values(g, w);
  for (size_t t = 0; t < g.n; t += kWindowQueries) {
    const size_t rows = g.n - t < kWindowQueries ? g.n - t : kWindowQueries;
    window_new_tokens<E>(g, w, t, rows);
    window_queries<E>(g, w, t, rows);
  }
  const size_t keep = g.n < g.capacity ? g.n : g.capacity;
  window_move_keys<E, true>(g, w, w.first + g.n - keep, w.first + g.n);
  for (size_t t = g.n - keep; t < g.n; ++t) window_store_values<E>(g, t);
}

template <class E>
inline void window_of(const WindowArgs& g) {
  if (g.n == 1) {
    window_step<E>(g);
  } else {
    window_chunk<E>(g);
  }
}

inline void window(const WindowArgs& g) {
  if (g.half) {
    window_of<HalfRing>(g);
  } else {
    window_of<FloatRing>(g);
  }
}
