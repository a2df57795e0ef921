// Latent attention of one head: causal in step form and chunk form, and its two halves, gathering and
// reading. Included once inside each instruction set's namespace. State and symbols: LatentArgs in
// kernels.h.

// What older tokens add to Z, relative to the maximum `top`: exp(archive m - m) archive Z.
template <class V>
inline typename V::R latent_archive_norm(const LatentArgs& g, size_t l, typename V::R top) {
  return V::mul(exp_vector<V>(V::sub(V::load(g.archive_m + l), top)), V::load(g.archive_z + l));
}

// Scratch of one step, each of pad_row(lh) floats.
struct LatentStep {
  float *decay, *gain;    // r = exp(m - m'), a = exp(k - m')
  float *weight, *older;  // of the recent sums, p / Z', and of the archived mean
};

// For latents l ... l + width: the new maximum, r and a, then Z and the weights.
template <class V>
inline void latent_step_scalars(const LatentArgs& g, const LatentStep& w, const float* k,
                                const float* p, size_t l) {
  using R = typename V::R;
  const R key = V::load(k + l), old = V::load(g.m + l);
  const R top = V::max(old, key);
  const R decay = exp_vector<V>(V::sub(old, top));
  const R gain = exp_vector<V>(V::sub(key, top));
  const R norm = V::fma(decay, V::load(g.z + l), gain);
  V::store(g.m + l, top);
  V::store(g.z + l, norm);
  V::store(w.decay + l, decay);
  V::store(w.gain + l, gain);
  const R share = V::load(p + l);
  if (g.archive_mean == nullptr) {
    V::store(w.weight + l, V::div(share, norm));
    return;
  }
  const R older = latent_archive_norm<V>(g, l, top);
  const R weight = V::div(share, V::add(older, norm));
  V::store(w.weight + l, weight);
  V::store(w.older + l, V::mul(older, weight));
}

// kCols vectors of channels: S' = r S + a v and y = sum over latents of (p / Z') S'.
template <size_t kCols>
inline void latent_step_columns(const LatentArgs& g, const LatentStep& w, const float* v, size_t at,
                                float* y) {
  Vec::R value[kCols], acc[kCols];
  MOKA_UNROLL
  for (size_t j = 0; j < kCols; ++j) {
    value[j] = Vec::load(v + at + j * Vec::kWidth);
    acc[j] = Vec::set(0.0f);
  }
  for (size_t l = 0; l < g.lh; ++l) {
    const Vec::R decay = Vec::set(w.decay[l]), gain = Vec::set(w.gain[l]);
    const Vec::R weight = Vec::set(w.weight[l]);
    float* row = g.s + l * g.dh_pad + at;
    MOKA_UNROLL
    for (size_t j = 0; j < kCols; ++j) {
      const Vec::R next =
          Vec::fma(decay, Vec::load(row + j * Vec::kWidth), Vec::mul(gain, value[j]));
      Vec::store(row + j * Vec::kWidth, next);
      acc[j] = Vec::fma(weight, next, acc[j]);
    }
  }
  if (g.archive_mean != nullptr) {
    for (size_t l = 0; l < g.lh; ++l) {
      const Vec::R weight = Vec::set(w.older[l]);
      const float* row = g.archive_mean + l * g.dh_pad + at;
      MOKA_UNROLL
      for (size_t j = 0; j < kCols; ++j) {
        acc[j] = Vec::fma(weight, Vec::load(row + j * Vec::kWidth), acc[j]);
      }
    }
  }
  MOKA_UNROLL
  for (size_t j = 0; j < kCols; ++j) Vec::store(y + at + j * Vec::kWidth, acc[j]);
}

