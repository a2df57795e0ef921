#include "platforms/cli/options.h"

#include <errno.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "platforms/cli/interrupt.h"
#include "platforms/cli/terminal.h"

namespace moka::cli {
namespace {

constexpr uint64_t kMaxThreads = 256;

const char kExitCodes[] =
    "Exit codes:\n"
    "  0    success\n"
    "  1    failure\n"
    "  2    wrong arguments\n"
    "  3    a file is missing, unreadable or corrupt\n"
    "  4    a valid model that this verb or build cannot run, or of a newer format\n"
    "  5    out of memory\n"
    "  130  interrupted with Ctrl-C (a second Ctrl-C ends at once)\n";

// As the user wrote it or might have: the long name where there is one.
std::string option_title(const CLI::Option* option) {
  if (option->get_positional()) return option->get_name(true, false);
  std::string title;
  for (const std::string& name : option->get_snames())
    title += (title.empty() ? "-" : ", -") + name;
  for (const std::string& name : option->get_lnames())
    title += (title.empty() ? "--" : ", --") + name;
  return title;
}

std::string last_name(const std::string& names) {
  return names.substr(names.rfind(',') == std::string::npos ? 0 : names.rfind(',') + 1);
}

std::string section(const std::string& title,
                    const std::vector<std::pair<std::string, std::string>>& lines, size_t width,
                    size_t column = 0) {
  if (lines.empty()) return "";
  for (const auto& line : lines) column = std::max(column, line.first.size());
  column = std::min<size_t>(column + 4, 28);
  std::string out = "\n" + title + ":\n";
  for (const auto& [left, right] : lines) {
    out += "  " + left;
    if (left.size() + 4 > column) {
      out += "\n" + std::string(column, ' ');
    } else {
      out.append(column - left.size() - 2, ' ');
    }
    out += wrap(right, width, column) + "\n";
  }
  return out;
}

}  // namespace

CLI::App* add_verb(CLI::App& moka, const std::string& name, const std::string& summary,
                   const std::string& description, const std::string& examples,
                   const std::string& exit_notes) {
  CLI::App* app = moka.add_subcommand(name, summary);
  app->set_help_flag("-h,--help", "Show this text");
  std::string footer = "Examples:\n" + examples + "\n" + kExitCodes;
  if (!exit_notes.empty()) footer += exit_notes;
  app->footer(footer);
  // CLI11 keeps one text per app: the summary for the list of verbs, then the long one for help.
  app->description(summary + "\n\n" + description);
  return app;
}

void add_model_argument(CLI::App* app, std::string* path) {
  app->add_option("MODEL", *path, "The model, a .moka file")->required()->type_name("");
}

void add_threads_option(CLI::App* app, int* threads) {
  add_whole(
      app, "--threads", [threads](uint64_t value) { *threads = static_cast<int>(value); },
      "Threads to compute with (default: one per core, at most 4). Results do not depend on it", 1,
      kMaxThreads);
}

void add_lookup_option(CLI::App* app, uint64_t* guesses) {
  add_whole(
      app, "--lookup", [guesses](uint64_t n) { *guesses = n; },
      "Guess up to N tokens at a time from what was read and written before; the text stays the "
      "same (default: 0, never)",
      0, Session::kMostGuesses);
}

void add_json_flag(CLI::App* app, bool* json, const std::string& what) {
  app->add_flag("--json", *json, what);
}

CLI::Option* add_whole(CLI::App* app, const std::string& names, std::function<void(uint64_t)> set,
                       const std::string& description, uint64_t low, uint64_t high) {
  const std::string name = last_name(names);
  const auto parse = [name, set, low, high](const std::string& text) {
    const std::optional<uint64_t> value = parse_whole(text, low, high);
    if (!value) {
      const bool bounded = high != std::numeric_limits<uint64_t>::max();
      throw CLI::ValidationError(
          name, "'" + text + "' is not a whole number " +
                    (bounded ? "from " + std::to_string(low) + " to " + std::to_string(high)
                             : "of " + std::to_string(low) + " or more"));
    }
    set(*value);
  };
  return app->add_option_function<std::string>(names, parse, description)
      ->take_last()
      ->type_name("N");
}

CLI::Option* add_number(CLI::App* app, const std::string& names, std::function<void(double)> set,
                        const std::string& description, double low, double high) {
  const std::string name = last_name(names);
  const auto parse = [name, set, low, high](const std::string& text) {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    const bool whole_text =
        !text.empty() && *end == '\0' && (std::isdigit(text[0]) || text[0] == '.');
    if (!whole_text || !(value >= low && value <= high)) {
      char range[64];
      std::snprintf(range, sizeof(range), "from %g to %g", low, high);
      throw CLI::ValidationError(name, "'" + text + "' is not a number " + range);
    }
    set(value);
  };
  return app->add_option_function<std::string>(names, parse, description)
      ->take_last()
      ->type_name("X");
}

std::optional<uint64_t> parse_whole(const std::string& text, uint64_t low, uint64_t high) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (value < low || value > high) return std::nullopt;
  return value;
}

