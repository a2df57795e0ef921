// Moka's own compute kernels: what no library has, and the pointwise work around it.
//
// Every kernel has one generic body in a *-inl.h file, written over a small vector type. A file per
// instruction set (isa_*.cc) defines that type, includes the bodies inside its target region and
// fills one table. The table is chosen once, when a model is opened (select.cc). A new kernel is a
// pointer here, a body, and one line in table-inl.h; tests and benchmarks walk the tables.
//
// Contracts, unless a kernel says otherwise: arrays are float32, need no alignment, do not overlap
// and are not read or written past the extents given. No kernel allocates or keeps state; any number
// of threads may run one. An element's result does not depend on how many rows a call has.
#ifndef MOKA_RUNTIME_KERNELS_KERNELS_H_
#define MOKA_RUNTIME_KERNELS_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "moka/span.h"
#include "moka/status.h"

namespace moka {

// Rows that vector code walks are padded to this many floats (64 bytes), the same for every
// instruction set, so that the layout of a session does not depend on the machine.
constexpr size_t kRowPad = 16;

constexpr size_t pad_row(size_t n) { return (n + kRowPad - 1) / kRowPad * kRowPad; }

// Which part of a product a triangular matrix leaves out.
enum class Triangle {
  kFull,
  kLowerOutput,  // only columns j <= i of the output are wanted; others hold anything
  kLowerInput,   // columns j > i + shift of A are zero; most of them are not read
};

// C (m x n) = A (m x k) B (k x n), or C += with `accumulate`. Row-major, strides in floats.
struct GemmArgs {
  size_t m = 0, n = 0, k = 0;
  const float* a = nullptr;  // element (i, x) at a + i * lda + x * a_step
  size_t lda = 0;
  size_t a_step = 1;
  const float* b = nullptr;  // element (x, j) at b + x * ldb + j / 16 * b_block + j % 16
  size_t ldb = 0;
  size_t b_block = kRowPad;  // kRowPad: plain rows
  float* c = nullptr;
  size_t ldc = 0;
  bool accumulate = false;
  Triangle triangle = Triangle::kFull;
  size_t shift = 0;
};

// Rows that will be read after a call and lie too far apart for the CPU to guess: it asks for them
// while it computes. Stretches of n[i] floats at x[i] of each row.
struct UpcomingRows {
  static constexpr size_t kMost = 5;
  size_t rows = 0, stride = 0, parts = 0;
  const float* x[kMost] = {};
  size_t n[kMost] = {};
  void add(const float* part, size_t floats) { x[parts] = part, n[parts++] = floats; }
};

// One head of causal latent attention over `n` tokens (Latte paper; step form and chunk form).
// State of the head: m[lh] running maximum of the keys (lowest float when empty), z[lh] the sum of
// exp(k - m), s[lh][dh_pad] the same sum weighted by the values. Pad columns of v are zero.
struct LatentArgs {
  size_t n = 0;
  size_t lh = 0;             // latents of the head
  size_t dh_pad = 0;         // value channels of the head, padded
  const float* p = nullptr;  // mixture weights, row t at p + t * p_stride
  size_t p_stride = 0;
  const float* k = nullptr;  // keys (logits)
  size_t k_stride = 0;
  const float* v = nullptr;  // values, rows of dh_pad
  size_t v_stride = 0;
  float* m = nullptr;
  float* z = nullptr;
  float* s = nullptr;
  // Of older tokens, only read; null: none. archive_m is at most m, archive_mean is [lh][dh_pad], the
  // sum divided by archive_z.
  const float* archive_m = nullptr;
  const float* archive_z = nullptr;
  const float* archive_mean = nullptr;
  float* y = nullptr;  // out: rows of dh_pad
  size_t y_stride = 0;
  float* scratch = nullptr;  // latent_scratch(n, lh) floats
  // What is read after a step, as many bytes as S: it is asked for meanwhile. Null: not known.
  const void* ahead = nullptr;
  UpcomingRows next;
};

// Tokens that one round of the chunk form takes, so that what it needs stays in the first cache, and
// channels of the archive that it takes at a time.
constexpr size_t kLatentChunk = 32;
constexpr size_t kLatentChannels = 64;

constexpr size_t latent_scratch(size_t n, size_t lh) {
  const size_t c = n < kLatentChunk ? n : kLatentChunk;
  return 2 * c * pad_row(lh) + lh * pad_row(c) + c * (pad_row(c) + kRowPad) + 4 * pad_row(lh) +
         (n > 1 ? lh * kLatentChannels : 0);
}

// How far the running maximum of a key may climb inside a chunk after its first token: Z stays
// above exp(-60), far from underflow. A chunk that climbs more is halved.
constexpr float kJumpLimit = 60.0f;

// One head of sliding-window softmax attention over `n` tokens at positions pos ... pos + n - 1.
// The ring holds the last `capacity` tokens, token at position i in slot i % capacity:
// ring_k[dh][capacity_pad] is transposed, so that scores are vectors over tokens.
//
// The ring is of float32, or of IEEE binary16 with `half`. Keys and values are then rounded to the
// nearest half as they enter, finite ones beyond its range to +-65504, and what is computed from them,
// in the chunk that brings them too, is computed from the rounded ones. Infinity and NaN stay.
struct WindowArgs {
  size_t n = 0;
  size_t dh = 0, dh_pad = 0;
  size_t capacity = 0;
  uint64_t position = 0;
  const float* q = nullptr;  // queries, rotated
  size_t q_stride = 0;
  const float* k = nullptr;  // keys, rotated
  size_t k_stride = 0;
  const float* v = nullptr;  // values, rows of dh_pad
  size_t v_stride = 0;
  bool half = false;
  void* ring_k = nullptr;
  void* ring_v = nullptr;  // [capacity][dh_pad]
  float scale = 1.0f;
  float softcap = 0.0f;          // 0: none
  const float* blend = nullptr;  // null: y = attention; else y[t] += blend[t] * attention
  float* y = nullptr;            // rows of dh_pad
  size_t y_stride = 0;
  float* scratch = nullptr;  // window_scratch(n, capacity, dh, dh_pad, half) floats
  // What is read after a step, as many bytes as the keys: it is asked for meanwhile. Null: not known.
  const void* ahead = nullptr;
};

// Queries that are taken at a time: together they see hardly more than each of them alone.
constexpr size_t kWindowQueries = 16;

constexpr size_t window_scratch(size_t n, size_t capacity, size_t dh, size_t dh_pad,
                                bool half = false) {
  const size_t cp = pad_row(capacity);
  return n == 1 ? cp + 2 * dh_pad
                : (dh + (half ? dh_pad : 0)) * (cp + pad_row(n)) +
                      kWindowQueries * (cp + kRowPad + dh_pad);
}

// The mixture weights of one head for several tokens, or of several heads for one.
struct MixtureArgs {
  size_t rows = 0, n = 0;
  const float* q = nullptr;  // logits, n of each row
  size_t q_stride = 0;
  const float* gate = nullptr;  // one more logit of each row; null: none
  size_t gate_stride = 0;
  float scale = 1.0f;
  float* p = nullptr;
  size_t p_stride = 0;
  float* p_gate = nullptr;  // [rows]; null without a gate
};

// Rows of a head turned by the angles of their positions.
struct RotateArgs {
  size_t rows = 0;
  float* x = nullptr;
  size_t x_stride = 0;
  const float *cosine = nullptr, *sine = nullptr;  // [half] of each row
  size_t angle_stride = 0;                         // 0: the same angles for all
  size_t half = 0;
  bool interleaved = false;
};

struct Kernels {
  const char* name;  // "scalar", "avx2", "avx512", "neon", "wasm"
  uint32_t needs;    // CpuFeature bits

