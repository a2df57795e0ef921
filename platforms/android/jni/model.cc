// Natives of models, their text and their executors, and of what all handles have.
#include <stdlib.h>

#include <cstring>

#include "platforms/android/jni/bridge.h"

namespace moka::jni {
namespace {

// A chat's handle is made in chat.cc.
enum Kind { kMemory = 0, kModel = 1, kExecutor = 2, kSampler = 3, kStream = 5 };

jint abi_version(JNIEnv*, jclass) { return static_cast<jint>(moka_abi_version()); }

jbyteArray version(JNIEnv* env, jclass) {
  return to_bytes(env, moka_version(), std::strlen(moka_version()));
}

void free_handle(JNIEnv*, jclass, jint kind, jlong handle) {
  switch (kind) {
    case kMemory: free(at<void>(handle)); break;
    case kModel: moka_model_free(at<moka_model>(handle)); break;
    case kExecutor: moka_executor_free(at<moka_executor>(handle)); break;
    case kSampler: moka_sampler_free(at<moka_sampler>(handle)); break;
    case kStream: moka_text_stream_free(at<moka_text_stream>(handle)); break;
  }
}

// ---- opening -------------------------------------------------------------------------------------

// What OpenOptions.java says, in the order of its numbers().
class Opening {
 public:
  Opening(JNIEnv* env, jlongArray numbers, jbyteArray kernels, Progress progress)
      : kernels_(env, kernels), listener_{env, progress} {
    moka_open_options_init(&options_, sizeof options_);
    const std::vector<jlong> number = longs_of(env, numbers);
    options_.threads = static_cast<int32_t>(number.at(0));
    if (number.at(1) != 0) options_.chunk = static_cast<uint32_t>(number.at(1));
    options_.check_data = static_cast<int32_t>(number.at(2));
    options_.limit_header_bytes = static_cast<uint64_t>(number.at(3));
    options_.limit_tensors = static_cast<uint64_t>(number.at(4));
    options_.limit_vocab_size = static_cast<uint64_t>(number.at(5));
    options_.limit_memory_bytes = static_cast<uint64_t>(number.at(6));
    options_.kernels = kernels_.c_str();
    if (progress == nullptr) return;
    options_.progress = on_progress;
    options_.progress_user = &listener_;
  }
  Opening(const Opening&) = delete;
  Opening& operator=(const Opening&) = delete;
  const moka_open_options* get() const { return &options_; }

 private:
  OptionalText kernels_;
  Listener listener_;
  moka_open_options options_;
};

jlong open_path(JNIEnv* env, jclass, jbyteArray path, jlongArray numbers, jbyteArray kernels,
                Progress progress) {
  return guarded(env, [&]() -> jlong {
    const Opening options(env, numbers, kernels, progress);
    moka_model* model = nullptr;
    moka_error error;
    failed(env, moka_model_open(bytes_of(env, path).c_str(), options.get(), &model, &error), error);
    return handle_of(model);
  });
}

jlong open_fd(JNIEnv* env, jclass, jint fd, jlong offset, jlong length, jlongArray numbers,
              jbyteArray kernels, Progress progress) {
  return guarded(env, [&]() -> jlong {
    const Opening options(env, numbers, kernels, progress);
    moka_model* model = nullptr;
    moka_error error;
    failed(env,
           moka_model_open_fd(fd, static_cast<uint64_t>(offset), static_cast<uint64_t>(length),
                              options.get(), &model, &error),
           error);
    return handle_of(model);
  });
}

// A copy as moka_model_open_memory needs it. It outlives the model: Java frees it behind that.
jlong copy_memory(JNIEnv* env, jclass, jbyteArray bytes) {
  return guarded(env, [&]() -> jlong {
    const jsize size = env->GetArrayLength(bytes);
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, size > 0 ? static_cast<size_t>(size) : 1) != 0) {
      throw std::bad_alloc();
    }
    env->GetByteArrayRegion(bytes, 0, size, static_cast<jbyte*>(memory));
    return handle_of(memory);
  });
}

jlong open_memory(JNIEnv* env, jclass, jlong memory, jlong size, jlongArray numbers,
                  jbyteArray kernels, Progress progress) {
  return guarded(env, [&]() -> jlong {
    const Opening options(env, numbers, kernels, progress);
    moka_model* model = nullptr;
    moka_error error;
    failed(env,
           moka_model_open_memory(at<void>(memory), static_cast<size_t>(size), options.get(),
                                  &model, &error),
           error);
    return handle_of(model);
  });
}

