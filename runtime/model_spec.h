// ModelSpec: a model as data, free of any file format. The loader makes one from a .moka file, the
// converter makes one from a checkpoint, tests make them by hand; the runtime runs it, the writer
// writes it. Names and meanings are those of schema/moka.fbs, which documents every field.
#ifndef MOKA_RUNTIME_MODEL_SPEC_H_
#define MOKA_RUNTIME_MODEL_SPEC_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "moka/sampler.h"
#include "moka/status.h"

namespace moka {

using TensorIndex = int32_t;
constexpr TensorIndex kNoTensor = -1;

enum class DType : uint8_t { kF32 = 0, kF16 = 1, kBF16 = 2, kI8 = 3, kI4 = 4, kI32 = 5 };
enum class Quantization : uint8_t { kNone = 0, kPerChannel = 1, kPerBlock = 2, kTwoLevel = 3 };

// How the numbers of a matrix lie: row after row, or as tiles.h has it (kI8 per channel, kI4 at two
// levels with blocks of 32; only matrices of products and token tables).
enum class TensorLayout : uint8_t { kRows = 0, kTiles = 1 };

const char* dtype_name(DType dtype);

// A matrix is [out, in], row-major. `data` may be null in a spec that is only described (converter).
struct Tensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<uint32_t> shape;
  const void* data = nullptr;
  uint64_t size = 0;  // bytes
  Quantization quantization = Quantization::kNone;
  uint32_t block = 0;
  const void* scales = nullptr;  // float[rows] per channel; as tiles.h has it in tiles
  uint64_t scale_size = 0;
  TensorLayout layout = TensorLayout::kRows;

  uint32_t rows() const { return shape.empty() ? 0 : shape[0]; }
  uint64_t elements() const;
  std::string shape_string() const;  // "[8192, 384]"
};

// Bytes of `elements` numbers, `columns` of them in a row (int4 rows are whole bytes).
uint64_t tensor_data_size(DType dtype, uint64_t rows, uint64_t columns);

struct Linear {
  TensorIndex weight = kNoTensor;
  TensorIndex bias = kNoTensor;
};

enum class NormKind : uint8_t { kNone = 0, kLayerNorm = 1, kRmsNorm = 2, kAffine = 3 };

struct Norm {
  NormKind kind = NormKind::kNone;
  TensorIndex scale = kNoTensor;
  TensorIndex bias = kNoTensor;
  float eps = 1e-6f;
  bool unit_offset = false;
};

struct TokenInput {
  uint32_t vocab_size = 0;
  TensorIndex table = kNoTensor;
  uint32_t image_width = 0, image_height = 0;
};
struct FloatInput {
  uint32_t features = 0;
  Linear projection;
  std::vector<float> mean, deviation;
};
struct PixelDenseInput {
  uint32_t width = 0, height = 0;
  Linear projection;
  float mean = 0.0f, deviation = 1.0f;
};
struct PixelConvInput {
  uint32_t width = 0, height = 0;
  std::vector<TensorIndex> kernels, biases;
  Norm norm;
  float mean = 0.0f, deviation = 1.0f;
};
using Input = std::variant<TokenInput, FloatInput, PixelDenseInput, PixelConvInput>;

enum class PositionKind : uint8_t { kNone = 0, kSinusoidal = 1, kLearned = 2 };
struct Positions {
  PositionKind kind = PositionKind::kNone;
  TensorIndex table = kNoTensor;
  uint32_t max_length = 0;
  bool fp32_angles = false;
  bool allow_extrapolation = false;
};

enum class RotationStyle : uint8_t { kHalf = 0, kInterleaved = 1 };
struct Rotation {
  double theta = 10000.0;
  RotationStyle style = RotationStyle::kHalf;
  int sign = 1;
};

enum class FrontKind : uint8_t { kNone = 0, kConv = 1, kRgLru = 2, kConvRgLru = 3 };
struct Front {
  FrontKind kind = FrontKind::kNone;
  TensorIndex conv_weight = kNoTensor, conv_bias = kNoTensor;
  uint32_t blocks = 0;
  TensorIndex a_param = kNoTensor;
  TensorIndex input_gate_weight = kNoTensor, input_gate_bias = kNoTensor;
  TensorIndex a_gate_weight = kNoTensor, a_gate_bias = kNoTensor;
  float c = 8.0f;
  bool feeds_value = false;
  bool feeds_local = false;
};

enum class LatentScope : uint8_t { kAll = 0, kOutsideWindow = 1 };
enum class Source : uint8_t { kSelf = 0, kMemory = 1 };

