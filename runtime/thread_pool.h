// ThreadPool: the threads of one Executor.
//
// A call is a list of small tasks that whoever is awake takes one by one. The caller takes tasks too
// and waits only for those that another thread has begun, never for a thread to wake up: on a busy
// machine, where a worker may get no core for milliseconds, the caller simply does the work itself.
// Between calls workers wait awake for kSpin, long enough to bridge two products of one token, giving
// their core away whenever another process wants it, and then sleep.
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

  int threads() const;

  // Calls task(context, thread, index) for index 0 ... count - 1, in any order; returns when all are
  // done. A thread number is below threads(), and no two calls run under one number at a time. One
  // caller at a time; count below 2^32.
  using Task = void (*)(void* context, size_t thread, size_t index);
  void run(size_t count, Task task, void* context);

  // Threads for XNNPACK's operators, which sleep until the first is used. Made by the first call
  // (kOutOfMemory: the system refuses threads); *handle is null with one thread, which is how XNNPACK
  // is told to stay on the caller's.
  Status xnnpack_pool(pthreadpool** handle);
  // XNNPACK's workers are to yield instead of spinning: set when there are no more cores than threads,
  // because one other busy process then turns microseconds of spinning into milliseconds of waiting.
  bool yields() const;

 private:
  struct Impl;
  explicit ThreadPool(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Cores that this process may use, at least 1.
int available_cores();

// Those of them that are of the fastest kind (big.LITTLE: work handed out evenly waits for the
// slowest core), at least 1. All, where the system does not tell.
int fast_cores();

}  // namespace moka

#endif  // MOKA_RUNTIME_THREAD_POOL_H_
