#include "converter/writer_header.h"

#include <algorithm>
#include <cstring>

#include "moka/version.h"
#include "runtime/checksum.h"
#include "schema/moka_generated.h"

namespace moka {
namespace {

using flatbuffers::Offset;

uint64_t align_up(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

template <class To, class From>
To same(From value) {  // The loader asserts that the enums of spec and schema agree.
  return static_cast<To>(value);
}

// Writes the spec's structs as the schema's tables, one method per struct, in the schema's order.
// Every field is written, defaults too, so that a header's size does not depend on its values.
class HeaderBuilder {
 public:
  HeaderBuilder(const ModelSpec& spec, const DataLayout& layout) : spec_(spec), layout_(layout) {
    b_.ForceDefaults(true);
  }

  // Size prefix and FlatBuffer.
  Span<const uint8_t> build();

 private:
  using Text = Offset<flatbuffers::String>;
  template <class T>
  using List = Offset<flatbuffers::Vector<Offset<T>>>;
  using Member = Offset<void>;

  Text text(const std::string& value) { return b_.CreateString(value); }
  List<flatbuffers::String> texts(const std::vector<std::string>& values) {
    return b_.CreateVectorOfStrings(values);
  }
  template <class T>
  Offset<flatbuffers::Vector<T>> numbers(const std::vector<T>& values) {
    return b_.CreateVector(values);
  }
  Offset<flatbuffers::Vector<uint32_t>> ids(const std::vector<TokenId>& values) {
    return numbers(std::vector<uint32_t>(values.begin(), values.end()));
  }
  // One table per element, made by `make`.
  template <class T, class Values, class Make>
  List<T> tables(const Values& values, Make make) {
    std::vector<Offset<T>> result;
    result.reserve(values.size());
    for (size_t i = 0; i < values.size(); ++i) result.push_back(make(values[i], i));
    return b_.CreateVector(result);
  }

  Offset<fb::Linear> linear(const Linear& l) { return fb::CreateLinear(b_, l.weight, l.bias); }
  Offset<fb::Norm> norm(const Norm& n) {
    return fb::CreateNorm(b_, same<fb::NormKind>(n.kind), n.scale, n.bias, n.eps, n.unit_offset);
  }
  Offset<fb::Rotation> rotation(const std::optional<Rotation>& r) {
    if (!r) return 0;
    return fb::CreateRotation(b_, r->theta, same<fb::RotationStyle>(r->style),
                              static_cast<int8_t>(r->sign));
  }
  Offset<fb::Front> front(const Front& f) {
    return fb::CreateFront(b_, same<fb::FrontKind>(f.kind), f.conv_weight, f.conv_bias, f.blocks,
                           f.a_param, f.input_gate_weight, f.input_gate_bias, f.a_gate_weight,
                           f.a_gate_bias, f.c, f.feeds_value, f.feeds_local);
  }
  Offset<fb::Window> window(const Window& w) {
    const auto rope = rotation(w.rope);
    return fb::CreateWindow(b_, w.size, rope, w.scale, w.softcap);
  }

  Member member(const TokenInput& v) {
    return fb::CreateTokenInput(b_, v.vocab_size, v.table, v.image_width, v.image_height).Union();
  }
  Member member(const FloatInput& v) {
    const auto projection = linear(v.projection);
    const auto mean = numbers(v.mean);
    const auto deviation = numbers(v.deviation);
    return fb::CreateFloatInput(b_, v.features, projection, mean, deviation).Union();
  }
  Member member(const PixelDenseInput& v) {
    const auto projection = linear(v.projection);
    return fb::CreatePixelDenseInput(b_, v.width, v.height, projection, v.mean, v.deviation)
        .Union();
  }
  Member member(const PixelConvInput& v) {
    const auto kernels = numbers(v.kernels);
    const auto biases = numbers(v.biases);
    const auto norm_table = norm(v.norm);
    return fb::CreatePixelConvInput(b_, v.width, v.height, kernels, biases, norm_table, v.mean,
                                    v.deviation)
        .Union();
  }

  Member member(const LatteMixer& v) {
    const auto q = linear(v.q), k = linear(v.k), val = linear(v.v), o = linear(v.o);
    const auto vapor = rotation(v.vapor);
    const auto front_table = front(v.front);
    return fb::CreateLatteMixer(b_, v.heads, v.latents, v.causal, q, k, val, o, v.score_scale,
                                v.key_eps, vapor, front_table, same<fb::Source>(v.source))
        .Union();
  }
  Member member(const WindowMixer& v) {
    const auto q = linear(v.local_q), k = linear(v.local_k), val = linear(v.v), o = linear(v.o);
    const auto window_table = window(v.window);
    return fb::CreateWindowMixer(b_, v.heads, v.kv_heads, q, k, val, o, window_table).Union();
  }
  Member member(const MacchiatoMixer& v) {
    const auto q = linear(v.q), k = linear(v.k), gate = linear(v.gate);
    const auto local_q = linear(v.local_q), local_k = linear(v.local_k);
    const auto val = linear(v.v), o = linear(v.o);
    const auto window_table = window(v.window);
    const auto vapor = rotation(v.vapor);
    const auto front_table = front(v.front);
    return fb::CreateMacchiatoMixer(b_, v.heads, v.latents, v.kv_heads, q, k, gate, local_q,
                                    local_k, val, o, window_table, v.score_scale, v.key_eps,
                                    same<fb::LatentScope>(v.latent_scope), vapor, v.vapor_on_local,
                                    front_table)
        .Union();
  }
  Member member(const SoftmaxMixer& v) {
    const auto q = linear(v.q), k = linear(v.k), val = linear(v.v), o = linear(v.o);
    const auto rope = rotation(v.rope);
    return fb::CreateSoftmaxMixer(b_, v.heads, q, k, val, o, rope, v.scale).Union();
  }
  Member member(const LinformerMixer& v) {
    const auto q = linear(v.q), k = linear(v.k), val = linear(v.v), o = linear(v.o);
    return fb::CreateLinformerMixer(b_, v.heads, v.rank, v.max_length, q, k, val, o, v.low_rank_k,
                                    v.low_rank_v)
        .Union();
  }

  Member member(const std::monostate&) { return 0; }
  Member member(const MlpFeedForward& v) {
    const auto fc1 = linear(v.fc1), fc2 = linear(v.fc2);
    return fb::CreateMlpFeedForward(b_, fc1, fc2, same<fb::Activation>(v.activation)).Union();
  }
  Member member(const GluFeedForward& v) {
    const auto value = linear(v.value), gate = linear(v.gate);
    return fb::CreateGluFeedForward(b_, value, gate).Union();
  }
  Member member(const GatedFeedForward& v) {
    const auto gate = linear(v.gate), up = linear(v.up), down = linear(v.down);
    return fb::CreateGatedFeedForward(b_, gate, up, down, same<fb::Activation>(v.activation))
        .Union();
  }

  Member member(const LanguageHead& v) {
    const auto projection = linear(v.projection);
    return fb::CreateLanguageHead(b_, projection).Union();
  }
  Member member(const ClassifierHead& v) {
    const auto projection = linear(v.projection);
    const auto labels = texts(v.labels);
    return fb::CreateClassifierHead(b_, same<fb::Pooling>(v.pooling), v.pad_id, projection, labels)
        .Union();
  }
  Member member(const PairHead& v) {
    const auto hidden = linear(v.hidden), projection = linear(v.projection);
    const auto labels = texts(v.labels);
    return fb::CreatePairHead(b_, same<fb::Pooling>(v.pooling), v.pad_id, hidden, projection,
                              labels)
        .Union();
  }
  Member member(const RegressionHead& v) {
    const auto projection = linear(v.projection);
    const auto quantiles = numbers(v.quantiles);
    const auto mean = numbers(v.mean), deviation = numbers(v.deviation);
    return fb::CreateRegressionHead(b_, projection, v.outputs, quantiles, mean, deviation, v.steps)
        .Union();
  }
  Member member(const EmbeddingHead& v) {
    return fb::CreateEmbeddingHead(b_, same<fb::Pooling>(v.pooling), v.pad_id, v.unit_length)
        .Union();
  }

  // Members of a union are numbered from 1 in the schema. Variants that begin with monostate give
  // it 0, which is the schema's NONE; the others have no such member.
  template <class Union, class Variant>
  static Union union_type(const Variant& v) {
    constexpr bool kHasNone =
        std::is_same_v<std::variant_alternative_t<0, Variant>, std::monostate>;
    static_assert(
        std::variant_size_v<Variant> == static_cast<size_t>(Union::MAX) + (kHasNone ? 1 : 0),
        "model_spec.h and moka.fbs differ");
    return static_cast<Union>(v.index() + (kHasNone ? 0 : 1));
  }
  template <class Variant>
  Member union_value(const Variant& v) {
    return std::visit([this](const auto& m) { return this->member(m); }, v);
  }

  Offset<fb::Block> block(const Block& block);
  Offset<fb::Tensor> tensor(const Tensor& tensor, const DataLayout::Place& place);
  Offset<fb::Tokenizer> tokenizer(const TokenizerSpec& tokenizer);
  Offset<fb::Metadata> metadata(const Metadata& metadata);
  Offset<fb::Measurement> measurement(const std::optional<Measurement>& m);
  Offset<fb::Sampling> sampling(const std::optional<SamplerOptions>& s);

  const ModelSpec& spec_;
  const DataLayout& layout_;
  flatbuffers::FlatBufferBuilder b_;
};

Offset<fb::Block> HeaderBuilder::block(const Block& block) {
  const auto before_mixer = norm(block.before_mixer);
  const auto mixer = union_value(block.mixer);
  const auto after_mixer = norm(block.after_mixer);
  const auto before_ff = norm(block.before_feed_forward);
  const auto ff = union_value(block.feed_forward);
  const auto after_ff = norm(block.after_feed_forward);
  return fb::CreateBlock(b_, before_mixer, union_type<fb::Mixer>(block.mixer), mixer, after_mixer,
                         before_ff, union_type<fb::FeedForward>(block.feed_forward), ff, after_ff);
}

Offset<fb::Tensor> HeaderBuilder::tensor(const Tensor& tensor, const DataLayout::Place& place) {
  const auto name = text(tensor.name);
  const auto shape = numbers(tensor.shape);
  return fb::CreateTensor(b_, name, same<fb::DType>(tensor.dtype), shape, place.data, tensor.size,
                          same<fb::Quantization>(tensor.quantization), tensor.block, place.scales,
                          tensor.scale_size, same<fb::TensorLayout>(tensor.layout));
}

Offset<fb::Tokenizer> HeaderBuilder::tokenizer(const TokenizerSpec& t) {
  const auto pieces = numbers(t.pieces);
  const auto piece_ends = numbers(t.piece_ends);
  const auto scores = numbers(t.scores);
  const auto merges = numbers(t.merges);
  const auto special =
      tables<fb::SpecialToken>(t.special_tokens, [&](const SpecialToken& s, size_t) {
        const auto value = text(s.text);
        return fb::CreateSpecialToken(b_, s.id, value, s.in_text, s.control, s.strip_left,
                                      s.strip_right, s.single_word, s.normalized);
      });
  const auto normalizers = tables<fb::Normalizer>(t.normalizers, [&](const Normalizer& n, size_t) {
    const auto pattern = text(n.pattern);
    const auto content = text(n.content);
    const auto data = numbers(n.data);
    return fb::CreateNormalizer(b_, same<fb::NormalizerKind>(n.kind), pattern, n.literal, content,
                                data);
  });
  const auto pre = tables<fb::PreTokenizer>(t.pre_tokenizers, [&](const PreTokenizer& p, size_t) {
    const auto pattern = text(p.pattern);
    return fb::CreatePreTokenizer(b_, same<fb::PreTokenizerKind>(p.kind), pattern, p.literal,
                                  p.invert, same<fb::SplitBehavior>(p.behavior),
                                  p.individual_digits, p.add_prefix_space);
  });
  const auto source_hash = text(t.source_hash);
  return fb::CreateTokenizer(b_, same<fb::TokenizerKind>(t.kind), pieces, piece_ends, scores,
                             merges, special, normalizers, pre, t.add_prefix_space, t.byte_fallback,
                             t.ignore_merges, t.fuse_unknown, t.unknown_id, t.bos_id, t.eos_id,
                             t.pad_id, t.add_bos, t.add_eos, t.max_length, source_hash);
}

Offset<fb::Measurement> HeaderBuilder::measurement(const std::optional<Measurement>& m) {
  if (!m) return 0;
  const auto name = text(m->text_name);
  return fb::CreateMeasurement(b_, name, m->text_bytes, m->tokens, m->bits_per_byte,
                               m->bits_per_byte_float32, m->kl_mean, m->kl_max,
                               m->argmax_agreement);
}

Offset<fb::Sampling> HeaderBuilder::sampling(const std::optional<SamplerOptions>& s) {
  if (!s) return 0;
  return fb::CreateSampling(b_, s->temperature, s->top_k, s->top_p, s->min_p, s->repeat_penalty,
                            s->repeat_window);
}

Offset<fb::Metadata> HeaderBuilder::metadata(const Metadata& m) {
  const auto name = text(m.name), description = text(m.description), license = text(m.license);
  const auto author = text(m.author);
  const auto languages = texts(m.languages);
  const auto training = text(m.training), converter = text(m.converter);
  const auto files = tables<fb::SourceFile>(m.source_files, [&](const SourceFile& f, size_t) {
    const auto file_name = text(f.name);
    return fb::CreateSourceFile(b_, file_name, f.size, f.xxh3);
  });
  const auto quantization = text(m.quantization);
  const auto measured = measurement(m.measurement);
  const auto sampled = sampling(m.sampling);
  std::vector<KeyValue> sorted = m.extra;  // FlatBuffers looks keys up by halving
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const KeyValue& a, const KeyValue& b) { return a.key < b.key; });
  const auto extra = tables<fb::KeyValue>(sorted, [&](const KeyValue& e, size_t) {
    const auto key = text(e.key);
    const auto value = text(e.value);
    return fb::CreateKeyValue(b_, key, value);
  });
  return fb::CreateMetadata(b_, name, description, license, author, languages, training,
                            m.trained_length, m.parameters, converter, files, quantization,
                            measured, sampled, extra);
}

Span<const uint8_t> HeaderBuilder::build() {
  const auto features = texts(features_of(spec_));
  const auto input = union_value(spec_.input);
  const Positions& p = spec_.positions;
  const auto positions = fb::CreatePositions(b_, same<fb::PositionKind>(p.kind), p.table,
                                             p.max_length, p.fp32_angles, p.allow_extrapolation);
  const auto blocks =
      tables<fb::Block>(spec_.blocks, [&](const Block& value, size_t) { return block(value); });
  const auto final_norm = norm(spec_.final_norm);
  const auto head = union_value(spec_.head);
  const auto tensors = tables<fb::Tensor>(spec_.tensors, [&](const Tensor& value, size_t i) {
    return tensor(value, layout_.tensors[i]);
  });
  Offset<fb::Tokenizer> tokenizer_table = 0;
  if (spec_.tokenizer) tokenizer_table = tokenizer(*spec_.tokenizer);
  const auto metadata_table = metadata(spec_.metadata);
  Offset<fb::TestVector> vector = 0;
  if (spec_.test_vector) {
    const auto prompt = ids(spec_.test_vector->prompt);
    const auto expected = ids(spec_.test_vector->expected);
    vector = fb::CreateTestVector(b_, prompt, expected);
  }
  const auto snapshots =
      tables<fb::PrefixSnapshot>(spec_.prefix_snapshots, [&](const PrefixSnapshot& s, size_t i) {
        const auto name = text(s.name);
        const auto prefix = text(s.text);
        const auto tokens = ids(s.tokens);
        const auto isa = text(s.isa);
        return fb::CreatePrefixSnapshot(b_, name, prefix, s.position, layout_.snapshots[i], s.size,
                                        tokens, s.weights, s.chunk, isa);
      });
  const auto sections = tables<fb::Section>(layout_.sections, [&](const Section& s, size_t) {
    const auto key = text(s.key);
    return fb::CreateSection(b_, same<fb::SectionKind>(s.kind), s.offset, s.size, s.xxh3, key);
  });
  Offset<fb::MemoryEncoder> memory = 0;
  if (spec_.memory) {
    const auto memory_blocks = tables<fb::Block>(
        spec_.memory->blocks, [&](const Block& value, size_t) { return block(value); });
    const auto memory_norm = norm(spec_.memory->final_norm);
    memory = fb::CreateMemoryEncoder(b_, memory_blocks, memory_norm);
  }
  const auto model =
      fb::CreateModel(b_, kFormatVersion, features, spec_.width, union_type<fb::Input>(spec_.input),
                      input, positions, blocks, final_norm, union_type<fb::Head>(spec_.head), head,
                      tensors, tokenizer_table, metadata_table, vector, snapshots, sections,
                      layout_.data_size, memory, spec_.fingerprint);
  fb::FinishSizePrefixedModelBuffer(b_, model);
  return {b_.GetBufferPointer(), b_.GetSize()};
}

// Less than the header's size, counted without building it: FlatBuffers ends the program when a
// buffer grows beyond 2 GiB.
uint64_t least_header_bytes(const ModelSpec& spec) {
  constexpr uint64_t kTable = 16;
  uint64_t total = 0;
  for (const Tensor& tensor : spec.tensors) total += kTable + tensor.name.size();
  const auto add_labels = [&total](const std::vector<std::string>& labels) {
    for (const std::string& label : labels) total += 8 + label.size();
  };
  if (const auto* head = std::get_if<ClassifierHead>(&spec.head)) add_labels(head->labels);
  if (const auto* head = std::get_if<PairHead>(&spec.head)) add_labels(head->labels);
  if (spec.tokenizer) {
    const TokenizerSpec& t = *spec.tokenizer;
    total += t.pieces.size() + 4 * (t.piece_ends.size() + t.scores.size() + t.merges.size());
    for (const SpecialToken& token : t.special_tokens) total += kTable + token.text.size();
    for (const Normalizer& rule : t.normalizers) {
      total += rule.pattern.size() + rule.content.size() + rule.data.size();
    }
    for (const PreTokenizer& rule : t.pre_tokenizers) total += rule.pattern.size();
  }
  const Metadata& m = spec.metadata;
  total += m.description.size() + m.training.size() + m.name.size() + m.author.size();
  for (const KeyValue& entry : m.extra) total += kTable + entry.key.size() + entry.value.size();
  for (const SourceFile& file : m.source_files) total += kTable + file.name.size();
  for (const PrefixSnapshot& snapshot : spec.prefix_snapshots)
    total += kTable + snapshot.text.size() + 4 * snapshot.tokens.size();
  if (spec.test_vector) {
    total += 4 * (spec.test_vector->prompt.size() + spec.test_vector->expected.size());
  }
  return total;
}

}  // namespace

Result<std::vector<uint8_t>> build_header(const ModelSpec& spec, const DataLayout& layout,
                                          const std::string& where) {
  uint64_t size = least_header_bytes(spec);
  std::vector<uint8_t> bytes;
  if (size <= kMaxHeaderBytes) {
    HeaderBuilder builder(spec, layout);
    const Span<const uint8_t> header = builder.build();
    size = header.size();
    const uint64_t checksum = xxh3_64(header.data(), header.size());
    bytes.resize(static_cast<size_t>(align_up(size + sizeof checksum, kPageAlignment)));
    std::memcpy(bytes.data(), header.data(), header.size());
    std::memcpy(bytes.data() + header.size(), &checksum, sizeof checksum);
  }
  if (size > kMaxHeaderBytes) {
    return Status(StatusCode::kOutOfRange,
                  where + ": the header (tokenizer, names, metadata) would have " +
                      std::to_string(size) + " bytes, but at most " +
                      std::to_string(kMaxHeaderBytes) + " are allowed");
  }
  return bytes;
}

}  // namespace moka
