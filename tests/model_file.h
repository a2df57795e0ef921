// Model files in memory, taken apart and put together wrongly, for the loader's tests.
#ifndef MOKA_TESTS_MODEL_FILE_H_
#define MOKA_TESTS_MODEL_FILE_H_

#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "converter/writer.h"
#include "converter/writer_header.h"
#include "runtime/checksum.h"
#include "runtime/loader.h"
#include "tests/spec_builder.h"

namespace moka::test {

inline ModelBytes written(const ModelSpec& spec) {
  Result<ModelBytes> bytes = write_model_to_memory(spec);
  REQUIRE_MESSAGE(bytes.ok(), bytes.status().to_string());
  return std::move(bytes).value();
}

inline uint32_t u32_at(const ModelBytes& bytes, size_t at) {
  uint32_t value = 0;
  std::memcpy(&value, bytes.bytes().data() + at, sizeof value);
  return value;
}

// Bytes that the header's checksum covers.
inline size_t header_size(const ModelBytes& bytes) { return size_t{4} + u32_at(bytes, 0); }
inline size_t data_start(const ModelBytes& bytes) {
  return (header_size(bytes) + 8 + 4095) / 4096 * 4096;
}

// Gives a changed header a right checksum, as a hostile writer would.
inline void reseal(ModelBytes* bytes) {
  const size_t size = header_size(*bytes);
  if (size + 8 > bytes->size()) return;
  const uint64_t checksum = xxh3_64(bytes->data(), size);
  std::memcpy(bytes->data() + size, &checksum, sizeof checksum);
}

inline Status load_status(Span<const uint8_t> bytes) {
  return load_model(bytes, "x.moka").status();
}

inline void expect_corrupt(const Status& status, const std::string& part) {
  CHECK_MESSAGE(status.code() == StatusCode::kCorrupt, status.to_string());
  CHECK_MESSAGE(status.message().find("x.moka: ") == 0, status.to_string());
  CHECK_MESSAGE(status.message().find(part) != std::string::npos, status.to_string(),
                " should say: ", part);
}

// A file with any layout and any spec, valid or not; its data is zeros.
inline ModelBytes assembled(const ModelSpec& spec, const DataLayout& layout, uint64_t data_bytes) {
  Result<std::vector<uint8_t>> header = build_header(spec, layout, "x.moka");
  REQUIRE(header.ok());
  std::vector<uint8_t> bytes = header.value();
  bytes.resize(bytes.size() + static_cast<size_t>(data_bytes));
  return ModelBytes(bytes);
}

inline TestModelOptions small_options() {
  TestModelOptions options;
  options.layers = 1;
  options.width = 8;
  options.heads = 2;
  options.latents = 4;
  options.hidden = 8;
  options.vocab_size = 5;
  return options;
}

// A byte of each of many places, for changes that cannot all be tried.
inline uint64_t next_random(uint64_t* state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return *state >> 33;
}

}  // namespace moka::test

#endif  // MOKA_TESTS_MODEL_FILE_H_
