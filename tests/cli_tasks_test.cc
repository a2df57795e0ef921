// classify, compare and embed as a shell sees them.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "converter/npy.h"
#include "doctest/doctest.h"
#include "moka/moka.h"
#include "nlohmann/json.hpp"
#include "tests/allocation_counter.h"
#include "tests/cli_model.h"
#include "tests/png_builder.h"
#include "tests/process.h"
#include "tests/task_models.h"

namespace moka::test {
namespace {

using Json = nlohmann::json;

// Exit code, what is on stderr to the letter, nothing on stdout.
void check_refused(const ProcessResult& result, int exit_code, const std::string& words) {
  CHECK(result.exit_code == exit_code);
  CHECK(result.out == "");
  CHECK(result.err == words);
}

std::string usage_words(const std::string& verb, const std::string& words) {
  return "moka " + verb + ": " + words + "\nTry 'moka " + verb + " --help'.\n";
}

Classification expected_class(const TestModel& model, const std::string& text, bool eos = false) {
  Result<Model> opened = Model::from_spec(model.spec);
  REQUIRE(opened.ok());
  std::vector<TokenId> ids;
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  if (eos) ids.push_back(259);
  Result<Classification> result = classify(opened.value(), ids);
  REQUIRE_MESSAGE(result.ok(), result.status().to_string());
  return result.value();
}

void check_class(const Json& json, const Classification& expected) {
  const char* const names[] = {"bad", "fair", "good"};
  CHECK(json.at("label") == names[expected.best]);
  CHECK(json.at("class") == expected.best);
  REQUIRE(json.at("logits").size() == 3);
  for (size_t i = 0; i < 3; ++i) {
    CHECK(json.at("logits")[i].get<float>() == doctest::Approx(expected.logits[i]).epsilon(1e-5));
    CHECK(json.at("probabilities")[i].get<float>() ==
          doctest::Approx(expected.probabilities[i]).epsilon(1e-5));
  }
}

// Runs the command on a text of `size` bytes in its stdin. Gives the most memory that it had when it
// had read almost all of them, in KiB, 0 where the system does not tell.
long peak_while_reading(std::vector<std::string> arguments, size_t size,
                        const std::string& out_path) {
  arguments.insert(arguments.begin(), MOKA_COMMAND);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  int ends[2] = {};
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const int out = open(out_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    dup2(out, STDOUT_FILENO);
    dup2(ends[0], STDIN_FILENO);
    close(ends[1]);
    execv(argv[0], argv.data());
    _exit(127);
  }
  close(ends[0]);
  const std::string piece(10000, 'a');
  for (size_t at = 0; at < size; at += piece.size()) {
    REQUIRE(write(ends[1], piece.data(), piece.size()) == static_cast<ssize_t>(piece.size()));
  }
  long peak = 0;
  std::ifstream file("/proc/" + std::to_string(child) + "/status");
  for (std::string word; file >> word;) {
    if (word == "VmHWM:") file >> peak;
  }
  close(ends[1]);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  return peak;
}

}  // namespace

TEST_CASE("cli classify: a text, a file, stdin and a JSON line give the same") {
  const TemporaryFolder folder;
  for (const bool causal : {true, false}) {
    CAPTURE(causal);
    TaskModelOptions options;
    options.causal = causal;
    const TestModel model = classifier_model(options);
    write_task_model(folder / "m.moka", model);
    write_file(folder / "a.txt", "a fine day\n");
    write_file(folder / "b.txt", "a fine day\r\n");
    const Classification expected = expected_class(model, "a fine day");
    ProcessOptions input;
    input.input = "a fine day\n";
    const std::string m = folder / "m.moka";
    for (const ProcessResult& result : {moka_command({"classify", m, "-p", "a fine day", "--json"}),
                                        moka_command({"classify", m, folder / "a.txt", "--json"}),
                                        moka_command({"classify", m, folder / "b.txt", "--json"}),
                                        moka_command({"classify", m, "--json"}, input),
                                        moka_command({"classify", m, "-", "--json"}, input)}) {
      CHECK(result.exit_code == 0);
      CHECK(result.err == "");
      const std::vector<Json> lines = json_lines(result.out);
      REQUIRE(lines.size() == 1);
      check_class(lines[0], expected);
    }
    input.input = "{\"text\": \"a fine day\"}";
    const ProcessResult line = moka_command({"classify", m, "--jsonl"}, input);
    CHECK(line.exit_code == 0);
    REQUIRE(json_lines(line.out).size() == 1);
    check_class(json_lines(line.out)[0], expected);
    CHECK_FALSE(json_lines(line.out)[0].contains("id"));
  }
}

// The library of the command line takes "[a,b]" for a list, unless it is told not to.
TEST_CASE("cli classify: a text in brackets is a text") {
  const TemporaryFolder folder;
  const TestModel model = classifier_model();
  write_task_model(folder / "m.moka", model);
  for (const char* text : {"[MAX 2 9 ]", "[a,b]", "[]", "[[\"x\"]]"}) {
    CAPTURE(text);
    const ProcessResult result =
        moka_command({"classify", folder / "m.moka", "-p", text, "--json"});
    CHECK(result.exit_code == 0);
    const std::vector<Json> lines = json_lines(result.out);
    REQUIRE(lines.size() == 1);
    check_class(lines[0], expected_class(model, text));
  }
}

TEST_CASE("cli classify: a table for one input, a line for each of several") {
  const TemporaryFolder folder;
  const TestModel model = classifier_model();
  write_task_model(folder / "m.moka", model);
  const Classification expected = expected_class(model, "x");
  const ProcessResult table = moka_command({"classify", folder / "m.moka", "-p", "x"});
  CHECK(table.exit_code == 0);
  const char* const names[] = {"bad", "fair", "good"};
  std::istringstream stream(table.out);
  std::string title, label, second;
  double probability = 0, other = 0;
  stream >> title >> second >> label >> probability >> second >> other;
  CHECK(title == "class");
  CHECK(label == names[expected.best]);
  CHECK(probability == doctest::Approx(expected.probabilities[expected.best]).epsilon(1e-3));
  CHECK(other <= probability);

  write_file(folder / "one", "x");
  write_file(folder / "two", "yz");
  ProcessOptions here;
  here.directory = folder.path();
  const ProcessResult lines = moka_command({"classify", "m.moka", "one", "two", "-p", "x"}, here);
  CHECK(lines.exit_code == 0);
  const std::string first = std::string("--text\t") + names[expected.best] + "\t";
  CHECK(lines.out.rfind(first, 0) == 0);
  CHECK(contains(lines.out, "\none\t"));
  CHECK(contains(lines.out, "\ntwo\t"));
  const ProcessResult top = moka_command({"classify", "m.moka", "one", "two", "--top", "2"}, here);
  CHECK(std::count(top.out.begin(), top.out.end(), '\t') == 2 * 4);
  // An input that fails does not stop the others.
  const ProcessResult some = moka_command({"classify", "m.moka", "one", "no", "two"}, here);
  CHECK(some.exit_code == 3);
  CHECK(std::count(some.out.begin(), some.out.end(), '\n') == 2);
  CHECK(some.err ==
        "moka classify: no: No such file or directory\n"
        "moka classify: 1 of 3 inputs failed\n");
}

TEST_CASE("cli classify: eos, truncation and limits as in training") {
  const TemporaryFolder folder;
  for (const bool causal : {true, false}) {
    CAPTURE(causal);
    TaskModelOptions options;
    options.causal = causal;
    options.eos = true;
    options.position_limit = 8;
    options.max_length = 8;
    const TestModel model = classifier_model(options);
    const std::string m = folder / "m.moka";
    write_task_model(m, model);
    write_file(folder / "long", "0123456789");
    const ProcessResult fits = moka_command({"classify", m, "-p", "0123456", "--json"});
    CHECK(fits.exit_code == 0);
    check_class(json_lines(fits.out)[0], expected_class(model, "0123456", true));
    check_refused(moka_command({"classify", m, "-p", "01234567"}), 2,
                  usage_words("classify",
                              "--text: 9 tokens; the model reads at most 8 "
                              "(--truncate keeps the start of a text)"));
    const ProcessResult cut =
        moka_command({"classify", m, folder / "long", "--truncate", "--json"});
    CHECK(cut.exit_code == 0);
    check_class(json_lines(cut.out)[0], expected_class(model, "0123456", true));
    check_refused(
        moka_command({"classify", m, folder / "long"}), 1,
        "moka classify: " + folder / "long" +
            (causal ? ": more than 8 tokens, the most that this model reads (--truncate keeps the "
                      "start)\n"
                    : ": 11 tokens; the model reads at most 8 (--truncate keeps the start of a "
                      "text)\n"));
  }
}

TEST_CASE("cli classify: a text longer than those of the training is read, with a note") {
  const TemporaryFolder folder;
  write_file(folder / "long", "0123456789");
  for (const bool causal : {true, false}) {
    CAPTURE(causal);
    TaskModelOptions options;
    options.causal = causal;
    options.max_length = 4;
    const TestModel model = classifier_model(options);
    write_task_model(folder / "m.moka", model);
    const ProcessResult all =
        moka_command({"classify", folder / "m.moka", folder / "long", "--json"});
    CHECK(all.exit_code == 0);
    CHECK(all.err ==
          "moka classify: note: a text is longer than the 4 tokens that texts were cut to "
          "in training; --truncate cuts them too\n");
    check_class(json_lines(all.out)[0], expected_class(model, "0123456789"));
    const ProcessResult cut =
        moka_command({"classify", folder / "m.moka", folder / "long", "--json", "--truncate"});
    CHECK(cut.err == "");
    check_class(json_lines(cut.out)[0], expected_class(model, "0123"));
  }
}

TEST_CASE("cli classify: wrong inputs, to the letter") {
  const TemporaryFolder folder;
  const std::string m = folder / "m.moka";
  write_task_model(m, classifier_model());
  write_file(folder / "empty", "");
  write_file(folder / "newline", "\n");
  REQUIRE(mkdir((folder / "dir").c_str(), 0755) == 0);
  const std::string verb = "moka classify: ";
  check_refused(moka_command({"classify", m, folder / "empty"}), 1,
                verb + folder / "empty" + ": the text is empty\n");
  check_refused(moka_command({"classify", m, folder / "newline"}), 1,
                verb + folder / "newline" + ": the text is empty\n");
  check_refused(moka_command({"classify", m, folder / "dir"}), 3,
                verb + folder / "dir" + ": Is a directory\n");
  check_refused(moka_command({"classify", m, "-p", ""}), 2,
                usage_words("classify", "--text: the text is empty"));
  check_refused(moka_command({"classify", m, "--jsonl", "-p", "x"}), 2,
                usage_words("classify", "--jsonl and --text cannot be given together"));
  check_refused(moka_command({"classify", m, "--memory", "x", "-p", "x"}), 2,
                usage_words("classify", "--memory: this model reads one sequence and no memory"));
  check_refused(moka_command({"classify", m, "--top", "0"}), 2,
                usage_words("classify", "--top: '0' is not a whole number from 1 to 1000000"));
  // Any bytes are a text to a model that reads bytes.
  write_file(folder / "binary", std::string("\x89PNG\0\xff\xfe\x80", 8));
  CHECK(moka_command({"classify", m, folder / "binary"}).exit_code == 0);
}

TEST_CASE(
    "cli classify: JSON lines keep their order and their ids, and errors stay on their line") {
  const TemporaryFolder folder;
  const TestModel model = classifier_model();
  const std::string m = folder / "m.moka";
  write_task_model(m, model);
  ProcessOptions input;
  input.input =
      "{\"id\": 7, \"text\": \"x\", \"other\": [1, {}]}\n"
      "\n"
      "not json\n"
      "{\"id\": {\"a\": [1]}, \"ids\": [120]}\r\n"
      "[1]\n"
      "{\"id\": \"n\"}\n"
      "{\"text\": 5}\n"
      "{\"text\": \"\"}\n"
      "{\"ids\": [1, 260]}\n"
      "{\"ids\": [1.5]}\n"
      "{\"ids\": []}\n"
      "{\"text\": \"a\", \"ids\": [1]}\n"
      "{\"values\": [1]}\n"
      "{\"text\": \"\xff\"}\n" +
      std::string(80, '[') + "\n" + "{\"ids\": [256, 256]}\n{\"id\": null, \"text\": \"x\"}";
  const ProcessResult result = moka_command({"classify", m, "--jsonl"}, input);
  CHECK(result.exit_code == 1);
  CHECK(result.err ==
        "moka classify: 13 of 16 lines had an error; the answers of these say which\n");
  const std::vector<Json> lines = json_lines(result.out);
  REQUIRE(lines.size() == 16);
  const Classification expected = expected_class(model, "x");
  check_class(lines[0], expected);
  check_class(lines[2], expected);
  check_class(lines[15], expected);
  CHECK(lines[0].at("id") == 7);
  CHECK(lines[2].at("id") == Json({{"a", {1}}}));
  CHECK(lines[15].contains("id"));
  CHECK(lines[15].at("id").is_null());
  CHECK(lines[1] == Json({{"line", 3}, {"error", "the line is not JSON from byte 2 on"}}));
  const std::vector<std::string> errors = {
      "the line is not a JSON object",
      "the object: has none of \"text\", \"ids\" and \"values\"",
      "\"text\": is not a string",
      "\"text\": the text is empty",
      "\"ids\"[1]: 260 is no token id; this model's are 0 to 259",
      "\"ids\"[0]: 1.5 is no token id; this model's are 0 to 259",
      "\"ids\": no token ids",
      "the object: has both \"text\" and \"ids\"",
      "\"values\": this model reads token ids, not numbers; give \"ids\" or \"text\"",
      "the line is not JSON from byte 11 on",
      "the line is nested deeper than 64",
      "all 2 tokens are padding (id 256): there is nothing to read",
  };
  for (size_t i = 0; i < errors.size(); ++i) CHECK(lines[3 + i].at("error") == errors[i]);
  CHECK(lines[4].at("id") == "n");
  CHECK(lines[3].at("line") == 5);
}

TEST_CASE("cli classify: each answer is written before the next line is there") {
  const TemporaryFolder folder;
  write_task_model(folder / "m.moka", classifier_model());
  // A shell that writes a line, waits for its answer, and only then writes the next one.
  const std::string script =
      "mkfifo in out; \"$0\" classify m.moka --jsonl < in > out & exec 3> in 4< out; "
      "echo '{\"id\": 1, \"text\": \"a\"}' >&3; read -r a <&4; "
      "echo '{\"id\": 2, \"text\": \"b\"}' >&3; read -r b <&4; exec 3>&-; wait; "
      "printf '%s\\n%s\\n' \"$a\" \"$b\"";
  ProcessOptions here;
  here.directory = folder.path();
  here.seconds = 30;
  const ProcessResult result = run_process({"/bin/sh", "-c", script, MOKA_COMMAND}, here);
  CHECK_FALSE(result.timed_out);
  const std::vector<Json> lines = json_lines(result.out);
  REQUIRE(lines.size() == 2);
  CHECK(lines[0].at("id") == 1);
  CHECK(lines[1].at("id") == 2);
}

TEST_CASE("cli classify: a closed pipe ends it quietly, a line of 64 MiB is an error of its own") {
  const TemporaryFolder folder;
  const std::string m = folder / "m.moka";
  write_task_model(m, classifier_model());
  std::string many;
  for (int i = 0; i < 3000; ++i) many += "{\"text\": \"abc\"}\n";
  ProcessOptions closed;
  closed.input = many;
  closed.close_after = 100;
  const ProcessResult result = moka_command({"classify", m, "--jsonl"}, closed);
  CHECK(result.exit_code == 0);
  CHECK(result.err == "");

  write_file(folder / "long.jsonl",
             "{\"text\": \"" + std::string((64 << 20) + 10, 'x') + "\"}\n{\"text\": \"abc\"}\n");
  const ProcessResult large = moka_command({"classify", m, "--jsonl", folder / "long.jsonl"});
  CHECK(large.exit_code == 1);
  const std::vector<Json> lines = json_lines(large.out);
  REQUIRE(lines.size() == 2);
  CHECK(lines[0] == Json({{"line", 1}, {"error", "the line is longer than 64 MiB"}}));
  CHECK(lines[1].contains("label"));
}

TEST_CASE("cli classify: a causal model that reads bytes takes a long text in constant memory") {
  const TemporaryFolder folder;
  const std::string m = folder / "m.moka", out = folder / "out";
  write_task_model(m, classifier_model());
  const auto peak_of = [&](size_t size) {
    const long peak = peak_while_reading({"classify", m, "--json"}, size, out);
    return std::make_pair(peak, json_lines(read_file(out))[0].at("logits"));
  };
  const auto short_text = peak_of(100000), long_text = peak_of(1500000);
  // The same byte over and over: the mean moves less and less.
  for (size_t i = 0; i < 3; ++i) {
    CHECK(short_text.second[i].get<float>() ==
          doctest::Approx(long_text.second[i].get<float>()).epsilon(1e-2));
  }
  if (!counts_allocations() || short_text.first == 0) {
    MESSAGE("skipped: sanitizers keep memory that was freed, or the system tells no peak");
    return;
  }
  // The text is 1.5 MB, its tokens are 6 MB, its rows 144 MB.
  CAPTURE(short_text.first);
  CHECK(long_text.first - short_text.first < 1024);
}

TEST_CASE("cli classify: Ctrl-C ends an endless stream") {
  const TemporaryFolder folder;
  write_task_model(folder / "m.moka", classifier_model());
  ProcessOptions stop;
  stop.signal = SIGINT;
  stop.signal_after_seconds = 0.5;
  stop.seconds = 30;
  check_refused(moka_command({"classify", folder / "m.moka", "/dev/zero"}, stop), 130,
                "moka classify: interrupted\n");
}

TEST_CASE("cli classify: pictures as pixels and as tokens") {
  const TemporaryFolder folder;
  const std::string row = {'\x00', '\x40', '\x7f', '\x7e'};
  write_file(folder / "a.png", make_png(4, 3, 8, 0, {row, row, row}));
  write_file(folder / "a.pgm", "P5 4 3 255\n" + row + row + row);
  write_file(folder / "wrong.png", make_png(3, 4, 8, 0, {"abc", "abc", "abc", "abc"}));
  write_file(folder / "text.txt", "words");
  const std::vector<float> pixels = {0, 64, 127, 126, 0, 64, 127, 126, 0, 64, 127, 126};
  REQUIRE(write_npy(folder / "a.npy", {3, 4}, pixels).ok());
  std::string list;
  for (const float pixel : pixels) list += (list.empty() ? "" : ", ") + std::to_string(pixel);
  for (const bool tokens : {false, true}) {
    CAPTURE(tokens);
    const TestModel model = image_model(tokens);
    const std::string m = folder / "m.moka";
    write_task_model(m, model);
    Result<Model> opened = Model::from_spec(model.spec);
    REQUIRE_MESSAGE(opened.ok(), opened.status().to_string());
    const std::vector<TokenId> ids(pixels.begin(), pixels.end());
    const Result<Classification> expected =
        tokens ? classify(opened.value(), ids) : classify(opened.value(), pixels);
    REQUIRE_MESSAGE(expected.ok(), expected.status().to_string());
    std::vector<ProcessResult> results = {
        moka_command({"classify", m, folder / "a.png", "--json"}),
        moka_command({"classify", m, folder / "a.pgm", "--json"})};
    if (!tokens) results.push_back(moka_command({"classify", m, folder / "a.npy", "--json"}));
    ProcessOptions input;
    input.input = tokens ? "{\"ids\": [0,64,127,126,0,64,127,126,0,64,127,126]}"
                         : "{\"values\": [" + list + "]}";
    results.push_back(moka_command({"classify", m, "--jsonl"}, input));
    for (const ProcessResult& result : results) {
      CHECK(result.exit_code == 0);
      CHECK(result.err == "");
      REQUIRE(json_lines(result.out).size() == 1);
      const Json json = json_lines(result.out)[0];
      for (size_t i = 0; i < 4; ++i) {
        CHECK(json.at("logits")[i].get<float>() == expected.value().logits[i]);
      }
    }
    check_refused(moka_command({"classify", m, folder / "wrong.png"}), 1,
                  "moka classify: " + folder / "wrong.png" +
                      ": an image of 3 x 4; this model reads images of 4 x 3\n");
    check_refused(moka_command({"classify", m, folder / "text.txt"}), 1,
                  "moka classify: " + folder / "text.txt" +
                      ": neither a PNG, PGM or PPM image nor a .npy array\n");
    check_refused(moka_command({"classify", m, "-p", "words"}), 2,
                  usage_words("classify", "--text: this model reads images of 4 x 3, not text"));
  }
}

TEST_CASE("cli compare: two texts by a pair model and by an embedding model") {
  const TemporaryFolder folder;
  const std::string p = folder / "p.moka", e = folder / "e.moka";
  const TestModel pair = pair_model(), embedding = embedding_model();
  write_task_model(p, pair);
  write_task_model(e, embedding);
  write_file(folder / "a", "first\n");
  write_file(folder / "b", "second\n");
  const ProcessResult files = moka_command({"compare", p, folder / "a", folder / "b", "--json"});
  CHECK(files.exit_code == 0);
  const ProcessResult texts = moka_command({"compare", p, "-p", "first", "-p", "second", "--json"});
  CHECK(texts.out == files.out);
  ProcessOptions input;
  input.input =
      "{\"id\": 1, \"a\": \"first\", \"b\": \"second\"}\n{\"a\": \"x\"}\n{\"a\": [102], \"b\": {}}";
  const ProcessResult lines = moka_command({"compare", p, "--jsonl"}, input);
  CHECK(lines.exit_code == 1);
  const std::vector<Json> answers = json_lines(lines.out);
  REQUIRE(answers.size() == 3);
  CHECK(answers[0].at("logits") == json_lines(files.out)[0].at("logits"));
  CHECK(answers[1].at("error") == "the object has no \"b\"");
  CHECK(answers[2].at("error") == "\"b\": is neither a text nor a list of numbers");

  const ProcessResult same = moka_command({"compare", e, "-p", "word", "-p", "word"});
  CHECK(same.exit_code == 0);
  CHECK(same.out == "cosine similarity  1.0000\n");
  const ProcessResult other = moka_command({"compare", e, "-p", "word", "-p", "zzz", "--json"});
  CHECK(json_lines(other.out)[0].at("similarity").get<double>() < 1.0);

  check_refused(moka_command({"compare", p, folder / "a"}), 2,
                usage_words("compare",
                            "two inputs are compared, 1 given: name two files, or give "
                            "two texts with -p"));
  check_refused(moka_command({"compare", p, "-", "-"}), 2,
                usage_words("compare", "only one of the two can be stdin"));
}

TEST_CASE("cli embed: lists, objects, a NumPy file") {
  const TemporaryFolder folder;
  const std::string m = folder / "m.moka";
  const TestModel model = embedding_model();
  write_task_model(m, model);
  Result<Model> opened = Model::from_spec(model.spec);
  REQUIRE(opened.ok());
  const std::vector<TokenId> ids = {'h', 'i'};
  const Result<std::vector<float>> expected = embed(opened.value(), ids);
  REQUIRE(expected.ok());

  const ProcessResult list = moka_command({"embed", m, "-p", "hi", "-p", "there"});
  CHECK(list.exit_code == 0);
  REQUIRE(json_lines(list.out).size() == 2);
  CHECK(json_lines(list.out)[0].get<std::vector<float>>() == expected.value());  // to the last bit
  ProcessOptions input;
  input.input = "{\"id\": \"q\", \"text\": \"hi\"}\n";
  const ProcessResult line = moka_command({"embed", m, "--jsonl"}, input);
  CHECK(json_lines(line.out)[0].at("embedding").get<std::vector<float>>() == expected.value());
  CHECK(json_lines(line.out)[0].at("id") == "q");

  const std::string out = folder / "v.npy";
  const ProcessResult file = moka_command({"embed", m, "-p", "hi", "-p", "there", "-o", out});
  CHECK(file.exit_code == 0);
  CHECK(file.out == "");
  CHECK(file.err == out + ": float32 (2, 24)\n");
  const Result<NpyArray> array = read_npy(out);
  REQUIRE(array.ok());
  CHECK(array.value().shape == std::vector<uint64_t>{2, 24});
  check_refused(moka_command({"embed", m, "-p", "hi", "-o", out}), 2,
                usage_words("embed", "--output: '" + out + "' exists; --force replaces it"));
  CHECK(moka_command({"embed", m, "-p", "hi", "-o", out, "--force"}).exit_code == 0);
  check_refused(moka_command({"embed", m, "--jsonl", "-o", folder / "w.npy"}), 2,
                usage_words("embed", "--jsonl and --output cannot be given together"));
}

}  // namespace moka::test
