// `moka`, the command: reads the command line, runs one verb, turns its outcome into an exit code.
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "moka/version.h"
#include "platforms/cli/interrupt.h"
#include "platforms/cli/options.h"
#include "platforms/cli/terminal.h"
#include "platforms/cli/version.h"

namespace moka::cli {
namespace {

const char kFooter[] =
    "Examples:\n"
    "  moka run stories.moka -p \"Once upon a time\"    # write a text\n"
    "  moka chat stories.moka                         # write one in turns\n"
    "  moka classify sentiment.moka review.txt        # the class of a text, image, series\n"
    "  moka forecast weather.moka hourly.csv          # how a series goes on\n"
    "  moka convert my-model/ -o my-model.moka        # trained weights to a model file\n"
    "  moka inspect my-model.moka                     # what is in it, and what it needs\n"
    "  moka run --help                                # all about a verb\n"
    "\n"
    "stdout carries data and nothing else; messages, summaries and progress bars go\n"
    "to stderr. Every verb takes --json.\n"
    "\n"
    "Environment:\n"
    "  MOKA_ISA  force a set of compute kernels; `moka --version` lists those of this build\n"
    "\n"
    "Exit codes:\n"
    "  0 success, 1 failure, 2 wrong arguments, 3 missing, unreadable or corrupt file,\n"
    "  4 valid but unsupported model, 5 out of memory, 130 interrupted\n";

// What cannot be placed on the command line, with the name that was probably meant.
std::string extra_words(const CLI::App& app, bool is_verb) {
  const std::vector<std::string> extras = app.remaining(true);
  const std::string word = extras.empty() ? "" : extras.front();
  const bool option = word.rfind("-", 0) == 0;
  std::vector<std::string> known;
  if (option) {
    for (const CLI::Option* one : app.get_options()) {
      for (const std::string& name : one->get_lnames()) known.push_back("--" + name);
    }
  } else if (!is_verb) {
    for (const CLI::App* one : app.get_subcommands({})) known.push_back(one->get_name());
  }
  const std::string guess = closest(word.substr(0, word.find('=')), known);
  const std::string words = option     ? "there is no option '" + word + "'"
                            : !is_verb ? "there is no verb '" + word + "'"
                                       : "'" + word + "' is one argument too many";
  return words + (guess.empty() ? "" : "; did you mean '" + guess + "'?");
}

// CLI11's messages in Moka's words: the option, what is wrong, what would be right.
std::string parse_error_words(const CLI::App& app, bool is_verb, const CLI::ParseError& error) {
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) return extra_words(app, is_verb);
  const std::string words = error.what();
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr &&
      words.find("missing") != std::string::npos) {
    return words.substr(0, words.find(':')) + ": the value is missing";
  }
  if (words.find("At Most 1") != std::string::npos) {
    return words.substr(0, words.find(':')) + ": given more than once";
  }
  const size_t excludes = words.find(" excludes ");
  if (dynamic_cast<const CLI::ExcludesError*>(&error) != nullptr && excludes != std::string::npos) {
    return words.substr(0, excludes) + " and " + words.substr(excludes + 10) +
           " cannot be given together";
  }
  return words;
}

int finish(const std::string& name, const Outcome& outcome) {
  if (outcome.exit_code == kExitOk) {
    const Outcome output = output_outcome();  // a full disk behind stdout is not success
    if (!output.message.empty()) say(name + ": " + output.message);
    return output.exit_code;
  }
  if (outcome.exit_code == kExitInterrupted && interrupted()) {
    say(name + ": interrupted");
    return 128 + interrupt_signal();
  }
  if (!outcome.message.empty()) say(name + ": " + outcome.message);
  if (outcome.exit_code == kExitUsage) say("Try '" + name + " --help'.");
  return outcome.exit_code;
}

int run_command(int argc, char** argv) {
  CLI::App moka(
      "Runs Latte models: they write, classify, compare, embed and forecast, and the memory and "
      "speed of causal ones stay the same however long the text.",
      "moka");
  moka.formatter(std::make_shared<HelpFormatter>());
  moka.set_help_flag("-h,--help", "Show this text");
  bool version = false;
  moka.add_flag("--version", version, "Show version, compiler and compute kernels");
  moka.footer(kFooter);
  moka.require_subcommand(0, 1);
  std::vector<Verb> verbs;
  const auto add_group = [&](const char* title, std::initializer_list<Verb (*)(CLI::App&)> group) {
    for (const auto& add : group) {
      verbs.push_back(add(moka));
      verbs.back().app->group(title);
    }
  };
  add_group("Use a model",
            {add_run, add_chat, add_classify, add_compare, add_embed, add_score, add_forecast});
  add_group("Make and check models",
            {add_convert, add_snapshot, add_inspect, add_verify, add_eval, add_logits, add_bench});

  const auto chosen = [&]() -> const CLI::App* {
    const std::vector<CLI::App*> parsed = moka.get_subcommands();
    return parsed.empty() ? nullptr : parsed.front();
  };
  try {
    moka.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    write_output(moka.help());
    return finish("moka", {});
  } catch (const CLI::ParseError& error) {
    const CLI::App* verb = chosen();
    const std::string name = verb == nullptr ? "moka" : "moka " + verb->get_name();
    const CLI::App& where = verb == nullptr ? moka : *verb;
    return finish(name, Outcome::usage(parse_error_words(where, verb != nullptr, error)));
  }
  if (version) {
    write_output(version_text());
    return finish("moka", {});
  }
  for (const Verb& verb : verbs) {
    if (verb.app->parsed()) return finish("moka " + verb.app->get_name(), verb.run());
  }
  std::string names;
  for (size_t i = 0; i < verbs.size(); i++) {
    names += (i == 0 ? "" : i + 1 == verbs.size() ? " or " : ", ") + verbs[i].app->get_name();
  }
  return finish("moka", Outcome::usage("a verb is needed: " + names));
}

}  // namespace
}  // namespace moka::cli

int main(int argc, char** argv) {
  moka::cli::install_signal_handlers();
  try {
    return moka::cli::run_command(argc, argv);
  } catch (const std::bad_alloc&) {
    moka::cli::say("moka: out of memory");
    return moka::cli::kExitOutOfMemory;
  } catch (const std::exception& error) {
    moka::cli::say(std::string("moka: ") + error.what());
    return moka::cli::kExitFailure;
  }
}
