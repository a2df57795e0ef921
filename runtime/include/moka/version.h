// Version of the library and of the model format that it reads and writes.
#ifndef MOKA_VERSION_H_
#define MOKA_VERSION_H_

#include <cstdint>

#define MOKA_VERSION_STRING "0.1.0"

namespace moka {

constexpr uint32_t kFormatVersion = 1;

}  // namespace moka

#endif  // MOKA_VERSION_H_