  void (*gemm)(const GemmArgs& args);
  void (*latent)(const LatentArgs& args);
  // The two halves of latent attention that sees ahead or reads another sequence. gather brings the
  // state up to date with n tokens (p and y unused); read computes y = sum over latents of
  // p S / Z from the state alone (k and v unused), 0 for latents that have seen nothing.
  void (*latent_gather)(const LatentArgs& args);
  void (*latent_read)(const LatentArgs& args);
  void (*window)(const WindowArgs& args);

  // Norms of one row of n channels; y may be x. rms: scale[i] + offset multiplies (offset 1 for
  // unit_offset).
  void (*rms_norm)(const float* x, const float* scale, float offset, float eps, size_t n, float* y);
  // Mean and biased variance in two passes.
  void (*layer_norm)(const float* x, const float* scale, const float* bias, float eps, size_t n,
                     float* y);
  void (*affine)(const float* x, const float* scale, const float* bias, size_t n, float* y);

  void (*add)(const float* x, size_t n, float* y);   // y += x
  void (*gelu)(const float* x, size_t n, float* y);  // tanh form; y may be x
  void (*silu)(const float* x, size_t n, float* y);  // x * sigmoid(x); y may be x
  void (*gelu_mul)(const float* x, const float* factor, size_t n, float* y);  // gelu(x) * factor
  void (*silu_mul)(const float* x, const float* factor, size_t n, float* y);  // silu(x) * factor
  void (*sigmoid_mul)(const float* x, const float* factor, size_t n,
                      float* y);  // sigmoid(x) * factor

