// An allocator of the app's own. It is set once for a process, before all else, so the test runs this
// program again.
#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>

#include "tests/capi_testing.h"
#include "tests/process.h"

namespace moka::test {
namespace {

constexpr const char* kInside = "MOKA_TEST_ALLOCATOR";

struct Counted {
  std::mutex mutex;
  std::map<void*, size_t> live;
  size_t most = SIZE_MAX;  // bytes of one buffer
  size_t bytes = 0, calls = 0, wrong = 0;
  bool misaligned = false;
};

void* allocate(void* user, size_t size, size_t alignment) {
  Counted& counted = *static_cast<Counted*>(user);
  const std::lock_guard<std::mutex> lock(counted.mutex);
  ++counted.calls;
  if (size == 0 || alignment != 64) ++counted.wrong;
  if (size > counted.most) return nullptr;
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, size + alignment) != 0) return nullptr;
  if (counted.misaligned) memory = static_cast<char*>(memory) + 8;
  counted.live[memory] = size;
  counted.bytes += size;
  return memory;
}

void release(void* user, void* memory, size_t size) {
  Counted& counted = *static_cast<Counted*>(user);
  const std::lock_guard<std::mutex> lock(counted.mutex);
  const auto found = counted.live.find(memory);
  if (found == counted.live.end() || found->second != size) {
    ++counted.wrong;
    return;
  }
  counted.bytes -= size;
  counted.live.erase(found);
  std::free(counted.misaligned ? static_cast<char*>(memory) - 8 : memory);
}

void run_inside() {
  static Counted counted;
  const moka_allocator half = {allocate, nullptr, nullptr};
  CAPI_FAILS(moka_set_allocator(&half, &error), MOKA_INVALID_ARGUMENT,
             "the allocator's release is null; it needs both functions");
  const moka_allocator whole = {allocate, release, &counted};
  CAPI_OK(moka_set_allocator(&whole, &error));
  CAPI_FAILS(moka_set_allocator(&whole, &error), MOKA_FAILED_PRECONDITION,
             "this process has an allocator already; it is set once");
  {
    const CModel model = open_test_model(byte_language_model().spec);
    moka_model_info info;
    info.struct_size = sizeof info;
    CAPI_OK(moka_model_get_info(model.get(), &info, &error));
    const size_t opened = counted.bytes;
    CHECK(opened >= info.weight_bytes / 2);  // what is packed; token tables are not
    const Handle<moka_session> session = new_session(model.get());
    CHECK(counted.bytes >= opened + info.state_bytes);
    append(session.get(), tokens_of("something to read"));

    counted.most = 100;  // memory runs out
    moka_session* none = nullptr;
    CAPI_FAILS_WITH(moka_session_create(model.get(), nullptr, &none, &error), MOKA_OUT_OF_MEMORY,
                    "no memory for a session");
    counted.most = SIZE_MAX;
    counted.misaligned = true;
    CHECK(moka_session_create(model.get(), nullptr, &none, nullptr) == MOKA_OUT_OF_MEMORY);
    counted.misaligned = false;
    append(session.get(), tokens_of(", still"));
  }
  CHECK(counted.live.empty());
  CHECK(counted.bytes == 0);
  CHECK(counted.wrong == 0);
  CHECK(counted.calls > 10);
}

}  // namespace

TEST_CASE("capi: an allocator of the app's own") {
  if (std::getenv(kInside) != nullptr) {
    run_inside();
    return;
  }
  // Here models have been opened, or are now.
  (void)open_test_model(byte_language_model().spec);
  const moka_allocator allocator = {allocate, release, nullptr};
  CAPI_FAILS(moka_set_allocator(&allocator, &error), MOKA_FAILED_PRECONDITION,
             "a model was opened already; an allocator has to be set before");
  CAPI_FAILS(moka_set_allocator(nullptr, &error), MOKA_INVALID_ARGUMENT, "allocator is NULL");
#ifdef __linux__
  ProcessOptions options;
  options.environment = {{kInside, "1"}};
  const ProcessResult inside =
      run_process({"/proc/self/exe", "-tc=capi: an allocator of the app's own"}, options);
  CHECK_MESSAGE(inside.exit_code == 0, inside.out);
  CHECK(inside.out.find("1 passed") != std::string::npos);
#else
  MESSAGE("skipped: there is no /proc/self/exe to run this program again");
#endif
}

}  // namespace moka::test
