// Causal latent attention of one head: step form and chunk form. Included once inside each
// instruction set's namespace. State and symbols: LatentArgs in kernels.h.

// Per latent: the new maximum, r = exp(m - m') and a = exp(k - m'), then Z and the weight p / Z.
template <class V>
inline void latent_step_scalars(const float* k, const float* p, float* m, float* z, float* r,
                                float* a, float* c) {
  const typename V::R key = V::load(k), old = V::load(m);
  const typename V::R top = V::max(old, key);
  const typename V::R decay = exp_vector<V>(V::sub(old, top));
  const typename V::R gain = exp_vector<V>(V::sub(key, top));
  const typename V::R norm = V::fma(decay, V::load(z), gain);
  V::store(m, top);
  V::store(z, norm);
  V::store(r, decay);
  V::store(a, gain);
  V::store(c, V::div(V::load(p), norm));
}

// kCols vectors of channels: S' = r S + a v and y = sum over latents of (p / Z') S'.
template <size_t kCols>
inline void latent_step_columns(size_t lh, size_t stride, const float* r, const float* a,
                                const float* c, const float* v, float* s, float* y) {
  Vec::R value[kCols], acc[kCols];
  MOKA_UNROLL
  for (size_t j = 0; j < kCols; ++j) {
    value[j] = Vec::load(v + j * Vec::kWidth);
    acc[j] = Vec::set(0.0f);
  }
  for (size_t l = 0; l < lh; ++l) {
    const Vec::R decay = Vec::set(r[l]), gain = Vec::set(a[l]), weight = Vec::set(c[l]);
    float* row = s + l * stride;
    MOKA_UNROLL
    for (size_t j = 0; j < kCols; ++j) {
      const Vec::R next =
          Vec::fma(decay, Vec::load(row + j * Vec::kWidth), Vec::mul(gain, value[j]));
      Vec::store(row + j * Vec::kWidth, next);
      acc[j] = Vec::fma(weight, next, acc[j]);
    }
  }
  MOKA_UNROLL
  for (size_t j = 0; j < kCols; ++j) Vec::store(y + j * Vec::kWidth, acc[j]);
}

inline void latent_step(const LatentArgs& g, size_t t) {
  const size_t lp = pad_row(g.lh);
  float* r = g.scratch;
  float* a = r + lp;
  float* c = a + lp;
  const float* k = g.k + t * g.k_stride;
  const float* p = g.p + t * g.p_stride;
  size_t l = 0;
  for (; l + Vec::kWidth <= g.lh; l += Vec::kWidth) {
    latent_step_scalars<Vec>(k + l, p + l, g.m + l, g.z + l, r + l, a + l, c + l);
  }
  for (; l < g.lh; ++l) {
    latent_step_scalars<Scalar>(k + l, p + l, g.m + l, g.z + l, r + l, a + l, c + l);
  }
  const float* v = g.v + t * g.v_stride;
  float* y = g.y + t * g.y_stride;
  size_t j = 0;
  for (; j + 4 * Vec::kWidth <= g.dh_pad; j += 4 * Vec::kWidth) {
    latent_step_columns<4>(g.lh, g.dh_pad, r, a, c, v + j, g.s + j, y + j);
  }
  for (; j < g.dh_pad; j += Vec::kWidth) {
    latent_step_columns<1>(g.lh, g.dh_pad, r, a, c, v + j, g.s + j, y + j);
  }
}

// How far the running maximum climbs after the first of `len` tokens, at most over the latents.
inline float latent_jump(const LatentArgs& g, size_t start, size_t len) {
  float jump = 0.0f;
  const float* k = g.k + start * g.k_stride;
  for (size_t l = 0; l < g.lh; ++l) {
    const float first = Scalar::max(g.m[l], k[l]);
    float last = first;
    for (size_t t = 1; t < len; ++t) last = Scalar::max(last, k[t * g.k_stride + l]);
    jump = Scalar::max(jump, last - first);
  }
  return jump;
}

// Pointers into the scratch of one chunk; rows of lp and np floats.
struct LatentChunk {
  size_t len, lp, np;
  float *weight, *gain, *gain_t, *mix, *decay;
};

