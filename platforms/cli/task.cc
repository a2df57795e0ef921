#include "platforms/cli/task.h"

#include <unistd.h>

#include <algorithm>

#include "platforms/cli/input.h"
#include "platforms/cli/interrupt.h"
#include "platforms/cli/terminal.h"
#include "runtime/model_spec.h"

namespace moka::cli {
namespace {

const char* head_title(OutputKind kind) {
  switch (kind) {
    case OutputKind::kHidden: return "a model without a head";
    case OutputKind::kLanguage: return "a language model";
    case OutputKind::kClassifier: return "a classifier";
    case OutputKind::kPair: return "a model that compares two sequences";
    case OutputKind::kRegression: return "a forecaster";
    case OutputKind::kEmbedding: return "an embedding model";
  }
  return "a model of another kind";
}

const char* verbs_for(OutputKind kind) {
  switch (kind) {
    case OutputKind::kHidden: return "`moka logits` writes its hidden states";
    case OutputKind::kLanguage: return "`moka run` and `moka score` are for it";
    case OutputKind::kClassifier: return "`moka classify` is for it";
    case OutputKind::kPair: return "`moka compare` is for it";
    case OutputKind::kRegression: return "`moka forecast` is for it";
    case OutputKind::kEmbedding: return "`moka embed` and `moka compare` are for it";
  }
  return "`moka inspect` shows it";
}

}  // namespace

const char kJsonLinesExit[] =
    "With --jsonl, lines that had an error end with 1, after all were answered.\n";

std::string input_help() {
  return "Each FILE is one input; without FILE and -p it is stdin. A file holds a text, for models "
         "that read text; one newline at its end is not part of it, and special tokens in it are "
         "plain text. For models that read images it is a PNG, PGM or PPM of the model's size; "
         "for those that read numbers a CSV. A .npy array does for every model, and may hold "
         "several inputs.";
}

std::string json_lines_help(const std::string& input, const std::string& answer) {
  return "With --jsonl, FILE or stdin has one JSON object per line: " + input +
         ", with \"id\" if you like. Each gets one line of answer at once, in order: " + answer +
         ", with the \"id\"; or {\"error\": ...}, and the next line goes on.";
}

void add_task_options(CLI::App* app, TaskOptions* options, const std::string& positional,
                      const std::string& files_help, const std::string& json_help) {
  add_model_argument(app, &options->model);
  app->add_option(positional, options->files, files_help)->type_name("");
  app->add_option("-p,--text", options->texts, "A text instead of a file; may be repeated")
      ->type_name("TEXT")
      ->expected(1)
      ->allow_extra_args(false)  // or "[a,b]" would be taken for a list
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app->add_flag("--jsonl", options->jsonl, "One JSON object per line, in and out");
  app->add_flag("--truncate", options->truncate,
                "Keep the start of a text that is longer than the model reads, or than texts were "
                "in training");
  app->add_option("--memory", options->memory,
                  "What to read first, for models that answer from a second sequence")
      ->type_name("FILE");
  add_threads_option(app, &options->threads);
  add_json_flag(app, &options->json, json_help);
}

Outcome check_head(const Model& model, const std::string& path, const std::string& verb,
                   std::initializer_list<OutputKind> heads) {
  const OutputKind kind = model.info().output;
  std::string needed;
  for (const OutputKind head : heads) {
    if (head == kind) return {};
    needed += (needed.empty() ? "" : " or ") + std::string(head_title(head));
  }
  return {kExitUnsupported, path + ": " + head_title(kind) + "; `moka " + verb + "` needs " +
                                needed + ". " + verbs_for(kind)};
}

std::unique_ptr<Task> Task::open(const TaskOptions& options, const std::string& verb,
                                 std::initializer_list<OutputKind> heads, Outcome* outcome) {
  if (options.jsonl && !options.texts.empty()) {
    *outcome = Outcome::usage("--jsonl and --text cannot be given together");
    return nullptr;
  }
  if (options.files.empty() && options.texts.empty() && is_terminal(STDIN_FILENO)) {
    *outcome = Outcome::usage("nothing to read: give a FILE, or a text with -p, or pipe it in");
    return nullptr;
  }
  OpenedModel opened = open_model(options.model, options.threads);
  if (!opened.model) {
    *outcome = opened.outcome;
    return nullptr;
  }
  *outcome = check_head(*opened.model, options.model, verb, heads);
  if (outcome->exit_code != kExitOk) return nullptr;
  const bool reads_memory = opened.model->info().reads_memory;
  if (!options.memory.empty() && !reads_memory) {
    *outcome = Outcome::usage("--memory: this model reads one sequence and no memory");
    return nullptr;
  }
  if (options.memory.empty() && reads_memory && !options.jsonl) {
    *outcome = Outcome::usage("this model answers from a second sequence: give it with --memory");
    return nullptr;
  }
  std::unique_ptr<Task> task(new Task(*opened.model, options, verb));
  if (options.memory.empty()) return task;
  Result<std::vector<Sample>> memory = task->samples_.from_file(options.memory);
  if (!memory.ok()) {
    *outcome = memory.status();
    return nullptr;
  }
  if (memory.value().size() != 1) {
    *outcome = {kExitFailure, options.memory + ": " + std::to_string(memory.value().size()) +
                                  " sequences; a memory is one"};
    return nullptr;
  }
  task->memory_ = std::move(memory.value().front());
  return task;
}

Task::~Task() {
  const std::string note = samples_.note();
  if (!note.empty()) say("moka " + verb_ + ": note: a text is " + note);
}

ReadOptions Task::read_options() const {
  ReadOptions options;
  options.cancel = interrupt_flag();
  if (memory_) options.memory = memory_->input();
  return options;
}

Result<ReadOptions> Task::read_options(const Json& object, Sample* memory) const {
  ReadOptions options = read_options();
  if (!model_.info().reads_memory) return options;
  if (object.contains("memory")) {
    MOKA_ASSIGN_OR_RETURN(*memory, samples_.from_value(object.at("memory"), "\"memory\""));
    options.memory = memory->input();
  } else if (!memory_) {
    return Status(StatusCode::kInvalidArgument,
                  "the object has no \"memory\", which this model answers from");
  }
  return options;
}

Outcome Task::for_each_source(const SourceWork& work) const {
  std::vector<std::pair<std::string, bool>> sources;
  for (const std::string& text : options_.texts) sources.emplace_back(text, true);
  for (const std::string& file : options_.files) sources.emplace_back(file, false);
  if (sources.empty()) sources.emplace_back("-", false);
  Outcome first;
  size_t failed = 0;
  for (const auto& [source, is_text] : sources) {
    const Status status = work(source, is_text);
    if (interrupted()) return {kExitInterrupted, ""};
    if (output_closed()) return {};
    if (status.ok()) continue;
    const Outcome outcome = is_text ? Outcome::of_arguments(status) : Outcome(status);
    if (sources.size() == 1) return outcome;
    say("moka " + verb_ + ": " + outcome.message);
    if (failed++ == 0) first = outcome;
  }
  if (failed == 0) return {};
  return {first.exit_code,
          std::to_string(failed) + " of " + std::to_string(sources.size()) + " inputs failed"};
}

Outcome Task::for_each_row(
    const std::function<Status(const std::string& name, Span<const float> row)>& work) const {
  return for_each_source([&](const std::string& source, bool is_text) {
    if (is_text) {
      MOKA_ASSIGN_OR_RETURN(const Sample sample, samples_.from_text(source, "--text"));
      MOKA_ASSIGN_OR_RETURN(const std::vector<float> row, row_of(sample));
      return work(sample.name, row);
    }
    const bool array = source.size() > 4 && source.substr(source.size() - 4) == ".npy";
    if (reads_streams() && !array) {
      MOKA_ASSIGN_OR_RETURN(const std::vector<float> row, row_of_stream(source));
      return work(source == "-" ? "standard input" : source, row);
    }
    MOKA_ASSIGN_OR_RETURN(const std::vector<Sample> samples, samples_.from_file(source));
    for (const Sample& sample : samples) {
      MOKA_ASSIGN_OR_RETURN(const std::vector<float> row, row_of(sample));
      MOKA_RETURN_IF_ERROR(work(sample.name, row));
    }
    return Status();
  });
}

Result<std::vector<float>> Task::row_of(const Sample& sample) const {
  std::vector<float> row;
  const LogitsSink sink = [&](size_t, size_t, const float* logits, size_t) {
    row.assign(logits, logits + model_.info().outputs);
    return Status();
  };
  const size_t steps = std::max(sample.tokens.size(), sample.values.size());
  Progress bar("reading", steps, "steps");
  ReadOptions options = read_options();
  options.progress = [&](double share) {
    bar.update(static_cast<uint64_t>(share * static_cast<double>(steps)));
  };
  const Status status = read_sequence(model_, sample.input(), sink, options);
  if (!status.ok()) return Status(status.code(), sample.name + ": " + status.message());
  return row;
}

bool Task::reads_streams() const {
  const auto& rules = model_.spec().tokenizer;
  return model_.info().causal && model_.info().image_width == 0 && rules &&
         rules->kind == TokenizerKind::kBytes && rules->normalizers.empty() &&
         rules->pre_tokenizers.empty() && !rules->add_prefix_space;
}

// A byte is a token, so the text can be cut anywhere. What is kept does not grow with it: a piece of
// the text, its tokens, the session.
Result<std::vector<float>> Task::row_of_stream(const std::string& path) const {
  constexpr size_t kPiece = 64 * 1024;
  const TokenizerSpec& rules = *model_.spec().tokenizer;
  MOKA_ASSIGN_OR_RETURN(InputStream file, InputStream::open(path));
  MOKA_ASSIGN_OR_RETURN(Session session, model_.new_session());
  const CancelOnInterrupt cancel(&session);
  if (memory_) MOKA_RETURN_IF_ERROR(session.append_memory(memory_->tokens));
  Progress bar("reading", file.size(), "bytes");

  const bool eos = rules.add_eos && rules.eos_id >= 0;
  const size_t limit = samples_.token_limit();
  std::vector<TokenId> tokens;
  if (rules.add_bos && rules.bos_id >= 0) tokens.push_back(rules.bos_id);
  std::string buffer(kPiece, '\0'), held;  // held: an end of line that may be the last
  uint64_t bytes = 0, read = 0;
  for (bool last = false; !last;) {
    MOKA_ASSIGN_OR_RETURN(const size_t count, file.read(buffer.data(), kPiece));
    last = count < kPiece;
    read += count;
    std::string piece = held + buffer.substr(0, count);
    if (last) {
      piece.resize(without_newline(piece).size());
    } else {
      const size_t kept = without_newline(piece).size();
      held = piece.substr(kept);
      piece.resize(kept);
    }
    if (limit != 0 && session.position() + tokens.size() + piece.size() + (eos ? 1 : 0) > limit) {
      if (!samples_.truncates()) {
        return Status(StatusCode::kOutOfRange,
                      file.name() + ": more than " + with_commas(limit) +
                          " tokens, the most that this model reads (--truncate keeps the start)");
      }
      const size_t taken = static_cast<size_t>(session.position()) + tokens.size() + (eos ? 1 : 0);
      piece.resize(limit > taken ? limit - taken : 0);
      last = true;
    }
    bytes += piece.size();
    const Status encoded = model_.tokenizer().encode(piece, &tokens, false);
    if (!encoded.ok()) return Status(encoded.code(), file.name() + ": " + encoded.message());
    if (last && bytes == 0) {
      return Status(StatusCode::kInvalidArgument, file.name() + ": the text is empty");
    }
    if (last && eos) tokens.push_back(rules.eos_id);
    const Status status = session.append(tokens);
    if (!status.ok()) return Status(status.code(), file.name() + ": " + status.message());
    tokens.clear();
    bar.update(read);
  }
  samples_.note_length(session.position());
  const Span<const float> row = session.logits();
  return std::vector<float>(row.begin(), row.end());
}

}  // namespace moka::cli
