// Natives of the calls that take a whole sequence.
#include "platforms/android/jni/bridge.h"

namespace moka::jni {
namespace {

// The options of reading: an executor, 0 for that of the model, and the second sequence, if any.
class Reading {
 public:
  Reading(JNIEnv* env, jlong executor, jintArray memory_tokens, jfloatArray memory_values,
          Progress progress)
      : memory_(env, memory_tokens, memory_values), listener_{env, progress} {
    moka_read_options_init(&options_, sizeof options_);
    options_.executor = at<moka_executor>(executor);
    if (memory_tokens != nullptr || memory_values != nullptr) options_.memory = memory_.get();
    if (progress == nullptr) return;
    options_.progress = on_progress;
    options_.progress_user = &listener_;
  }
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;
  const moka_read_options* get() const { return &options_; }

 private:
  Steps memory_;
  Listener listener_;
  moka_read_options options_;
};

jfloatArray read(JNIEnv* env, jclass, jlong model, jint width, jintArray tokens, jfloatArray values,
                 jlong executor, jintArray memory_tokens, jfloatArray memory_values,
                 Progress progress) {
  return guarded(env, [&]() -> jfloatArray {
    const Steps steps(env, tokens, values);
    const Reading options(env, executor, memory_tokens, memory_values, progress);
    Rows rows{static_cast<size_t>(width), {}};
    moka_error error;
    if (failed(env,
               moka_read(at<moka_model>(model), steps.get(), options.get(), on_rows, &rows, &error),
               error)) {
      return nullptr;
    }
    return to_floats(env, rows.values.data(), rows.values.size());
  });
}

// Fills `logits` and `probabilities`, an element per class, and gives the likeliest class.
jint tell_classes(JNIEnv* env, jlong model, const Steps& first, const Steps* second,
                  const Reading& options, jfloatArray logits, jfloatArray probabilities) {
  const jsize count = env->GetArrayLength(logits);
  std::vector<float> scores(static_cast<size_t>(count)), shares(scores.size());
  uint32_t best = 0;
  moka_error error;
  const moka_status status =
      second == nullptr
          ? moka_classify(at<moka_model>(model), first.get(), options.get(), scores.data(),
                          shares.data(), scores.size(), &best, &error)
          : moka_compare(at<moka_model>(model), first.get(), second->get(), options.get(),
                         scores.data(), shares.data(), scores.size(), &best, &error);
  if (failed(env, status, error)) return -1;
  env->SetFloatArrayRegion(logits, 0, count, scores.data());
  env->SetFloatArrayRegion(probabilities, 0, count, shares.data());
  return static_cast<jint>(best);
}

jint classify(JNIEnv* env, jclass, jlong model, jintArray tokens, jfloatArray values,
              jlong executor, jintArray memory_tokens, jfloatArray memory_values, Progress progress,
              jfloatArray logits, jfloatArray probabilities) {
  return guarded(env, [&]() -> jint {
    const Steps steps(env, tokens, values);
    const Reading options(env, executor, memory_tokens, memory_values, progress);
    return tell_classes(env, model, steps, nullptr, options, logits, probabilities);
  });
}

jint compare(JNIEnv* env, jclass, jlong model, jintArray first_tokens, jfloatArray first_values,
             jintArray second_tokens, jfloatArray second_values, jlong executor,
             jintArray memory_tokens, jfloatArray memory_values, Progress progress,
             jfloatArray logits, jfloatArray probabilities) {
  return guarded(env, [&]() -> jint {
    const Steps first(env, first_tokens, first_values);
    const Steps second(env, second_tokens, second_values);
    const Reading options(env, executor, memory_tokens, memory_values, progress);
    return tell_classes(env, model, first, &second, options, logits, probabilities);
  });
}

jfloatArray embed(JNIEnv* env, jclass, jlong model, jint width, jintArray tokens,
                  jfloatArray values, jlong executor, jintArray memory_tokens,
                  jfloatArray memory_values, Progress progress) {
  return guarded(env, [&]() -> jfloatArray {
    const Steps steps(env, tokens, values);
    const Reading options(env, executor, memory_tokens, memory_values, progress);
    const auto vector =
        filled<float>(env, static_cast<size_t>(width),
                      [&](float* buffer, size_t capacity, size_t* needed, moka_error* error) {
                        return moka_embed(at<moka_model>(model), steps.get(), options.get(), buffer,
                                          capacity, needed, error);
                      });
    return env->ExceptionCheck() ? nullptr : to_floats(env, vector.data(), vector.size());
  });
}

// Fills the arrays, an element per scored token, and gives the logarithm for all of them.
jdouble score(JNIEnv* env, jclass, jlong model, jintArray tokens, jint first, jlong executor,
              Progress progress, jdoubleArray log_likelihoods, jintArray most_likely) {
  return guarded(env, [&]() -> jdouble {
    const std::vector<jint> ids = ints_of(env, tokens);
    const Reading options(env, executor, nullptr, nullptr, progress);
    const jsize count = env->GetArrayLength(log_likelihoods);
    std::vector<double> each(static_cast<size_t>(count));
    std::vector<moka_token> likely(each.size());
    double all = 0;
    moka_error error;
    if (failed(env,
               moka_score(at<moka_model>(model), ids.data(), ids.size(), static_cast<size_t>(first),
                          options.get(), &all, each.data(), likely.data(), each.size(), &error),
               error)) {
      return 0;
    }
    env->SetDoubleArrayRegion(log_likelihoods, 0, count, each.data());
    env->SetIntArrayRegion(most_likely, 0, count, likely.data());
    return all;
  });
}

jfloatArray forecast(JNIEnv* env, jclass, jlong model, jfloatArray history, jint horizon,
                     jlong executor, jintArray memory_tokens, jfloatArray memory_values,
                     Progress progress) {
  return guarded(env, [&]() -> jfloatArray {
    const std::vector<jfloat> values = floats_of(env, history);
    const Reading options(env, executor, memory_tokens, memory_values, progress);
    size_t room = 0;
    moka_error error;
    // Tells the size, and refuses what cannot be, before the work.
    if (failed(
            env,
            moka_forecast(at<moka_model>(model), values.data(), values.size(),
                          static_cast<size_t>(horizon), options.get(), nullptr, 0, &room, &error),
            error)) {
      return nullptr;
    }
    const auto told = filled<float>(
        env, room, [&](float* buffer, size_t capacity, size_t* needed, moka_error* failure) {
          return moka_forecast(at<moka_model>(model), values.data(), values.size(),
                               static_cast<size_t>(horizon), options.get(), buffer, capacity,
                               needed, failure);
        });
    return env->ExceptionCheck() ? nullptr : to_floats(env, told.data(), told.size());
  });
}

jdouble cosine(JNIEnv* env, jclass, jfloatArray a, jfloatArray b) {
  return guarded(env, [&]() -> jdouble {
    const std::vector<jfloat> first = floats_of(env, a);
    const std::vector<jfloat> second = floats_of(env, b);
    return moka_cosine_similarity(first.data(), second.data(), first.size());
  });
}

}  // namespace

void add_task_methods(Methods* methods) {
  methods->insert(methods->end(), {
                                      method("read", read),
                                      method("classify", classify),
                                      method("compare", compare),
                                      method("embed", embed),
                                      method("score", score),
                                      method("forecast", forecast),
                                      method("cosine", cosine),
                                  });
}

}  // namespace moka::jni