inline void latent_step(const LatentArgs& g, size_t t) {
  const size_t lp = pad_row(g.lh);
  const LatentStep w = {g.scratch, g.scratch + lp, g.scratch + 2 * lp, g.scratch + 3 * lp};
  const float* k = g.k + t * g.k_stride;
  const float* p = g.p + t * g.p_stride;
  size_t l = 0;
  for (; l + Vec::kWidth <= g.lh; l += Vec::kWidth) latent_step_scalars<Vec>(g, w, k, p, l);
  for (; l < g.lh; ++l) latent_step_scalars<Scalar>(g, w, k, p, l);
  const float* v = g.v + t * g.v_stride;
  float* y = g.y + t * g.y_stride;
  size_t j = 0;
  for (; j + 4 * Vec::kWidth <= g.dh_pad; j += 4 * Vec::kWidth) {
    latent_step_columns<4>(g, w, v, j, y);
  }
  for (; j < g.dh_pad; j += Vec::kWidth) latent_step_columns<1>(g, w, v, j, y);
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
  float *weight, *gain, *gain_t, *mix, *decay, *older;
};

inline LatentChunk latent_chunk_scratch(const LatentArgs& g, size_t len) {
  LatentChunk w;
  w.len = len;
  w.lp = pad_row(g.lh);
  w.np = pad_row(len);
  w.weight = g.scratch;
  w.gain = w.weight + len * w.lp;
  w.gain_t = w.gain + len * w.lp;
  w.mix = w.gain_t + g.lh * w.np;
  w.decay = w.mix + len * w.np;
  w.older = w.decay + w.lp;
  return w;
}

// For latents l ... l + width: E = exp(K - m) into gain, rho into decay, and the new m and Z, summed
// in the order of the tokens. With kRead also P / Z into weight, and the archive's part of Z into older.
template <class V, bool kRead>
inline void latent_chunk_scalars(const LatentArgs& g, const LatentChunk& w, size_t start,
                                 size_t l) {
  using R = typename V::R;
  const float* k = g.k + start * g.k_stride + l;
  const R old = V::load(g.m + l);
  R top = old;
  for (size_t t = 0; t < w.len; ++t) top = V::max(top, V::load(k + t * g.k_stride));
  const R decay = exp_vector<V>(V::sub(old, top));
  R older = V::set(0.0f);
  if (kRead && g.archive_mean != nullptr) {
    older = latent_archive_norm<V>(g, l, top);
    V::store(w.older + l, older);
  }
  R norm = V::mul(decay, V::load(g.z + l));
  for (size_t t = 0; t < w.len; ++t) {
    const R gain = exp_vector<V>(V::sub(V::load(k + t * g.k_stride), top));
    norm = V::add(norm, gain);
    V::store(w.gain + t * w.lp + l, gain);
    if (kRead) {
      const R share = V::load(g.p + (start + t) * g.p_stride + l);
      V::store(w.weight + t * w.lp + l, V::div(share, V::add(norm, older)));
    }
  }
  V::store(w.decay + l, decay);
  V::store(g.m + l, top);
  V::store(g.z + l, norm);
}

// E and its transpose for tokens start ... start + len.
template <bool kRead>
inline void latent_chunk_gains(const LatentArgs& g, const LatentChunk& w, size_t start) {
  size_t l = 0;
  for (; l + Vec::kWidth <= g.lh; l += Vec::kWidth) {
    latent_chunk_scalars<Vec, kRead>(g, w, start, l);
  }
  for (; l < g.lh; ++l) latent_chunk_scalars<Scalar, kRead>(g, w, start, l);
  for (l = 0; l < g.lh; ++l) {
    float* row = w.gain_t + l * w.np;
    for (size_t t = 0; t < w.len; ++t) row[t] = w.gain[t * w.lp + l];
    for (size_t t = w.len; t < w.np; ++t) row[t] = 0.0f;
  }
}

