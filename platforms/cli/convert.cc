// `moka convert`: a checkpoint of trained weights to a .moka file.
#include "converter/convert.h"

#include <unistd.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "converter/file.h"
#include "platforms/cli/interrupt.h"
#include "platforms/cli/options.h"
#include "platforms/cli/terminal.h"

namespace moka::cli {
namespace {

constexpr uint64_t kMaxLabelBytes = uint64_t{1} << 20;

const char kDescription[] =
    "Reads trained weights and writes one .moka file. CHECKPOINT is a folder as Hugging Face tools "
    "write it (config.json with model_type \"latte\", model.safetensors or a PyTorch file, "
    "tokenizer.json), a training run of the Latte authors' code with its config.yaml (msgpack or "
    "Orbax; --step chooses, otherwise the step with the lowest stored loss), or one file of "
    "weights "
    "with --config. Nothing in a PyTorch file is executed. Every tensor and every configuration "
    "key "
    "must be understood: an unknown, missing or misshapen one is an error that names it. The "
    "output "
    "appears when it is complete.\n\n"
    "int8 keeps one byte per weight and one scale per output channel. int4 keeps half a byte per "
    "weight and a byte for every 32; token table and head stay int8. auto takes int4 where it can "
    "and int8 where it must, so that the loss on the --check text is at most --max-kl. Norms and "
    "biases stay float32 in all of them. With --check, the converted language model is measured "
    "against float32 on a text, and "
    "the result is kept in the file, where `moka inspect` shows it.";

const char kExamples[] =
    "  moka convert my-model/ -o my-model.moka\n"
    "  moka convert my-model/ -o my-model.moka --weights f16 --force\n"
    "  moka convert my-model/ -o my-model.moka --weights auto --check valid.txt\n"
    "  moka convert my-model/ --dry-run    # what would go where\n"
    "  moka convert my-model/ -o my-model.moka --check valid.txt --license MIT\n"
    "  moka convert out_latte/run7 --step 4000 --tokenizer vocab.bpe -o run7.moka\n"
    "  moka convert state.pt --config config.json -o state.moka\n";

struct CommandOptions {
  ConvertOptions convert;
  std::string weights = "int8";
  std::optional<double> max_kl;
  std::string labels;
  bool dry_run = false;
  bool json = false;
};

// One bar per stage.
class StageBar {
 public:
  void update(const ConvertProgress& progress) {
    if (!bar_ || bar_->label() != progress.stage) {
      bar_.reset();
      bar_ = std::make_unique<Progress>(progress.stage, progress.total, progress.unit);
    }
    bar_->update(progress.done);
  }

