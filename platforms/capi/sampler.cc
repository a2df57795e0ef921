// Samplers.
#include "platforms/capi/border.h"
#include "platforms/capi/handles.h"

namespace moka::capi {
namespace {

// Everything but the biases: those of a model's author do not exist, the format has none.
moka_sampler_options options_of(const SamplerOptions& from) {
  moka_sampler_options options{};
  options.struct_size = sizeof options;
  options.temperature = from.temperature;
  options.top_k = from.top_k;
  options.top_p = from.top_p;
  options.min_p = from.min_p;
  options.repeat_penalty = from.repeat_penalty;
  options.repeat_window = from.repeat_window;
  options.seed = from.seed;
  return options;
}

}  // namespace

Result<SamplerOptions> sampling_from(const moka_sampler_options* given, const Model& model) {
  if (given == nullptr) return model.info().sampling;
  moka_sampler_options read = options_of(model.info().sampling);
  MOKA_RETURN_IF_ERROR(read_options(given, "moka_sampler_options", &read));
  MOKA_ASSIGN_OR_RETURN(const auto biases, span_of(read.bias, read.bias_count, "bias"));
  SamplerOptions options;
  options.temperature = read.temperature;
  options.top_k = read.top_k;
  options.top_p = read.top_p;
  options.min_p = read.min_p;
  options.repeat_penalty = read.repeat_penalty;
  options.repeat_window = read.repeat_window;
  options.seed = read.seed;
  for (const moka_logit_bias& bias : biases) options.bias.push_back({bias.token, bias.bias});
  return options;
}

}  // namespace moka::capi

using namespace moka::capi;  // NOLINT: every function below is one of the C interface
using moka::Sampler;
using moka::SamplerOptions;
using moka::Span;
using moka::Status;
using moka::TokenId;

void moka_sampler_options_init(moka_sampler_options* options, uint32_t struct_size,
                               const moka_model* model) {
  const SamplerOptions plain;
  init_struct(options_of(model == nullptr ? plain : model->model().info().sampling), options,
              struct_size);
}

moka_status moka_sampler_create(const moka_model* model, const moka_sampler_options* options,
                                moka_sampler** out, moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(begin_out(out));
    MOKA_RETURN_IF_ERROR(need(model, "model"));
    MOKA_ASSIGN_OR_RETURN(const SamplerOptions given, sampling_from(options, model->model()));
    MOKA_ASSIGN_OR_RETURN(Sampler sampler, Sampler::create(given, model->model().info().outputs));
    return hand_out(out, std::move(sampler));
  });
}

moka_status moka_sampler_sample(moka_sampler* sampler, const float* logits, size_t count,
                                moka_token* token, moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(sampler, "sampler"));
    MOKA_RETURN_IF_ERROR(need(token, "token"));
    MOKA_ASSIGN_OR_RETURN(const Span<const float> row, span_of(logits, count, "logits"));
    MOKA_ASSIGN_OR_RETURN(*token, sampler->sampler.sample(row));
    return Status();
  });
}

moka_status moka_sampler_accept(moka_sampler* sampler, const moka_token* tokens, size_t count,
                                moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(sampler, "sampler"));
    MOKA_ASSIGN_OR_RETURN(const Span<const TokenId> ids, span_of(tokens, count, "tokens"));
    for (const TokenId id : ids) sampler->sampler.accept(id);
    return Status();
  });
}

void moka_sampler_reset(moka_sampler* sampler) {
  if (sampler != nullptr) sampler->sampler.reset();
}

moka_status moka_sampler_save(const moka_sampler* sampler, void* bytes, size_t capacity,
                              size_t* needed, moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(sampler, "sampler"));
    const std::vector<uint8_t> saved = sampler->sampler.save();
    return give_bytes(saved, bytes, capacity, needed, "bytes");
  });
}

moka_status moka_sampler_restore(moka_sampler* sampler, const void* bytes, size_t size,
                                 moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(sampler, "sampler"));
    MOKA_ASSIGN_OR_RETURN(const Span<const uint8_t> saved, bytes_of(bytes, size, "bytes"));
    return sampler->sampler.restore(saved);
  });
}

void moka_sampler_free(moka_sampler* sampler) { delete sampler; }
