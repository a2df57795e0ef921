#include "tests/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "doctest/doctest.h"

namespace moka::test {
namespace {

// The two ends of a pipe; neither is inherited unless dup2 makes it so.
struct Pipe {
  int read = -1, write = -1;
  Pipe() {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    read = ends[0];
    write = ends[1];
  }
  ~Pipe() {
    close_end(&read);
    close_end(&write);
  }
  static void close_end(int* end) {
    if (*end >= 0) ::close(*end);
    *end = -1;
  }
};

// In the child, between fork and exec: only calls that are safe there.
[[noreturn]] void become(const std::vector<char*>& arguments, const ProcessOptions& options,
                         const Pipe& in, int out, const Pipe& err) {
  signal(SIGINT, SIG_DFL);  // a background job of a script has it ignored
  signal(SIGPIPE, SIG_DFL);
  if (dup2(in.read, 0) < 0 || dup2(out, 1) < 0 || dup2(err.write, 2) < 0) _exit(126);
  if (!options.directory.empty() && chdir(options.directory.c_str()) != 0) _exit(126);
  for (const auto& [name, value] : options.environment) setenv(name.c_str(), value.c_str(), 1);
  execv(arguments[0], arguments.data());
  _exit(127);
}

// Whether the process has a handler for the signal, which it has not before it is up: on a busy machine
// that can take seconds. True where the system does not tell.
bool handles(pid_t pid, int signal) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.compare(0, 7, "SigCgt:") != 0) continue;
    return (std::stoull(line.substr(7), nullptr, 16) >> (signal - 1) & 1) != 0;
  }
  return true;
}

class Conversation {
 public:
  Conversation(pid_t pid, Pipe* in, Pipe* out, Pipe* err, const ProcessOptions& options)
      : pid_(pid), in_(in), out_(out), err_(err), options_(options) {}

  ProcessResult finish() {
    signal(SIGPIPE, SIG_IGN);  // it need not read its stdin
    while (out_->read >= 0 || err_->read >= 0) {
      if (seconds() > options_.seconds) {
        kill(pid_, SIGKILL);
        result_.timed_out = true;
        break;
      }
      exchange();
      act();
    }
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    result_.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return result_;
  }

 private:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

  void exchange() {
    pollfd fds[] = {{out_->read, POLLIN, 0}, {err_->read, POLLIN, 0}, {in_->write, POLLOUT, 0}};
    if (poll(fds, 3, 20) <= 0) return;
    if (fds[0].revents != 0) receive(&out_->read, &result_.out);
    if (fds[1].revents != 0) receive(&err_->read, &result_.err);
    if (fds[2].revents != 0) send();
  }

  static void receive(int* end, std::string* text) {
    char buffer[4096];
    const ssize_t count = ::read(*end, buffer, sizeof(buffer));
    if (count > 0) {
      text->append(buffer, static_cast<size_t>(count));
    } else if (count == 0 || errno != EINTR) {
      Pipe::close_end(end);
    }
  }

  void send() {
    const size_t size = std::min<size_t>(options_.input.size() - sent_, 4096);
    const ssize_t count = size == 0 ? 0 : ::write(in_->write, options_.input.data() + sent_, size);
    if (count > 0) sent_ += static_cast<size_t>(count);
    if (count < 0 || sent_ == options_.input.size()) Pipe::close_end(&in_->write);
  }

  void act() {
    if (options_.close_after != 0 && result_.out.size() >= options_.close_after) {
      Pipe::close_end(&out_->read);
    }
    const bool by_output =
        options_.signal_after != 0 && result_.out.size() >= options_.signal_after;
    const bool by_time = options_.signal_after_seconds > 0 &&
                         seconds() >= options_.signal_after_seconds &&
                         handles(pid_, options_.signal);
    if (options_.signal != 0 && !signalled_ && (by_output || by_time)) {
      kill(pid_, options_.signal);
      signalled_ = true;
    }
  }

  pid_t pid_;
  Pipe *in_, *out_, *err_;
  const ProcessOptions& options_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  size_t sent_ = 0;
  bool signalled_ = false;
  ProcessResult result_;
};

}  // namespace

ProcessResult run_process(const std::vector<std::string>& arguments,
                          const ProcessOptions& options) {
  std::vector<char*> pointers;
  for (const std::string& argument : arguments) {
    pointers.push_back(const_cast<char*>(argument.c_str()));  // execv's type is older than const
  }
  pointers.push_back(nullptr);
  Pipe in, out, err;
  int out_fd = out.write;
  if (!options.out_path.empty()) {
    out_fd = ::open(options.out_path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    REQUIRE_MESSAGE(out_fd >= 0, options.out_path);
  }
  const pid_t pid = fork();
  REQUIRE(pid >= 0);
  if (pid == 0) become(pointers, options, in, out_fd, err);
  if (!options.out_path.empty()) ::close(out_fd);
  Pipe::close_end(&in.read);
  Pipe::close_end(&out.write);
  Pipe::close_end(&err.write);
  return Conversation(pid, &in, &out, &err, options).finish();
}

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "moka-test-XXXXXX").string();
  REQUIRE(mkdtemp(name.data()) != nullptr);
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE_MESSAGE(file.good(), path);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  REQUIRE_MESSAGE(file.good(), path);
}

}  // namespace moka::test
