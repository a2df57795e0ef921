// Text to tokens and back.
#include <string>
#include <string_view>
#include <vector>

#include "platforms/capi/border.h"
#include "platforms/capi/handles.h"

namespace moka::capi {
namespace {

Status check_token(const OpenedModel& opened, moka_token token) {
  const size_t ids = opened.model.tokenizer().vocab_size();
  if (token >= 0 && static_cast<size_t>(token) < ids) return Status();
  return Status(StatusCode::kOutOfRange, "token is " + std::to_string(token) +
                                             ", the tokenizer has 0 to " + std::to_string(ids - 1));
}

Status give_view(std::string_view view, const char** text, size_t* size) {
  *text = view.empty() ? "" : view.data();
  *size = view.size();
  return Status();
}

Status need_view(const char** text, const size_t* size) {
  MOKA_RETURN_IF_ERROR(need(text, "text"));
  return need(size, "size");
}

}  // namespace

Status need_tokenizer(const moka_model* model) {
  MOKA_RETURN_IF_ERROR(need(model, "model"));
  if (model->model().has_tokenizer()) return Status();
  return Status(StatusCode::kUnsupported, "the model has no tokenizer, so it reads no text");
}

}  // namespace moka::capi

using namespace moka::capi;  // NOLINT: every function below is one of the C interface
using moka::Span;
using moka::Status;
using moka::TokenId;

moka_status moka_model_tokenize(const moka_model* model, const char* text, size_t size,
                                int32_t parse_special, moka_token* tokens, size_t capacity,
                                size_t* needed, moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need_tokenizer(model));
    MOKA_ASSIGN_OR_RETURN(const std::string_view view, text_of(text, size, "text"));
    bool special = false;
    MOKA_RETURN_IF_ERROR(read_switch(parse_special, "parse_special", &special));
    std::vector<TokenId> ids;
    MOKA_RETURN_IF_ERROR(model->model().tokenizer().encode(view, &ids, special));
    return give(Span<const TokenId>(ids), tokens, capacity, needed, "tokens");
  });
}

moka_status moka_model_detokenize(const moka_model* model, const moka_token* tokens, size_t count,
                                  char* text, size_t capacity, size_t* needed, moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need_tokenizer(model));
    MOKA_ASSIGN_OR_RETURN(const Span<const TokenId> ids, span_of(tokens, count, "tokens"));
    MOKA_ASSIGN_OR_RETURN(const std::string decoded, model->model().tokenizer().decode(ids));
    return give(Span<const char>(decoded.data(), decoded.size()), text, capacity, needed, "text");
  });
}

moka_status moka_model_token_text(const moka_model* model, moka_token token, const char** text,
                                  size_t* size, moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need_tokenizer(model));
    MOKA_RETURN_IF_ERROR(need_view(text, size));
    MOKA_RETURN_IF_ERROR(check_token(*model->shared, token));
    return give_view(model->model().tokenizer().piece(token), text, size);
  });
}

moka_status moka_text_stream_create(const moka_model* model, moka_text_stream** out,
                                    moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(begin_out(out));
    MOKA_RETURN_IF_ERROR(need_tokenizer(model));
    return hand_out(out, model->shared, moka::TextStream(model->model().tokenizer()));
  });
}

moka_status moka_text_stream_push(moka_text_stream* stream, moka_token token, const char** text,
                                  size_t* size, moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(stream, "stream"));
    MOKA_RETURN_IF_ERROR(need_view(text, size));
    MOKA_RETURN_IF_ERROR(check_token(*stream->shared, token));
    return give_view(stream->stream.push(token), text, size);
  });
}

moka_status moka_text_stream_finish(moka_text_stream* stream, const char** text, size_t* size,
                                    moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(stream, "stream"));
    MOKA_RETURN_IF_ERROR(need_view(text, size));
    return give_view(stream->stream.finish(), text, size);
  });
}

void moka_text_stream_free(moka_text_stream* stream) { delete stream; }
