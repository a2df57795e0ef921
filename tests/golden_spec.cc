// From a parity case to a ModelSpec that the runtime opens.
#include <cmath>
#include <stdexcept>

#include "tests/golden_case.h"

namespace moka::golden {
namespace {

// Adds the case's weights to a spec under the schema's layout: matrices become [out, in].
class Builder {
 public:
  explicit Builder(const Case& c) : case_(c) {}
  BuiltSpec build();

 private:
  TensorIndex add(const std::string& name, const std::vector<float>& values,
                  std::vector<uint32_t> shape) {
    built_.storage.push_back(values);
    built_.storage.back().resize(values.size() + 32);  // readable tail
    Tensor tensor;
    tensor.name = name;
    tensor.shape = std::move(shape);
    tensor.data = built_.storage.back().data();
    tensor.size = values.size() * sizeof(float);
    built_.spec.tensors.push_back(std::move(tensor));
    return static_cast<TensorIndex>(built_.spec.tensors.size() - 1);
  }

  bool has(const std::string& name) const { return case_.weights.count(name) != 0; }

  TensorIndex plain(const std::string& name) {
    const Array& array = case_.weights.at(name);
    const std::vector<float> values(array.data.begin(), array.data.end());
    return add(name, values, std::vector<uint32_t>(array.shape.begin(), array.shape.end()));
  }

  TensorIndex matrix(const std::string& name) {
    const Array& array = case_.weights.at(name);
    const size_t in = array.shape.at(0), out = array.shape.at(1);
    std::vector<float> values(in * out);
    for (size_t i = 0; i < in; ++i) {
      for (size_t o = 0; o < out; ++o)
        values[o * in + i] = static_cast<float>(array.data[i * out + o]);
    }
    return add(name, values, {static_cast<uint32_t>(out), static_cast<uint32_t>(in)});
  }

  // Columns [first, first + count) of a matrix: a part of a fused projection.
  TensorIndex columns(const std::string& name, size_t first, size_t count) {
    const Array& array = case_.weights.at(name);
    const size_t in = array.shape.at(0), all = array.shape.at(1);
    std::vector<float> values(in * count);
    for (size_t i = 0; i < in; ++i) {
      for (size_t o = 0; o < count; ++o)
        values[o * in + i] = static_cast<float>(array.data[i * all + first + o]);
    }
    return add(name + "." + std::to_string(first), values,
               {static_cast<uint32_t>(count), static_cast<uint32_t>(in)});
  }

  TensorIndex bias_part(const std::string& name, size_t first, size_t count) {
    const Array& array = case_.weights.at(name);
    const auto begin = array.data.begin() + static_cast<std::ptrdiff_t>(first);
    return add(name + "." + std::to_string(first),
               std::vector<float>(begin, begin + static_cast<std::ptrdiff_t>(count)),
               {static_cast<uint32_t>(count)});
  }

  Linear linear(const std::string& weight, const std::string& bias = "") {
    Linear out;
    out.weight = matrix(weight);
    if (!bias.empty() && has(bias)) out.bias = plain(bias);
    return out;
  }

  Norm norm(const std::string& prefix);
  Front front(const std::string& prefix);
  Window window();
  std::optional<Rotation> rotation(const char* key);
  Mixer mixer(const std::string& prefix, const std::string& kind);
  Mixer baseline(const std::string& kind);
  LatteMixer latte(const std::string& prefix);
  Block block(const std::string& prefix, const std::string& kind);
  void add_layers();
  void add_memory();
  void add_input();
  void add_head();
  std::vector<float> floats(const char* key) const {
    return case_.config.value(key, std::vector<float>());
  }

  uint32_t heads() const { return static_cast<uint32_t>(case_.number("heads")); }
  bool rms() const { return case_.config.value("block", "") == "rms_swiglu"; }

