// Norms, activations, the mixture softmax, rotation, widening. Included once inside each instruction
// set's namespace. Each loop runs whole vectors, then the rest one by one.

// y[i] = Op::apply(x[i], other[i]); `other` is ignored by unary operations.
template <class Op>
inline void map(const float* x, const float* other, size_t n, float* y) {
  size_t i = 0;
  for (; i + Vec::kWidth <= n; i += Vec::kWidth) {
    Vec::store(y + i, Op::template apply<Vec>(x + i, other + i));
  }
  for (; i < n; ++i) Scalar::store(y + i, Op::template apply<Scalar>(x + i, other + i));
}

struct GeluOp {
  template <class V>
  static typename V::R apply(const float* x, const float*) {
    return gelu_vector<V>(V::load(x));
  }
};
struct SiluOp {
  template <class V>
  static typename V::R apply(const float* x, const float*) {
    return silu_vector<V>(V::load(x));
  }
};
struct GeluMulOp {
  template <class V>
  static typename V::R apply(const float* x, const float* factor) {
    return V::mul(gelu_vector<V>(V::load(x)), V::load(factor));
  }
};
struct SiluMulOp {
  template <class V>
  static typename V::R apply(const float* x, const float* factor) {
    return V::mul(silu_vector<V>(V::load(x)), V::load(factor));
  }
};
struct SigmoidMulOp {
  template <class V>
  static typename V::R apply(const float* x, const float* factor) {
    return V::mul(sigmoid_vector<V>(V::load(x)), V::load(factor));
  }
};
struct AddOp {
  template <class V>
  static typename V::R apply(const float* x, const float* y) {
    return V::add(V::load(y), V::load(x));
  }
};
struct ExpOp {
  template <class V>
  static typename V::R apply(const float* x, const float*) {
    return exp_vector<V>(V::load(x));
  }
};

inline void gelu(const float* x, size_t n, float* y) { map<GeluOp>(x, x, n, y); }
inline void silu(const float* x, size_t n, float* y) { map<SiluOp>(x, x, n, y); }
inline void exp_row(const float* x, size_t n, float* y) { map<ExpOp>(x, x, n, y); }
inline void add(const float* x, size_t n, float* y) { map<AddOp>(x, y, n, y); }
inline void gelu_mul(const float* x, const float* factor, size_t n, float* y) {
  map<GeluMulOp>(x, factor, n, y);
}
inline void silu_mul(const float* x, const float* factor, size_t n, float* y) {
  map<SiluMulOp>(x, factor, n, y);
}
inline void sigmoid_mul(const float* x, const float* factor, size_t n, float* y) {
  map<SigmoidMulOp>(x, factor, n, y);
}

// Sum of x[i] - shift, or of its square.
template <bool kSquare>
inline float sum_of(const float* x, float shift, size_t n) {
  Vec::R acc = Vec::set(0.0f);
  size_t i = 0;
  for (; i + Vec::kWidth <= n; i += Vec::kWidth) {
    const Vec::R d = Vec::sub(Vec::load(x + i), Vec::set(shift));
    acc = kSquare ? Vec::fma(d, d, acc) : Vec::add(d, acc);
  }
  float total = Vec::sum(acc);
  for (; i < n; ++i) {
    const float d = x[i] - shift;
    total += kSquare ? d * d : d;
  }
  return total;
}

template <class V>
inline void rms_scale(const float* x, const float* scale, float offset, float factor, float* y) {
  const typename V::R w = V::add(V::load(scale), V::set(offset));
  V::store(y, V::mul(V::mul(V::load(x), V::set(factor)), w));
}

inline void rms_norm(const float* x, const float* scale, float offset, float eps, size_t n,
                     float* y) {
  const float mean_square = sum_of<true>(x, 0.0f, n) / static_cast<float>(n);
  const float factor = 1.0f / std::sqrt(mean_square + eps);
  size_t i = 0;
  for (; i + Vec::kWidth <= n; i += Vec::kWidth)
    rms_scale<Vec>(x + i, scale + i, offset, factor, y + i);
  for (; i < n; ++i) rms_scale<Scalar>(x + i, scale + i, offset, factor, y + i);
}

