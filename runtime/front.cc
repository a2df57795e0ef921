#include "runtime/front.h"

#include <cmath>
#include <cstring>

namespace moka {
namespace {

// z_t = b + sum over j of w[K-1-j] * x_{t-j}; inputs before the sequence are zero.
void convolve(const FrontPlan& plan, size_t width, size_t rows, const float* x, float* state,
              float* z, float* scratch) {
  const size_t past = plan.taps - 1;
  std::memcpy(scratch, state, past * width * sizeof(float));
  std::memcpy(scratch + past * width, x, rows * width * sizeof(float));
  for (size_t t = 0; t < rows; ++t) {
    float* out = z + t * width;
    std::memcpy(out, plan.conv_bias, width * sizeof(float));
    for (size_t tap = 0; tap < plan.taps; ++tap) {
      const float* in = scratch + (t + tap) * width;
      const float* w = plan.conv_weight + tap * width;
      for (size_t i = 0; i < width; ++i) out[i] += w[i] * in[i];
    }
  }
  std::memcpy(state, scratch + rows * width, past * width * sizeof(float));
}

// gate = x W + b with W block-diagonal, stored (block, in, out).
void block_diagonal(const FrontPlan& plan, const Kernels& kernels, size_t width, size_t rows,
                    const float* x, const float* weight, const float* bias, float* gate) {
  const size_t n = plan.block_width;
  for (size_t t = 0; t < rows; ++t) std::memcpy(gate + t * width, bias, width * sizeof(float));
  for (size_t block = 0; block < plan.blocks; ++block) {
    GemmArgs g;
    g.m = rows, g.n = n, g.k = n;
    g.a = x + block * n, g.lda = width;
    g.b = weight + block * n * n, g.ldb = n;
    g.c = gate + block * n, g.ldc = width;
    g.accumulate = true;
    kernels.gemm(g);
  }
}

float sigmoid(float z) { return 1.0f / (1.0f + std::exp(-z)); }

// log a = -c r softplus(a_param); h' = a h + sqrt(1 - a^2) i x. The first token of a sequence has
// neither a carry nor the factor. `decay` is c softplus(a_param).
void rglru(const FrontPlan& plan, const Kernels& kernels, size_t width, uint64_t position,
           size_t rows, float* x, float* hidden, float* scratch) {
  float* input_gate = scratch;
  float* a_gate = input_gate + rows * width;
  block_diagonal(plan, kernels, width, rows, x, plan.input_gate_weight, plan.input_gate_bias,
                 input_gate);
  block_diagonal(plan, kernels, width, rows, x, plan.a_gate_weight, plan.a_gate_bias, a_gate);
  for (size_t t = 0; t < rows; ++t) {
    const bool start = position + t == 0;
    for (size_t i = 0; i < width; ++i) {
      const size_t at = t * width + i;
      const float gated = sigmoid(input_gate[at]) * x[at];
      if (start) {
        hidden[i] = gated;
      } else {
        const float log_a = -plan.decay[i] * sigmoid(a_gate[at]);
        const float carry = std::exp(log_a);
        hidden[i] = carry * hidden[i] + std::sqrt(-std::expm1(2.0f * log_a)) * gated;
      }
      x[at] = hidden[i];
    }
  }
}

}  // namespace

size_t front_scratch(const FrontPlan& plan, size_t width, size_t rows) {
  const size_t conv = plan.conv ? (plan.taps - 1 + rows) * width : 0;
  const size_t gates = plan.rglru ? 2 * rows * width : 0;
  return conv > gates ? conv : gates;
}

void run_front(const FrontPlan& plan, const Kernels& kernels, size_t width, uint64_t position,
               size_t rows, const float* x, float* conv_state, float* hidden, float* z,
               float* scratch) {
  if (plan.conv) {
    convolve(plan, width, rows, x, conv_state, z, scratch);
  } else {
    std::memcpy(z, x, rows * width * sizeof(float));
  }
  if (plan.rglru) rglru(plan, kernels, width, position, rows, z, hidden, scratch);
}

}  // namespace moka
