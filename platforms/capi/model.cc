// Models.
#include <string>
#include <variant>

#include "moka/tasks.h"
#include "platforms/capi/border.h"
#include "platforms/capi/handles.h"
#include "runtime/model_spec.h"
#include "runtime/snapshots.h"

namespace moka::capi {
namespace {

moka_open_options default_open() {
  const OpenOptions defaults;
  moka_open_options options{};
  options.struct_size = sizeof options;
  options.threads = defaults.executor.threads;
  options.chunk = defaults.executor.chunk;
  return options;
}

Status open_options(const moka_open_options* given, OpenOptions* options) {
  moka_open_options read = default_open();
  MOKA_RETURN_IF_ERROR(read_options(given, "moka_open_options", &read));
  options->executor.threads = read.threads;
  options->executor.chunk = read.chunk;
  options->isa = read.kernels;
  ModelLimits& limits = options->limits;
  if (read.limit_header_bytes != 0) limits.header_bytes = read.limit_header_bytes;
  if (read.limit_tensors != 0) limits.tensors = read.limit_tensors;
  if (read.limit_vocab_size != 0) limits.vocab_size = read.limit_vocab_size;
  limits.memory_bytes = read.limit_memory_bytes;
  MOKA_RETURN_IF_ERROR(read_switch(read.check_data, "check_data", &options->check_data));
  if (read.progress != nullptr) {
    options->progress = [fn = read.progress, user = read.progress_user](double share) {
      return fn(user, share) == 0;
    };
  }
  return Status();
}

// A limit under the name that it has in C.
Status in_words_of_c(const Status& status) {
  const std::string cpp = "OpenOptions::limits.";
  std::string message = status.message();
  const size_t at = message.rfind(cpp);
  if (status.code() != StatusCode::kOutOfRange || at == std::string::npos) return status;
  return Status(status.code(), message.replace(at, cpp.size(), "moka_open_options.limit_"));
}

// Opens with `open(options)` and hands the model out.
template <class Open>
Status open_model(const moka_open_options* given, moka_model** out, const Open& open) {
  OpenOptions options;
  MOKA_RETURN_IF_ERROR(open_options(given, &options));
  Result<Model> opened = open(options);
  if (!opened.ok()) return in_words_of_c(opened.status());
  Model model = std::move(opened).value();
  std::vector<std::string> names = class_names(model);
  return hand_out(
      out, std::make_shared<const OpenedModel>(OpenedModel{std::move(model), std::move(names)}));
}

void fill_tokens(const Model& model, moka_model_info* info) {
  info->begin_token = info->end_token = info->unknown_token = -1;
  info->has_tokenizer = model.has_tokenizer() ? 1 : 0;
  if (!model.has_tokenizer()) return;
  info->begin_token = model.tokenizer().bos_id();
  info->end_token = model.tokenizer().eos_id();
  info->unknown_token = model.tokenizer().unknown_id();
}

moka_model_info info_of(const OpenedModel& opened) {
  const ModelInfo& from = opened.model.info();
  moka_model_info info{};
  info.struct_size = sizeof info;
  info.input = static_cast<int32_t>(from.input);
  info.output = static_cast<int32_t>(from.output);
  info.causal = from.causal ? 1 : 0;
  info.reads_memory = from.reads_memory ? 1 : 0;
  info.width = from.width;
  info.layers = from.layers;
  info.vocab_size = from.vocab_size;
  info.features = from.features;
  info.image_width = from.image_width;
  info.image_height = from.image_height;
  info.outputs = from.outputs;
  info.classes = static_cast<uint32_t>(opened.class_names.size());
  if (const auto* head = std::get_if<RegressionHead>(&opened.model.spec().head)) {
    info.forecast_steps = head->steps;
    info.forecast_outputs = head->outputs;
    info.forecast_quantiles =
        head->quantiles.empty() ? 1 : static_cast<uint32_t>(head->quantiles.size());
  }
  info.threads = from.threads;
  info.padding = from.pad_id;
  fill_tokens(opened.model, &info);
  info.parameters = from.parameters;
  info.weight_bytes = from.weight_bytes;
  info.state_bytes = from.state_bytes;
  info.state_bytes_per_token = from.state_bytes_per_token;
  info.position_limit = from.position_limit;
  info.fingerprint = from.fingerprint;
  info.name = from.name.c_str();
  info.architecture = from.architecture.c_str();
  info.kernels = from.isa;
  return info;
}

}  // namespace

static_assert(MOKA_INPUT_TOKENS == static_cast<int>(InputKind::kTokens));
static_assert(MOKA_INPUT_VALUES == static_cast<int>(InputKind::kValues));
static_assert(MOKA_INPUT_PIXELS == static_cast<int>(InputKind::kPixels));
static_assert(MOKA_OUTPUT_HIDDEN == static_cast<int>(OutputKind::kHidden));
static_assert(MOKA_OUTPUT_LANGUAGE == static_cast<int>(OutputKind::kLanguage));
static_assert(MOKA_OUTPUT_CLASSIFIER == static_cast<int>(OutputKind::kClassifier));
static_assert(MOKA_OUTPUT_PAIR == static_cast<int>(OutputKind::kPair));
static_assert(MOKA_OUTPUT_REGRESSION == static_cast<int>(OutputKind::kRegression));
static_assert(MOKA_OUTPUT_EMBEDDING == static_cast<int>(OutputKind::kEmbedding));

}  // namespace moka::capi

