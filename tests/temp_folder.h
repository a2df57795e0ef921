// A folder of its own for a test, removed with everything in it at the end.
#ifndef MOKA_TESTS_TEMP_FOLDER_H_
#define MOKA_TESTS_TEMP_FOLDER_H_

#include <atomic>
#include <chrono>
#include <filesystem>
#include <string>
#include <system_error>

namespace moka::test {

class TempFolder {
 public:
  TempFolder() {
    static std::atomic<int> counter{0};
    const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
    path_ = std::filesystem::temp_directory_path() /
            ("moka-test-" + std::to_string(now) + "-" + std::to_string(counter++));
    std::filesystem::create_directory(path_);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  std::string file(const std::string& name) const { return (path_ / name).string(); }
  std::string path() const { return path_.string(); }
  // How many files and folders are in it.
  size_t count() const {
    size_t n = 0;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      (void)entry;
      ++n;
    }
    return n;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace moka::test

#endif  // MOKA_TESTS_TEMP_FOLDER_H_
