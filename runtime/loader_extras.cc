// What surrounds the network in a header: texts, tokenizer, metadata.
#include <limits>

#include "runtime/loader_header.h"

namespace moka {

void HeaderReader::fail(const std::string& what) {
  if (status_.ok()) status_ = Status(StatusCode::kCorrupt, where_ + ": header: " + what);
}

bool HeaderReader::require(bool condition, const char* what) {
  if (!condition) fail(what);
  return condition;
}

void HeaderReader::charge(uint64_t bytes) {
  if (bytes <= budget_) {
    budget_ -= bytes;
  } else {
    budget_ = 0;
    fail("its texts and vectors are larger than the header itself");
  }
}

std::string HeaderReader::text(const flatbuffers::String* value) {
  if (value == nullptr) return {};
  charge(value->size());
  return status_.ok() ? value->str() : std::string();
}

std::vector<std::string> HeaderReader::texts(
    const flatbuffers::Vector<flatbuffers::Offset<flatbuffers::String>>* values) {
  std::vector<std::string> result;
  if (values == nullptr) return result;
  for (const flatbuffers::String* value : *values) {
    charge(8);  // the offset and the length, which an unshared string has beside its bytes
    std::string entry = text(value);
    if (!status_.ok()) break;
    result.push_back(std::move(entry));
  }
  return result;
}

std::vector<TokenId> HeaderReader::token_ids(const char* what,
                                             const flatbuffers::Vector<uint32_t>* values) {
  std::vector<TokenId> result;
  for (const uint32_t id : numbers(values)) {
    if (id > static_cast<uint32_t>(std::numeric_limits<TokenId>::max())) {
      fail(std::string("the ") + what + " has token id " + std::to_string(id));
      break;
    }
    result.push_back(static_cast<TokenId>(id));
  }
  return result;
}

// ---- tokenizer -------------------------------------------------------------------------------

Normalizer HeaderReader::normalizer(const fb::Normalizer& rule) {
  Normalizer result;
  result.kind = enumeration<NormalizerKind::kRemoveText>("normalizer.kind", rule.kind());
  result.pattern = text(rule.pattern());
  result.literal = rule.literal();
  result.content = text(rule.content());
  result.data = numbers(rule.data());
  return result;
}

PreTokenizer HeaderReader::pre_tokenizer(const fb::PreTokenizer& rule) {
  PreTokenizer result;
  result.kind = enumeration<PreTokenizerKind::kMetaspace>("pre_tokenizer.kind", rule.kind());
  result.pattern = text(rule.pattern());
  result.literal = rule.literal();
  result.invert = rule.invert();
  result.behavior =
      enumeration<SplitBehavior::kContiguous>("pre_tokenizer.behavior", rule.behavior());
  result.individual_digits = rule.individual_digits();
  result.add_prefix_space = rule.add_prefix_space();
  return result;
}

SpecialToken HeaderReader::special_token(const fb::SpecialToken& token) {
  SpecialToken result;
  result.id = token.id();
  result.text = text(token.text());
  result.in_text = token.in_text();
  result.control = token.control();
  result.strip_left = token.strip_left();
  result.strip_right = token.strip_right();
  result.single_word = token.single_word();
  result.normalized = token.normalized();
  return result;
}

TokenizerSpec HeaderReader::tokenizer(const fb::Tokenizer& tokenizer) {
  TokenizerSpec result;
  result.kind = enumeration<TokenizerKind::kWords>("tokenizer.kind", tokenizer.kind());
  result.pieces = numbers(tokenizer.pieces());
  result.piece_ends = numbers(tokenizer.piece_ends());
  result.scores = numbers(tokenizer.scores());
  result.merges = numbers(tokenizer.merges());
  if (const auto* tokens = tokenizer.special_tokens()) {
    for (const fb::SpecialToken* token : *tokens) {
      if (status_.ok()) result.special_tokens.push_back(special_token(*token));
    }
  }
  if (const auto* rules = tokenizer.normalizers()) {
    for (const fb::Normalizer* rule : *rules) {
      if (status_.ok()) result.normalizers.push_back(normalizer(*rule));
    }
  }
  if (const auto* rules = tokenizer.pre_tokenizers()) {
    for (const fb::PreTokenizer* rule : *rules) {
      if (status_.ok()) result.pre_tokenizers.push_back(pre_tokenizer(*rule));
    }
  }
  result.add_prefix_space = tokenizer.add_prefix_space();
  result.byte_fallback = tokenizer.byte_fallback();
  result.ignore_merges = tokenizer.ignore_merges();
  result.fuse_unknown = tokenizer.fuse_unknown();
  result.unknown_id = tokenizer.unknown_id();
  result.bos_id = tokenizer.bos_id();
  result.eos_id = tokenizer.eos_id();
  result.pad_id = tokenizer.pad_id();
  result.add_bos = tokenizer.add_bos();
  result.add_eos = tokenizer.add_eos();
  result.max_length = tokenizer.max_length();
  result.source_hash = text(tokenizer.source_hash());
  return result;
}

// ---- metadata --------------------------------------------------------------------------------

namespace {

Measurement measurement(const fb::Measurement& m) {
  Measurement result;
  result.text_bytes = m.text_bytes();
  result.tokens = m.tokens();
  result.bits_per_byte = m.bits_per_byte();
  result.bits_per_byte_float32 = m.bits_per_byte_float32();
  result.kl_mean = m.kl_mean();
  result.kl_max = m.kl_max();
  result.argmax_agreement = m.argmax_agreement();
  return result;
}

SamplerOptions sampling(const fb::Sampling& s) {
  SamplerOptions result;
  result.temperature = s.temperature();
  result.top_k = s.top_k();
  result.top_p = s.top_p();
  result.min_p = s.min_p();
  result.repeat_penalty = s.repeat_penalty();
  result.repeat_window = s.repeat_window();
  return result;
}

}  // namespace

Metadata HeaderReader::metadata(const fb::Metadata* metadata) {
  Metadata result;
  if (metadata == nullptr) return result;
  result.name = text(metadata->name());
  result.description = text(metadata->description());
  result.license = text(metadata->license());
  result.author = text(metadata->author());
  result.languages = texts(metadata->languages());
  result.training = text(metadata->training());
  result.trained_length = metadata->trained_length();
  result.parameters = metadata->parameters();
  result.converter = text(metadata->converter());
  if (const auto* files = metadata->source_files()) {
    for (const fb::SourceFile* file : *files) {
      if (!status_.ok()) break;
      SourceFile entry;
      entry.name = text(file->name());
      entry.size = file->size();
      entry.xxh3 = file->xxh3();
      result.source_files.push_back(std::move(entry));
    }
  }
  result.quantization = text(metadata->quantization());
  if (metadata->measurement() != nullptr) {
    result.measurement = measurement(*metadata->measurement());
    result.measurement->text_name = text(metadata->measurement()->text_name());
  }
  if (metadata->sampling() != nullptr) result.sampling = sampling(*metadata->sampling());
  if (const auto* entries = metadata->extra()) {
    for (const fb::KeyValue* entry : *entries) {
      if (!status_.ok()) break;
      KeyValue pair;
      pair.key = text(entry->key());
      pair.value = text(entry->value());
      result.extra.push_back(std::move(pair));
    }
  }
  return result;
}

}  // namespace moka
