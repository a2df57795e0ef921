// The border between Java and moka.h: what every native method goes through.
//
//   void append(JNIEnv* env, jclass, jlong session, jintArray tokens) {
//     guarded(env, [&] {
//       const std::vector<jint> ids = ints_of(env, tokens);
//       moka_error error;
//       failed(env, moka_session_append(at<moka_session>(session), ids.data(), ids.size(), &error), error);
//     });
//   }
//
// Handles are pointers in a jlong. Java's class Handle counts who uses one, and frees it when nobody
// does: natives take every handle as valid. Text is bytes of UTF-8 in arrays, never a jstring, whose
// "modified UTF-8" has other bytes for characters beyond the first 65536.
#ifndef MOKA_PLATFORMS_ANDROID_JNI_BRIDGE_H_
#define MOKA_PLATFORMS_ANDROID_JNI_BRIDGE_H_

#include <jni.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <new>
#include <string>
#include <type_traits>
#include <vector>

#include "moka.h"

namespace moka::jni {

// ---- signatures ----------------------------------------------------------------------------------
// Java's types that jni.h has one C++ type for get types of their own here, so that the signature of
// a method follows from its function, and RegisterNatives compares it with what Java declares.

class ByteArraysObject : public _jobjectArray {};
class TextListenerObject : public _jobject {};
class ProgressObject : public _jobject {};
class ChatProgressObject : public _jobject {};
using ByteArrays = ByteArraysObject*;      // byte[][]
using TextListener = TextListenerObject*;  // may be null, as those that follow
using Progress = ProgressObject*;
using ChatProgress = ChatProgressObject*;

template <class T>
struct JavaType;
#define MOKA_JAVA_TYPE(type, name)             \
  template <>                                  \
  struct JavaType<type> {                      \
    static constexpr const char* kName = name; \
  }
MOKA_JAVA_TYPE(void, "V");
MOKA_JAVA_TYPE(jboolean, "Z");
MOKA_JAVA_TYPE(jint, "I");
MOKA_JAVA_TYPE(jlong, "J");
MOKA_JAVA_TYPE(jdouble, "D");
MOKA_JAVA_TYPE(jbyteArray, "[B");
MOKA_JAVA_TYPE(jintArray, "[I");
MOKA_JAVA_TYPE(jlongArray, "[J");
MOKA_JAVA_TYPE(jfloatArray, "[F");
MOKA_JAVA_TYPE(jdoubleArray, "[D");
MOKA_JAVA_TYPE(ByteArrays, "[[B");
MOKA_JAVA_TYPE(TextListener, "Ldev/moka/TextListener;");
MOKA_JAVA_TYPE(Progress, "Ldev/moka/Progress;");
MOKA_JAVA_TYPE(ChatProgress, "Ldev/moka/ChatProgress;");
#undef MOKA_JAVA_TYPE

struct Method {
  const char* name;
  std::string signature;
  void* function;
};

template <class R, class... Arguments>
Method method(const char* name, R (*function)(JNIEnv*, jclass, Arguments...)) {
  std::string signature = "(";
  ((signature += JavaType<Arguments>::kName), ...);
  signature += ")";
  signature += JavaType<R>::kName;
  return {name, signature, reinterpret_cast<void*>(function)};
}

// The native methods of the class dev.moka.Native, a function per file.
using Methods = std::vector<Method>;
void add_model_methods(Methods* methods);
void add_session_methods(Methods* methods);
void add_sampler_methods(Methods* methods);
void add_task_methods(Methods* methods);
void add_chat_methods(Methods* methods);

// ---- what Java is called with --------------------------------------------------------------------

// Finds the class and the methods that are called, once; false with an exception pending.
bool find_upcalls(JNIEnv* env, jclass native);

// Who listens to a call. The call ends when the listener says so or throws; what it threw is pending
// then, and goes on in Java when the native method returns.
struct Listener {
  JNIEnv* env;
  jobject object;
};
// These are the callbacks of moka.h; `user` is a Listener.
int32_t on_text(void* user, const char* text, size_t size);
int32_t on_progress(void* user, double share);
int32_t on_chat_progress(void* user, uint64_t done, uint64_t total, int32_t again);

// ---- failures ------------------------------------------------------------------------------------

// Throws the MokaException of the code, unless something is thrown already.
void raise(JNIEnv* env, moka_status code, const char* message);

// Whether a call failed; then an exception is pending.
inline bool failed(JNIEnv* env, moka_status status, const moka_error& error) {
  if (env->ExceptionCheck()) return true;  // thrown by a listener, which ended the call
  if (status == MOKA_OK) return false;
  raise(env, status, error.message);
  return true;
}

// Runs a body; what C++ throws becomes an exception of Java.
template <class Body>
auto guarded(JNIEnv* env, const Body& body) -> decltype(body()) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    raise(env, MOKA_OUT_OF_MEMORY, "no memory for what the call needs");
  } catch (const std::exception& exception) {
    raise(env, MOKA_INTERNAL, exception.what());
  }
  if constexpr (!std::is_void_v<decltype(body())>) return {};
}