  const Case& case_;
  BuiltSpec built_;
};

Norm Builder::norm(const std::string& prefix) {
  Norm out;
  if (rms()) {
    out.kind = NormKind::kRmsNorm;
    out.eps = case_.config.value("norm_eps", 1e-6f);
    out.unit_offset = case_.config.value("unit_offset", false);
    out.scale = plain(prefix + ".scale");
    return out;
  }
  if (case_.config.value("norm", "layernorm") == "layernorm") {
    out.kind = NormKind::kLayerNorm;
    out.scale = plain(prefix + ".scale");
    out.bias = plain(prefix + ".bias");
    return out;
  }
  // BatchNorm with running statistics is an affine map per channel.
  const Array& scale = case_.weights.at(prefix + ".scale");
  const Array& bias = case_.weights.at(prefix + ".bias");
  const Array& mean = case_.weights.at(prefix + ".mean");
  const Array& var = case_.weights.at(prefix + ".var");
  std::vector<float> a, b;
  for (size_t i = 0; i < scale.size(); ++i) {
    const double factor = scale.data[i] / std::sqrt(var.data[i] + 1e-5);
    a.push_back(static_cast<float>(factor));
    b.push_back(static_cast<float>(bias.data[i] - mean.data[i] * factor));
  }
  out.kind = NormKind::kAffine;
  out.scale = add(prefix + ".scale", a, {static_cast<uint32_t>(a.size())});
  out.bias = add(prefix + ".bias", b, {static_cast<uint32_t>(b.size())});
  return out;
}

std::optional<Rotation> Builder::rotation(const char* key) {
  if (!case_.config.contains(key) || case_.config.at(key).is_null()) return std::nullopt;
  const nlohmann::json& json = case_.config.at(key);
  Rotation out;
  out.theta = json.at("theta").get<double>();
  out.style = json.at("style") == "half" ? RotationStyle::kHalf : RotationStyle::kInterleaved;
  out.sign = json.value("sign", 1);
  return out;
}

Window Builder::window() {
  Window out;
  const bool extra = case_.config.value("window_extent", "w") == "w+1";
  out.size = static_cast<uint32_t>(case_.number("window") + (extra ? 1 : 0));
  out.rope = rotation("rope");
  out.scale = case_.config.value("local_scale", 0.0f);
  out.softcap = case_.config.value("logit_softcap", 0.0f);
  return out;
}

Front Builder::front(const std::string& prefix) {
  Front out;
  const std::string mode = case_.config.value("recurrent", "none");
  const bool conv = mode == "conv" || mode == "conv_rglru";
  const bool rglru = mode == "rglru" || mode == "conv_rglru";
  out.kind = conv ? (rglru ? FrontKind::kConvRgLru : FrontKind::kConv)
                  : (rglru ? FrontKind::kRgLru : FrontKind::kNone);
  if (conv) {
    out.conv_weight = plain(prefix + "conv1d.w");
    out.conv_bias = plain(prefix + "conv1d.b");
  }
  if (rglru) {
    out.blocks = case_.config.value("rglru_blocks", heads());
    out.a_param = plain(prefix + "rg_lru.a_param");
    out.input_gate_weight = plain(prefix + "rg_lru.input_gate.w");
    out.input_gate_bias = plain(prefix + "rg_lru.input_gate.b");
    out.a_gate_weight = plain(prefix + "rg_lru.a_gate.w");
    out.a_gate_bias = plain(prefix + "rg_lru.a_gate.b");
  }
  out.feeds_value = case_.config.value("recurrent_feeds", "qk") == "qkv";
  out.feeds_local = case_.config.value("local_input", "x") == "recurrent";
  return out;
}

Mixer Builder::baseline(const std::string& kind) {
  const uint32_t d = static_cast<uint32_t>(case_.inputs.at("x").shape.back());
  if (kind == "standard_causal") {
    SoftmaxMixer out;
    out.heads = heads();
    out.q.weight = columns("Wqkv", 0, d);
    out.k.weight = columns("Wqkv", d, d);
    out.v.weight = columns("Wqkv", 2 * d, d);
    out.o = linear("Wo");
    return out;
  }
  LinformerMixer out;
  out.heads = heads();
  out.rank = static_cast<uint32_t>(case_.number("L"));
  out.max_length = static_cast<uint32_t>(case_.number("max_seq_len"));
  Linear* parts[] = {&out.q, &out.k, &out.v};
  for (size_t i = 0; i < 3; ++i) {
    parts[i]->weight = columns("W.kernel", i * d, d);
    parts[i]->bias = bias_part("W.bias", i * d, d);
  }
  out.o = linear("o_proj.kernel", "o_proj.bias");
  out.low_rank_k = plain("low_rank_E");
  out.low_rank_v = plain("low_rank_V");
  return out;
}

Mixer Builder::mixer(const std::string& prefix, const std::string& kind) {
  if (kind == "standard_causal" || kind == "linformer") return baseline(kind);
  if (kind == "latte_causal" || kind == "latte_bid") {
    LatteMixer out = latte(prefix);
    out.causal = kind == "latte_causal";
    out.vapor = rotation("vapor");
    out.front = front(prefix);
    return out;
  }
  const Linear v = linear(prefix + "Wv"), o = linear(prefix + "Wo");
  if (kind == "window") {
    WindowMixer out;
    out.heads = heads();
    out.v = v, out.o = o;
    out.local_q = linear(prefix + "Wq_local"), out.local_k = linear(prefix + "Wk_local");
    out.window = window();
    return out;
  }
  if (kind == "macchiato") {
    MacchiatoMixer out;
    out.heads = heads();
    out.latents = static_cast<uint32_t>(case_.number("L"));
    out.q = linear(prefix + "Wq"), out.k = linear(prefix + "Wk"), out.gate = linear(prefix + "Wg");
    out.local_q = linear(prefix + "Wq_local"), out.local_k = linear(prefix + "Wk_local");
    out.v = v, out.o = o;
    out.window = window();
    out.score_scale = case_.config.value("score_scale", 1.0f);
    out.key_eps = case_.config.value("key_eps", 0.0f);
    out.vapor = rotation("vapor");
    out.front = front(prefix);
    return out;
  }
  throw std::runtime_error("unknown mixer " + kind);
}

LatteMixer Builder::latte(const std::string& prefix) {
  LatteMixer out;
  out.heads = heads();
  out.latents = static_cast<uint32_t>(case_.number("L"));
  out.q = linear(prefix + "Wq"), out.k = linear(prefix + "Wk");
  out.v = linear(prefix + "Wv"), out.o = linear(prefix + "Wo");
  out.score_scale = case_.config.value("score_scale", 1.0f);
  out.key_eps = case_.config.value("key_eps", 0.0f);
  return out;
}

Block Builder::block(const std::string& prefix, const std::string& mixing) {
  Block out;
  out.mixer = mixer(prefix + "mixer.", mixing);
  const std::string kind = case_.config.at("block");
  const bool prenorm = rms() || case_.config.value("prenorm", true);
  if (kind == "transformer") {
    (prenorm ? out.before_mixer : out.after_mixer) = norm(prefix + "norm1");
    (prenorm ? out.before_feed_forward : out.after_feed_forward) = norm(prefix + "norm2");
    MlpFeedForward mlp;
    mlp.fc1 = linear(prefix + "fc1.kernel", prefix + "fc1.bias");
    mlp.fc2 = linear(prefix + "fc2.kernel", prefix + "fc2.bias");
    out.feed_forward = mlp;
  } else if (kind == "glu") {
    (prenorm ? out.before_mixer : out.after_feed_forward) = norm(prefix + "norm1");
    GluFeedForward glu;
    glu.value = linear(prefix + "value.kernel", prefix + "value.bias");
    glu.gate = linear(prefix + "gate.kernel", prefix + "gate.bias");
    out.feed_forward = glu;
  } else {
    out.before_mixer = norm(prefix + "norm1");
    out.before_feed_forward = norm(prefix + "norm2");
    GatedFeedForward gated;
    gated.gate = linear(prefix + "gate.kernel");
    gated.up = linear(prefix + "up.kernel");
    gated.down = linear(prefix + "down.kernel");
    gated.activation =
        case_.config.value("act", "silu") == "silu" ? Activation::kSilu : Activation::kGeluTanh;
    out.feed_forward = gated;
  }
  return out;
}

// A layer that reads a memory is two blocks: its own mixer, then reading and the feed-forward.
void Builder::add_layers() {
  const std::string kind = case_.config.at("mixer");
  const auto shared = case_.config.value("shared_layers", std::vector<size_t>());
  const bool prenorm = rms() || case_.config.value("prenorm", true);
  ModelSpec& spec = built_.spec;
  for (size_t i = 0; i < case_.number("layers"); ++i) {
    if (!shared.empty() && shared[i] != i) {
      spec.blocks.push_back(spec.blocks[shared[i]]);
      continue;
    }
    const std::string prefix = "block" + std::to_string(i) + ".";
    Block first = block(prefix, kind);
    if (case_.kind != "cross") {
      spec.blocks.push_back(first);
      continue;
    }
    Block second;
    LatteMixer reader = latte(prefix + "cross.");
    reader.causal = false;
    reader.source = Source::kMemory;
    second.mixer = reader;
    (prenorm ? second.before_mixer : second.after_mixer) = norm(prefix + "norm_cross");
    second.before_feed_forward = first.before_feed_forward;
    second.feed_forward = first.feed_forward;
    second.after_feed_forward = first.after_feed_forward;
    first.before_feed_forward = first.after_feed_forward = Norm();
    first.feed_forward = std::monostate();
    spec.blocks.push_back(first);
    spec.blocks.push_back(second);
  }
}

void Builder::add_memory() {
  MemoryEncoder memory;
  const std::string kind = case_.config.at("memory_mixer");
  for (size_t i = 0; i < case_.number("memory_layers"); ++i) {
    memory.blocks.push_back(block("memory.block" + std::to_string(i) + ".", kind));
  }
  if (has("memory.final_norm.scale")) memory.final_norm = norm("memory.final_norm");
  built_.spec.memory = memory;
}

void Builder::add_input() {
  ModelSpec& spec = built_.spec;
  const std::string kind = case_.config.value("embed", "token");
  if (kind == "token") {
    TokenInput input;
    input.vocab_size = static_cast<uint32_t>(case_.number("vocab"));
    input.table = plain("embed.embedding");
    spec.input = input;
  } else if (kind == "values") {
    FloatInput input;
    input.features = static_cast<uint32_t>(case_.number("features"));
    input.projection = linear("embed.kernel", "embed.bias");
    input.mean = floats("input_mean"), input.deviation = floats("input_deviation");
    spec.input = input;
  } else {
    const auto side = static_cast<uint32_t>(
        std::lround(std::sqrt(static_cast<double>(case_.inputs.at("pixels").shape.at(1)))));
    if (kind == "dense") {
      PixelDenseInput input;
      input.width = input.height = side;
      input.projection = linear("embed.kernel", "embed.bias");
      spec.input = input;
      return;
    }
    PixelConvInput input;
    input.width = input.height = side;
    for (size_t i = 0; has("embed.conv" + std::to_string(i) + ".kernel"); ++i) {
      const std::string name = "embed.conv" + std::to_string(i);
      // (3, 3, in, out) to [out, 3, 3, in]
      const Array& array = case_.weights.at(name + ".kernel");
      const size_t in = array.shape.at(2), out = array.shape.at(3);
      std::vector<float> values(array.size());
      for (size_t at = 0; at < 9 * in; ++at) {
        for (size_t o = 0; o < out; ++o)
          values[o * 9 * in + at] = static_cast<float>(array.data[at * out + o]);
      }
      input.kernels.push_back(
          add(name, values, {static_cast<uint32_t>(out), 3, 3, static_cast<uint32_t>(in)}));
      input.biases.push_back(plain(name + ".bias"));
    }
    input.norm = norm("embed.norm");
    spec.input = input;
  }
}

void Builder::add_head() {
  const std::string pool = case_.config.value("pool", "mean");
  const Pooling pooling = pool == "mean"   ? Pooling::kMean
                          : pool == "last" ? Pooling::kLast
                                           : Pooling::kFirst;
  const TokenId pad_id = case_.config.value("pad_id", -1);
  Head& head = built_.spec.head;
  if (case_.kind == "lm" || case_.kind == "cross") {
    head = LanguageHead{linear("head.kernel", "head.bias")};
  } else if (case_.kind == "classifier") {
    head = ClassifierHead{pooling, pad_id, linear("head.kernel", "head.bias"), {}};
  } else if (case_.kind == "retrieval") {
    const Linear hidden = linear("mlp.kernel", "mlp.bias");
    head = PairHead{pooling, pad_id, hidden, linear("logits.kernel", "logits.bias"), {}};
  } else if (case_.kind == "embedding") {
    head = EmbeddingHead{pooling, pad_id, case_.config.value("unit_length", false)};
  } else if (case_.kind == "regression") {
    RegressionHead out;
    out.projection = linear("head.kernel", "head.bias");
    out.outputs = static_cast<uint32_t>(case_.number("outputs"));
    out.steps = static_cast<uint32_t>(case_.number("forecast_steps"));
    out.quantiles = floats("quantiles");
    out.mean = floats("output_mean"), out.deviation = floats("output_deviation");
    head = out;
  }
}

BuiltSpec Builder::build() {
  ModelSpec& spec = built_.spec;
  if (case_.inputs.count("x") == 0) {
    spec.width = static_cast<uint32_t>(case_.number("D"));
    add_input();
    if (case_.config.value("positions", "sinusoidal") == "sinusoidal") {
      spec.positions.kind = PositionKind::kSinusoidal;
    }
    add_layers();
    if (case_.kind == "cross") add_memory();
    if (has("final_norm.scale")) spec.final_norm = norm("final_norm");
    add_head();
    return std::move(built_);
  }
  spec.width = static_cast<uint32_t>(case_.inputs.at("x").shape.back());
  TokenInput input;
  input.vocab_size = 2;
  input.table = add("dummy.table", std::vector<float>(2 * spec.width, 0.0f), {2, spec.width});
  spec.input = input;
  const std::string kind = case_.config.at("mixer");
  if (case_.kind == "block") {
    spec.blocks.push_back(block("", kind));
  } else {
    Block only;
    only.mixer = mixer("", kind);
    spec.blocks.push_back(only);
  }
  return std::move(built_);
}

}  // namespace

BuiltSpec build_spec(const Case& c) { return Builder(c).build(); }

}  // namespace moka::golden