struct Window {
  uint32_t size = 0;  // tokens seen, the current one included
  std::optional<Rotation> rope;
  float scale = 0.0f;  // 0: 1/sqrt(Dh)
  float softcap = 0.0f;
};

struct LatteMixer {
  uint32_t heads = 0, latents = 0;
  bool causal = true;
  Linear q, k, v, o;
  float score_scale = 1.0f, key_eps = 0.0f;
  std::optional<Rotation> vapor;
  Front front;
  Source source = Source::kSelf;
};
struct WindowMixer {
  uint32_t heads = 0, kv_heads = 0;
  Linear local_q, local_k, v, o;
  Window window;
};
struct MacchiatoMixer {
  uint32_t heads = 0, latents = 0, kv_heads = 0;
  Linear q, k, gate, local_q, local_k, v, o;
  Window window;
  float score_scale = 1.0f, key_eps = 0.0f;
  LatentScope latent_scope = LatentScope::kAll;
  std::optional<Rotation> vapor;
  bool vapor_on_local = false;
  Front front;
};
struct SoftmaxMixer {
  uint32_t heads = 0;
  Linear q, k, v, o;
  std::optional<Rotation> rope;
  float scale = 0.0f;  // 0: 1/sqrt(Dh)
};
struct LinformerMixer {
  uint32_t heads = 0, rank = 0, max_length = 0;
  Linear q, k, v, o;
  TensorIndex low_rank_k = kNoTensor, low_rank_v = kNoTensor;
};
using Mixer = std::variant<LatteMixer, WindowMixer, MacchiatoMixer, SoftmaxMixer, LinformerMixer>;

enum class Activation : uint8_t { kGeluTanh = 0, kSilu = 1 };
struct MlpFeedForward {
  Linear fc1, fc2;
  Activation activation = Activation::kGeluTanh;
};
struct GluFeedForward {
  Linear value, gate;
};
struct GatedFeedForward {
  Linear gate, up, down;
  Activation activation = Activation::kSilu;
};
using FeedForward = std::variant<std::monostate, MlpFeedForward, GluFeedForward, GatedFeedForward>;

struct Block {
  Norm before_mixer;
  Mixer mixer;
  Norm after_mixer;
  Norm before_feed_forward;
  FeedForward feed_forward;
  Norm after_feed_forward;
};

struct MemoryEncoder {
  std::vector<Block> blocks;
  Norm final_norm;
};

enum class Pooling : uint8_t { kMean = 0, kLast = 1, kFirst = 2 };
struct LanguageHead {
  Linear projection;
};
struct ClassifierHead {
  Pooling pooling = Pooling::kMean;
  TokenId pad_id = -1;
  Linear projection;
  std::vector<std::string> labels;
};
struct PairHead {
  Pooling pooling = Pooling::kMean;
  TokenId pad_id = -1;
  Linear hidden, projection;
  std::vector<std::string> labels;
};
struct RegressionHead {
  Linear projection;
  uint32_t outputs = 0;
  std::vector<float> quantiles, mean, deviation;
  uint32_t steps = 1;
};
struct EmbeddingHead {
  Pooling pooling = Pooling::kMean;
  TokenId pad_id = -1;
  bool unit_length = false;
};
// std::monostate: hidden states are the output.
using Head = std::variant<std::monostate, LanguageHead, ClassifierHead, PairHead, RegressionHead,
                          EmbeddingHead>;

