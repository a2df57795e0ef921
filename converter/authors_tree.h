// The tree of parameters that the Latte authors' code writes, as far as names and shapes tell the
// model: specification 19.2 and 19.3. Inside of the converter.
#ifndef MOKA_CONVERTER_AUTHORS_TREE_H_
#define MOKA_CONVERTER_AUTHORS_TREE_H_

#include <cstdint>
#include <string>

#include "converter/checkpoint.h"
#include "converter/latte_config.h"
#include "converter/latte_layout.h"
#include "moka/status.h"

namespace moka {

struct AuthorsTree {
  LatteOutput task = LatteOutput::kLanguage;  // or kClassifier, kPair
  std::string encoder;                        // its path: "Encoder_0/" or "encoder/"
  LatteInput input = LatteInput::kTokens;     // or kPixels, kPixelsConv
  LatteBlock block = LatteBlock::kTransformer;
  std::string block_module;  // "TransBlock_" or "GLUBlock_"
  std::string mixer_module;  // "BidLatte_0"
  std::string attention;     // "bid_latte", as the configuration names that module
  uint32_t layers = 0;
  bool batch_norm = false;
  bool final_norm = false;  // of language models
  uint32_t width = 0, vocab_size = 0, latents = 0, classes = 0;
  uint32_t heads = 0, max_length = 0;  // linformer only, else 0
};

// Whether the names are those of the authors' code.
bool is_authors_tree(const Checkpoint& checkpoint);

// kCorrupt: no such tree, blocks or mixers of several kinds, shapes that contradict each other.
// `where` begins messages.
Result<AuthorsTree> read_authors_tree(const Checkpoint& checkpoint, const std::string& where);

// What stored tensors are made of in such a tree.
class AuthorsNames : public TensorNames {
 public:
  explicit AuthorsNames(const AuthorsTree& tree) : tree_(tree) {}
  Recipe recipe(const std::string& name, const Shape& shape, const SourceMap& map) const override;

 private:
  Recipe input(const std::string& name, const Shape& shape) const;
  Recipe block(const std::string& path, const std::string& name, const Shape& shape) const;
  Recipe mixer(const std::string& path, const std::string& name, const Shape& shape) const;
  Recipe dense(const std::string& path, const std::string& leaf, const Shape& shape) const;
  // Norm number `index` in the module at `path`; `leaf` is "weight" or "bias".
  Recipe norm(const std::string& path, int index, const std::string& leaf) const;

  const AuthorsTree tree_;
};

}  // namespace moka

#endif  // MOKA_CONVERTER_AUTHORS_TREE_H_