// S = rho S + E^T V
inline void latent_chunk_sum(const LatentArgs& g, const LatentChunk& w, size_t start) {
  for (size_t l = 0; l < g.lh; ++l) multiply(w.decay[l], g.dh_pad, g.s + l * g.dh_pad);
  GemmArgs sum;
  sum.m = g.lh, sum.n = g.dh_pad, sum.k = w.len;
  sum.a = w.gain_t, sum.lda = w.np;
  sum.b = g.v + start * g.v_stride, sum.ldb = g.v_stride;
  sum.c = g.s, sum.ldc = g.dh_pad;
  sum.accumulate = true;
  gemm(sum);
}

// out[t][l] = weight[t][l] * factor[l]
inline void latent_scale_weights(const LatentArgs& g, size_t rows, const float* weight,
                                 const float* factor, float* out) {
  const size_t lp = pad_row(g.lh);
  for (size_t t = 0; t < rows; ++t) {
    for (size_t l = 0; l < g.lh; ++l) out[t * lp + l] = weight[t * lp + l] * factor[l];
  }
}

// Y (+)= W S for a sum S of the latents, W [rows][lp].
inline void latent_apply(const LatentArgs& g, size_t start, size_t rows, const float* weight,
                         const float* s, bool accumulate) {
  GemmArgs y;
  y.m = rows, y.n = g.dh_pad, y.k = g.lh;
  y.a = weight, y.lda = pad_row(g.lh);
  y.b = s, y.ldb = g.dh_pad;
  y.c = g.y + start * g.y_stride, y.ldc = g.y_stride;
  y.accumulate = accumulate;
  gemm(y);
}

inline void latent_chunk(const LatentArgs& g, size_t start, size_t len) {
  const LatentChunk w = latent_chunk_scratch(g, len);
  latent_chunk_gains<true>(g, w, start);

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

  // Y = A V + (P' rho) S0 + (P' older) archive; E is spent, so its room takes the products.
  GemmArgs near;
  near.m = len, near.n = g.dh_pad, near.k = len;
  near.a = w.mix, near.lda = w.np;
  near.b = g.v + start * g.v_stride, near.ldb = g.v_stride;
  near.c = g.y + start * g.y_stride, near.ldc = g.y_stride;
  near.triangle = Triangle::kLowerInput;
  gemm(near);
  latent_scale_weights(g, len, w.weight, w.decay, w.gain);
  latent_apply(g, start, len, w.gain, g.s, true);
  if (g.archive_mean != nullptr) {
    latent_scale_weights(g, len, w.weight, w.older, w.gain);
    latent_apply(g, start, len, w.gain, g.archive_mean, true);
  }
  latent_chunk_sum(g, w, start);
}

inline void latent_gather(const LatentArgs& g) {
  const LatentChunk w = latent_chunk_scratch(g, g.n);
  latent_chunk_gains<false>(g, w, 0);
  latent_chunk_sum(g, w, 0);
}

inline void latent_read(const LatentArgs& g) {
  const size_t lp = pad_row(g.lh);
  float* weight = g.scratch;
  float* recent = weight + g.n * lp;
  float* older = recent + lp;
  for (size_t l = 0; l < g.lh; ++l) {
    float total = g.z[l];
    older[l] = 0.0f;
    if (g.archive_mean != nullptr) {
      older[l] = latent_archive_norm<Scalar>(g, l, g.m[l]);
      total += older[l];
    }
    recent[l] = total > 0.0f ? 1.0f / total : 0.0f;
    older[l] *= recent[l];
  }
  const size_t rows = g.n;
  for (size_t t = 0; t < rows; ++t) {
    const float* p = g.p + t * g.p_stride;
    for (size_t l = 0; l < g.lh; ++l) weight[t * lp + l] = p[l] * recent[l];
  }
  latent_apply(g, 0, rows, weight, g.s, false);
  if (g.archive_mean == nullptr) return;
  for (size_t t = 0; t < rows; ++t) {
    const float* p = g.p + t * g.p_stride;
    for (size_t l = 0; l < g.lh; ++l) weight[t * lp + l] = p[l] * older[l];
  }
  latent_apply(g, 0, rows, weight, g.archive_mean, true);
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
