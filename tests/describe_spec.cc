// describe_spec: structured bindings name every field, so that a struct with a new field does not
// compile here until the field is compared too.
#include <cstring>
#include <type_traits>

#include "runtime/checksum.h"
#include "tests/spec_builder.h"

namespace moka::test {
namespace {

class Describer {
 public:
  std::string take() { return std::move(out_); }

  template <class... Fields>
  void record(const char* type, const Fields&... fields) {
    out_ += type;
    out_ += "(";
    (put(fields), ...);
    out_ += ")\n";
  }

  void put(const std::string& text) { out_ += "\"" + text + "\" "; }
  void put(bool value) { out_ += value ? "true " : "false "; }
  // Floats by their bits, so that -0 and 0 differ and NaN equals itself.
  void put(float value) {
    uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    out_ += std::to_string(value) + "/" + std::to_string(bits) + " ";
  }
  void put(double value) {
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    out_ += std::to_string(value) + "/" + std::to_string(bits) + " ";
  }
  template <class T, class = std::enable_if_t<std::is_integral_v<T> || std::is_enum_v<T>>>
  void put(T value) {
    out_ += std::to_string(static_cast<int64_t>(value)) + " ";
  }
  template <class T>
  void put(const std::vector<T>& values) {
    out_ += std::to_string(values.size()) + "[";
    for (const T& value : values) put(value);
    out_ += "] ";
  }
  template <class T>
  void put(const std::optional<T>& value) {
    if (value) {
      put(*value);
    } else {
      out_ += "absent ";
    }
  }
  template <class... T>
  void put(const std::variant<T...>& value) {
    out_ += "member " + std::to_string(value.index()) + " ";
    std::visit([this](const auto& member) { this->put(member); }, value);
  }
  void put(const std::monostate&) { out_ += "nothing "; }

  void bytes(const void* data, uint64_t size) {
    put(size);
    out_ +=
        data == nullptr ? "null " : std::to_string(xxh3_64(data, static_cast<size_t>(size))) + " ";
  }

