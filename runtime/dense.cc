#include "runtime/dense.h"

#include <xnnpack.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <utility>

#include "runtime/aligned_buffer.h"
#include "runtime/half.h"

namespace moka {
namespace {

// Work below which handing a product to other threads costs more than it saves (multiply-adds).
constexpr size_t kParallelWork = 400000;

// XNNPACK reads quantisation parameters of rows beyond the batch: its widest tile has 14 rows here,
// and the convert operator itself fills only 10 entries after the last row.
constexpr size_t kExtraParams = 16;

// On 64-bit Arm, XNNPACK's float kernel for a single row sums in another order than the one for
// several rows, so a row's bits would depend on its batch. There a single row is computed as two
// equal ones. Its int8 kernels, and all on x86, give the same bits either way.
#if defined(__aarch64__)
constexpr bool kPairSingleRow = true;
#else
constexpr bool kPairSingleRow = false;
#endif

Status xnn_error(const char* what, xnn_status status) {
  const StatusCode code =
      status == xnn_status_out_of_memory ? StatusCode::kOutOfMemory : StatusCode::kInternal;
  return Status(code, std::string("XNNPACK: ") + what + " failed with status " +
                          std::to_string(static_cast<int>(status)));
}

DenseKind kind_of(const Tensor& weight) {
  return weight.dtype == DType::kI8 ? DenseKind::kInt8 : DenseKind::kFloat32;
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
// which the creating runner announces, not by the address of its unpacked weights: a fused layer's
// are temporary.
struct PackedWeights::Store {
  std::vector<DenseLayer> layers;
  std::map<std::vector<size_t>, DenseGroup> groups;  // by tensors and place
  Release release;
  std::vector<AlignedBuffer<float>> scales;  // per layer; XNNPACK checks them at every create
  std::mutex mutex;                          // held while a runner is created
  size_t current = 0;                        // the layer being created
  std::vector<AlignedBuffer<uint8_t>> blocks;
  std::map<std::pair<size_t, uint32_t>, size_t> index;  // (layer, seed) -> block
  xnn_weights_cache_provider provider{};

  static Store* self(void* context) { return static_cast<Store*>(context); }
  static size_t look_up(void* context, const xnn_weights_cache_look_up_key* key) {
    const auto found = self(context)->index.find({self(context)->current, key->seed});
    return found == self(context)->index.end() ? SIZE_MAX : found->second;
  }
  static void* reserve_space(void* context, size_t size) {
    AlignedBuffer<uint8_t> block;
    if (!block.allocate(size)) return nullptr;
    self(context)->blocks.push_back(std::move(block));
    return self(context)->blocks.back().data();
  }
  static size_t insert(void* context, const xnn_weights_cache_look_up_key* key, void*, size_t) {
    const size_t block = self(context)->blocks.size() - 1;
    self(context)->index[{self(context)->current, key->seed}] = block;
    return block;
  }
  static bool is_finalized(void*) { return true; }
  static void* address(void* context, size_t block) { return self(context)->blocks[block].data(); }
  static xnn_status destroy(void*) { return xnn_status_success; }
};

PackedWeights::PackedWeights() : store_(new Store()) {
  store_->provider = {store_.get(),        Store::look_up, Store::reserve_space, Store::insert,
                      Store::is_finalized, Store::address, Store::destroy};
}
PackedWeights::~PackedWeights() = default;

Result<std::unique_ptr<PackedWeights>> PackedWeights::create() {
  const xnn_status status = xnn_initialize(nullptr);
  if (status == xnn_status_unsupported_hardware) {
    return Status(StatusCode::kUnsupported, "XNNPACK does not support this CPU");
  }
  if (status != xnn_status_success) return xnn_error("initialise", status);
  return std::unique_ptr<PackedWeights>(new PackedWeights());
}

DenseGroup PackedWeights::add(const ModelSpec& spec, const std::vector<Linear>& linears, size_t in,
                              size_t column, size_t row) {
  // Layers that share their weights share the packed form too.
  std::vector<size_t> identity = {in, column, row};
  for (const Linear& linear : linears) {
    identity.push_back(static_cast<size_t>(linear.weight));
    identity.push_back(static_cast<size_t>(linear.bias));
  }
  const auto known = store_->groups.find(identity);
  if (known != store_->groups.end()) return known->second;

  DenseGroup group;
  group.first = store_->layers.size();
  group.in = in;
  group.row = row;
  for (const Linear& linear : linears) {
    const Tensor* weight = spec.tensor(linear.weight);
    const DenseKind kind = kind_of(*weight);
    if (group.count == 0 || store_->layers.back().kind != kind) {
      DenseLayer layer;
      layer.kind = kind;
      layer.in = in;
      layer.column = column;
      layer.row = row;
      store_->layers.push_back(std::move(layer));
      ++group.count;
    }
    DenseLayer& layer = store_->layers.back();
    layer.weights.push_back(weight);
    layer.biases.push_back(spec.tensor(linear.bias));
    layer.out += weight->rows();
    column += weight->rows();
  }
  store_->groups.emplace(std::move(identity), group);
  return group;
}

const std::vector<DenseLayer>& PackedWeights::layers() const { return store_->layers; }

void PackedWeights::set_release(Release release) { store_->release = std::move(release); }

size_t PackedWeights::bytes() const {
  size_t total = 0;
  for (const auto& block : store_->blocks) total += block.bytes();
  return total;
}

struct DenseRunner::Impl {
  struct Operator {
    xnn_operator_t op = nullptr;
    size_t rows = 0;  // of the last reshape
    pthreadpool* pool = nullptr;
  };

  ThreadPool* pool = nullptr;
  const std::vector<DenseLayer>* layers = nullptr;
  size_t max_rows = 0;
  std::vector<Operator> operators;
  xnn_operator_t convert = nullptr;
  AlignedBuffer<int8_t> quantised;
  AlignedBuffer<xnn_quantization_params> params;
  AlignedBuffer<float> pair_in, pair_out;  // two rows each, with kPairSingleRow

  ~Impl() {
    for (Operator& entry : operators) {
      if (entry.op != nullptr) xnn_delete_operator(entry.op);
    }
    if (convert != nullptr) xnn_delete_operator(convert);
  }

  Status create_operator(PackedWeights::Store& store, size_t index);
  Status quantise(size_t in, size_t rows, const float* x);
  Status run_layer(size_t index, size_t rows, const float* x, float* y);
  Status run_paired(size_t index, const float* x, float* y);
  pthreadpool* pool_for(const DenseLayer& layer, size_t rows) const {
    return layer.in * layer.out * rows < kParallelWork ? nullptr : pool->handle();
  }
};

DenseRunner::DenseRunner(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DenseRunner::~DenseRunner() = default;

Status DenseRunner::Impl::create_operator(PackedWeights::Store& store, size_t index) {
  const DenseLayer& layer = store.layers[index];
  const uint32_t flags = pool->yields() ? XNN_FLAG_YIELD_WORKERS : 0;
  store.current = index;
  bool packed = false;
  for (const auto& entry : store.index) packed = packed || entry.first.first == index;

  // Stack the parts. A packed layer needs its scales only; its weights are never read again.
  AlignedBuffer<float> bias, wide;
  AlignedBuffer<int8_t> stacked;
  const void* weights = layer.weights[0]->data;
  if (!bias.allocate(layer.out)) return Status(StatusCode::kOutOfMemory, "no memory for a bias");
  size_t row = 0;
  bool has_bias = false;
  if (!packed) {
    bool allocated = true;
    if (layer.kind == DenseKind::kInt8) {
      allocated = store.scales[index].allocate(layer.out) &&
                  (layer.weights.size() == 1 || stacked.allocate(layer.out * layer.in));
    } else {
      allocated = wide.allocate(layer.out * layer.in);
    }
    if (!allocated) {
      return Status(StatusCode::kOutOfMemory,
                    "no memory to pack '" + layer.weights[0]->name + "' and what is fused with it");
    }
    for (size_t part = 0; part < layer.weights.size(); ++part) {
      const Tensor& weight = *layer.weights[part];
      const size_t rows = weight.rows();
      if (layer.biases[part] != nullptr) {
        std::memcpy(bias.data() + row, layer.biases[part]->data, rows * sizeof(float));
        has_bias = true;
      }
      if (layer.kind == DenseKind::kFloat32) {
        widen(weight, wide.data() + row * layer.in);
      } else {
        std::memcpy(store.scales[index].data() + row, weight.scales, rows * sizeof(float));
        if (layer.weights.size() > 1) {
          std::memcpy(stacked.data() + row * layer.in, weight.data, rows * layer.in);
        }
      }
      row += rows;
    }
    if (layer.kind == DenseKind::kFloat32) weights = wide.data();
    if (layer.weights.size() > 1 && layer.kind == DenseKind::kInt8) weights = stacked.data();
  }

  const float* bias_data = has_bias ? bias.data() : nullptr;
  const xnn_status status =
      layer.kind == DenseKind::kFloat32
          ? xnn_create_fully_connected_nc_f32(layer.in, layer.out, layer.in, layer.row,
                                              static_cast<const float*>(weights), bias_data,
                                              -INFINITY, INFINITY, flags, nullptr, &store.provider,
                                              &operators[index].op)
          : xnn_create_fully_connected_nc_qd8_f32_qc8w(
                layer.in, layer.out, layer.in, layer.row, store.scales[index].data(),
                static_cast<const int8_t*>(weights), bias_data, -INFINITY, INFINITY, flags, nullptr,
                &store.provider, &operators[index].op);
  if (status != xnn_status_success) {
    return xnn_error(("create for '" + layer.weights[0]->name + "'").c_str(), status);
  }
  if (!packed && store.release) {
    for (const Tensor* weight : layer.weights) {
      store.release(weight->data, static_cast<size_t>(weight->size));
    }
  }
  return Status();
}

Result<std::unique_ptr<DenseRunner>> DenseRunner::create(PackedWeights& weights, ThreadPool& pool,
                                                         size_t max_rows) {
  auto impl = std::make_unique<Impl>();
  PackedWeights::Store& store = *weights.store_;
  const std::lock_guard<std::mutex> lock(store.mutex);
  store.scales.resize(store.layers.size());
  impl->pool = &pool;
  impl->layers = &store.layers;
  impl->max_rows = max_rows;
  impl->operators.resize(store.layers.size());
  size_t widest = 0, pair_in = 0, pair_out = 0;
  for (size_t i = 0; i < store.layers.size(); ++i) {
    MOKA_RETURN_IF_ERROR(impl->create_operator(store, i));
    if (store.layers[i].kind == DenseKind::kInt8 && store.layers[i].in > widest) {
      widest = store.layers[i].in;
    }
    if (kPairSingleRow && store.layers[i].kind == DenseKind::kFloat32) {
      pair_in = std::max(pair_in, 2 * store.layers[i].in);
      pair_out = std::max(pair_out, 2 * store.layers[i].row);
    }
  }
  if (!impl->pair_in.allocate(pair_in) || !impl->pair_out.allocate(pair_out)) {
    return Status(StatusCode::kOutOfMemory, "no memory for paired rows");
  }
  if (widest > 0) {
    const xnn_status status =
        xnn_create_convert_nc_f32_qd8(pool.yields() ? XNN_FLAG_YIELD_WORKERS : 0, &impl->convert);
    if (status != xnn_status_success) return xnn_error("create of the int8 conversion", status);
    if (!impl->quantised.allocate(max_rows * widest) ||
        !impl->params.allocate(max_rows + kExtraParams)) {
      return Status(StatusCode::kOutOfMemory, "no memory for quantised activations");
    }
  }
  return std::unique_ptr<DenseRunner>(new DenseRunner(std::move(impl)));
}

Status DenseRunner::Impl::quantise(size_t in, size_t rows, const float* x) {
  xnn_status status = xnn_reshape_convert_nc_f32_qd8(convert, rows, in, in, in, nullptr);
  if (status == xnn_status_success) {
    status = xnn_setup_convert_nc_f32_qd8(convert, x, quantised.data(), params.data());
  }
  if (status == xnn_status_success) status = xnn_run_operator(convert, nullptr);
  if (status != xnn_status_success) return xnn_error("int8 conversion", status);
  for (size_t i = 0; i < kExtraParams; ++i) params.data()[rows + i] = params.data()[rows - 1];
  return Status();
}

Status DenseRunner::Impl::run_layer(size_t index, size_t rows, const float* x, float* y) {
  const DenseLayer& layer = (*layers)[index];
  Operator& entry = operators[index];
  const bool int8 = layer.kind == DenseKind::kInt8;
  xnn_status status = xnn_status_success;
  if (entry.rows != rows) {
    entry.pool = pool_for(layer, rows);
    status = int8 ? xnn_reshape_fully_connected_nc_qd8_f32_qc8w(entry.op, rows, entry.pool)
                  : xnn_reshape_fully_connected_nc_f32(entry.op, rows, entry.pool);
    entry.rows = status == xnn_status_success ? rows : 0;
  }
  if (status == xnn_status_success) {
    status = int8 ? xnn_setup_fully_connected_nc_qd8_f32_qc8w(entry.op, quantised.data(),
                                                              y + layer.column, params.data())
                  : xnn_setup_fully_connected_nc_f32(entry.op, x, y + layer.column);
  }
  if (status == xnn_status_success) status = xnn_run_operator(entry.op, entry.pool);
  if (status != xnn_status_success) {
    return xnn_error(("product with '" + layer.weights[0]->name + "'").c_str(), status);
  }
  return Status();
}

Status DenseRunner::Impl::run_paired(size_t index, const float* x, float* y) {
  const DenseLayer& layer = (*layers)[index];
  std::memcpy(pair_in.data(), x, layer.in * sizeof(float));
  std::memcpy(pair_in.data() + layer.in, x, layer.in * sizeof(float));
  MOKA_RETURN_IF_ERROR(run_layer(index, 2, pair_in.data(), pair_out.data()));
  std::memcpy(y + layer.column, pair_out.data() + layer.column, layer.out * sizeof(float));
  return Status();
}

Status DenseRunner::run(const DenseGroup& group, size_t rows, const float* x, float* y) {
  bool quantised = false;
  for (size_t i = group.first; i < group.first + group.count; ++i) {
    if ((*impl_->layers)[i].kind == DenseKind::kInt8 && !quantised) {
      MOKA_RETURN_IF_ERROR(impl_->quantise(group.in, rows, x));
      quantised = true;
    }
    if (kPairSingleRow && rows == 1 && (*impl_->layers)[i].kind == DenseKind::kFloat32) {
      MOKA_RETURN_IF_ERROR(impl_->run_paired(i, x, y));
    } else {
      MOKA_RETURN_IF_ERROR(impl_->run_layer(i, rows, x, y));
    }
  }
  return Status();
}

size_t DenseRunner::scratch_bytes() const {
  return impl_->quantised.bytes() + impl_->params.bytes() + impl_->pair_in.bytes() +
         impl_->pair_out.bytes();
}

}  // namespace moka
