// LayoutBuilder: a model put together from its configuration, tensor by tensor. Inside of
// latte_layout*.cc.
#ifndef MOKA_CONVERTER_LATTE_LAYOUT_BUILDER_H_
#define MOKA_CONVERTER_LATTE_LAYOUT_BUILDER_H_

#include <string>
#include <vector>

#include "converter/latte_layout.h"

namespace moka {

class LayoutBuilder {
 public:
  LayoutBuilder(const LatteConfig& config, const TensorNames& names, const Checkpoint& checkpoint,
                WeightType weights)
      : config_(config), names_(names), weights_(weights), map_(checkpoint) {}

  Result<LatteLayout> build(const std::string& where);

 private:
  // ---- tensors (latte_layout.cc) ----
  TensorIndex add(const std::string& name, const Shape& shape, bool is_matrix);
  TensorIndex matrix(const std::string& name, uint32_t out, uint32_t in) {
    return add(name, {out, in}, true);
  }
  TensorIndex floats(const std::string& name, const Shape& shape) {
    return add(name, shape, false);
  }
  Linear linear(const std::string& name, uint32_t out, uint32_t in, bool bias = false);
  void report_unused();

  // ---- blocks (latte_layout.cc) ----
  std::vector<Block> layers();
  std::vector<Block> layer(const std::string& prefix);
  void place_norms(const Norm& first, const Norm& second, Block* front, Block* back) const;
  void add_memory();
  Norm norm(const std::string& name);
  FeedForward feed_forward(const std::string& prefix);
  Mixer mixer(const std::string& prefix);
  LatteMixer latte(const std::string& prefix, bool causal);
  MacchiatoMixer macchiato(const std::string& prefix);
  WindowMixer window(const std::string& prefix);
  SoftmaxMixer softmax(const std::string& prefix);
  LinformerMixer linformer(const std::string& prefix);
  Front front(const std::string& prefix);
  uint32_t taps(const std::string& name) const;

  // ---- ends (latte_layout_ends.cc) ----
  Input input();
  PixelConvInput conv_input();
  Positions positions();
  Head head();

  const LatteConfig& config_;
  const TensorNames& names_;
  const WeightType weights_;
  SourceMap map_;
  LatteLayout layout_;
};

}  // namespace moka

#endif  // MOKA_CONVERTER_LATTE_LAYOUT_BUILDER_H_
