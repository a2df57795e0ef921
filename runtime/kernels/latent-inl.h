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

// kCols vectors of channels: S' = r S + a v and y = sum over latents of (p / Z') S'. The archive's mean is
// asked for meanwhile, and then what comes next.
template <size_t kCols>
inline void latent_step_columns(const LatentArgs& g, const LatentStep& w, const float* v, size_t at,
                                float* y) {
  constexpr size_t kBytes = kCols * Vec::kWidth * sizeof(float);
  const size_t begin = at * g.lh * sizeof(float);
  Vec::R value[kCols], acc[kCols];
  MOKA_UNROLL
  for (size_t j = 0; j < kCols; ++j) {
    value[j] = Vec::load(v + at + j * Vec::kWidth);
    acc[j] = Vec::set(0.0f);
  }
  const bool small = g.lh * g.dh_pad * sizeof(float) <= kFarthestAhead;
  const void* ahead = small ? g.ahead : nullptr;
  const void* after = small && g.archive_mean != nullptr ? g.archive_mean : ahead;
  for (size_t i = 0; i < g.lh; ++i) {
    const size_t l = stream_row(i, g.lh);
    const Vec::R decay = Vec::set(w.decay[l]), gain = Vec::set(w.gain[l]);
    const Vec::R weight = Vec::set(w.weight[l]);
    float* row = g.s + l * g.dh_pad + at;
    prefetch_bytes<kBytes>(after != nullptr ? after : row,
                           after != nullptr ? begin + l * kBytes : kStreamAhead);
    MOKA_UNROLL
    for (size_t j = 0; j < kCols; ++j) {
      const Vec::R next =
          Vec::fma(decay, Vec::load(row + j * Vec::kWidth), Vec::mul(gain, value[j]));
      Vec::store(row + j * Vec::kWidth, next);
      acc[j] = Vec::fma(weight, next, acc[j]);
    }
  }
  for (size_t i = 0; g.archive_mean != nullptr && i < g.lh; ++i) {
    const size_t l = stream_row(i, g.lh);
    const Vec::R older = Vec::set(w.older[l]);
    const float* mean = g.archive_mean + l * g.dh_pad + at;
    if (ahead != nullptr) prefetch_bytes<kBytes>(ahead, begin + l * kBytes);
    MOKA_UNROLL
    for (size_t j = 0; j < kCols; ++j) {
      acc[j] = Vec::fma(older, Vec::load(mean + j * Vec::kWidth), acc[j]);
    }
  }
  MOKA_UNROLL
  for (size_t j = 0; j < kCols; ++j) Vec::store(y + at + j * Vec::kWidth, acc[j]);
}

inline void latent_step(const LatentArgs& g, size_t t) {
  const size_t lp = pad_row(g.lh);
  const LatentStep w = {g.scratch, g.scratch + lp, g.scratch + 2 * lp, g.scratch + 3 * lp};
  // Of the next head, if there is one: arrays have their heads in a row.
  prefetch(g.m + g.lh, g.lh);
  prefetch(g.z + g.lh, g.lh);
  if (g.archive_mean != nullptr) {
    prefetch(g.archive_m + g.lh, g.lh);
    prefetch(g.archive_z + g.lh, g.lh);
  }
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
  // The rest in one pass, too: a pass reads every row.
  switch ((g.dh_pad - j) / Vec::kWidth) {
    case 3: latent_step_columns<3>(g, w, v, j, y); break;
    case 2: latent_step_columns<2>(g, w, v, j, y); break;
    case 1: latent_step_columns<1>(g, w, v, j, y); break;
    default: break;
  }
}

// How far the running maximum climbs after the first of `len` tokens, at most over the latents.
template <class V>
inline typename V::R latent_climb(const LatentArgs& g, size_t start, size_t len, size_t l) {
  const float* k = g.k + start * g.k_stride + l;
  const typename V::R first = V::max(V::load(g.m + l), V::load(k));
  typename V::R last = first;
  for (size_t t = 1; t < len; ++t) last = V::max(last, V::load(k + t * g.k_stride));
  return V::sub(last, first);
}

