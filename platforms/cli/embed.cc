// `moka embed`: the vector of a text, an image or a series.
#include <unistd.h>

#include <memory>
#include <string>

#include "converter/npy.h"
#include "platforms/cli/task.h"
#include "platforms/cli/terminal.h"

namespace moka::cli {
namespace {

const char kExamples[] =
    "  moka embed sentences.moka -p \"A dog barks\"\n"
    "  moka embed sentences.moka notes/*.txt -o notes.npy\n"
    "  moka embed sentences.moka --jsonl < in.jsonl > vectors.jsonl\n";

std::string description() {
  return "Prints the vector of each input as a JSON list on a line of its own; with -o, writes "
         "them as a float32 array (inputs, numbers), which appears when it is complete.\n\n" +
         input_help() + "\n\n" +
         json_lines_help("{\"text\": \"...\"}, {\"ids\": [...]} or {\"values\": [...]}",
                         "embedding, a list");
}

struct EmbedOptions {
  TaskOptions task;
  std::string output;
  bool force = false;
};

// All vectors before the file appears: one that fails leaves none.
Outcome embed_to_file(const EmbedOptions& options, const Task& task) {
  std::vector<float> rows;
  const size_t size = task.model().info().outputs;
  Outcome outcome = task.for_each_row([&](const std::string&, Span<const float> row) {
    rows.insert(rows.end(), row.begin(), row.end());
    return Status();
  });
  if (outcome.exit_code != kExitOk) return outcome;
  const std::vector<uint64_t> shape = {rows.size() / size, size};
  const Status written = write_npy(options.output, shape, rows);
  if (!written.ok()) return Outcome::failure(written);
  const std::string words = "(" + std::to_string(shape[0]) + ", " + std::to_string(shape[1]) + ")";
  if (options.task.json) {
    write_output(json_line({{"output", options.output}, {"shape", shape}, {"dtype", "float32"}}));
  } else {
    say(options.output + ": float32 " + words);
  }
  return {};
}

Outcome embed_command(const EmbedOptions& options) {
  if (!options.output.empty() && options.task.jsonl) {
    return Outcome::usage("--jsonl and --output cannot be given together");
  }
  if (!options.output.empty() && !options.force && ::access(options.output.c_str(), F_OK) == 0) {
    return Outcome::usage("--output: '" + options.output + "' exists; --force replaces it");
  }
  Outcome outcome;
  const auto task = Task::open(options.task, "embed", {OutputKind::kEmbedding}, &outcome);
  if (!task) return outcome;
  if (options.task.jsonl) {
    return run_json_lines(options.task.files, [&](const Json& object) -> Result<Json> {
      MOKA_ASSIGN_OR_RETURN(const Sample sample, task->samples().from_object(object));
      Sample memory;
      MOKA_ASSIGN_OR_RETURN(const ReadOptions read, task->read_options(object, &memory));
      MOKA_ASSIGN_OR_RETURN(const std::vector<float> vector,
                            embed(task->model(), sample.input(), read));
      Json json;
      json["embedding"] = floats_json(vector);
      return json;
    });
  }
  if (!options.output.empty()) return embed_to_file(options, *task);
  return task->for_each_row([&](const std::string& name, Span<const float> row) {
    const Json vector = floats_json(row);
    write_output(options.task.json ? json_line({{"input", name}, {"embedding", vector}})
                                   : json_line(vector));
    return Status();
  });
}

}  // namespace

Verb add_embed(CLI::App& moka) {
  auto options = std::make_shared<EmbedOptions>();
  CLI::App* app = add_verb(moka, "embed", "Turn a text, an image or a series into a vector",
                           description(), kExamples, kJsonLinesExit);
  add_task_options(app, &options->task, "FILE", "Inputs; - is stdin",
                   "One JSON object per input on stdout");
  app->add_option("-o,--output", options->output, "Write the vectors as a .npy file")
      ->type_name("FILE");
  app->add_flag("--force", options->force, "Replace an existing output");
  return {app, [options] { return embed_command(*options); }};
}

}  // namespace moka::cli