using namespace moka::capi;  // NOLINT: every function below is one of the C interface
using moka::Model;
using moka::OpenOptions;
using moka::PrefixSnapshot;
using moka::Span;
using moka::Status;
using moka::StatusCode;

void moka_open_options_init(moka_open_options* options, uint32_t struct_size) {
  init_struct(default_open(), options, struct_size);
}

moka_status moka_model_open(const char* path, const moka_open_options* options, moka_model** out,
                            moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(begin_out(out));
    MOKA_RETURN_IF_ERROR(need(path, "path"));
    return open_model(options, out, [&](const OpenOptions& o) { return Model::open(path, o); });
  });
}

moka_status moka_model_open_memory(const void* bytes, size_t size, const moka_open_options* options,
                                   moka_model** out, moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(begin_out(out));
    MOKA_RETURN_IF_ERROR(need(bytes, "bytes"));
    MOKA_ASSIGN_OR_RETURN(const Span<const uint8_t> span, bytes_of(bytes, size, "bytes"));
    return open_model(options, out,
                      [&](const OpenOptions& o) { return Model::open_memory(span, o); });
  });
}

moka_status moka_model_open_fd(int fd, uint64_t offset, uint64_t length,
                               const moka_open_options* options, moka_model** out,
                               moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(begin_out(out));
    return open_model(options, out, [&](const OpenOptions& o) {
      return Model::open_descriptor(fd, offset, length, "model in a file", o);
    });
  });
}

void moka_model_free(moka_model* model) { delete model; }

moka_status moka_model_get_info(const moka_model* model, moka_model_info* info, moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(model, "model"));
    return write_struct(info_of(*model->shared), "moka_model_info", info);
  });
}

const char* moka_model_class_name(const moka_model* model, uint32_t index) {
  if (model == nullptr || index >= model->shared->class_names.size()) return nullptr;
  return model->shared->class_names[index].c_str();
}

size_t moka_model_snapshot_count(const moka_model* model) {
  return model == nullptr ? 0 : model->model().spec().prefix_snapshots.size();
}

moka_status moka_model_snapshot_at(const moka_model* model, size_t index, moka_snapshot* snapshot,
                                   moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(model, "model"));
    const std::vector<PrefixSnapshot>& all = model->model().spec().prefix_snapshots;
    if (index >= all.size()) {
      return Status(StatusCode::kOutOfRange, "index is " + std::to_string(index) +
                                                 ", the model has " + std::to_string(all.size()) +
                                                 " prefix snapshots");
    }
    const PrefixSnapshot& from = all[index];
    moka_snapshot value{};
    value.struct_size = sizeof value;
    value.usable = usable_snapshot(model->model().spec(), from.name).ok() ? 1 : 0;
    value.position = from.position;
    value.bytes = from.size;
    value.name = from.name.c_str();
    value.text = from.text.c_str();
    value.text_size = from.text.size();
    return write_struct(value, "moka_snapshot", snapshot);
  });
}
