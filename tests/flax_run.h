// Training runs of Flax programs made by tests: a tree of random parameters and a configuration.
#ifndef MOKA_TESTS_FLAX_RUN_H_
#define MOKA_TESTS_FLAX_RUN_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace moka::test {

struct FlaxArray {
  std::vector<uint64_t> shape;
  std::vector<float> values;
};

// To be changed by a test before it is written.
struct FlaxRun {
  std::map<std::string, FlaxArray> arrays;    // by path: "params/Encoder_0/Embed_0/embedding"
  std::map<std::string, std::string> config;  // lines of config.yaml

  void add(const std::string& path, const std::vector<uint64_t>& shape, float scale = 0.4f);
  // checkpoints/<step>/default/checkpoint and config.yaml in `folder`, which is there.
  void write(const std::string& folder, uint64_t step = 60) const;

  // As the sibling code's trainer writes it: checkpoints/<step>/state with the variables under
  // "weights" and the step beside them, as msgpack or as an OCDBT store (with or without the
  // description of its tree), and its arguments as JSON in checkpoints/<step>/metadata/metadata.
  enum class StateForm { kMsgpack, kOcdbt, kDescribedOcdbt };
  void write_sibling(const std::string& folder, StateForm form, uint64_t step = 200) const;
};

// What the Latte authors' code writes: width 16, 2 heads, 8 latents, 2 layers, 20 ids, 12 positions,
// 3 classes. `task` is "lm", "classifier" or "pair"; `block` "transformer" or "glu"; `attention` as
// in the configuration, also of types that no program computes.
FlaxRun authors_run(const std::string& task, const std::string& block, const std::string& attention,
                    bool batch_norm = false);

// What the sibling code writes: width 12, 3 heads, 2 layers, 20 ids, 10 positions.
FlaxRun sibling_run(const std::string& attention);

}  // namespace moka::test

#endif  // MOKA_TESTS_FLAX_RUN_H_
