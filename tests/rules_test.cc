// House rules of the source tree that no compiler checks: who may include what, what the runtime
// may not say, sizes, spelling. Each finding says the file, the line and why the rule is there.
#include <doctest/doctest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "tests/process.h"

namespace moka::test {
namespace {

namespace fs = std::filesystem;

struct Include {
  size_t line;
  std::string name;  // without its quotes or angle brackets
  bool angled;
};

// One text file of the project.
struct Source {
  std::string path;  // from the project's root, with '/'
  std::string text;
  std::string code;  // C++ only: comments and the insides of literals are blank
  std::vector<Include> includes;
};

bool starts_with(const std::string& text, const std::string& prefix) {
  return text.compare(0, prefix.size(), prefix) == 0;
}
bool ends_with(const std::string& text, const std::string& suffix) {
  return text.size() >= suffix.size() &&
         text.compare(text.size() - suffix.size(), suffix.size(), suffix) == 0;
}
bool is_cpp(const std::string& path) { return ends_with(path, ".cc") || ends_with(path, ".h"); }
bool is_generated(const std::string& path) { return ends_with(path, "_generated.h"); }
bool is_public(const std::string& path) { return starts_with(path, "runtime/include/moka/"); }
// The headers of the C interface.
const std::string kCHeaders = "platforms/capi/include/";
bool is_public_c(const std::string& path) { return starts_with(path, kCHeaders); }
bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

// Blanks comments and the insides of string and character literals; newlines stay.
std::string without_words(const std::string& text) {
  std::string code = text;
  const auto blank = [&](size_t from, size_t to) {
    for (size_t i = from; i < to && i < code.size(); ++i) {
      if (code[i] != '\n') code[i] = ' ';
    }
  };
  for (size_t i = 0; i < text.size();) {
    size_t end = i + 1;
    if (text.compare(i, 2, "//") == 0) {
      end = std::min(text.find('\n', i), text.size());
      blank(i, end);
    } else if (text.compare(i, 2, "/*") == 0) {
      end = std::min(text.find("*/", i + 2), text.size() - 2) + 2;
      blank(i, end);
    } else if (text.compare(i, 2, "R\"") == 0 && (i == 0 || !is_word(text[i - 1]))) {
      const size_t open = std::min(text.find('(', i), text.size());
      const std::string close = ")" + text.substr(i + 2, open - i - 2) + "\"";
      end = std::min(text.find(close, open), text.size());
      blank(open + 1, end);
      end = std::min(end + close.size(), text.size());
    } else if (text[i] == '"' || (text[i] == '\'' && (i == 0 || !is_word(text[i - 1])))) {
      while (end < text.size() && text[end] != text[i] && text[end] != '\n') {
        end += text[end] == '\\' ? 2 : 1;
      }
      blank(i + 1, end);
      end = std::min(end + 1, text.size());
    }
    i = end;
  }
  return code;
}

Source make_source(const std::string& path, const std::string& text) {
  Source source{path, text, "", {}};
  if (!is_cpp(path)) return source;
  source.code = without_words(text);
  std::istringstream lines(text);
  std::string line;
  for (size_t number = 1; std::getline(lines, line); ++number) {
    if (!starts_with(line, "#include ") || line.size() < 12) continue;
    const size_t close = line.find_first_of(line[9] == '<' ? ">" : "\"", 10);
    if (close == std::string::npos) continue;
    source.includes.push_back({number, line.substr(10, close - 10), line[9] == '<'});
  }
  return source;
}

// All files that people of the project write.
const std::vector<Source>& sources() {
  static const std::vector<Source> kSources = [] {
    std::vector<Source> found;
    const fs::path root = MOKA_SOURCE_DIR;
    for (const char* folder : {"runtime", "schema", "converter", "platforms", "tests", "cmake"}) {
      for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
        const std::string path = fs::relative(entry.path(), root).generic_string();
        if (!entry.is_regular_file() || starts_with(path, "tests/data/")) continue;
        const std::string extension = entry.path().extension().string();
        bool known = false;
        for (const char* e : {".cc", ".h", ".py", ".sh", ".cmake", ".txt", ".fbs"}) {
          known = known || extension == e;
        }
        if (!known) continue;
        std::ifstream file(entry.path(), std::ios::binary);
        std::ostringstream text;
        text << file.rdbuf();
        found.push_back(make_source(path, text.str()));
      }
    }
    return found;
  }();
  return kSources;
}

using Findings = std::vector<std::string>;
using Rule = std::function<void(const Source&, Findings*)>;

size_t line_at(const std::string& text, size_t at) {
  return 1 + static_cast<size_t>(
                 std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n'));
}

void report(const Source& source, size_t line, const std::string& what, Findings* findings) {
  findings->push_back(source.path + ":" + std::to_string(line) + ": " + what);
}

void check_tree(const Rule& rule) {
  REQUIRE(sources().size() > 20);
  Findings findings;
  for (const Source& source : sources()) rule(source, &findings);
  for (const std::string& finding : findings) FAIL_CHECK(finding);
}

// What the rule says of one invented file.
Findings findings_of(const Rule& rule, const std::string& path, const std::string& text) {
  Findings findings;
  rule(make_source(path, text), &findings);
  return findings;
}

// ---- owners of outside libraries ---------------------------------------------------------------

struct Owner {
  const char* header;  // how the included name begins
  std::vector<const char*> files;
  const char* why;
};

const std::vector<Owner>& owners() {
  static const char* kOneFile = "a library with one owner can be replaced by changing that file";
  static const char* kNotRuntime = "what apps embed must not need it";
  static const std::vector<Owner> kOwners = {
      {"xnnpack.h", {"runtime/dense_float.cc", "runtime/convolution.cc"}, kOneFile},
      {"pthreadpool.h", {"runtime/thread_pool.cc"}, kOneFile},
      {"cpuinfo.h", {"runtime/kernels/cpu.cc"}, kOneFile},
      {"utf8proc.h", {"runtime/text/"}, kOneFile},
      {"xxhash.h", {"runtime/checksum.cc"}, kOneFile},
      {"flatbuffers/",
       {"schema/moka_generated.h", "runtime/loader", "converter/writer"},
       "only loader and writer know the file's layout"},
      {"schema/moka_generated.h",
       {"runtime/loader", "converter/writer"},
       "only loader and writer know the file's layout"},
      {"nlohmann/", {"converter/", "platforms/cli/", "tests/"}, kNotRuntime},
      {"CLI/", {"platforms/cli/"}, kNotRuntime},
      {"lodepng.h", {"platforms/cli/image.cc"}, kOneFile},
      {"zstd.h", {"converter/zstd_stream.cc"}, kOneFile},
      {"doctest", {"tests/"}, kNotRuntime},
      {"benchmark/", {"tests/bench/"}, kNotRuntime},
      {"immintrin.h",
       {"runtime/kernels/isa_", "runtime/kernels/dense_"},
       "intrinsics stay where their CPU is asked for"},
      {"emmintrin.h",
       {"runtime/kernels/isa_", "runtime/kernels/dense_"},
       "intrinsics stay where their CPU is asked for"},
      {"arm_neon.h",
       {"runtime/kernels/isa_", "runtime/kernels/dense_"},
       "intrinsics stay where their CPU is asked for"},
      {"wasm_simd128.h",
       {"runtime/kernels/isa_", "runtime/kernels/dense_"},
       "intrinsics stay where their CPU is asked for"},
  };
  return kOwners;
}

void owners_rule(const Source& source, Findings* findings) {
  for (const Include& include : source.includes) {
    for (const Owner& owner : owners()) {
      if (!starts_with(include.name, owner.header)) continue;
      bool allowed = false;
      std::string names;
      for (const char* file : owner.files) {
        allowed = allowed || starts_with(source.path, file);
        names += std::string(names.empty() ? "" : ", ") + file;
      }
      if (allowed) continue;
      report(source, include.line,
             "includes " + include.name + ", which only " + names + " may: " + owner.why, findings);
    }
  }
}

// ---- directions --------------------------------------------------------------------------------

void direction_rule(const Source& source, Findings* findings) {
  const auto forbid = [&](const char* from, std::initializer_list<const char*> to,
                          const char* why) {
    if (!starts_with(source.path, from)) return;
    for (const Include& include : source.includes) {
      for (const char* folder : to) {
        if (!starts_with(include.name, folder)) continue;
        report(source, include.line,
               std::string(from) + " must not include " + include.name + ": " + why, findings);
      }
    }
  };
  forbid("runtime/", {"converter/", "platforms/", "tests/"}, "apps embed the runtime alone");
  forbid("converter/", {"platforms/", "tests/"}, "it serves other programs than the command too");
  forbid("platforms/", {"tests/"}, "programs are built without tests");
  forbid("runtime/", {"moka.h", "moka_"}, "the C interface stands on the runtime");
  forbid("converter/", {"moka.h", "moka_"}, "it is written in C++");
  forbid("platforms/capi/", {"converter/", "platforms/cli/"},
         "apps embed it with the runtime alone");
  for (const Include& include : source.includes) {
    // A fuzz target is one file to the build and may take what it needs of the tests' sources.
    const bool whole_source =
        ends_with(include.name, ".cc") && !starts_with(source.path, "tests/fuzz/");
    if (whole_source || include.name.find("..") != std::string::npos) {
      report(source, include.line,
             "includes " + include.name + ": include headers, by their path from the root",
             findings);
    }
    if (is_public_c(source.path)) {
      if (include.name == "stddef.h" || include.name == "stdint.h") continue;
      const bool own = starts_with(include.name, "moka.h") || starts_with(include.name, "moka_");
      if (!include.angled && own) continue;
      report(source, include.line,
             "a header for C includes " + include.name + ", but C99 and its own must do", findings);
    }
    if (!is_public(source.path)) continue;
    const bool standard = include.angled && include.name.find_first_of("./") == std::string::npos;
    if (!standard && !starts_with(include.name, "moka/")) {
      report(source, include.line,
             "a public header includes " + include.name +
                 ", but users have only the public headers and the standard library",
             findings);
    }
  }
}

// ---- words -------------------------------------------------------------------------------------

struct Word {
  const char* word;
  bool called;  // only before a parenthesis
  const char* why;
};

void words_rule(const Source& source, Findings* findings) {
  static const char* kSilent = "the runtime reports by Status and prints nothing";
  static const char* kAlive = "the runtime reports by Status and never ends its process";
  static const Word kWords[] = {
      {"printf", true, kSilent},
      {"fprintf", true, kSilent},
      {"vfprintf", true, kSilent},
      {"puts", true, kSilent},
      {"fputs", true, kSilent},
      {"putchar", true, kSilent},
      {"perror", true, kSilent},
      {"cout", false, kSilent},
      {"cerr", false, kSilent},
      {"clog", false, kSilent},
      {"stdout", false, kSilent},
      {"stderr", false, kSilent},
      {"iostream", false, kSilent},
      {"abort", true, kAlive},
      {"exit", true, kAlive},
      {"_exit", true, kAlive},
      {"quick_exit", true, kAlive},
      {"terminate", true, kAlive},
      {"assert", true, kAlive},
      {"raise", true, kAlive},
      {"__builtin_trap", true, kAlive},
      {"throw", false, "the runtime reports by Status and throws nothing across its API"},
      {"setlocale", true, "the process's settings belong to the app"},
      {"setenv", true, "the process's settings belong to the app"},
      {"signal", true, "the process's settings belong to the app"},
      {"srand", true, "the process's settings belong to the app"},
  };
  if (!starts_with(source.path, "runtime/") && !starts_with(source.path, "platforms/capi/")) return;
  for (const Word& word : kWords) {
    const std::string name = word.word;
    for (size_t at = source.code.find(name); at != std::string::npos;
         at = source.code.find(name, at + 1)) {
      const size_t end = at + name.size();
      const bool whole = (at == 0 || !is_word(source.code[at - 1])) &&
                         (end == source.code.size() || !is_word(source.code[end]));
      const size_t next = source.code.find_first_not_of(' ', end);
      const bool called = next != std::string::npos && source.code[next] == '(';
      if (!whole || (word.called && !called)) continue;
      report(source, line_at(source.code, at), "'" + name + "': " + word.why, findings);
    }
  }
}

void kernels_rule(const Source& source, Findings* findings) {
  if (!starts_with(source.path, "runtime/kernels/") || !ends_with(source.path, "-inl.h")) return;
  for (const char* word : {"std::vector", "std::string", "malloc", "new ", "thread_local"}) {
    const size_t at = source.code.find(word);
    if (at == std::string::npos) continue;
    report(source, line_at(source.code, at),
           std::string("'") + word + "': kernels allocate nothing and keep no state", findings);
  }
  for (const Include& include : source.includes) {
    if (ends_with(include.name, "-inl.h")) continue;
    report(source, include.line,
           "includes " + include.name +
               " inside a target region: its functions could be compiled for a CPU that is not "
               "there; isa.h includes what kernels need",
           findings);
  }
}

// ---- form --------------------------------------------------------------------------------------

void size_rule(const Source& source, Findings* findings) {
  const bool counted = is_cpp(source.path) || ends_with(source.path, ".py");
  if (!counted || is_generated(source.path)) return;
  const size_t lines = line_at(source.text, source.text.size()) - 1;
  const size_t limit = is_public(source.path) ? 200 : 600;
  if (lines > limit) {
    report(source, lines,
           "has " + std::to_string(lines) + " lines, at most " + std::to_string(limit) +
               ": split what tells more than one story",
           findings);
  }
}

void spelling_rule(const Source& source, Findings* findings) {
  for (size_t i = 0; i < source.text.size(); ++i) {
    const char c = source.text[i];
    if (c == '\n' || (c >= ' ' && c <= '~')) continue;
    report(source, line_at(source.text, i),
           c == '\t'
               ? "a tab: indent with spaces"
               : "a byte that is not printable ASCII: editors and compilers disagree on others; "
                 "write \\u or \\x escapes",
           findings);
    return;
  }
  if (!source.text.empty() && source.text.back() != '\n') {
    report(source, line_at(source.text, source.text.size()), "the last line has no end", findings);
  }
}

void guard_rule(const Source& source, Findings* findings) {
  if (!ends_with(source.path, ".h") || ends_with(source.path, "-inl.h")) return;
  if (is_generated(source.path)) return;
  const std::string path = is_public(source.path)
                               ? source.path.substr(sizeof("runtime/include/moka/") - 1)
                           : is_public_c(source.path) ? "c/" + source.path.substr(kCHeaders.size())
                                                      : source.path;
  std::string guard = "MOKA_";
  for (const char c : path) {
    guard += is_word(c) ? static_cast<char>(std::toupper(static_cast<unsigned char>(c))) : '_';
  }
  guard += '_';
  if (source.code.find("#ifndef " + guard + "\n#define " + guard + "\n") == std::string::npos) {
    report(source, 1, "expected the include guard " + guard + ": two equal guards hide a header",
           findings);
  }
}

}  // namespace

TEST_CASE("rules: each outside library has one owner") { check_tree(owners_rule); }
TEST_CASE("rules: includes point one way") { check_tree(direction_rule); }
TEST_CASE("rules: the runtime neither prints, ends the process nor throws") {
  check_tree(words_rule);
}
TEST_CASE("rules: kernels hold no memory and no outside functions") { check_tree(kernels_rule); }
TEST_CASE("rules: sizes of files") { check_tree(size_rule); }
TEST_CASE("rules: printable ASCII, no tabs, whole last lines") { check_tree(spelling_rule); }
TEST_CASE("rules: include guards follow paths") { check_tree(guard_rule); }

TEST_CASE("rules: the generated header says so") {
  bool found = false;
  for (const Source& source : sources()) {
    if (source.path != "schema/moka_generated.h") continue;
    found = true;
    CHECK(source.text.substr(0, source.text.find('\n')).find("automatically generated") !=
          std::string::npos);
  }
  CHECK(found);
}

TEST_CASE("rules: the rules see what breaks them") {
  CHECK(findings_of(owners_rule, "runtime/model.cc", "\n#include <xnnpack.h>\n").size() == 1);
  CHECK(findings_of(owners_rule, "runtime/dense_float.cc", "#include <xnnpack.h>\n").empty());
  CHECK(findings_of(owners_rule, "runtime/state.cc", "#include \"nlohmann/json.hpp\"\n").size() ==
        1);
  CHECK(findings_of(owners_rule, "runtime/plan.cc", "#include \"schema/moka_generated.h\"\n")
            .size() == 1);
  CHECK(findings_of(owners_rule, "tests/x_test.cc", "#include <immintrin.h>\n").size() == 1);

  CHECK(findings_of(direction_rule, "runtime/a.cc", "#include \"converter/file.h\"\n").size() == 1);
  CHECK(
      findings_of(direction_rule, "converter/a.cc", "#include \"platforms/cli/json.h\"\n").size() ==
      1);
  CHECK(findings_of(direction_rule, "converter/a.cc", "#include \"runtime/plan.h\"\n").empty());
  CHECK(findings_of(direction_rule, "runtime/a.cc", "#include \"../a.h\"\n").size() == 1);
  CHECK(findings_of(direction_rule, "tests/a.cc", "#include \"tests/b.cc\"\n").size() == 1);
  const std::string header = "runtime/include/moka/a.h";
  CHECK(findings_of(direction_rule, header, "#include \"runtime/plan.h\"\n").size() == 1);
  CHECK(findings_of(direction_rule, header, "#include <unistd.h>\n").size() == 1);
  CHECK(
      findings_of(direction_rule, header, "#include <vector>\n#include \"moka/span.h\"\n").empty());

  CHECK(findings_of(words_rule, "runtime/a.cc", "void f() { std::printf(\"x\"); }\n").size() == 1);
  CHECK(findings_of(words_rule, "runtime/a.cc", "int n = snprintf(s, 3, \"printf(\");\n").empty());
  CHECK(findings_of(words_rule, "runtime/a.cc", "// never abort()\n/* throw */ f(R\"(exit())\");\n")
            .empty());
  CHECK(findings_of(words_rule, "runtime/a.cc", "char c = '\"'; throw 1;\n").size() == 1);
  CHECK(findings_of(words_rule, "runtime/a.cc", "static_assert(true); on_exit_(1);\n").empty());
  CHECK(findings_of(words_rule, "converter/a.cc", "throw 1;\n").empty());

  const std::string kernel = "runtime/kernels/a-inl.h";
  CHECK(findings_of(kernels_rule, kernel, "std::vector<float> x;\n").size() == 1);
  CHECK(findings_of(kernels_rule, kernel, "#include <cmath>\n").size() == 1);

  const std::string c_header = "platforms/capi/include/moka_a.h";
  CHECK(findings_of(direction_rule, c_header, "#include <vector>\n").size() == 1);
  CHECK(findings_of(direction_rule, c_header, "#include \"moka/span.h\"\n").size() == 1);
  CHECK(
      findings_of(direction_rule, c_header, "#include <stdint.h>\n#include \"moka.h\"\n").empty());
  CHECK(findings_of(direction_rule, "runtime/a.cc", "#include \"moka.h\"\n").size() == 1);
  CHECK(findings_of(direction_rule, "runtime/a.cc", "#include \"moka/moka.h\"\n").empty());
  CHECK(findings_of(direction_rule, "platforms/capi/a.cc", "#include \"platforms/cli/json.h\"\n")
            .size() == 1);
  CHECK(findings_of(words_rule, "platforms/capi/a.cc", "throw 1;\n").size() == 1);
  CHECK(findings_of(guard_rule, c_header, "#ifndef MOKA_C_MOKA_A_H_\n#define MOKA_C_MOKA_A_H_\n")
            .empty());

  const std::string lines(601, '\n');
  CHECK(findings_of(size_rule, "tests/a.cc", lines).size() == 1);
  CHECK(findings_of(size_rule, "tests/a.cc", lines.substr(1)).empty());
  CHECK(findings_of(size_rule, header, lines.substr(400)).size() == 1);
  CHECK(findings_of(spelling_rule, "cmake/a.cmake", "a\xc3\xa9\n").size() == 1);
  CHECK(findings_of(spelling_rule, "runtime/a.cc", "\tint a;\n").size() == 1);
  CHECK(findings_of(spelling_rule, "runtime/a.cc", "int a;").size() == 1);
  CHECK(findings_of(guard_rule, "runtime/a.h", "#ifndef MOKA_A_H_\n#define MOKA_A_H_\n").size() ==
        1);
  CHECK(findings_of(guard_rule, header, "#ifndef MOKA_A_H_\n#define MOKA_A_H_\n").empty());
}

// A static library shares one name space with the app that links it.
TEST_CASE("rules: the library defines names of its own namespace only") {
  const fs::path library = fs::path(MOKA_COMMAND).parent_path() / "libmoka.a";
  if (!fs::exists(library)) {
    MESSAGE("skipped: there is no " << library.string());
    return;
  }
  const ProcessResult symbols = run_process(
      {"/usr/bin/env", "nm", "--demangle", "--defined-only", "--extern-only", library.string()});
  if (symbols.exit_code != 0) {
    MESSAGE("skipped: nm is not here or cannot read " << library.string() << ": " << symbols.err);
    return;
  }
  std::istringstream lines(symbols.out);
  std::string line;
  size_t own = 0;
  while (std::getline(lines, line)) {
    // "0000000000000000 T moka::Model::open(...)"; weak ones are shared templates and inlines.
    const size_t kind = line.find_first_not_of("0123456789abcdef");
    if (kind == std::string::npos || kind == 0 || kind + 3 >= line.size() || line[kind] != ' ')
      continue;
    const char type = line[kind + 1];
    std::string name = line.substr(kind + 3);
    if (type == 'W' || type == 'V' || type == 'u') continue;
    if (starts_with(name, "__odr_asan")) continue;  // the address sanitizer's
    for (const char* prefix :
         {"vtable for ", "typeinfo for ", "typeinfo name for ", "guard variable for "}) {
      if (starts_with(name, prefix)) name = name.substr(std::string(prefix).size());
    }
    own += starts_with(name, "moka::") ? 1 : 0;
    if (!starts_with(name, "moka::")) {
      FAIL_CHECK("libmoka.a defines "
                 << name << ", outside of namespace moka: it could clash with an app's");
    }
  }
  CHECK(own > 50);
}

}  // namespace moka::test