inline float latent_jump(const LatentArgs& g, size_t start, size_t len) {
  Vec::R most = Vec::set(0.0f);
  size_t l = 0;
  for (; l + Vec::kWidth <= g.lh; l += Vec::kWidth) {
    most = Vec::max(most, latent_climb<Vec>(g, start, len, l));
  }
  float jump = Vec::largest(most);
  for (; l < g.lh; ++l) jump = Scalar::max(jump, latent_climb<Scalar>(g, start, len, l));
  return jump;
}

// Pointers into the scratch of one chunk; rows of lp floats, of np, and of np + kRowPad for mix.
struct LatentChunk {
  size_t len, lp, np;
  float *weight, *gain, *gain_t, *mix, *decay, *older, *both;
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
  w.decay = w.mix + len * (w.np + kRowPad);
  w.older = w.decay + w.lp;
  w.both = w.older + w.lp;
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
      V::store(w.weight + t * w.lp + l, V::mul(share, V::reciprocal(V::add(norm, older))));
    }
  }
  V::store(w.decay + l, decay);
  V::store(g.m + l, top);
  V::store(g.z + l, norm);
}

// E for tokens start ... start + len, rho, and S <- rho S.
template <bool kRead>
inline void latent_chunk_gains(const LatentArgs& g, const LatentChunk& w, size_t start) {
  size_t l = 0;
  for (; l + Vec::kWidth <= g.lh; l += Vec::kWidth) {
    latent_chunk_scalars<Vec, kRead>(g, w, start, l);
  }
  for (; l < g.lh; ++l) latent_chunk_scalars<Scalar, kRead>(g, w, start, l);
  for (l = 0; l < g.lh; ++l) multiply(w.decay[l], g.dh_pad, g.s + l * g.dh_pad);
}

// S += E^T V
inline void latent_chunk_sum(const LatentArgs& g, const LatentChunk& w, size_t start) {
  GemmArgs sum;
  sum.m = g.lh, sum.n = g.dh_pad, sum.k = w.len;
  sum.a = w.gain, sum.lda = 1, sum.a_step = w.lp;
  sum.b = g.v + start * g.v_stride, sum.ldb = g.v_stride;
  sum.c = g.s, sum.ldc = g.dh_pad;
  sum.accumulate = true;
  gemm(sum);
}

// y (+)= W B for a sum B of the latents, W [rows][lp], over n channels.
inline void latent_apply(const LatentArgs& g, size_t rows, const float* weight, const float* b,
                         size_t ldb, size_t n, float* y, bool accumulate) {
  GemmArgs product;
  product.m = rows, product.n = n, product.k = g.lh;
  product.a = weight, product.lda = pad_row(g.lh);
  product.b = b, product.ldb = ldb;
  product.c = y, product.ldc = g.y_stride;
  product.accumulate = accumulate;
  gemm(product);
}

// y += P' (rho S0 + older archive): both share the weights, so the sums are added first, a block of
// channels at a time.
inline void latent_chunk_archive(const LatentArgs& g, const LatentChunk& w, float* y) {
  for (size_t at = 0; at < g.dh_pad; at += kLatentChannels) {
    const size_t left = g.dh_pad - at, n = left < kLatentChannels ? left : kLatentChannels;
    for (size_t l = 0; l < g.lh; ++l) {
      const float* recent = g.s + l * g.dh_pad + at;
      const float* mean = g.archive_mean + l * g.dh_pad + at;
      const Vec::R older = Vec::set(w.older[l]);
      for (size_t d = 0; d < n; d += Vec::kWidth) {
        Vec::store(w.both + l * kLatentChannels + d,
                   Vec::fma(older, Vec::load(mean + d), Vec::load(recent + d)));
      }
    }
    latent_apply(g, w.len, w.weight, w.both, kLatentChannels, n, y + at, true);
  }
}

// Asks for a quarter of what is read next. In one go it would hold up the loads that are needed now.
inline void latent_ahead(const LatentArgs& g, size_t quarter) {
  const UpcomingRows& next = g.next;
  for (size_t t = next.rows * quarter / 4; t < next.rows * (quarter + 1) / 4; ++t) {
    for (size_t i = 0; i < next.parts; ++i) prefetch(next.x[i] + t * next.stride, next.n[i]);
  }
}

