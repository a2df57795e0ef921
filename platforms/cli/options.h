// Verbs and their arguments: what CLI11 does not do the way Moka wants it.
//
// A wrong value is an error that names the option, the value and what would be right; main() adds
// the hint at --help and exits with kExitUsage.
#ifndef MOKA_PLATFORMS_CLI_OPTIONS_H_
#define MOKA_PLATFORMS_CLI_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "moka/model.h"
#include "platforms/cli/exit_codes.h"

namespace moka::cli {

// A verb: its part of the command line, and what it does once that has been read.
struct Verb {
  CLI::App* app = nullptr;
  std::function<Outcome()> run;
};

Verb add_run(CLI::App& moka);
Verb add_chat(CLI::App& moka);
Verb add_classify(CLI::App& moka);
Verb add_compare(CLI::App& moka);
Verb add_embed(CLI::App& moka);
Verb add_score(CLI::App& moka);
Verb add_forecast(CLI::App& moka);
Verb add_convert(CLI::App& moka);
Verb add_snapshot(CLI::App& moka);
Verb add_inspect(CLI::App& moka);
Verb add_verify(CLI::App& moka);
Verb add_eval(CLI::App& moka);
Verb add_logits(CLI::App& moka);
Verb add_bench(CLI::App& moka);

// Makes the verb's app; `examples` are shown as they are, `exit_notes` follow the list of exit
// codes that every verb shares (may be empty).
CLI::App* add_verb(CLI::App& moka, const std::string& name, const std::string& summary,
                   const std::string& description, const std::string& examples,
                   const std::string& exit_notes = "");

// The required first argument of most verbs.
void add_model_argument(CLI::App* app, std::string* path);
// --threads, 0 when it is not given; --json.
void add_threads_option(CLI::App* app, int* threads);
// --lookup: the most guesses at a time, 0 when it is not given.
void add_lookup_option(CLI::App* app, uint64_t* guesses);
void add_json_flag(CLI::App* app, bool* json, const std::string& what);

// Options whose value must be a number in [low, high]. The given one is kept when several are.
CLI::Option* add_whole(CLI::App* app, const std::string& names, std::function<void(uint64_t)> set,
                       const std::string& description, uint64_t low = 0,
                       uint64_t high = std::numeric_limits<uint64_t>::max());
CLI::Option* add_number(CLI::App* app, const std::string& names, std::function<void(double)> set,
                        const std::string& description, double low, double high);

// Nothing when `text` is not a whole number in [low, high] from its first to its last character.
std::optional<uint64_t> parse_whole(const std::string& text, uint64_t low, uint64_t high);

// Opens a model on `threads` threads; the only arguments that open() can refuse are the user's.
struct OpenedModel {
  std::optional<Model> model;
  Outcome outcome;  // set when there is no model
};
OpenedModel open_model(const std::string& path, int threads);

// --help, in the width of the terminal.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_help(const CLI::App* app, std::string name,
                        CLI::AppFormatMode mode) const override;
};

// The name in `candidates` that `word` is a slip of, or "".
std::string closest(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace moka::cli

#endif  // MOKA_PLATFORMS_CLI_OPTIONS_H_
