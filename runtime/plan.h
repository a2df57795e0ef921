// Plan: a ModelSpec made ready to run. Tensor indices have become pointers and dense groups, columns
// of fused projections and offsets into the session state are fixed. Immutable after make_plan().
#ifndef MOKA_RUNTIME_PLAN_H_
#define MOKA_RUNTIME_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "moka/status.h"
#include "runtime/convolution.h"
#include "runtime/dense.h"
#include "runtime/model_spec.h"

namespace moka {

struct NormPlan {
  NormKind kind = NormKind::kNone;
  const float* scale = nullptr;
  const float* bias = nullptr;
  float eps = 0.0f;
  float offset = 0.0f;  // added to scale: 1 with unit_offset
};

// Cosines and sines that depend on the position alone; layers with equal settings share one.
struct RotationPlan {
  double theta = 0.0;
  size_t half = 0;  // planes
};

constexpr size_t kNoRotation = SIZE_MAX;

struct RotationUse {
  size_t table = kNoRotation;  // index in Plan::rotations
  bool interleaved = false;
  int sign = 1;
  explicit operator bool() const { return table != kNoRotation; }
};

// Recurrence in front of the query and key projections (spec: recurrent query/key front end).
struct FrontPlan {
  FrontKind kind = FrontKind::kNone;
  bool conv = false, rglru = false;
  size_t taps = 0;                     // K of the convolution
  const float* conv_weight = nullptr;  // [K][D]
  const float* conv_bias = nullptr;
  size_t blocks = 0, block_width = 0;
  const float* input_gate_weight = nullptr;  // [N][D/N][D/N] as (block, in, out)
  const float* input_gate_bias = nullptr;
  const float* a_gate_weight = nullptr;
  const float* a_gate_bias = nullptr;
  std::vector<float> decay;  // [D]: c * softplus(a_param)
};

// Tokens after which the sums of latents move to the archive; see latents.h.
constexpr uint64_t kArchiveTokens = 1024;

// Offsets in floats into the session state; see state.h for the arrays themselves.
struct MixerState {
  size_t maximum = 0, norm = 0, sum = 0;  // latents
  size_t archive_maximum = 0, archive_norm = 0, archive_carry = 0,
         archive_mean = 0;                // older tokens
  size_t keys = 0, values = 0;            // window ring
  size_t conv = 0, hidden = 0;            // front
  size_t low_rank_k = 0, low_rank_v = 0;  // linformer
  size_t cache = 0;  // softmax: floats per token of the cache before this layer's
};

// When a mixer's output for a token can be computed.
enum class Reach : uint8_t {
  kPast,    // from the tokens up to it
  kAll,     // when the whole sequence has been gathered
  kMemory,  // when the memory has been gathered
};

struct MixerPlan {
  const char* name = "";
  Reach reach = Reach::kPast;
  size_t heads = 0;
  bool latent = false, window = false;  // Macchiato has both
  bool growing = false;                 // softmax: a window over everything, kept in a SoftmaxCache
  size_t dh = 0, dh_pad = 0;            // value channels of a head
  size_t lh = 0;                        // latents of a head
  // The fused projection: one row per token, and where each part begins in it.
  size_t row = 0;
  size_t q = 0, k = 0, gate = 0, v = 0, local_q = 0, local_k = 0;
  DenseGroup from_input;  // parts that read the layer's input
  DenseGroup from_front;  // parts that read the front's output; count 0 without a front
  DenseGroup gathered;    // keys and values when reach is not kPast
  DenseGroup out;
  float score_scale = 1.0f, key_eps = 0.0f;
  RotationUse vapor, rope;
  size_t capacity = 0;  // tokens in the window
  // Keys and values are kept as IEEE half floats, two in a float's place: where neither's weights are
  // float32, which have rounded them more than this does.
  bool half_window = false;
  float local_scale = 0.0f, softcap = 0.0f;
  FrontPlan front;
  // Linformer: K^ = sum over t of E[t, h, r] K_t, and V^ likewise; `rank` of them per head.
  size_t rank = 0, max_length = 0;
  const float* low_rank_k = nullptr;  // [max_length][H][rank]
  const float* low_rank_v = nullptr;
  MixerState state;
};

// Floats of the state that hold `count` keys or values of a window.
constexpr size_t window_floats(const MixerPlan& mixer, size_t count) {
  return mixer.half_window ? (count + 1) / 2 : count;
}

enum class FeedForwardKind { kNone, kMlp, kGlu, kGated };

struct FeedForwardPlan {
  FeedForwardKind kind = FeedForwardKind::kNone;
  Activation activation = Activation::kGeluTanh;
  size_t width = 0;  // of the hidden layer
  DenseGroup in, out;
};

struct BlockPlan {
  NormPlan before_mixer, after_mixer, before_feed_forward, after_feed_forward;
  MixerPlan mixer;
  FeedForwardPlan feed_forward;
};

enum class HeadKind : uint8_t { kNone, kLanguage, kClassifier, kPair, kRegression, kEmbedding };

struct HeadPlan {
  HeadKind kind = HeadKind::kNone;
  bool pooled = false;  // classifier, pair, embedding: one vector for all that was read
  Pooling pooling = Pooling::kMean;
  TokenId pad_id = -1;
  bool unit_length = false;
  DenseGroup hidden;      // pair
  DenseGroup projection;  // count 0: none
  // Regression: value = mean + deviation * number, by output; empty for none.
  size_t outputs = 0, numbers = 1;  // numbers of one output in a row: quantiles, or 1
  std::vector<float> mean, deviation;
  size_t pool = 0, carry = 0;  // offsets into the session state: [D] each, see state.h
};

struct InputPlan {
  size_t vocab_size = 0;                // 0 unless tokens
  const Tensor* token_table = nullptr;  // [V, D]
  size_t features = 0;                  // floats in a step; 0 for tokens
  DenseGroup projection;                // values, dense pixels
  std::vector<float> mean, deviation;   // by feature; empty for none
  ConvolutionPlan convolution;          // of convolved pixels; no layers otherwise
  NormPlan convolution_norm;
  size_t image_width = 0, image_height = 0;
};

struct Plan {
  size_t width = 0;
  InputPlan input;
  Positions positions;
  const Tensor* position_table = nullptr;
  uint64_t position_limit = 0;  // 0: none
  std::vector<RotationPlan> rotations;
  std::vector<BlockPlan> blocks;
  NormPlan final_norm;
  std::vector<BlockPlan> memory_blocks;  // of the memory encoder; empty for none
  NormPlan memory_norm;
  HeadPlan head;
  size_t outputs = 0;       // floats per row of output
  size_t state_floats = 0;  // of a session
  size_t cache_floats = 0;  // per token, of a SoftmaxCache
  // Something sees ahead: a mixer, or a convolution over the image. Then sequences are read whole.
  bool whole = false, memory_whole = false;
};

// `spec` has passed check_spec and check_supported, and outlives the plan. Adds its dense layers to
// `weights`.
Plan make_plan(const ModelSpec& spec, PackedWeights& weights);

}  // namespace moka

#endif  // MOKA_RUNTIME_PLAN_H_
