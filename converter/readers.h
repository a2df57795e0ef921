// Which checkpoint readers this build has: MOKA_READERS of CMake. Safetensors are always read.
#ifndef MOKA_CONVERTER_READERS_H_
#define MOKA_CONVERTER_READERS_H_

#include <string>

#include "moka/status.h"

namespace moka {

#if defined(MOKA_WITHOUT_PYTORCH)
constexpr bool kReadsPyTorch = false;
#else
constexpr bool kReadsPyTorch = true;
#endif
#if defined(MOKA_WITHOUT_FLAX)
constexpr bool kReadsFlax = false;
#else
constexpr bool kReadsFlax = true;
#endif
#if defined(MOKA_WITHOUT_ORBAX)
constexpr bool kReadsOrbax = false;
#else
constexpr bool kReadsOrbax = true;
#endif

// kUnsupported: `path` is of the form `name`, whose reader was left out.
inline Status reader_left_out(const std::string& path, const char* name) {
  return Status(StatusCode::kUnsupported,
                path + ": seems to be a checkpoint of " + name +
                    ", which this build of Moka does not read (CMake's MOKA_READERS left it out)");
}

}  // namespace moka

#endif  // MOKA_CONVERTER_READERS_H_
