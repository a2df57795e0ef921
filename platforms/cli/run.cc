// `moka run`: reads a prompt and writes how the text goes on.
//
// Nothing here grows with the number of tokens written: each one is printed and forgotten.
#include <unistd.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "moka/moka.h"
#include "platforms/cli/input.h"
#include "platforms/cli/interrupt.h"
#include "platforms/cli/json.h"
#include "platforms/cli/options.h"
#include "platforms/cli/sampling.h"
#include "platforms/cli/task.h"
#include "platforms/cli/terminal.h"
#include "runtime/snapshots.h"
#include "runtime/writing.h"

namespace moka::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kDefaultTokens = 512;      // without -n
constexpr uint64_t kDefaultLoopTokens = 256;  // likewise
constexpr size_t kPromptSlice = 256;          // tokens between two looks at the progress bar

const char kDescription[] =
    "Reads the prompt, then writes token by token how the model goes on. The prompt is printed "
    "first, so that stdout has the whole text. Without -p and -f the prompt is read from stdin, "
    "unless that is a terminal: then the text starts from nothing. One newline at the end of a "
    "file or of stdin is not part of the prompt. Special tokens of the model that appear in the "
    "prompt, such as <|endoftext|>, are read as such.\n\n"
    "Without -n, writing stops where the model ends the text, after 512 tokens, or when the last "
    "256 are one cycle again and again. With -n N, "
    "exactly N tokens are written: after an end of text comes a blank line and a new text. "
    "Memory does not grow with N. Sampling options that are not given are those that the model's "
    "author recommends; `moka inspect` shows them. The same seed, options and model give the "
    "same text.\n\n"
    "With --from, the text goes on behind a prefix snapshot of the model, which costs no reading: "
    "the prompt follows the prefix, and so does every new text. The prefix itself is not printed. "
    "`moka snapshot` makes and lists them.\n\n"
    "With --lookup N, up to N tokens that followed the same words before, in the prompt or in what "
    "was "
    "written, are guessed and go through the model together. The text stays the same; one that "
    "repeats "
    "itself comes faster.\n\n"
    "With --json, stdout has one JSON object per line: first {\"type\":\"prompt\"}, then one "
    "{\"type\":\"token\"} per token, at last {\"type\":\"summary\"}. Joining the \"text\" of all "
    "lines gives what is printed without --json.";

const char kExamples[] =
    "  moka run stories.moka -p \"Once upon a time\"\n"
    "  moka run stories.moka -p \"The dragon\" --seed 7 --temperature 0.6 -n 200\n"
    "  moka run stories.moka -f chapter1.txt > chapter2.txt\n"
    "  echo \"Lily had a red ball\" | moka run stories.moka --greedy\n"
    "  moka run stories.moka -n 1000000 | head -c 2000    # stop by closing the pipe\n"
    "  moka run stories.moka --from coach -p \"How do I begin?\"\n"
    "  moka run stories.moka -p Tom --json | jq -j .text\n";

const char kExitNotes[] = "A pipe that its reader closes ends the run quietly, with 0.\n";

struct RunOptions {
  std::string model;
  std::optional<std::string> prompt;
  std::string prompt_file;
  std::string memory_file;
  std::string from;  // a prefix snapshot
  std::optional<uint64_t> count, max_ms, loop_tokens;
  uint64_t lookup = 0;
  SamplingArguments sampling;
  bool json = false;
  int threads = 0;
};

enum class Finish {
  kLength,
  kEndOfText,
  kPositionLimit,
  kInterrupted,
  kOutputClosed,
  kTimeBudget,
  kLoop
};

