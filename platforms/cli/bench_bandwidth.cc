#include "platforms/cli/bench_bandwidth.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "platforms/cli/interrupt.h"
#include "runtime/aligned_buffer.h"

namespace moka::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kLine = 64;
constexpr size_t kBlock = 4 * kLine;  // of one stream before the next one's turn
constexpr size_t kMostStreams = 16;
constexpr size_t kUnit = kMostStreams * kBlock;
constexpr uint64_t kLeastBytes = uint64_t{1} << 20, kMostBytes = uint64_t{1} << 30;
constexpr uint64_t kRunBytes = uint64_t{256} << 20;  // read in a run: long against starting threads

// 16 bytes: a register of every CPU that Moka has kernels for.
typedef uint64_t Words __attribute__((vector_size(16)));

// The sum keeps the compiler from leaving the reads out.
template <size_t kStreams, size_t kAhead>
uint64_t read_streams(const char* begin, size_t size) {
  const size_t length = size / kStreams;
  Words sum[4] = {};
  for (size_t at = 0; at < length; at += kBlock) {
    for (size_t s = 0; s < kStreams; ++s) {
      const char* block = begin + s * length + at;
      for (size_t line = 0; line < kBlock; line += kLine) {
        // May point past the buffer: a prefetch does not fault, and an integer may go anywhere.
        const auto ahead = reinterpret_cast<uintptr_t>(block) + line + kAhead;
        __builtin_prefetch(reinterpret_cast<const void*>(ahead), 0, 3);
        const auto* words = reinterpret_cast<const Words*>(block + line);
        for (size_t i = 0; i < 4; ++i) sum[i] ^= words[i];
      }
    }
  }
  const Words all = (sum[0] ^ sum[1]) ^ (sum[2] ^ sum[3]);
  return all[0] ^ all[1];
}

struct Way {
  int streams;
  uint64_t (*read)(const char* begin, size_t size);
};
constexpr Way kWays[] = {
    {1, read_streams<1, 1024>},  {1, read_streams<1, 4096>}, {2, read_streams<2, 2048>},
    {4, read_streams<4, 1024>},  {4, read_streams<4, 2048>}, {8, read_streams<8, 1024>},
    {16, read_streams<16, 512>},
};

// All threads read their share of the buffer `passes` times. Seconds from the moment when all are
// ready to the end of the last one; 0 when the system refuses a thread.
double time_run(const Way& way, int threads, const char* buffer, size_t share, uint64_t passes) {
  std::atomic<int> waiting{0}, running{threads};
  std::atomic<bool> go{false}, stop{false};
  std::atomic<uint64_t> sum{0};
  Clock::time_point end;
  const auto work = [&](int thread) {
    waiting.fetch_add(1);
    while (!go.load(std::memory_order_acquire)) std::this_thread::yield();
    uint64_t own = 0;
    for (uint64_t pass = 0; pass < passes && !stop.load(std::memory_order_relaxed); ++pass) {
      own ^= way.read(buffer + static_cast<size_t>(thread) * share, share);
    }
    sum.fetch_xor(own);
    if (running.fetch_sub(1) == 1) end = Clock::now();
  };
  std::vector<std::thread> others;
  try {
    const HoldSignals hold;
    for (int thread = 1; thread < threads; ++thread) others.emplace_back(work, thread);
  } catch (const std::system_error&) {
    stop.store(true);
    go.store(true, std::memory_order_release);
    for (std::thread& other : others) other.join();
    return 0;
  }
  while (waiting.load() < threads - 1) std::this_thread::yield();
  const Clock::time_point start = Clock::now();
  go.store(true, std::memory_order_release);
  work(0);
  for (std::thread& other : others) other.join();
  return std::chrono::duration<double>(end - start).count();
}

}  // namespace

Result<ReadSpeed> measure_read_speed(int threads, uint64_t bytes, uint64_t runs) {
  const uint64_t wanted = std::clamp(bytes, kLeastBytes, kMostBytes);
  const auto count = static_cast<size_t>(threads);
  const size_t share = (static_cast<size_t>(wanted) / count / kUnit + 1) * kUnit;
  AlignedBuffer<char> buffer;
  if (!buffer.allocate(share * count)) {
    return Status(StatusCode::kOutOfMemory, "no memory for a buffer of " +
                                                std::to_string(share * count) +
                                                " bytes, whose reading is measured");
  }
  ReadSpeed best;
  best.threads = threads;
  best.buffer_bytes = buffer.size();
  const uint64_t passes = kRunBytes / buffer.size() + 1;
  const double read = static_cast<double>(buffer.size()) * static_cast<double>(passes);
  for (uint64_t run = 0; run < runs; ++run) {
    for (const Way& way : kWays) {
      if (interrupted()) return Status(StatusCode::kCancelled, "");
      const double seconds = time_run(way, threads, buffer.data(), share, passes);
      if (seconds <= 0) {
        return Status(StatusCode::kOutOfMemory,
                      "the system starts no more threads to read memory with");
      }
      if (read / seconds <= best.bytes_per_second) continue;
      best.bytes_per_second = read / seconds;
      best.streams = way.streams;
    }
  }
  return best;
}

}  // namespace moka::cli
