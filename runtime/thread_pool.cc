#include "runtime/thread_pool.h"

#include <pthreadpool.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <new>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace moka {
namespace {

constexpr std::chrono::microseconds kSpin(100);
constexpr int kPauses = 64;  // between two looks at the clock

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

}  // namespace

// The call that runs, if any, is in `word_`: its number in the upper half, and in the lower half
// whether it is open to workers and how many of them are inside. Workers read the call's description
// only after they have entered, and the caller changes it only when it is closed and empty.
struct ThreadPool::Impl {
  static constexpr uint64_t kOpen = uint64_t{1} << 31, kCall = uint64_t{1} << 32;

  int threads = 1;
  bool yields = false;
  std::vector<std::thread> workers;

  // On cache lines of their own: workers that wait look at the first, those that work share the second.
  alignas(64) std::atomic<uint64_t> word{0};
  alignas(64) std::atomic<size_t> next{0};
  alignas(64) Task task = nullptr;
  void* context = nullptr;
  size_t count = 0;

  std::mutex mutex;  // of sleeping
  std::condition_variable wake;
  std::atomic<int> sleepers{0};
  std::atomic<bool> ends{false};

  std::mutex xnnpack_mutex;
  pthreadpool* xnnpack = nullptr;

  ~Impl() {
    ends = true;
    {
      const std::lock_guard<std::mutex> lock(mutex);
      wake.notify_all();
    }
    for (std::thread& worker : workers) worker.join();
    if (xnnpack != nullptr) pthreadpool_destroy(xnnpack);
  }

  void take(size_t thread) {
    for (size_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) task(context, thread, i);
  }

  bool has_news(uint64_t seen) const { return ends || word.load() / kCall != seen; }

  // Returns when there is another call than number `seen`, or the end.
  void wait(uint64_t seen) {
    const auto until = std::chrono::steady_clock::now() + kSpin;
    do {
      for (int i = 0; i < kPauses; ++i) {
        if (has_news(seen)) return;
        pause();
      }
      std::this_thread::yield();
    } while (std::chrono::steady_clock::now() < until);
    std::unique_lock<std::mutex> lock(mutex);
    ++sleepers;
    wake.wait(lock, [&] { return has_news(seen); });
    --sleepers;
  }

  void work(size_t thread) {
    for (uint64_t seen = 0; !ends;) {
      wait(seen);
      uint64_t now = word.load();
      seen = now / kCall;
      while ((now & kOpen) != 0 && now / kCall == seen) {
        if (!word.compare_exchange_weak(now, now + 1)) continue;
        take(thread);
        word.fetch_sub(1);
        break;
      }
    }
  }

  void run(size_t how_many, Task what, void* with) {
    task = what;
    context = with;
    count = how_many;
    next = 0;
    word.store((word.load() / kCall + 1) * kCall + kOpen);
    if (sleepers.load() != 0) {
      const std::lock_guard<std::mutex> lock(mutex);
      wake.notify_all();
    }
    take(0);
    word.fetch_sub(kOpen);
    for (int i = 1; word.load() % kCall != 0; ++i) {
      pause();
      if (i % kPauses == 0) std::this_thread::yield();
    }
  }
};

ThreadPool::ThreadPool(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ThreadPool::~ThreadPool() = default;

Result<std::unique_ptr<ThreadPool>> ThreadPool::create(int threads) {
  auto impl = std::make_unique<Impl>();
  impl->threads = threads;
  impl->yields = threads >= available_cores();
  try {
    Impl* shared = impl.get();
    for (int i = 1; i < threads; ++i) {
      impl->workers.emplace_back([shared, i] { shared->work(static_cast<size_t>(i)); });
    }
  } catch (const std::exception&) {  // std::system_error, std::bad_alloc
    return Status(StatusCode::kOutOfMemory,
                  "the system refused a pool of " + std::to_string(threads) + " threads");
  }
  return std::unique_ptr<ThreadPool>(new ThreadPool(std::move(impl)));
}

int ThreadPool::threads() const { return impl_->threads; }
bool ThreadPool::yields() const { return impl_->yields; }

void ThreadPool::run(size_t count, Task task, void* context) {
  if (impl_->threads == 1 || count <= 1) {
    for (size_t i = 0; i < count; ++i) task(context, 0, i);
    return;
  }
  impl_->run(count, task, context);
}

Status ThreadPool::xnnpack_pool(pthreadpool** handle) {
  *handle = nullptr;
  if (impl_->threads == 1) return Status();
  const std::lock_guard<std::mutex> lock(impl_->xnnpack_mutex);
  if (impl_->xnnpack == nullptr) {
    impl_->xnnpack = pthreadpool_create(static_cast<size_t>(impl_->threads));
  }
  *handle = impl_->xnnpack;
  if (*handle != nullptr) return Status();
  return Status(StatusCode::kOutOfMemory,
                "the system refused a pool of " + std::to_string(impl_->threads) + " threads");
}

}  // namespace moka
