#include "converter/convert.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <utility>

#include "converter/auto_weights.h"
#include "converter/conversion.h"
#include "converter/evaluate.h"
#include "converter/file.h"
#include "converter/snapshot.h"
#include "converter/tensor_stream.h"
#include "converter/test_vector.h"
#include "converter/writer.h"
#include "moka/model.h"
#include "runtime/guard.h"
#include "runtime/loader.h"

namespace moka {
namespace {

using Clock = std::chrono::steady_clock;

// Passes progress on a few times a second, always at the beginning and end of a stage.
class ProgressGate {
 public:
  explicit ProgressGate(const ConvertProgressSink& sink) : sink_(sink) {}

  bool tell(const char* stage, uint64_t done, uint64_t total, const char* unit = "bytes") {
    if (!sink_) return true;
    const Clock::time_point now = Clock::now();
    if (stage == stage_ && done < total && now < next_) return true;
    stage_ = stage;
    next_ = now + std::chrono::milliseconds(50);
    return sink_({stage, done, total, unit});
  }

  Status check(const char* stage, uint64_t done, uint64_t total, const char* unit = "bytes") {
    if (tell(stage, done, total, unit)) return Status();
    return Status(StatusCode::kCancelled, std::string("cancelled at the stage \"") + stage + "\"");
  }

 private:
  const ConvertProgressSink& sink_;
  const char* stage_ = nullptr;
  Clock::time_point next_;
};

class Converter {
 public:
  explicit Converter(const ConvertOptions& options)
      : options_(options), progress_(options.progress) {}

  Result<ConvertReport> run() {
    const Clock::time_point start = Clock::now();
    MOKA_RETURN_IF_ERROR(check_output());
    MOKA_ASSIGN_OR_RETURN(conversion_, prepare_conversion(options_));
    MOKA_RETURN_IF_ERROR(hash_sources());
    report_.output = options_.output;
    report_.architecture = conversion_.architecture;
    report_.weights = options_.weights;
    report_.parameters = metadata().parameters;
    report_.source_bytes = conversion_.source_bytes;
    MOKA_RETURN_IF_ERROR(check_language());
    MOKA_RETURN_IF_ERROR(find_snapshots());
    ScratchPath::remove_stale(options_.output);
    run_test_vector_ = wants_test_vector();
    if (options_.weights == WeightType::kAuto) {
      MOKA_RETURN_IF_ERROR(write_chosen());
    } else if (options_.check_text.empty() && !run_test_vector_) {
      WriteOptions write = write_options("weights");
      write.replace = options_.force;
      MOKA_RETURN_IF_ERROR(write_weights(conversion_.layout, target(), write, &report_.tensors));
    } else {
      MOKA_RETURN_IF_ERROR(write_and_run());
    }
    if (unfinished_) MOKA_RETURN_IF_ERROR(rebuild_snapshots());
    report_.notes = conversion_.notes;
    MOKA_ASSIGN_OR_RETURN(const InputFile written, InputFile::open(options_.output));
    report_.file_bytes = written.size();
    report_.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    return std::move(report_);
  }

 private:
  Metadata& metadata() { return conversion_.layout.spec.metadata; }

  // Before any work: what the writer would say after it.
  Status check_output() const {
    if (options_.output.empty()) {
      return Status(StatusCode::kInvalidArgument, "no output: expected the path of a .moka file");
    }
    if (is_folder(options_.output)) {
      return Status(StatusCode::kInvalidArgument,
                    options_.output + ": is a folder, expected a file");
    }
    if (!is_folder(folder_of(options_.output))) {
      return Status(StatusCode::kNotFound, folder_of(options_.output) + ": no such folder");
    }
    if (!options_.force && path_exists(options_.output)) {
      return Status(StatusCode::kFailedPrecondition,
                    options_.output + ": exists already; --force replaces it");
    }
    if (!options_.check_text.empty()) {
      MOKA_RETURN_IF_ERROR(InputFile::open(options_.check_text).status());
    }
    return check_auto();
  }

  Status check_auto() const {
    if (options_.weights != WeightType::kAuto) return Status();
    if (options_.check_text.empty()) {
      return Status(StatusCode::kInvalidArgument,
                    "--weights auto measures the loss on a text: --check must name one");
    }
    if (std::isfinite(options_.max_kl) && options_.max_kl > 0) return Status();
    return Status(StatusCode::kInvalidArgument, "--max-kl is " + std::to_string(options_.max_kl) +
                                                    ", expected a finite number above 0");
  }

