// The border between what is inside, where the standard library throws when memory runs out, and a
// caller who is promised a Status.
#ifndef MOKA_RUNTIME_GUARD_H_
#define MOKA_RUNTIME_GUARD_H_

#include <new>
#include <stdexcept>
#include <string>

#include "moka/status.h"

namespace moka {

// kOutOfMemory for `what`. Where not even the message fits, a shorter one that needs no memory.
inline Status no_memory_for(const char* what) noexcept {
  try {
    return Status(StatusCode::kOutOfMemory, std::string("no memory for ") + what);
  } catch (...) {
    return Status(StatusCode::kOutOfMemory, "no memory");
  }
}

// Runs `body`, which returns a Status or a Result and leaves nothing half-done when it throws. Memory
// that it cannot get is kOutOfMemory; `what` ends that message: "reading a step".
template <class Body>
auto guarded(const char* what, const Body& body) -> decltype(body()) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return no_memory_for(what);
  } catch (const std::length_error&) {  // a vector beyond what any machine holds
    return no_memory_for(what);
  }
}

}  // namespace moka

#endif  // MOKA_RUNTIME_GUARD_H_
