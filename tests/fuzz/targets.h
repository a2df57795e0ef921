// Fuzz targets: functions that take any bytes and return, or end the process when a promise of the
// code under test is broken. libFuzzer calls one of them in each program (entry.cc); the unit tests
// call all of them with every input that once failed (fuzz_replay_test.cc), without libFuzzer.
//
// A target is a file NAME_fuzz.cc that defines moka::fuzz::NAME_fuzz, and a line here. It needs no
// corpus: the first byte chooses between bytes as they come and changes to something good.
#ifndef MOKA_TESTS_FUZZ_TARGETS_H_
#define MOKA_TESTS_FUZZ_TARGETS_H_

#include <cstddef>
#include <cstdint>

// clang-format off
#define MOKA_FUZZ_TARGETS(X) \
  X(capi_chat_fuzz)          \
  X(capi_fuzz)               \
  X(chat_fuzz)               \
  X(config_fuzz)             \
  X(dense_fuzz)              \
  X(image_fuzz)              \
  X(kernels_fuzz)            \
  X(loader_fuzz)             \
  X(msgpack_fuzz)            \
  X(ocdbt_fuzz)              \
  X(safetensors_fuzz)        \
  X(sentencepiece_fuzz)      \
  X(session_fuzz)            \
  X(text_input_fuzz)         \
  X(tokenizer_fuzz)          \
  X(torch_fuzz)
// clang-format on

namespace moka::fuzz {

#define MOKA_FUZZ_DECLARE(name) void name(const uint8_t* data, size_t size);
MOKA_FUZZ_TARGETS(MOKA_FUZZ_DECLARE)
#undef MOKA_FUZZ_DECLARE

}  // namespace moka::fuzz

#endif  // MOKA_TESTS_FUZZ_TARGETS_H_
