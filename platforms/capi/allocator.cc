// The process's allocator of large buffers.
#include "platforms/capi/border.h"
#include "runtime/aligned_buffer.h"

using namespace moka::capi;  // NOLINT: every function below is one of the C interface
using moka::Status;

moka_status moka_set_allocator(const moka_allocator* allocator, moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(allocator, "allocator"));
    moka::BufferAllocator given;
    given.allocate = allocator->allocate;
    given.release = allocator->release;
    given.user = allocator->user;
    return moka::set_buffer_allocator(given);
  });
}
