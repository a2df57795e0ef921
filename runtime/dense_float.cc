#include "runtime/dense_float.h"

#include <xnnpack.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "runtime/aligned_buffer.h"
#include "runtime/half.h"

namespace moka {
namespace {

// Work below which handing a product to other threads costs more than it saves (multiply-adds).
constexpr size_t kParallelWork = 400000;

// On 64-bit Arm, XNNPACK's float kernel for a single row sums in another order than the one for
// several rows, so a row's bits would depend on its batch. There a single row is computed as two
// equal ones. On x86 both give the same bits.
#if defined(__aarch64__)
constexpr bool kPairSingleRow = true;
#else
constexpr bool kPairSingleRow = false;
#endif

Status xnn_error(const std::string& what, xnn_status status) {
  const StatusCode code =
      status == xnn_status_out_of_memory ? StatusCode::kOutOfMemory : StatusCode::kInternal;
  return Status(
      code, "XNNPACK: " + what + " failed with status " + std::to_string(static_cast<int>(status)));
}

// Copies a float matrix of any stored type into float32.
void widen(const Tensor& tensor, float* out) {
  const size_t n = static_cast<size_t>(tensor.elements());
  if (tensor.dtype == DType::kF32) {
    std::memcpy(out, tensor.data, n * sizeof(float));
    return;
  }
  const uint16_t* half = static_cast<const uint16_t*>(tensor.data);
  for (size_t i = 0; i < n; ++i) {
    out[i] = tensor.dtype == DType::kF16 ? half_to_float(half[i]) : bfloat16_to_float(half[i]);
  }
}

}  // namespace

// The packed weights and, for XNNPACK, the cache that hands them out. A layer is known by its number,
// which the creating runner announces, not by the address of its unpacked weights: those are temporary.
struct FloatWeights::Store {
  size_t current = 0;  // the layer being created
  std::vector<AlignedBuffer<uint8_t>> blocks;
  struct Entry {
    size_t layer;
    uint32_t seed;
    size_t block;
  };
  std::vector<Entry> index;
  xnn_weights_cache_provider provider{};

  static Store* self(void* context) { return static_cast<Store*>(context); }
  static size_t look_up(void* context, const xnn_weights_cache_look_up_key* key) {
    for (const Entry& entry : self(context)->index) {
      if (entry.layer == self(context)->current && entry.seed == key->seed) return entry.block;
    }
    return SIZE_MAX;
  }
  // Nothing may be thrown through XNNPACK's frames, and it takes no failure from insert().
  static void* reserve_space(void* context, size_t size) {
    Store* store = self(context);
    try {
      AlignedBuffer<uint8_t> block;
      if (!block.allocate(size)) return nullptr;
      store->index.reserve(store->index.size() + 1);
      store->blocks.push_back(std::move(block));
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
    return store->blocks.back().data();
  }
  static size_t insert(void* context, const xnn_weights_cache_look_up_key* key, void*, size_t) {
    const size_t block = self(context)->blocks.size() - 1;
    self(context)->index.push_back({self(context)->current, key->seed, block});
    return block;
  }
  static bool is_finalized(void*) { return true; }
  static void* address(void* context, size_t block) { return self(context)->blocks[block].data(); }
  static xnn_status destroy(void*) { return xnn_status_success; }
};

FloatWeights::FloatWeights() : store_(new Store()) {
  store_->provider = {store_.get(),        Store::look_up, Store::reserve_space, Store::insert,
                      Store::is_finalized, Store::address, Store::destroy};
}
FloatWeights::~FloatWeights() = default;

Result<std::unique_ptr<FloatWeights>> FloatWeights::create() {
  const xnn_status status = xnn_initialize(nullptr);
  if (status == xnn_status_unsupported_hardware) {
    return Status(StatusCode::kUnsupported,
                  "XNNPACK does not support this CPU, or cannot find out which one it is (on Linux "
                  "/proc/cpuinfo and /sys/devices/system/cpu must be readable)");
  }
  if (status != xnn_status_success) return xnn_error("initialise", status);
  return std::unique_ptr<FloatWeights>(new FloatWeights());
}

size_t FloatWeights::bytes() const {
  size_t total = 0;
  for (const auto& block : store_->blocks) total += block.bytes();
  return total;
}

struct FloatRunner::Impl {
  struct Operator {
    xnn_operator_t op = nullptr;
    size_t rows = 0;  // of the last reshape
    pthreadpool* pool = nullptr;
  };

  FloatWeights::Store* store = nullptr;
  ThreadPool* threads = nullptr;
  pthreadpool* pool = nullptr;
  std::vector<Operator> operators;
  size_t pair_in_size = 0, pair_out_size = 0;
  AlignedBuffer<float> pair_in, pair_out;  // two rows each, with kPairSingleRow

