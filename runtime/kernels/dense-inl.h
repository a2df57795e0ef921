// Dense layers over tiles. Included once inside each instruction set's namespace, after it has defined
// `Dot`, the dot product of one tile:
//
//   Acc, W                        sums of 16 outputs; 64 bytes of weights, ready to multiply
//   Acc zero();
//   W weights(const uint8_t* p)                       16 outputs x 4 int8
//   Code code(const uint8_t* p)                       16 codes of a block of int4
//   void nibbles(const uint8_t* p, Code, W* even, W* odd)   two groups of int4, multiplied
//   Acc zeros(Acc, Code, int32_t sum)                 takes off what nibbles() left in: nothing, or
//                                                     zero * multiplier * sum of the block's x
//   void store_i8(W, Code, uint8_t* out)              what nibbles() made, without what it left in, as
//                                                     weights() reads it
//   Acc add(Acc, W, const int8_t* x)                  adds w . x[0..3]
//   void store(Acc, int32_t* out)                     the 16 sums, in order
//   kWeightShift                  what weights() adds to every int8 weight
//   kRows, kTiles                 rows and tiles of a batch that fit in registers; powers of two
//   kStreams, kStreamRows         tiles that a few rows walk at once, and so many rows; likewise
// and `Num`, vectors of kWidth floats (a divisor of 16):
//   load, store, set, mul, fma, add, max, min, load_i32 (converts), round
//   float largest(R), smallest(R)
//   void store_i8(R, int8_t*)     of integers -128 to 127
//
// A few rows are limited by memory: they walk Dot::kStreams tiles far apart at once, which keeps more
// reads under way than one stream does (measured: twice the bandwidth), and asks for lines ahead. More
// rows pass by a few tiles several times, and ask for the tiles after them.

constexpr size_t kAhead = 4096;  // bytes

#if defined(__GNUC__)
inline void dense_prefetch(const uint8_t* p) { __builtin_prefetch(p, 0, 3); }
#else
inline void dense_prefetch(const uint8_t*) {}
#endif

// ---- activations -----------------------------------------------------------------------------

inline void dense_quantise(const float* from, size_t n, size_t row, const DenseRows& x) {
  using R = Num::R;
  R low = Num::set(0.0f), high = low;
  size_t i = 0;
  for (; i + Num::kWidth <= n; i += Num::kWidth) {
    const R v = Num::load(from + i);
    low = Num::min(v, low);
    high = Num::max(v, high);
  }
  float least = Num::smallest(low), most = Num::largest(high);
  for (; i < n; ++i) {
    least = from[i] < least ? from[i] : least;
    most = from[i] > most ? from[i] : most;
  }
  const float scale = least == most ? 1.0f : 255.0f / (most - least);
  const float step = 1.0f / scale, inverse = 1.0f / step;
  // The zero point for which the end of the range with the larger error is exact.
  const float below = least * scale, above = most * scale;
  float point = (-128.0f + below) + (127.0f + above) > 0.0f ? -128.0f - below : 127.0f - above;
  point = point > -128.0f ? (point < 127.0f ? point : 127.0f) : -128.0f;
  const float zero = (point + 12582912.0f) - 12582912.0f;  // nearest integer

  int8_t* q = x.q + row * x.stride;
  const float bottom = -128.0f - zero, top = 127.0f - zero;
  for (i = 0; i + Num::kWidth <= n; i += Num::kWidth) {
    R v = Num::round(Num::mul(Num::load(from + i), Num::set(inverse)));
    v = Num::min(Num::max(v, Num::set(bottom)), Num::set(top));
    Num::store_i8(Num::add(v, Num::set(zero)), q + i);
  }
  for (; i < n; ++i) {
    float v = from[i] * inverse;
    v = v > bottom ? (v < top ? v : top) : bottom;
    v = (v + 12582912.0f) - 12582912.0f;
    q[i] = static_cast<int8_t>(v + zero);
  }
  std::memset(q + n, 0, x.stride - n);
  x.step[row] = step;
  x.zero[row] = static_cast<int32_t>(zero);
  const size_t blocks = x.stride / kDenseBlock;
  int32_t total = 0;
  for (size_t b = 0; b < blocks; ++b) {
    int32_t sum = 0;
    for (size_t j = 0; j < kDenseBlock; ++j) sum += q[kDenseBlock * b + j];
    x.block_sum[row * blocks + b] = sum;
    total += sum;
  }
  x.sum[row] = total;
}

