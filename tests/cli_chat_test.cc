// `moka chat`: lines in, turns out; commands, session files, errors, and Ctrl-C at every moment.
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "doctest/doctest.h"
#include "tests/cli_model.h"
#include "tests/process.h"
#include "tests/task_models.h"

namespace moka::test {
namespace {

using Json = nlohmann::json;

struct Fixture {
  TemporaryFolder folder;
  std::string model = folder / "m.moka";
  Fixture() { write_text_model(model); }

  ProcessResult chat(const std::string& lines, std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"chat", model});
    ProcessOptions options;
    options.input = lines;
    return moka_command(arguments, options);
  }
  std::vector<Json> events(const std::string& lines, std::vector<std::string> arguments) const {
    arguments.push_back("--json");
    return json_lines(chat(lines, arguments).out);
  }
};

// The events of one type.
std::vector<Json> only(const std::vector<Json>& events, const std::string& type) {
  std::vector<Json> some;
  for (const Json& event : events) {
    if (event["type"] == type) some.push_back(event);
  }
  return some;
}

// A program on a terminal of its own, as a user has it before them.
class Terminal {
 public:
  explicit Terminal(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), MOKA_COMMAND);
    master_ = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    REQUIRE(master_ >= 0);
    REQUIRE(grantpt(master_) == 0);
    REQUIRE(unlockpt(master_) == 0);
    const std::string name = ptsname(master_);
    std::vector<char*> pointers;
    for (std::string& argument : arguments) pointers.push_back(argument.data());
    pointers.push_back(nullptr);
    pid_ = fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      signal(SIGINT, SIG_DFL);
      setsid();
      const int slave = ::open(name.c_str(), O_RDWR);
      if (slave < 0 || ioctl(slave, TIOCSCTTY, 0) < 0) _exit(126);
      for (int fd = 0; fd < 3; ++fd) dup2(slave, fd);
      execv(pointers[0], pointers.data());
      _exit(127);
    }
  }
  ~Terminal() {
    ::close(master_);
    if (!ended_) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }

  void type(const std::string& text) {
    REQUIRE(::write(master_, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  }
  // Reads until `words` have come behind what was waited for before.
  bool wait_for(const std::string& words) {
    const auto begin = std::chrono::steady_clock::now();
    for (;;) {
      const size_t at = screen_.find(words, seen_);
      if (at != std::string::npos) {
        seen_ = at + words.size();
        return true;
      }
      if (std::chrono::steady_clock::now() - begin > std::chrono::seconds(60)) return false;
      pollfd poll_of = {master_, POLLIN, 0};
      if (poll(&poll_of, 1, 100) <= 0) continue;
      char buffer[4096];
      const ssize_t count = ::read(master_, buffer, sizeof(buffer));
      if (count <= 0) return false;
      screen_.append(buffer, static_cast<size_t>(count));
    }
  }
  // Presses Ctrl-C, twice a second, until the program is gone; 0 when it does not go.
  int interrupt_to_end() {
    for (int i = 0; i < 60; ++i) {
      type("\x03");
      for (int wait = 0; wait < 10; ++wait) {
        siginfo_t info = {};
        waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT);
        if (info.si_pid == pid_) return exit_code();
        usleep(50000);
      }
    }
    return 0;
  }
  int exit_code() {
    int status = 0;
    waitpid(pid_, &status, 0);
    ended_ = true;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  const std::string& screen() const { return screen_; }

 private:
  int master_ = -1;
  pid_t pid_ = -1;
  bool ended_ = false;
  std::string screen_;
  size_t seen_ = 0;
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "cli: the first turn of a chat is what run writes") {
  const ProcessResult chat_result = chat("Once\n", {"-n", "40", "--seed", "7"});
  CHECK(chat_result.exit_code == 0);
  CHECK(chat_result.err == "");
  const std::vector<Json> run = json_lines(
      moka_command({"run", model, "-p", "Once", "-n", "40", "--seed", "7", "--json"}).out);
  std::string text;
  for (const Json& line : run) {
    if (line["type"] == "token" && !line.contains("end_of_text")) text += line["text"];
    if (line.contains("end_of_text")) break;  // a chat's turn ends there
  }
  CHECK(chat_result.out == text + (text.empty() || text.back() != '\n' ? "\n" : ""));
  CHECK(chat("Once\n", {"-n", "40", "--seed", "8"}).out != chat_result.out);
}

TEST_CASE_FIXTURE(Fixture, "cli: chat's commands walk through the tree") {
  const std::vector<Json> all = events(
      "one\n"             // 1, 2
      "two\n"             // 3, 4
      "/retry\n"          // 5
      "/undo\n"           // to 2
      "/edit 1 uno\n"     // 6, 7
      "/branch 2 drei\n"  // 8, 9
      "\n"                // 10
      "/undo\n"           // to 9
      "//slash\n"         // 11, 12
      "/edit 12 given\n"  // 13, and no answer to it
      "/remove 8\n"       // refused: in use
      "/switch 5\n"
      "/remove 8\n"
      "/turns\n"
      "/quit\n"
      "never read\n",
      {"-n", "6", "--seed", "3", "--temperature", "1.5"});
  const std::vector<Json> given = only(all, "given");
  const std::vector<Json> written = only(all, "written");
  const std::vector<Json> current = only(all, "current");
  const auto numbers = [](const std::vector<Json>& list, const char* key) {
    std::vector<int> values;
    for (const Json& event : list) values.push_back(event[key].get<int>());
    return values;
  };
  CHECK(numbers(given, "turn") == std::vector<int>{1, 3, 6, 8, 11, 13});
  CHECK(numbers(given, "parent") == std::vector<int>{0, 2, 0, 2, 9, 11});
  CHECK(numbers(written, "turn") == std::vector<int>{2, 4, 5, 7, 9, 10, 12});
  CHECK(numbers(written, "parent") == std::vector<int>{1, 3, 3, 6, 8, 9, 11});
  CHECK(numbers(current, "turn") == std::vector<int>{2, 9, 5});
  CHECK(given[4]["text"] == "/slash");
  CHECK(given[5]["role"] == "model");
  CHECK(written[0]["end"] == "token_budget");
  CHECK(written[0]["tokens"] == 6);
  std::string pieces;
  for (const Json& event : all) {
    if (event["type"] == "text") pieces += event["text"];
    if (event["type"] != "written") continue;
    CHECK(event["text"] == pieces);
    pieces.clear();
  }
  REQUIRE(only(all, "error").size() == 1);
  CHECK(only(all, "error")[0]["line"] == 11);
  CHECK(contains(only(all, "error")[0]["error"], "turn 8 leads to the current turn 13"));
  REQUIRE(only(all, "turns").size() == 1);
  const Json turns = only(all, "turns")[0];
  CHECK(turns["current"] == 5);
  REQUIRE(turns["turns"].size() == 7);
  CHECK(turns["turns"][6]["turn"] == 7);
  CHECK(turns["turns"][4]["current"] == true);
}

TEST_CASE_FIXTURE(Fixture, "cli: a chat that was closed goes on as if it had not been") {
  const std::string session = folder / "a.chat";
  const std::vector<std::string> settings = {"-n", "20", "--seed", "5", "--temperature", "1.2"};
  const std::string whole = chat("one\n/retry\ntwo\n/undo\nthree\n", settings).out;
  std::vector<std::string> first = settings;
  first.insert(first.end(), {"--session", session});
  std::string parts = chat("one\n", first).out;
  const std::vector<std::string> later = {"-n", "20", "--session", session};
  for (const char* lines : {"/retry\n", "two\n/undo\n", "three\n"}) parts += chat(lines, later).out;
  CHECK(parts == whole);
  const Json turns = only(events("/turns\n", later), "turns")[0];
  CHECK(turns["turns"].size() == 7);
  CHECK(turns["current"] == 7);
  // And under another name.
  const std::string copy = folder / "b.chat";
  CHECK(chat("/save " + copy + "\n", later).exit_code == 0);
  CHECK(only(events("/open " + copy + "\n", {}), "current")[0]["turn"] == 7);
  // From /open on the session is the opened file; the one before stays as it was.
  const std::string before = read_file(session);
  CHECK(chat("/open " + copy + "\nfour\n", later).exit_code == 0);
  CHECK(read_file(session) == before);
  CHECK(only(events("/turns\n", {"--session", copy}), "turns")[0]["turns"].size() == 9);
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    files += entry.is_regular_file() ? 1 : 0;
  }
  CHECK(files == 3);
}

