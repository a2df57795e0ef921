// `moka logits`: a model's rows of output, for comparing with a training framework.
#include <unistd.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "converter/npy.h"
#include "moka/moka.h"
#include "platforms/cli/batch.h"
#include "platforms/cli/interrupt.h"
#include "platforms/cli/json.h"
#include "platforms/cli/options.h"
#include "platforms/cli/terminal.h"

namespace moka::cli {
namespace {

const char kDescription[] =
    "Reads sequences from a NumPy file and writes the model's output for them as float32, one of "
    "the three as the model needs it (`moka inspect` tells):\n"
    "  --ids      int32 or int64 token ids, (B, T) or (T)\n"
    "  --pixels   grey values, (B, T), (B, T, 1) or (B, H, W), before the model's own scaling\n"
    "  --values   numbers in the units of the data, (B, T, F)\n"
    "Models that compare two sequences take (B, 2, T) or (2, T), and so on; B may be left out.\n\n"
    "The output is (B, T, V) for language models, forecasters and models without a head, and "
    "(B, C) for those that pool a sequence: classifiers, comparisons, embeddings. Each sequence "
    "starts from an empty memory, and no token is put before it. Ids equal to the padding id of "
    "a model that pools are left out. The output appears when it is complete; its size does not "
    "need memory.";

const char kExamples[] =
    "  moka logits model.moka --ids ids.npy -o logits.npy\n"
    "  moka logits digits.moka --pixels images.npy -o logits.npy\n"
    "  python3 -c 'import numpy as n; n.save(\"ids.npy\", n.array([[1, 2, 3]]))'\n";

struct LogitsOptions {
  std::string model, output;
  std::string ids, pixels, values;
  std::string memory_ids, memory_values;
  bool force = false;
  bool json = false;
  int threads = 0;
};

const char* option_for(InputKind kind) {
  switch (kind) {
    case InputKind::kTokens: return "--ids";
    case InputKind::kPixels: return "--pixels";
    case InputKind::kValues: return "--values";
  }
  return "--ids";
}

// The file of the option that goes with what the model reads; the others must not be there.
Outcome choose_file(const LogitsOptions& o, const ModelInfo& info, std::string* path) {
  const std::pair<const char*, const std::string*> given[] = {
      {"--ids", &o.ids}, {"--pixels", &o.pixels}, {"--values", &o.values}};
  const std::string right = option_for(info.input);
  for (const auto& [name, file] : given) {
    if (file->empty()) continue;
    if (!path->empty()) return Outcome::usage("--ids, --pixels and --values exclude each other");
    *path = *file;
    if (name != right) {
      return Outcome::usage(
          std::string(name) + ": this model reads " + reads_words(info) +
          (info.input == InputKind::kTokens && info.image_width != 0 ? ", as token ids" : "") +
          ": give " + right);
    }
  }
  if (!path->empty()) return {};
  return Outcome::usage("this model reads " + reads_words(info) + ": give " + right);
}

// The memory, where the model reads one; a batch of one sequence serves all.
Outcome read_memory(const LogitsOptions& o, const Model& model, size_t sequences,
                    std::optional<Batch>* memory) {
  const std::string& path = o.memory_ids.empty() ? o.memory_values : o.memory_ids;
  ModelInfo info = model.info();
  const bool ids = info.input == InputKind::kTokens;
  const std::string right = ids ? "--memory-ids" : "--memory-values";
  if (path.empty() && !info.reads_memory) return {};
  if (!info.reads_memory) {
    return Outcome::usage(std::string(o.memory_ids.empty() ? "--memory-values" : "--memory-ids") +
                          ": this model reads one sequence and no memory");
  }
  if (path.empty() || (ids ? o.memory_ids : o.memory_values).empty()) {
    return Outcome::usage("this model answers from a second sequence of " + reads_words(info) +
                          ": give it with " + right);
  }
  MOKA_ASSIGN_OR_RETURN(const NpyArray array, read_npy(path));
  info.output = OutputKind::kHidden;  // one sequence each
  Result<Batch> batch = batch_of(array, info, path);
  if (!batch.ok()) return batch.status();
  if (batch.value().sequences != 1 && batch.value().sequences != sequences) {
    return {kExitFailure, path + ": " + std::to_string(batch.value().sequences) + " memories for " +
                              std::to_string(sequences) +
                              " sequences; give one for each, or one for all"};
  }
  *memory = std::move(batch).value();
  return {};
}

bool pools(const ModelInfo& info) {
  return info.output == OutputKind::kClassifier || info.output == OutputKind::kPair ||
         info.output == OutputKind::kEmbedding;
}

class LogitsRun {
 public:
  LogitsRun(const Model& model, const Batch& batch, const std::optional<Batch>& memory,
            NpyWriter& writer)
      : model_(model), batch_(batch), memory_(memory), writer_(writer) {}