inline void latent_chunk(const LatentArgs& g, size_t start, size_t len) {
  const LatentChunk w = latent_chunk_scratch(g, len);
  if (start == 0) latent_ahead(g, 0);
  latent_chunk_gains<true>(g, w, start);
  if (start == 0) latent_ahead(g, 1);
  transpose(len, g.lh, w.gain, w.lp, w.gain_t, w.np);

  // A = P' E^T below and on the diagonal. What the product has above it are later tokens, which have
  // no weight: they are set to zero as far as a tile reads.
  const size_t stride = w.np + kRowPad;
  GemmArgs a;
  a.m = len, a.n = w.np, a.k = g.lh;  // columns beyond len hold anything and are not read
  a.a = w.weight, a.lda = w.lp;
  a.b = w.gain_t, a.ldb = w.np;
  a.c = w.mix, a.ldc = stride;
  a.triangle = Triangle::kLowerOutput;
  gemm(a);
  static_assert(tile_rows(1) <= kRowPad && tile_rows(kTileCols) <= kRowPad, "");
  if (start == 0) latent_ahead(g, 2);
  for (size_t t = 0; t < len; ++t) {
    float* later = w.mix + t * stride + t + 1;
    for (size_t i = 0; i < kRowPad; i += Vec::kWidth) Vec::store(later + i, Vec::set(0.0f));
  }

  // Y = A V + P' (rho S0 + older archive)
  GemmArgs near;
  near.m = len, near.n = g.dh_pad, near.k = len;
  near.a = w.mix, near.lda = stride;
  near.b = g.v + start * g.v_stride, near.ldb = g.v_stride;
  near.c = g.y + start * g.y_stride, near.ldc = g.y_stride;
  near.triangle = Triangle::kLowerInput;
  gemm(near);
  if (start == 0) latent_ahead(g, 3);
  if (g.archive_mean == nullptr) {
    latent_apply(g, len, w.weight, g.s, g.dh_pad, g.dh_pad, near.c, true);
  } else {
    latent_chunk_archive(g, w, near.c);
  }
  latent_chunk_sum(g, w, start);
}

inline void latent_gather(const LatentArgs& g) {
  for (size_t start = 0; start < g.n; start += kLatentChunk) {
    const size_t left = g.n - start;
    const LatentChunk w = latent_chunk_scratch(g, left < kLatentChunk ? left : kLatentChunk);
    latent_chunk_gains<false>(g, w, start);
    latent_chunk_sum(g, w, start);
  }
}

// out[l] = p[l] factor[l]
inline void latent_scale(const float* p, const float* factor, size_t n, float* out) {
  size_t l = 0;
  for (; l + Vec::kWidth <= n; l += Vec::kWidth) {
    Vec::store(out + l, Vec::mul(Vec::load(p + l), Vec::load(factor + l)));
  }
  for (; l < n; ++l) out[l] = p[l] * factor[l];
}

inline void latent_read(const LatentArgs& g) {
  const size_t lp = pad_row(g.lh);
  const size_t most = g.n < kLatentChunk ? g.n : kLatentChunk;
  float* weight = g.scratch;
  float* recent = weight + most * lp;
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
  for (size_t start = 0; start < g.n; start += most) {
    const size_t rows = g.n - start < most ? g.n - start : most;
    const float* p = g.p + start * g.p_stride;
    float* y = g.y + start * g.y_stride;
    for (size_t t = 0; t < rows; ++t) {
      latent_scale(p + t * g.p_stride, recent, g.lh, weight + t * lp);
    }
    latent_apply(g, rows, weight, g.s, g.dh_pad, g.dh_pad, y, false);
    if (g.archive_mean == nullptr) continue;
    for (size_t t = 0; t < rows; ++t) {
      latent_scale(p + t * g.p_stride, older, g.lh, weight + t * lp);
    }
    latent_apply(g, rows, weight, g.archive_mean, g.dh_pad, g.dh_pad, y, true);
  }
}

inline void latent(const LatentArgs& g) {
  size_t start = 0;
  while (start < g.n) {
    size_t len = g.n - start < kLatentChunk ? g.n - start : kLatentChunk;
    while (len > 1 && latent_jump(g, start, len) > kJumpLimit) len /= 2;
    if (len == 1) {
      latent_step(g, start);
    } else {
      latent_chunk(g, start, len);
    }
    start += len;
  }
}
