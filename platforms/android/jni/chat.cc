// Natives of chats.
#include <memory>

#include "platforms/android/jni/bridge.h"

namespace moka::jni {
namespace {

// A chat calls its progress for as long as it lives; who listens is known for the time of a call.
struct ChatHandle {
  moka_chat* chat = nullptr;
  Listener listener{nullptr, nullptr};
};

class Listening {
 public:
  Listening(JNIEnv* env, jlong handle, ChatProgress progress) : handle_(*at<ChatHandle>(handle)) {
    handle_.listener = {env, progress};
  }
  ~Listening() { handle_.listener = {nullptr, nullptr}; }
  Listening(const Listening&) = delete;
  Listening& operator=(const Listening&) = delete;

 private:
  ChatHandle& handle_;
};

moka_chat* chat_of(jlong handle) { return at<ChatHandle>(handle)->chat; }

// What ChatOptions.java says: texts in the order of its texts(), numbers in that of its numbers().
class Options {
 public:
  Options(JNIEnv* env, ChatHandle* handle, jlong executor, ByteArrays texts, jlongArray numbers,
          const moka_sampler_options* sampling)
      : texts_(texts_of(env, texts)) {
    moka_chat_options_init(&options_, sizeof options_);
    const std::vector<jlong> number = longs_of(env, numbers);
    if (number.at(0) >= 0) options_.saved_states = static_cast<uint32_t>(number.at(0));
    if (number.at(1) >= 0) options_.state_budget_bytes = static_cast<uint64_t>(number.at(1));
    options_.template_id = texts_.at(0).c_str();
    options_.system_prefix = texts_.at(1).c_str();
    options_.system_suffix = texts_.at(2).c_str();
    options_.user_prefix = texts_.at(3).c_str();
    options_.user_suffix = texts_.at(4).c_str();
    options_.model_prefix = texts_.at(5).c_str();
    options_.model_suffix = texts_.at(6).c_str();
    options_.from = texts_.at(7).c_str();
    options_.sampling = sampling;
    options_.executor = at<moka_executor>(executor);
    options_.progress = on_chat_progress;
    options_.progress_user = &handle->listener;
  }
  Options(const Options&) = delete;
  Options& operator=(const Options&) = delete;
  const moka_chat_options* get() const { return &options_; }

