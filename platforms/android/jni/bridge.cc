#include "platforms/android/jni/bridge.h"

#include <cstring>
#include <limits>

namespace moka::jni {
namespace {

// Set by JNI_OnLoad, before any native method runs, and never again.
struct Upcalls {
  jclass native = nullptr;
  jmethodID text = nullptr, progress = nullptr, chat_progress = nullptr, failure = nullptr;
};
Upcalls g_upcalls;

// Java's answer, true to go on, as moka.h has it.
int32_t answer(JNIEnv* env, jboolean goes_on) {
  return env->ExceptionCheck() || goes_on == JNI_FALSE ? 1 : 0;
}

// Whether an array of Java can have so many elements.
bool check_count(JNIEnv* env, size_t count) {
  if (count <= static_cast<size_t>(std::numeric_limits<jsize>::max())) return true;
  const std::string message =
      "the result has " + std::to_string(count) + " elements, more than an array of Java can have";
  raise(env, MOKA_OUT_OF_RANGE, message.c_str());
  return false;
}

template <class T, class Array>
std::vector<T> copy_of(JNIEnv* env, Array array, void (JNIEnv::*get)(Array, jsize, jsize, T*)) {
  if (array == nullptr) return {};
  std::vector<T> values(static_cast<size_t>(env->GetArrayLength(array)));
  if (!values.empty()) (env->*get)(array, 0, static_cast<jsize>(values.size()), values.data());
  return values;
}

}  // namespace

bool find_upcalls(JNIEnv* env, jclass native) {
  Upcalls found;
  found.text = env->GetStaticMethodID(native, "text", "(Ldev/moka/TextListener;[B)Z");
  if (found.text == nullptr) return false;
  found.progress = env->GetStaticMethodID(native, "progress", "(Ldev/moka/Progress;D)Z");
  if (found.progress == nullptr) return false;
  found.chat_progress =
      env->GetStaticMethodID(native, "chatProgress", "(Ldev/moka/ChatProgress;JJZ)Z");
  if (found.chat_progress == nullptr) return false;
  found.failure = env->GetStaticMethodID(native, "failure", "(I[B)Ljava/lang/RuntimeException;");
  if (found.failure == nullptr) return false;
  // A global reference keeps the class, and with it the method ids.
  found.native = static_cast<jclass>(env->NewGlobalRef(native));
  if (found.native == nullptr) return false;
  g_upcalls = found;
  return true;
}

int32_t on_text(void* user, const char* text, size_t size) {
  const Listener& listener = *static_cast<const Listener*>(user);
  JNIEnv* env = listener.env;
  jbyteArray bytes = to_bytes(env, text, size);
  if (bytes == nullptr) return 1;
  const jboolean goes_on =
      env->CallStaticBooleanMethod(g_upcalls.native, g_upcalls.text, listener.object, bytes);
  const int32_t ends = answer(env, goes_on);
  env->DeleteLocalRef(bytes);  // one call may give thousands of texts
  return ends;
}

int32_t on_progress(void* user, double share) {
  const Listener& listener = *static_cast<const Listener*>(user);
  return answer(listener.env, listener.env->CallStaticBooleanMethod(
                                  g_upcalls.native, g_upcalls.progress, listener.object, share));
}

int32_t on_chat_progress(void* user, uint64_t done, uint64_t total, int32_t again) {
  const Listener& listener = *static_cast<const Listener*>(user);
  if (listener.object == nullptr) return 0;
  return answer(listener.env, listener.env->CallStaticBooleanMethod(
                                  g_upcalls.native, g_upcalls.chat_progress, listener.object,
                                  static_cast<jlong>(done), static_cast<jlong>(total),
                                  static_cast<jboolean>(again != 0 ? JNI_TRUE : JNI_FALSE)));
}

void raise(JNIEnv* env, moka_status code, const char* message) {
  if (env->ExceptionCheck()) return;
  jbyteArray words = to_bytes(env, message, std::strlen(message));
  if (words == nullptr) return;
  auto* thrown = static_cast<jthrowable>(env->CallStaticObjectMethod(
      g_upcalls.native, g_upcalls.failure, static_cast<jint>(code), words));
  if (!env->ExceptionCheck() && thrown != nullptr) env->Throw(thrown);
}

std::vector<jint> ints_of(JNIEnv* env, jintArray array) {
  return copy_of<jint>(env, array, &JNIEnv::GetIntArrayRegion);
}
std::vector<jlong> longs_of(JNIEnv* env, jlongArray array) {
  return copy_of<jlong>(env, array, &JNIEnv::GetLongArrayRegion);
}
std::vector<jfloat> floats_of(JNIEnv* env, jfloatArray array) {
  return copy_of<jfloat>(env, array, &JNIEnv::GetFloatArrayRegion);
}

std::string bytes_of(JNIEnv* env, jbyteArray array) {
  if (array == nullptr) return {};
  std::string bytes(static_cast<size_t>(env->GetArrayLength(array)), '\0');
  if (!bytes.empty()) {
    env->GetByteArrayRegion(array, 0, static_cast<jsize>(bytes.size()),
                            reinterpret_cast<jbyte*>(&bytes[0]));
  }
  return bytes;
}

std::vector<OptionalText> texts_of(JNIEnv* env, ByteArrays arrays) {
  std::vector<OptionalText> texts;
  if (arrays == nullptr) return texts;
  const jsize count = env->GetArrayLength(arrays);
  texts.reserve(static_cast<size_t>(count));
  for (jsize i = 0; i < count; ++i) {
    auto* array = static_cast<jbyteArray>(env->GetObjectArrayElement(arrays, i));
    texts.emplace_back(env, array);
    env->DeleteLocalRef(array);
  }
  return texts;
}

jbyteArray to_bytes(JNIEnv* env, const void* bytes, size_t size) {
  if (!check_count(env, size)) return nullptr;
  const auto length = static_cast<jsize>(size);
  jbyteArray array = env->NewByteArray(length);
  if (array != nullptr && length > 0) {
    env->SetByteArrayRegion(array, 0, length, static_cast<const jbyte*>(bytes));
  }
  return array;
}

jintArray to_ints(JNIEnv* env, const moka_token* values, size_t count) {
  if (!check_count(env, count)) return nullptr;
  const auto length = static_cast<jsize>(count);
  jintArray array = env->NewIntArray(length);
  if (array != nullptr && length > 0) env->SetIntArrayRegion(array, 0, length, values);
  return array;
}

jlongArray to_longs(JNIEnv* env, const std::vector<jlong>& values) {
  if (!check_count(env, values.size())) return nullptr;
  const auto length = static_cast<jsize>(values.size());
  jlongArray array = env->NewLongArray(length);
  if (array != nullptr && length > 0) env->SetLongArrayRegion(array, 0, length, values.data());
  return array;
}

jfloatArray to_floats(JNIEnv* env, const float* values, size_t count) {
  if (!check_count(env, count)) return nullptr;
  const auto length = static_cast<jsize>(count);
  jfloatArray array = env->NewFloatArray(length);
  if (array != nullptr && length > 0) env->SetFloatArrayRegion(array, 0, length, values);
  return array;
}

ByteArrays to_byte_arrays(JNIEnv* env, const std::vector<std::string>& texts) {
  if (!check_count(env, texts.size())) return nullptr;
  jclass kind = env->FindClass("[B");
  if (kind == nullptr) return nullptr;
  auto* arrays =
      static_cast<ByteArrays>(env->NewObjectArray(static_cast<jsize>(texts.size()), kind, nullptr));
  env->DeleteLocalRef(kind);
  for (size_t i = 0; arrays != nullptr && i < texts.size(); ++i) {
    jbyteArray array = to_bytes(env, texts[i].data(), texts[i].size());
    if (array == nullptr) return nullptr;
    env->SetObjectArrayElement(arrays, static_cast<jsize>(i), array);
    env->DeleteLocalRef(array);
  }
  return arrays;
}

Steps::Steps(JNIEnv* env, jintArray tokens, jfloatArray values)
    : tokens_(ints_of(env, tokens)), values_(floats_of(env, values)), sequence_{} {
  sequence_.tokens = tokens_.data();
  sequence_.token_count = tokens_.size();
  sequence_.values = values_.data();
  sequence_.value_count = values_.size();
}

int32_t on_rows(void* user, size_t, size_t rows, const float* output, size_t stride) {
  Rows& all = *static_cast<Rows*>(user);
  for (size_t row = 0; row < rows; ++row) {
    all.values.insert(all.values.end(), output + row * stride, output + row * stride + all.width);
  }
  return 0;
}

Sampling::Sampling(JNIEnv* env, const moka_model* model, jint given, jfloatArray numbers,
                   jlongArray counts, jintArray bias_tokens, jfloatArray bias) {
  moka_sampler_options_init(&options_, sizeof options_, model);
  // The order is that of SamplerOptions.java.
  const std::vector<jfloat> number = floats_of(env, numbers);
  const std::vector<jlong> count = longs_of(env, counts);
  if (given & 1) options_.temperature = number.at(0);
  if (given & 2) options_.top_p = number.at(1);
  if (given & 4) options_.min_p = number.at(2);
  if (given & 8) options_.repeat_penalty = number.at(3);
  if (given & 16) options_.top_k = static_cast<uint32_t>(count.at(0));
  if (given & 32) options_.repeat_window = static_cast<uint32_t>(count.at(1));
  options_.seed = static_cast<uint64_t>(count.at(2));
  const std::vector<jint> tokens = ints_of(env, bias_tokens);
  const std::vector<jfloat> added = floats_of(env, bias);
  for (size_t i = 0; i < tokens.size(); ++i) bias_.push_back({tokens[i], added.at(i)});
  if (bias_.empty()) return;
  options_.bias = bias_.data();
  options_.bias_count = static_cast<uint32_t>(bias_.size());
}

Writing::Writing(JNIEnv* env, jlongArray numbers, jintArray stop_tokens, ByteArrays stop_texts,
                 jintArray lookup_tokens, TextListener listener)
    : stop_tokens_(ints_of(env, stop_tokens)),
      lookup_tokens_(ints_of(env, lookup_tokens)),
      stop_texts_(texts_of(env, stop_texts)),
      listener_{env, listener} {
  moka_generate_options_init(&options_, sizeof options_);
  // The order is that of GenerateOptions.java.
  const std::vector<jlong> number = longs_of(env, numbers);
  options_.stop_at_end = static_cast<int32_t>(number.at(0));
  options_.max_tokens = static_cast<uint64_t>(number.at(1));
  options_.max_ms = static_cast<uint64_t>(number.at(2));
  options_.loop_tokens = static_cast<uint64_t>(number.at(3));
  options_.lookup = static_cast<uint64_t>(number.at(4));
  options_.stop_tokens = stop_tokens_.data();
  options_.stop_token_count = static_cast<uint32_t>(stop_tokens_.size());
  options_.lookup_tokens = lookup_tokens_.data();
  options_.lookup_token_count = lookup_tokens_.size();
  for (const OptionalText& text : stop_texts_) stop_pointers_.push_back(text.c_str());
  options_.stop_texts = stop_pointers_.data();
  options_.stop_text_count = static_cast<uint32_t>(stop_pointers_.size());
  if (listener == nullptr) return;
  options_.on_text = on_text;
  options_.user = &listener_;
}

}  // namespace moka::jni
