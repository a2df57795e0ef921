// Small dense products of activations with activations. Included once inside each instruction set's
// namespace. Weights go to XNNPACK instead; these products have no constant operand to pack.

// kRows x (kCols vectors) of C, summed over k in order, so that an element's bits depend neither on
// the tile that it falls into nor on how many rows there are.
template <class V, size_t kRows, size_t kCols>
inline void gemm_tile(size_t k, const float* a, size_t lda, const float* b, size_t ldb, float* c,
                      size_t ldc, bool accumulate) {
  using R = typename V::R;
  R acc[kRows][kCols];
  MOKA_UNROLL
  for (size_t i = 0; i < kRows; ++i) {
    MOKA_UNROLL
    for (size_t j = 0; j < kCols; ++j) {
      acc[i][j] = accumulate ? V::load(c + i * ldc + j * V::kWidth) : V::set(0.0f);
    }
  }
  for (size_t x = 0; x < k; ++x) {
    R row[kCols];
    MOKA_UNROLL
    for (size_t j = 0; j < kCols; ++j) row[j] = V::load(b + x * ldb + j * V::kWidth);
    MOKA_UNROLL
    for (size_t i = 0; i < kRows; ++i) {
      const R factor = V::set(a[i * lda + x]);
      MOKA_UNROLL
      for (size_t j = 0; j < kCols; ++j) acc[i][j] = V::fma(factor, row[j], acc[i][j]);
    }
  }
  MOKA_UNROLL
  for (size_t i = 0; i < kRows; ++i) {
    MOKA_UNROLL
    for (size_t j = 0; j < kCols; ++j) V::store(c + i * ldc + j * V::kWidth, acc[i][j]);
  }
}

template <size_t kRows>
inline void gemm_rows(const GemmArgs& g, size_t i, size_t n, size_t k) {
  // One row alone needs many accumulators to hide the latency of fma; a block of rows has them.
  constexpr size_t kCols = kRows == 1 ? 8 : kTileCols;
  const float* a = g.a + i * g.lda;
  float* c = g.c + i * g.ldc;
  size_t j = 0;
  for (; j + kCols * Vec::kWidth <= n; j += kCols * Vec::kWidth) {
    gemm_tile<Vec, kRows, kCols>(k, a, g.lda, g.b + j, g.ldb, c + j, g.ldc, g.accumulate);
  }
  for (; j + Vec::kWidth <= n; j += Vec::kWidth) {
    gemm_tile<Vec, kRows, 1>(k, a, g.lda, g.b + j, g.ldb, c + j, g.ldc, g.accumulate);
  }
  for (; j < n; ++j) {
    gemm_tile<Scalar, kRows, 1>(k, a, g.lda, g.b + j, g.ldb, c + j, g.ldc, g.accumulate);
  }
}

inline void gemm(const GemmArgs& g) {
  size_t i = 0;
  while (i < g.m) {
    const size_t rows = g.m - i >= kTileRows ? kTileRows : (g.m - i >= 2 ? 2 : 1);
    size_t n = g.n, k = g.k;
    if (g.triangle == Triangle::kLowerOutput && i + rows < n) {
      // Whole vectors, so that a column is computed the same way in every row block.
      const size_t wanted = pad_row(i + rows);
      n = wanted < n ? wanted : n;
    }
    if (g.triangle == Triangle::kLowerInput && i + rows + g.shift < k) k = i + rows + g.shift;
    if (rows == kTileRows) {
      gemm_rows<kTileRows>(g, i, n, k);
    } else if (rows == 2) {
      gemm_rows<2>(g, i, n, k);
    } else {
      gemm_rows<1>(g, i, n, k);
    }
    i += rows;
  }
}
