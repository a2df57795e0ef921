// Checkpoints with matrices that int4 is for: 64 rows and more.
#ifndef MOKA_TESTS_CONVERTER_CHECKPOINT_H_
#define MOKA_TESTS_CONVERTER_CHECKPOINT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tests/checkpoint_builder.h"

namespace moka::test {

// The small checkpoint (width 16, two layers) with a feed-forward of another width.
inline TestCheckpoint checkpoint_with_hidden(uint32_t hidden) {
  TestCheckpoint checkpoint = small_checkpoint();
  checkpoint.config["intermediate_size"] = hidden;
  for (uint64_t layer = 0; layer < 2; ++layer) {
    const std::string prefix = "blocks." + std::to_string(layer) + ".";
    for (const char* part : {"gate", "up", "down"}) {
      const bool down = part == std::string("down");
      const std::vector<uint64_t> shape = {down ? 16u : hidden, down ? hidden : 16u};
      const auto seed = static_cast<uint32_t>(layer) * 100 + static_cast<unsigned char>(part[0]);
      checkpoint.tensors[prefix + part + ".weight"] =
          raw_f32(shape, test_numbers(hidden * 16, 0.3f, seed));
    }
  }
  return checkpoint;
}

}  // namespace moka::test

#endif  // MOKA_TESTS_CONVERTER_CHECKPOINT_H_
