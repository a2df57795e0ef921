// Natives of samplers.
#include "platforms/android/jni/bridge.h"

namespace moka::jni {
namespace {

jlong create(JNIEnv* env, jclass, jlong model, jint given, jfloatArray numbers, jlongArray counts,
             jintArray bias_tokens, jfloatArray bias) {
  return guarded(env, [&]() -> jlong {
    const Sampling options(env, at<moka_model>(model), given, numbers, counts, bias_tokens, bias);
    moka_sampler* sampler = nullptr;
    moka_error error;
    failed(env, moka_sampler_create(at<moka_model>(model), options.get(), &sampler, &error), error);
    return handle_of(sampler);
  });
}

jint sample(JNIEnv* env, jclass, jlong sampler, jfloatArray logits) {
  return guarded(env, [&]() -> jint {
    const std::vector<jfloat> scores = floats_of(env, logits);
    moka_token token = -1;
    moka_error error;
    failed(env,
           moka_sampler_sample(at<moka_sampler>(sampler), scores.data(), scores.size(), &token,
                               &error),
           error);
    return token;
  });
}

void accept(JNIEnv* env, jclass, jlong sampler, jintArray tokens) {
  guarded(env, [&] {
    const std::vector<jint> ids = ints_of(env, tokens);
    moka_error error;
    failed(env, moka_sampler_accept(at<moka_sampler>(sampler), ids.data(), ids.size(), &error),
           error);
  });
}

void reset(JNIEnv*, jclass, jlong sampler) { moka_sampler_reset(at<moka_sampler>(sampler)); }

jbyteArray save(JNIEnv* env, jclass, jlong sampler) {
  return guarded(env, [&]() -> jbyteArray {
    const auto saved = filled<uint8_t>(
        env, 4096, [&](uint8_t* buffer, size_t capacity, size_t* needed, moka_error* error) {
          return moka_sampler_save(at<moka_sampler>(sampler), buffer, capacity, needed, error);
        });
    return env->ExceptionCheck() ? nullptr : to_bytes(env, saved.data(), saved.size());
  });
}

void restore(JNIEnv* env, jclass, jlong sampler, jbyteArray state) {
  guarded(env, [&] {
    const std::string bytes = bytes_of(env, state);
    moka_error error;
    failed(env, moka_sampler_restore(at<moka_sampler>(sampler), bytes.data(), bytes.size(), &error),
           error);
  });
}

}  // namespace

void add_sampler_methods(Methods* methods) {
  methods->insert(methods->end(), {
                                      method("samplerCreate", create),
                                      method("samplerSample", sample),
                                      method("samplerAccept", accept),
                                      method("samplerReset", reset),
                                      method("samplerSave", save),
                                      method("samplerRestore", restore),
                                  });
}

}  // namespace moka::jni
