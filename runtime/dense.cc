#include "runtime/dense.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "runtime/aligned_buffer.h"
#include "runtime/dense_float.h"
#include "runtime/kernels/kernels.h"
#include "runtime/tiles.h"

namespace moka {
namespace {

// Work below which handing a product to other threads costs more than it saves (multiply-adds).
constexpr size_t kParallelWork = 100000;
constexpr size_t kParallelRows = 8;  // rows to be quantised, likewise

// Shares of a product per thread: more than one, so that a thread whose core is taken away is helped.
constexpr size_t kPiecesPerThread = 4;

DenseKind kind_of(const Tensor& weight) {
  switch (weight.dtype) {
    case DType::kI8: return DenseKind::kInt8;
    case DType::kI4: return DenseKind::kInt4;
    default: return DenseKind::kFloat32;
  }
}

static_assert(kDenseBlock == kTileBlock, "kernels and files must mean the same blocks");

size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// What the kernels read of one matrix: a stored tensor in tiles as it lies, or a packed copy.
struct TiledMatrix {
  const uint8_t* data = nullptr;
  const uint8_t* scales = nullptr;
  AlignedBuffer<uint8_t> own;
};

// Tiles of an int8 matrix that is stored row after row.
Status pack_rows(const Tensor& tensor, TiledMatrix* out) {
  const size_t rows = tensor.rows(), in = tensor.shape[1], tiles = tile_count(rows);
  const size_t data_size = static_cast<size_t>(tile_data_bytes(DType::kI8, in));
  const size_t scale_size = static_cast<size_t>(tile_scale_bytes(DType::kI8, in));
  if (!out->own.allocate(tiles * (data_size + scale_size))) {
    return Status(StatusCode::kOutOfMemory, "no memory to pack '" + tensor.name + "'");
  }
  uint8_t* data = out->own.data();
  uint8_t* scales = data + tiles * data_size;
  for (size_t t = 0; t < tiles; ++t) {
    const size_t first = t * kTileOutputs;
    pack_tile_i8(static_cast<const int8_t*>(tensor.data) + first * in, in,
                 static_cast<const float*>(tensor.scales) + first,
                 std::min(kTileOutputs, rows - first), in,
                 reinterpret_cast<int8_t*>(data + t * data_size), scales + t * scale_size);
  }
  out->data = data;
  out->scales = scales;
  return Status();
}

}  // namespace

struct PackedWeights::Store {
  const DenseKernels* kernels = nullptr;
  std::vector<DenseLayer> layers;
  std::map<std::vector<size_t>, DenseGroup> groups;  // by tensors and place
  Release release;
  std::mutex mutex;  // held while a runner is created
  std::unique_ptr<FloatWeights> floats;
  std::map<const Tensor*, TiledMatrix> tiled;