// ---- the end of a sum --------------------------------------------------------------------------

// The sums of kR rows from `row` on, of q w plus `shift` times the row's sum of q, to the outputs of a
// tile; the last tile of a matrix may have fewer than 16. `scales`: of the tile, { float[16]; int32[16] }.
template <size_t kR>
inline void dense_finish(const DenseArgs& a, size_t row, size_t tile, const uint8_t* scales,
                         const int32_t (&sums)[kR][16], int32_t shift) {
  const float* scale = reinterpret_cast<const float*>(scales);
  const uint32_t* of_weights = reinterpret_cast<const uint32_t*>(scales + 64);
  const size_t at = 16 * tile, n = a.outputs - at < 16 ? a.outputs - at : 16;
  alignas(64) float some[16] = {};  // the bias, then results, where there are fewer
  const float* bias = some;
  if (a.bias != nullptr) {
    if (n == 16) {
      bias = a.bias + at;
    } else {
      for (size_t i = 0; i < n; ++i) some[i] = a.bias[at + i];
    }
  }
  Num::R factor[16 / Num::kWidth], offset[16 / Num::kWidth];
  MOKA_UNROLL
  for (size_t i = 0; i < 16 / Num::kWidth; ++i) {
    factor[i] = Num::load(scale + i * Num::kWidth);
    offset[i] = Num::load(bias + i * Num::kWidth);
  }
  for (size_t r = 0; r < kR; ++r) {
    float* y = a.y + (row + r) * a.y_stride + at;
    float* to = n == 16 ? y : some;
    // Without sign, because the file's sums may be anything.
    const uint32_t zero = static_cast<uint32_t>(a.x.zero[row + r]);
    const uint32_t shifted = static_cast<uint32_t>(shift * a.x.sum[row + r]);
    const Num::R step = Num::set(a.x.step[row + r]);
    alignas(64) int32_t exact[16];
    for (size_t i = 0; i < 16; ++i) {
      const uint32_t sum = static_cast<uint32_t>(sums[r][i]) - shifted - zero * of_weights[i];
      exact[i] = static_cast<int32_t>(sum);
    }
    MOKA_UNROLL
    for (size_t i = 0; i < 16 / Num::kWidth; ++i) {
      const Num::R v = Num::mul(Num::load_i32(exact + i * Num::kWidth), step);
      Num::store(to + i * Num::kWidth, Num::fma(v, factor[i], offset[i]));
    }
    if (n < 16) std::memcpy(y, some, n * sizeof(float));
  }
}

// Bytes of a tile's scales, sums and codes.
constexpr size_t kScales = 128;
inline size_t dense_code_strip(const DenseArgs& a) { return kScales + a.inputs / kDenseBlock * 16; }

// ---- rows by tiles -----------------------------------------------------------------------------

