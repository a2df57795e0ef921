#include "runtime/checksum.h"

#include <cstdio>
#include <new>

#ifndef XXH_INLINE_ALL
#define XXH_INLINE_ALL
#endif
#if defined(__EMSCRIPTEN__)
#define XXH_HAS_INCLUDE(x) 0  // for Arm's vectors on WebAssembly, which not every Emscripten has
#endif
#include <xxhash.h>

namespace moka {

uint64_t xxh3_64(const void* data, size_t size) { return XXH3_64bits(data, size); }

void Xxh3Stream::reset() {
  static_assert(sizeof(XXH3_state_t) <= sizeof(state_) && alignof(XXH3_state_t) <= 64,
                "Xxh3Stream::state_ is too small for this version of xxHash");
  XXH3_64bits_reset(new (state_) XXH3_state_t);
}

void Xxh3Stream::update(const void* data, size_t size) {
  if (size != 0) XXH3_64bits_update(reinterpret_cast<XXH3_state_t*>(state_), data, size);
}

uint64_t Xxh3Stream::digest() const {
  return XXH3_64bits_digest(reinterpret_cast<const XXH3_state_t*>(state_));
}

std::string checksum_text(uint64_t checksum) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(checksum));
  return text;
}

}  // namespace moka
