#include "converter/latte_layout.h"

#include <algorithm>
#include <utility>

#include "converter/json.h"

namespace moka {
namespace {

using Shape = std::vector<uint32_t>;

std::string shape_text(const Shape& shape) {
  Tensor tensor;
  tensor.shape = shape;
  return tensor.shape_string();
}

class LayoutBuilder {
 public:
  LayoutBuilder(const LatteConfig& config, const Checkpoint& checkpoint, WeightType weights)
      : config_(config),
        checkpoint_(checkpoint),
        weights_(weights),
        used_(checkpoint.tensors().size(), false) {}

  Result<LatteLayout> build(const std::string& where) {
    ModelSpec& spec = layout_.spec;
    spec.width = config_.width;
    spec.positions = config_.positions;
    const TensorIndex table = matrix("embed.weight", config_.vocab_size, config_.width);
    spec.input = TokenInput{config_.vocab_size, table};
    for (uint32_t i = 0; i < config_.layers && problems_.size() < kEnoughProblems; ++i) {
      spec.blocks.push_back(block("blocks." + std::to_string(i) + "."));
    }
    if (config_.prenorm) spec.final_norm = norm("final_norm");
    spec.head = head(table);
    report_unused();
    MOKA_RETURN_IF_ERROR(problems_.status(where));
    return std::move(layout_);
  }

 private:
  // A checkpoint of another architecture misses every tensor of every layer; a few layers tell.
  static constexpr size_t kEnoughProblems = 20;

  // ---- tensors ----

  // The place of `name` in the checkpoint, which is sorted by name.
  const SourceTensor* find(const std::string& name, size_t* index) const {
    const auto& all = checkpoint_.tensors();
    const auto found = std::lower_bound(
        all.begin(), all.end(), name,
        [](const SourceTensor& tensor, const std::string& n) { return tensor.name < n; });
    if (found == all.end() || found->name != name) return nullptr;
    *index = static_cast<size_t>(found - all.begin());
    return &*found;
  }

  TensorIndex add(const std::string& name, const Shape& shape, bool is_matrix) {
    size_t source = 0;
    const SourceTensor* found = find(name, &source);
    if (found == nullptr) {
      problems_.add(
          StatusCode::kCorrupt,
          "tensor " + in_quotes(name) + " is missing, expected shape " + shape_text(shape) +
              (name == "head.weight" ? " (or tie_word_embeddings true in config.json)" : ""));
      return kNoTensor;
    }
    used_[source] = true;
    if (!std::equal(shape.begin(), shape.end(), found->shape.begin(), found->shape.end())) {
      problems_.add(StatusCode::kCorrupt, "tensor " + in_quotes(name) + " has shape " +
                                              found->shape_string() + ", expected " +
                                              shape_text(shape));
      return kNoTensor;
    }
    if (!is_weight_type(found->type)) {
      problems_.add(StatusCode::kUnsupported, "tensor " + in_quotes(name) + " has type " +
                                                  source_type_name(found->type) +
                                                  ", expected F32, F16, BF16 or F64");
      return kNoTensor;
    }
    layout_.spec.tensors.push_back(described(name, shape, is_matrix));
    layout_.sources.push_back(source);
    return static_cast<TensorIndex>(layout_.spec.tensors.size() - 1);
  }

  Tensor described(const std::string& name, const Shape& shape, bool is_matrix) const {
    Tensor tensor;
    tensor.name = name;
    tensor.shape = shape;
    if (is_matrix && weights_ == WeightType::kF16) tensor.dtype = DType::kF16;
    if (is_matrix && weights_ == WeightType::kInt8) {
      tensor.dtype = DType::kI8;
      tensor.quantization = Quantization::kPerChannel;
      tensor.scale_size = uint64_t{shape[0]} * sizeof(float);
    }
    tensor.size = tensor_data_size(tensor.dtype, tensor.rows(), tensor.elements() / tensor.rows());
    return tensor;
  }

  TensorIndex matrix(const std::string& name, uint32_t out, uint32_t in) {
    return add(name, {out, in}, true);
  }
  TensorIndex floats(const std::string& name, const Shape& shape) {
    return add(name, shape, false);
  }

  Linear linear(const std::string& name, uint32_t out, uint32_t in, bool bias = false) {
    Linear result;
    result.weight = matrix(name + ".weight", out, in);
    if (bias) result.bias = floats(name + ".bias", {out});
    return result;
  }

  void report_unused() {
    if (problems_.size() >= kEnoughProblems) return;
    for (size_t i = 0; i < used_.size(); ++i) {
      if (used_[i]) continue;
      const SourceTensor& tensor = checkpoint_.tensors()[i];
      const bool tied_head = config_.tied && tensor.name == "head.weight";
      problems_.add(StatusCode::kCorrupt, "tensor " + in_quotes(tensor.name) + " of shape " +
                                              tensor.shape_string() +
                                              " has no place in this model" +
                                              (tied_head ? ": tie_word_embeddings is true" : ""));
    }
  }

  // ---- parts of the model ----

  Norm norm(const std::string& name) {
    Norm result;
    result.kind = config_.norm;
    result.eps = config_.norm_eps;
    result.unit_offset = config_.unit_offset;
    result.scale = floats(name + ".weight", {config_.width});
    if (config_.norm == NormKind::kLayerNorm) result.bias = floats(name + ".bias", {config_.width});
    return result;
  }