 private:
  std::unique_ptr<Progress> bar_;
};

// "a,b,c", or a file with a label on each line.
Outcome read_labels(const std::string& text, std::vector<std::string>* labels) {
  if (text.empty()) return {};
  const bool file = text.find(',') == std::string::npos;
  std::string content = text;
  if (file) {
    MOKA_ASSIGN_OR_RETURN(content, read_text_file(text, kMaxLabelBytes));
    while (!content.empty() && content.back() == '\n') content.pop_back();
  }
  std::string label;
  for (const char c : content + (file ? "\n" : ",")) {
    if (c == '\r') continue;
    if (c != (file ? '\n' : ',')) {
      label += c;
      continue;
    }
    if (label.empty()) return Outcome::usage("--labels: '" + text + "' has an empty label");
    labels->push_back(label);
    label.clear();
  }
  return {};
}

Outcome convert_command(CommandOptions options) {
  ConvertOptions& convert_options = options.convert;
  const Outcome labels = read_labels(options.labels, &convert_options.labels);
  if (labels.exit_code != kExitOk) return labels;
  const std::optional<WeightType> weights = parse_weight_type(options.weights);
  if (!weights)
    return Outcome::usage("--weights: '" + options.weights +
                          "' is none of f32, f16, int8, int4, auto");
  convert_options.weights = *weights;
  if (options.max_kl) {
    if (*weights != WeightType::kAuto) {
      return Outcome::usage("--max-kl belongs to --weights auto, not " + options.weights);
    }
    convert_options.max_kl = *options.max_kl;
  }

  if (options.dry_run) {
    MOKA_ASSIGN_OR_RETURN(const ConversionPlan plan, plan_conversion(convert_options));
    write_output(options.json ? plan_json(plan) : plan_text(plan));
    return {};
  }
  if (convert_options.output.empty())
    return Outcome::usage("--output is required, unless with --dry-run");
  if (!convert_options.force && ::access(convert_options.output.c_str(), F_OK) == 0) {
    return Outcome::usage("--output: '" + convert_options.output + "' exists; --force replaces it");
  }
  StageBar bar;
  convert_options.progress = [&bar](const ConvertProgress& progress) {
    bar.update(progress);
    return !interrupted();
  };
  Result<ConvertReport> report = [&] {
    auto result = convert(convert_options);
    bar = StageBar();
    return result;
  }();
  if (!report.ok()) return report.status();
  write_output(options.json ? report_json(report.value()) : report_text(report.value()));
  return {};
}

}  // namespace

Verb add_convert(CLI::App& moka) {
  auto options = std::make_shared<CommandOptions>();
  ConvertOptions* c = &options->convert;
  CLI::App* app =
      add_verb(moka, "convert", "Make a model file from trained weights", kDescription, kExamples);
  app->add_option("CHECKPOINT", c->input, "The trained weights: a folder, a run or a file")
      ->required()
      ->type_name("");
  app->add_option("-o,--output", c->output, "The .moka file to write")->type_name("FILE");
  app->add_option("--weights", options->weights,
                  "How matrices are stored: f32, f16, int8, int4 or auto (default: int8)")
      ->type_name("TYPE");
  app->add_option("--config", c->config, "config.json or config.yaml (default: the one beside it)")
      ->type_name("FILE");
  add_whole(
      app, "--step", [c](uint64_t step) { c->step = step; },
      "Step of a training run (default: the lowest stored loss, else the newest)");
  app->add_option("--tokenizer", c->tokenizer,
                  "Tokenizer file, 'bytes', 'chars:FILE', 'charfile:FILE' or 'none' (default: the "
                  "one beside the weights)")
      ->type_name("SOURCE");
  app->add_option("--pad-id", c->pad_id, "Id of padding, of models that pool; -1 for none")
      ->type_name("N");
  app->add_option("--labels", options->labels,
                  "Names of the classes: a,b,c or a file with one on each line")
      ->type_name("LIST");
  app->add_option("--gate-column", c->gate_column,
                  "Macchiato with gates among the queries: first or last of each head")
      ->type_name("WHICH");
  app->add_option("--check", c->check_text, "Measure the loss against float32 on this text")
      ->type_name("FILE");
  app->add_option(
         "--max-kl", options->max_kl,
         "With --weights auto: loss that is allowed, KL from float32 on the --check text in "
         "nats per token (default: 0.01)")
      ->type_name("KL");
  app->add_flag("--dry-run", options->dry_run, "Show what would go where, write nothing");
  app->add_flag("--force", c->force, "Replace an existing output");
  app->add_option("--name", c->name, "Name kept in the file (default: that of the folder)")
      ->type_name("TEXT");
  app->add_option("--description", c->description, "What the model is for")->type_name("TEXT");
  app->add_option("--license", c->license, "Licence of the weights, an SPDX identifier")
      ->type_name("TEXT");
  app->add_option("--author", c->author, "Who made the model")->type_name("TEXT");
  app->add_option("--training", c->training, "Note on data and training")->type_name("TEXT");
  add_threads_option(app, &c->threads);
  add_json_flag(app, &options->json, "The plan or the report as one JSON object on stdout");
  return {app, [options] { return convert_command(*options); }};
}

}  // namespace moka::cli
