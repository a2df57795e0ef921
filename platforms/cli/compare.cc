// `moka compare`: how two texts (or images, or series) belong together.
#include <memory>
#include <string>

#include "platforms/cli/classes.h"
#include "platforms/cli/task.h"
#include "platforms/cli/terminal.h"

namespace moka::cli {
namespace {

const char kExamples[] =
    "  moka compare citations.moka paper-a.txt paper-b.txt\n"
    "  moka compare sentences.moka -p \"A dog barks\" -p \"A hound howls\"\n"
    "  moka compare citations.moka --jsonl < pairs.jsonl > answers.jsonl\n";

std::string description() {
  return "With a model that compares two sequences: prints the classes with their probabilities, "
         "best first. With an embedding model: prints the cosine of the angle between the two "
         "vectors, from -1 to 1.\n\n"
         "The two are FILE FILE, or -p TEXT -p TEXT, or one of each (then the file comes first). "
         "Files are read as by `moka classify`.\n\n" +
         json_lines_help("{\"a\": ..., \"b\": ...}, each a text or a list of ids or numbers",
                         "label, class, probability, probabilities, logits; or similarity");
}

Result<Json> compare_samples(const Task& task, const Sample& a, const Sample& b,
                             const ReadOptions& read, Classification* classes) {
  const Model& model = task.model();
  if (model.info().output == OutputKind::kPair) {
    MOKA_ASSIGN_OR_RETURN(*classes, compare(model, a.input(), b.input(), read));
    return classification_json(*classes, class_names(model));
  }
  MOKA_ASSIGN_OR_RETURN(const std::vector<float> first, embed(model, a.input(), read));
  MOKA_ASSIGN_OR_RETURN(const std::vector<float> second, embed(model, b.input(), read));
  Json json;
  json["similarity"] = cosine_similarity(first, second);
  return json;
}

Result<Json> compare_object(const Task& task, const Json& object) {
  for (const char* key : {"a", "b"}) {
    if (!object.contains(key)) {
      return Status(StatusCode::kInvalidArgument, std::string("the object has no \"") + key + "\"");
    }
  }
  MOKA_ASSIGN_OR_RETURN(const Sample a, task.samples().from_value(object.at("a"), "\"a\""));
  MOKA_ASSIGN_OR_RETURN(const Sample b, task.samples().from_value(object.at("b"), "\"b\""));
  Sample memory;
  MOKA_ASSIGN_OR_RETURN(const ReadOptions read, task.read_options(object, &memory));
  Classification classes;
  return compare_samples(task, a, b, read, &classes);
}

Outcome compare_command(const TaskOptions& options) {
  if (!options.jsonl && options.files.size() + options.texts.size() != 2) {
    return Outcome::usage("two inputs are compared, " +
                          std::to_string(options.files.size() + options.texts.size()) +
                          " given: name two files, or give two texts with -p");
  }
  if (!options.jsonl && options.files.size() == 2 && options.files[0] == "-" &&
      options.files[1] == "-") {
    return Outcome::usage("only one of the two can be stdin");
  }
  Outcome outcome;
  const auto task =
      Task::open(options, "compare", {OutputKind::kPair, OutputKind::kEmbedding}, &outcome);
  if (!task) return outcome;
  if (options.jsonl) {
    return run_json_lines(options.files,
                          [&](const Json& object) { return compare_object(*task, object); });
  }
  std::vector<Sample> samples;
  for (const std::string& file : options.files) {
    Result<std::vector<Sample>> read = task->samples().from_file(file);
    if (!read.ok()) return read.status();
    for (Sample& sample : read.value()) samples.push_back(std::move(sample));
  }
  for (const std::string& text : options.texts) {
    Result<Sample> read = task->samples().from_text(text, "--text");
    if (!read.ok()) return Outcome::of_arguments(read.status());
    samples.push_back(std::move(read).value());
  }
  if (samples.size() != 2) {
    return {kExitFailure,
            "the files hold " + std::to_string(samples.size()) + " sequences; two are compared"};
  }
  Classification classes;
  MOKA_ASSIGN_OR_RETURN(const Json json, compare_samples(*task, samples[0], samples[1],
                                                         task->read_options(), &classes));
  if (options.json) {
    write_output(json_line(json));
  } else if (task->model().info().output == OutputKind::kPair) {
    write_output(classification_table(classes, class_names(task->model()), 5));
  } else {
    char text[64];
    std::snprintf(text, sizeof(text), "cosine similarity  %.4f\n",
                  json.at("similarity").get<double>());
    write_output(text);
  }
  return {};
}

}  // namespace

Verb add_compare(CLI::App& moka) {
  auto options = std::make_shared<TaskOptions>();
  CLI::App* app = add_verb(moka, "compare", "Tell how two texts belong together", description(),
                           kExamples, kJsonLinesExit);
  add_task_options(app, options.get(), "FILE", "The two inputs; - is stdin",
                   "One JSON object on stdout");
  return {app, [options] { return compare_command(*options); }};
}

}  // namespace moka::cli
