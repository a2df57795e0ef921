// What libFuzzer calls: the one target that this program was built for, MOKA_FUZZ_TARGET.
#include "tests/fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  moka::fuzz::MOKA_FUZZ_TARGET(data, size);
  return 0;
}