  Status run() {
    const size_t each = model_.info().output == OutputKind::kPair ? 2 : 1;
    const size_t count = batch_.sequences / each;
    const uint64_t work = uint64_t{batch_.steps} * each;
    Progress bar("computing", work * count, "steps");
    for (size_t i = 0; i < count; i++) {
      ReadOptions options;
      options.cancel = interrupt_flag();
      options.progress = [&](double share) {
        bar.update(work * i + static_cast<uint64_t>(share * static_cast<double>(work)));
      };
      if (memory_) options.memory = memory_->sequence(memory_->sequences == 1 ? 0 : i);
      const Status status = each == 2 ? pair(i, options) : sequence(i, options);
      if (!status.ok() && status.code() != StatusCode::kCancelled && count > 1) {
        return Status(status.code(), "sequence " + std::to_string(i) + ": " + status.message());
      }
      MOKA_RETURN_IF_ERROR(status);
    }
    return Status();
  }

 private:
  Status pair(size_t index, const ReadOptions& options) {
    MOKA_ASSIGN_OR_RETURN(
        const std::vector<float> row,
        read_pair(model_, batch_.sequence(2 * index), batch_.sequence(2 * index + 1), options));
    return writer_.write(row);
  }

  Status sequence(size_t index, const ReadOptions& options) {
    const size_t size = model_.info().outputs;
    const LogitsSink sink = [&](size_t, size_t rows, const float* logits, size_t stride) {
      for (size_t row = 0; row < rows; row++) {
        MOKA_RETURN_IF_ERROR(writer_.write(Span<const float>(logits + row * stride, size)));
      }
      return Status();
    };
    return read_sequence(model_, batch_.sequence(index), sink, options);
  }

  const Model& model_;
  const Batch& batch_;
  const std::optional<Batch>& memory_;
  NpyWriter& writer_;
};

Outcome logits(const LogitsOptions& options) {
  if (!options.force && ::access(options.output.c_str(), F_OK) == 0) {
    return Outcome::usage("--output: '" + options.output + "' exists; --force replaces it");
  }
  OpenedModel opened = open_model(options.model, options.threads);
  if (!opened.model) return opened.outcome;
  const Model& model = *opened.model;
  const ModelInfo& info = model.info();
  std::string path;
  Outcome outcome = choose_file(options, info, &path);
  if (outcome.exit_code != kExitOk) return outcome;
  MOKA_ASSIGN_OR_RETURN(const NpyArray array, read_npy(path));
  MOKA_ASSIGN_OR_RETURN(const Batch batch, batch_of(array, info, path));
  const size_t count = batch.sequences / (info.output == OutputKind::kPair ? 2 : 1);
  std::optional<Batch> memory;
  outcome = read_memory(options, model, count, &memory);
  if (outcome.exit_code != kExitOk) return outcome;

  std::vector<uint64_t> shape;
  if (batch.batched) shape.push_back(count);
  if (!pools(info)) shape.push_back(batch.steps);
  shape.push_back(info.outputs);
  Result<NpyWriter> writer = NpyWriter::create(options.output, shape);
  if (!writer.ok()) return Outcome::failure(writer.status());
  const Status status = LogitsRun(model, batch, memory, writer.value()).run();
  if (!status.ok())
    return status.code() == StatusCode::kIo ? Outcome::failure(status) : Outcome(status);
  const Status finished = writer.value().finish();
  if (!finished.ok()) return Outcome::failure(finished);

  std::string words;
  for (const uint64_t extent : shape) words += (words.empty() ? "" : ", ") + std::to_string(extent);
  if (options.json) {
    write_output(
        json_document({{"output", options.output}, {"shape", shape}, {"dtype", "float32"}}));
  } else {
    say(options.output + ": float32 (" + words + ")");
  }
  return {};
}

}  // namespace

Verb add_logits(CLI::App& moka) {
  auto options = std::make_shared<LogitsOptions>();
  LogitsOptions* o = options.get();
  CLI::App* app =
      add_verb(moka, "logits", "Write a model's output as a NumPy file", kDescription, kExamples);
  add_model_argument(app, &o->model);
  app->add_option("--ids", o->ids, "Token ids, a .npy file")->type_name("FILE");
  app->add_option("--pixels", o->pixels, "Grey values of images, a .npy file")->type_name("FILE");
  app->add_option("--values", o->values, "Numbers, a .npy file")->type_name("FILE");
  app->add_option("--memory-ids", o->memory_ids,
                  "Token ids of what the model answers from, one sequence or one for each")
      ->type_name("FILE");
  app->add_option("--memory-values", o->memory_values, "The same for models that read numbers")
      ->type_name("FILE");
  app->add_option("-o,--output", o->output, "Where to write the output, a .npy file")
      ->required()
      ->type_name("FILE");
  app->add_flag("--force", o->force, "Replace an existing output");
  add_threads_option(app, &o->threads);
  add_json_flag(app, &o->json, "One JSON object on stdout: output, shape, dtype");
  return {app, [options] { return logits(*options); }};
}

}  // namespace moka::cli