  // p = softmax(scale * [gate, q]) over n + 1 logits, or over the n of q when gate is null. The
  // weight of the gate goes to *p_gate, the others to p.
  void (*mixture)(const float* q, const float* gate, float scale, size_t n, float* p,
                  float* p_gate);
  void (*mixtures)(const MixtureArgs& args);  // row by row

  // y = y + w * x, used to blend the local component into the latent one.
  void (*add_scaled)(const float* x, float w, size_t n, float* y);

  // Pairs (i, i + half) of x, or (2i, 2i + 1) when interleaved, turned by the angles whose cosines
  // and sines are given; channels from 2 * half on stay. In place.
  void (*rotate)(float* x, const float* cosine, const float* sine, size_t half, bool interleaved);
  void (*rotate_rows)(const RotateArgs& args);  // row by row

  // Token-table rows and float16 weights to float32.
  void (*widen_i8)(const int8_t* x, float scale, size_t n, float* y);
  void (*widen_f16)(const uint16_t* x, size_t n, float* y);

  // Exponential, within 2 units in the last place for x in [-87, 88]; 0 below. y may be x.
  void (*exp)(const float* x, size_t n, float* y);
};

// Instruction sets that kernels can ask for.
enum CpuFeature : uint32_t {
  kCpuAvx2Fma = 1u << 0,  // AVX2, FMA, F16C
  kCpuAvx512 = 1u << 1,   // AVX-512 F, BW, DQ, VL
  kCpuNeon = 1u << 2,     // AArch64 Advanced SIMD
  kCpuAvxVnni = 1u << 3,
  kCpuAvx512Vnni = 1u << 4,
  kCpuAmxInt8 = 1u << 5,   // and the system lets this process use it
  kCpuNeonDot = 1u << 6,   // SDOT, UDOT
  kCpuWasmSimd = 1u << 7,  // SIMD128: an engine without it refuses the whole module
};

uint32_t cpu_features();

// Tables compiled into this library, best first, whether or not this CPU runs them.
Span<const Kernels* const> compiled_kernels();

// The table named `isa`; null: the one named by the environment variable MOKA_ISA, else the best
// that this CPU runs. kInvalidArgument lists the names for an unknown one; kUnsupported when this
// CPU or build lacks it.
Result<const Kernels*> select_kernels(const char* isa);

}  // namespace moka

#endif  // MOKA_RUNTIME_KERNELS_KERNELS_H_
