// Forward: the model as a page of code. Reads steps of one or several sequences, row by row through
// the blocks, and turns the last hidden states into rows of output. Spread over files by subject:
//
//   forward.cc    blocks, feed-forwards, norms; what is allocated
//   input.cc      tokens, numbers and pixels to the first hidden states
//   mixer.cc      latents and windows      linformer.cc  the bidirectional baseline
//   head.cc       pooling and outputs      whole.cc      models that see ahead, and the memory
//   lookahead.cc  steps that may be taken back
//
// Belongs to one Executor: it owns that caller's operators and scratch. One call at a time. Nothing
// allocates after create(), except reserve_cache().
#ifndef MOKA_RUNTIME_FORWARD_H_
#define MOKA_RUNTIME_FORWARD_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "moka/span.h"
#include "moka/status.h"
#include "moka/tokenizer.h"
#include "runtime/aligned_buffer.h"
#include "runtime/convolution.h"
#include "runtime/dense.h"
#include "runtime/kernels/kernels.h"
#include "runtime/plan.h"
#include "runtime/profile.h"
#include "runtime/rotation.h"
#include "runtime/softmax_cache.h"
#include "runtime/thread_pool.h"

namespace moka {

// Consecutive steps of one sequence. The state is that before `position` and is brought up to date.
struct Sequence {
  float* state = nullptr;
  SoftmaxCache* cache = nullptr;    // of models that need one; has room for all steps
  uint64_t position = 0;            // steps that the state has seen
  uint64_t shift = 0;               // added to the positions that embeddings and angles are made of
  uint64_t whole = 0;               // steps gathered by mixers that see ahead
  uint64_t memory = 0;              // steps gathered from the memory
  const TokenId* tokens = nullptr;  // each below the vocabulary size
  const float* values = nullptr;    // or [count][features]
  size_t count = 0;
  size_t row = 0;  // set by read(): where its rows begin
  // Mixers and fronts take the steps one by one, so that all bits are those of as many single steps;
  // the rest of the model gives a row the same bits in any company.
  bool stepwise = false;
};

// One step of a sequence whose rows are set.
Sequence step_of(const Sequence& sequence, size_t step);

// A stretch of a whole sequence: steps [first, first + count), at positions first + shift and on.
struct Piece {
  size_t first = 0, count = 0;
  uint64_t shift = 0;
};

// The steps of `piece`, at row 0; pieces count from the first step of `sequence`.
Sequence part_of(const Sequence& sequence, const Piece& piece, size_t features);

// Told of each piece of work done; false: stop with kCancelled.
using PieceDone = std::function<bool()>;

class Forward {
 public:
  static Result<std::unique_ptr<Forward>> create(const Plan& plan, const Kernels& kernels,
                                                 PackedWeights& weights, int threads,
                                                 size_t max_rows);

  size_t max_rows() const { return max_rows_; }
  const ThreadPool& pool() const { return *pool_; }
  ThreadPool& pool() { return *pool_; }
  size_t scratch_bytes() const;

  // Records what is done from now on; null: nothing. Not while a call runs. The profiler outlives
  // its use and has a row for each thread of pool().
  void set_profiler(Profiler* profiler) { profiler_ = profiler; }

  // Floats of scratch of one thread for a mixer, `rows` steps at once, a window of `capacity` tokens.
  static size_t head_scratch(const MixerPlan& mixer, size_t rows, size_t capacity);

  // Scratch for softmax attention over `capacity` tokens.
  Status reserve_cache(size_t capacity);

  // Reads the steps of all sequences, at most max_rows() together; for plans that are not `whole`. A
  // failure (a defect, not an input) leaves the states unusable.
  Status read(Span<Sequence> sequences);

  // read() of one stepwise sequence that keeps what replay() needs: `kept` [count][kept_floats()].
  Status read_keeping(Sequence& sequence, float* kept);
  // Brings the state, which is that before the sequence, and whose cache has its steps, to behind its
  // first `steps` steps. Calls of other sequences may lie between. Does not fail.
  void replay(Sequence sequence, size_t steps, const float* kept);
  size_t kept_floats() const;  // of a step

