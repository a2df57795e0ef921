#include "runtime/profile.h"

#include <algorithm>
#include <chrono>
#include <new>
#include <string>
#include <utility>

namespace moka {

Result<std::unique_ptr<Profiler>> Profiler::create(size_t threads, size_t spans) {
  if (spans < 1 || spans > kMaxSpans) {
    return Status(StatusCode::kInvalidArgument, "a profile of " + std::to_string(spans) +
                                                    " spans per thread; must be 1 to " +
                                                    std::to_string(kMaxSpans));
  }
  try {  // a vector has no other way to say that there is no memory
    std::unique_ptr<Profiler> profiler(new Profiler(threads));
    for (Row& row : profiler->rows_) row.spans.reserve(spans);
    profiler->capacity_ = spans;
    return profiler;
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::kOutOfMemory, "no memory for a profile of " + std::to_string(spans) +
                                                " spans for each of " + std::to_string(threads) +
                                                " threads, " + std::to_string(sizeof(ProfileSpan)) +
                                                " bytes each");
  }
}

uint64_t Profiler::now() {
  const auto since_epoch = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(since_epoch).count());
}

void Profiler::add(const ProfileSpan& span) {
  Row& row = rows_[span.thread];
  if (row.spans.size() < capacity_) {
    row.spans.push_back(span);
  } else {
    ++row.dropped;
  }
}

Profile Profiler::take() {
  Profile profile;
  for (Row& row : rows_) {
    profile.spans.insert(profile.spans.end(), row.spans.begin(), row.spans.end());
    profile.dropped += std::exchange(row.dropped, 0);
    row.spans.clear();
  }
  std::stable_sort(profile.spans.begin(), profile.spans.end(),
                   [](const ProfileSpan& a, const ProfileSpan& b) {
                     return a.start != b.start ? a.start < b.start : a.part < b.part;
                   });
  return profile;
}

void ProfileScope::finish() {
  span_.duration = Profiler::now() - span_.start;
  profiler_->add(span_);
}

}  // namespace moka
