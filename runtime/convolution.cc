#include "runtime/convolution.h"

#include <xnnpack.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "runtime/aligned_buffer.h"

namespace moka {
namespace {

Status xnn_error(const char* what, size_t layer, xnn_status status) {
  const StatusCode code =
      status == xnn_status_out_of_memory ? StatusCode::kOutOfMemory : StatusCode::kInternal;
  return Status(code, std::string("XNNPACK: ") + what + " of convolution " + std::to_string(layer) +
                          " failed with status " + std::to_string(static_cast<int>(status)));
}

}  // namespace

struct ConvolutionStack::Impl {
  const ConvolutionPlan* plan = nullptr;
  ThreadPool* pool = nullptr;
  pthreadpool* threads = nullptr;
  std::vector<xnn_operator_t> operators;
  AlignedBuffer<float> pixels;
  AlignedBuffer<float> even, odd;  // outputs of layers 0, 2, ... and 1, 3, ... but for the last
  AlignedBuffer<uint8_t> workspace;

  ~Impl() {
    for (xnn_operator_t op : operators) xnn_delete_operator(op);
  }

  Status create_layer(size_t index);
  Status allocate(size_t workspace_bytes);
};

ConvolutionStack::ConvolutionStack(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ConvolutionStack::~ConvolutionStack() = default;

Status ConvolutionStack::Impl::create_layer(size_t index) {
  const ConvolutionLayer& layer = plan->layers[index];
  const uint32_t flags = pool->yields() ? XNN_FLAG_YIELD_WORKERS : 0;
  operators.reserve(operators.size() + 1);  // what may throw, before there is something to lose
  xnn_operator_t op = nullptr;
  const xnn_status status = xnn_create_convolution2d_nhwc_f32(
      1, 1, 1, 1, 3, 3, 1, 1, 1, 1, 1, layer.in, layer.out, layer.in, layer.out, layer.kernel,
      layer.bias, -INFINITY, INFINITY, flags, nullptr, nullptr, &op);
  if (status != xnn_status_success) return xnn_error("create", index, status);
  operators.push_back(op);
  return Status();
}

Status ConvolutionStack::Impl::allocate(size_t workspace_bytes) {
  const size_t count = plan->width * plan->height;
  size_t sizes[2] = {0, 0};
  for (size_t i = 0; i + 1 < plan->layers.size(); ++i) {
    sizes[i % 2] = std::max(sizes[i % 2], count * plan->layers[i].out);
  }
  if (pixels.allocate(count) && even.allocate(sizes[0]) && odd.allocate(sizes[1]) &&
      workspace.allocate(workspace_bytes)) {
    return Status();
  }
  return Status(StatusCode::kOutOfMemory, "no memory to convolve an image of " +
                                              std::to_string(plan->width) + " by " +
                                              std::to_string(plan->height) + " pixels");
}

Result<std::unique_ptr<ConvolutionStack>> ConvolutionStack::create(const ConvolutionPlan& plan,
                                                                   ThreadPool& pool) {
  auto impl = std::make_unique<Impl>();
  impl->plan = &plan;
  impl->pool = &pool;
  MOKA_RETURN_IF_ERROR(pool.xnnpack_pool(&impl->threads));
  size_t workspace = 0;
  for (size_t i = 0; i < plan.layers.size(); ++i) {
    MOKA_RETURN_IF_ERROR(impl->create_layer(i));
    size_t size = 0, alignment = 0;
    const xnn_status status =
        xnn_reshape_convolution2d_nhwc_f32(impl->operators[i], 1, plan.height, plan.width, &size,
                                           &alignment, nullptr, nullptr, impl->threads);
    if (status != xnn_status_success) return xnn_error("reshape", i, status);
    workspace = std::max(workspace, size);
  }
  MOKA_RETURN_IF_ERROR(impl->allocate(workspace));
  return std::unique_ptr<ConvolutionStack>(new ConvolutionStack(std::move(impl)));
}

float* ConvolutionStack::input() { return impl_->pixels.data(); }

Status ConvolutionStack::run(float* out) {
  const float* in = impl_->pixels.data();
  const size_t count = impl_->operators.size();
  for (size_t i = 0; i < count; ++i) {
    float* to = i + 1 == count ? out : (i % 2 == 0 ? impl_->even : impl_->odd).data();
    xnn_status status =
        xnn_setup_convolution2d_nhwc_f32(impl_->operators[i], impl_->workspace.data(), in, to);
    if (status == xnn_status_success) {
      status = xnn_run_operator(impl_->operators[i], impl_->threads);
    }
    if (status != xnn_status_success) return xnn_error("run", i, status);
    in = to;
  }
  return Status();
}

size_t ConvolutionStack::scratch_bytes() const {
  return impl_->pixels.bytes() + impl_->even.bytes() + impl_->odd.bytes() +
         impl_->workspace.bytes();
}

}  // namespace moka