// Rows row ... row + kR by tiles tile, tile + apart, ... (kT of them), whose numbers begin at `w` and
// whose scales are `scale_strip` apart.
template <size_t kR, size_t kT>
inline void dense_int8_tiles(const DenseArgs& a, size_t row, size_t tile, size_t apart,
                             const uint8_t* w, size_t scale_strip) {
  const size_t strip = 16 * a.inputs, ahead = apart == 1 ? kT * strip : kAhead;
  const int8_t* x = a.x.q + row * a.x.stride;
  Dot::Acc acc[kR][kT];
  MOKA_UNROLL
  for (size_t r = 0; r < kR; ++r) {
    MOKA_UNROLL
    for (size_t t = 0; t < kT; ++t) acc[r][t] = Dot::zero();
  }
  for (size_t k = 0; k < a.inputs; k += 4) {
    MOKA_UNROLL
    for (size_t t = 0; t < kT; ++t) {
      const uint8_t* line = w + t * apart * strip + 16 * k;
      dense_prefetch(line + ahead);
      const Dot::W weights = Dot::weights(line);
      MOKA_UNROLL
      for (size_t r = 0; r < kR; ++r) {
        acc[r][t] = Dot::add(acc[r][t], weights, x + r * a.x.stride + k);
      }
    }
  }
  MOKA_UNROLL
  for (size_t t = 0; t < kT; ++t) {
    alignas(64) int32_t sums[kR][16];
    MOKA_UNROLL
    for (size_t r = 0; r < kR; ++r) Dot::store(acc[r][t], sums[r]);
    const size_t at = tile + t * apart;
    dense_finish<kR>(a, row, at, a.scales + at * scale_strip, sums, Dot::kWeightShift);
  }
}

// The same over int4: blocks of 32 inputs, 4 pairs of groups each.
template <size_t kR, size_t kT>
inline void dense_int4_part(const DenseArgs& a, size_t row, size_t tile, size_t apart) {
  const size_t blocks = a.inputs / kDenseBlock, strip = 8 * a.inputs;
  const size_t code_strip = dense_code_strip(a), row_blocks = a.x.stride / kDenseBlock;
  const size_t ahead = apart == 1 ? kT * strip : kAhead;
  const uint8_t* w = a.data + tile * strip;
  const uint8_t* codes = a.scales + tile * code_strip + kScales;
  Dot::Acc acc[kR][kT];
  MOKA_UNROLL
  for (size_t r = 0; r < kR; ++r) {
    MOKA_UNROLL
    for (size_t t = 0; t < kT; ++t) acc[r][t] = Dot::zero();
  }
  for (size_t b = 0; b < blocks; ++b) {
    const int8_t* x = a.x.q + row * a.x.stride + kDenseBlock * b;
    const int32_t* x_sum = a.x.block_sum + row * row_blocks + b;
    MOKA_UNROLL
    for (size_t t = 0; t < kT; ++t) {
      const Dot::Code code = Dot::code(codes + t * apart * code_strip + 16 * b);
      MOKA_UNROLL
      for (size_t r = 0; r < kR; ++r) {
        acc[r][t] = Dot::zeros(acc[r][t], code, x_sum[r * row_blocks]);
      }
      MOKA_UNROLL
      for (size_t pair = 0; pair < 4; ++pair) {
        const uint8_t* line = w + t * apart * strip + 256 * b + 64 * pair;
        dense_prefetch(line + ahead);
        Dot::W even, odd;
        Dot::nibbles(line, code, &even, &odd);
        MOKA_UNROLL
        for (size_t r = 0; r < kR; ++r) {
          const int8_t* group = x + r * a.x.stride + 8 * pair;
          acc[r][t] = Dot::add(acc[r][t], even, group);
          acc[r][t] = Dot::add(acc[r][t], odd, group + 4);
        }
      }
    }
  }
  MOKA_UNROLL
  for (size_t t = 0; t < kT; ++t) {
    alignas(64) int32_t sums[kR][16];
    MOKA_UNROLL
    for (size_t r = 0; r < kR; ++r) Dot::store(acc[r][t], sums[r]);
    const size_t at = tile + t * apart;
    dense_finish<kR>(a, row, at, a.scales + at * code_strip, sums, 0);
  }
}

