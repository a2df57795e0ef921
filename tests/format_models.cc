// make_format_model: five valid models that together use every member, enum value and field of the
// format, with values that differ from the defaults.
#include <iterator>

#include "tests/spec_builder.h"

namespace moka::test {
namespace {

constexpr int kWithMemory = 3;
constexpr int kInTiles = 2;
constexpr uint32_t kWidth = 32;
constexpr uint32_t kHeads = 4;
constexpr uint32_t kLatents = 16;
constexpr uint32_t kVocab = 300;
constexpr char kState[] = "state bytes of a snapshot";

class FormatModel {
 public:
  explicit FormatModel(int which) : which_(which), random_(static_cast<uint64_t>(which) + 77) {}

  TestModel build() {
    ModelSpec& spec = model_.spec;
    spec.width = kWidth;
    spec.input = input();
    spec.positions = positions();
    for (int i = 0; i < 5; ++i) spec.blocks.push_back(block("blocks.", i));
    if (which_ == kWithMemory) {
      spec.memory.emplace();
      for (int i = 1; i < 3; ++i) spec.memory->blocks.push_back(block("memory.blocks.", i));
      spec.memory->final_norm = norm("memory.final", 2);
    }
    spec.final_norm = norm("final", which_);
    spec.head = head();
    if (std::holds_alternative<TokenInput>(spec.input)) {
      spec.tokenizer = tokenizer();
      spec.test_vector = TestVector{{1, 2, 3}, {4, 5}};
    }
    spec.metadata = metadata();
    spec.prefix_snapshots.push_back({"system", "You are a kettle.", 17, kState, sizeof kState});
    spec.prefix_snapshots.push_back({"empty text", "", 1, kState, 5});
    if (which_ == kInTiles) tile_matrices(&model_);
    spec.required_features = features_of(spec);
    return std::move(model_);
  }

 private:
  TensorIndex floats(const std::string& name, const std::vector<uint32_t>& shape) {
    return add_random_tensor(&model_, name, DType::kF32, shape, 0.5f, 0.1f, &random_);
  }
  // Matrices take turns through the types.
  TensorIndex matrix(const std::string& name, uint32_t out, uint32_t in) {
    static constexpr DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kI8,
                                       DType::kI4};
    DType type = kTypes[matrices_++ % std::size(kTypes)];
    if (type == DType::kI4 && in % 32 != 0) type = DType::kI8;
    return add_random_tensor(&model_, name, type, {out, in}, 0.5f, 0.0f, &random_);
  }
  Linear linear(const std::string& name, uint32_t out, uint32_t in) {
    Linear result;
    result.weight = matrix(name, out, in);
    if (matrices_ % 2 == 0) result.bias = floats(name + ".bias", {out});
    return result;
  }
  Norm norm(const std::string& name, int kind) {
    Norm result;
    result.kind = static_cast<NormKind>(kind % 4);
    if (result.kind == NormKind::kNone) return result;
    result.eps = 1e-5f;
    result.scale = floats(name + ".scale", {kWidth});
    if (result.kind == NormKind::kRmsNorm) {
      result.unit_offset = true;
    } else {
      result.bias = floats(name + ".bias", {kWidth});
    }
    return result;
  }

  Input input() {
    switch (which_) {
      case 0:
      case 4: return TokenInput{kVocab, matrix("tokens", kVocab, kWidth), 6, 7};
      case 1: {
        FloatInput result;
        result.features = 3;
        result.projection = linear("input", kWidth, 3);
        result.mean = {0.5f, -0.5f, 2.0f};
        result.deviation = {1.5f, 2.5f, 3.5f};
        return result;
      }
      case 2: {
        PixelDenseInput result;
        result.width = 8;
        result.height = 6;
        result.projection = linear("input", kWidth, 1);
        result.mean = 122.6f;
        result.deviation = 61.0f;
        return result;
      }
      default: {
        PixelConvInput result;
        result.width = 8;
        result.height = 8;
        result.kernels = {floats("conv0", {6, 3, 3, 1}), floats("conv1", {kWidth, 3, 3, 6})};
        result.biases = {floats("conv0.bias", {6}), kNoTensor};
        result.norm = norm("input.norm", 1);
        result.mean = 0.5f;
        result.deviation = 0.25f;
        return result;
      }
    }
  }

  Positions positions() {
    Positions result;
    result.kind = static_cast<PositionKind>(which_ % 3);
    result.max_length = 40;
    if (result.kind == PositionKind::kLearned) {
      result.table = floats("positions", {48, kWidth});
    } else {
      result.fp32_angles = true;
      result.allow_extrapolation = true;
    }
    return result;
  }

  std::optional<Rotation> rotation() {
    Rotation result;
    result.theta = 500000.5 + which_;
    result.style = RotationStyle::kInterleaved;
    result.sign = -1;
    return result;
  }

