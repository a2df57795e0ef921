#include "runtime/page_fetch.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "runtime/thread_pool.h"

namespace moka {
namespace {

// What one entry of the upper page table spans, so that threads seldom meet at the same lock.
constexpr uintptr_t kPiece = uintptr_t{2} << 20;
// Tensors nearer than this are one range: whole pages alone can be entered.
constexpr uintptr_t kGap = uintptr_t{64} << 10;

uintptr_t address(const uint8_t* p) { return reinterpret_cast<uintptr_t>(p); }

}  // namespace

PageFetch::~PageFetch() {
  next_.store(pieces_.size());
  if (thread_.joinable()) thread_.join();
}

void PageFetch::start(std::shared_ptr<const FileMap> map, std::vector<Span<const uint8_t>> ranges) {
  map_ = std::move(map);
  std::sort(ranges.begin(), ranges.end(), [](Span<const uint8_t> a, Span<const uint8_t> b) {
    return address(a.data()) < address(b.data());
  });
  for (size_t i = 0; i < ranges.size();) {
    const uint8_t* at = ranges[i].data();
    const uint8_t* end = at;
    for (; i < ranges.size() && address(ranges[i].data()) <= address(end) + kGap; ++i) {
      end = std::max(end, ranges[i].data() + ranges[i].size());
    }
    while (at < end) {
      const uint8_t* stop = at + (kPiece - address(at) % kPiece);
      stop = std::min(stop, end);
      pieces_.push_back({at, static_cast<size_t>(stop - at)});
      at = stop;
    }
  }
#ifdef __linux__
  if (pieces_.size() < 4 || available_cores() < 2) return;
  try {
    thread_ = std::thread([this] { work(); });
  } catch (const std::system_error&) {
    // No thread to be had: finish() does it all.
  }
#endif
}

void PageFetch::finish() {
  work();
  if (thread_.joinable()) thread_.join();
}

void PageFetch::work() {
  for (size_t i = next_.fetch_add(1); i < pieces_.size(); i = next_.fetch_add(1)) {
    map_->fetch(pieces_[i].data(), pieces_[i].size());
  }
}

}  // namespace moka