// ---- what it is ----------------------------------------------------------------------------------

bool get_info(JNIEnv* env, jlong model, moka_model_info* info) {
  *info = {};
  info->struct_size = sizeof *info;
  moka_error error;
  return !failed(env, moka_model_get_info(at<moka_model>(model), info, &error), error);
}

// In the order of ModelInfo.java.
jlongArray info_numbers(JNIEnv* env, jclass, jlong model) {
  return guarded(env, [&]() -> jlongArray {
    moka_model_info info;
    if (!get_info(env, model, &info)) return nullptr;
    const auto whole = [](uint64_t value) { return static_cast<jlong>(value); };
    return to_longs(env, {info.input,
                          info.output,
                          info.causal,
                          info.reads_memory,
                          info.has_tokenizer,
                          info.width,
                          info.layers,
                          info.vocab_size,
                          info.features,
                          info.image_width,
                          info.image_height,
                          info.outputs,
                          info.classes,
                          info.forecast_steps,
                          info.forecast_outputs,
                          info.forecast_quantiles,
                          info.threads,
                          info.padding,
                          info.begin_token,
                          info.end_token,
                          info.unknown_token,
                          whole(info.parameters),
                          whole(info.weight_bytes),
                          whole(info.state_bytes),
                          whole(info.state_bytes_per_token),
                          whole(info.position_limit),
                          whole(info.fingerprint)});
  });
}

// Name, architecture, kernels, and the classes.
ByteArrays info_names(JNIEnv* env, jclass, jlong model) {
  return guarded(env, [&]() -> ByteArrays {
    moka_model_info info;
    if (!get_info(env, model, &info)) return nullptr;
    std::vector<std::string> names = {info.name, info.architecture, info.kernels};
    for (uint32_t i = 0; i < info.classes; ++i) {
      names.push_back(moka_model_class_name(at<moka_model>(model), i));
    }
    return to_byte_arrays(env, names);
  });
}

jfloatArray quantiles(JNIEnv* env, jclass, jlong model) {
  return guarded(env, [&]() -> jfloatArray {
    const auto levels = filled<float>(
        env, 16, [&](float* buffer, size_t capacity, size_t* needed, moka_error* error) {
          return moka_model_quantiles(at<moka_model>(model), buffer, capacity, needed, error);
        });
    return env->ExceptionCheck() ? nullptr : to_floats(env, levels.data(), levels.size());
  });
}

// Runs `add(snapshot)` over all of them; false with an exception pending.
template <class Add>
bool each_snapshot(JNIEnv* env, jlong model, const Add& add) {
  const size_t count = moka_model_snapshot_count(at<moka_model>(model));
  for (size_t i = 0; i < count; ++i) {
    moka_snapshot snapshot{};
    snapshot.struct_size = sizeof snapshot;
    moka_error error;
    if (failed(env, moka_model_snapshot_at(at<moka_model>(model), i, &snapshot, &error), error)) {
      return false;
    }
    add(snapshot);
  }
  return true;
}

// Of each snapshot whether it is usable, its position and its bytes.
jlongArray snapshot_numbers(JNIEnv* env, jclass, jlong model) {
  return guarded(env, [&]() -> jlongArray {
    std::vector<jlong> numbers;
    const bool all = each_snapshot(env, model, [&](const moka_snapshot& snapshot) {
      numbers.insert(numbers.end(), {snapshot.usable, static_cast<jlong>(snapshot.position),
                                     static_cast<jlong>(snapshot.bytes)});
    });
    return all ? to_longs(env, numbers) : nullptr;
  });
}

// Of each its name and its text.
ByteArrays snapshot_names(JNIEnv* env, jclass, jlong model) {
  return guarded(env, [&]() -> ByteArrays {
    std::vector<std::string> names;
    const bool all = each_snapshot(env, model, [&](const moka_snapshot& snapshot) {
      names.emplace_back(snapshot.name);
      names.emplace_back(snapshot.text, snapshot.text_size);
    });
    return all ? to_byte_arrays(env, names) : nullptr;
  });
}

// ---- text ----------------------------------------------------------------------------------------

