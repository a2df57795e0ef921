// `moka classify`: which class a text, an image or a series belongs to.
#include <memory>
#include <string>

#include "platforms/cli/classes.h"
#include "platforms/cli/task.h"
#include "platforms/cli/terminal.h"

namespace moka::cli {
namespace {

constexpr size_t kDefaultTop = 5;

const char kExamples[] =
    "  moka classify sentiment.moka -p \"What a wonderful film\"\n"
    "  moka classify sentiment.moka reviews/*.txt         # a line for each\n"
    "  moka classify sentiment.moka < huge.log            # memory stays the same\n"
    "  moka classify digits.moka seven.png --top 3\n"
    "  moka classify sentiment.moka --jsonl < in.jsonl > out.jsonl\n"
    "  parallel --pipe -k moka classify m.moka --jsonl < in.jsonl\n";

std::string description() {
  return "Prints the classes with their probabilities, best first; for several inputs, a line for "
         "each: input, class, probability, between tabs.\n\n" +
         input_help() +
         " A causal model that reads bytes takes a text of any length in constant memory.\n\n" +
         json_lines_help("{\"text\": \"...\"}, {\"ids\": [...]} or {\"values\": [...]}",
                         "label, class, probability, probabilities, logits");
}

struct ClassifyOptions {
  TaskOptions task;
  std::optional<uint64_t> top;
};

Outcome classify_command(const ClassifyOptions& options) {
  Outcome outcome;
  const auto task = Task::open(options.task, "classify", {OutputKind::kClassifier}, &outcome);
  if (!task) return outcome;
  const Model& model = task->model();
  const std::vector<std::string> names = class_names(model);
  if (options.task.jsonl) {
    return run_json_lines(options.task.files, [&](const Json& object) -> Result<Json> {
      MOKA_ASSIGN_OR_RETURN(const Sample sample, task->samples().from_object(object));
      Sample memory;
      MOKA_ASSIGN_OR_RETURN(const ReadOptions read, task->read_options(object, &memory));
      MOKA_ASSIGN_OR_RETURN(const Classification result, classify(model, sample.input(), read));
      return classification_json(result, names);
    });
  }
  return task->for_each_row([&](const std::string& name, Span<const float> row) {
    const Classification result = classification_of(row);
    if (options.task.json) {
      Json json = {{"input", name}};
      json.update(classification_json(result, names));
      write_output(json_line(json));
    } else if (task->many_inputs()) {
      const size_t top = static_cast<size_t>(options.top.value_or(1));
      write_output(classification_line(name, result, names, top));
    } else {
      const size_t top = static_cast<size_t>(options.top.value_or(kDefaultTop));
      write_output(classification_table(result, names, top));
    }
    return Status();
  });
}

}  // namespace

Verb add_classify(CLI::App& moka) {
  auto options = std::make_shared<ClassifyOptions>();
  CLI::App* app = add_verb(moka, "classify", "Tell the class of a text, an image or a series",
                           description(), kExamples, kJsonLinesExit);
  add_task_options(app, &options->task, "FILE", "Inputs; - is stdin",
                   "One JSON object per input on stdout");
  ClassifyOptions* o = options.get();
  add_whole(
      app, "--top", [o](uint64_t n) { o->top = n; },
      "How many classes to print (default: 5, or 1 for several inputs)", 1, 1000000);
  return {app, [options] { return classify_command(*options); }};
}

}  // namespace moka::cli