OpenedModel open_model(const std::string& path, int threads) {
  OpenOptions options;
  options.executor.threads = threads;
  const HoldSignals hold;  // the model starts the threads that it computes with
  Result<Model> model = Model::open(path, options);
  OpenedModel opened;
  if (model.ok()) {
    opened.model = std::move(model).value();
  } else {
    opened.outcome = Outcome::of_arguments(model.status());
  }
  return opened;
}

std::string HelpFormatter::make_help(const CLI::App* app, std::string name,
                                     CLI::AppFormatMode) const {
  const size_t width = std::min<size_t>(terminal_width(STDOUT_FILENO), 100);
  using Lines = std::vector<std::pair<std::string, std::string>>;
  Lines arguments, options;
  std::string positionals;
  for (const CLI::Option* option : app->get_options()) {
    std::string title = option_title(option);
    if (option->get_positional()) {
      arguments.emplace_back(title, option->get_description());
      if (option->get_items_expected_max() > 1) title += "...";
      positionals += " " + (option->get_required() ? title : "[" + title + "]");
    } else {
      const std::string type = option->get_type_size() == 0 ? "" : option->get_type_name();
      if (!type.empty()) title += " " + type;
      if (option->get_required()) {
        const std::string flag = last_name(option_title(option));
        positionals += " " + flag.substr(flag.find('-')) + " " + type;
      }
      options.emplace_back(title, option->get_description());
    }
  }
  std::vector<std::pair<std::string, Lines>> groups;  // of verbs
  for (const CLI::App* verb : app->get_subcommands({})) {
    const std::string text = verb->get_description();
    if (groups.empty() || groups.back().first != verb->get_group()) {
      groups.emplace_back(verb->get_group(), Lines());
    }
    groups.back().second.emplace_back(verb->get_name(), text.substr(0, text.find('\n')));
  }
  std::string out =
      "usage: " + name + (groups.empty() ? "" : " VERB") + positionals + " [options]\n\n";
  out += wrap(app->get_description(), width, 0) + "\n";
  size_t longest = 0;  // of the names of all groups, so that they stand in one column
  for (const auto& group : groups) {
    for (const auto& verb : group.second) longest = std::max(longest, verb.first.size());
  }
  for (const auto& [title, verbs] : groups) out += section(title, verbs, width, longest);
  out += section("Arguments", arguments, width) + section("Options", options, width);
  return out + "\n" + app->get_footer();
}

std::string closest(const std::string& word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_distance = std::max<size_t>(word.size() / 3, 1) + 1;
  for (const std::string& candidate : candidates) {
    // Edit distance, one row at a time.
    std::vector<size_t> row(candidate.size() + 1);
    for (size_t j = 0; j < row.size(); j++) row[j] = j;
    for (size_t i = 1; i <= word.size(); i++) {
      size_t diagonal = row[0];
      row[0] = i;
      for (size_t j = 1; j < row.size(); j++) {
        const size_t replaced = diagonal + (word[i - 1] == candidate[j - 1] ? 0 : 1);
        diagonal = row[j];
        row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
      }
    }
    if (row.back() < best_distance) {
      best_distance = row.back();
      best = candidate;
    }
  }
  return best;
}

}  // namespace moka::cli
