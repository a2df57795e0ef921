// Checkpoints made by tests: safetensors files, small Latte models.
#ifndef MOKA_TESTS_CHECKPOINT_BUILDER_H_
#define MOKA_TESTS_CHECKPOINT_BUILDER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"

namespace moka::test {

// Names of everything in a folder, sorted.
std::vector<std::string> names_in(const std::string& folder);

// One tensor of a safetensors file, as its bytes.
struct RawTensor {
  std::string type;  // "F32", ...
  std::vector<uint64_t> shape;
  std::string bytes;
};

RawTensor raw_f32(const std::vector<uint64_t>& shape, const std::vector<float>& values);

// Header length, header, data. `header` replaces the JSON that belongs to the tensors, if given.
std::string safetensors_bytes(const std::map<std::string, RawTensor>& tensors);
std::string safetensors_bytes(const std::string& header, const std::string& data);

// A Latte checkpoint of random numbers, to be changed by a test before it is written.
struct TestCheckpoint {
  nlohmann::json config;
  std::map<std::string, RawTensor> tensors;
  // Writes config.json and model.safetensors.
  void write(const std::string& folder) const;
};

// Macchiato, rms_swiglu, 260 bytes of vocabulary, 2 heads, 8 latents, 2 layers, tied. Width 20 and a
// feed-forward of 64 or more give matrices that int4 is for.
TestCheckpoint small_checkpoint(uint32_t width = 16, uint32_t hidden = 24);

// Numbers that look random, of variance about scale^2; equal on every platform.
std::vector<float> test_numbers(size_t count, float scale, uint32_t seed);

}  // namespace moka::test

#endif  // MOKA_TESTS_CHECKPOINT_BUILDER_H_
