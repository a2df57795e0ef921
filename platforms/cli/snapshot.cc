// `moka snapshot`: prefixes that a model file has already read.
#include "converter/snapshot.h"

#include <memory>
#include <optional>
#include <string>

#include "moka/moka.h"
#include "platforms/cli/input.h"
#include "platforms/cli/interrupt.h"
#include "platforms/cli/json.h"
#include "platforms/cli/options.h"
#include "platforms/cli/terminal.h"
#include "runtime/loader.h"
#include "runtime/snapshots.h"

namespace moka::cli {
namespace {

const char kDescription[] =
    "A prefix snapshot is a text that the model has read already: the state behind it lies in the "
    "model file, so `moka run --from NAME` and `moka chat --from NAME` begin there at once, "
    "however "
    "long the text is. ACTION is one of:\n\n"
    "add: reads the text of -f or -p and adds its state under --name. One newline at the end of a "
    "file is not part of the text. Special tokens of the model in the text are read as such.\n\n"
    "list: shows the snapshots of the file.\n\n"
    "remove: takes the one of --name out.\n\n"
    "The file is written anew beside the old one and takes its place when it is complete; weights "
    "stay byte for byte, and so does the fingerprint: saved sessions and chats open as before. A "
    "snapshot belongs to its weights. `moka convert --force` onto the file makes its snapshots "
    "anew, "
    "`moka verify` compares each with reading its text again.";

const char kExamples[] =
    "  moka snapshot add stories.moka --name coach -f prompt.txt\n"
    "  moka snapshot list stories.moka\n"
    "  moka run stories.moka --from coach -p \"How do I begin?\"\n"
    "  moka snapshot remove stories.moka --name coach\n";

struct SnapshotArguments {
  std::string action, model, name;
  std::optional<std::string> prompt;
  std::string prompt_file;
  bool force = false, json = false;
  int threads = 0;
};

Json info_json(const SnapshotInfo& info) {
  return {{"name", info.name}, {"tokens", info.tokens}, {"bytes", info.bytes}};
}

// The first words of a text, on one line.
std::string beginning(const std::string& text) {
  constexpr size_t kMost = 48;
  std::string line = first_bytes(text, kMost);
  for (char& c : line) {
    if (static_cast<unsigned char>(c) <= ' ') c = ' ';
  }
  return line;
}

Outcome add(const SnapshotArguments& arguments) {
  SnapshotText text{arguments.name, arguments.prompt.value_or("")};
  if (!arguments.prompt) {
    if (arguments.prompt_file.empty()) {
      return Outcome::usage("add: the text is missing; give it with -f FILE or -p TEXT");
    }
    MOKA_ASSIGN_OR_RETURN(text.text, read_prompt(arguments.prompt_file));
  }
  std::optional<Progress> bar;
  SnapshotOptions how;
  how.replace = arguments.force;
  how.threads = arguments.threads;
  how.progress = [&bar](uint64_t done, uint64_t total) {
    if (!bar) bar.emplace("reading the text", total, "tokens");
    bar->update(done);
    return !interrupted();
  };
  Result<SnapshotInfo> added = [&] {
    const HoldSignals hold;  // the model starts the threads that it computes with
    return moka::add_snapshot(arguments.model, text, how);
  }();
  bar.reset();
  if (added.status().code() == StatusCode::kUnsupported) {
    return {kExitUnsupported, arguments.model + ": " + added.status().message()};
  }
  if (added.status().code() == StatusCode::kFailedPrecondition) {
    return Outcome::usage(added.status().message());
  }
  if (!added.ok()) return Outcome::of_arguments(added.status());
  if (arguments.json) {
    write_output(json_document(info_json(added.value())));
  } else {
    say("snapshot '" + added.value().name + "': " + with_commas(added.value().tokens) +
        " tokens, " + bytes_words(added.value().bytes));
  }
  return {};
}

Outcome list(const SnapshotArguments& arguments) {
  Result<LoadedModel> loaded = load_model_file(arguments.model);
  if (!loaded.ok()) return Outcome::of_arguments(loaded.status());
  Json json = Json::array();
  Table table({{"name"}, {"tokens", true}, {"bytes", true}, {"text"}});
  for (const PrefixSnapshot& snapshot : loaded.value().spec.prefix_snapshots) {
    json.push_back(info_json({snapshot.name, snapshot.position, snapshot.size}));
    json.back()["text"] = snapshot.text;
    json.back()["isa"] = snapshot.isa;
    json.back()["usable"] = !snapshot.stale;
    table.add({snapshot.name, with_commas(snapshot.position), with_commas(snapshot.size),
               snapshot.stale ? "cannot be used: it was made with other weights"
                              : beginning(snapshot.text)});
  }
  if (arguments.json) {
    write_output(json_document({{"model", arguments.model}, {"snapshots", json}}));
  } else if (json.empty()) {
    say(arguments.model + ": no prefix snapshots");
  } else {
    write_output(printable(table.to_string()));
  }
  return {};
}

Outcome remove(const SnapshotArguments& arguments) {
  const Status removed = remove_snapshot(arguments.model, arguments.name);
  // Of a file that is there, a name that is not is the user's slip.
  const bool slip =
      removed.code() == StatusCode::kNotFound && load_model_file(arguments.model).ok();
  if (slip) return Outcome::usage(removed.message());
  if (removed.ok() && arguments.json) {
    write_output(json_document({{"removed", arguments.name}}));
  }
  return Outcome::of_arguments(removed);
}

Outcome run(const SnapshotArguments& arguments) {
  const bool adds = arguments.action == "add";
  if (!adds && arguments.action != "list" && arguments.action != "remove") {
    return Outcome::usage("ACTION: '" + arguments.action + "' is none of add, list, remove");
  }
  if (!adds && (arguments.prompt || !arguments.prompt_file.empty() || arguments.force)) {
    return Outcome::usage("-f, -p and --force belong to add, not " + arguments.action);
  }
  if (arguments.action == "list") {
    if (arguments.name.empty()) return list(arguments);
    return Outcome::usage("--name belongs to add and remove; list shows all");
  }
  if (arguments.name.empty()) return Outcome::usage(arguments.action + ": --name is required");
  const std::string wrong = snapshot_name_error(arguments.name);
  if (!wrong.empty()) return Outcome::usage("--name: " + wrong);
  return adds ? add(arguments) : remove(arguments);
}

}  // namespace

Verb add_snapshot(CLI::App& moka) {
  auto arguments = std::make_shared<SnapshotArguments>();
  SnapshotArguments* a = arguments.get();
  CLI::App* app = add_verb(moka, "snapshot", "Keep the state behind a text in a model file",
                           kDescription, kExamples);
  app->add_option("ACTION", a->action, "add, list or remove")->required()->type_name("");
  add_model_argument(app, &a->model);
  app->add_option("--name", a->name, "Name of the snapshot, 1 to 64 bytes")->type_name("NAME");
  CLI::Option* prompt = app->add_option_function<std::string>(
      "-p,--prompt", [a](const std::string& text) { a->prompt = text; }, "The text");
  prompt->take_last()->type_name("TEXT");
  app->add_option("-f,--file", a->prompt_file, "Read the text from a file; - is stdin")
      ->type_name("FILE")
      ->excludes(prompt);
  app->add_flag("--force", a->force, "Replace the snapshot of that name");
  add_threads_option(app, &a->threads);
  add_json_flag(app, &a->json, "One JSON document on stdout");
  return {app, [arguments] { return run(*arguments); }};
}

}  // namespace moka::cli