  // Test vectors and likelihoods are of language models that read one sequence of text.
  bool writes_text() const {
    const ModelSpec& spec = conversion_.layout.spec;
    return std::holds_alternative<LanguageHead>(spec.head) && !spec.memory && spec.tokenizer;
  }

  Status check_language() const {
    if (writes_text() || options_.check_text.empty()) return Status();
    return Status(StatusCode::kInvalidArgument,
                  options_.input +
                      ": the likelihood of a text was asked for, but this is no "
                      "language model with a tokenizer: " +
                      conversion_.architecture);
  }

  bool wants_test_vector() {
    if (!writes_text()) return false;
    if (options_.test_vector != TestVectorMode::kAuto) {
      return options_.test_vector == TestVectorMode::kAlways;
    }
    uint64_t bytes = 0;
    for (const Tensor& tensor : conversion_.layout.spec.tensors) bytes += tensor.size;
    // With a text to measure on, the model runs anyway.
    if (bytes <= kAutoTestVectorBytes || !options_.check_text.empty()) return true;
    conversion_.notes.push_back(
        "no test vector is stored: that would run the model, whose weights take " +
        std::to_string(bytes >> 20) + " MiB");
    return false;
  }

  // Of the output that will be replaced. They belong to its weights, so they are made anew; whether
  // their texts can be read is found out before the work begins.
  Status find_snapshots() {
    if (!options_.force || !path_exists(options_.output)) return Status();
    const Result<LoadedModel> old = load_model_file(options_.output);
    if (!old.ok()) {
      conversion_.notes.push_back(
          "the old output is no model that can be read, so it is replaced without looking for "
          "prefix snapshots: " +
          old.status().message());
      return Status();
    }
    for (const PrefixSnapshot& snapshot : old.value().spec.prefix_snapshots) {
      snapshots_.push_back({snapshot.name, snapshot.text});
    }
    if (snapshots_.empty()) return Status();
    unfinished_.emplace(options_.output);
    return of_old_output(check_snapshot_texts(conversion_.layout.spec, snapshots_));
  }

  Status of_old_output(const Status& status) const {
    if (status.ok() || status.code() == StatusCode::kCancelled) return status;
    return Status(status.code(), status.message() + "; it is in the old " + options_.output +
                                     ": remove it there (moka snapshot remove), or write to "
                                     "another file");
  }

  // Where the finished model goes; with snapshots to come, beside the output.
  const std::string& target() const { return unfinished_ ? unfinished_->path() : options_.output; }

  Status rebuild_snapshots() {
    SnapshotOptions how;
    how.threads = options_.threads;
    how.progress = [this](uint64_t done, uint64_t total) {
      return progress_.tell("snapshots", done, total, "tokens");
    };
    MOKA_RETURN_IF_ERROR(
        of_old_output(write_with_snapshots(unfinished_->path(), snapshots_, options_.output, how)));
    std::string names;
    for (const SnapshotText& text : snapshots_) names += (names.empty() ? "" : ", ") + text.name;
    conversion_.notes.push_back(
        "prefix snapshots of the old output were made anew with the new weights: " + names);
    return Status();
  }

  Status hash_sources() {
    uint64_t total = 0, before = 0;
    for (const std::string& path : conversion_.files) {
      MOKA_ASSIGN_OR_RETURN(const InputFile file, InputFile::open(path));
      total += file.size();
    }
    for (const std::string& path : conversion_.files) {
      MOKA_ASSIGN_OR_RETURN(const FileHash hash, hash_file(path, [&](uint64_t done) {
                              return progress_.tell("reading", before + done, total);
                            }));
      before += hash.size;
      metadata().source_files.push_back({base_name(path), hash.size, hash.xxh3});
    }
    return Status();
  }

  WriteOptions write_options(const char* stage) {
    WriteOptions options;
    options.progress = [this, stage](uint64_t done, uint64_t total) {
      return progress_.check(stage, done, total);
    };
    return options;
  }

