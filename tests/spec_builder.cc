#include "tests/spec_builder.h"

#include <cmath>
#include <cstring>
#include <new>

#include "runtime/half.h"
#include "runtime/tiles.h"

namespace moka::test {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kReadableTail = 64;

uint64_t next_random(uint64_t* state) {  // splitmix64
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// Uniform in [-1, 1), a multiple of 2^-23, so that it is exact.
float next_uniform(uint64_t* state) {
  return static_cast<float>(static_cast<int32_t>(next_random(state) >> 40) - (1 << 23)) /
         static_cast<float>(1 << 23);
}

// The float cut to float16 by dropping bits; numbers below the normal range become zero.
uint16_t cut_to_f16(float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const int32_t exponent = static_cast<int32_t>(bits >> 23 & 0xffu) - 127 + 15;
  if (exponent <= 0) return static_cast<uint16_t>(sign);
  return static_cast<uint16_t>(sign | static_cast<uint32_t>(exponent) << 10 |
                               (bits >> 13 & 0x3ffu));
}

uint16_t cut_to_bf16(float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<uint16_t>(bits >> 16);
}

void* allocate(TestModel* model, uint64_t size) {
  const size_t bytes = static_cast<size_t>(size) + kReadableTail;
  void* memory = ::operator new(bytes, std::align_val_t(kAlignment));
  std::memset(memory, 0, bytes);
  model->memory.emplace_back(memory,
                             [](void* p) { ::operator delete(p, std::align_val_t(kAlignment)); });
  return memory;
}

// Adds the tensors of one model, one method per kind of part.
class Builder {
 public:
  explicit Builder(const TestModelOptions& options) : o_(options), random_(options.seed) {}

  TestModel build() {
    ModelSpec& spec = model_.spec;
    spec.width = o_.width;
    TokenInput input;
    input.vocab_size = o_.vocab_size;
    input.table = add("tokens", o_.weights, {o_.vocab_size, o_.width}, 0.8f, 0.0f);
    spec.input = input;
    spec.positions.kind = o_.positions;
    if (o_.positions == PositionKind::kLearned) {
      spec.positions.table = add("positions", DType::kF32, {o_.max_length, o_.width}, 0.3f, 0.0f);
      spec.positions.max_length = o_.max_length;
    }
    for (uint32_t i = 0; i < o_.layers; ++i) {
      prefix_ = "blocks." + std::to_string(i) + ".";
      spec.blocks.push_back(block());
    }
    prefix_.clear();
    if (o_.block != TestBlock::kTransformerPost) spec.final_norm = norm("final_norm");
    if (o_.head) spec.head = head(input.table);
    if (o_.bytes_tokenizer) spec.tokenizer = bytes_tokenizer();
    spec.metadata.name = "a test model";
    if (o_.tiles) tile_matrices(&model_);
    spec.required_features = features_of(spec);
    return std::move(model_);
  }

 private:
  TensorIndex add(const std::string& name, DType dtype, const std::vector<uint32_t>& shape,
                  float spread, float centre) {
    return add_random_tensor(&model_, prefix_ + name, dtype, shape, spread, centre, &random_);
  }

  Linear linear(const std::string& name, uint32_t out, uint32_t in, bool bias = false) {
    Linear result;
    const float spread = 1.7f / std::sqrt(static_cast<float>(in));
    result.weight = add(name, o_.weights, {out, in}, spread, 0.0f);
    if (bias) result.bias = add(name + ".bias", DType::kF32, {out}, 0.2f, 0.0f);
    return result;
  }

  Norm norm(const std::string& name) {
    Norm result;
    const bool rms = o_.block == TestBlock::kRmsSwiglu;
    result.kind = rms ? NormKind::kRmsNorm : NormKind::kLayerNorm;
    result.scale = add(name + ".scale", DType::kF32, {o_.width}, 0.2f, 1.0f);
    if (!rms) result.bias = add(name + ".bias", DType::kF32, {o_.width}, 0.1f, 0.0f);
    return result;
  }

  Front front() {
    Front result;
    result.kind = o_.front;
    const uint32_t d = o_.width;
    if (o_.front == FrontKind::kConv || o_.front == FrontKind::kConvRgLru) {
      result.conv_weight = add("mixer.front.conv", DType::kF32, {4, d}, 0.5f, 0.25f);
      result.conv_bias = add("mixer.front.conv.bias", DType::kF32, {d}, 0.1f, 0.0f);
    }
    if (o_.front == FrontKind::kRgLru || o_.front == FrontKind::kConvRgLru) {
      const uint32_t n = o_.heads;
      const uint32_t c = d / n;
      result.blocks = n;
      result.a_param = add("mixer.front.a", DType::kF32, {d}, 0.3f, -2.0f);
      result.input_gate_weight = add("mixer.front.input_gate", DType::kF32, {n, c, c}, 0.5f, 0.0f);
      result.input_gate_bias = add("mixer.front.input_gate.bias", DType::kF32, {n, c}, 0.2f, 0.0f);
      result.a_gate_weight = add("mixer.front.a_gate", DType::kF32, {n, c, c}, 0.5f, 0.0f);
      result.a_gate_bias = add("mixer.front.a_gate.bias", DType::kF32, {n, c}, 0.2f, 0.0f);
    }
    return result;
  }

  Window window() const {
    Window result;
    result.size = o_.window;
    if (o_.rope) result.rope = Rotation();
    return result;
  }

  Mixer mixer() {
    const uint32_t d = o_.width;
    const uint32_t l = o_.latents;
    if (o_.mixer == TestMixer::kWindow) {
      WindowMixer m;
      m.heads = o_.heads;
      m.local_q = linear("mixer.local_q", d, d);
      m.local_k = linear("mixer.local_k", d, d);
      m.v = linear("mixer.v", d, d);
      m.o = linear("mixer.o", d, d);
      m.window = window();
      return m;
    }
    if (o_.mixer == TestMixer::kLatte) {
      LatteMixer m;
      latent_part(&m, l, d);
      return m;
    }
    MacchiatoMixer m;
    latent_part(&m, l, d);
    m.gate = linear("mixer.gate", o_.heads, d);
    m.local_q = linear("mixer.local_q", d, d);
    m.local_k = linear("mixer.local_k", d, d);
    m.window = window();
    return m;
  }

  template <class M>
  void latent_part(M* m, uint32_t l, uint32_t d) {
    m->heads = o_.heads;
    m->latents = l;
    m->q = linear("mixer.q", l, d);
    m->k = linear("mixer.k", l, d);
    m->v = linear("mixer.v", d, d);
    m->o = linear("mixer.o", d, d);
    m->score_scale = o_.score_scale;
    m->key_eps = o_.key_eps;
    if (o_.vapor) m->vapor = Rotation();
    m->front = front();
  }

  Block block() {
    Block b;
    const bool post = o_.block == TestBlock::kTransformerPost;
    if (!post) b.before_mixer = norm("norm1");
    b.mixer = mixer();
    if (post) b.after_mixer = norm("norm1");
    if (o_.block == TestBlock::kGlu) {
      GluFeedForward f;
      f.value = linear("ff.value", o_.width, o_.width, true);
      f.gate = linear("ff.gate", o_.width, o_.width, true);
      b.feed_forward = f;
      return b;
    }
    if (!post) b.before_feed_forward = norm("norm2");
    if (o_.block == TestBlock::kRmsSwiglu) {
      GatedFeedForward f;
      f.gate = linear("ff.gate", o_.hidden, o_.width);
      f.up = linear("ff.up", o_.hidden, o_.width);
      f.down = linear("ff.down", o_.width, o_.hidden);
      b.feed_forward = f;
    } else {
      MlpFeedForward f;
      f.fc1 = linear("ff.fc1", o_.hidden, o_.width, true);
      f.fc2 = linear("ff.fc2", o_.width, o_.hidden, true);
      b.feed_forward = f;
    }
    if (post) b.after_feed_forward = norm("norm2");
    return b;
  }

  LanguageHead head(TensorIndex token_table) {
    LanguageHead result;
    if (o_.tied) {
      result.projection.weight = token_table;
    } else {
      result.projection =
          linear("head", o_.vocab_size, o_.width, o_.block != TestBlock::kRmsSwiglu);
    }
    return result;
  }

  static TokenizerSpec bytes_tokenizer() {
    TokenizerSpec result;
    result.kind = TokenizerKind::kBytes;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      result.pieces.push_back(static_cast<uint8_t>(byte));
      result.piece_ends.push_back(byte + 1);
    }
    const char* const texts[] = {"<pad>", "<unk>", "<bos>", "<eos>"};
    for (uint32_t i = 0; i < 4; ++i) {
      SpecialToken token;
      token.id = 256 + i;
      token.text = texts[i];
      result.pieces.insert(result.pieces.end(), token.text.begin(), token.text.end());
      result.piece_ends.push_back(static_cast<uint32_t>(result.pieces.size()));
      result.special_tokens.push_back(token);
    }
    result.pad_id = 256;
    result.unknown_id = 257;
    result.bos_id = 258;
    result.eos_id = 259;
    return result;
  }

  TestModelOptions o_;
  uint64_t random_;
  TestModel model_;
  std::string prefix_;
};

}  // namespace

