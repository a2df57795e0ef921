// The network's description, from the header's tables to the spec's structs, field by field.
#include "runtime/loader_header.h"
#include "runtime/spec_checker.h"

namespace moka {
namespace {

Linear linear(const fb::Linear* linear) {
  Linear result;
  if (linear == nullptr) return result;
  result.weight = linear->weight();
  result.bias = linear->bias();
  return result;
}

}  // namespace

void HeaderReader::read(const fb::Model& header, Span<const uint8_t> data, LoadedModel* model) {
  ModelSpec& spec = model->spec;
  spec.required_features = texts(header.required_features());
  spec.width = header.width();
  spec.input = input(header);
  spec.positions = positions(header.positions());
  if (require(header.blocks()->size() <= kMaxLayers, "more than 4096 blocks")) {
    spec.blocks.reserve(header.blocks()->size());
    for (const fb::Block* entry : *header.blocks()) spec.blocks.push_back(block(*entry));
  }
  spec.final_norm = norm(header.final_norm());
  spec.head = head(header);
  if (const fb::MemoryEncoder* memory = header.memory()) {
    spec.memory.emplace();
    if (require(memory->blocks()->size() <= kMaxLayers, "more than 4096 blocks of the memory")) {
      spec.memory->blocks.reserve(memory->blocks()->size());
      for (const fb::Block* entry : *memory->blocks()) spec.memory->blocks.push_back(block(*entry));
    }
    spec.memory->final_norm = norm(memory->final_norm());
  }
  if (header.tokenizer() != nullptr) spec.tokenizer = tokenizer(*header.tokenizer());
  spec.metadata = metadata(header.metadata());
  if (const fb::TestVector* vector = header.test_vector()) {
    spec.test_vector.emplace();
    spec.test_vector->prompt = token_ids("test vector", vector->prompt());
    spec.test_vector->expected = token_ids("test vector", vector->expected());
  }
  spec.fingerprint = header.fingerprint();
  if (status_.ok()) read_sections(header, model);
  if (status_.ok()) read_tensors(header, data, model);
  if (status_.ok()) read_snapshots(header, data, model);
}

void HeaderReader::unknown_member(const char* field, int type, const void* object) {
  if (object == nullptr) {
    fail(std::string(field) + " is missing");
  } else {
    fail(std::string(field) + " has type number " + std::to_string(type) +
         ", which format version 1 does not have");
  }
}

Input HeaderReader::input(const fb::Model& header) {
  if (const auto* tokens = header.input_as_TokenInput()) {
    TokenInput result;
    result.vocab_size = tokens->vocab_size();
    result.table = tokens->table();
    result.image_width = tokens->image_width();
    result.image_height = tokens->image_height();
    return result;
  }
  if (const auto* floats = header.input_as_FloatInput()) {
    FloatInput result;
    result.features = floats->features();
    result.projection = linear(floats->projection());
    result.mean = numbers(floats->mean());
    result.deviation = numbers(floats->deviation());
    return result;
  }
  if (const auto* pixels = header.input_as_PixelDenseInput()) {
    PixelDenseInput result;
    result.width = pixels->width();
    result.height = pixels->height();
    result.projection = linear(pixels->projection());
    result.mean = pixels->mean();
    result.deviation = pixels->deviation();
    return result;
  }
  if (const auto* pixels = header.input_as_PixelConvInput()) {
    PixelConvInput result;
    result.width = pixels->width();
    result.height = pixels->height();
    result.kernels = numbers(pixels->kernels());
    result.biases = numbers(pixels->biases());
    result.norm = norm(pixels->norm());
    result.mean = pixels->mean();
    result.deviation = pixels->deviation();
    return result;
  }
  unknown_member("input", static_cast<int>(header.input_type()), header.input());
  return {};
}

Positions HeaderReader::positions(const fb::Positions* positions) {
  Positions result;
  if (positions == nullptr) return result;
  result.kind = enumeration<PositionKind::kLearned>("positions.kind", positions->kind());
  result.table = positions->table();
  result.max_length = positions->max_length();
  result.fp32_angles = positions->fp32_angles();
  result.allow_extrapolation = positions->allow_extrapolation();
  return result;
}

Norm HeaderReader::norm(const fb::Norm* norm) {
  Norm result;
  if (norm == nullptr) return result;
  result.kind = enumeration<NormKind::kAffine>("norm.kind", norm->kind());
  result.scale = norm->scale();
  result.bias = norm->bias();
  result.eps = norm->eps();
  result.unit_offset = norm->unit_offset();
  return result;
}

std::optional<Rotation> HeaderReader::rotation(const fb::Rotation* rotation) {
  if (rotation == nullptr) return std::nullopt;
  Rotation result;
  result.theta = rotation->theta();
  result.style = enumeration<RotationStyle::kInterleaved>("rotation.style", rotation->style());
  result.sign = rotation->sign();
  return result;
}

Front HeaderReader::front(const fb::Front* front) {
  Front result;
  if (front == nullptr) return result;
  result.kind = enumeration<FrontKind::kConvRgLru>("front.kind", front->kind());
  result.conv_weight = front->conv_weight();
  result.conv_bias = front->conv_bias();
  result.blocks = front->blocks();
  result.a_param = front->a_param();
  result.input_gate_weight = front->input_gate_weight();
  result.input_gate_bias = front->input_gate_bias();
  result.a_gate_weight = front->a_gate_weight();
  result.a_gate_bias = front->a_gate_bias();
  result.c = front->c();
  result.feeds_value = front->feeds_value();
  result.feeds_local = front->feeds_local();
  return result;
}

Window HeaderReader::window(const fb::Window* window) {
  Window result;
  if (window == nullptr) return result;
  result.size = window->size();
  result.rope = rotation(window->rope());
  result.scale = window->scale();
  result.softcap = window->softcap();
  return result;
}

LatteMixer HeaderReader::latte(const fb::LatteMixer& m) {
  LatteMixer result;
  result.heads = m.heads();
  result.latents = m.latents();
  result.causal = m.causal();
  result.q = linear(m.q());
  result.k = linear(m.k());
  result.v = linear(m.v());
  result.o = linear(m.o());
  result.score_scale = m.score_scale();
  result.key_eps = m.key_eps();
  result.vapor = rotation(m.vapor());
  result.front = front(m.front());
  result.source = enumeration<Source::kMemory>("source", m.source());
  return result;
}

MacchiatoMixer HeaderReader::macchiato(const fb::MacchiatoMixer& m) {
  MacchiatoMixer result;
  result.heads = m.heads();
  result.latents = m.latents();
  result.kv_heads = m.kv_heads();
  result.q = linear(m.q());
  result.k = linear(m.k());
  result.gate = linear(m.gate());
  result.local_q = linear(m.local_q());
  result.local_k = linear(m.local_k());
  result.v = linear(m.v());
  result.o = linear(m.o());
  result.window = window(m.window());
  result.score_scale = m.score_scale();
  result.key_eps = m.key_eps();
  result.latent_scope = enumeration<LatentScope::kOutsideWindow>("latent_scope", m.latent_scope());
  result.vapor = rotation(m.vapor());
  result.vapor_on_local = m.vapor_on_local();
  result.front = front(m.front());
  return result;
}

Mixer HeaderReader::mixer(const fb::Block& block) {
  if (const auto* m = block.mixer_as_LatteMixer()) return latte(*m);
  if (const auto* m = block.mixer_as_MacchiatoMixer()) return macchiato(*m);
  if (const auto* m = block.mixer_as_WindowMixer()) {
    WindowMixer result;
    result.heads = m->heads();
    result.kv_heads = m->kv_heads();
    result.local_q = linear(m->local_q());
    result.local_k = linear(m->local_k());
    result.v = linear(m->v());
    result.o = linear(m->o());
    result.window = window(m->window());
    return result;
  }
  if (const auto* m = block.mixer_as_SoftmaxMixer()) {
    SoftmaxMixer result;
    result.heads = m->heads();
    result.q = linear(m->q());
    result.k = linear(m->k());
    result.v = linear(m->v());
    result.o = linear(m->o());
    result.rope = rotation(m->rope());
    result.scale = m->scale();
    return result;
  }
  if (const auto* m = block.mixer_as_LinformerMixer()) {
    LinformerMixer result;
    result.heads = m->heads();
    result.rank = m->rank();
    result.max_length = m->max_length();
    result.q = linear(m->q());
    result.k = linear(m->k());
    result.v = linear(m->v());
    result.o = linear(m->o());
    result.low_rank_k = m->low_rank_k();
    result.low_rank_v = m->low_rank_v();
    return result;
  }
  unknown_member("mixer", static_cast<int>(block.mixer_type()), block.mixer());
  return {};
}

FeedForward HeaderReader::feed_forward(const fb::Block& block) {
  if (const auto* f = block.feed_forward_as_MlpFeedForward()) {
    MlpFeedForward result;
    result.fc1 = linear(f->fc1());
    result.fc2 = linear(f->fc2());
    result.activation = enumeration<Activation::kSilu>("activation", f->activation());
    return result;
  }
  if (const auto* f = block.feed_forward_as_GluFeedForward()) {
    GluFeedForward result;
    result.value = linear(f->value());
    result.gate = linear(f->gate());
    return result;
  }
  if (const auto* f = block.feed_forward_as_GatedFeedForward()) {
    GatedFeedForward result;
    result.gate = linear(f->gate());
    result.up = linear(f->up());
    result.down = linear(f->down());
    result.activation = enumeration<Activation::kSilu>("activation", f->activation());
    return result;
  }
  if (block.feed_forward_type() != fb::FeedForward::NONE) {
    unknown_member("feed_forward", static_cast<int>(block.feed_forward_type()),
                   block.feed_forward());
  }
  return {};
}

Block HeaderReader::block(const fb::Block& block) {
  Block result;
  result.before_mixer = norm(block.before_mixer());
  result.mixer = mixer(block);
  result.after_mixer = norm(block.after_mixer());
  result.before_feed_forward = norm(block.before_feed_forward());
  result.feed_forward = feed_forward(block);
  result.after_feed_forward = norm(block.after_feed_forward());
  return result;
}

Head HeaderReader::head(const fb::Model& header) {
  if (const auto* h = header.head_as_LanguageHead()) {
    LanguageHead result;
    result.projection = linear(h->projection());
    return result;
  }
  if (const auto* h = header.head_as_ClassifierHead()) {
    ClassifierHead result;
    result.pooling = enumeration<Pooling::kFirst>("pooling", h->pooling());
    result.pad_id = h->pad_id();
    result.projection = linear(h->projection());
    result.labels = texts(h->labels());
    return result;
  }
  if (const auto* h = header.head_as_PairHead()) {
    PairHead result;
    result.pooling = enumeration<Pooling::kFirst>("pooling", h->pooling());
    result.pad_id = h->pad_id();
    result.hidden = linear(h->hidden());
    result.projection = linear(h->projection());
    result.labels = texts(h->labels());
    return result;
  }
  if (const auto* h = header.head_as_RegressionHead()) {
    RegressionHead result;
    result.projection = linear(h->projection());
    result.outputs = h->outputs();
    result.quantiles = numbers(h->quantiles());
    result.mean = numbers(h->mean());
    result.deviation = numbers(h->deviation());
    result.steps = h->steps();
    return result;
  }
  if (const auto* h = header.head_as_EmbeddingHead()) {
    EmbeddingHead result;
    result.pooling = enumeration<Pooling::kFirst>("pooling", h->pooling());
    result.pad_id = h->pad_id();
    result.unit_length = h->unit_length();
    return result;
  }
  if (header.head_type() != fb::Head::NONE) {
    unknown_member("head", static_cast<int>(header.head_type()), header.head());
  }
  return {};
}

}  // namespace moka