jintArray tokenize(JNIEnv* env, jclass, jlong model, jbyteArray text, jboolean parse_special) {
  return guarded(env, [&]() -> jintArray {
    const std::string bytes = bytes_of(env, text);
    // A byte is a token at most, but for what a tokenizer puts in front.
    const auto tokens = filled<moka_token>(
        env, bytes.size() + 16,
        [&](moka_token* buffer, size_t capacity, size_t* needed, moka_error* error) {
          return moka_model_tokenize(at<moka_model>(model), bytes.data(), bytes.size(),
                                     parse_special != JNI_FALSE ? 1 : 0, buffer, capacity, needed,
                                     error);
        });
    return env->ExceptionCheck() ? nullptr : to_ints(env, tokens.data(), tokens.size());
  });
}

jbyteArray detokenize(JNIEnv* env, jclass, jlong model, jintArray tokens) {
  return guarded(env, [&]() -> jbyteArray {
    const std::vector<jint> ids = ints_of(env, tokens);
    const auto text = filled<char>(
        env, 8 * ids.size(), [&](char* buffer, size_t capacity, size_t* needed, moka_error* error) {
          return moka_model_detokenize(at<moka_model>(model), ids.data(), ids.size(), buffer,
                                       capacity, needed, error);
        });
    return env->ExceptionCheck() ? nullptr : to_bytes(env, text.data(), text.size());
  });
}

jbyteArray token_text(JNIEnv* env, jclass, jlong model, jint token) {
  return guarded(env, [&]() -> jbyteArray {
    const char* text = nullptr;
    size_t size = 0;
    moka_error error;
    if (failed(env, moka_model_token_text(at<moka_model>(model), token, &text, &size, &error),
               error)) {
      return nullptr;
    }
    return to_bytes(env, text, size);
  });
}

jlong stream_create(JNIEnv* env, jclass, jlong model) {
  moka_text_stream* stream = nullptr;
  moka_error error;
  failed(env, moka_text_stream_create(at<moka_model>(model), &stream, &error), error);
  return handle_of(stream);
}

jbyteArray stream_push(JNIEnv* env, jclass, jlong stream, jint token) {
  const char* text = nullptr;
  size_t size = 0;
  moka_error error;
  if (failed(env, moka_text_stream_push(at<moka_text_stream>(stream), token, &text, &size, &error),
             error)) {
    return nullptr;
  }
  return to_bytes(env, text, size);
}

jbyteArray stream_finish(JNIEnv* env, jclass, jlong stream) {
  const char* text = nullptr;
  size_t size = 0;
  moka_error error;
  if (failed(env, moka_text_stream_finish(at<moka_text_stream>(stream), &text, &size, &error),
             error)) {
    return nullptr;
  }
  return to_bytes(env, text, size);
}

// ---- executors -----------------------------------------------------------------------------------

jlong executor_create(JNIEnv* env, jclass, jlong model, jint threads, jint chunk) {
  moka_executor_options options;
  moka_executor_options_init(&options, sizeof options);
  options.threads = threads;
  if (chunk != 0) options.chunk = static_cast<uint32_t>(chunk);
  moka_executor* executor = nullptr;
  moka_error error;
  failed(env, moka_executor_create(at<moka_model>(model), &options, &executor, &error), error);
  return handle_of(executor);
}

jint executor_threads(JNIEnv*, jclass, jlong executor) {
  return moka_executor_threads(at<moka_executor>(executor));
}

jlong executor_scratch_bytes(JNIEnv*, jclass, jlong executor) {
  return static_cast<jlong>(moka_executor_scratch_bytes(at<moka_executor>(executor)));
}

}  // namespace

void add_model_methods(Methods* methods) {
  methods->insert(methods->end(), {
                                      method("abiVersion", abi_version),
                                      method("version", version),
                                      method("free", free_handle),
                                      method("openPath", open_path),
                                      method("openFd", open_fd),
                                      method("copyMemory", copy_memory),
                                      method("openMemory", open_memory),
                                      method("infoNumbers", info_numbers),
                                      method("infoNames", info_names),
                                      method("quantiles", quantiles),
                                      method("snapshotNumbers", snapshot_numbers),
                                      method("snapshotNames", snapshot_names),
                                      method("tokenize", tokenize),
                                      method("detokenize", detokenize),
                                      method("tokenText", token_text),
                                      method("streamCreate", stream_create),
                                      method("streamPush", stream_push),
                                      method("streamFinish", stream_finish),
                                      method("executorCreate", executor_create),
                                      method("executorThreads", executor_threads),
                                      method("executorScratchBytes", executor_scratch_bytes),
                                  });
}

}  // namespace moka::jni
