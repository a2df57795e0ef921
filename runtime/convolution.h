// ConvolutionStack: the 3x3 convolutions that turn an image into hidden states, on XNNPACK.
//
// Belongs to an Executor, as DenseRunner does: one call at a time, and nothing allocates after
// create(). Layers follow each other without an activation between them (spec: embeddings).
#ifndef MOKA_RUNTIME_CONVOLUTION_H_
#define MOKA_RUNTIME_CONVOLUTION_H_

#include <cstddef>
#include <memory>
#include <vector>

#include "moka/status.h"
#include "runtime/thread_pool.h"

namespace moka {

struct ConvolutionLayer {
  size_t in = 0, out = 0;         // channels
  const float* kernel = nullptr;  // [out][3][3][in]
  const float* bias = nullptr;    // [out]; null: none
};

// Stride 1, zeros around the image, cross-correlation.
struct ConvolutionPlan {
  size_t width = 0, height = 0;
  std::vector<ConvolutionLayer> layers;
};

class ConvolutionStack {
 public:
  // `plan` and `pool` outlive the stack.
  static Result<std::unique_ptr<ConvolutionStack>> create(const ConvolutionPlan& plan,
                                                          ThreadPool& pool);
  ~ConvolutionStack();

  // Where the image goes before run(): [height][width] numbers.
  float* input();
  // Channels of the last layer for every pixel, row by row: out[height * width][channels].
  Status run(float* out);

  size_t scratch_bytes() const;

 private:
  struct Impl;
  explicit ConvolutionStack(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moka

#endif  // MOKA_RUNTIME_CONVOLUTION_H_
