// The pool of threads: every task once, whoever takes it, and no wait for threads that sleep.
#include "runtime/thread_pool.h"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

namespace moka::test {
namespace {

std::unique_ptr<ThreadPool> pool_of(int threads) {
  auto made = ThreadPool::create(threads);
  REQUIRE(made.ok());
  return std::move(made).value();
}

struct Tally {
  explicit Tally(size_t count, int most)
      : runs(count), inside(static_cast<size_t>(most)), threads(static_cast<size_t>(most)) {}
  std::vector<std::atomic<int>> runs;
  std::vector<std::atomic<int>> inside;  // per thread number
  size_t threads;
  std::atomic<bool> shared_number{false};
  std::atomic<bool> bad_number{false};

  static void task(void* context, size_t thread, size_t index) {
    Tally& tally = *static_cast<Tally*>(context);
    if (thread >= tally.threads) {
      tally.bad_number = true;
      return;
    }
    if (tally.inside[thread].fetch_add(1) != 0) tally.shared_number = true;
    tally.runs[index].fetch_add(1);
    tally.inside[thread].fetch_sub(1);
  }
};

}  // namespace

TEST_CASE("thread pool: every task runs once, under a thread number of its own") {
  for (const int threads : {1, 2, 3, 8}) {
    auto pool = pool_of(threads);
    CHECK(pool->threads() == threads);
    for (const size_t count : {0, 1, 2, 3, 7, 64, 1000}) {
      CAPTURE(threads);
      CAPTURE(count);
      Tally tally(count, threads);
      for (int repeat = 0; repeat < 20; ++repeat) pool->run(count, &Tally::task, &tally);
      bool each = true;
      for (const std::atomic<int>& runs : tally.runs) each = each && runs == 20;
      CHECK(each);
      CHECK(!tally.shared_number);
      CHECK(!tally.bad_number);
    }
  }
}

TEST_CASE("thread pool: calls one after the other see each other's work") {
  auto pool = pool_of(4);
  // Plain memory: what one call writes, the next one reads on other threads.
  std::vector<int> values(256, 0);
  for (int round = 0; round < 500; ++round) {
    pool->run(
        values.size(),
        [](void* context, size_t, size_t i) {
          ++(*static_cast<std::vector<int>*>(context))[255 - i];
        },
        &values);
  }
  for (const int value : values) CHECK(value == 500);
}

TEST_CASE("thread pool: sleeping workers are woken, and the end does not hang") {
  auto pool = pool_of(2);
  Tally tally(64, 2);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // far longer than they stay awake
    pool->run(64, &Tally::task, &tally);
  }
  for (const std::atomic<int>& runs : tally.runs) CHECK(runs == 5);

  // Work that the caller cannot end alone: two tasks that wait for each other.
  std::atomic<int> here{0};
  pool->run(
      2,
      [](void* context, size_t, size_t) {
        std::atomic<int>& both = *static_cast<std::atomic<int>*>(context);
        ++both;
        while (both < 2) std::this_thread::yield();
      },
      &here);
  CHECK(here == 2);
}

TEST_CASE("thread pool: cores") {
  CHECK(available_cores() >= 1);
  CHECK(fast_cores() >= 1);
  CHECK(fast_cores() <= available_cores());
}

}  // namespace moka::test
