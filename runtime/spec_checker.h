// SpecChecker: the pieces of check_spec, which is split over check_spec.cc (input, positions, head,
// tensors), check_layers.cc (blocks) and check_tokenizer.cc.
//
// Each method returns the first thing that is wrong, with a message that begins with the place:
// "stories.moka: block 3 mixer (macchiato): q.weight 'blocks.3.mixer.q' has shape [384, 512],
// expected [384, 384] (latents, width)".
#ifndef MOKA_RUNTIME_SPEC_CHECKER_H_
#define MOKA_RUNTIME_SPEC_CHECKER_H_

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "runtime/model_spec.h"

namespace moka {

// Bounds of what a header may say. Products of two of them fit 64 bits, and a third factor of
// 2^20 too, so sizes of states and tensors can be computed without overflow checks.
constexpr uint64_t kMaxTensors = 1000000;
constexpr uint32_t kMaxLayers = 4096;
constexpr uint32_t kMaxWidth = 1u << 20;  // also latents, hidden widths, windows, features, outputs
constexpr uint32_t kMaxVocab = 1u << 24;
constexpr uint32_t kMaxPositions = 1u << 30;
constexpr uint32_t kMaxConvTaps = 4096;
constexpr size_t kMaxNameBytes = 512;       // of tensors and features
constexpr size_t kMaxPieceBytes = 4096;     // of one vocabulary entry
constexpr size_t kMaxTextBytes = 1u << 20;  // of one free text or pattern

class SpecChecker {
 public:
  SpecChecker(const ModelSpec& spec, const std::string& where)
      : spec_(spec), where_(where), used_(spec.tensors.size(), false) {}

  Status check();

 private:
  // A dimension of a shape, with the word that explains it.
  struct Extent {
    uint64_t value;
    const char* meaning;
  };
  using Extents = std::initializer_list<Extent>;

  // check_spec.cc
  Status fail(const std::string& what) const;
  Status require(bool condition, const std::string& what) const;
  Status check_tensors();
  Status check_name(const std::string& name) const;
  Status check_tensor(const Tensor& tensor) const;
  Status check_quantization(const Tensor& tensor) const;
  Status check_tiles(const Tensor& tensor) const;
  Status check_names() const;
  Status check_input();
  Status check_input_member(const TokenInput& input);
  Status check_input_member(const FloatInput& input);
  Status check_input_member(const PixelDenseInput& input);
  Status check_input_member(const PixelConvInput& input);
  Status check_positions();
  Status check_all_used() const;

  // check_head.cc
  Status check_head();
  Status check_head_member(const std::monostate&) { return Status(); }
  Status check_head_member(const LanguageHead& head);
  Status check_head_member(const ClassifierHead& head);
  Status check_head_member(const PairHead& head);
  Status check_head_member(const RegressionHead& head);
  Status check_head_member(const EmbeddingHead& head);
  Status check_labels(const std::vector<std::string>& labels, uint64_t classes) const;
  Status check_pad_id(TokenId pad_id) const;

  // check_layers.cc: parts shared by several members
  Status linear(const char* field, const Linear& linear, Extent out, Extent in);
  Status matrix(const std::string& field, TensorIndex index, Extent out, Extent in);
  Status floats(const std::string& field, TensorIndex index, Extents shape);
  Status absent(const std::string& field, TensorIndex index) const;
  Status shape(const std::string& field, TensorIndex index, Extents shape, bool may_be_narrow);
  uint64_t rows_of(const Linear& linear) const;  // 0 when there is no such tensor
  Status range(const char* field, uint64_t value, uint64_t low, uint64_t high) const;
  Status finite(const char* field, double value, double low, bool low_allowed) const;
  Status scaling(const std::vector<float>& mean, const std::vector<float>& deviation,
                 uint64_t count, const char* of_what) const;

  // check_layers.cc: blocks
  Status check_blocks();  // all of them, and the norms after them
  // `prefix` begins the place in messages: "" or "memory ".
  Status check_blocks_of(const std::string& prefix, const std::vector<Block>& blocks);
  Status check_memory(const MemoryEncoder& memory);
  Status check_norm(const char* field, const Norm& norm, uint64_t width);
  Status check_heads(uint32_t heads, const char* field, uint64_t divided,
                     const char* divided_name) const;
  Status check_kv_heads(uint32_t heads, uint32_t kv_heads) const;
  Status check_rotation(const char* field, const std::optional<Rotation>& rotation) const;
  Status check_window(const Window& window) const;
  Status check_scores(float score_scale, float key_eps) const;
  Status check_front(const Front& front);
  Status check_front_convolution(const Front& front);
  Status check_front_recurrence(const Front& front);
  Status check_mixer(const LatteMixer& mixer);
  Status check_mixer(const WindowMixer& mixer);
  Status check_mixer(const MacchiatoMixer& mixer);
  Status check_mixer(const SoftmaxMixer& mixer);
  Status check_mixer(const LinformerMixer& mixer);
  Status check_feed_forward(const std::monostate&) { return Status(); }
  Status check_feed_forward(const MlpFeedForward& feed_forward);
  Status check_feed_forward(const GluFeedForward& feed_forward);
  Status check_feed_forward(const GatedFeedForward& feed_forward);

  // check_tokenizer.cc
  uint32_t vocab_size() const;  // 0 when the model does not read tokens
  Status check_tokenizer();
  Status check_pieces(const TokenizerSpec& tokenizer) const;
  Status check_merges(const TokenizerSpec& tokenizer) const;
  Status check_special_tokens(const TokenizerSpec& tokenizer) const;
  Status check_rules(const TokenizerSpec& tokenizer) const;
  Status check_test_vector();
  Status check_token_ids(const char* field, const std::vector<TokenId>& ids) const;
  Status check_metadata();
  Status check_sampling(const SamplerOptions& sampling) const;
  Status check_snapshots();

  Extent width() const { return {spec_.width, "width"}; }

  const ModelSpec& spec_;
  const std::string& where_;
  std::string place_;  // "block 3 mixer (macchiato)"
  std::vector<bool> used_;
};

}  // namespace moka

#endif  // MOKA_RUNTIME_SPEC_CHECKER_H_