  Status write_weights(const LatteLayout& layout, const std::string& path,
                       const WriteOptions& options, std::vector<TensorError>* errors) {
    TensorStream stream(conversion_.checkpoint.get(), layout);
    MOKA_RETURN_IF_ERROR(
        write_model(path, layout.spec, options,
                    [&](size_t index, TensorSink& sink) { return stream.send(index, sink); }));
    if (errors != nullptr) *errors = stream.errors();
    return Status();
  }

  // The weights go to a scratch file; the runtime runs it; then they move to the output with what
  // was found in the header.
  Status write_and_run() {
    const ScratchPath scratch(options_.output);
    MOKA_RETURN_IF_ERROR(write_weights(conversion_.layout, scratch.path(), write_options("weights"),
                                       &report_.tensors));
    MOKA_RETURN_IF_ERROR(run_model(scratch.path()));
    MOKA_ASSIGN_OR_RETURN(LoadedModel loaded, load_model_file(scratch.path()));
    return finish(std::move(loaded.spec),
                  [&](const Tensor&) -> const LoadedModel& { return loaded; });
  }

  // Writes the output from tensors that lie in scratch files; `home` says in which.
  Status finish(ModelSpec spec, const std::function<const LoadedModel&(const Tensor&)>& home) {
    metadata().measurement = report_.measurement;
    spec.metadata = metadata();
    spec.test_vector = report_.test_vector;
    WriteOptions write = write_options("finishing");
    write.replace = options_.force;
    return write_model(target(), spec, write, [&](size_t index, TensorSink& sink) {
      return send_mapped(home(spec.tensors[index]), spec.tensors[index], sink);
    });
  }

  // kAuto: the model goes to three scratch files, as int4, int8 and float32; the search runs mixtures
  // of the first two against the third; the best one is put together from their bytes.
  Status write_chosen() {
    const ScratchPath narrow_path(options_.output), wide_path(options_.output);
    std::vector<TensorError> wide_errors;
    MOKA_ASSIGN_OR_RETURN(const LatteLayout wide_layout,
                          layout_with(conversion_, WeightType::kInt8));
    MOKA_RETURN_IF_ERROR(write_weights(conversion_.layout, narrow_path.path(),
                                       write_options("weights"), &report_.tensors));
    MOKA_RETURN_IF_ERROR(
        write_weights(wide_layout, wide_path.path(), write_options("int8 copy"), &wide_errors));
    MOKA_ASSIGN_OR_RETURN(const LoadedModel narrow, load_model_file(narrow_path.path()));
    MOKA_ASSIGN_OR_RETURN(const LoadedModel wide, load_model_file(wide_path.path()));
    MOKA_ASSIGN_OR_RETURN(const AutoWeights chosen, choose(narrow.spec, wide.spec));
    describe_choice(chosen);
    for (size_t i = 0; i < report_.tensors.size(); ++i) {  // the same matrices in both
      if (chosen.wide.count(report_.tensors[i].tensor) != 0) report_.tensors[i] = wide_errors[i];
    }
    ModelSpec spec = mixed_spec(narrow.spec, wide.spec, chosen.wide);
    if (run_test_vector_) {
      MOKA_ASSIGN_OR_RETURN(const Model model, Model::from_spec(ModelSpec(spec), open_options()));
      MOKA_RETURN_IF_ERROR(store_test_vector(model));
    }
    return finish(std::move(spec), [&](const Tensor& tensor) -> const LoadedModel& {
      return chosen.wide.count(tensor.name) != 0 ? wide : narrow;
    });
  }

  Result<AutoWeights> choose(const ModelSpec& narrow, const ModelSpec& wide) {
    const ScratchPath scratch(options_.output);
    MOKA_ASSIGN_OR_RETURN(const Model reference, open_float32(scratch.path()));
    const AutoWeightsInput input{reference,
                                 narrow,
                                 wide,
                                 open_options(),
                                 options_.check_text,
                                 base_name(options_.check_text),
                                 options_.max_kl};
    return choose_weights(input, [this](const char* stage, uint64_t done, uint64_t total) {
      const bool text = stage == std::string("measuring");
      return progress_.check(stage, done, total, text ? "bytes" : "models");
    });
  }

