// PageFetch: the weights of a mapped model enter the process while the rest of it is being opened.
#ifndef MOKA_RUNTIME_PAGE_FETCH_H_
#define MOKA_RUNTIME_PAGE_FETCH_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "moka/span.h"
#include "runtime/file_map.h"

namespace moka {

// A model in the system's cache is opened as fast as its pages are entered, one by one (1.2 us each on
// some virtual machines: 40 ms for 134 MB), so a thread of its own begins with that while the caller
// makes the vocabulary and the executor, and both do what is left. Where the system has no such
// call (FileMap::fetch), or there is little to do, or no second core or thread to be had, nothing runs
// beside the caller. One thread uses it.
class PageFetch {
 public:
  PageFetch() = default;
  ~PageFetch();  // leaves undone what is not begun
  PageFetch(const PageFetch&) = delete;
  PageFetch& operator=(const PageFetch&) = delete;

  // Begins with the ranges, which lie in map->bytes(), in any order. Once. Can throw bad_alloc.
  void start(std::shared_ptr<const FileMap> map, std::vector<Span<const uint8_t>> ranges);
  // Returns when all is done.
  void finish();

 private:
  void work();

  std::shared_ptr<const FileMap> map_;
  std::vector<Span<const uint8_t>> pieces_;
  std::atomic<size_t> next_{0};
  std::thread thread_;
};

}  // namespace moka

#endif  // MOKA_RUNTIME_PAGE_FETCH_H_
