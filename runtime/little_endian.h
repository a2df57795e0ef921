// Numbers as bytes, the lowest first, whatever this machine's order.
#ifndef MOKA_RUNTIME_LITTLE_ENDIAN_H_
#define MOKA_RUNTIME_LITTLE_ENDIAN_H_

#include <cstddef>
#include <cstdint>

namespace moka {

// T is an unsigned or signed integer; `bytes` has sizeof(T) of them.
template <class T>
void put_little_endian(T value, uint8_t* bytes) {
  for (size_t i = 0; i < sizeof(T); ++i) bytes[i] = static_cast<uint8_t>(value >> (8 * i));
}

template <class T>
T get_little_endian(const uint8_t* bytes) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) {
    value = static_cast<T>(value | static_cast<T>(static_cast<T>(bytes[i]) << (8 * i)));
  }
  return value;
}

}  // namespace moka

#endif  // MOKA_RUNTIME_LITTLE_ENDIAN_H_
