// Checksums of model files and saved sessions: XXH3-64, seed 0.
//
// They find damage, not malice: anyone can make bytes with a given checksum.
#ifndef MOKA_RUNTIME_CHECKSUM_H_
#define MOKA_RUNTIME_CHECKSUM_H_

#include <cstddef>
#include <cstdint>
#include <string>

namespace moka {

uint64_t xxh3_64(const void* data, size_t size);

// Sixteen hexadecimal digits.
std::string checksum_text(uint64_t checksum);

// The same, over bytes that come in pieces. However they are cut, digest() is that of the whole.
class Xxh3Stream {
 public:
  Xxh3Stream() { reset(); }
  void reset();
  void update(const void* data, size_t size);
  uint64_t digest() const;  // of everything so far; updates may go on

 private:
  alignas(64) unsigned char state_[576];  // XXH3_state_t; checksum.cc checks size and alignment
};

}  // namespace moka

#endif  // MOKA_RUNTIME_CHECKSUM_H_