TestModel make_test_model(const TestModelOptions& options) { return Builder(options).build(); }

TensorIndex add_random_tensor(TestModel* model, const std::string& name, DType dtype,
                              const std::vector<uint32_t>& shape, float spread, float centre,
                              uint64_t* random_state) {
  Tensor tensor;
  tensor.name = name;
  tensor.dtype = dtype;
  tensor.shape = shape;
  const uint64_t rows = tensor.rows();
  const uint64_t columns = tensor.elements() / rows;
  tensor.size = tensor_data_size(dtype, rows, columns);
  auto* data = static_cast<uint8_t*>(allocate(model, tensor.size));
  tensor.data = data;
  if (dtype == DType::kI8 || dtype == DType::kI4) {
    for (uint64_t i = 0; i < tensor.size; ++i) {
      const int value = static_cast<int>(next_random(random_state) % 255) - 127;
      data[i] = static_cast<uint8_t>(value);
    }
  } else {
    const auto item = static_cast<size_t>(tensor.size / tensor.elements());
    for (uint64_t i = 0; i < tensor.elements(); ++i) {
      const float value = centre + spread * next_uniform(random_state);
      const uint16_t narrow = dtype == DType::kF16 ? cut_to_f16(value) : cut_to_bf16(value);
      std::memcpy(data + i * item, item == 4 ? static_cast<const void*>(&value) : &narrow, item);
    }
  }
  if (dtype == DType::kI8) {
    tensor.quantization = Quantization::kPerChannel;
    tensor.scale_size = rows * sizeof(float);
    auto* scales = static_cast<float*>(allocate(model, tensor.scale_size));
    for (uint64_t r = 0; r < rows; ++r) {
      scales[r] = spread / 127.0f * (1.0f + 0.3f * next_uniform(random_state));
    }
    tensor.scales = scales;
  } else if (dtype == DType::kI4) {
    // In rows as the format has it, for models that are refused; tile_matrices() takes the scale
    // of a row's first block for the whole row.
    tensor.quantization = Quantization::kPerBlock;
    tensor.block = 32;
    tensor.scale_size = rows * ((columns + 31) / 32) * sizeof(uint16_t);
    auto* scales = static_cast<uint16_t*>(allocate(model, tensor.scale_size));
    for (uint64_t i = 0; i < tensor.scale_size / sizeof(uint16_t); ++i) {
      scales[i] = cut_to_bf16(spread / 7.0f * (1.0f + 0.3f * next_uniform(random_state)));
    }
    tensor.scales = scales;
  }
  model->spec.tensors.push_back(tensor);
  return static_cast<TensorIndex>(model->spec.tensors.size() - 1);
}