 private:
  std::vector<OptionalText> texts_;
  moka_chat_options options_;
};

// A new chat, or the one that was saved in `saved` or in the file `path`.
jlong create(JNIEnv* env, jclass, jlong model, jlong executor, ByteArrays texts, jlongArray numbers,
             jint given, jfloatArray sampling_numbers, jlongArray sampling_counts,
             jintArray bias_tokens, jfloatArray bias, jbyteArray saved, jbyteArray path,
             ChatProgress progress) {
  return guarded(env, [&]() -> jlong {
    const Sampling sampling(env, at<moka_model>(model), given, sampling_numbers, sampling_counts,
                            bias_tokens, bias);
    auto handle = std::make_unique<ChatHandle>();
    const Listening listening(env, handle_of(handle.get()), progress);
    const Options options(env, handle.get(), executor, texts, numbers, sampling.get());
    moka_error error;
    moka_status status = MOKA_OK;
    if (saved != nullptr) {
      const std::string bytes = bytes_of(env, saved);
      status = moka_chat_open(at<moka_model>(model), bytes.data(), bytes.size(), options.get(),
                              &handle->chat, &error);
    } else if (path != nullptr) {
      status = moka_chat_open_file(at<moka_model>(model), bytes_of(env, path).c_str(),
                                   options.get(), &handle->chat, &error);
    } else {
      status = moka_chat_create(at<moka_model>(model), options.get(), &handle->chat, &error);
    }
    if (failed(env, status, error)) return 0;
    return handle_of(handle.release());
  });
}

void free_chat(JNIEnv*, jclass, jlong handle) {
  moka_chat_free(chat_of(handle));
  delete at<ChatHandle>(handle);
}

void cancel(JNIEnv*, jclass, jlong handle) { moka_chat_cancel(chat_of(handle)); }

// Uses up a cancel that came too late, by going to where the chat is.
void absorb(JNIEnv*, jclass, jlong handle) {
  (void)moka_chat_switch_to(chat_of(handle), moka_chat_current(chat_of(handle)), nullptr, nullptr);
}

// Does `call(chat, &step, &error)` and gives turn, tokens read, read again, drafted, accepted.
template <class Call>
jlongArray step_of(JNIEnv* env, jlong handle, ChatProgress progress, const Call& call) {
  return guarded(env, [&]() -> jlongArray {
    const Listening listening(env, handle, progress);
    moka_chat_step step{};
    step.struct_size = sizeof step;
    moka_error error;
    if (failed(env, call(chat_of(handle), &step, &error), error)) return nullptr;
    const auto whole = [](uint64_t value) { return static_cast<jlong>(value); };
    return to_longs(env, {whole(step.turn), whole(step.tokens_read), whole(step.tokens_read_again),
                          whole(step.drafted), whole(step.accepted)});
  });
}

jlongArray append(JNIEnv* env, jclass, jlong handle, jint role, jbyteArray text,
                  ChatProgress progress) {
  return step_of(env, handle, progress, [&](moka_chat* chat, moka_chat_step* step, moka_error* e) {
    const std::string bytes = bytes_of(env, text);
    return moka_chat_append(chat, role, bytes.data(), bytes.size(), step, e);
  });
}

jlongArray branch(JNIEnv* env, jclass, jlong handle, jlong after, jint role, jbyteArray text,
                  ChatProgress progress) {
  return step_of(env, handle, progress, [&](moka_chat* chat, moka_chat_step* step, moka_error* e) {
    const std::string bytes = bytes_of(env, text);
    return moka_chat_branch(chat, static_cast<moka_turn_id>(after), role, bytes.data(),
                            bytes.size(), step, e);
  });
}

jlongArray edit(JNIEnv* env, jclass, jlong handle, jlong turn, jbyteArray text,
                ChatProgress progress) {
  return step_of(env, handle, progress, [&](moka_chat* chat, moka_chat_step* step, moka_error* e) {
    const std::string bytes = bytes_of(env, text);
    return moka_chat_edit(chat, static_cast<moka_turn_id>(turn), bytes.data(), bytes.size(), step,
                          e);
  });
}

// A turn behind the current one, or beside it. `samples` false: with the sampling that the chat has.
jlongArray generate(JNIEnv* env, jclass, jlong handle, jboolean again, jlongArray numbers,
                    jintArray stop_tokens, ByteArrays stop_texts, TextListener listener,
                    jboolean samples, jlong model, jint given, jfloatArray sampling_numbers,
                    jlongArray sampling_counts, jintArray bias_tokens, jfloatArray bias,
                    ChatProgress progress) {
  return step_of(env, handle, progress, [&](moka_chat* chat, moka_chat_step* step, moka_error* e) {
    const Writing options(env, numbers, stop_tokens, stop_texts, nullptr, listener);
    const auto write = again != JNI_FALSE ? moka_chat_regenerate : moka_chat_generate;
    if (samples == JNI_FALSE) return write(chat, options.get(), nullptr, step, e);
    const Sampling sampling(env, at<moka_model>(model), given, sampling_numbers, sampling_counts,
                            bias_tokens, bias);
    return write(chat, options.get(), sampling.get(), step, e);
  });
}

jlongArray undo(JNIEnv* env, jclass, jlong handle, ChatProgress progress) {
  return step_of(env, handle, progress, moka_chat_undo);
}

jlongArray switch_to(JNIEnv* env, jclass, jlong handle, jlong turn, ChatProgress progress) {
  return step_of(env, handle, progress, [&](moka_chat* chat, moka_chat_step* step, moka_error* e) {
    return moka_chat_switch_to(chat, static_cast<moka_turn_id>(turn), step, e);
  });
}

void remove(JNIEnv* env, jclass, jlong handle, jlong turn) {
  moka_error error;
  failed(env, moka_chat_remove(chat_of(handle), static_cast<moka_turn_id>(turn), &error), error);
}

jbyteArray save(JNIEnv* env, jclass, jlong handle, jint room) {
  return guarded(env, [&]() -> jbyteArray {
    const auto saved =
        filled<uint8_t>(env, static_cast<size_t>(room),
                        [&](uint8_t* buffer, size_t capacity, size_t* needed, moka_error* error) {
                          return moka_chat_save(chat_of(handle), buffer, capacity, needed, error);
                        });
    return env->ExceptionCheck() ? nullptr : to_bytes(env, saved.data(), saved.size());
  });
}

void save_file(JNIEnv* env, jclass, jlong handle, jbyteArray path) {
  guarded(env, [&] {
    moka_error error;
    failed(env, moka_chat_save_file(chat_of(handle), bytes_of(env, path).c_str(), &error), error);
  });
}

// ---- turns ---------------------------------------------------------------------------------------

jlong current(JNIEnv*, jclass, jlong handle) {
  return static_cast<jlong>(moka_chat_current(chat_of(handle)));
}

// The ids of all turns, rising.
jlongArray turns(JNIEnv* env, jclass, jlong handle) {
  return guarded(env, [&]() -> jlongArray {
    std::vector<jlong> ids;
    const size_t count = moka_chat_turn_count(chat_of(handle));
    for (size_t i = 0; i < count; ++i) {
      moka_turn turn{};
      turn.struct_size = sizeof turn;
      moka_error error;
      if (failed(env, moka_chat_turn_at(chat_of(handle), i, &turn, &error), error)) return nullptr;
      ids.push_back(static_cast<jlong>(turn.id));
    }
    return to_longs(env, ids);
  });
}

jlongArray path(JNIEnv* env, jclass, jlong handle) {
  return guarded(env, [&]() -> jlongArray {
    const auto ids = filled<moka_turn_id>(
        env, 64, [&](moka_turn_id* buffer, size_t capacity, size_t* needed, moka_error* error) {
          return moka_chat_path(chat_of(handle), buffer, capacity, needed, error);
        });
    if (env->ExceptionCheck()) return nullptr;
    return to_longs(env, std::vector<jlong>(ids.begin(), ids.end()));
  });
}

bool find_turn(JNIEnv* env, jlong handle, jlong id, moka_turn* turn) {
  *turn = {};
  turn->struct_size = sizeof *turn;
  moka_error error;
  return !failed(env,
                 moka_chat_find_turn(chat_of(handle), static_cast<moka_turn_id>(id), turn, &error),
                 error);
}

// In the order of Turn.java.
jlongArray turn_numbers(JNIEnv* env, jclass, jlong handle, jlong id) {
  return guarded(env, [&]() -> jlongArray {
    moka_turn turn;
    if (!find_turn(env, handle, id, &turn)) return nullptr;
    return to_longs(env, {turn.role, turn.end, turn.kept, static_cast<jlong>(turn.id),
                          static_cast<jlong>(turn.parent), static_cast<jlong>(turn.position),
                          turn.template_head, turn.template_tail});
  });
}

jbyteArray turn_text(JNIEnv* env, jclass, jlong handle, jlong id) {
  moka_turn turn;
  if (!find_turn(env, handle, id, &turn)) return nullptr;
  return to_bytes(env, turn.text, turn.text_size);
}

jintArray turn_tokens(JNIEnv* env, jclass, jlong handle, jlong id) {
  moka_turn turn;
  if (!find_turn(env, handle, id, &turn)) return nullptr;
  return to_ints(env, turn.tokens, turn.token_count);
}

jlong kept_state_bytes(JNIEnv*, jclass, jlong handle) {
  return static_cast<jlong>(moka_chat_kept_state_bytes(chat_of(handle)));
}

jbyteArray from(JNIEnv* env, jclass, jlong handle) {
  return guarded(env, [&]() -> jbyteArray {
    const std::string name = moka_chat_from(chat_of(handle));
    return to_bytes(env, name.data(), name.size());
  });
}

jfloatArray logits(JNIEnv* env, jclass, jlong handle) {
  const float* row = nullptr;
  size_t count = 0;
  moka_error error;
  if (failed(env, moka_chat_logits(chat_of(handle), &row, &count, &error), error)) return nullptr;
  return to_floats(env, row, count);
}

}  // namespace

void add_chat_methods(Methods* methods) {
  methods->insert(methods->end(), {
                                      method("chatCreate", create),
                                      method("chatFree", free_chat),
                                      method("chatCancel", cancel),
                                      method("chatAbsorb", absorb),
                                      method("chatAppend", append),
                                      method("chatBranch", branch),
                                      method("chatEdit", edit),
                                      method("chatGenerate", generate),
                                      method("chatUndo", undo),
                                      method("chatSwitchTo", switch_to),
                                      method("chatRemove", remove),
                                      method("chatSave", save),
                                      method("chatSaveFile", save_file),
                                      method("chatCurrent", current),
                                      method("chatTurns", turns),
                                      method("chatPath", path),
                                      method("chatTurnNumbers", turn_numbers),
                                      method("chatTurnText", turn_text),
                                      method("chatTurnTokens", turn_tokens),
                                      method("chatKeptStateBytes", kept_state_bytes),
                                      method("chatFrom", from),
                                      method("chatLogits", logits),
                                  });
}

}  // namespace moka::jni