  ~Impl() {
    for (Operator& entry : operators) {
      if (entry.op != nullptr) xnn_delete_operator(entry.op);
    }
  }

  Status run(const DenseLayer& layer, Operator& entry, size_t rows, const float* x, float* y);
};

FloatRunner::FloatRunner(FloatWeights& weights, ThreadPool& pool, size_t layers)
    : impl_(new Impl()) {
  impl_->store = weights.store_.get();
  impl_->threads = &pool;
  impl_->operators.resize(layers);
}
FloatRunner::~FloatRunner() = default;

Status FloatRunner::add(const DenseLayer& layer, size_t index, bool* packed) {
  FloatWeights::Store& store = *impl_->store;
  MOKA_RETURN_IF_ERROR(impl_->threads->xnnpack_pool(&impl_->pool));
  const uint32_t flags = impl_->threads->yields() ? XNN_FLAG_YIELD_WORKERS : 0;
  store.current = index;
  bool known = false;
  for (const auto& entry : store.index) known = known || entry.layer == index;

  // Stack the parts. A packed layer's weights are never read again.
  AlignedBuffer<float> bias, wide;
  if (!bias.allocate(layer.out) || !wide.allocate(known ? 0 : layer.out * layer.in)) {
    return Status(StatusCode::kOutOfMemory,
                  "no memory to pack '" + layer.weights[0]->name + "' and what is fused with it");
  }
  size_t row = 0;
  bool has_bias = false;
  for (size_t part = 0; part < layer.weights.size() && !known; ++part) {
    const size_t rows = layer.weights[part]->rows();
    if (layer.biases[part] != nullptr) {
      std::memcpy(bias.data() + row, layer.biases[part]->data, rows * sizeof(float));
      has_bias = true;
    }
    widen(*layer.weights[part], wide.data() + row * layer.in);
    row += rows;
  }
  const xnn_status status = xnn_create_fully_connected_nc_f32(
      layer.in, layer.out, layer.in, layer.row, wide.data(), has_bias ? bias.data() : nullptr,
      -INFINITY, INFINITY, flags, nullptr, &store.provider, &impl_->operators[index].op);
  if (status != xnn_status_success) {
    return xnn_error("create for '" + layer.weights[0]->name + "'", status);
  }
  *packed = !known;
  if (kPairSingleRow) {
    impl_->pair_in_size = std::max(impl_->pair_in_size, 2 * layer.in);
    impl_->pair_out_size = std::max(impl_->pair_out_size, 2 * layer.row);
  }
  return Status();
}

Status FloatRunner::finish() {
  if (impl_->pair_in.allocate(impl_->pair_in_size) &&
      impl_->pair_out.allocate(impl_->pair_out_size)) {
    return Status();
  }
  return Status(StatusCode::kOutOfMemory, "no memory for paired rows");
}

Status FloatRunner::Impl::run(const DenseLayer& layer, Operator& entry, size_t rows, const float* x,
                              float* y) {
  xnn_status status = xnn_status_success;
  if (entry.rows != rows) {
    entry.pool = layer.in * layer.out * rows < kParallelWork ? nullptr : pool;
    status = xnn_reshape_fully_connected_nc_f32(entry.op, rows, entry.pool);
    entry.rows = status == xnn_status_success ? rows : 0;
  }
  if (status == xnn_status_success) {
    status = xnn_setup_fully_connected_nc_f32(entry.op, x, y + layer.column);
  }
  if (status == xnn_status_success) status = xnn_run_operator(entry.op, entry.pool);
  if (status != xnn_status_success) {
    return xnn_error("product with '" + layer.weights[0]->name + "'", status);
  }
  return Status();
}

Status FloatRunner::run(const DenseLayer& layer, size_t index, size_t rows, const float* x,
                        float* y) {
  Impl::Operator& entry = impl_->operators[index];
  if (!kPairSingleRow || rows != 1) return impl_->run(layer, entry, rows, x, y);
  float* two = impl_->pair_in.data();
  std::memcpy(two, x, layer.in * sizeof(float));
  std::memcpy(two + layer.in, x, layer.in * sizeof(float));
  MOKA_RETURN_IF_ERROR(impl_->run(layer, entry, 2, two, impl_->pair_out.data()));
  std::memcpy(y + layer.column, impl_->pair_out.data() + layer.column, layer.out * sizeof(float));
  return Status();
}

size_t FloatRunner::scratch_bytes() const {
  return impl_->pair_in.bytes() + impl_->pair_out.bytes();
}

}  // namespace moka