  Status prepare_tiles(const Tensor& tensor);
};

PackedWeights::PackedWeights() : store_(new Store()) {}
PackedWeights::~PackedWeights() = default;

Result<std::unique_ptr<PackedWeights>> PackedWeights::create(const DenseKernels* kernels) {
  std::unique_ptr<PackedWeights> weights(new PackedWeights());
  MOKA_ASSIGN_OR_RETURN(weights->store_->floats, FloatWeights::create());
  if (kernels == nullptr) {
    MOKA_ASSIGN_OR_RETURN(const Kernels* best, select_kernels(nullptr));
    kernels = &select_dense_kernels(*best);
  }
  weights->store_->kernels = kernels;
  return weights;
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
    if (group.count == 0 || kind != DenseKind::kFloat32 || store_->layers.back().kind != kind) {
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
  size_t total = store_->floats->bytes();
  for (const auto& entry : store_->tiled) total += entry.second.own.bytes();
  return total;
}

Status PackedWeights::Store::prepare_tiles(const Tensor& tensor) {
  if (tiled.count(&tensor) != 0) return Status();
  TiledMatrix matrix;  // known only when it is whole: there may be no memory half-way
  const bool packed = tensor.layout != TensorLayout::kTiles;
  if (packed) {
    MOKA_RETURN_IF_ERROR(pack_rows(tensor, &matrix));
  } else {
    matrix.data = static_cast<const uint8_t*>(tensor.data);
    matrix.scales = static_cast<const uint8_t*>(tensor.scales);
  }
  tiled.emplace(&tensor, std::move(matrix));
  if (packed && release) release(tensor.data, static_cast<size_t>(tensor.size));
  return Status();
}

// ---- running -----------------------------------------------------------------------------------

struct DenseRunner::Impl {
  const DenseKernels* kernels = nullptr;
  ThreadPool* pool = nullptr;
  const std::vector<DenseLayer>* layers = nullptr;
  std::unique_ptr<FloatRunner> floats;
  std::vector<DenseArgs> tiled;  // per layer: what does not change from run to run

  // Quantised activations.
  AlignedBuffer<int8_t> q;
  AlignedBuffer<float> step;
  AlignedBuffer<int32_t> zero, sum, block_sum;
  // Of the kernels, so much per thread.
  AlignedBuffer<uint8_t> scratch;
  size_t scratch_each = 0;

  bool allocate(size_t rows, size_t widest);
  void quantise(const DenseGroup& group, size_t rows, const float* x);
  void run_tiled(const DenseGroup& group, size_t rows, float* y);
  DenseRows rows_of(size_t in);
};

// Everything is rows [0, rows) of one group; what a thread does of it is counted in tiles or rows.
struct DenseRunner::Job {
  Impl* impl;
  const DenseGroup* group;
  DenseRows x;
  size_t rows, pieces;
  const float* from;  // to be quantised
  float* y;
  size_t tiles;

  static void quantise(void* context, size_t, size_t piece);
  static void multiply(void* context, size_t, size_t piece);
};

DenseRunner::DenseRunner(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DenseRunner::~DenseRunner() = default;

bool DenseRunner::Impl::allocate(size_t rows, size_t widest) {
  if (widest == 0) return true;
  const size_t padded = round_up(rows, kDenseRowTile), stride = round_up(widest, kDenseRowPad);
  if (!scratch.allocate(scratch_each * static_cast<size_t>(pool->threads()))) return false;
  return q.allocate(padded * stride) && step.allocate(padded) && zero.allocate(padded) &&
         sum.allocate(padded) && block_sum.allocate(padded * (stride / kTileBlock));
}

DenseRows DenseRunner::Impl::rows_of(size_t in) {
  DenseRows rows;
  rows.q = q.data();
  rows.stride = round_up(in, kDenseRowPad);
  rows.step = step.data();
  rows.zero = zero.data();
  rows.sum = sum.data();
  rows.block_sum = block_sum.data();
  return rows;
}

Result<std::unique_ptr<DenseRunner>> DenseRunner::create(PackedWeights& weights, ThreadPool& pool,
                                                         size_t max_rows) {
  auto impl = std::make_unique<Impl>();
  PackedWeights::Store& store = *weights.store_;
  const std::lock_guard<std::mutex> lock(store.mutex);
  impl->kernels = store.kernels;
  impl->pool = &pool;
  impl->layers = &store.layers;
  impl->floats = std::make_unique<FloatRunner>(*store.floats, pool, store.layers.size());
  impl->tiled.resize(store.layers.size());
  size_t widest = 0;
  for (size_t i = 0; i < store.layers.size(); ++i) {
    const DenseLayer& layer = store.layers[i];
    const Tensor& weight = *layer.weights[0];
    if (layer.kind == DenseKind::kFloat32) {
      bool packed = false;
      MOKA_RETURN_IF_ERROR(impl->floats->add(layer, i, &packed));
      if (!packed || !store.release) continue;
      for (const Tensor* part : layer.weights) {
        store.release(part->data, static_cast<size_t>(part->size));
      }
      continue;
    }
    MOKA_RETURN_IF_ERROR(store.prepare_tiles(weight));
    const TiledMatrix& matrix = store.tiled.at(&weight);
    DenseArgs& args = impl->tiled[i];
    args.inputs = tile_inputs(weight.dtype, layer.in);
    args.data = matrix.data;
    args.scales = matrix.scales;
    args.outputs = layer.out;
    args.y_stride = layer.row;
    if (layer.biases[0] != nullptr) args.bias = static_cast<const float*>(layer.biases[0]->data);
    widest = std::max(widest, layer.in);
    const bool int4 = layer.kind == DenseKind::kInt4;
    const size_t each = int4 ? impl->kernels->int4_scratch : impl->kernels->int8_scratch;
    impl->scratch_each = std::max(impl->scratch_each, round_up(each * args.inputs, 64));
  }
  MOKA_RETURN_IF_ERROR(impl->floats->finish());
  if (!impl->allocate(max_rows, widest)) {
    return Status(StatusCode::kOutOfMemory, "no memory for quantised activations");
  }
  return std::unique_ptr<DenseRunner>(new DenseRunner(std::move(impl)));
}

void DenseRunner::Job::quantise(void* context, size_t, size_t piece) {
  const Job& job = *static_cast<Job*>(context);
  const size_t begin = job.rows * piece / job.pieces, end = job.rows * (piece + 1) / job.pieces;
  for (size_t row = begin; row < end; ++row) {
    job.impl->kernels->quantise(job.from + row * job.group->in, job.group->in, row, job.x);
  }
}

void DenseRunner::Impl::quantise(const DenseGroup& group, size_t rows, const float* x) {
  Job job{this, &group, rows_of(group.in), rows, 1, x, nullptr, 0};
  if (rows >= kParallelRows) job.pieces = static_cast<size_t>(pool->threads());
  pool->run(job.pieces, &Job::quantise, &job);
}

// Piece p of the tiles of all layers of the group, counted through.
void DenseRunner::Job::multiply(void* context, size_t thread, size_t piece) {
  const Job& job = *static_cast<Job*>(context);
  Impl& impl = *job.impl;
  size_t begin = job.tiles * piece / job.pieces, end = job.tiles * (piece + 1) / job.pieces;
  for (size_t i = job.group->first; begin < end; ++i) {
    const DenseLayer& layer = (*impl.layers)[i];
    if (layer.kind == DenseKind::kFloat32) continue;
    const size_t tiles = tile_count(layer.out);
    if (begin < tiles) {
      DenseArgs args = impl.tiled[i];
      args.x = job.x;
      args.rows = job.rows;
      args.first = begin;
      args.last = std::min(end, tiles);
      args.y = job.y + layer.column;
      args.scratch = impl.scratch.data() + thread * impl.scratch_each;
      (layer.kind == DenseKind::kInt8 ? impl.kernels->int8 : impl.kernels->int4)(args);
    }
    begin = begin > tiles ? begin - tiles : 0;
    end = end > tiles ? end - tiles : 0;
  }
}

void DenseRunner::Impl::run_tiled(const DenseGroup& group, size_t rows, float* y) {
  Job job{this, &group, rows_of(group.in), rows, 1, nullptr, y, 0};
  for (size_t i = group.first; i < group.first + group.count; ++i) {
    if ((*layers)[i].kind != DenseKind::kFloat32) job.tiles += tile_count((*layers)[i].out);
  }
  if (pool->threads() > 1 && job.tiles * kTileOutputs * group.in * rows >= kParallelWork) {
    job.pieces = std::min(job.tiles, kPiecesPerThread * static_cast<size_t>(pool->threads()));
  }
  pool->run(job.pieces, &Job::multiply, &job);
}

Status DenseRunner::run(const DenseGroup& group, size_t rows, const float* x, float* y) {
  bool tiled = false;
  for (size_t i = group.first; i < group.first + group.count; ++i) {
    const DenseLayer& layer = (*impl_->layers)[i];
    if (layer.kind == DenseKind::kFloat32) {
      MOKA_RETURN_IF_ERROR(impl_->floats->run(layer, i, rows, x, y));
    } else {
      tiled = true;
    }
  }
  if (!tiled) return Status();
  impl_->quantise(group, rows, x);
  impl_->run_tiled(group, rows, y);
  return Status();
}

size_t DenseRunner::scratch_bytes() const {
  return impl_->floats->scratch_bytes() + impl_->q.bytes() + impl_->step.bytes() +
         impl_->zero.bytes() + impl_->sum.bytes() + impl_->block_sum.bytes() +
         impl_->scratch.bytes();
}

}  // namespace moka
