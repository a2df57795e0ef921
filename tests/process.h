// Runs programs as a shell would, with pipes for stdin, stdout and stderr, and a limit in time.
#ifndef MOKA_TESTS_PROCESS_H_
#define MOKA_TESTS_PROCESS_H_

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

namespace moka::test {

struct ProcessResult {
  int exit_code = -1;  // 128 + signal when a signal ended it, as in a shell
  std::string out, err;
  bool timed_out = false;  // it was killed then
};

struct ProcessOptions {
  std::string input;      // given to stdin, which is closed after it
  std::string directory;  // to run in; empty: this one
  std::string out_path;   // stdout goes to this file instead of ProcessResult::out
  std::vector<std::pair<std::string, std::string>> environment;  // added to this process's
  double seconds = 120;                                          // then it is killed

  // What happens while it runs. Reading stops after so many bytes of stdout; then the pipe is
  // closed, or the signal sent and the rest read.
  size_t close_after = 0;
  size_t signal_after = 0;
  // Sends the signal at that time instead, or later when the process is ready for it.
  double signal_after_seconds = 0;
  int signal = 0;
};

ProcessResult run_process(const std::vector<std::string>& arguments,
                          const ProcessOptions& options = {});

// A folder that is there for one test. Removed with all that is in it.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Whole files; the test case fails when that does not work.
std::string read_file(const std::string& path);
void write_file(const std::string& path, const std::string& bytes);

}  // namespace moka::test

#endif  // MOKA_TESTS_PROCESS_H_
