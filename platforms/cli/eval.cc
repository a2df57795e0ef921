// `moka eval`: how well a model predicts a text.
#include <chrono>
#include <memory>
#include <string>

#include "converter/evaluate.h"
#include "moka/moka.h"
#include "platforms/cli/interrupt.h"
#include "platforms/cli/json.h"
#include "platforms/cli/options.h"
#include "platforms/cli/task.h"
#include "platforms/cli/terminal.h"

namespace moka::cli {
namespace {

const char kDescription[] =
    "Reads the whole text and reports bits per byte (lower is better; comparable between models "
    "with different vocabularies) and perplexity per token. A line that is exactly <|endoftext|> "
    "ends a document; each document starts from an empty memory. Memory is bounded by the "
    "longest document.";

const char kExamples[] =
    "  moka eval stories.moka --text valid.txt\n"
    "  moka eval stories.moka --text valid.txt --json | jq .bits_per_byte\n";

struct EvalOptions {
  std::string model, text;
  int threads = 0;
  bool json = false;
};

Outcome eval(const EvalOptions& options) {
  OpenedModel opened = open_model(options.model, options.threads);
  if (!opened.model) return opened.outcome;
  const Model& model = *opened.model;
  const Outcome head = check_head(model, options.model, "eval", {OutputKind::kLanguage});
  if (head.exit_code != kExitOk) return head;
  if (!model.info().causal || model.info().reads_memory) {
    return {kExitUnsupported, options.model + ": `moka eval` needs a causal language model that " +
                                  "reads one sequence"};
  }
  if (!model.has_tokenizer()) {
    return {kExitUnsupported,
            options.model + ": the model has no tokenizer, so it cannot read text"};
  }
  const auto start = std::chrono::steady_clock::now();
  std::unique_ptr<Progress> bar;  // made at the first call, which knows the size of the text
  Result<Evaluation> result =
      evaluate_text(model, options.text, [&](uint64_t done, uint64_t total) {
        if (!bar) bar = std::make_unique<Progress>("evaluating", total, "bytes");
        bar->update(done);
        return !interrupted();
      });
  bar.reset();
  if (!result.ok()) return result.status();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const Evaluation& evaluation = result.value();
  const double tokens_per_second =
      seconds > 0 ? static_cast<double>(evaluation.tokens) / seconds : 0.0;

  if (options.json) {
    write_output(json_document({{"model", options.model},
                                {"text", options.text},
                                {"bits_per_byte", evaluation.bits_per_byte()},
                                {"perplexity", evaluation.perplexity()},
                                {"negative_log_likelihood", evaluation.nll},
                                {"tokens", evaluation.tokens},
                                {"bytes", evaluation.text_bytes},
                                {"documents", evaluation.documents},
                                {"seconds", seconds},
                                {"tokens_per_second", tokens_per_second},
                                {"threads", model.info().threads},
                                {"isa", model.info().isa}}));
    return {};
  }
  char figures[128];
  std::snprintf(figures, sizeof(figures), "bits per byte  %.4f\nperplexity     %.4f\n",
                evaluation.bits_per_byte(), evaluation.perplexity());
  write_output(std::string(figures) + "tokens         " + with_commas(evaluation.tokens) +
               "\nbytes          " + with_commas(evaluation.text_bytes) + "\ndocuments      " +
               with_commas(evaluation.documents) + "\nspeed          " +
               short_number(tokens_per_second) + " tokens/s, " + seconds_words(seconds) +
               " in all\n");
  return {};
}

}  // namespace

Verb add_eval(CLI::App& moka) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App* app =
      add_verb(moka, "eval", "Measure how well a model predicts a text", kDescription, kExamples);
  add_model_argument(app, &options->model);
  app->add_option("--text", options->text, "The text, a UTF-8 file")->required()->type_name("FILE");
  add_threads_option(app, &options->threads);
  add_json_flag(app, &options->json, "One JSON object on stdout");
  return {app, [options] { return eval(*options); }};
}

}  // namespace moka::cli
