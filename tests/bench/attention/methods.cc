// What the methods share, and the list of them.
#include "tests/bench/attention/methods.h"

#include <algorithm>
#include <cmath>

namespace moka::attention {

float* Workspace::floats(size_t n) {
  buffers_.emplace_back();
  if (!buffers_.back().allocate(n)) {
    failed_ = true;
    return nullptr;
  }
  bytes_ += buffers_.back().bytes();
  return buffers_.back().data();
}

void Workspace::clear() {
  buffers_.clear();
  bytes_ = 0;
  failed_ = false;
}

bool Method::prepare(size_t n) {
  workspace_.clear();
  allocate(n);
  return !workspace_.failed();
}

float continue_softmax(const Kernels& kernels, const float* logits, size_t count, bool first,
                       float* log_total, float* weight) {
  float earlier = 0.0f;
  kernels.mixture(logits, first ? nullptr : log_total, 1.0f, count, weight,
                  first ? nullptr : &earlier);
  // e^total = e^old / earlier = e^logit / weight: whichever of them keeps its digits.
  if (earlier > 0.01f) {
    *log_total -= std::log(earlier);
  } else {
    const size_t best = static_cast<size_t>(std::max_element(weight, weight + count) - weight);
    *log_total = logits[best] - std::log(weight[best]);
  }
  return earlier;
}

void transpose(const float* in, size_t rows, size_t columns, size_t in_stride, float* out,
               size_t out_stride) {
  for (size_t c = 0; c < columns; ++c) {
    for (size_t r = 0; r < rows; ++r) out[c * out_stride + r] = in[r * in_stride + c];
  }
}

std::vector<std::unique_ptr<Method>> make_methods(const Kernels& kernels) {
  std::vector<std::unique_ptr<Method>> methods;
  methods.push_back(std::make_unique<Latent>(kernels));
  methods.push_back(std::make_unique<Standard>(kernels));
  methods.push_back(std::make_unique<Window>(kernels));
  // As many features as a latent head has latents, and as many as the paper takes.
  methods.push_back(std::make_unique<Performer>(kernels, 64));
  methods.push_back(std::make_unique<Performer>(kernels, 256));
  methods.push_back(std::make_unique<Linformer>(kernels));
  methods.push_back(std::make_unique<Lsh>(kernels));
  return methods;
}

}  // namespace moka::attention
