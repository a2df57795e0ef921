#include "moka/model.h"

#include <iterator>
#include <new>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "moka/session.h"
#include "runtime/check_limits.h"
#include "runtime/checksum.h"
#include "runtime/executor.h"
#include "runtime/guard.h"
#include "runtime/loader.h"
#include "runtime/model_data.h"
#include "runtime/page_fetch.h"
#include "runtime/state.h"

namespace moka {
namespace {

constexpr char kOpening[] = "opening the model";

const char* mixer_name(const Mixer& mixer) {
  if (std::holds_alternative<LatteMixer>(mixer)) return "latte";
  if (std::holds_alternative<WindowMixer>(mixer)) return "window";
  if (std::holds_alternative<MacchiatoMixer>(mixer)) return "macchiato";
  if (std::holds_alternative<SoftmaxMixer>(mixer)) return "softmax";
  return "linformer";
}

bool sees_ahead_anywhere(const ModelSpec& spec) {
  for (const Block& block : spec.blocks) {
    if (sees_ahead(block.mixer)) return true;
  }
  return false;
}

// "macchiato language model, 8 layers of width 384"
std::string describe(const ModelSpec& spec) {
  std::string mixers;
  std::set<std::string> seen;
  for (const Block& block : spec.blocks) {
    if (!seen.insert(mixer_name(block.mixer)).second) continue;
    mixers += (mixers.empty() ? "" : "/") + std::string(mixer_name(block.mixer));
  }
  static constexpr const char* kTasks[] = {"encoder",         "language model", "classifier",
                                           "pair classifier", "regression",     "embedding"};
  static_assert(std::size(kTasks) == std::variant_size_v<Head>);
  const char* task = kTasks[spec.head.index()];
  const char* direction = sees_ahead_anywhere(spec) ? "bidirectional " : "";
  return direction + mixers + " " + task + ", " + std::to_string(spec.blocks.size()) +
         " layers of width " + std::to_string(spec.width);
}

// Names a model that came without a file: its tensors' names, shapes and bytes.
uint64_t fingerprint_of(const ModelSpec& spec) {
  Xxh3Stream hash;
  for (const Tensor& tensor : spec.tensors) {
    hash.update(tensor.name.data(), tensor.name.size());
    hash.update(tensor.shape.data(), tensor.shape.size() * sizeof(uint32_t));
    hash.update(tensor.data, static_cast<size_t>(tensor.size));
    if (tensor.scales != nullptr)
      hash.update(tensor.scales, static_cast<size_t>(tensor.scale_size));
  }
  return hash.digest();
}

void fill_info(ModelData* data) {
  const ModelSpec& spec = data->spec;
  ModelInfo& info = data->info;
  info.name = spec.metadata.name;
  info.architecture = describe(spec);
  info.width = spec.width;
  info.layers = static_cast<uint32_t>(spec.blocks.size());
  const InputPlan& input = data->plan.input;
  info.input = input.features == 0     ? InputKind::kTokens
               : input.image_width > 0 ? InputKind::kPixels
                                       : InputKind::kValues;
  info.vocab_size = static_cast<uint32_t>(input.vocab_size);
  info.features = static_cast<uint32_t>(input.features);
  info.image_width = static_cast<uint32_t>(input.image_width);
  info.image_height = static_cast<uint32_t>(input.image_height);
  info.output = static_cast<OutputKind>(data->plan.head.kind);
  info.pad_id = data->plan.head.pooled ? data->plan.head.pad_id : -1;
  info.causal = !data->plan.whole;
  info.reads_memory = !data->plan.memory_blocks.empty();
  info.state_bytes_per_token = data->plan.cache_floats * sizeof(float);
  info.outputs = static_cast<uint32_t>(data->plan.outputs);
  for (const Tensor& tensor : spec.tensors) {
    info.parameters += tensor.elements();
    info.weight_bytes += tensor.size + tensor.scale_size;
  }
  info.state_bytes = data->plan.state_floats * sizeof(float);
  info.position_limit = data->plan.position_limit;
  info.isa = data->kernels->name;
  for (const PrefixSnapshot& snapshot : spec.prefix_snapshots) {
    info.snapshots.push_back({snapshot.name, snapshot.position, snapshot.size});
  }
  if (spec.metadata.sampling.has_value()) info.sampling = *spec.metadata.sampling;
}

// The parts of open() that do not depend on where the specification came from. `data` has spec, map
// and info.fingerprint; `where` begins messages.
Result<std::shared_ptr<ModelData>> prepare(std::shared_ptr<ModelData> data,
                                           const OpenOptions& options, const std::string& where) {
  MOKA_RETURN_IF_ERROR(check_supported(data->spec, where));
  MOKA_ASSIGN_OR_RETURN(data->kernels, select_kernels(options.isa));
  MOKA_ASSIGN_OR_RETURN(data->weights,
                        PackedWeights::create(&select_dense_kernels(*data->kernels)));
  data->plan = make_plan(data->spec, *data->weights);
  MOKA_RETURN_IF_ERROR(check_memory(data->plan, *data->weights, options, where));
  if (data->map != nullptr) {
    // Once packed, the mapped originals of dense weights are dead pages. Rows of a token table that
    // is also the head come back one by one as they are read.
    data->weights->set_release(
        [map = data->map](const void* begin, size_t size) { map->release(begin, size); });
  }
  fill_info(data.get());
  return data;
}

// The vocabulary moves into the tokenizer; inspect reads it from the file, not from here.
Status add_tokenizer(ModelData* data, const std::string& where) {
  std::optional<TokenizerSpec>& spec = data->spec.tokenizer;
  if (!spec.has_value() || spec->kind == TokenizerKind::kNone) return Status();
  Result<Tokenizer> tokenizer = Tokenizer::create(std::move(*spec));
  if (!tokenizer.ok()) {
    return Status(tokenizer.status().code(), where + ": " + tokenizer.status().message());
  }
  data->tokenizer.emplace(std::move(tokenizer).value());
  return Status();
}

// What products read where it lies. A token table that is not the head too is read row by row: not it.
std::vector<Span<const uint8_t>> mapped_weights(const PackedWeights& weights) {
  std::vector<Span<const uint8_t>> ranges;
  const auto add = [&](const void* data, uint64_t size) {
    ranges.push_back({static_cast<const uint8_t*>(data), static_cast<size_t>(size)});
  };
  for (const DenseLayer& layer : weights.layers()) {
    for (const Tensor* tensor : layer.weights) {
      if (tensor->layout != TensorLayout::kTiles) continue;
      add(tensor->data, tensor->size);
      add(tensor->scales, tensor->scale_size);
    }
  }
  return ranges;
}

// Checks the data if that is wanted, and takes over what was loaded.
Result<std::shared_ptr<ModelData>> take_loaded(LoadedModel loaded, const OpenOptions& options,
                                               const std::string& where) {
  if (options.check_data) {
    MOKA_RETURN_IF_ERROR(verify_data(loaded, where, [&](uint64_t done, uint64_t total) {
      const double share =
          total == 0 ? 1.0 : static_cast<double>(done) / static_cast<double>(total);
      if (!options.progress || options.progress(share)) return Status();
      return Status(StatusCode::kCancelled,
                    where + ": cancelled while its data were checked, at byte " +
                        std::to_string(done) + " of " + std::to_string(total));
    }));
  }
  auto data = std::make_shared<ModelData>();
  data->map = std::move(loaded.map);
  data->spec = std::move(loaded.spec);
  data->info.fingerprint = loaded.fingerprint;
  return data;
}

}  // namespace

Result<Model> Model::open(const std::string& path, const OpenOptions& options) {
  return guarded(kOpening, [&]() -> Result<Model> {
    MOKA_ASSIGN_OR_RETURN(LoadedModel loaded, load_model_file(path, options.limits));
    MOKA_ASSIGN_OR_RETURN(auto data, take_loaded(std::move(loaded), options, path));
    return finish_open(std::move(data), options, path);
  });
}

Result<Model> Model::open_memory(Span<const uint8_t> bytes, const OpenOptions& options) {
  return guarded(kOpening, [&]() -> Result<Model> {
    const std::string where = "model in memory";
    MOKA_ASSIGN_OR_RETURN(LoadedModel loaded, load_model(bytes, where, options.limits));
    MOKA_ASSIGN_OR_RETURN(auto data, take_loaded(std::move(loaded), options, where));
    return finish_open(std::move(data), options, where);
  });
}

Result<Model> Model::open_descriptor(int descriptor, uint64_t offset, uint64_t length,
                                     const std::string& name, const OpenOptions& options) {
  return guarded(kOpening, [&]() -> Result<Model> {
    MOKA_ASSIGN_OR_RETURN(std::shared_ptr<FileMap> map,
                          FileMap::open_descriptor(descriptor, offset, length, name));
    MOKA_ASSIGN_OR_RETURN(LoadedModel loaded, load_model(map->bytes(), name, options.limits));
    loaded.map = std::move(map);
    MOKA_ASSIGN_OR_RETURN(auto data, take_loaded(std::move(loaded), options, name));
    return finish_open(std::move(data), options, name);
  });
}

Result<Model> Model::from_spec(ModelSpec spec, const OpenOptions& options) {
  return guarded(kOpening, [&]() -> Result<Model> {
    MOKA_RETURN_IF_ERROR(check_spec(spec, "specification"));
    MOKA_RETURN_IF_ERROR(check_limit("specification", "tensors", spec.tensors.size(),
                                     options.limits.tensors, "tensors"));
    MOKA_RETURN_IF_ERROR(check_vocabulary(spec, options.limits, "specification"));
    auto data = std::make_shared<ModelData>();
    data->spec = std::move(spec);
    data->info.fingerprint = fingerprint_of(data->spec);
    return finish_open(std::move(data), options, "specification");
  });
}

Result<Model> Model::finish_open(std::shared_ptr<ModelData> data, const OpenOptions& options,
                                 const std::string& where) {
  MOKA_ASSIGN_OR_RETURN(data, prepare(std::move(data), options, where));
  PageFetch pages;
  if (data->map != nullptr) pages.start(data->map, mapped_weights(*data->weights));
  MOKA_RETURN_IF_ERROR(add_tokenizer(data.get(), where));
  MOKA_ASSIGN_OR_RETURN(auto executor, ExecutorImpl::create(data, options.executor));
  pages.finish();
  data->info.threads = executor->forward().pool().threads();
  return Model(std::move(data), Executor(std::move(executor)));
}

const ModelInfo& Model::info() const { return data_->info; }
const ModelSpec& Model::spec() const { return data_->spec; }
bool Model::has_tokenizer() const { return data_->tokenizer.has_value(); }
const Tokenizer& Model::tokenizer() const { return *data_->tokenizer; }
const Executor& Model::executor() const { return executor_; }

Result<Executor> Model::new_executor(const ExecutorOptions& options) const {
  return guarded("an executor", [&]() -> Result<Executor> {
    MOKA_ASSIGN_OR_RETURN(auto executor, ExecutorImpl::create(data_, options));
    return Executor(std::move(executor));
  });
}

Result<Session> Model::new_session() const { return new_session(executor_); }

Result<Session> Model::new_session(const Executor& executor) const {
  return guarded("a session", [&]() -> Result<Session> {
    if (executor.impl_ == nullptr || &executor.impl_->model() != data_.get()) {
      return Status(StatusCode::kInvalidArgument, "the executor was made by another model");
    }
    if (!data_->info.causal) {
      return Status(StatusCode::kFailedPrecondition,
                    "the model sees ahead, so it has no sessions: read_sequence() reads a whole "
                    "sequence");
    }
    if (data_->info.output == OutputKind::kPair) {
      return Status(StatusCode::kFailedPrecondition,
                    "the model compares two sequences, so it has no sessions: use read_pair()");
    }
    std::unique_ptr<SessionImpl> impl(new (std::nothrow)
                                          SessionImpl{*this, executor.impl_, {}, {}, {}});
    if (impl == nullptr || !impl->state.allocate(data_->plan.state_floats) ||
        !impl->logits.allocate(data_->plan.outputs)) {
      return Status(
          StatusCode::kOutOfMemory,
          "no memory for a session of " + std::to_string(data_->info.state_bytes) + " bytes");
    }
    begin_state(data_->plan, impl->state.data());
    return Session(std::move(impl));
  });
}

Result<Session> Model::new_session_from(std::string_view snapshot) const {
  return new_session_from(snapshot, executor_);
}

Result<Session> Model::new_session_from(std::string_view snapshot, const Executor& executor) const {
  MOKA_ASSIGN_OR_RETURN(Session session, new_session(executor));
  MOKA_RETURN_IF_ERROR(session.restore_snapshot(snapshot));
  return session;
}

size_t Executor::scratch_bytes() const { return impl_->forward().scratch_bytes(); }
int Executor::threads() const { return impl_->forward().pool().threads(); }
uint32_t Executor::chunk() const { return static_cast<uint32_t>(impl_->forward().max_rows()); }
Status Executor::start_profile(size_t spans_per_thread) const {
  return impl_->start_profile(spans_per_thread);
}
Profile Executor::stop_profile() const { return impl_->stop_profile(); }

}  // namespace moka
