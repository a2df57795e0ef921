// FileMap, AtomicFile, checksums: what model files and saved sessions stand on.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "runtime/atomic_file.h"
#include "runtime/checksum.h"
#include "runtime/file_map.h"
#include "tests/temp_folder.h"

#ifndef _WIN32
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace moka::test {
namespace {

std::string content(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void put(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

TEST_CASE("checksum: XXH3-64 of known bytes, however they are cut") {
  // Values of the reference implementation.
  CHECK(xxh3_64("", 0) == 0x2d06800538d394c2u);
  CHECK(xxh3_64("a", 1) == 0xe6c632b61e964e1fu);
  CHECK(xxh3_64("abc", 3) == 0x78af5f94892f3950u);
  std::vector<uint8_t> bytes(5000);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 31 + i / 256);
  for (const size_t piece : {size_t{1}, size_t{63}, size_t{64}, size_t{1000}}) {
    Xxh3Stream stream;
    for (size_t at = 0; at < bytes.size(); at += piece) {
      stream.update(bytes.data() + at, std::min(piece, bytes.size() - at));
      CHECK(stream.digest() == xxh3_64(bytes.data(), std::min(at + piece, bytes.size())));
    }
    stream.reset();
    CHECK(stream.digest() == xxh3_64(nullptr, 0));
  }
}

TEST_CASE("file map: the whole file, and it outlives the name") {
  const TempFolder folder;
  const std::string path = folder.file("a");
  const std::string text(100000, 'q');
  put(path, text);
  const auto map = FileMap::open(path);
  REQUIRE(map.ok());
  std::filesystem::remove(path);
  const Span<const uint8_t> bytes = map.value()->bytes();
  CHECK(reinterpret_cast<uintptr_t>(bytes.data()) % 4096 == 0);
  CHECK(std::string(bytes.begin(), bytes.end()) == text);
  // Pages that were given back are read again, with the same content.
  map.value()->release(bytes.data() + 1, bytes.size() - 1);
  map.value()->release(bytes.data(), 0);
  CHECK(std::string(bytes.begin(), bytes.end()) == text);
}

#ifndef _WIN32
TEST_CASE("file map: a part of an open file, mapped or read") {
  const TempFolder folder;
  std::string text(20000, ' ');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i % 23);
  put(folder.file("a"), text);
  const int descriptor = ::open(folder.file("a").c_str(), O_RDONLY);
  REQUIRE(descriptor >= 0);
  REQUIRE(::lseek(descriptor, 7, SEEK_SET) == 7);
  for (const uint64_t offset : {0u, 1u, 64u, 4095u, 4096u, 8256u, 20000u}) {
    for (const uint64_t length : {uint64_t{0}, uint64_t{100}, 20000 - offset}) {
      CAPTURE(offset);
      CAPTURE(length);
      const auto map = FileMap::open_descriptor(descriptor, offset, length, "a part");
      if (offset + length > 20000) {
        CHECK(map.status().code() == StatusCode::kOutOfRange);
        continue;
      }
      REQUIRE(map.ok());
      const Span<const uint8_t> bytes = map.value()->bytes();
      const size_t count = static_cast<size_t>(length == 0 ? 20000 - offset : length);
      CHECK(reinterpret_cast<uintptr_t>(bytes.data()) % 64 == 0);
      // Giving pages back must not lose those that were read and not mapped.
      map.value()->release(bytes.data(), bytes.size());
      CHECK(std::string(bytes.begin(), bytes.end()) ==
            text.substr(static_cast<size_t>(offset), count));
    }
  }
  CHECK(::lseek(descriptor, 0, SEEK_CUR) == 7);
  ::close(descriptor);
}
#endif

TEST_CASE("file map: empty, missing and irregular files") {
  const TempFolder folder;
  put(folder.file("empty"), "");
  const auto empty = FileMap::open(folder.file("empty"));
  REQUIRE(empty.ok());
  CHECK(empty.value()->bytes().empty());

  const Status missing = FileMap::open(folder.file("none")).status();
  CHECK(missing.code() == StatusCode::kNotFound);
  CHECK(missing.message() == folder.file("none") + ": cannot open: No such file or directory");
  CHECK(FileMap::open(folder.file("empty") + "/x").status().code() == StatusCode::kNotFound);
  CHECK(FileMap::open(folder.path()).status().code() == StatusCode::kInvalidArgument);
#ifndef _WIN32
  CHECK(FileMap::open("/dev/null").status().code() == StatusCode::kInvalidArgument);
  REQUIRE(::mkfifo(folder.file("pipe").c_str(), 0600) == 0);  // must not wait for a writer
  CHECK(FileMap::open(folder.file("pipe")).status().code() == StatusCode::kInvalidArgument);
  if (::geteuid() != 0) {
    put(folder.file("secret"), "x");
    REQUIRE(::chmod(folder.file("secret").c_str(), 0) == 0);
    CHECK(FileMap::open(folder.file("secret")).status().code() == StatusCode::kIo);
  }
#endif
}

TEST_CASE("atomic file: appears whole, under its name, and only at commit") {
  const TempFolder folder;
  const std::string path = folder.file("a");
  auto file = AtomicFile::create(path, Existing::kRefuse);
  REQUIRE(file.ok());
  CHECK(!std::filesystem::exists(path));
  CHECK(file.value().write("hello ", 6).ok());
  CHECK(file.value().write("world", 5).ok());
  CHECK(file.value().write_at(0, "J", 1).ok());
  CHECK(file.value().write("!", 1).ok());  // appends after write_at
  CHECK(file.value().size() == 12);
  CHECK(file.value().write_at(11, "??", 2).code() == StatusCode::kOutOfRange);
  CHECK(file.value().write_at(~uint64_t{0}, "?", 1).code() == StatusCode::kOutOfRange);
  CHECK(!std::filesystem::exists(path));
  CHECK(file.value().commit().ok());
  CHECK(content(path) == "Jello world!");
  CHECK(folder.count() == 1);
  CHECK(file.value().commit().code() == StatusCode::kFailedPrecondition);
  CHECK(file.value().write("x", 1).code() == StatusCode::kFailedPrecondition);
  CHECK(content(path) == "Jello world!");
}

TEST_CASE("atomic file: without commit nothing stays and the old file is untouched") {
  const TempFolder folder;
  const std::string path = folder.file("a");
  put(path, "old");
  {
    auto file = AtomicFile::create(path, Existing::kReplace);
    REQUIRE(file.ok());
    REQUIRE(file.value().write("new", 3).ok());
    AtomicFile moved = std::move(file).value();
    REQUIRE(moved.write("er", 2).ok());
    CHECK(folder.count() == 2);
  }
  CHECK(folder.count() == 1);
  CHECK(content(path) == "old");
}

TEST_CASE("atomic file: an existing file is replaced only when that is allowed") {
  const TempFolder folder;
  const std::string path = folder.file("a");
  put(path, "old");
  const Status refused = AtomicFile::create(path, Existing::kRefuse).status();
  CHECK(refused.code() == StatusCode::kFailedPrecondition);
  CHECK(refused.message().find(path) == 0);

  const std::string late = folder.file("late");
  auto racing = AtomicFile::create(late, Existing::kRefuse);
  REQUIRE(racing.ok());
  REQUIRE(racing.value().write("mine", 4).ok());
  put(late, "somebody else's");  // appears between create and commit
  CHECK(racing.value().commit().code() == StatusCode::kFailedPrecondition);
  CHECK(content(late) == "somebody else's");

#ifndef _WIN32
  REQUIRE(::chmod(path.c_str(), 0640) == 0);
#endif
  auto file = AtomicFile::create(path, Existing::kReplace);
  REQUIRE(file.ok());
  REQUIRE(file.value().write("new", 3).ok());
  REQUIRE(file.value().commit().ok());
  CHECK(content(path) == "new");
#ifndef _WIN32
  struct stat info = {};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0640);
#endif
}

TEST_CASE("atomic file: two at once for one name do not meet") {
  const TempFolder folder;
  const std::string path = folder.file("a");
  auto one = AtomicFile::create(path, Existing::kReplace);
  auto two = AtomicFile::create(path, Existing::kReplace);
  REQUIRE(one.ok());
  REQUIRE(two.ok());
  REQUIRE(one.value().write("one", 3).ok());
  REQUIRE(two.value().write("two", 3).ok());
  REQUIRE(two.value().commit().ok());
  CHECK(content(path) == "two");
  REQUIRE(one.value().commit().ok());
  CHECK(content(path) == "one");
  CHECK(folder.count() == 1);
}

TEST_CASE("atomic file: places that cannot be written") {
  const TempFolder folder;
  CHECK(AtomicFile::create(folder.file("no/a"), Existing::kReplace).status().code() ==
        StatusCode::kNotFound);
  CHECK(AtomicFile::create(folder.path(), Existing::kReplace).status().code() ==
        StatusCode::kInvalidArgument);
#ifndef _WIN32
  CHECK(AtomicFile::create("/dev/null", Existing::kReplace).status().code() ==
        StatusCode::kInvalidArgument);
#endif
}

}  // namespace
}  // namespace moka::test
