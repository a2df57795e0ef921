#include "tests/golden_case.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace moka::golden {
namespace {

Array read_array(const nlohmann::json& json) {
  Array array;
  array.shape = json.at("shape").get<std::vector<size_t>>();
  array.data = json.at("data").get<std::vector<double>>();
  return array;
}

std::map<std::string, Array> read_arrays(const nlohmann::json& json) {
  std::map<std::string, Array> arrays;
  for (const auto& [name, value] : json.items()) arrays[name] = read_array(value);
  return arrays;
}

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
  Mixer mixer(const std::string& prefix);
  Block block(const std::string& prefix);

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

Mixer Builder::mixer(const std::string& prefix) {
  const std::string kind = case_.config.at("mixer");
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
  LatteMixer out;
  out.heads = heads();
  out.latents = static_cast<uint32_t>(case_.number("L"));
  out.q = linear(prefix + "Wq"), out.k = linear(prefix + "Wk");
  out.v = v, out.o = o;
  out.score_scale = case_.config.value("score_scale", 1.0f);
  out.key_eps = case_.config.value("key_eps", 0.0f);
  out.vapor = rotation("vapor");
  out.front = front(prefix);
  return out;
}

Block Builder::block(const std::string& prefix) {
  Block out;
  out.mixer = mixer(prefix + "mixer.");
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

BuiltSpec Builder::build() {
  ModelSpec& spec = built_.spec;
  if (case_.kind == "lm") {
    spec.width = static_cast<uint32_t>(case_.number("D"));
    TokenInput input;
    input.vocab_size = static_cast<uint32_t>(case_.number("vocab"));
    input.table = plain("embed.embedding");
    spec.input = input;
    if (case_.config.value("positions", "sinusoidal") == "sinusoidal") {
      spec.positions.kind = PositionKind::kSinusoidal;
    }
    for (size_t i = 0; i < case_.number("layers"); ++i) {
      spec.blocks.push_back(block("block" + std::to_string(i) + "."));
    }
    if (rms() || case_.config.value("prenorm", true)) spec.final_norm = norm("final_norm");
    LanguageHead head;
    head.projection = linear("head.kernel", "head.bias");
    spec.head = head;
    return std::move(built_);
  }
  spec.width = static_cast<uint32_t>(case_.inputs.at("x").shape.back());
  TokenInput input;
  input.vocab_size = 2;
  input.table = add("dummy.table", std::vector<float>(2 * spec.width, 0.0f), {2, spec.width});
  spec.input = input;
  if (case_.kind == "block") {
    spec.blocks.push_back(block(""));
  } else {
    Block only;
    only.mixer = mixer("");
    spec.blocks.push_back(only);
  }
  return std::move(built_);
}

}  // namespace

std::string golden_dir() {
  const char* chosen = std::getenv("MOKA_GOLDEN_DIR");
  return chosen != nullptr && *chosen != '\0' ? chosen : MOKA_SOURCE_DIR "/tests/data/golden";
}

std::vector<std::string> golden_files() {
  std::vector<std::string> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(golden_dir(), error)) {
    if (entry.path().extension() == ".json") files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

Case load_case(const std::string& path) {
  std::ifstream file(path);
  const nlohmann::json json = nlohmann::json::parse(file);
  if (json.at("format") != "moka-golden/1")
    throw std::runtime_error(path + ": unknown case format");
  Case c;
  c.name = json.at("name");
  c.kind = json.at("kind");
  c.config = json.at("config");
  c.atol = json.at("tolerance").at("atol");
  c.rtol = json.at("tolerance").at("rtol");
  c.inputs = read_arrays(json.at("inputs"));
  c.weights = read_arrays(json.at("weights"));
  c.expected = read_arrays(json.at("expected"));
  return c;
}

std::string missing(const Case& c) {
  if (c.kind == "baseline" || c.kind == "classifier" || c.kind == "retrieval") return c.kind;
  if (!c.causal() || c.config.value("mixer", "") == "latte_bid")
    return "bidirectional latent attention";
  return "";
}

BuiltSpec build_spec(const Case& c) { return Builder(c).build(); }

}  // namespace moka::golden