  Block block(const std::string& prefix) {
    Block result;
    const Norm first = norm(prefix + "norm1");
    const bool glu = config_.block == LatteBlock::kGlu;
    const Norm second = glu ? Norm() : norm(prefix + "norm2");
    if (config_.prenorm) {
      result.before_mixer = first;
      result.before_feed_forward = second;
    } else if (glu) {
      result.after_feed_forward = first;
    } else {
      result.after_mixer = first;
      result.after_feed_forward = second;
    }
    result.mixer = mixer(prefix + "mixer.");
    result.feed_forward = feed_forward(prefix);
    return result;
  }

  FeedForward feed_forward(const std::string& prefix) {
    const uint32_t d = config_.width, f = config_.hidden;
    switch (config_.block) {
      case LatteBlock::kTransformer: {
        MlpFeedForward mlp;
        mlp.fc1 = linear(prefix + "fc1", f, d, true);
        mlp.fc2 = linear(prefix + "fc2", d, f, true);
        mlp.activation = config_.activation;
        return mlp;
      }
      case LatteBlock::kGlu: {
        GluFeedForward glu;
        glu.value = linear(prefix + "value", d, d, true);
        glu.gate = linear(prefix + "gate", d, d, true);
        return glu;
      }
      default: {
        GatedFeedForward gated;
        gated.gate = linear(prefix + "gate", f, d);
        gated.up = linear(prefix + "up", f, d);
        gated.down = linear(prefix + "down", d, f);
        gated.activation = config_.activation;
        return gated;
      }
    }
  }

  Mixer mixer(const std::string& prefix) {
    const uint32_t d = config_.width, l = config_.latents;
    const auto square = [&](const char* name) { return linear(prefix + name, d, d); };
    switch (config_.mixer) {
      case LatteMixing::kLatteCausal: {
        LatteMixer m;
        m.heads = config_.heads;
        m.latents = l;
        m.q = linear(prefix + "q", l, d);
        m.k = linear(prefix + "k", l, d);
        m.v = square("v");
        m.o = square("o");
        m.score_scale = config_.score_scale;
        m.key_eps = config_.key_eps;
        m.vapor = config_.vapor;
        m.front = front(prefix);
        return m;
      }
      case LatteMixing::kMacchiato: {
        MacchiatoMixer m;
        m.heads = m.kv_heads = config_.heads;
        m.latents = l;
        m.q = linear(prefix + "q", l, d);
        m.k = linear(prefix + "k", l, d);
        m.gate = linear(prefix + "gate", config_.heads, d);
        m.local_q = square("local_q");
        m.local_k = square("local_k");
        m.v = square("v");
        m.o = square("o");
        m.window = config_.window;
        m.score_scale = config_.score_scale;
        m.key_eps = config_.key_eps;
        m.vapor = config_.vapor;
        m.front = front(prefix);
        return m;
      }
      default: {
        WindowMixer m;
        m.heads = m.kv_heads = config_.heads;
        m.local_q = square("local_q");
        m.local_k = square("local_k");
        m.v = square("v");
        m.o = square("o");
        m.window = config_.window;
        return m;
      }
    }
  }

  Front front(const std::string& prefix) {
    Front result;
    result.kind = config_.front;
    result.feeds_value = config_.front_feeds_value;
    result.feeds_local = config_.front_feeds_local;
    const uint32_t d = config_.width;
    if (result.kind == FrontKind::kConv || result.kind == FrontKind::kConvRgLru) {
      const std::string name = prefix + "conv1d.weight";
      result.conv_weight = floats(name, {taps(name), d});
      result.conv_bias = floats(prefix + "conv1d.bias", {d});
    }
    if (result.kind == FrontKind::kRgLru || result.kind == FrontKind::kConvRgLru) {
      const uint32_t n = config_.rglru_blocks, part = d / n;
      result.blocks = n;
      result.a_param = floats(prefix + "rg_lru.a_param", {d});
      result.input_gate_weight = floats(prefix + "rg_lru.input_gate.weight", {n, part, part});
      result.input_gate_bias = floats(prefix + "rg_lru.input_gate.bias", {n, part});
      result.a_gate_weight = floats(prefix + "rg_lru.a_gate.weight", {n, part, part});
      result.a_gate_bias = floats(prefix + "rg_lru.a_gate.bias", {n, part});
    }
    return result;
  }

  // Only the tensor tells how far the convolution reaches; 4 is what is usual.
  uint32_t taps(const std::string& name) const {
    size_t index = 0;
    const SourceTensor* found = find(name, &index);
    const bool plausible = found != nullptr && found->shape.size() == 2 && found->shape[0] >= 2 &&
                           found->shape[0] <= 4096;
    return plausible ? static_cast<uint32_t>(found->shape[0]) : 4;
  }

  LanguageHead head(TensorIndex table) {
    LanguageHead result;
    result.projection.weight =
        config_.tied ? table : matrix("head.weight", config_.vocab_size, config_.width);
    if (config_.head_bias) result.projection.bias = floats("head.bias", {config_.vocab_size});
    return result;
  }

  const LatteConfig& config_;
  const Checkpoint& checkpoint_;
  const WeightType weights_;
  std::vector<bool> used_;
  Problems problems_;
  LatteLayout layout_;
};

}  // namespace

Result<LatteLayout> latte_layout(const LatteConfig& config, const Checkpoint& checkpoint,
                                 WeightType weights, const std::string& where) {
  return LayoutBuilder(config, checkpoint, weights).build(where);
}

}  // namespace moka
