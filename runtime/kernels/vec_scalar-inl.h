// A vector of one float: the scalar table's type, and every table's tail. Included once inside each
// instruction set's namespace.
struct Scalar {
  using R = float;
  static constexpr size_t kWidth = 1;
  static R load(const float* p) { return *p; }
  static void store(float* p, R v) { *p = v; }
  static R set(float v) { return v; }
  static R add(R a, R b) { return a + b; }
  static R sub(R a, R b) { return a - b; }
  static R mul(R a, R b) { return a * b; }
  static R div(R a, R b) { return a / b; }
  static R fma(R a, R b, R c) { return a * b + c; }
  static R max(R a, R b) { return a > b ? a : b; }
  static R min(R a, R b) { return a < b ? a : b; }
  // Nearest integer; |v| is at most 2^22.
  static R round(R v) { return (v + 12582912.0f) - 12582912.0f; }
  // 2^n for integral n in [-126, 127].
  static R exp2_integer(R n) {
    const uint32_t bits = static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23;
    float out;
    std::memcpy(&out, &bits, sizeof(out));
    return out;
  }
  // value where x >= limit, else 0.
  static R keep_from(R x, R limit, R value) { return x >= limit ? value : 0.0f; }
  static float sum(R v) { return v; }
  static float largest(R v) { return v; }
  static R load_i8(const int8_t* p) { return static_cast<float>(*p); }
  static R load_f16(const uint16_t* p) { return half_to_float(*p); }
  static void store_f16(uint16_t* p, R v) { *p = float_to_half(v); }
  static R reciprocal(R x) { return 1.0f / x; }
  static R first(size_t n, R x, R y) { return n > 0 ? x : y; }
  static void transpose(const float* a, size_t, float* b, size_t) { *b = *a; }
};
