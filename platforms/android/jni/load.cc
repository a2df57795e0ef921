// JNI_OnLoad, the one name that the library exports: gives the native methods to dev.moka.Native.
#include "platforms/android/jni/bridge.h"

namespace moka::jni {
namespace {

bool register_methods(JNIEnv* env, jclass native) {
  Methods methods;
  add_model_methods(&methods);
  add_session_methods(&methods);
  add_sampler_methods(&methods);
  add_task_methods(&methods);
  add_chat_methods(&methods);
  std::vector<JNINativeMethod> table;
  for (const Method& method : methods) {
    // Some headers have these two as `char*`.
    table.push_back({const_cast<char*>(method.name), const_cast<char*>(method.signature.c_str()),
                     method.function});
  }
  return env->RegisterNatives(native, table.data(), static_cast<jint>(table.size())) == JNI_OK;
}

}  // namespace
}  // namespace moka::jni

// Java has loaded the class already, with the loader of the app: it is the one that loads the library.
extern "C" JNIEXPORT jint JNICALL JNI_OnLoad(JavaVM* machine, void*) {
  JNIEnv* env = nullptr;
  if (machine->GetEnv(reinterpret_cast<void**>(&env), JNI_VERSION_1_6) != JNI_OK) return JNI_ERR;
  jclass native = env->FindClass("dev/moka/Native");
  if (native == nullptr) return JNI_ERR;  // the exception that is pending says why
  try {
    if (!moka::jni::find_upcalls(env, native) || !moka::jni::register_methods(env, native)) {
      return JNI_ERR;
    }
  } catch (const std::exception&) {
    return JNI_ERR;  // no memory
  }
  env->DeleteLocalRef(native);
  return JNI_VERSION_1_6;
}