  // Output of `rows` rows of the last read(), from `row` on, to out[rows][outputs]. With a pooled
  // head row i is the output for everything up to it. Not for pair models.
  Status logits(size_t row, size_t rows, float* out);
  // The last hidden state of a row of the last read() [D].
  const float* hidden(size_t row) const { return x_.data() + row * plan_.width; }
  // The vector that a pooled head makes its output of, for everything up to `row`.
  const float* pooled(size_t row) const { return pooled_.data() + row * plan_.width; }

  // Reads steps of the memory, at most max_rows(): its encoder, and what the blocks gather from it.
  Status read_memory(Sequence& sequence);

  // Whole sequences, for models that see ahead. `sequence` has all steps and a fresh state; x is
  // [count][D] and becomes the last hidden states. Pieces have at most max_rows() steps each.
  Status read_whole(const Sequence& sequence, Span<const Piece> pieces, float* x,
                    const PieceDone& done);
  // The same for the memory: its encoder, and what the blocks gather from it.
  Status read_whole_memory(const Sequence& sequence, Span<const Piece> pieces, float* x,
                           const PieceDone& done);
  // Output of hidden states x [rows][D], rows <= max_rows(), for heads that are not pooled.
  Status project_rows(const float* x, size_t rows, float* out);
  // Pools x [rows][D]; `last` is the row for last-token pooling.
  void pool_rows(const float* x, size_t rows, size_t last, float* pooled);
  // Output of a pooled vector, and of two for a pair model.
  Status project_pooled(const float* pooled, size_t rows, float* out);
  Status project_pair(const float* first, const float* second, float* out);

  // The parts of read(), for tests: x is [rows][D], may be changed, and rows must be set in the
  // sequences.
  Status run_mixer(const MixerPlan& mixer, Span<const Sequence> sequences, size_t rows, float* x,
                   float* y);
  Status run_block(const BlockPlan& block, Span<const Sequence> sequences, size_t rows, float* x);
  // Keys and values of the sequence into the latents of a mixer that sees ahead or reads a memory.
  Status gather(const MixerPlan& mixer, const Sequence& sequence, float* x);
  // Rotary angles of the positions of all rows; run_mixer needs them.
  void prepare_positions(Span<const Sequence> sequences);

 private:
  Forward(const Plan& plan, const Kernels& kernels) : plan_(plan), kernels_(kernels) {}
  Status allocate(PackedWeights& weights, int threads, size_t max_rows);
  bool allocate_rows(size_t wide, size_t hidden, bool front);

  // Calls work(first, count) for stretches of [0, rows), on all threads when a row's `floats` make that
  // worth while. Rows are independent of each other, so any cut gives the same bits.
  template <class Work>
  void for_rows(size_t rows, size_t floats, const Work& work) const;
  void normalise(const NormPlan& norm, size_t rows, const float* x, float* y) const;
  void normalise_rows(const NormPlan& norm, size_t rows, const float* x, float* y) const;
  // x <- after(x + y), and z <- next(x) when there is a next.
  void join(size_t rows, const float* y, const NormPlan& after, const NormPlan* next, float* x,
            float* z) const;
  void run_fronts(const MixerPlan& mixer, Span<const Sequence> sequences, const float* x);
  Status feed_forward(const FeedForwardPlan& plan, size_t rows, float* z, float* y);
  void activate(const FeedForwardPlan& plan, size_t rows, float* wide, float* out) const;

  // input.cc
  Status embed(const Sequence& sequence, float* x);
  Status embed_values(const Sequence& sequence, float* x);
  Status embed_image(const Sequence& sequence, float* x);
  void add_positions(const Sequence& sequence, float* x);

  // head.cc
  void pool(const Sequence& sequence);
  void scale_outputs(size_t rows, float* out) const;

  // lookahead.cc
  void keep_rows(const MixerPlan& mixer, size_t rows, const float* x);

  // whole.cc
  Status run_whole(const std::vector<BlockPlan>& blocks, const Sequence& sequence,
                   Span<const Piece> pieces, float* x, const PieceDone& done);
  Status gather_memory(const Sequence& sequence, const float* x);

