// `moka chat`: a text written in turns, a line of the user and an answer of the model each.
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "moka/moka.h"
#include "platforms/cli/chat_room.h"
#include "platforms/cli/input.h"
#include "platforms/cli/interrupt.h"
#include "platforms/cli/json.h"
#include "platforms/cli/options.h"
#include "platforms/cli/sampling.h"
#include "platforms/cli/task.h"
#include "platforms/cli/terminal.h"

namespace moka::cli {
namespace {

constexpr uint64_t kDefaultTokens = 256;

const char kDescription[] =
    "Reads lines from stdin. Each is read as the next piece of the text, as it stands and without "
    "its newline, and the model goes on from it: a model of stories continues the story, one that "
    "was trained to answer answers. An empty line lets the model go on by itself. What the model "
    "writes goes to stdout.\n\n"
    "Every turn can be gone back to, changed and written anew; the old ones stay until they are "
    "removed. With --session the chat is kept in a file, saved after every turn, and goes on there "
    "the next time, with the same bytes as if it had never ended.\n\n"
    "With --from, a new chat begins behind a prefix snapshot of the model, as if that text had "
    "been "
    "read; the file keeps its name, and goes on only behind the same prefix.\n\n"
    "Ctrl-C stops the turn that is being written, which keeps what it has; a text that is being "
    "read is not taken. At the prompt Ctrl-C ends the program.\n\n"
    "With --json, stdout has one object per line: {\"type\":\"given\"} for a text, {\"type\":"
    "\"text\"} for each piece that is written, {\"type\":\"written\"} for the whole turn, "
    "\"current\" after /undo, /switch and /open, \"turns\", and \"error\".";

const char kExamples[] =
    "  moka chat stories.moka\n"
    "  moka chat stories.moka --session bedtime.chat -n 80\n"
    "  moka chat stories.moka --from coach\n"
    "  printf 'Once upon a time\\n/retry\\n' | moka chat stories.moka --seed 1\n";

const char kExitNotes[] =
    "Without a terminal, lines that had an error end with 1, after all were answered.\n";

struct ChatArguments {
  std::string model;
  std::string session;
  std::string from;  // a prefix snapshot
  uint64_t tokens = kDefaultTokens;
  uint64_t max_ms = 0;
  uint64_t lookup = 0;
  std::vector<std::string> stop;
  SamplingArguments sampling;
  int threads = 0;
  bool json = false;
};

// A bar while tokens are read; an interrupt ends that.
ChatOptions chat_options() {
  ChatOptions options;
  const auto bar = std::make_shared<std::optional<Progress>>();
  options.progress = [bar](const ReadProgress& progress) {
    if (progress.done == 0) {
      bar->emplace(progress.again ? "reading again" : "reading", progress.total, "tokens");
    }
    if (*bar) (*bar)->update(progress.done);
    if (progress.done == progress.total || interrupted()) bar->reset();
    return !interrupted();
  };
  return options;
}

Outcome open_chat(const Model& model, const ChatArguments& arguments, const ChatOptions& options,
                  std::optional<Chat>* chat) {
  std::error_code unknown;
  if (!arguments.session.empty() && std::filesystem::exists(arguments.session, unknown)) {
    ChatOptions same = options;
    same.from = arguments.from;
    MOKA_ASSIGN_OR_RETURN(*chat, Chat::open_file(model, arguments.session, same));
    return {};
  }
  ChatOptions fresh = options;
  fresh.from = arguments.from;
  fresh.sampling = sampling_of(arguments.sampling, model.info().sampling);
  Result<Chat> created = Chat::create(model, fresh);
  if (created.status().code() == StatusCode::kUnsupported) {
    return {kExitUnsupported, arguments.model + ": " + created.status().message()};
  }
  if (created.status().code() == StatusCode::kNotFound) {
    return Outcome::usage("--from: " + created.status().message());
  }
  if (!created.ok()) return Outcome::of_arguments(created.status());
  *chat = std::move(created).value();
  return {};
}

void report(const ChatArguments& arguments, bool interactive, uint64_t line, const Status& status) {
  if (arguments.json) {
    write_output(json_line({{"type", "error"}, {"line", line}, {"error", status.message()}}));
  } else {
    const std::string where = interactive ? "" : "line " + std::to_string(line) + ": ";
    say("moka chat: " + where + status.message());
  }
}

// Lines until the end, /quit, or an interrupt that nothing else takes.
Outcome talk(const ChatArguments& arguments, bool interactive, ChatRoom* room) {
  MOKA_ASSIGN_OR_RETURN(InputStream input, InputStream::open("-"));
  LineReader lines(std::move(input));
  uint64_t failed = 0;
  std::string line;
  while (!room->closed()) {
    if (interactive) say_prompt("> ");
    const Result<LineReader::Line> read = lines.next(&line);
    if (!read.ok()) {
      if (interactive) say("");
      return read.status();
    }
    if (read.value() == LineReader::Line::kEnd) {
      if (interactive) say("");
      break;
    }
    Status status(StatusCode::kOutOfRange, "the line has more than 64 MiB");
    if (read.value() == LineReader::Line::kRead) status = room->take(line);
    if (interrupted()) {
      if (!interactive || interrupt_signal() != SIGINT) return {kExitInterrupted, ""};
      forget_interrupt();
      reopen_output();
      room->end_line();
      if (status.code() == StatusCode::kCancelled) {
        say("stopped; the chat is as it was");
        continue;
      }
    }
    if (output_closed()) return {};
    if (status.ok()) continue;
    report(arguments, interactive, lines.number(), status);
    ++failed;
  }
  if (failed == 0 || interactive) return {};
  return {kExitFailure, failed == 1 ? "1 line failed" : std::to_string(failed) + " lines failed"};
}

Outcome run(const ChatArguments& arguments) {
  OpenedModel opened = open_model(arguments.model, arguments.threads);
  if (!opened.model) return opened.outcome;
  const Model& model = *opened.model;
  const Outcome head = check_head(model, arguments.model, "chat", {OutputKind::kLanguage});
  if (head.exit_code != kExitOk) return head;
  const ChatOptions options = chat_options();
  std::optional<Chat> chat;
  const Outcome outcome = open_chat(model, arguments, options, &chat);
  if (outcome.exit_code != kExitOk) return outcome;

  ChatRoomOptions room_options;
  room_options.session_file = arguments.session;
  room_options.json = arguments.json;
  room_options.interactive = is_terminal(STDIN_FILENO) && is_terminal(STDERR_FILENO);
  room_options.writing.max_tokens = arguments.tokens;
  room_options.writing.max_ms = arguments.max_ms;
  room_options.writing.lookup = static_cast<uint32_t>(arguments.lookup);
  room_options.writing.stop = arguments.stop;
  const bool resumed = !chat->turns().empty();
  if (resumed && arguments.sampling.given()) {
    room_options.writing.sampling = sampling_of(arguments.sampling, chat->sampling());
  }
  ChatRoom room(model, std::move(*chat), options, room_options);
  if (room_options.interactive) {
    say(model.info().name + "; /help shows the commands, /quit or Ctrl-D ends");
    if (resumed) room.introduce();
  }
  return talk(arguments, room_options.interactive, &room);
}

}  // namespace

Verb add_chat(CLI::App& moka) {
  auto arguments = std::make_shared<ChatArguments>();
  ChatArguments* a = arguments.get();
  CLI::App* app = add_verb(moka, "chat", "Write a text in turns, line by line", kDescription,
                           std::string(kExamples) + "\nCommands:\n" + kChatCommands, kExitNotes);
  add_model_argument(app, &a->model);
  app->add_option("--session", a->session,
                  "Go on with the chat in this file if it exists, and save to it after every turn")
      ->type_name("FILE");
  app->add_option("--from", a->from, "Begin behind this prefix snapshot of the model")
      ->type_name("NAME");
  add_whole(
      app, "-n,--tokens", [a](uint64_t n) { a->tokens = n; },
      "Write at most N tokens in a turn (default: 256)", 1, uint64_t{1} << 30);
  add_whole(
      app, "--max-ms", [a](uint64_t n) { a->max_ms = n; },
      "Write at most N milliseconds in a turn; 0 is any time");
  app->add_option("--stop", a->stop,
                  "End a turn where this text would be written; may be repeated")
      ->type_name("TEXT")
      ->expected(1)
      ->allow_extra_args(false)  // or "[a,b]" would be taken for a list
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  add_lookup_option(app, &a->lookup);
  add_sampling_options(app, &a->sampling);
  add_threads_option(app, &a->threads);
  add_json_flag(app, &a->json, "One JSON object per line on stdout");
  return {app, [arguments] { return run(*arguments); }};
}

}  // namespace moka::cli
