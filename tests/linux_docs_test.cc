// Man page and completions are made from the command's --help; nothing of it may be lost on the way.
#include <algorithm>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "doctest/doctest.h"
#include "tests/process.h"

namespace moka::test {
namespace {

const std::string kScript = std::string(MOKA_SOURCE_DIR) + "/platforms/linux/make_docs.py";

std::string help_of(const std::string& verb) {
  std::vector<std::string> command = {MOKA_COMMAND};
  if (!verb.empty()) command.push_back(verb);
  command.push_back("--help");
  const ProcessResult help = run_process(command);
  REQUIRE(help.exit_code == 0);
  return help.out;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// Long and short names of the section "Options:".
std::set<std::string> options_in(const std::string& help) {
  std::set<std::string> names;
  bool inside = false;
  for (const std::string& line : lines_of(help)) {
    if (line.empty()) inside = false;
    if (line == "Options:") inside = true;
    if (!inside || line.rfind("  -", 0) != 0) continue;
    std::istringstream words(line);
    for (std::string word; words >> word && word[0] == '-';) {
      if (word.back() == ',') word.pop_back();
      names.insert(word);
    }
  }
  return names;
}

std::set<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  std::set<std::string> words;
  for (std::string word; stream >> word;) words.insert(word);
  return words;
}

// What lies between two marks, the first after `from`.
std::string between(const std::string& text, const std::string& open, const std::string& close,
                    size_t from = 0) {
  const size_t begin = text.find(open, from);
  if (begin == std::string::npos) return "";
  const size_t end = text.find(close, begin + open.size());
  return text.substr(begin + open.size(), end - begin - open.size());
}

// Names that stand bold in front of a description, unescaped.
std::set<std::string> options_in_man(const std::string& section) {
  std::set<std::string> names;
  for (size_t at = section.find("\\fB\\-"); at != std::string::npos;
       at = section.find("\\fB\\-", at + 1)) {
    std::string name;
    for (const char c : section.substr(at + 3, section.find("\\fR", at) - at - 3)) {
      if (c != '\\') name += c;
    }
    names.insert(name);
  }
  return names;
}

std::set<std::string> options_in_zsh(const std::string& branch) {
  std::set<std::string> names;
  for (const std::string& line : lines_of(branch)) {
    std::string list = between(line, "'*'{", "}");
    if (list.empty()) list = between(line, "'*-", "'").insert(0, "-");
    if (list == "-") continue;
    std::replace(list.begin(), list.end(), ',', ' ');
    for (const std::string& name : words_of(list)) names.insert(name);
  }
  return names;
}

std::set<std::string> options_in_fish(const std::string& file, const std::string& condition) {
  std::set<std::string> names;
  for (const std::string& line : lines_of(file)) {
    if (line.find("-n '" + condition + "'") == std::string::npos) continue;
    std::istringstream words(line.substr(0, line.find(" -d ")));
    for (std::string word, value; words >> word;) {
      if (word == "-s" && words >> value) names.insert("-" + value);
      if (word == "-l" && words >> value) names.insert("--" + value);
    }
  }
  return names;
}

std::vector<std::string> verbs() {
  std::vector<std::string> names;
  for (const std::string& line : lines_of(help_of(""))) {
    if (line == "Options:") break;
    if (line.rfind("  ", 0) == 0) names.push_back(line.substr(2, line.find(' ', 2) - 2));
  }
  return names;
}

}  // namespace

TEST_CASE("linux docs: man page and completions have every verb and option of --help") {
  const TemporaryFolder folder;
  const ProcessResult made =
      run_process({"/usr/bin/env", "python3", kScript, "--out", folder.path(), MOKA_COMMAND});
  REQUIRE_MESSAGE(made.exit_code == 0, made.err);
  const std::string man = read_file(folder / "moka.1"), bash = read_file(folder / "moka.bash");
  const std::string zsh = read_file(folder / "_moka"), fish = read_file(folder / "moka.fish");

  const std::vector<std::string> names = verbs();
  REQUIRE(names.size() >= 14);
  std::set<std::string> offered = words_of(between(bash, "compgen -W \"", "\""));
  for (const std::string& option : options_in(help_of(""))) CHECK(offered.erase(option) == 1);
  CHECK(offered == std::set<std::string>(names.begin(), names.end()));
  for (const std::string& name : names) {
    CAPTURE(name);
    const std::set<std::string> options = options_in(help_of(name));
    CHECK(options.count("--help") == 1);
    CHECK(options.size() >= 3);
    const size_t section = man.find("\n.SS moka " + name + " ");
    REQUIRE(section != std::string::npos);
    CHECK(options_in_man(between(man, "\n.SS ", "\n.S", section)) == options);
    CHECK(words_of(between(bash, "\n    " + name + ")\n      options='", "'")) == options);
    CHECK(options_in_zsh(between(zsh, "\n    " + name + ")\n", ";;")) == options);
    CHECK(zsh.find("      '" + name + ":") != std::string::npos);
    CHECK(options_in_fish(fish, "__fish_seen_subcommand_from " + name) == options);
    CHECK(fish.find("-n __fish_use_subcommand -a " + name + " ") != std::string::npos);
  }
}

TEST_CASE("linux docs: a help that is not understood is an error, and nothing is written") {
  const TemporaryFolder folder;
  const std::string command = folder / "moka", out = folder / "out";
  const auto make = [&](const std::string& help) {
    write_file(folder / "help", help);
    write_file(command, "cat '" + (folder / "help") + "'\n");
    return run_process({"/usr/bin/env", "python3", kScript, "--out", out, "/bin/sh", command});
  };
  ProcessResult result = make("hello\n");
  CHECK(result.exit_code == 1);
  CHECK(result.err == "make_docs.py: moka --help does not begin with 'usage: moka'\n");
  result = make("usage: moka VERB\n\nOptions:\n  -q quiet\n");
  CHECK(result.exit_code == 1);
  CHECK(result.err ==
        "make_docs.py: moka --help, section 'Options': this line is no row: '  -q quiet'\n");
  result = make("usage: moka VERB\n\nOptions:\n  -h, --help  Show this text\n");
  CHECK(result.exit_code == 1);
  CHECK(result.err == "make_docs.py: moka --help lists no verbs\n");
  result = run_process({"/bin/ls", out});
  CHECK(result.exit_code != 0);
}

}  // namespace moka::test