  Front front(const std::string& name, int kind) {
    Front result;
    result.kind = static_cast<FrontKind>(kind % 4);
    if (result.kind == FrontKind::kConv || result.kind == FrontKind::kConvRgLru) {
      result.conv_weight = floats(name + "conv", {3, kWidth});
      result.conv_bias = floats(name + "conv.bias", {kWidth});
    }
    if (result.kind == FrontKind::kRgLru || result.kind == FrontKind::kConvRgLru) {
      result.blocks = 8;
      result.a_param = floats(name + "a", {kWidth});
      result.input_gate_weight = floats(name + "input_gate", {8, 4, 4});
      result.input_gate_bias = floats(name + "input_gate.bias", {8, 4});
      result.a_gate_weight = floats(name + "a_gate", {8, 4, 4});
      result.a_gate_bias = floats(name + "a_gate.bias", {8, 4});
      result.c = 7.5f;
    }
    result.feeds_value = result.feeds_local = result.kind != FrontKind::kNone;
    return result;
  }

  Window window() {
    Window result;
    result.size = 9;
    result.rope = rotation();
    result.scale = 0.125f;
    result.softcap = 30.0f;
    return result;
  }

  Mixer mixer(const std::string& n, int i) {
    const uint32_t half = kWidth / 2;
    switch (i) {
      case 0: {
        LatteMixer m;
        m.heads = kHeads;
        m.latents = kLatents;
        m.causal = which_ != 2;
        m.q = linear(n + "q", kLatents, kWidth);
        m.k = linear(n + "k", kLatents, kWidth);
        m.v = linear(n + "v", kWidth, kWidth);
        m.o = linear(n + "o", kWidth, kWidth);
        m.score_scale = 0.35f;
        m.key_eps = 1e-6f;
        m.source = which_ == kWithMemory ? Source::kMemory : Source::kSelf;
        const bool directed = m.causal && m.source == Source::kSelf;
        if (directed) m.vapor = rotation();
        if (directed) m.front = front(n + "front.", which_);
        return m;
      }
      case 1: {
        WindowMixer m;
        m.heads = kHeads;
        m.kv_heads = 2;
        m.local_q = linear(n + "local_q", kWidth, kWidth);
        m.local_k = linear(n + "local_k", half, kWidth);
        m.v = linear(n + "v", half, kWidth);
        m.o = linear(n + "o", kWidth, kWidth);
        m.window = window();
        return m;
      }
      case 2: {
        MacchiatoMixer m;
        m.heads = kHeads;
        m.latents = kLatents;
        m.kv_heads = 2;
        m.q = linear(n + "q", kLatents, kWidth);
        m.k = linear(n + "k", kLatents, kWidth);
        m.gate = linear(n + "gate", kHeads, kWidth);
        m.local_q = linear(n + "local_q", kWidth, kWidth);
        m.local_k = linear(n + "local_k", half, kWidth);
        m.v = linear(n + "v", half, kWidth);
        m.o = linear(n + "o", kWidth, kWidth);
        m.window = window();
        m.score_scale = 0.5f;
        m.key_eps = 1e-7f;
        m.latent_scope = LatentScope::kOutsideWindow;
        m.vapor = rotation();
        m.vapor_on_local = true;
        m.front = front(n + "front.", which_ + 1);
        return m;
      }
      case 3: {
        SoftmaxMixer m;
        m.heads = kHeads;
        m.q = linear(n + "q", kWidth, kWidth);
        m.k = linear(n + "k", kWidth, kWidth);
        m.v = linear(n + "v", kWidth, kWidth);
        m.o = linear(n + "o", kWidth, kWidth);
        m.rope = rotation();
        m.scale = 0.25f;
        return m;
      }
      default: {
        LinformerMixer m;
        m.heads = kHeads;
        m.rank = 5;
        m.max_length = 12;
        m.q = linear(n + "q", kWidth, kWidth);
        m.k = linear(n + "k", kWidth, kWidth);
        m.v = linear(n + "v", kWidth, kWidth);
        m.o = linear(n + "o", kWidth, kWidth);
        m.low_rank_k = floats(n + "low_rank_k", {12, kHeads, 5});
        m.low_rank_v = floats(n + "low_rank_v", {12, kHeads, 5});
        return m;
      }
    }
  }

  FeedForward feed_forward(const std::string& n, int i) {
    switch (i % 4) {
      case 0: return std::monostate();
      case 1: {
        MlpFeedForward f;
        f.fc1 = linear(n + "fc1", 64, kWidth);
        f.fc2 = linear(n + "fc2", kWidth, 64);
        f.activation = Activation::kSilu;
        return f;
      }
      case 2: {
        GluFeedForward f;
        f.value = linear(n + "value", kWidth, kWidth);
        f.gate = linear(n + "gate", kWidth, kWidth);
        return f;
      }
      default: {
        GatedFeedForward f;
        f.gate = linear(n + "gate", 64, kWidth);
        f.up = linear(n + "up", 64, kWidth);
        f.down = linear(n + "down", kWidth, 64);
        f.activation = Activation::kGeluTanh;
        return f;
      }
    }
  }

