// Sessions.
#include "moka/session.h"

#include "platforms/capi/border.h"
#include "platforms/capi/handles.h"

namespace moka::capi {

Result<Steps> steps_of(const moka_sequence* sequence, const char* name) {
  MOKA_RETURN_IF_ERROR(need(sequence, name));
  return steps_of(*sequence, name);
}

Result<Steps> steps_of(const moka_sequence& sequence, const char* name) {
  const std::string prefix = name;
  Steps steps;
  MOKA_ASSIGN_OR_RETURN(
      steps.tokens, span_of(sequence.tokens, sequence.token_count, (prefix + ".tokens").c_str()));
  MOKA_ASSIGN_OR_RETURN(
      steps.values, span_of(sequence.values, sequence.value_count, (prefix + ".values").c_str()));
  if (!steps.tokens.empty() && !steps.values.empty()) {
    return invalid(prefix + " has tokens and values; a model reads one of them");
  }
  return steps;
}

LogitsSink sink_of(moka_rows_fn rows, void* user) {
  return [rows, user](size_t first, size_t count, const float* output, size_t stride) {
    if (rows(user, first, count, output, stride) == 0) return Status();
    return Status(StatusCode::kCancelled, "the callback of the rows ended the call");
  };
}

}  // namespace moka::capi

using namespace moka::capi;  // NOLINT: every function below is one of the C interface
using moka::Session;
using moka::Span;
using moka::Status;
using moka::TokenId;

moka_status moka_session_create(const moka_model* model, const moka_executor* executor,
                                moka_session** out, moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(begin_out(out));
    MOKA_RETURN_IF_ERROR(need(model, "model"));
    const moka::Model& opened = model->model();
    MOKA_ASSIGN_OR_RETURN(Session session, executor == nullptr
                                               ? opened.new_session()
                                               : opened.new_session(executor->executor));
    return hand_out(out, std::move(session));
  });
}

moka_status moka_session_fork(const moka_session* session, moka_session** out, moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(begin_out(out));
    MOKA_RETURN_IF_ERROR(need(session, "session"));
    MOKA_ASSIGN_OR_RETURN(Session copy, session->session.fork());
    return hand_out(out, std::move(copy));
  });
}

void moka_session_free(moka_session* session) { delete session; }

moka_status moka_session_append(moka_session* session, const moka_token* tokens, size_t count,
                                moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(session, "session"));
    MOKA_ASSIGN_OR_RETURN(const Span<const TokenId> ids, span_of(tokens, count, "tokens"));
    return session->session.append(ids);
  });
}

moka_status moka_session_append_values(moka_session* session, const float* values, size_t count,
                                       moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(session, "session"));
    MOKA_ASSIGN_OR_RETURN(const Span<const float> numbers, span_of(values, count, "values"));
    return session->session.append_values(numbers);
  });
}

moka_status moka_session_append_rows(moka_session* session, const moka_sequence* steps,
                                     moka_rows_fn rows, void* user, moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(session, "session"));
    MOKA_ASSIGN_OR_RETURN(const Steps read, steps_of(steps, "steps"));
    if (rows == nullptr) return invalid("rows is NULL");
    const moka::LogitsSink sink = sink_of(rows, user);
    return read.values.empty() ? session->session.append(read.tokens, sink)
                               : session->session.append_values(read.values, sink);
  });
}

moka_status moka_session_append_memory(moka_session* session, const moka_sequence* memory,
                                       moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(session, "session"));
    MOKA_ASSIGN_OR_RETURN(const Steps read, steps_of(memory, "memory"));
    return read.values.empty() ? session->session.append_memory(read.tokens)
                               : session->session.append_memory_values(read.values);
  });
}

moka_status moka_session_logits(const moka_session* session, const float** logits, size_t* count,
                                moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(session, "session"));
    MOKA_RETURN_IF_ERROR(need(logits, "logits"));
    MOKA_RETURN_IF_ERROR(need(count, "count"));
    const Span<const float> row = session->session.logits();
    *logits = row.data();
    *count = row.size();
    return Status();
  });
}

moka_status moka_session_step(moka_session* session, moka_sampler* sampler, moka_token* token,
                              moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(session, "session"));
    MOKA_RETURN_IF_ERROR(need(sampler, "sampler"));
    MOKA_RETURN_IF_ERROR(need(token, "token"));
    MOKA_ASSIGN_OR_RETURN(*token, session->session.step(sampler->sampler));
    return Status();
  });
}

uint64_t moka_session_position(const moka_session* session) {
  return session == nullptr ? 0 : session->session.position();
}

uint64_t moka_session_memory_position(const moka_session* session) {
  return session == nullptr ? 0 : session->session.memory_position();
}

moka_status moka_session_save(const moka_session* session, void* bytes, size_t capacity,
                              size_t* needed, moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(session, "session"));
    MOKA_ASSIGN_OR_RETURN(const std::vector<uint8_t> saved, session->session.save());
    return give_bytes(saved, bytes, capacity, needed, "bytes");
  });
}

moka_status moka_session_restore(moka_session* session, const void* bytes, size_t size,
                                 moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(session, "session"));
    MOKA_ASSIGN_OR_RETURN(const Span<const uint8_t> saved, bytes_of(bytes, size, "bytes"));
    return session->session.restore(saved);
  });
}

moka_status moka_session_save_file(const moka_session* session, const char* path,
                                   moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(session, "session"));
    MOKA_RETURN_IF_ERROR(need(path, "path"));
    return session->session.save_file(path);
  });
}

moka_status moka_session_restore_file(moka_session* session, const char* path, moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(session, "session"));
    MOKA_RETURN_IF_ERROR(need(path, "path"));
    return session->session.restore_file(path);
  });
}

moka_status moka_session_restore_snapshot(moka_session* session, const char* name,
                                          moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(session, "session"));
    MOKA_RETURN_IF_ERROR(need(name, "name"));
    return session->session.restore_snapshot(name);
  });
}

void moka_session_reset(moka_session* session) {
  if (session != nullptr) session->session.reset();
}

void moka_session_cancel(moka_session* session) {
  if (session != nullptr) session->session.cancel();
}