const char* finish_name(Finish finish) {
  switch (finish) {
    case Finish::kEndOfText: return "end_of_text";
    case Finish::kPositionLimit: return "position_limit";
    case Finish::kInterrupted: return "interrupted";
    case Finish::kOutputClosed: return "output_closed";
    case Finish::kTimeBudget: return "time_budget";
    case Finish::kLoop: return "loop";
    default: return "length";
  }
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double rate(uint64_t count, double seconds) {
  return seconds > 0 ? static_cast<double>(count) / seconds : 0.0;
}

std::string token_words(uint64_t tokens) {
  return with_commas(tokens) + (tokens == 1 ? " token" : " tokens");
}

// One run: a session, a sampler, and where their text goes.
class Run final : public Writing {
 public:
  // The session is new, or behind the prefix `from`, which may be null. `how` outlives this.
  Run(Session& session, Sampler& sampler, const GenerateOptions& how, bool json,
      std::vector<TokenId> memory, const PrefixSnapshot* from)
      : Writing(session, sampler, how),
        model_(session.model()),
        session_(session),
        sampler_(sampler),
        json_(json),
        lookup_(how.lookup > 0),
        memory_(std::move(memory)),
        from_(from),
        begin_(model_.tokenizer().begin_id()) {}

  Outcome read_prompt(const std::string& text);
  Outcome write_text(const std::optional<uint64_t>& count);
  void print_summary();
  Finish finish() const { return finish_; }

 private:
  Status generate(uint64_t count, bool stop_at_end);
  Finish finish_of(TurnEnd end) const;
  Status begin_new_text();
  bool goes_on() override { return !interrupted(); }
  bool interrupted() const override { return cli::interrupted(); }
  void was_read(TokenId) override {}
  bool give_out(TokenId id, std::string_view text) override;
  bool emit_end_of_text();
  bool print(std::string_view text);
  std::string end_words() const;

  const Model& model_;
  Session& session_;
  Sampler& sampler_;
  const bool json_;
  const bool lookup_;
  std::vector<TokenId> memory_;  // what every text answers from; empty for most models
  const PrefixSnapshot* from_;   // what every text begins from; null: nothing
  const TokenId begin_;  // what a text starts with; -1 where the tokenizer has no such token
  bool line_open_ = false;
  Finish finish_ = Finish::kLength;
  uint64_t prompt_tokens_ = 0, written_ = 0;
  double prompt_seconds_ = 0, write_seconds_ = 0;
};

bool Run::print(std::string_view text) {
  if (!text.empty()) line_open_ = text.back() != '\n';
  return write_output(text);
}

// Reads the prompt in slices: the bar moves between them, and an interrupt ends the one at work.
Outcome Run::read_prompt(const std::string& text) {
  std::vector<TokenId> ids;
  if (begin_ >= 0 && from_ == nullptr) ids.push_back(begin_);
  const Status encoded = model_.tokenizer().encode(text, &ids);
  if (!encoded.ok()) return Outcome::of_arguments({encoded.code(), "prompt: " + encoded.message()});
  if (ids.empty() && from_ == nullptr) {
    return Outcome::usage(
        "the prompt is empty, and this model has no token that begins a text; give -p");
  }
  prompt_tokens_ = ids.size();
  const uint64_t limit = model_.info().position_limit;
  const uint64_t before = session_.position();
  if (limit != 0 && ids.size() > limit - before) {
    return Outcome::usage("the prompt has " + with_commas(ids.size()) + " tokens" +
                          (before == 0 ? "" : " behind a prefix of " + with_commas(before)) +
                          ", the model reads at most " + with_commas(limit));
  }
  const Clock::time_point start = Clock::now();
  {
    if (!memory_.empty()) MOKA_RETURN_IF_ERROR(session_.append_memory(memory_));
    Progress progress("reading the prompt", ids.size(), "tokens");
    for (size_t done = 0; done < ids.size();) {
      const size_t count = std::min(kPromptSlice, ids.size() - done);
      MOKA_RETURN_IF_ERROR(session_.append(Span<const TokenId>(ids.data() + done, count)));
      done += count;
      progress.update(done);
    }
  }
  prompt_seconds_ = seconds_since(start);
  const Span<const TokenId> prefix =
      from_ == nullptr ? Span<const TokenId>() : Span<const TokenId>(from_->tokens);
  for (TokenId id : prefix) sampler_.accept(id);
  for (TokenId id : ids) sampler_.accept(id);
  MOKA_RETURN_IF_ERROR(reserve_lookup(memory_.size() + prefix.size() + ids.size()));
  for (const Span<const TokenId> part : {Span<const TokenId>(memory_), prefix}) look_up(part);
  look_up(ids);

  if (!json_) {
    print(text);
  } else {
    Json json = {{"type", "prompt"},
                 {"text", text},
                 {"tokens", prompt_tokens_},
                 {"model", model_.info().name},
                 {"seed", sampler_.options().seed}};
    if (from_ != nullptr) {
      json["from"] = from_->name;
      json["prefix_tokens"] = from_->position;
    }
    print(json_line(json));
  }
  return {};
}

// Printing is no part of the time of writing.
bool Run::give_out(TokenId id, std::string_view text) {
  const Clock::time_point start = Clock::now();
  const bool printed =
      print(json_ ? json_line({{"type", "token"}, {"index", written_}, {"id", id}, {"text", text}})
                  : std::string(text));
  write_seconds_ -= seconds_since(start);
  written_++;
  return printed;
}

// The blank line between two texts.
bool Run::emit_end_of_text() {
  std::string text(finish_character());
  text += "\n\n";
  if (!json_) return print(text);
  return print(json_line({{"type", "token"},
                          {"index", written_},
                          {"id", stop_token()},
                          {"text", text},
                          {"end_of_text", true}}));
}

Status Run::begin_new_text() {
  begin_text();
  look_up(Span<const TokenId>(&begin_, 1));
  if (from_ != nullptr) return session_.restore_snapshot(from_->name);
  session_.reset();
  if (!memory_.empty()) MOKA_RETURN_IF_ERROR(session_.append_memory(memory_));
  return session_.append(Span<const TokenId>(&begin_, 1));
}

Finish Run::finish_of(TurnEnd end) const {
  switch (end) {
    case TurnEnd::kStopToken: return Finish::kEndOfText;
    case TurnEnd::kPositionLimit: return Finish::kPositionLimit;
    case TurnEnd::kTimeBudget: return Finish::kTimeBudget;
    case TurnEnd::kLoop: return Finish::kLoop;
    case TurnEnd::kCallback: return listening() ? Finish::kInterrupted : Finish::kOutputClosed;
    default: return Finish::kLength;
  }
}

Status Run::generate(uint64_t count, bool stop_at_end) {
  for (;;) {
    const Clock::time_point start = Clock::now();
    const Result<TurnEnd> end = run(count - written_);
    const bool next = end.ok() && end.value() == TurnEnd::kStopToken && !stop_at_end;
    const Status begun = next ? begin_new_text() : Status();
    write_seconds_ += seconds_since(start);
    if (end.status().code() == StatusCode::kCancelled && interrupted()) {
      finish_ = Finish::kInterrupted;
      return {};
    }
    MOKA_RETURN_IF_ERROR(end.status());
    if (!next) {
      finish_ = finish_of(end.value());
      return {};
    }
    // An interrupt is noticed when the next token is to be written.
    if (!begun.ok() && begun.code() != StatusCode::kCancelled) return begun;
    const bool printed = emit_end_of_text();
    written_++;
    if (!printed) {
      finish_ = Finish::kOutputClosed;
      return {};
    }
  }
}

Outcome Run::write_text(const std::optional<uint64_t>& count) {
  const Status status = generate(count.value_or(kDefaultTokens), !count.has_value());
  const std::string rest(finish_character());
  if (!json_) {
    if (!rest.empty()) print(rest);
    if (line_open_) print("\n");
  } else if (status.ok()) {
    print(json_line({{"type", "summary"},
                     {"text", rest},
                     {"finish_reason", finish_name(finish_)},
                     {"prompt_tokens", prompt_tokens_},
                     {"generated_tokens", written_},
                     {"prefill_seconds", prompt_seconds_},
                     {"prefill_tokens_per_second", rate(prompt_tokens_, prompt_seconds_)},
                     {"decode_seconds", write_seconds_},
                     {"decode_tokens_per_second", rate(written_, write_seconds_)},
                     {"drafted_tokens", lookups().drafted},
                     {"accepted_tokens", lookups().accepted},
                     {"state_bytes", model_.info().state_bytes},
                     {"state_bytes_per_token", model_.info().state_bytes_per_token},
                     {"threads", model_.info().threads},
                     {"isa", model_.info().isa},
                     {"seed", sampler_.options().seed}}));
  }
  if (status.ok() && finish_ == Finish::kPositionLimit && count) {
    return {kExitFailure, "the model reads at most " + with_commas(model_.info().position_limit) +
                              " tokens; " + with_commas(written_) + " of " + with_commas(*count) +
                              " were written"};
  }
  return status;
}

std::string Run::end_words() const {
  switch (finish_) {
    case Finish::kEndOfText: return ", end of text";
    case Finish::kPositionLimit: return ", the most that this model reads";
    case Finish::kInterrupted: return ", interrupted";
    case Finish::kTimeBudget: return ", all that --max-ms left time for";
    case Finish::kLoop: return ", in a loop of " + token_words(loop().period());
    default: return "";
  }
}

void Run::print_summary() {
  const auto line = [](uint64_t tokens, double seconds) {
    if (tokens == 0) return token_words(tokens);
    return token_words(tokens) + " in " + seconds_words(seconds) + ", " +
           short_number(rate(tokens, seconds)) + " tokens/s";
  };
  const ModelInfo& info = model_.info();
  say("");
  say("prompt   " + line(prompt_tokens_, prompt_seconds_));
  say("written  " + line(written_, write_seconds_) + end_words());
  if (lookup_) {
    const LookupCounts counts = lookups();
    say("guessed  " + token_words(counts.drafted) + ", of which " + with_commas(counts.accepted) +
        " came true");
  }
  say("state    " + bytes_words(info.state_bytes) +
      (info.state_bytes_per_token == 0
           ? ", the same after any number of tokens"
           : ", and " + bytes_words(info.state_bytes_per_token) + " for each token"));
  say("seed     " + std::to_string(sampler_.options().seed) + "  (--seed " +
      std::to_string(sampler_.options().seed) + " writes this text again)");
}

Outcome prompt_text(const RunOptions& options, std::string* text) {
  if (options.prompt) {
    *text = *options.prompt;
    return {};
  }
  const std::string path = !options.prompt_file.empty() ? options.prompt_file
                           : is_terminal(STDIN_FILENO)  ? ""
                                                        : "-";
  if (path.empty()) return {};
  MOKA_ASSIGN_OR_RETURN(*text, read_prompt(path));
  return {};
}

// The text that the model answers from, for models that read one.
Outcome read_memory(const RunOptions& options, const Model& model, std::vector<TokenId>* memory) {
  if (options.memory_file.empty() && !model.info().reads_memory) return {};
  if (options.memory_file.empty()) {
    return Outcome::usage("this model answers from a second text: give it with --memory");
  }
  if (!model.info().reads_memory) {
    return Outcome::usage("--memory: this model reads one text and no memory");
  }
  Result<std::vector<Sample>> samples = SampleReader(model, false).from_file(options.memory_file);
  if (!samples.ok()) return samples.status();
  *memory = std::move(samples.value().front().tokens);
  return {};
}

Outcome run(const RunOptions& options) {
  OpenedModel opened = open_model(options.model, options.threads);
  if (!opened.model) return opened.outcome;
  const Model& model = *opened.model;
  const Outcome head = check_head(model, options.model, "run", {OutputKind::kLanguage});
  if (head.exit_code != kExitOk) return head;
  if (!model.info().causal) {
    return {kExitUnsupported, options.model +
                                  ": the model sees ahead, so it cannot write a text token by "
                                  "token; `moka logits` runs it"};
  }
  if (!model.has_tokenizer()) {
    return {kExitUnsupported, options.model +
                                  ": the model has no tokenizer, so it cannot read text; "
                                  "`moka logits` takes token ids"};
  }
  Result<Sampler> sampler =
      Sampler::create(sampling_of(options.sampling, model.info().sampling), model.info().outputs);
  if (!sampler.ok()) return Outcome::of_arguments(sampler.status());
  MOKA_ASSIGN_OR_RETURN(Session session, model.new_session());
  if (!options.from.empty()) {
    const Status begun = session.restore_snapshot(options.from);
    if (begun.code() == StatusCode::kNotFound) return Outcome::usage("--from: " + begun.message());
    MOKA_RETURN_IF_ERROR(begun);
  }
  const CancelOnInterrupt cancel(&session);

  std::string text;
  Outcome outcome = prompt_text(options, &text);
  if (outcome.exit_code != kExitOk) return outcome;

  std::vector<TokenId> memory;
  outcome = read_memory(options, model, &memory);
  if (outcome.exit_code != kExitOk) return outcome;
  GenerateOptions how;
  how.max_tokens = options.count.value_or(kDefaultTokens);
  how.max_ms = options.max_ms.value_or(0);
  how.loop_tokens =
      static_cast<uint32_t>(options.loop_tokens.value_or(options.count ? 0 : kDefaultLoopTokens));
  how.lookup = static_cast<uint32_t>(options.lookup);
  Run run(session, sampler.value(), how, options.json, std::move(memory),
          options.from.empty() ? nullptr : find_snapshot(model.spec(), options.from));
  outcome = run.read_prompt(text);
  if (outcome.exit_code != kExitOk) return outcome;
  outcome = run.write_text(options.count);
  if (run.finish() == Finish::kOutputClosed) return outcome;  // quiet
  run.print_summary();
  if (run.finish() == Finish::kInterrupted) return {kExitInterrupted, ""};
  return outcome;
}

}  // namespace

