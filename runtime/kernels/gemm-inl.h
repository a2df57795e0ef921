// Small dense products of activations with activations. Included once inside each instruction set's
// namespace. Weights go elsewhere; these products have no constant operand to pack.

// B [n][m] = the transpose of A [m][n].
inline void transpose(size_t m, size_t n, const float* a, size_t lda, float* b, size_t ldb) {
  constexpr size_t kSide = Vec::kWidth;
  const size_t rows = m / kSide * kSide, columns = n / kSide * kSide;
  for (size_t i = 0; i < rows; i += kSide) {
    for (size_t j = 0; j < columns; j += kSide) {
      Vec::transpose(a + i * lda + j, lda, b + j * ldb + i, ldb);
    }
    for (size_t j = columns; j < n; ++j) {
      for (size_t x = i; x < i + kSide; ++x) b[j * ldb + x] = a[x * lda + j];
    }
  }
  for (size_t j = 0; j < n; ++j) {
    for (size_t i = rows; i < m; ++i) b[j * ldb + i] = a[i * lda + j];
  }
}

// Where column j of B begins.
inline size_t gemm_column(const GemmArgs& g, size_t j) {
  return j / kRowPad * g.b_block + j % kRowPad;
}

// kRows x (kCols vectors) of C from row i and column j on, summed over k in order, so that an
// element's bits depend neither on the tile that it falls into nor on how many rows there are.
template <class V, size_t kRows, size_t kCols, bool kBlocks>
inline void gemm_tile(const GemmArgs& g, size_t i, size_t j, size_t k) {
  using R = typename V::R;
  float* c = g.c + i * g.ldc + j;
  const float* a = g.a + i * g.lda;
  const float* b = g.b + gemm_column(g, j);
  size_t at[kCols];
  MOKA_UNROLL
  for (size_t y = 0; y < kCols; ++y) {
    at[y] = kBlocks ? gemm_column(g, j + y * V::kWidth) - gemm_column(g, j) : y * V::kWidth;
  }
  R acc[kRows][kCols];
  MOKA_UNROLL
  for (size_t x = 0; x < kRows; ++x) {
    MOKA_UNROLL
    for (size_t y = 0; y < kCols; ++y) {
      acc[x][y] = g.accumulate ? V::load(c + x * g.ldc + y * V::kWidth) : V::set(0.0f);
    }
  }
  for (size_t d = 0; d < k; ++d, a += g.a_step, b += g.ldb) {
    R row[kCols];
    MOKA_UNROLL
    for (size_t y = 0; y < kCols; ++y) row[y] = V::load(b + at[y]);
    MOKA_UNROLL
    for (size_t x = 0; x < kRows; ++x) {
      const R factor = V::set(a[x * g.lda]);
      MOKA_UNROLL
      for (size_t y = 0; y < kCols; ++y) acc[x][y] = V::fma(factor, row[y], acc[x][y]);
    }
  }
  MOKA_UNROLL
  for (size_t x = 0; x < kRows; ++x) {
    MOKA_UNROLL
    for (size_t y = 0; y < kCols; ++y) V::store(c + x * g.ldc + y * V::kWidth, acc[x][y]);
  }
}

// Tiles of one height, down one panel of columns as far as whole tiles go; returns the next row.
template <class V, size_t kRows, size_t kCols, bool kBlocks>
inline size_t gemm_height(const GemmArgs& g, size_t i, size_t j) {
  for (; i + kRows <= g.m; i += kRows) {
    if (g.triangle == Triangle::kLowerOutput && j >= i + kRows) continue;
    size_t k = g.k;
    if (g.triangle == Triangle::kLowerInput && i + kRows + g.shift < k) k = i + kRows + g.shift;
    gemm_tile<V, kRows, kCols, kBlocks>(g, i, j, k);
  }
  return i;
}

template <class V, size_t kCols, bool kBlocks>
inline void gemm_panel(const GemmArgs& g, size_t j) {
  size_t i = gemm_height<V, tile_rows(kCols), kCols, kBlocks>(g, 0, j);
  if (tile_rows(kCols) > 4) i = gemm_height<V, 4, kCols, kBlocks>(g, i, j);
  i = gemm_height<V, 2, kCols, kBlocks>(g, i, j);
  gemm_height<V, 1, kCols, kBlocks>(g, i, j);
}

constexpr size_t kThird = kTileCols < 3 ? 1 : 3;

// Panels as wide as registers allow, or of three vectors where these leave no narrow rest.
template <bool kBlocks>
MOKA_NOINLINE inline void gemm_panels(const GemmArgs& g) {
  size_t j = 0;
  if (g.m == 1) {
    // One row alone needs many accumulators to hide the latency of fma.
    for (; j + 8 * Vec::kWidth <= g.n; j += 8 * Vec::kWidth) {
      gemm_height<Vec, 1, 8, kBlocks>(g, 0, j);
    }
  }
  for (size_t left = (g.n - j) / Vec::kWidth; left > 0;) {
    const bool thirds = kTileCols > 3 && left % kTileCols != 0 && left % 3 == 0;
    const size_t columns = thirds ? 3 : (left < kTileCols ? left : kTileCols);
    if (columns == kTileCols) {
      gemm_panel<Vec, kTileCols, kBlocks>(g, j);
    } else if (columns == 3) {
      gemm_panel<Vec, kThird, kBlocks>(g, j);
    } else if (columns == 2) {
      gemm_panel<Vec, 2, kBlocks>(g, j);
    } else {
      gemm_panel<Vec, 1, kBlocks>(g, j);
    }
    j += columns * Vec::kWidth;
    left -= columns;
  }
  for (; j < g.n; ++j) gemm_panel<Scalar, 1, kBlocks>(g, j);
}

inline void gemm(const GemmArgs& g) {
  if (g.b_block == kRowPad) {
    gemm_panels<false>(g);
  } else {
    gemm_panels<true>(g);
  }
}
