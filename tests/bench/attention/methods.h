// Ways of attention, one head each, to hold beside latent attention: all of them in float32 on one
// thread, on the runtime's own kernels, so that what differs is the method.
//
// A sequence is n rows of kChannels numbers each for q, k and v; so are the results. Projections
// before and after are left out: they are the same for all and linear in n.
#ifndef MOKA_TESTS_BENCH_ATTENTION_METHODS_H_
#define MOKA_TESTS_BENCH_ATTENTION_METHODS_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "runtime/aligned_buffer.h"
#include "runtime/kernels/kernels.h"

namespace moka::attention {

constexpr size_t kChannels = 64;  // of a head; a latent head has as many latents
constexpr size_t kChunk = 64;     // tokens that are read together

struct Sequence {
  size_t n = 0;
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
};

// Zeroed memory that is counted. Everything that a method writes to, but its results, is from here.
class Workspace {
 public:
  // Null when there is no memory; failed() tells so for all.
  float* floats(size_t n);
  void clear();
  void fail() { failed_ = true; }  // there is no memory for something else
  bool failed() const { return failed_; }
  size_t bytes() const { return bytes_; }

 private:
  std::deque<AlignedBuffer<float>> buffers_;
  size_t bytes_ = 0;
  bool failed_ = false;
};

class Method {
 public:
  explicit Method(const Kernels& kernels) : kernels_(kernels) {}
  virtual ~Method() = default;
  Method(const Method&) = delete;
  Method& operator=(const Method&) = delete;

  virtual std::string name() const = 0;
  // A token sees only itself and those before it.
  virtual bool causal() const { return true; }

  // Makes parameters and memory for n tokens, n >= 1. False when there is no memory.
  bool prepare(size_t n);
  // y: n rows. The sequence has as many tokens as prepare() was told.
  virtual void run(const Sequence& sequence, float* y) = 0;

  // What a head must hold to get through n tokens that come in chunks: its memory, and those rows
  // of q, k or v that it reads again later. Without results and parameters.
  size_t bytes(size_t n) const { return workspace_.bytes() + kept_bytes(n); }
  // Parameters of the method that grow with n.
  virtual size_t parameter_bytes(size_t) const { return 0; }

 protected:
  virtual void allocate(size_t n) = 0;
  virtual size_t kept_bytes(size_t) const { return 0; }

  const Kernels& kernels_;
  Workspace workspace_;
};

// Causal Latte: the runtime's kernel in chunks. q and k are the logits of queries and keys over the
// latents; y = sum over latents of softmax(q) S / Z.
class Latent : public Method {
 public:
  using Method::Method;
  std::string name() const override { return "latent (Latte)"; }
  void run(const Sequence& sequence, float* y) override;

 private:
  void allocate(size_t n) override;
  float *m_ = nullptr, *z_ = nullptr, *s_ = nullptr, *p_ = nullptr, *scratch_ = nullptr;
};

// Causal softmax over all tokens so far, tile by tile: the scores are never held as a whole.
class Standard : public Method {
 public:
  using Method::Method;
  static constexpr size_t kTile = 512;  // keys whose scores are held
  std::string name() const override { return "standard softmax"; }
  void run(const Sequence& sequence, float* y) override;

 private:
  void allocate(size_t n) override;
  size_t kept_bytes(size_t n) const override { return n * kChannels * sizeof(float); }  // v
  void run_block(const Sequence& sequence, size_t start, size_t rows, float* y);
  float* keys_ = nullptr;  // [tile][kChannels][kTileStride]
  float *score_ = nullptr, *weight_ = nullptr, *query_ = nullptr;
};

// Causal softmax over the last kWindow tokens: the runtime's kernel.
class Window : public Method {
 public:
  using Method::Method;
  static constexpr size_t kWindow = 128;
  std::string name() const override { return "sliding window, 128"; }
  void run(const Sequence& sequence, float* y) override;

 private:
  void allocate(size_t n) override;
  float *ring_k_ = nullptr, *ring_v_ = nullptr, *scratch_ = nullptr;
};

// Causal linear attention with the positive orthogonal random features of Performer (FAVOR+, arXiv
// 2009.14794): phi(x) = exp(w x' - |x'|^2 / 2) for x' = x / Dh^(1/4);
// y = phi(q) S / (phi(q) Z) with S = sum phi(k) v, Z = sum phi(k).
class Performer : public Method {
 public:
  Performer(const Kernels& kernels, size_t features);  // features: a multiple of kRowPad
  std::string name() const override;
  void run(const Sequence& sequence, float* y) override;
  // w: row f of kChannels numbers is feature f's.
  const std::vector<float>& features() const { return w_; }