enum class TokenizerKind : uint8_t {
  kNone = 0,
  kBytes = 1,
  kBpe = 2,
  kUnigram = 3,
  kChars = 4,
  kWords = 5
};
enum class NormalizerKind : uint8_t {
  kNfc = 0,
  kNfd = 1,
  kNfkc = 2,
  kNfkd = 3,
  kLowercase = 4,
  kStrip = 5,
  kReplace = 6,
  kPrepend = 7,
  kPrecompiledMap = 8,
  kCollapseSpaces = 9,
  kSpacesToUnderline = 10,
  kRemoveText = 11,
};
struct Normalizer {
  NormalizerKind kind = NormalizerKind::kNfc;
  std::string pattern;
  bool literal = false;
  std::string content;
  std::vector<uint8_t> data;
};
enum class PreTokenizerKind : uint8_t {
  kSplit = 0,
  kDigits = 1,
  kPunctuation = 2,
  kWhitespace = 3,
  kWhitespaceSplit = 4,
  kMetaspace = 5,
};
enum class SplitBehavior : uint8_t {
  kIsolated = 0,
  kRemoved = 1,
  kMergedWithPrevious = 2,
  kMergedWithNext = 3,
  kContiguous = 4,
};
struct PreTokenizer {
  PreTokenizerKind kind = PreTokenizerKind::kSplit;
  std::string pattern;
  bool literal = false;
  bool invert = false;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool individual_digits = false;
  bool add_prefix_space = false;
};
struct SpecialToken {
  uint32_t id = 0;
  std::string text;
  bool in_text = true, control = true;
  bool strip_left = false, strip_right = false, single_word = false, normalized = false;
};
struct TokenizerSpec {
  TokenizerKind kind = TokenizerKind::kNone;
  std::vector<uint8_t> pieces;       // bytes of all pieces in the order of ids
  std::vector<uint32_t> piece_ends;  // end of piece i in `pieces`
  std::vector<float> scores;
  std::vector<uint32_t> merges;  // (left id, right id, merged id) per merge, best rank first
  std::vector<SpecialToken> special_tokens;
  std::vector<Normalizer> normalizers;
  std::vector<PreTokenizer> pre_tokenizers;
  bool add_prefix_space = false, byte_fallback = false, ignore_merges = false, fuse_unknown = false;
  int32_t unknown_id = -1, bos_id = -1, eos_id = -1, pad_id = -1;
  bool add_bos = false, add_eos = false;
  uint32_t max_length = 0;
  std::string source_hash;
};

struct KeyValue {
  std::string key, value;
};
struct SourceFile {
  std::string name;
  uint64_t size = 0;
  uint64_t xxh3 = 0;
};
struct Measurement {
  std::string text_name;
  uint64_t text_bytes = 0, tokens = 0;
  double bits_per_byte = 0, bits_per_byte_float32 = 0, kl_mean = 0, kl_max = 0,
         argmax_agreement = 0;
};
struct Metadata {
  std::string name, description, license, author;
  std::vector<std::string> languages;
  std::string training;
  uint32_t trained_length = 0;
  uint64_t parameters = 0;
  std::string converter;
  std::vector<SourceFile> source_files;
  std::string quantization;
  std::optional<Measurement> measurement;
  std::optional<SamplerOptions> sampling;  // seed and bias are not stored
  std::vector<KeyValue> extra;
};
struct TestVector {
  std::vector<TokenId> prompt, expected;
};
// The state of a session behind a fixed prefix, shipped with the model.
struct PrefixSnapshot {
  std::string name, text;
  uint64_t position = 0;
  const void* data = nullptr;  // Session::save()
  uint64_t size = 0;
  std::vector<TokenId> tokens = {};  // `position` of them; none: it can be listed, not used
  uint64_t weights = 0;              // XXH3-64 of the weights section that it was made with
  uint32_t chunk = 0;                // tokens that were read at once
  std::string isa = {};              // kernel table that read them
  bool stale = false;                // the loader's word: the file has other weights; not in files
};

struct ModelSpec {
  std::vector<std::string> required_features;
  uint32_t width = 0;
  Input input;
  Positions positions;
  std::vector<Block> blocks;
  Norm final_norm;
  Head head;
  std::optional<MemoryEncoder> memory;
  std::vector<Tensor> tensors;
  std::optional<TokenizerSpec> tokenizer;
  Metadata metadata;
  std::optional<TestVector> test_vector;
  std::vector<PrefixSnapshot> prefix_snapshots;
  uint64_t fingerprint = 0;  // kept from before snapshots were changed; 0: the header's checksum

  const Tensor* tensor(TensorIndex index) const {
    return index >= 0 && static_cast<size_t>(index) < tensors.size()
               ? &tensors[static_cast<size_t>(index)]
               : nullptr;
  }
};

// True for a mixer whose keys and values come from the memory encoder.
bool reads_from_memory(const Mixer& mixer);
// True for a mixer that sees tokens after the one it computes: latte without causal, linformer.
bool sees_ahead(const Mixer& mixer);

// Checks everything that can be checked without reading weights: indices, dtypes, shapes against
// their use, divisibility, ranges of flags, tokenizer consistency, vocabulary against tables.
// `where` begins each message (a file name). kCorrupt or kInvalidArgument is never returned for a
// member that is valid but cannot be run: that is check_supported's word.
Status check_spec(const ModelSpec& spec, const std::string& where);

// kUnsupported, naming the member, for a valid model that this build cannot run.
Status check_supported(const ModelSpec& spec, const std::string& where);

// Feature names that a reader must know to run `spec`, sorted: "macchiato", "weights_i8", ...
std::vector<std::string> features_of(const ModelSpec& spec);

}  // namespace moka

#endif  // MOKA_RUNTIME_MODEL_SPEC_H_
