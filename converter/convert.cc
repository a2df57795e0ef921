#include "converter/convert.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "converter/conversion.h"
#include "converter/evaluate.h"
#include "converter/file.h"
#include "converter/tensor_stream.h"
#include "converter/test_vector.h"
#include "converter/writer.h"
#include "moka/model.h"
#include "runtime/loader.h"

namespace moka {
namespace {

using Clock = std::chrono::steady_clock;

// Passes progress on a few times a second, always at the beginning and end of a stage.
class ProgressGate {
 public:
  explicit ProgressGate(const ConvertProgressSink& sink) : sink_(sink) {}

  bool tell(const char* stage, uint64_t done, uint64_t total) {
    if (!sink_) return true;
    const Clock::time_point now = Clock::now();
    if (stage == stage_ && done < total && now < next_) return true;
    stage_ = stage;
    next_ = now + std::chrono::milliseconds(50);
    return sink_({stage, done, total});
  }

  Status check(const char* stage, uint64_t done, uint64_t total) {
    if (tell(stage, done, total)) return Status();
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
    run_test_vector_ = wants_test_vector();
    if (options_.check_text.empty() && !run_test_vector_) {
      WriteOptions write = write_options("weights");
      write.replace = options_.force;
      MOKA_RETURN_IF_ERROR(
          write_weights(conversion_.layout, options_.output, write, &report_.tensors));
    } else {
      MOKA_RETURN_IF_ERROR(write_and_run());
    }
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
    return Status();
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
    metadata().measurement = report_.measurement;
    loaded.spec.metadata = metadata();
    loaded.spec.test_vector = report_.test_vector;
    WriteOptions write = write_options("finishing");
    write.replace = options_.force;
    return write_model(options_.output, loaded.spec, write, [&](size_t index, TensorSink& sink) {
      return send_mapped(loaded, loaded.spec.tensors[index], sink);
    });
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

  Status run_model(const std::string& path) {
    OpenOptions open;
    open.executor.threads = options_.threads;
    MOKA_ASSIGN_OR_RETURN(const Model model, Model::open(path, open));
    if (!options_.check_text.empty()) MOKA_RETURN_IF_ERROR(measure(model, open));
    if (!run_test_vector_) return Status();
    const auto tell = [this](uint64_t done, uint64_t total) {
      return progress_.check("test vector", done, total);
    };
    MOKA_ASSIGN_OR_RETURN(report_.test_vector, make_test_vector(model, tell));
    if (!report_.test_vector) {
      conversion_.notes.push_back(
          "no test vector is stored: the most likely token is nowhere clear");
    }
    return Status();
  }

  Status measure(const Model& model, const OpenOptions& open) {
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
      MOKA_ASSIGN_OR_RETURN(const LatteLayout layout, float32_layout(conversion_));
      MOKA_RETURN_IF_ERROR(
          write_weights(layout, scratch.path(), write_options("float32 copy"), nullptr));
      MOKA_ASSIGN_OR_RETURN(const Model reference, Model::open(scratch.path(), open));
      MOKA_ASSIGN_OR_RETURN(comparison,
                            compare_on_text(reference, model, options_.check_text, tell));
    }
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
    return Status();
  }

  const ConvertOptions& options_;
  ProgressGate progress_;
  Conversion conversion_;
  ConvertReport report_;
  bool run_test_vector_ = false;
};

}  // namespace

Result<ConvertReport> convert(const ConvertOptions& options) { return Converter(options).run(); }

}  // namespace moka