  void describe_choice(const AutoWeights& chosen) {
    set_measurement(chosen.comparison);
    report_.candidates = chosen.groups;
    std::string names;
    for (const WeightGroup& group : chosen.kept) {
      report_.kept_wide.push_back({group.name, group.tensors, group.kl, group.bytes});
      names += group.name + ", ";
    }
    char limit[32];
    std::snprintf(limit, sizeof limit, "%.6g", options_.max_kl);
    metadata().quantization =
        std::string("auto: KL from float32 at most ") + limit + " nats per token on " +
        base_name(options_.check_text) +
        "; matrices int4 per row and block of 32 inputs, least squared error; int8 per "
        "output row: " +
        names + "small matrices; norms, biases and recurrences float32";
  }

  // Pages are given back when they are written, so memory stays flat.
  static Status send_mapped(const LoadedModel& loaded, const Tensor& tensor, TensorSink& sink) {
    constexpr uint64_t kPiece = uint64_t{1} << 20;
    const auto* data = static_cast<const uint8_t*>(tensor.data);
    for (uint64_t first = 0; first < tensor.size; first += kPiece) {
      const auto size = static_cast<size_t>(std::min(kPiece, tensor.size - first));
      MOKA_RETURN_IF_ERROR(sink.data(data + first, size));
      loaded.map->release(data + first, size);
    }
    if (tensor.scale_size == 0) return Status();
    return sink.scales(tensor.scales, static_cast<size_t>(tensor.scale_size));
  }

  OpenOptions open_options() const {
    OpenOptions open;
    open.executor.threads = options_.threads;
    return open;
  }

  Status run_model(const std::string& path) {
    MOKA_ASSIGN_OR_RETURN(const Model model, Model::open(path, open_options()));
    if (!options_.check_text.empty()) MOKA_RETURN_IF_ERROR(measure(model));
    return run_test_vector_ ? store_test_vector(model) : Status();
  }

  Status store_test_vector(const Model& model) {
    const auto tell = [this](uint64_t done, uint64_t total) {
      return progress_.check("test vector", done, total, "tokens");
    };
    MOKA_ASSIGN_OR_RETURN(report_.test_vector, make_test_vector(model, tell));
    if (!report_.test_vector) {
      conversion_.notes.push_back(
          "no test vector is stored: the most likely token is nowhere clear");
    }
    return Status();
  }

  // Writes the model in float32 to `path` and opens it.
  Result<Model> open_float32(const std::string& path) {
    MOKA_ASSIGN_OR_RETURN(const LatteLayout layout, layout_with(conversion_, WeightType::kF32));
    MOKA_RETURN_IF_ERROR(write_weights(layout, path, write_options("float32 copy"), nullptr));
    return Model::open(path, open_options());
  }

  Status measure(const Model& model) {
    const EvaluateProgress tell = [this](uint64_t done, uint64_t total) {
      return progress_.tell("measuring", done, total);
    };
    Comparison comparison;
    if (options_.weights == WeightType::kF32) {  // would be compared with itself
      MOKA_ASSIGN_OR_RETURN(comparison.stored, evaluate_text(model, options_.check_text, tell));
      comparison.reference = comparison.stored;
      comparison.argmax_agreement = 1.0;
    } else {
      const ScratchPath scratch(options_.output);
      MOKA_ASSIGN_OR_RETURN(const Model reference, open_float32(scratch.path()));
      MOKA_ASSIGN_OR_RETURN(comparison,
                            compare_on_text(reference, model, options_.check_text, tell));
    }
    set_measurement(comparison);
    return Status();
  }

  void set_measurement(const Comparison& comparison) {
    Measurement measurement;
    measurement.text_name = base_name(options_.check_text);
    measurement.text_bytes = comparison.stored.text_bytes;
    measurement.tokens = comparison.stored.tokens;
    measurement.bits_per_byte = comparison.stored.bits_per_byte();
    measurement.bits_per_byte_float32 = comparison.reference.bits_per_byte();
    measurement.kl_mean = comparison.kl_mean;
    measurement.kl_max = comparison.kl_max;
    measurement.argmax_agreement = comparison.argmax_agreement;
    report_.measurement = measurement;
  }

  const ConvertOptions& options_;
  ProgressGate progress_;
  Conversion conversion_;
  ConvertReport report_;
  bool run_test_vector_ = false;
  std::vector<SnapshotText> snapshots_;    // of the old output
  std::optional<ScratchPath> unfinished_;  // the model without them, when there are some
};

}  // namespace

Result<ConvertReport> convert(const ConvertOptions& options) {
  return guarded("the conversion", [&] { return Converter(options).run(); });
}

}  // namespace moka