TEST_CASE_FIXTURE(Fixture, "cli: a line that fails is told, the others go on, and the end is 1") {
  const ProcessResult result = chat(
      "/tuns\n/frobnicate\n/edit x y\n/edit 1\n/switch 1 2\n/open\n/save\n/retry\n/undo\n/undo\n"
      "/switch 9\n/open none.chat\n",
      {"-n", "3"});
  CHECK(result.exit_code == 1);
  for (const char* words :
       {"moka chat: line 1: there is no command '/tuns'; did you mean '/turns'?",
        "line 2: there is no command '/frobnicate'; /help shows them",
        "line 3: 'x' is not the number of a turn; /turns shows them",
        "line 4: the text is missing; write it behind the number",
        "line 5: '2' is too much; one number is enough",
        "line 6: /open: give the FILE of a saved chat",
        "line 7: /save: give a FILE, or start with --session", "line 10: the chat is at its start",
        "line 11: the chat has no turn 9", "line 12: none.chat: ", "moka chat: 10 lines failed"}) {
    CHECK_MESSAGE(contains(result.err, words), result.err);
  }
  const ProcessResult help = chat("/help\n/turns\n", {});
  CHECK(help.exit_code == 0);
  CHECK(help.out == "");
  CHECK(contains(help.err, "/branch N TEXT"));
  CHECK(contains(help.err, "there are no turns yet"));
}

