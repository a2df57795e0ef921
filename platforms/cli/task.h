// What the verbs for tasks share: classify, compare, embed, score.
#ifndef MOKA_PLATFORMS_CLI_TASK_H_
#define MOKA_PLATFORMS_CLI_TASK_H_

#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "moka/moka.h"
#include "moka/reading.h"
#include "moka/tasks.h"
#include "platforms/cli/jsonl.h"
#include "platforms/cli/options.h"
#include "platforms/cli/sample.h"

namespace moka::cli {

struct TaskOptions {
  std::string model;
  std::vector<std::string> files;
  std::vector<std::string> texts;
  std::string memory;  // a file
  bool jsonl = false, json = false, truncate = false;
  int threads = 0;
};

// MODEL, `positional`, -p, --jsonl, --json, --truncate, --memory, --threads.
void add_task_options(CLI::App* app, TaskOptions* options, const std::string& positional,
                      const std::string& files_help, const std::string& json_help);

// The paragraphs on input that the descriptions of these verbs share.
std::string input_help();
std::string json_lines_help(const std::string& input, const std::string& answer);
extern const char kJsonLinesExit[];

// Exit code 4 with what the model is and which verb is for it, unless its head is one of `heads`.
Outcome check_head(const Model& model, const std::string& path, const std::string& verb,
                   std::initializer_list<OutputKind> heads);

// An opened model, and how it reads samples. Not copied: options point into it.
class Task {
 public:
  // Null with `outcome` set when the model cannot be opened or has another head, or the memory
  // cannot be read.
  static std::unique_ptr<Task> open(const TaskOptions& options, const std::string& verb,
                                    std::initializer_list<OutputKind> heads, Outcome* outcome);
  ~Task();  // shows the samples' note

  const Model& model() const { return model_; }
  const SampleReader& samples() const { return samples_; }
  // An interrupt ends the call; the memory of the command line.
  ReadOptions read_options() const;
  // The same with the memory in the "memory" of an object, which `memory` keeps.
  Result<ReadOptions> read_options(const Json& object, Sample* memory) const;

  // Calls `work` for each text, then for each path of the command line. An input that fails is told
  // on stderr and the next one goes on; the exit code is that of the first.
  using SourceWork = std::function<Status(const std::string& source, bool is_text)>;
  Outcome for_each_source(const SourceWork& work) const;

  // The same with the row of output of a model that pools. Texts of any length are read in constant
  // memory where the model can (reads_streams).
  Outcome for_each_row(
      const std::function<Status(const std::string& name, Span<const float> row)>& work) const;

  // There is more than one input, or may be.
  bool many_inputs() const { return options_.texts.size() + options_.files.size() > 1; }

 private:
  Task(Model model, const TaskOptions& options, std::string verb)
      : model_(std::move(model)),
        options_(options),
        verb_(std::move(verb)),
        samples_(model_, options.truncate) {}
  Result<std::vector<float>> row_of(const Sample& sample) const;
  bool reads_streams() const;
  Result<std::vector<float>> row_of_stream(const std::string& path) const;

  Model model_;
  const TaskOptions& options_;
  std::string verb_;
  SampleReader samples_;
  std::optional<Sample> memory_;
};

}  // namespace moka::cli

#endif  // MOKA_PLATFORMS_CLI_TASK_H_
