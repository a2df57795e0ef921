// Checkpoints of the sibling code (Flax modules TransformerBlock_<i>): causal latent attention with
// as many latents as channels, the same around Flax's own attention layer, and a softmax baseline.
// Specification 19.4.
#ifndef MOKA_CONVERTER_SIBLING_CHECKPOINT_H_
#define MOKA_CONVERTER_SIBLING_CHECKPOINT_H_

#include <cstdint>
#include <string>

#include "converter/checkpoint.h"
#include "converter/latte_layout.h"
#include "converter/model_source.h"
#include "moka/status.h"
#include "nlohmann/json.hpp"

namespace moka {

// What names and shapes tell.
struct SiblingTree {
  std::string attention;     // "latte", "latte-wrap", "standard": its attention_type
  std::string mixer_module;  // "CausalLatentAttention_0"
  uint32_t layers = 0, width = 0, vocab_size = 0, context = 0;
  uint32_t heads = 0;  // of latte-wrap; else 0
};

// Whether the names are those of the sibling code.
bool is_sibling_tree(const Checkpoint& checkpoint);

// kCorrupt: no such tree, or shapes that contradict each other. `where` begins messages.
Result<SiblingTree> read_sibling_tree(const Checkpoint& checkpoint, const std::string& where);

// `config` holds the program's arguments by their names (num_heads, num_layers, ...); null where
// there is no configuration, which latte-wrap does without. Errors as read_authors_config.
Result<ModelSource> read_sibling_config(const SiblingTree& tree, const nlohmann::json& config,
                                        const std::string& path);

// What stored tensors are made of in such a tree.
class SiblingNames : public TensorNames {
 public:
  explicit SiblingNames(const SiblingTree& tree) : tree_(tree) {}
  Recipe recipe(const std::string& name, const Shape& shape, const SourceMap& map) const override;

 private:
  Recipe mixer(const std::string& path, const std::string& part, bool bias) const;

  const SiblingTree tree_;
};

}  // namespace moka

#endif  // MOKA_CONVERTER_SIBLING_CHECKPOINT_H_