  void put(const Tensor& value) {
    const auto& [name, dtype, shape, data, size, quantization, block, scales, scale_size, layout] =
        value;
    record("Tensor", name, dtype, shape, quantization, block, layout);
    bytes(data, size);
    bytes(scales, scale_size);
  }
  void put(const Linear& value) {
    const auto& [weight, bias] = value;
    record("Linear", weight, bias);
  }
  void put(const Norm& value) {
    const auto& [kind, scale, bias, eps, unit_offset] = value;
    record("Norm", kind, scale, bias, eps, unit_offset);
  }
  void put(const TokenInput& value) {
    const auto& [vocab_size, table, image_width, image_height] = value;
    record("TokenInput", vocab_size, table, image_width, image_height);
  }
  void put(const FloatInput& value) {
    const auto& [features, projection, mean, deviation] = value;
    record("FloatInput", features, projection, mean, deviation);
  }
  void put(const PixelDenseInput& value) {
    const auto& [width, height, projection, mean, deviation] = value;
    record("PixelDenseInput", width, height, projection, mean, deviation);
  }
  void put(const PixelConvInput& value) {
    const auto& [width, height, kernels, biases, norm, mean, deviation] = value;
    record("PixelConvInput", width, height, kernels, biases, norm, mean, deviation);
  }
  void put(const Positions& value) {
    const auto& [kind, table, max_length, fp32_angles, allow_extrapolation] = value;
    record("Positions", kind, table, max_length, fp32_angles, allow_extrapolation);
  }
  void put(const Rotation& value) {
    const auto& [theta, style, sign] = value;
    record("Rotation", theta, style, sign);
  }
  void put(const Front& value) {
    const auto& [kind, conv_weight, conv_bias, blocks, a_param, input_gate_weight, input_gate_bias,
                 a_gate_weight, a_gate_bias, c, feeds_value, feeds_local] = value;
    record("Front", kind, conv_weight, conv_bias, blocks, a_param, input_gate_weight,
           input_gate_bias, a_gate_weight, a_gate_bias, c, feeds_value, feeds_local);
  }
  void put(const Window& value) {
    const auto& [size, rope, scale, softcap] = value;
    record("Window", size, rope, scale, softcap);
  }
  void put(const LatteMixer& value) {
    const auto& [heads, latents, causal, q, k, v, o, score_scale, key_eps, vapor, front, source] =
        value;
    record("LatteMixer", heads, latents, causal, q, k, v, o, score_scale, key_eps, vapor, front,
           source);
  }
  void put(const WindowMixer& value) {
    const auto& [heads, kv_heads, local_q, local_k, v, o, window] = value;
    record("WindowMixer", heads, kv_heads, local_q, local_k, v, o, window);
  }
  void put(const MacchiatoMixer& value) {
    const auto& [heads, latents, kv_heads, q, k, gate, local_q, local_k, v, o, window, score_scale,
                 key_eps, latent_scope, vapor, vapor_on_local, front] = value;
    record("MacchiatoMixer", heads, latents, kv_heads, q, k, gate, local_q, local_k, v, o, window,
           score_scale, key_eps, latent_scope, vapor, vapor_on_local, front);
  }
  void put(const SoftmaxMixer& value) {
    const auto& [heads, q, k, v, o, rope, scale] = value;
    record("SoftmaxMixer", heads, q, k, v, o, rope, scale);
  }
  void put(const LinformerMixer& value) {
    const auto& [heads, rank, max_length, q, k, v, o, low_rank_k, low_rank_v] = value;
    record("LinformerMixer", heads, rank, max_length, q, k, v, o, low_rank_k, low_rank_v);
  }
  void put(const MlpFeedForward& value) {
    const auto& [fc1, fc2, activation] = value;
    record("MlpFeedForward", fc1, fc2, activation);
  }
  void put(const GluFeedForward& value) {
    const auto& [linear, gate] = value;
    record("GluFeedForward", linear, gate);
  }
  void put(const GatedFeedForward& value) {
    const auto& [gate, up, down, activation] = value;
    record("GatedFeedForward", gate, up, down, activation);
  }
  void put(const Block& value) {
    const auto& [before_mixer, mixer, after_mixer, before_ff, feed_forward, after_ff] = value;
    record("Block", before_mixer, mixer, after_mixer, before_ff, feed_forward, after_ff);
  }
  void put(const MemoryEncoder& value) {
    const auto& [blocks, final_norm] = value;
    record("MemoryEncoder", blocks, final_norm);
  }
  void put(const LanguageHead& value) {
    const auto& [projection] = value;
    record("LanguageHead", projection);
  }
  void put(const ClassifierHead& value) {
    const auto& [pooling, pad_id, projection, labels] = value;
    record("ClassifierHead", pooling, pad_id, projection, labels);
  }
  void put(const PairHead& value) {
    const auto& [pooling, pad_id, hidden, projection, labels] = value;
    record("PairHead", pooling, pad_id, hidden, projection, labels);
  }
  void put(const RegressionHead& value) {
    const auto& [projection, outputs, quantiles, mean, deviation, steps] = value;
    record("RegressionHead", projection, outputs, quantiles, mean, deviation, steps);
  }
  void put(const EmbeddingHead& value) {
    const auto& [pooling, pad_id, unit_length] = value;
    record("EmbeddingHead", pooling, pad_id, unit_length);
  }
  void put(const Normalizer& value) {
    const auto& [kind, pattern, literal, content, data] = value;
    record("Normalizer", kind, pattern, literal, content, data);
  }
  void put(const PreTokenizer& value) {
    const auto& [kind, pattern, literal, invert, behavior, individual_digits, add_prefix_space] =
        value;
    record("PreTokenizer", kind, pattern, literal, invert, behavior, individual_digits,
           add_prefix_space);
  }
  void put(const SpecialToken& value) {
    const auto& [id, text, in_text, control, strip_left, strip_right, single_word, normalized] =
        value;
    record("SpecialToken", id, text, in_text, control, strip_left, strip_right, single_word,
           normalized);
  }
  void put(const TokenizerSpec& value) {
    const auto& [kind, pieces, piece_ends, scores, merges, special_tokens, normalizers,
                 pre_tokenizers, add_prefix_space, byte_fallback, ignore_merges, fuse_unknown,
                 unknown_id, bos_id, eos_id, pad_id, add_bos, add_eos, max_length, source_hash] =
        value;
    record("TokenizerSpec", kind, pieces, piece_ends, scores, merges, special_tokens, normalizers,
           pre_tokenizers, add_prefix_space, byte_fallback, ignore_merges, fuse_unknown, unknown_id,
           bos_id, eos_id, pad_id, add_bos, add_eos, max_length, source_hash);
  }
  void put(const KeyValue& value) {
    const auto& [key, text] = value;
    record("KeyValue", key, text);
  }
  void put(const SourceFile& value) {
    const auto& [name, size, xxh3] = value;
    record("SourceFile", name, size, xxh3);
  }
  void put(const Measurement& value) {
    const auto& [text_name, text_bytes, tokens, bits, bits_float32, kl_mean, kl_max, argmax] =
        value;
    record("Measurement", text_name, text_bytes, tokens, bits, bits_float32, kl_mean, kl_max,
           argmax);
  }
  void put(const SamplerOptions& value) {
    const auto& [temperature, top_k, top_p, min_p, repeat_penalty, repeat_window, seed, bias] =
        value;
    (void)seed;  // not stored
    (void)bias;
    record("Sampling", temperature, top_k, top_p, min_p, repeat_penalty, repeat_window);
  }
  void put(const Metadata& value) {
    const auto& [name, description, license, author, languages, training, trained_length,
                 parameters, converter, source_files, quantization, measurement, sampling, extra] =
        value;
    record("Metadata", name, description, license, author, languages, training, trained_length,
           parameters, converter, source_files, quantization, measurement, sampling, extra);
  }
  void put(const TestVector& value) {
    const auto& [prompt, expected] = value;
    record("TestVector", prompt, expected);
  }
  void put(const PrefixSnapshot& value) {
    // `stale` is no part of a file: the loader finds it out.
    const auto& [name, text, position, data, size, tokens, weights, chunk, isa, stale] = value;
    (void)stale;
    record("PrefixSnapshot", name, text, position, tokens, weights, chunk, isa);
    bytes(data, size);
  }
  void put(const ModelSpec& value) {
    const auto& [required_features, width, input, positions, blocks, final_norm, head, memory,
                 tensors, tokenizer, metadata, test_vector, prefix_snapshots, fingerprint] = value;
    record("ModelSpec", required_features, width, input, positions, blocks, final_norm, head,
           memory, tensors, tokenizer, metadata, test_vector, prefix_snapshots, fingerprint);
  }

 private:
  std::string out_;
};

}  // namespace

std::string describe_spec(const ModelSpec& spec) {
  Describer describer;
  describer.put(spec);
  return describer.take();
}

}  // namespace moka::test