 private:
  static constexpr size_t kInputs = kChannels + 1;         // x' and -|x'|^2 / 2
  static constexpr size_t kOutputs = kChannels + kRowPad;  // v and a one, whose sum is Z
  void allocate(size_t n) override;
  void run_chunk(const Sequence& sequence, size_t start, size_t rows, float* y);
  size_t features_;
  std::vector<float> w_;
  // [features][kInputs] and its transpose; the last input has weight 1.
  std::vector<float> rows_, columns_;
  float* state_ = nullptr;  // [features][kOutputs]: S and Z
  float *input_ = nullptr, *phi_q_ = nullptr, *phi_k_ = nullptr, *mix_ = nullptr;
  float *value_ = nullptr, *out_ = nullptr;
};

// Linformer (arXiv 2006.04768): softmax over kRank rows that are linear mixtures of all keys and
// values, K' = E K and V' = E V. It sees ahead, and E has a column for each token.
class Linformer : public Method {
 public:
  using Method::Method;
  static constexpr size_t kRank = 256;
  std::string name() const override { return "Linformer, rank 256"; }
  bool causal() const override { return false; }
  void run(const Sequence& sequence, float* y) override;
  size_t parameter_bytes(size_t n) const override { return n * kRank * sizeof(float); }
  float mixture(size_t row, size_t token) const {
    return e_.data()[(token / kChunk * kRank + row) * kChunk + token % kChunk];
  }

 private:
  void allocate(size_t n) override;
  size_t kept_bytes(size_t n) const override { return n * kChannels * sizeof(float); }  // q
  AlignedBuffer<float> e_;  // [chunk][kRank][kChunk]
  float *keys_ = nullptr, *values_ = nullptr, *keys_t_ = nullptr, *score_ = nullptr,
        *weight_ = nullptr, *query_ = nullptr;
};

// LSH attention of Reformer (arXiv 2001.04451): q serves as key too (divided by its length). Tokens
// are hashed kRounds times by random rotations into buckets of about kChunk, sorted by bucket and
// place, and cut into chunks; a token sees those of its bucket, before it, in its chunk and the one
// before. Itself it sees only when there is nothing else. A pair that meets in several rounds
// counts as often. No token has a later one's value, but where chunks begin depends on all.
class Lsh : public Method {
 public:
  using Method::Method;
  static constexpr size_t kRounds = 4;
  static constexpr float kSelf = -1e5f, kMasked = -1e9f;  // logits
  std::string name() const override { return "LSH (Reformer), 4 rounds"; }
  void run(const Sequence& sequence, float* y) override;

  // Buckets are pairs: one of `first` and one of `second`, each the index of the largest of x R and
  // -x R. rotations(r) is [kChannels][first / 2 + second / 2], the columns of R side by side.
  size_t first() const { return first_; }
  size_t second() const { return second_; }
  const float* rotations(size_t round) const { return rotations_[round].data(); }

 private:
  void allocate(size_t n) override;
  size_t kept_bytes(size_t n) const override { return 2 * n * kChannels * sizeof(float); }  // q, v
  void hash(const Sequence& sequence, size_t round);
  void sort(size_t n);
  void run_chunk(const Sequence& sequence, bool first_round, size_t start, size_t rows, float* y);
  void load_chunk(const Sequence& sequence, size_t start, size_t rows);
  size_t first_ = 0, second_ = 0;
  std::vector<float> rotations_[kRounds];
  uint32_t *bucket_ = nullptr, *order_ = nullptr, *count_ = nullptr;
  float* log_total_ = nullptr;  // per token, of the rounds so far
  float *projected_ = nullptr, *query_ = nullptr, *keys_t_ = nullptr, *value_ = nullptr;
  float *score_ = nullptr, *weight_ = nullptr, *out_ = nullptr;
};

// One of each, in the order of the table.
std::vector<std::unique_ptr<Method>> make_methods(const Kernels& kernels);

// ---- for the methods ---------------------------------------------------------------------------

// Softmax that goes on. *log_total is the logarithm of the sum of all earlier exponentials
// (`first`: there are none, and it may hold anything); it becomes that of all. Gives the weights of
// `count` new logits and, returned, of everything earlier; they sum to 1. weight and logits do not
// overlap.
float continue_softmax(const Kernels& kernels, const float* logits, size_t count, bool first,
                       float* log_total, float* weight);

// out[c][r] = in[r][c]
void transpose(const float* in, size_t rows, size_t columns, size_t in_stride, float* out,
               size_t out_stride);

}  // namespace moka::attention

#endif  // MOKA_TESTS_BENCH_ATTENTION_METHODS_H_