namespace {

// The numbers of a quantised matrix in rows, one in a byte.
std::vector<int8_t> unpacked(const Tensor& tensor) {
  const size_t rows = tensor.rows(), columns = tensor.shape[1];
  const auto* data = static_cast<const uint8_t*>(tensor.data);
  std::vector<int8_t> q(rows * columns);
  for (size_t i = 0; i < q.size(); ++i) {
    if (tensor.dtype == DType::kI8) {
      q[i] = static_cast<int8_t>(data[i]);
    } else {
      const size_t c = i % columns;
      const unsigned byte = data[i / columns * ((columns + 1) / 2) + c / 2];
      q[i] = static_cast<int8_t>(static_cast<int>(c % 2 == 0 ? byte & 15u : byte >> 4) - 8);
    }
  }
  return q;
}

}  // namespace

void tile_matrices(TestModel* model) {
  for (Tensor& tensor : model->spec.tensors) {
    const bool i8 = tensor.dtype == DType::kI8 && tensor.quantization == Quantization::kPerChannel;
    const bool i4 = tensor.dtype == DType::kI4 && tensor.block == kTileBlock;
    if ((!i8 && !i4) || tensor.layout == TensorLayout::kTiles) continue;
    const size_t rows = tensor.rows(), columns = tensor.shape[1], blocks = tile_blocks(columns);
    std::vector<int8_t> q = unpacked(tensor);
    // Multipliers 1 to 3 in turn: numbers grow with them, and scales shrink.
    std::vector<uint8_t> codes(kTileOutputs * blocks);
    for (size_t i = 0; i < codes.size(); ++i) codes[i] = tile_code(1 + static_cast<int>(i % 3), 8);
    std::vector<float> row_scales(kTileOutputs);
    const auto data_bytes = static_cast<size_t>(tile_data_bytes(tensor.dtype, columns));
    const auto scale_bytes = static_cast<size_t>(tile_scale_bytes(tensor.dtype, columns));
    tensor.size = tile_count(rows) * data_bytes;
    tensor.scale_size = tile_count(rows) * scale_bytes;
    auto* data = static_cast<uint8_t*>(allocate(model, tensor.size));
    auto* scales = static_cast<uint8_t*>(allocate(model, tensor.scale_size));
    for (size_t first = 0, t = 0; first < rows; first += kTileOutputs, ++t) {
      const size_t count = rows - first < kTileOutputs ? rows - first : kTileOutputs;
      int8_t* from = q.data() + first * columns;
      for (size_t i = 0; i4 && i < count * columns; ++i) {
        const size_t row = i / columns, block = i % columns / kTileBlock;
        from[i] = static_cast<int8_t>(from[i] * code_multiplier(codes[row * blocks + block]));
        row_scales[row] =
            0.5f *
            bfloat16_to_float(static_cast<const uint16_t*>(tensor.scales)[(first + row) * blocks]);
      }
      uint8_t* to = data + t * data_bytes;
      uint8_t* to_scales = scales + t * scale_bytes;
      if (i8) {
        pack_tile_i8(from, columns, static_cast<const float*>(tensor.scales) + first, count,
                     columns, reinterpret_cast<int8_t*>(to), to_scales);
      } else {
        pack_tile_i4(from, columns, row_scales.data(), codes.data(), count, columns, to, to_scales);
      }
    }
    tensor.data = data;
    tensor.scales = scales;
    tensor.layout = TensorLayout::kTiles;
    if (i4) tensor.quantization = Quantization::kTwoLevel;
  }
}

std::vector<TokenId> some_tokens(size_t count, uint32_t vocab, uint64_t seed) {
  std::vector<TokenId> tokens;
  uint64_t x = seed;
  for (size_t i = 0; i < count; ++i) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    tokens.push_back(static_cast<TokenId>((x >> 33) % vocab));
  }
  return tokens;
}

std::vector<float> some_values(size_t count) {
  std::vector<float> values;
  for (const TokenId token : some_tokens(count, 256, 9)) {
    values.push_back(static_cast<float>(token) / 16.0f);
  }
  return values;
}

}  // namespace moka::test