TEST_CASE_FIXTURE(Fixture, "cli: a session file that cannot go on ends with its own code") {
  const std::string session = folder / "a.chat";
  CHECK(chat("one\n", {"-n", "3", "--session", session}).exit_code == 0);
  const std::string bytes = read_file(session);
  std::string damaged = bytes;
  damaged[100] = static_cast<char>(damaged[100] ^ 1);
  write_file(session, damaged);
  const ProcessResult corrupt = chat("two\n", {"--session", session});
  CHECK(corrupt.exit_code == 3);
  CHECK(contains(corrupt.err, session + ": saved chat: "));
  CHECK(corrupt.out == "");
  CHECK(read_file(session) == damaged);  // nothing was written over it
  damaged = bytes;
  damaged[8] = 9;
  write_file(session, damaged);
  const ProcessResult version = chat("two\n", {"--session", session});
  CHECK(version.exit_code == 4);
  CHECK(contains(version.err, "version 9, this library reads versions 1 and 2"));
  write_file(session, bytes);
  const std::string other = folder / "other.moka";
  TestModel other_model = text_model();
  other_model.spec.metadata.name = "another";
  write_task_model(other, other_model);
  const ProcessResult foreign = moka_command({"chat", other, "--session", session});
  CHECK(foreign.exit_code == 1);
  CHECK(contains(foreign.err, "it belongs to the model 'cli test' ("));
  CHECK(contains(foreign.err, "this one is 'another' ("));
  const std::string classifier = folder / "classifier.moka";
  write_task_model(classifier, classifier_model());
  CHECK(moka_command({"chat", classifier}).exit_code == 4);
  const ProcessResult folder_missing = chat("one\n", {"--session", folder / "none/a.chat"});
  CHECK(folder_missing.exit_code == 1);
  CHECK(contains(folder_missing.err, "none/a.chat"));
}

TEST_CASE_FIXTURE(Fixture, "cli: wrong arguments of chat end with 2") {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"-n", "0"},
                                                    {"--max-ms", "x"},
                                                    {"--temperature", "-1"},
                                                    {"--greedy", "--temperature", "1"},
                                                    {"--sesion", "x"}}) {
    CHECK(chat("", arguments).exit_code == 2);
  }
  CHECK(chat("one\n", {"--stop", ""}).exit_code == 1);
  CHECK(chat("", {}).exit_code == 0);
}