  Block block(const std::string& prefix, int i) {
    const std::string n = prefix + std::to_string(i) + ".";
    Block b;
    b.before_mixer = norm(n + "norm1", i + which_);
    b.mixer = mixer(n + "mixer.", i);
    b.after_mixer = norm(n + "norm2", i + which_ + 1);
    b.before_feed_forward = norm(n + "norm3", i + which_ + 2);
    b.feed_forward = feed_forward(n + "ff.", i + which_);
    b.after_feed_forward = norm(n + "norm4", i + which_ + 3);
    return b;
  }

  Head head() {
    switch (which_) {
      case 0: {
        LanguageHead h;
        h.projection = linear("head", kVocab, kWidth);
        return h;
      }
      case 1: {
        RegressionHead h;
        h.outputs = 2;
        h.quantiles = {0.1f, 0.5f, 0.9f};
        h.mean = {1.0f, 2.0f};
        h.deviation = {3.0f, 4.0f};
        h.steps = 4;
        h.projection = linear("head", 24, kWidth);
        return h;
      }
      case 2: {
        ClassifierHead h;
        h.pooling = Pooling::kLast;
        h.pad_id = -100;
        h.projection = linear("head", 3, kWidth);
        h.labels = {"cat", "dog", "\xc3\xa9l\xc3\xa9phant"};
        return h;
      }
      case 3: {
        EmbeddingHead h;
        h.pooling = Pooling::kFirst;
        h.pad_id = 0;
        h.unit_length = true;
        return h;
      }
      default: {
        PairHead h;
        h.pooling = Pooling::kFirst;
        h.pad_id = 299;
        h.hidden = linear("hidden", 24, 4 * kWidth);
        h.projection = linear("head", 2, 24);
        h.labels = {"different", "same"};
        return h;
      }
    }
  }

  TokenizerSpec tokenizer() {
    TokenizerSpec t;
    t.kind = which_ == 0 ? TokenizerKind::kBpe : TokenizerKind::kUnigram;
    const char* const pieces[] = {"a", "b", "ab", "", "abb", "<end>"};
    for (const std::string piece : pieces) {
      t.pieces.insert(t.pieces.end(), piece.begin(), piece.end());
      t.piece_ends.push_back(static_cast<uint32_t>(t.pieces.size()));
    }
    if (which_ == 0) t.merges = {0, 1, 2, 2, 1, 4};
    if (which_ != 0) t.scores = {-1.0f, -2.0f, -3.5f, 0.0f, -4.0f, -5.0f};
    SpecialToken end;
    end.id = 5;
    end.text = "<end>";
    end.in_text = end.control = false;
    end.strip_left = end.strip_right = end.single_word = end.normalized = true;
    t.special_tokens = {end};
    for (int kind = 0; kind < 12; ++kind) {
      Normalizer rule;
      rule.kind = static_cast<NormalizerKind>(kind);
      rule.pattern = "p" + std::to_string(kind);
      rule.literal = kind % 2 == 0;
      rule.content = "with";
      rule.data = {1, 2, 255};
      t.normalizers.push_back(rule);
    }
    for (int kind = 0; kind < 6; ++kind) {
      PreTokenizer rule;
      rule.kind = static_cast<PreTokenizerKind>(kind);
      rule.pattern = "\\p{L}+| ";
      rule.literal = rule.invert = kind % 2 == 1;
      rule.behavior = static_cast<SplitBehavior>(kind % 5);
      rule.individual_digits = rule.add_prefix_space = kind % 2 == 0;
      t.pre_tokenizers.push_back(rule);
    }
    t.add_prefix_space = t.byte_fallback = t.ignore_merges = t.fuse_unknown = true;
    t.unknown_id = 0;
    t.bos_id = 1;
    t.eos_id = 5;
    t.pad_id = 3;
    t.add_bos = t.add_eos = true;
    t.max_length = 512;
    t.source_hash = "0123456789abcdef";
    return t;
  }

  Metadata metadata() const {
    Metadata m;
    m.name = "format model " + std::to_string(which_);
    m.description = "Every field of the format.\nTwo lines.";
    m.license = "Apache-2.0";
    m.author = "nobody";
    m.languages = {"en", "de"};
    m.training = "none";
    m.trained_length = 1024;
    m.parameters = 1234567890123;
    m.converter = "test 1";
    m.source_files = {{"model.safetensors", 9000000000, 0x0123456789abcdef},
                      {"config.json", 12, 3}};
    m.quantization = "mixed";
    m.measurement = Measurement{"valid.txt", 5000000000, 1000, 1.125, 1.0625, 0.25, 3.5, 0.75};
    SamplerOptions sampling;
    sampling.temperature = 0.5f;
    sampling.top_k = 40;
    sampling.top_p = 0.75f;
    sampling.min_p = 0.125f;
    sampling.repeat_penalty = 1.25f;
    sampling.repeat_window = 32;
    m.sampling = sampling;
    m.extra = {{"a key", "a value"}, {"b key", ""}};
    return m;
  }

  int which_;
  uint64_t random_;
  size_t matrices_ = 0;
  TestModel model_;
};

}  // namespace

TestModel make_format_model(int which) { return FormatModel(which).build(); }

}  // namespace moka::test
