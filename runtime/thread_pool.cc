#include "runtime/thread_pool.h"

#include <pthreadpool.h>

#include <new>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace moka {

int available_cores() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
#endif
  const unsigned cores = std::thread::hardware_concurrency();
  return cores == 0 ? 1 : static_cast<int>(cores);
}

Result<std::unique_ptr<ThreadPool>> ThreadPool::create(int threads) {
  std::unique_ptr<ThreadPool> pool(new (std::nothrow) ThreadPool());
  if (pool == nullptr) return Status(StatusCode::kOutOfMemory, "no memory for a thread pool");
  pool->threads_ = threads;
  pool->yields_ = threads >= available_cores();
  if (threads > 1) {
    pool->handle_ = pthreadpool_create(static_cast<size_t>(threads));
    if (pool->handle_ == nullptr) {
      return Status(StatusCode::kOutOfMemory,
                    "the system refused a pool of " + std::to_string(threads) + " threads");
    }
  }
  return pool;
}

ThreadPool::~ThreadPool() {
  if (handle_ != nullptr) pthreadpool_destroy(handle_);
}

void ThreadPool::run(size_t count, Task task, void* context) {
  if (handle_ == nullptr || count <= 1) {
    for (size_t i = 0; i < count; ++i) task(context, 0, i);
    return;
  }
  pthreadpool_parallelize_1d_with_thread(handle_, task, context, count,
                                         yields_ ? PTHREADPOOL_FLAG_YIELD_WORKERS : 0);
}

}  // namespace moka
