// Natives of sessions.
#include "platforms/android/jni/bridge.h"

namespace moka::jni {
namespace {

jlong create(JNIEnv* env, jclass, jlong model, jlong executor) {
  moka_session* session = nullptr;
  moka_error error;
  failed(env,
         moka_session_create(at<moka_model>(model), at<moka_executor>(executor), &session, &error),
         error);
  return handle_of(session);
}

jlong fork(JNIEnv* env, jclass, jlong session) {
  moka_session* copy = nullptr;
  moka_error error;
  failed(env, moka_session_fork(at<moka_session>(session), &copy, &error), error);
  return handle_of(copy);
}

void free_session(JNIEnv*, jclass, jlong session) { moka_session_free(at<moka_session>(session)); }

void append(JNIEnv* env, jclass, jlong session, jintArray tokens, jfloatArray values) {
  guarded(env, [&] {
    const Steps steps(env, tokens, values);
    const moka_sequence& all = *steps.get();
    moka_error error;
    const moka_status status =
        values == nullptr
            ? moka_session_append(at<moka_session>(session), all.tokens, all.token_count, &error)
            : moka_session_append_values(at<moka_session>(session), all.values, all.value_count,
                                         &error);
    failed(env, status, error);
  });
}

// [steps][width] numbers, one row behind another.
jfloatArray append_rows(JNIEnv* env, jclass, jlong session, jint width, jintArray tokens,
                        jfloatArray values) {
  return guarded(env, [&]() -> jfloatArray {
    const Steps steps(env, tokens, values);
    Rows rows{static_cast<size_t>(width), {}};
    moka_error error;
    if (failed(env,
               moka_session_append_rows(at<moka_session>(session), steps.get(), on_rows, &rows,
                                        &error),
               error)) {
      return nullptr;
    }
    return to_floats(env, rows.values.data(), rows.values.size());
  });
}

void append_memory(JNIEnv* env, jclass, jlong session, jintArray tokens, jfloatArray values) {
  guarded(env, [&] {
    const Steps steps(env, tokens, values);
    moka_error error;
    failed(env, moka_session_append_memory(at<moka_session>(session), steps.get(), &error), error);
  });
}

jfloatArray logits(JNIEnv* env, jclass, jlong session) {
  return guarded(env, [&]() -> jfloatArray {
    const float* row = nullptr;
    size_t count = 0;
    moka_error error;
    if (failed(env, moka_session_logits(at<moka_session>(session), &row, &count, &error), error)) {
      return nullptr;
    }
    return to_floats(env, row, count);
  });
}

jint step(JNIEnv* env, jclass, jlong session, jlong sampler) {
  moka_token token = -1;
  moka_error error;
  failed(env,
         moka_session_step(at<moka_session>(session), at<moka_sampler>(sampler), &token, &error),
         error);
  return token;
}

void check_generate(JNIEnv* env, jclass, jlong session, jlongArray numbers, jintArray stop_tokens,
                    ByteArrays stop_texts, jintArray lookup_tokens) {
  guarded(env, [&] {
    const Writing options(env, numbers, stop_tokens, stop_texts, lookup_tokens, nullptr);
    moka_error error;
    failed(env, moka_session_check_generate(at<moka_session>(session), options.get(), &error),
           error);
  });
}

// End, tokens, drafted, accepted.
jlongArray generate(JNIEnv* env, jclass, jlong session, jlong sampler, jlongArray numbers,
                    jintArray stop_tokens, ByteArrays stop_texts, jintArray lookup_tokens,
                    TextListener listener) {
  return guarded(env, [&]() -> jlongArray {
    const Writing options(env, numbers, stop_tokens, stop_texts, lookup_tokens, listener);
    moka_generate_result result{};
    result.struct_size = sizeof result;
    moka_error error;
    if (failed(env,
               moka_session_generate(at<moka_session>(session), at<moka_sampler>(sampler),
                                     options.get(), &result, &error),
               error)) {
      return nullptr;
    }
    return to_longs(env, {result.end, static_cast<jlong>(result.tokens),
                          static_cast<jlong>(result.drafted), static_cast<jlong>(result.accepted)});
  });
}

jlong position(JNIEnv*, jclass, jlong session) {
  return static_cast<jlong>(moka_session_position(at<moka_session>(session)));
}

jlong memory_position(JNIEnv*, jclass, jlong session) {
  return static_cast<jlong>(moka_session_memory_position(at<moka_session>(session)));
}

jbyteArray save(JNIEnv* env, jclass, jlong session, jint room) {
  return guarded(env, [&]() -> jbyteArray {
    const auto saved = filled<uint8_t>(
        env, static_cast<size_t>(room),
        [&](uint8_t* buffer, size_t capacity, size_t* needed, moka_error* error) {
          return moka_session_save(at<moka_session>(session), buffer, capacity, needed, error);
        });
    return env->ExceptionCheck() ? nullptr : to_bytes(env, saved.data(), saved.size());
  });
}

void restore(JNIEnv* env, jclass, jlong session, jbyteArray state) {
  guarded(env, [&] {
    const std::string bytes = bytes_of(env, state);
    moka_error error;
    failed(env, moka_session_restore(at<moka_session>(session), bytes.data(), bytes.size(), &error),
           error);
  });
}

void save_file(JNIEnv* env, jclass, jlong session, jbyteArray path) {
  guarded(env, [&] {
    moka_error error;
    failed(env,
           moka_session_save_file(at<moka_session>(session), bytes_of(env, path).c_str(), &error),
           error);
  });
}

void restore_file(JNIEnv* env, jclass, jlong session, jbyteArray path) {
  guarded(env, [&] {
    moka_error error;
    failed(
        env,
        moka_session_restore_file(at<moka_session>(session), bytes_of(env, path).c_str(), &error),
        error);
  });
}

void restore_snapshot(JNIEnv* env, jclass, jlong session, jbyteArray name) {
  guarded(env, [&] {
    moka_error error;
    failed(env,
           moka_session_restore_snapshot(at<moka_session>(session), bytes_of(env, name).c_str(),
                                         &error),
           error);
  });
}

void reset(JNIEnv*, jclass, jlong session) { moka_session_reset(at<moka_session>(session)); }

void cancel(JNIEnv*, jclass, jlong session) { moka_session_cancel(at<moka_session>(session)); }

int32_t refuse(void*, size_t, size_t, const float*, size_t) { return 1; }

// Uses up a cancel that came too late, by a step that is refused: the session stays as it is.
void absorb(JNIEnv*, jclass, jlong session, jint features) {
  const moka_token token = 0;
  std::vector<float> values(static_cast<size_t>(features), 0.0f);
  moka_sequence step{};
  if (features > 0) {
    step.values = values.data();
    step.value_count = values.size();
  } else {
    step.tokens = &token;
    step.token_count = 1;
  }
  (void)moka_session_append_rows(at<moka_session>(session), &step, refuse, nullptr, nullptr);
}

}  // namespace

void add_session_methods(Methods* methods) {
  methods->insert(methods->end(), {
                                      method("sessionCreate", create),
                                      method("sessionFork", fork),
                                      method("sessionFree", free_session),
                                      method("sessionAppend", append),
                                      method("sessionAppendRows", append_rows),
                                      method("sessionAppendMemory", append_memory),
                                      method("sessionLogits", logits),
                                      method("sessionStep", step),
                                      method("sessionCheckGenerate", check_generate),
                                      method("sessionGenerate", generate),
                                      method("sessionPosition", position),
                                      method("sessionMemoryPosition", memory_position),
                                      method("sessionSave", save),
                                      method("sessionRestore", restore),
                                      method("sessionSaveFile", save_file),
                                      method("sessionRestoreFile", restore_file),
                                      method("sessionRestoreSnapshot", restore_snapshot),
                                      method("sessionReset", reset),
                                      method("sessionCancel", cancel),
                                      method("sessionAbsorb", absorb),
                                  });
}

}  // namespace moka::jni