template <class V>
inline void centre_scale(const float* x, float mean, float factor, const float* scale,
                         const float* bias, float* y) {
  const typename V::R unit = V::mul(V::sub(V::load(x), V::set(mean)), V::set(factor));
  V::store(y, V::fma(unit, V::load(scale), V::load(bias)));
}

inline void layer_norm(const float* x, const float* scale, const float* bias, float eps, size_t n,
                       float* y) {
  const float mean = sum_of<false>(x, 0.0f, n) / static_cast<float>(n);
  const float variance = sum_of<true>(x, mean, n) / static_cast<float>(n);
  const float factor = 1.0f / std::sqrt(variance + eps);
  size_t i = 0;
  for (; i + Vec::kWidth <= n; i += Vec::kWidth) {
    centre_scale<Vec>(x + i, mean, factor, scale + i, bias + i, y + i);
  }
  for (; i < n; ++i) centre_scale<Scalar>(x + i, mean, factor, scale + i, bias + i, y + i);
}

inline void affine(const float* x, const float* scale, const float* bias, size_t n, float* y) {
  size_t i = 0;
  for (; i + Vec::kWidth <= n; i += Vec::kWidth) {
    centre_scale<Vec>(x + i, 0.0f, 1.0f, scale + i, bias + i, y + i);
  }
  for (; i < n; ++i) centre_scale<Scalar>(x + i, 0.0f, 1.0f, scale + i, bias + i, y + i);
}

inline void add_scaled(const float* x, float w, size_t n, float* y) {
  size_t i = 0;
  for (; i + Vec::kWidth <= n; i += Vec::kWidth) {
    Vec::store(y + i, Vec::fma(Vec::load(x + i), Vec::set(w), Vec::load(y + i)));
  }
  for (; i < n; ++i) y[i] = Scalar::fma(x[i], w, y[i]);
}

inline float largest_of(const float* x, size_t n) {
  float best = x[0];
  size_t i = 0;
  if (n >= Vec::kWidth) {
    Vec::R acc = Vec::load(x);
    for (i = Vec::kWidth; i + Vec::kWidth <= n; i += Vec::kWidth)
      acc = Vec::max(acc, Vec::load(x + i));
    best = Vec::largest(acc);
  }
  for (; i < n; ++i) best = Scalar::max(best, x[i]);
  return best;
}

// y = exp(scale * (x - top)); returns the sum. y may be x.
inline float exp_sum(const float* x, float top, float scale, size_t n, float* y) {
  Vec::R acc = Vec::set(0.0f);
  size_t i = 0;
  for (; i + Vec::kWidth <= n; i += Vec::kWidth) {
    const Vec::R d = Vec::mul(Vec::sub(Vec::load(x + i), Vec::set(top)), Vec::set(scale));
    const Vec::R e = exp_vector<Vec>(d);
    Vec::store(y + i, e);
    acc = Vec::add(acc, e);
  }
  float total = Vec::sum(acc);
  for (; i < n; ++i) {
    y[i] = exp_vector<Scalar>((x[i] - top) * scale);
    total += y[i];
  }
  return total;
}

inline void multiply(float w, size_t n, float* y) {
  size_t i = 0;
  for (; i + Vec::kWidth <= n; i += Vec::kWidth)
    Vec::store(y + i, Vec::mul(Vec::load(y + i), Vec::set(w)));
  for (; i < n; ++i) y[i] *= w;
}

constexpr size_t kMixtureRows = 16;  // at a time
constexpr size_t kPrefetchRows = 8;  // ahead

