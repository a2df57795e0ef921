// Pages of a mapped file that are entered before they are touched.
#include "runtime/page_fetch.h"

#include <doctest/doctest.h>

#ifdef __linux__
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#endif

#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/temp_folder.h"

namespace moka::test {
namespace {

using Ranges = std::vector<Span<const uint8_t>>;

constexpr size_t kBytes = size_t{20} << 20;

std::shared_ptr<FileMap> mapped_file(const std::string& path) {
  // In small pieces, which no system keeps as large pages: those would need few faults as they are.
  std::ofstream file(path, std::ios::binary);
  const std::string piece(16384, 'm');
  for (size_t i = 0; i < kBytes; i += piece.size()) file << piece << std::flush;
  file.close();
  auto map = FileMap::open(path);
  REQUIRE_MESSAGE(map.ok(), map.status().to_string());
  return std::move(map).value();
}

#ifdef __linux__
// Page faults of this process while a byte of each page is read.
int64_t faults_of_reading(Span<const uint8_t> bytes) {
  const auto faults = [] {
    rusage usage = {};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<int64_t>(usage.ru_minflt);
  };
  const int64_t before = faults();
  unsigned sum = 0;
  for (size_t i = 0; i < bytes.size(); i += 4096) sum += bytes.data()[i];
  CHECK(sum == bytes.size() / 4096 * unsigned{'m'});
  return faults() - before;
}

// Linux 5.14 and later.
bool system_enters_pages(const FileMap& map) {
  void* begin = const_cast<uint8_t*>(map.bytes().data());
  return madvise(begin, 4096, 22 /* MADV_POPULATE_READ */) == 0;
}
#endif

}  // namespace

#ifdef __linux__
TEST_CASE("page fetch: what was fetched is read without page faults") {
  const TempFolder folder;
  const std::shared_ptr<FileMap> map = mapped_file(folder.file("file"));
  const Span<const uint8_t> bytes = map->bytes();
  if (!system_enters_pages(*map)) {
    MESSAGE("skipped: this system enters no pages on request");
    return;
  }
  // A fault enters some pages around it, 16 or more, so there are many fewer than pages.
  map->release(bytes.data(), bytes.size());
  const int64_t unfetched = faults_of_reading(bytes);
  if (unfetched < 30) {
    MESSAGE("skipped: faults enter so much by themselves that nothing can be told");
    return;
  }
  map->release(bytes.data(), bytes.size());
  map->fetch(bytes.data(), bytes.size());
  CHECK(faults_of_reading(bytes) < 10);

  // Ranges in any order, next to each other, within each other and of nothing.
  map->release(bytes.data(), bytes.size());
  PageFetch pages;
  pages.start(map, Ranges{{bytes.data() + kBytes / 2, kBytes / 2},
                          {bytes.data() + 100, 5000},
                          {bytes.data(), kBytes / 2 - 64},
                          {nullptr, 0}});
  pages.finish();
  CHECK(faults_of_reading(bytes) < 10);

  // A part alone.
  map->release(bytes.data(), bytes.size());
  PageFetch half;
  half.start(map, Ranges{bytes.subspan(0, kBytes / 2)});
  half.finish();
  CHECK(faults_of_reading(bytes.subspan(0, kBytes / 2)) < 10);
  CHECK(faults_of_reading(bytes.subspan(kBytes / 2, kBytes / 2)) >= 10);
}

TEST_CASE("page fetch: one that is given up, or has nothing to do") {
  const TempFolder folder;
  const std::shared_ptr<FileMap> map = mapped_file(folder.file("file"));
  const Span<const uint8_t> bytes = map->bytes();
  {
    PageFetch pages;
    pages.start(map, Ranges{bytes});
  }
  CHECK(faults_of_reading(bytes) < static_cast<int64_t>(kBytes / 4096));
  PageFetch none;
  none.start(map, {});
  none.finish();
  const PageFetch idle;
}

TEST_CASE("page fetch: bytes that were read and not mapped need nothing") {
  const TempFolder folder;
  mapped_file(folder.file("file"));
  const int descriptor = open(folder.file("file").c_str(), O_RDONLY);
  auto copy = FileMap::open_descriptor(descriptor, 1, 0, "copy");
  close(descriptor);
  REQUIRE(copy.ok());
  const Span<const uint8_t> bytes = copy.value()->bytes();
  PageFetch pages;
  pages.start(copy.value(), Ranges{bytes});
  pages.finish();
  CHECK(bytes.size() == kBytes - 1);
  CHECK(bytes.data()[kBytes - 2] == 'm');
}
#endif

}  // namespace moka::test
