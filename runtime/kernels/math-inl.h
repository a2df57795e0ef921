// exp and sigmoid over a vector type. Included once inside each instruction set's namespace.

// 2^n * e^r with x = n ln 2 + r, |r| <= ln(2)/2; e^r by a polynomial of degree 7. Error below 2 ulp.
// Below -87.33 the result would be subnormal and is 0.
template <class V>
inline typename V::R exp_vector(typename V::R x) {
  using R = typename V::R;
  const R lowest = V::set(-87.33f);
  const R clamped = V::min(V::max(x, lowest), V::set(88.37f));
  const R n = V::round(V::mul(clamped, V::set(1.44269504088896341f)));
  R r = V::fma(n, V::set(-0.693359375f), clamped);  // ln 2 in two parts, the first exact in n
  r = V::fma(n, V::set(2.12194440e-4f), r);
  R e = V::set(1.9875691500e-4f);
  e = V::fma(e, r, V::set(1.3981999507e-3f));
  e = V::fma(e, r, V::set(8.3334519073e-3f));
  e = V::fma(e, r, V::set(4.1665795894e-2f));
  e = V::fma(e, r, V::set(1.6666665459e-1f));
  e = V::fma(e, r, V::set(5.0000001201e-1f));
  e = V::fma(V::mul(r, r), e, V::add(r, V::set(1.0f)));
  return V::keep_from(x, lowest, V::mul(e, V::exp2_integer(n)));
}

template <class V>
inline typename V::R sigmoid_vector(typename V::R x) {
  const typename V::R one = V::set(1.0f);
  return V::reciprocal(V::add(one, exp_vector<V>(V::sub(V::set(0.0f), x))));
}

// z/2 (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))) = z sigmoid(2 sqrt(2/pi) (z + 0.044715 z^3))
template <class V>
inline typename V::R gelu_vector(typename V::R z) {
  const typename V::R cubic = V::fma(V::mul(z, z), V::mul(z, V::set(0.044715f)), z);
  return V::mul(z, sigmoid_vector<V>(V::mul(cubic, V::set(1.5957691216057308f))));
}

template <class V>
inline typename V::R silu_vector(typename V::R z) {
  return V::mul(z, sigmoid_vector<V>(z));
}

// Asks for n floats that will be read soon, from rows too far apart for the CPU to guess.
inline void prefetch(const float* x, size_t n) {
  for (size_t i = 0; i < n; i += kRowPad) __builtin_prefetch(x + i);
}

// Asks for kBytes from `at` on: a piece of what a step reads next, for each piece that it reads now.
template <size_t kBytes>
inline void prefetch_bytes(const void* next, size_t at) {
  const char* line = static_cast<const char*>(next) + at;
  MOKA_UNROLL
  for (size_t i = 0; i < kBytes; i += 64) __builtin_prefetch(line + i);
}

// Arrays up to this many bytes are asked for while another of that size is read: more would leave the
// first cache again before its turn. A larger array, or one whose next is not known, is asked for
// kStreamAhead bytes ahead of the reading, because CPUs do not guess beyond a page.
constexpr size_t kFarthestAhead = 32768;
constexpr size_t kStreamAhead = 4096;

// Rows that a step reads are read as several streams, a page and more apart, which a CPU fetches
// side by side: the i-th of n rows in that order. n % kStreams of them come last.
constexpr size_t kStreams = 4;
inline size_t stream_row(size_t i, size_t n) {
  const size_t apart = n / kStreams;
  return i < apart * kStreams ? i % kStreams * apart + i / kStreams : i;
}
