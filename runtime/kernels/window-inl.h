// Sliding-window softmax attention of one head over a ring of past keys and values. Included once
// inside each instruction set's namespace. Layouts: WindowArgs in kernels.h.

// Turns `count` raw scores into softmax weights in place; scale > 0.
inline void window_weights(float* score, size_t count, float scale, float softcap) {
  if (softcap > 0.0f) {
    // c tanh(z / c) = c (2 sigmoid(2 z / c) - 1); the scale is then spent.
    for (size_t i = 0; i < count; ++i) {
      const float z = score[i] * scale / softcap;
      score[i] = softcap * (2.0f * sigmoid_vector<Scalar>(2.0f * z) - 1.0f);
    }
    scale = 1.0f;
  }
  const float total = exp_sum(score, largest_of(score, count), scale, count, score);
  multiply(1.0f / total, count, score);
}

inline void window_store(const WindowArgs& g, size_t t) {
  const size_t slot = static_cast<size_t>((g.position + t) % g.capacity);
  const size_t cp = pad_row(g.capacity);
  const float* k = g.k + t * g.k_stride;
  for (size_t d = 0; d < g.dh; ++d) g.ring_k[d * cp + slot] = k[d];
  const float* v = g.v + t * g.v_stride;
  float* row = g.ring_v + slot * g.dh_pad;
  for (size_t d = 0; d < g.dh_pad; ++d) row[d] = v[d];
}

inline void window_step(const WindowArgs& g) {
  window_store(g, 0);
  const size_t cp = pad_row(g.capacity);
  const size_t fill =
      g.position + 1 < g.capacity ? static_cast<size_t>(g.position + 1) : g.capacity;
  float* score = g.scratch;
  GemmArgs s;
  s.m = 1, s.n = pad_row(fill), s.k = g.dh;
  s.a = g.q, s.lda = g.q_stride;
  s.b = g.ring_k, s.ldb = cp;
  s.c = score, s.ldc = cp;
  gemm(s);
  window_weights(score, fill, g.scale, g.softcap);
  GemmArgs y;
  y.m = 1, y.n = g.dh_pad, y.k = fill;
  y.a = score, y.lda = cp;
  y.b = g.ring_v, y.ldb = g.dh_pad;
  y.c = g.y, y.ldc = g.y_stride;
  gemm(y);
}

// Lays the `past` tokens before the chunk and the chunk itself out in the order of time. The past is
// at most two stretches of the ring: from its oldest slot to the end, then from the beginning.
inline void window_gather(const WindowArgs& g, size_t past, size_t tp, float* keys, float* values) {
  const size_t cp = pad_row(g.capacity);
  const size_t oldest = static_cast<size_t>((g.position - past) % g.capacity);
  const size_t head = past < g.capacity - oldest ? past : g.capacity - oldest;
  const size_t tail = past - head;
  for (size_t d = 0; d < g.dh; ++d) {
    float* row = keys + d * tp;
    const float* ring = g.ring_k + d * cp;
    std::memcpy(row, ring + oldest, head * sizeof(float));
    std::memcpy(row + head, ring, tail * sizeof(float));
    for (size_t t = 0; t < g.n; ++t) row[past + t] = g.k[t * g.k_stride + d];
    for (size_t i = past + g.n; i < tp; ++i) row[i] = 0.0f;
  }
  std::memcpy(values, g.ring_v + oldest * g.dh_pad, head * g.dh_pad * sizeof(float));
  std::memcpy(values + head * g.dh_pad, g.ring_v, tail * g.dh_pad * sizeof(float));
  for (size_t t = 0; t < g.n; ++t) {
    std::memcpy(values + (past + t) * g.dh_pad, g.v + t * g.v_stride, g.dh_pad * sizeof(float));
  }
}

inline void window_chunk(const WindowArgs& g) {
  const size_t reach = g.capacity - 1;  // tokens before the current one that it sees
  const size_t past = g.position < reach ? static_cast<size_t>(g.position) : reach;
  const size_t tp = pad_row(past + g.n);
  float* keys = g.scratch;
  float* score = keys + g.dh * tp;
  float* values = score + g.n * tp;
  window_gather(g, past, tp, keys, values);

  GemmArgs s;
  s.m = g.n, s.n = tp, s.k = g.dh;
  s.a = g.q, s.lda = g.q_stride;
  s.b = keys, s.ldb = tp;
  s.c = score, s.ldc = tp;
  gemm(s);
  for (size_t t = 0; t < g.n; ++t) {
    float* row = score + t * tp;
    const size_t last = past + t;
    const size_t begin = last > reach ? last - reach : 0;
    window_weights(row + begin, last + 1 - begin, g.scale, g.softcap);
    for (size_t i = 0; i < begin; ++i) row[i] = 0.0f;
    for (size_t i = last + 1; i < past + g.n; ++i) row[i] = 0.0f;
  }
  GemmArgs y;
  y.m = g.n, y.n = g.dh_pad, y.k = past + g.n;
  y.a = score, y.lda = tp;
  y.b = values, y.ldb = g.dh_pad;
  y.c = g.y, y.ldc = g.y_stride;
  y.triangle = Triangle::kLowerInput;
  y.shift = past;
  gemm(y);

  const size_t keep = g.n < g.capacity ? g.n : g.capacity;
  for (size_t t = g.n - keep; t < g.n; ++t) window_store(g, t);
}

inline void window(const WindowArgs& g) {
  if (g.n == 1) {
    window_step(g);
  } else {
    window_chunk(g);
  }
}