// Rows t ... t + count of the mixture, count <= kMixtureRows. What is one number per row is computed
// by vectors over the rows, whatever their number, so that a row's bits do not depend on it.
inline void mixture_block(const MixtureArgs& g, size_t t, size_t count) {
  float top[kMixtureRows] = {}, sum[kMixtureRows] = {}, gate[kMixtureRows] = {};
  for (size_t i = 0; i < count; ++i) {
    const float* q = g.q + (t + i) * g.q_stride;
    if (t + i + kPrefetchRows < g.rows) prefetch(q + kPrefetchRows * g.q_stride, g.n);
    top[i] = largest_of(q, g.n);
    if (g.gate == nullptr) continue;
    gate[i] = g.gate[(t + i) * g.gate_stride];
    top[i] = Scalar::max(top[i], gate[i]);
  }
  for (size_t i = 0; i < count; ++i) {
    sum[i] = exp_sum(g.q + (t + i) * g.q_stride, top[i], g.scale, g.n, g.p + (t + i) * g.p_stride);
  }
  for (size_t i = 0; i < kMixtureRows; i += Vec::kWidth) {
    Vec::R total = Vec::load(sum + i), local = Vec::set(0.0f);
    if (g.gate != nullptr) {
      const Vec::R logit = Vec::sub(Vec::load(gate + i), Vec::load(top + i));
      local = exp_vector<Vec>(Vec::mul(logit, Vec::set(g.scale)));
      total = Vec::add(total, local);
    }
    const Vec::R share = Vec::div(Vec::set(1.0f), total);
    Vec::store(sum + i, share);
    Vec::store(gate + i, Vec::mul(local, share));
  }
  for (size_t i = 0; i < count; ++i) {
    multiply(sum[i], g.n, g.p + (t + i) * g.p_stride);
    if (g.p_gate != nullptr) g.p_gate[t + i] = gate[i];
  }
}

inline void mixtures(const MixtureArgs& g) {
  for (size_t t = 0; t < g.rows; t += kMixtureRows) {
    mixture_block(g, t, g.rows - t < kMixtureRows ? g.rows - t : kMixtureRows);
  }
}

inline void mixture(const float* q, const float* gate, float scale, size_t n, float* p,
                    float* p_gate) {
  MixtureArgs g;
  g.rows = 1, g.n = n;
  g.q = q;
  g.gate = gate;
  g.scale = scale;
  g.p = p, g.p_gate = p_gate;
  mixture_block(g, 0, 1);
}

template <class V>
inline void rotate_pair(float* a, float* b, const float* cosine, const float* sine) {
  const typename V::R x = V::load(a), y = V::load(b), c = V::load(cosine), s = V::load(sine);
  V::store(a, V::sub(V::mul(x, c), V::mul(y, s)));
  V::store(b, V::add(V::mul(y, c), V::mul(x, s)));
}

inline void rotate(float* x, const float* cosine, const float* sine, size_t half,
                   bool interleaved) {
  if (interleaved) {
    for (size_t i = 0; i < half; ++i)
      rotate_pair<Scalar>(x + 2 * i, x + 2 * i + 1, cosine + i, sine + i);
    return;
  }
  size_t i = 0;
  for (; i + Vec::kWidth <= half; i += Vec::kWidth) {
    rotate_pair<Vec>(x + i, x + half + i, cosine + i, sine + i);
  }
  for (; i < half; ++i) rotate_pair<Scalar>(x + i, x + half + i, cosine + i, sine + i);
}

inline void rotate_rows(const RotateArgs& g) {
  for (size_t t = 0; t < g.rows; ++t) {
    if (t + kPrefetchRows < g.rows) prefetch(g.x + (t + kPrefetchRows) * g.x_stride, 2 * g.half);
    rotate(g.x + t * g.x_stride, g.cosine + t * g.angle_stride, g.sine + t * g.angle_stride, g.half,
           g.interleaved);
  }
}

inline void widen_i8(const int8_t* x, float scale, size_t n, float* y) {
  size_t i = 0;
  for (; i + Vec::kWidth <= n; i += Vec::kWidth) {
    Vec::store(y + i, Vec::mul(Vec::load_i8(x + i), Vec::set(scale)));
  }
  for (; i < n; ++i) y[i] = Scalar::load_i8(x + i) * scale;
}

inline void widen_f16(const uint16_t* x, size_t n, float* y) {
  size_t i = 0;
  for (; i + Vec::kWidth <= n; i += Vec::kWidth) Vec::store(y + i, Vec::load_f16(x + i));
  for (; i < n; ++i) y[i] = Scalar::load_f16(x + i);
}
