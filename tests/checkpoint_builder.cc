#include "tests/checkpoint_builder.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "tests/process.h"

namespace moka::test {

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

RawTensor raw_f32(const std::vector<uint64_t>& shape, const std::vector<float>& values) {
  RawTensor tensor{"F32", shape, std::string(values.size() * sizeof(float), '\0')};
  std::memcpy(tensor.bytes.data(), values.data(), tensor.bytes.size());
  return tensor;
}

std::string safetensors_bytes(const std::string& header, const std::string& data) {
  std::string bytes(8, '\0');
  for (size_t i = 0; i < 8; ++i) {
    bytes[i] = static_cast<char>(
        static_cast<unsigned char>(static_cast<uint64_t>(header.size()) >> (8 * i)));
  }
  return bytes + header + data;
}

std::string safetensors_bytes(const std::map<std::string, RawTensor>& tensors) {
  nlohmann::json header = {{"__metadata__", {{"format", "pt"}}}};
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    header[name] = {{"dtype", tensor.type},
                    {"shape", tensor.shape},
                    {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
    data += tensor.bytes;
  }
  return safetensors_bytes(header.dump(), data);
}

void TestCheckpoint::write(const std::string& folder) const {
  write_file(folder + "/config.json", config.dump(2));
  write_file(folder + "/model.safetensors", safetensors_bytes(tensors));
}

std::vector<float> test_numbers(size_t count, float scale, uint32_t seed) {
  std::vector<float> values(count);
  uint32_t state = seed * 2654435761u + 12345u;
  for (float& value : values) {
    // Sum of four uniform numbers, near enough to normal.
    float sum = 0;
    for (int i = 0; i < 4; ++i) {
      state = state * 1664525u + 1013904223u;
      sum += static_cast<float>(state >> 8) * 0x1p-24f - 0.5f;
    }
    value = scale * 1.7320508f * sum;
  }
  return values;
}

TestCheckpoint small_checkpoint(uint32_t width, uint32_t hidden) {
  TestCheckpoint checkpoint;
  checkpoint.config = {{"model_type", "latte"},
                       {"vocab_size", 260},
                       {"hidden_size", width},
                       {"num_hidden_layers", 2},
                       {"num_attention_heads", 2},
                       {"num_latents", 8},
                       {"block_type", "rms_swiglu"},
                       {"mixer", "macchiato"},
                       {"intermediate_size", hidden},
                       {"positions", "none"},
                       {"window", 4},
                       {"tie_word_embeddings", true},
                       {"max_position_embeddings", 64}};
  uint32_t seed = 1;
  const auto add = [&](const std::string& name, const std::vector<uint64_t>& shape, float scale) {
    size_t count = 1;
    for (const uint64_t extent : shape) count *= static_cast<size_t>(extent);
    checkpoint.tensors[name] = raw_f32(shape, test_numbers(count, scale, seed++));
  };
  add("embed.weight", {260, width}, 0.5f);
  for (int i = 0; i < 2; ++i) {
    const std::string block = "blocks." + std::to_string(i) + ".";
    for (const char* norm : {"norm1.weight", "norm2.weight"}) add(block + norm, {width}, 1.0f);
    for (const char* name : {"q", "k"}) add(block + "mixer." + name + ".weight", {8, width}, 0.5f);
    for (const char* name : {"v", "o", "local_q", "local_k"}) {
      add(block + "mixer." + name + ".weight", {width, width}, 0.3f);
    }
    add(block + "mixer.gate.weight", {2, width}, 0.3f);
    add(block + "gate.weight", {hidden, width}, 0.3f);
    add(block + "up.weight", {hidden, width}, 0.3f);
    add(block + "down.weight", {width, hidden}, 0.3f);
  }
  add("final_norm.weight", {width}, 1.0f);
  return checkpoint;
}

}  // namespace moka::test