struct DenseInt8 {
  template <size_t kR, size_t kT>
  static void part(const DenseArgs& a, size_t row, size_t tile, size_t apart) {
    dense_int8_tiles<kR, kT>(a, row, tile, apart, a.data + tile * 16 * a.inputs, kScales);
  }
};
struct DenseInt4 {
  template <size_t kR, size_t kT>
  static void part(const DenseArgs& a, size_t row, size_t tile, size_t apart) {
    dense_int4_part<kR, kT>(a, row, tile, apart);
  }
};
// int4 that dense_unpack() has made int8 of, in the scratch.
struct DenseUnpacked {
  template <size_t kR, size_t kT>
  static void part(const DenseArgs& a, size_t row, size_t tile, size_t apart) {
    dense_int8_tiles<kR, kT>(a, row, tile, apart, a.scratch, dense_code_strip(a));
  }
};

// Rows `row` to the end by kT tiles: kR at a time, then half as many, down to one.
template <class Kind, size_t kR, size_t kT>
inline void dense_down(const DenseArgs& a, size_t row, size_t tile, size_t apart) {
  for (; row + kR <= a.rows; row += kR) Kind::template part<kR, kT>(a, row, tile, apart);
  if constexpr (kR > 1) dense_down<Kind, kR / 2, kT>(a, row, tile, apart);
}

template <class Kind>
inline void dense_rows(const DenseArgs& a) {
  size_t tile = a.first;
  if (a.rows <= Dot::kStreamRows) {
    const size_t apart = (a.last - a.first) / Dot::kStreams;
    for (; tile < a.first + apart; ++tile) {
      dense_down<Kind, Dot::kStreamRows, Dot::kStreams>(a, 0, tile, apart);
    }
    tile = a.first + Dot::kStreams * apart;
  } else {
    // Weights of one or a few tiles stay in the first cache while all rows pass by.
    for (; tile + Dot::kTiles <= a.last; tile += Dot::kTiles) {
      dense_down<Kind, Dot::kRows, Dot::kTiles>(a, 0, tile, 1);
    }
  }
  for (; tile < a.last; ++tile) dense_down<Kind, Dot::kRows, 1>(a, 0, tile, 1);
}

inline void dense_int8(const DenseArgs& a) { dense_rows<DenseInt8>(a); }

// The numbers of one tile of int4 as the int8 that they stand for, in the layout of int8.
inline void dense_unpack(const DenseArgs& a, size_t tile, uint8_t* out) {
  const size_t blocks = a.inputs / kDenseBlock, strip = 8 * a.inputs;
  const uint8_t* w = a.data + tile * strip;
  const uint8_t* codes = a.scales + tile * dense_code_strip(a) + kScales;
  for (size_t b = 0; b < blocks; ++b) {
    const Dot::Code code = Dot::code(codes + 16 * b);
    MOKA_UNROLL
    for (size_t pair = 0; pair < 4; ++pair, w += 64, out += 128) {
      dense_prefetch(w + Dot::kTiles * strip);
      Dot::W even, odd;
      Dot::nibbles(w, code, &even, &odd);
      Dot::store_i8(even, code, out);
      Dot::store_i8(odd, code, out + 64);
    }
  }
}

// Rows from which on it pays to unpack a tile once for all of them.
constexpr size_t kUnpackRows = 2 * Dot::kRows;
// Of scratch for each input.
constexpr size_t kUnpackBytes = 16 * Dot::kTiles;

inline void dense_int4(const DenseArgs& a) {
  if (a.rows < kUnpackRows) return dense_rows<DenseInt4>(a);
  size_t tile = a.first;
  for (; tile + Dot::kTiles <= a.last; tile += Dot::kTiles) {
    for (size_t t = 0; t < Dot::kTiles; ++t) {
      dense_unpack(a, tile + t, a.scratch + t * 16 * a.inputs);
    }
    dense_down<DenseUnpacked, Dot::kRows, Dot::kTiles>(a, 0, tile, 1);
  }
  for (; tile < a.last; ++tile) {
    dense_unpack(a, tile, a.scratch);
    dense_down<DenseUnpacked, Dot::kRows, 1>(a, 0, tile, 1);
  }
}
