// What processes that were killed leave behind: the next one for the same target removes it, and never
// what may be in use.
#include <doctest/doctest.h>

#include "tests/checkpoint_builder.h"
#include "tests/process.h"

#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "converter/convert.h"
#include "converter/file.h"
#include "runtime/atomic_file.h"
#include "runtime/temporary_file.h"
#include "tests/cli_model.h"

namespace moka::test {
namespace {

using Names = std::vector<std::string>;

bool can_tell(const TemporaryFolder& folder) {
  const bool can = can_tell_stale(folder.path());
  if (!can) MESSAGE("skipped: locks in " << folder.path() << " do not say what is stale");
  return can;
}

// A process that does `work` and waits to be killed.
class Child {
 public:
  explicit Child(const std::function<void()>& work) {
    int ready[2] = {};
    REQUIRE(::pipe(ready) == 0);
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      work();
      (void)!::write(ready[1], "x", 1);
      for (;;) ::pause();
    }
    ::close(ready[1]);
    char byte = 0;
    REQUIRE(::read(ready[0], &byte, 1) == 1);
    ::close(ready[0]);
  }
  ~Child() { kill(); }
  void kill() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(std::exchange(pid_, -1), nullptr, 0);
  }

 private:
  pid_t pid_ = -1;
};

// Begins to write `path` and keeps it so, for as long as the process lives.
void begin_writing(const std::string& path) {
  static std::optional<AtomicFile> file;
  auto made = AtomicFile::create(path, Existing::kReplace);
  if (!made.ok() || !made.value().write("half", 4).ok()) ::_exit(1);
  file.emplace(std::move(made).value());
}

void save(const std::string& path, const std::string& bytes) {
  const auto* begin = reinterpret_cast<const uint8_t*>(bytes.data());
  const Status status = write_file(path, Existing::kReplace, {begin, bytes.size()});
  REQUIRE_MESSAGE(status.ok(), status.to_string());
}

}  // namespace

TEST_CASE("stale files: the next save removes what a killed process left, and nothing that lives") {
  const TemporaryFolder folder;
  if (!can_tell(folder)) return;
  const std::string path = folder / "a.session";
  Child first([&] { begin_writing(path); });
  Child second([&] { begin_writing(path); });
  const Names both = {"a.session.moka-0.part", "a.session.moka-1.part"};
  CHECK(names_in(folder.path()) == both);
  {
    // Both live, this process too.
    auto third = AtomicFile::create(path, Existing::kReplace);
    REQUIRE(third.ok());
    CHECK(names_in(folder.path()).size() == 3);
    save(path, "new");
    REQUIRE(third.value().write("third", 5).ok());
    REQUIRE(third.value().commit().ok());
  }
  CHECK(read_file(path) == "third");
  CHECK(names_in(folder.path()) == Names{"a.session", both[0], both[1]});

  first.kill();
  CHECK(names_in(folder.path()).size() == 3);
  save(folder / "other.session", "x");  // of another target: not its business
  CHECK(names_in(folder.path()).size() == 4);
  save(path, "newer");
  CHECK(names_in(folder.path()) == Names{"a.session", both[1], "other.session"});
  second.kill();
  save(path, "newest");
  CHECK(names_in(folder.path()) == Names{"a.session", "other.session"});
  CHECK(read_file(path) == "newest");
}

TEST_CASE("stale files: what only looks like one stays") {
  const TemporaryFolder folder;
  const std::string path = folder / "m.moka";
  write_file(folder / "elsewhere", "a file of somebody");
  for (const char* name : {"m.moka.part", "m.moka.0.part", "m.moka.moka-8.part", "m.moka.moka-0",
                           "m.moka.moka-0.part.txt", "n.moka.moka-0.part"}) {
    write_file(folder / name, "x");
  }
  std::filesystem::create_directory(folder / "m.moka.moka-0.part");
  std::filesystem::create_symlink(folder / "elsewhere", folder / "m.moka.moka-1.part");
  REQUIRE(::mkfifo((folder / "m.moka.moka-2.part").c_str(), 0600) == 0);
  const Names before = names_in(folder.path());
  save(path, "whole");
  Names after = names_in(folder.path());
  CHECK(after.size() == before.size() + 1);
  CHECK(read_file(path) == "whole");
  CHECK(read_file(folder / "elsewhere") == "a file of somebody");
}

TEST_CASE("stale files: more writers than slots") {
  const TemporaryFolder folder;
  const std::string path = folder / "a.session";
  std::vector<AtomicFile> files;
  for (int i = 0; i < 12; ++i) {
    auto made = AtomicFile::create(path, Existing::kReplace);
    REQUIRE_MESSAGE(made.ok(), made.status().to_string());
    files.push_back(std::move(made).value());
    REQUIRE(files.back().write(&"abcdefghijkl"[i], 1).ok());
  }
  CHECK(names_in(folder.path()).size() == 12);
  for (int i = 0; i < 12; ++i) {
    REQUIRE(files[i].commit().ok());
    CHECK(read_file(path) == std::string(1, "abcdefghijkl"[i]));
  }
  CHECK(names_in(folder.path()) == Names{"a.session"});
}

TEST_CASE("stale files: a conversion removes the scratch files of one that was killed") {
  const TemporaryFolder folder;
  if (!can_tell(folder)) return;
  const std::string target = folder / "m.moka";
  const auto begin_converting = [&] {
    static std::optional<ScratchPath> scratch;
    scratch.emplace(target);
    save(scratch->path(), "weights");
    begin_writing(scratch->path());  // and at it again
  };
  Child lives(begin_converting), dies(begin_converting);
  const Names left = {"m.moka.moka-0.scratch",
                      "m.moka.moka-0.scratch.model",
                      "m.moka.moka-0.scratch.model.moka-0.part",
                      "m.moka.moka-1.scratch",
                      "m.moka.moka-1.scratch.model",
                      "m.moka.moka-1.scratch.model.moka-0.part"};
  CHECK(names_in(folder.path()) == left);
  dies.kill();

  ConvertOptions options;
  options.input = std::string(MOKA_SOURCE_DIR) + "/tests/data/hf/macchiato_width43_tied";
  options.output = target;
  options.threads = 1;
  options.test_vector = TestVectorMode::kNever;
  REQUIRE(convert(options).ok());
  Names want(left.begin(), left.begin() + 3);
  want.insert(want.begin(), "m.moka");
  CHECK(names_in(folder.path()) == want);
  lives.kill();
  options.force = true;
  options.test_vector = TestVectorMode::kAlways;  // with scratch files of its own
  REQUIRE(convert(options).ok());
  CHECK(names_in(folder.path()) == Names{"m.moka"});
}

}  // namespace moka::test
#endif