Verb add_run(CLI::App& moka) {
  auto options = std::make_shared<RunOptions>();
  RunOptions* o = options.get();
  CLI::App* app =
      add_verb(moka, "run", "Write how a text goes on", kDescription, kExamples, kExitNotes);
  add_model_argument(app, &o->model);
  CLI::Option* prompt = app->add_option_function<std::string>(
      "-p,--prompt", [o](const std::string& text) { o->prompt = text; }, "The text to go on from");
  app->add_option("-f,--file", o->prompt_file, "Read the prompt from a file; - is stdin")
      ->type_name("FILE")
      ->excludes(prompt);
  prompt->take_last()->type_name("TEXT");
  app->add_option("--memory", o->memory_file,
                  "The text to answer from, for models that read one first")
      ->type_name("FILE");
  app->add_option("--from", o->from, "Begin behind this prefix snapshot of the model")
      ->type_name("NAME");
  add_whole(
      app, "-n,--tokens", [o](uint64_t n) { o->count = n; },
      "Write exactly N tokens (default: to the end of the text, at most 512)");
  add_whole(
      app, "--max-ms", [o](uint64_t n) { o->max_ms = n; },
      "Write for at most N milliseconds, not counting the prompt; 0 is any time", 0,
      uint64_t{1} << 40);
  add_whole(
      app, "--loop-guard", [o](uint64_t n) { o->loop_tokens = n; },
      "Stop when the last N tokens are one cycle, four times or more; 0 is never (default: 256, "
      "with -n never)",
      0, LoopGuard::kMostTokens);
  add_lookup_option(app, &o->lookup);
  add_sampling_options(app, &o->sampling);
  add_threads_option(app, &o->threads);
  add_json_flag(app, &o->json, "One JSON object per line on stdout");
  return {app, [options] { return run(*options); }};
}

}  // namespace moka::cli