// ---- values --------------------------------------------------------------------------------------

template <class T>
T* at(jlong handle) {
  return reinterpret_cast<T*>(static_cast<intptr_t>(handle));
}
inline jlong handle_of(const void* pointer) {
  return static_cast<jlong>(reinterpret_cast<intptr_t>(pointer));
}

// Copies of Java's arrays; null is an empty one.
std::vector<jint> ints_of(JNIEnv* env, jintArray array);
std::vector<jlong> longs_of(JNIEnv* env, jlongArray array);
std::vector<jfloat> floats_of(JNIEnv* env, jfloatArray array);
std::string bytes_of(JNIEnv* env, jbyteArray array);

// Bytes that may be missing, for options that are a `const char*` or NULL. Java sends no NUL in them.
class OptionalText {
 public:
  OptionalText(JNIEnv* env, jbyteArray array)
      : given_(array != nullptr), text_(bytes_of(env, array)) {}
  const char* c_str() const { return given_ ? text_.c_str() : nullptr; }

 private:
  bool given_;
  std::string text_;
};
std::vector<OptionalText> texts_of(JNIEnv* env, ByteArrays arrays);

// New arrays of Java; null with an exception pending when there is no room for them.
jbyteArray to_bytes(JNIEnv* env, const void* bytes, size_t size);
jintArray to_ints(JNIEnv* env, const moka_token* values, size_t count);
jlongArray to_longs(JNIEnv* env, const std::vector<jlong>& values);
jfloatArray to_floats(JNIEnv* env, const float* values, size_t count);
ByteArrays to_byte_arrays(JNIEnv* env, const std::vector<std::string>& texts);

// What a call fills: `fill(buffer, capacity, &needed, &error)`, again with more room where that was too
// little. `room` is what is probably enough, in elements. Empty with an exception pending when it fails.
template <class T, class Fill>
std::vector<T> filled(JNIEnv* env, size_t room, const Fill& fill) {
  std::vector<T> buffer(room > 0 ? room : 1);
  for (;;) {
    moka_error error;
    size_t needed = 0;
    const moka_status status = fill(buffer.data(), buffer.size(), &needed, &error);
    if (status == MOKA_OUT_OF_RANGE && needed > buffer.size()) {
      buffer.resize(needed);
      continue;
    }
    buffer.resize(failed(env, status, error) ? 0 : needed);
    return buffer;
  }
}

// A sequence of tokens or of values, one of them null, and the memory that it points to.
class Steps {
 public:
  Steps(JNIEnv* env, jintArray tokens, jfloatArray values);
  Steps(const Steps&) = delete;
  Steps& operator=(const Steps&) = delete;
  const moka_sequence* get() const { return &sequence_; }
  bool empty() const { return tokens_.empty() && values_.empty(); }

 private:
  std::vector<jint> tokens_;
  std::vector<jfloat> values_;
  moka_sequence sequence_;
};

// Rows of output as they come, one behind another; the callback of moka_rows_fn, `user` is a Rows.
struct Rows {
  size_t width;
  std::vector<float> values;
};
int32_t on_rows(void* user, size_t first, size_t rows, const float* output, size_t stride);

// What the options of sampling are in Java: bits tell which were given, the others are those that the
// author of the model recommends.
class Sampling {
 public:
  Sampling(JNIEnv* env, const moka_model* model, jint given, jfloatArray numbers, jlongArray counts,
           jintArray bias_tokens, jfloatArray bias);
  Sampling(const Sampling&) = delete;
  Sampling& operator=(const Sampling&) = delete;
  const moka_sampler_options* get() const { return &options_; }

 private:
  std::vector<moka_logit_bias> bias_;
  moka_sampler_options options_;
};

// The options of writing and what they point to.
class Writing {
 public:
  Writing(JNIEnv* env, jlongArray numbers, jintArray stop_tokens, ByteArrays stop_texts,
          jintArray lookup_tokens, TextListener listener);
  Writing(const Writing&) = delete;
  Writing& operator=(const Writing&) = delete;
  const moka_generate_options* get() const { return &options_; }

 private:
  std::vector<jint> stop_tokens_, lookup_tokens_;
  std::vector<OptionalText> stop_texts_;
  std::vector<const char*> stop_pointers_;
  Listener listener_;
  moka_generate_options options_;
};

}  // namespace moka::jni

#endif  // MOKA_PLATFORMS_ANDROID_JNI_BRIDGE_H_
