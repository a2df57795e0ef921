// Forward: the model as a page of code. Reads tokens of one or several sequences, row by row through
// the blocks, and turns the last hidden states into logits.
//
// Belongs to one Executor: it owns that caller's operators and scratch. One call at a time. Nothing
// allocates after create().
#ifndef MOKA_RUNTIME_FORWARD_H_
#define MOKA_RUNTIME_FORWARD_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "moka/span.h"
#include "moka/status.h"
#include "moka/tokenizer.h"
#include "runtime/aligned_buffer.h"
#include "runtime/dense.h"
#include "runtime/kernels/kernels.h"
#include "runtime/plan.h"
#include "runtime/rotation.h"
#include "runtime/thread_pool.h"

namespace moka {

// Consecutive tokens of one sequence. The state is that before `position` and is brought up to date.
struct Sequence {
  float* state = nullptr;
  uint64_t position = 0;            // tokens that the state has seen
  uint64_t shift = 0;               // added to the positions that embeddings and angles are made of
  const TokenId* tokens = nullptr;  // each below the vocabulary size
  size_t count = 0;
  size_t row = 0;  // set by read(): where its rows begin
};

class Forward {
 public:
  static Result<std::unique_ptr<Forward>> create(const Plan& plan, const Kernels& kernels,
                                                 PackedWeights& weights, int threads,
                                                 size_t max_rows);

  size_t max_rows() const { return max_rows_; }
  const ThreadPool& pool() const { return *pool_; }
  size_t scratch_bytes() const;

  // Reads the tokens of all sequences, at most max_rows() together. A failure (a defect, not an
  // input) leaves the states unusable.
  Status read(Span<Sequence> sequences);

  // Logits of `rows` rows of the last read(), from `row` on, to out[rows][outputs].
  Status logits(size_t row, size_t rows, float* out);

  // The parts of read(), for tests: x is [rows][D], and rows must be set in the sequences.
  Status run_mixer(const MixerPlan& mixer, Span<const Sequence> sequences, size_t rows,
                   const float* x, float* y);
  Status run_block(const BlockPlan& block, Span<const Sequence> sequences, size_t rows, float* x);
  // Rotary angles of the positions of all rows; run_mixer needs them.
  void prepare_positions(Span<const Sequence> sequences);

 private:
  Forward(const Plan& plan, const Kernels& kernels) : plan_(plan), kernels_(kernels) {}
  Status allocate(PackedWeights& weights, int threads, size_t max_rows);

  void embed(const Sequence& sequence);
  void normalise(const NormPlan& norm, size_t rows, const float* x, float* y) const;
  Status feed_forward(const FeedForwardPlan& plan, size_t rows, float* z, float* y);
  void add_rows(size_t rows, const float* y, float* x) const;

  // mixer.cc
  struct HeadTask;
  void mix_heads(const MixerPlan& mixer, Span<const Sequence> sequences);
  static void run_head(void* context, size_t thread, size_t index);
  void mix_head(const MixerPlan& mixer, const Sequence& sequence, size_t head, float* scratch);
  void mix_window(const MixerPlan& mixer, const Sequence& sequence, size_t head, const float* v,
                  size_t v_stride, const float* p_gate, float* y, float* scratch);
  static size_t head_scratch(const MixerPlan& mixer, size_t rows);

  const Plan& plan_;
  const Kernels& kernels_;
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<DenseRunner> dense_;
  size_t max_rows_ = 0;
  SinusoidalPositions sinusoidal_;
  std::vector<RotationTable> rotations_;

  AlignedBuffer<float> x_;        // [rows][D] residual stream
  AlignedBuffer<float> z_;        // [rows][D] normalised input of a part
  AlignedBuffer<float> y_;        // [rows][D] output of a part
  AlignedBuffer<float> front_;    // [rows][D] output of a recurrent front
  AlignedBuffer<float> wide_;     // [rows][widest fused projection]
  AlignedBuffer<float> hidden_;   // [rows][widest feed-forward]
  AlignedBuffer<float> mix_;      // [rows][D] head outputs, concatenated
  AlignedBuffer<float> scratch_;  // per thread: scratch_floats_
  size_t scratch_floats_ = 0;
  AlignedBuffer<float> zeros_, ones_;  // [D] stand in for absent norm parameters
};

}  // namespace moka

#endif  // MOKA_RUNTIME_FORWARD_H_