TEST_CASE_FIXTURE(Fixture,
                  "cli: Ctrl-C in a pipe ends a chat with 130, and what is written is kept") {
  const std::string session = folder / "a.chat";
  ProcessOptions options;
  options.input = "one\nnever taken\n";
  options.signal = SIGINT;
  options.signal_after = 500;
  const ProcessResult result =
      moka_command({"chat", model, "-n", "1000000000", "--session", session, "--greedy"}, options);
  CHECK(result.exit_code == 130);
  CHECK(contains(result.err, "moka chat: interrupted"));
  const Json turns = only(events("/turns\n", {"--session", session}), "turns")[0];
  REQUIRE(turns["turns"].size() == 2);
  CHECK(turns["current"] == 2);
  CHECK(turns["turns"][1]["end"] == "callback");
  CHECK(turns["turns"][1]["text"].get<std::string>() + "\n" == result.out);
  options.signal = SIGTERM;
  CHECK(moka_command({"chat", model, "-n", "1000000000", "--greedy"}, options).exit_code == 143);
}

TEST_CASE_FIXTURE(Fixture, "cli: a chat whose reader goes ends quietly") {
  ProcessOptions options;
  options.input = "one\ntwo\n";
  options.close_after = 300;
  const ProcessResult result =
      moka_command({"chat", model, "-n", "1000000000", "--greedy"}, options);
  CHECK(result.exit_code == 0);
  CHECK(result.err == "");
}

TEST_CASE_FIXTURE(Fixture, "cli: on a terminal Ctrl-C ends the turn, and at the prompt the chat") {
  Terminal terminal({"chat", model, "-n", "1000000000", "--greedy"});
  REQUIRE_MESSAGE(terminal.wait_for("/help shows the commands"), terminal.screen());
  REQUIRE(terminal.wait_for("> "));
  terminal.type("one\n");
  REQUIRE(terminal.wait_for("one"));
  for (int i = 0; i < 20; ++i) REQUIRE(terminal.wait_for("\xEF\xBF\xBD"));  // it writes
  // A terminal may throw away what is written while it takes a Ctrl-C, so the prompt is not waited
  // for.
  terminal.type("\x03");
  terminal.type("/turns\n");
  REQUIRE_MESSAGE(terminal.wait_for("* 2      1  model"), terminal.screen());
  terminal.type("\n");  // on from there, and stop again
  for (int i = 0; i < 20; ++i) REQUIRE(terminal.wait_for("\xEF\xBF\xBD"));
  terminal.type("\x03");
  terminal.type("/turns\n");
  REQUIRE(terminal.wait_for("* 3      2  model"));
  REQUIRE(terminal.wait_for("> "));
  // Between the prompt and the reading of a line one Ctrl-C only leaves its mark, as when a user
  // presses it again.
  CHECK(terminal.interrupt_to_end() == 130);
}

TEST_CASE_FIXTURE(Fixture, "cli: on a terminal the end of the input ends a chat well") {
  Terminal terminal({"chat", model, "-n", "5", "--session", folder / "a.chat"});
  REQUIRE(terminal.wait_for("> "));
  terminal.type("one\n");
  REQUIRE(terminal.wait_for("> "));
  terminal.type("/frob\n");  // an error of a line is no error of the chat
  REQUIRE(terminal.wait_for("moka chat: there is no command '/frob'"));
  REQUIRE(terminal.wait_for("> "));
  terminal.type("\x04");
  CHECK(terminal.exit_code() == 0);
  Terminal again({"chat", model, "--session", folder / "a.chat"});
  REQUIRE_MESSAGE(again.wait_for("at turn 2, behind "), again.screen());
  REQUIRE(again.wait_for("> "));
  again.type("/quit\n");
  CHECK(again.exit_code() == 0);
}

}  // namespace moka::test