// For latents l ... l + width: E = exp(K - m) into gain, P / Z into weight, rho into decay, and the
// new m and Z. Z is summed in the order of the tokens.
template <class V>
inline void latent_chunk_scalars(const LatentArgs& g, const LatentChunk& w, size_t start,
                                 size_t l) {
  using R = typename V::R;
  const float* k = g.k + start * g.k_stride + l;
  const float* p = g.p + start * g.p_stride + l;
  const R old = V::load(g.m + l);
  R top = old;
  for (size_t t = 0; t < w.len; ++t) top = V::max(top, V::load(k + t * g.k_stride));
  const R decay = exp_vector<V>(V::sub(old, top));
  R norm = V::mul(decay, V::load(g.z + l));
  for (size_t t = 0; t < w.len; ++t) {
    const R gain = exp_vector<V>(V::sub(V::load(k + t * g.k_stride), top));
    norm = V::add(norm, gain);
    V::store(w.gain + t * w.lp + l, gain);
    V::store(w.weight + t * w.lp + l, V::div(V::load(p + t * g.p_stride), norm));
  }
  V::store(w.decay + l, decay);
  V::store(g.m + l, top);
  V::store(g.z + l, norm);
}

inline void latent_chunk(const LatentArgs& g, size_t start, size_t len) {
  LatentChunk w;
  w.len = len;
  w.lp = pad_row(g.lh);
  w.np = pad_row(len);
  w.weight = g.scratch;
  w.gain = w.weight + len * w.lp;
  w.gain_t = w.gain + len * w.lp;
  w.mix = w.gain_t + g.lh * w.np;
  w.decay = w.mix + len * w.np;

  size_t l = 0;
  for (; l + Vec::kWidth <= g.lh; l += Vec::kWidth) latent_chunk_scalars<Vec>(g, w, start, l);
  for (; l < g.lh; ++l) latent_chunk_scalars<Scalar>(g, w, start, l);

  for (l = 0; l < g.lh; ++l) {
    float* row = w.gain_t + l * w.np;
    for (size_t t = 0; t < len; ++t) row[t] = w.gain[t * w.lp + l];
    for (size_t t = len; t < w.np; ++t) row[t] = 0.0f;
  }

  // A = P' E^T below and on the diagonal. What the product has above it are later tokens, which have
  // no weight: they are set to zero.
  GemmArgs a;
  a.m = len, a.n = w.np, a.k = g.lh;
  a.a = w.weight, a.lda = w.lp;
  a.b = w.gain_t, a.ldb = w.np;
  a.c = w.mix, a.ldc = w.np;
  a.triangle = Triangle::kLowerOutput;
  gemm(a);
  for (size_t t = 0; t < len; ++t) {
    for (size_t s = t + 1; s < len; ++s) w.mix[t * w.np + s] = 0.0f;
  }

  // Y = A V + (P' rho) S0
  GemmArgs near;
  near.m = len, near.n = g.dh_pad, near.k = len;
  near.a = w.mix, near.lda = w.np;
  near.b = g.v + start * g.v_stride, near.ldb = g.v_stride;
  near.c = g.y + start * g.y_stride, near.ldc = g.y_stride;
  near.triangle = Triangle::kLowerInput;
  gemm(near);
  for (size_t t = 0; t < len; ++t) {
    float* row = w.weight + t * w.lp;
    for (l = 0; l < g.lh; ++l) row[l] *= w.decay[l];
  }
  GemmArgs far = near;
  far.k = g.lh;
  far.a = w.weight, far.lda = w.lp;
  far.b = g.s, far.ldb = g.dh_pad;
  far.accumulate = true;
  far.triangle = Triangle::kFull;
  gemm(far);

  // S = rho S0 + E^T V
  for (l = 0; l < g.lh; ++l) multiply(w.decay[l], g.dh_pad, g.s + l * g.dh_pad);
  GemmArgs sum;
  sum.m = g.lh, sum.n = g.dh_pad, sum.k = len;
  sum.a = w.gain_t, sum.lda = w.np;
  sum.b = near.b, sum.ldb = g.v_stride;
  sum.c = g.s, sum.ldc = g.dh_pad;
  sum.accumulate = true;
  gemm(sum);
}

inline void latent(const LatentArgs& g) {
  size_t start = 0;
  while (start < g.n) {
    size_t len = g.n - start;
    while (len > 1 && latent_jump(g, start, len) > kJumpLimit) len /= 2;
    if (len == 1) {
      latent_step(g, start);
    } else {
      latent_chunk(g, start, len);
    }
    start += len;
  }
}