  // mixer.cc
  struct HeadTask;
  // Heads [first, first + count) for one call of a HeadWork, on a thread of the pool.
  struct Heads {
    size_t first, count;
    size_t thread;
    float* scratch;  // scratch_floats_
  };
  using HeadWork = void (Forward::*)(const MixerPlan& mixer, const Sequence& sequence,
                                     const Heads& heads);
  // Rows of heads: step t of the h-th of them.
  struct HeadRows {
    float* data;
    size_t stride;  // from step to step
    size_t head;    // from head to head
    float* row(size_t h, size_t t) const { return data + h * head + t * stride; }
  };
  void mix_heads(const MixerPlan& mixer, Span<const Sequence> sequences);
  void for_heads(const MixerPlan& mixer, Span<const Sequence> sequences, HeadWork work);
  static void run_heads(void* context, size_t thread, size_t index);
  void mix_heads_of(const MixerPlan& mixer, const Sequence& sequence, const Heads& heads);
  void gather_heads(const MixerPlan& mixer, const Sequence& sequence, const Heads& heads);
  void read_heads(const MixerPlan& mixer, const Sequence& sequence, const Heads& heads);
  HeadRows head_values(const MixerPlan& mixer, const Sequence& sequence, const Heads& heads,
                       float* room);
  HeadRows head_outputs(const MixerPlan& mixer, const Sequence& sequence, const Heads& heads,
                        float* room);
  void store_heads(const MixerPlan& mixer, const Sequence& sequence, const Heads& heads,
                   const HeadRows& y);
  void head_mixture(const MixerPlan& mixer, const Sequence& sequence, const Heads& heads,
                    size_t first, size_t rows, float* p, float* p_gate) const;
  void rotate_heads(const RotationUse& use, int sign, size_t row, size_t rows,
                    const HeadRows& x) const;
  void rotate_step(const RotationUse& use, size_t row, size_t heads, const HeadRows& x) const;
  void set_upcoming(const MixerPlan& mixer, const Sequence& sequence, size_t head, size_t first,
                    size_t n, UpcomingRows* next) const;
  void mix_latents(const MixerPlan& mixer, const Sequence& sequence, const Heads& heads,
                   const HeadRows& v, float* p_gate, const HeadRows& y, float* scratch);
  void mix_window(const MixerPlan& mixer, const Sequence& sequence, const Heads& heads,
                  const HeadRows& v, const float* p_gate, const HeadRows& y, float* scratch);

  // linformer.cc
  void gather_low_rank(const MixerPlan& mixer, const Sequence& sequence, const Heads& heads);
  void read_low_rank(const MixerPlan& mixer, const Sequence& sequence, const Heads& heads);
  void gather_low_rank_head(const MixerPlan& mixer, const Sequence& sequence, size_t head,
                            float* scratch);
  void read_low_rank_head(const MixerPlan& mixer, const Sequence& sequence, size_t head,
                          float* scratch);
  Status unit_rows(const Sequence& sequence, float* x) const;
  static size_t linformer_scratch(const MixerPlan& mixer, size_t rows);

  const Plan& plan_;
  const Kernels& kernels_;
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<DenseRunner> dense_;
  std::unique_ptr<ConvolutionStack> convolution_;  // of convolved pixels
  size_t max_rows_ = 0;
  Profiler* profiler_ = nullptr;
  int block_ = -1;         // the layer at work, for the profile
  float* keep_ = nullptr;  // where read_keeping() puts the next mixer's rows; null: nowhere
  SinusoidalPositions sinusoidal_;
  std::vector<RotationTable> rotations_;

  AlignedBuffer<float> x_;        // [rows][D] residual stream
  AlignedBuffer<float> z_;        // [rows][D] normalised input of a part
  AlignedBuffer<float> y_;        // [rows][D] output of a part
  AlignedBuffer<float> front_;    // [rows][D] output of a recurrent front
  AlignedBuffer<float> wide_;     // [rows][widest fused projection]
  AlignedBuffer<float> hidden_;   // [rows][widest feed-forward]
  AlignedBuffer<float> mix_;      // [rows][D] head outputs, concatenated
  AlignedBuffer<float> input_;    // [rows][features] scaled numbers
  AlignedBuffer<float> pooled_;   // [rows][D] of a pooled head
  AlignedBuffer<float> pair_;     // [4 D] and [hidden] of a pair head
  AlignedBuffer<float> scratch_;  // per thread: scratch_floats_
  size_t scratch_floats_ = 0;
  AlignedBuffer<float> zeros_, ones_;  // [D] stand in for absent norm parameters
};

}  // namespace moka

#endif  // MOKA_RUNTIME_FORWARD_H_
