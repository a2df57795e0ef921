// ThreadPool: the threads of one Executor, shared by XNNPACK's operators and Moka's own kernels.
#ifndef MOKA_RUNTIME_THREAD_POOL_H_
#define MOKA_RUNTIME_THREAD_POOL_H_

#include <cstddef>
#include <memory>

#include "moka/status.h"

struct pthreadpool;  // pthreadpool.h; thread_pool.cc owns it

namespace moka {

class ThreadPool {
 public:
  // threads >= 1; the calling thread is one of them.
  static Result<std::unique_ptr<ThreadPool>> create(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }
  // Workers yield instead of spinning: set when there are no more cores than threads, because one
  // other busy process then turns microseconds of spinning into milliseconds of waiting.
  bool yields() const { return yields_; }

  // Calls task(context, thread, index) for index 0 ... count - 1; returns when all are done. A
  // thread number is below threads(), and no two calls run under one number at a time.
  using Task = void (*)(void* context, size_t thread, size_t index);
  void run(size_t count, Task task, void* context);

  // Null with one thread, which is how XNNPACK is told to stay on the caller's.
  pthreadpool* handle() const { return handle_; }

 private:
  ThreadPool() = default;
  pthreadpool* handle_ = nullptr;
  int threads_ = 1;
  bool yields_ = false;
};

// Cores that this process may use, at least 1.
int available_cores();

}  // namespace moka

#endif  // MOKA_RUNTIME_THREAD_POOL_H_
