// What moka.wasm exports: the C interface in a form that JavaScript calls without knowing a struct. One
// model per instance. Handles are addresses; numbers of 64 bits cross as doubles, which are exact up to
// 2^53. What is longer than a number lies at web_out(), web_out_size() bytes, until the next call.
//
// Calls that can fail give 0 or a handle when they succeed; web_code() and web_message() tell why not.
#if defined(__EMSCRIPTEN_PTHREADS__)
#define _GNU_SOURCE  // pthread_getattr_np
#include <pthread.h>
#endif
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "moka.h"

#define EXPORT(name) __attribute__((used, export_name(#name)))
#define IMPORT(name) __attribute__((import_module("moka"), import_name(#name)))

// Of JavaScript. Anything but 0 ends what runs.
IMPORT(text) int32_t js_text(const char* text, size_t size);
IMPORT(progress) int32_t js_progress(double done, double total, int32_t again);
IMPORT(checked) int32_t js_checked(double share);

static moka_error error;
static moka_model* model;
static moka_model_info info;
static moka_sampler_options sampling;
static const char* template_texts[7];
static const char* stop_texts[64];
static uint32_t stop_count;
static moka_chat_step step;
static moka_turn turn;

static const void* out;
static size_t out_size;
static void* owned;

static void give(const void* bytes, size_t size) {
  out = bytes;
  out_size = size;
}

// Room for `size` bytes that go out; NULL, and an error, when there is none.
static void* room(size_t size) {
  free(owned);
  owned = malloc(size > 0 ? size : 1);
  if (owned == NULL) {
    error.code = MOKA_OUT_OF_MEMORY;
    snprintf(error.message, sizeof error.message, "no memory for %zu bytes", size);
  }
  give(owned, size);
  return owned;
}

static int32_t on_text(void* user, const char* text, size_t size) {
  (void)user;
  return js_text(text, size);
}
static int32_t on_chat_progress(void* user, uint64_t done, uint64_t total, int32_t again) {
  (void)user;
  return js_progress((double)done, (double)total, again);
}
static int32_t on_checked(void* user, double share) {
  (void)user;
  return js_checked(share);
}

EXPORT(web_code) int32_t web_code(void) { return error.code; }
EXPORT(web_message) const char* web_message(void) { return error.message; }
EXPORT(web_code_name) const char* web_code_name(int32_t code) { return moka_status_name(code); }
EXPORT(web_version) const char* web_version(void) { return moka_version(); }
EXPORT(web_out) const void* web_out(void) { return out; }
EXPORT(web_out_size) size_t web_out_size(void) { return out_size; }

// Aligned as a model has to be; NULL when there is no memory.
EXPORT(web_alloc) void* web_alloc(size_t size) {
  return size > SIZE_MAX - 63 ? NULL : aligned_alloc(64, (size + 63) / 64 * 64);
}
EXPORT(web_free) void web_free(void* memory) { free(memory); }

#if defined(__EMSCRIPTEN_PTHREADS__)
// One end of the stack of a thread that is to begin: the top, from where it grows down, or the bottom.
EXPORT(web_thread_stack) uintptr_t web_thread_stack(pthread_t thread, int32_t top) {
  pthread_attr_t attributes;
  void* bottom = NULL;
  size_t size = 0;
  if (pthread_getattr_np(thread, &attributes) != 0 ||
      pthread_attr_getstack(&attributes, &bottom, &size) != 0) {
    return 0;
  }
  return (uintptr_t)bottom + (top ? size : 0);
}
#endif

// ---- the model -----------------------------------------------------------------------------------

EXPORT(web_open)
int32_t web_open(const void* bytes, size_t size, int32_t check_data, int32_t threads) {
  moka_open_options options;
  moka_open_options_init(&options, sizeof options);
  options.threads = threads;
  options.check_data = check_data;
  options.progress = on_checked;
  if (moka_model_open_memory(bytes, size, &options, &model, &error) != MOKA_OK) return error.code;
  info.struct_size = sizeof info;
  return moka_model_get_info(model, &info, &error);
}

// The numbers that engine.js names, in its order.
EXPORT(web_info) double web_info(int32_t which) {
  const double numbers[] = {info.input,
                            info.output,
                            info.causal,
                            info.reads_memory,
                            info.has_tokenizer,
                            info.width,
                            info.layers,
                            info.vocab_size,
                            info.features,
                            info.outputs,
                            info.classes,
                            info.begin_token,
                            info.end_token,
                            info.unknown_token,
                            (double)info.parameters,
                            (double)info.weight_bytes,
                            (double)info.state_bytes,
                            (double)info.state_bytes_per_token,
                            (double)info.position_limit,
                            info.threads};
  return which >= 0 && (size_t)which < sizeof numbers / sizeof *numbers ? numbers[which] : NAN;
}
EXPORT(web_info_text) const char* web_info_text(int32_t which) {
  return which == 0 ? info.name : which == 1 ? info.architecture : info.kernels;
}

EXPORT(web_encode) int32_t web_encode(const char* text, size_t size, int32_t special) {
  size_t count = 0;
  if (moka_model_tokenize(model, text, size, special, NULL, 0, &count, &error) != MOKA_OK ||
      room(count * sizeof(moka_token)) == NULL) {
    return error.code;
  }
  return moka_model_tokenize(model, text, size, special, owned, count, &count, &error);
}
EXPORT(web_decode) int32_t web_decode(const moka_token* tokens, size_t count) {
  size_t size = 0;
  if (moka_model_detokenize(model, tokens, count, NULL, 0, &size, &error) != MOKA_OK ||
      room(size) == NULL) {
    return error.code;
  }
  return moka_model_detokenize(model, tokens, count, owned, size, &size, &error);
}

// ---- sampling ------------------------------------------------------------------------------------

// Sets what the next sampler or chat is made with; NaN: what the model recommends.
EXPORT(web_sampling)
void web_sampling(double temperature, double top_k, double top_p, double min_p, double penalty,
                  double window, double seed) {
  moka_sampler_options_init(&sampling, sizeof sampling, model);
  if (!isnan(temperature)) sampling.temperature = (float)temperature;
  if (!isnan(top_k)) sampling.top_k = (uint32_t)top_k;
  if (!isnan(top_p)) sampling.top_p = (float)top_p;
  if (!isnan(min_p)) sampling.min_p = (float)min_p;
  if (!isnan(penalty)) sampling.repeat_penalty = (float)penalty;
  if (!isnan(window)) sampling.repeat_window = (uint32_t)window;
  sampling.seed = (uint64_t)seed;
}
EXPORT(web_sampler_new) moka_sampler* web_sampler_new(void) {
  moka_sampler* made = NULL;
  moka_sampler_create(model, &sampling, &made, &error);
  return made;
}
EXPORT(web_sampler_accept)
int32_t web_sampler_accept(moka_sampler* sampler, const moka_token* tokens, size_t count) {
  return moka_sampler_accept(sampler, tokens, count, &error);
}
EXPORT(web_sampler_free) void web_sampler_free(moka_sampler* sampler) {
  moka_sampler_free(sampler);
}

// ---- sessions ------------------------------------------------------------------------------------

EXPORT(web_session_new) moka_session* web_session_new(void) {
  moka_session* made = NULL;
  moka_session_create(model, NULL, &made, &error);
  return made;
}
EXPORT(web_session_fork) moka_session* web_session_fork(const moka_session* session) {
  moka_session* made = NULL;
  moka_session_fork(session, &made, &error);
  return made;
}
EXPORT(web_session_free) void web_session_free(moka_session* session) {
  moka_session_free(session);
}
EXPORT(web_session_append)
int32_t web_session_append(moka_session* session, const moka_token* tokens, size_t count) {
  return moka_session_append(session, tokens, count, &error);
}
EXPORT(web_session_position) double web_session_position(const moka_session* session) {
  return (double)moka_session_position(session);
}
EXPORT(web_session_logits) int32_t web_session_logits(const moka_session* session) {
  const float* logits = NULL;
  size_t count = 0;
  const int32_t code = moka_session_logits(session, &logits, &count, &error);
  give(logits, count * sizeof(float));
  return code;
}
EXPORT(web_session_reset) void web_session_reset(moka_session* session) {
  moka_session_reset(session);
}
EXPORT(web_session_save) int32_t web_session_save(const moka_session* session) {
  size_t size = 0;
  if (moka_session_save(session, NULL, 0, &size, &error) != MOKA_OK || room(size) == NULL) {
    return error.code;
  }
  return moka_session_save(session, owned, size, &size, &error);
}
EXPORT(web_session_restore)
int32_t web_session_restore(moka_session* session, const void* bytes, size_t size) {
  return moka_session_restore(session, bytes, size, &error);
}

// Writing, token by token, so that JavaScript can look at its messages between them.
EXPORT(web_stream_new) moka_text_stream* web_stream_new(void) {
  moka_text_stream* made = NULL;
  moka_text_stream_create(model, &made, &error);
  return made;
}
EXPORT(web_stream_free) void web_stream_free(moka_text_stream* stream) {
  moka_text_stream_free(stream);
}

enum { WEB_FAILED = -1, WEB_STOPPED = -2 };

// Draws a token and reads it, unless it ends texts and `stop_at_end` is set (WEB_STOPPED). Gives the token;
// the text that it completes goes out.
EXPORT(web_write)
int32_t web_write(moka_session* session, moka_sampler* sampler, moka_text_stream* stream,
                  int32_t stop_at_end) {
  const float* logits = NULL;
  const char* text = NULL;
  size_t count = 0;
  moka_token token = -1;
  give(NULL, 0);
  if (moka_session_logits(session, &logits, &count, &error) != MOKA_OK) return WEB_FAILED;
  if (count == 0) {
    error.code = MOKA_FAILED_PRECONDITION;
    strcpy(error.message, "nothing was read yet: append a token before writing");
    return WEB_FAILED;
  }
  if (moka_sampler_sample(sampler, logits, count, &token, &error) != MOKA_OK) return WEB_FAILED;
  if (stop_at_end && (token == info.begin_token || token == info.end_token)) return WEB_STOPPED;
  if (moka_session_append(session, &token, 1, &error) != MOKA_OK) return WEB_FAILED;
  if (moka_text_stream_push(stream, token, &text, &count, &error) != MOKA_OK) return WEB_FAILED;
  give(text, count);
  return token;
}
EXPORT(web_stream_finish) int32_t web_stream_finish(moka_text_stream* stream) {
  const char* text = NULL;
  size_t size = 0;
  const int32_t code = moka_text_stream_finish(stream, &text, &size, &error);
  give(text, size);
  return code;
}

// ---- chats ---------------------------------------------------------------------------------------

// Texts that end with NUL, which stay where they are until the call that uses them: 0 the template's
// id, then prefix and suffix of system, user and model.
EXPORT(web_template) void web_template(int32_t which, const char* text) {
  if (which >= 0 && which < 7) template_texts[which] = text;
}
EXPORT(web_stop) int32_t web_stop(int32_t which, const char* text) {
  if (which < 0 || which >= 64) return MOKA_OUT_OF_RANGE;
  stop_texts[which] = text;
  return MOKA_OK;
}
EXPORT(web_stops) void web_stops(int32_t count) { stop_count = (uint32_t)count; }

// A new chat, or with `size` above 0 one that was saved. A negative budget: the default.
EXPORT(web_chat_new)
moka_chat* web_chat_new(const void* bytes, size_t size, double state_budget) {
  moka_chat* made = NULL;
  moka_chat_options options;
  moka_chat_options_init(&options, sizeof options);
  options.template_id = template_texts[0];
  options.system_prefix = template_texts[1];
  options.system_suffix = template_texts[2];
  options.user_prefix = template_texts[3];
  options.user_suffix = template_texts[4];
  options.model_prefix = template_texts[5];
  options.model_suffix = template_texts[6];
  options.sampling = &sampling;
  options.progress = on_chat_progress;
  if (state_budget >= 0) options.state_budget_bytes = (uint64_t)state_budget;
  if (size > 0) {
    moka_chat_open(model, bytes, size, &options, &made, &error);
  } else {
    moka_chat_create(model, &options, &made, &error);
  }
  return made;
}
EXPORT(web_chat_free) void web_chat_free(moka_chat* chat) { moka_chat_free(chat); }
EXPORT(web_chat_cancel) void web_chat_cancel(moka_chat* chat) { moka_chat_cancel(chat); }

static moka_chat_step* fresh_step(void) {
  memset(&step, 0, sizeof step);
  step.struct_size = sizeof step;
  return &step;
}
EXPORT(web_chat_append)
int32_t web_chat_append(moka_chat* chat, int32_t role, const char* text, size_t size) {
  return moka_chat_append(chat, role, text, size, fresh_step(), &error);
}
EXPORT(web_chat_branch)
int32_t web_chat_branch(moka_chat* chat, double after, int32_t role, const char* text,
                        size_t size) {
  return moka_chat_branch(chat, (uint64_t)after, role, text, size, fresh_step(), &error);
}
EXPORT(web_chat_edit)
int32_t web_chat_edit(moka_chat* chat, double id, const char* text, size_t size) {
  return moka_chat_edit(chat, (uint64_t)id, text, size, fresh_step(), &error);
}
// `again`: beside the current turn, not behind it. `new_sampling`: web_sampling() holds from here on.
EXPORT(web_chat_generate)
int32_t web_chat_generate(moka_chat* chat, int32_t again, int32_t new_sampling, double max_tokens,
                          double max_ms, double loop_tokens, int32_t stop_at_end) {
  moka_generate_options options;
  moka_generate_options_init(&options, sizeof options);
  options.max_tokens = (uint64_t)max_tokens;
  options.max_ms = (uint64_t)max_ms;
  options.loop_tokens = (uint64_t)loop_tokens;
  options.stop_at_end = stop_at_end;
  options.stop_texts = stop_texts;
  options.stop_text_count = stop_count;
  options.on_text = on_text;
  const moka_sampler_options* draws = new_sampling ? &sampling : NULL;
  return again ? moka_chat_regenerate(chat, &options, draws, fresh_step(), &error)
               : moka_chat_generate(chat, &options, draws, fresh_step(), &error);
}
EXPORT(web_chat_undo) int32_t web_chat_undo(moka_chat* chat) {
  return moka_chat_undo(chat, fresh_step(), &error);
}
EXPORT(web_chat_switch) int32_t web_chat_switch(moka_chat* chat, double id) {
  return moka_chat_switch_to(chat, (uint64_t)id, fresh_step(), &error);
}
EXPORT(web_chat_remove) int32_t web_chat_remove(moka_chat* chat, double id) {
  return moka_chat_remove(chat, (uint64_t)id, &error);
}
EXPORT(web_chat_save) int32_t web_chat_save(const moka_chat* chat) {
  size_t size = 0;
  if (moka_chat_save(chat, NULL, 0, &size, &error) != MOKA_OK || room(size) == NULL) {
    return error.code;
  }
  return moka_chat_save(chat, owned, size, &size, &error);
}
EXPORT(web_chat_current) double web_chat_current(const moka_chat* chat) {
  return (double)moka_chat_current(chat);
}
EXPORT(web_chat_kept_bytes) double web_chat_kept_bytes(const moka_chat* chat) {
  return (double)moka_chat_kept_state_bytes(chat);
}
EXPORT(web_chat_count) int32_t web_chat_count(const moka_chat* chat) {
  return (int32_t)moka_chat_turn_count(chat);
}
// Looks at a turn by its place; its text goes out, its numbers are those of web_turn().
EXPORT(web_chat_turn) int32_t web_chat_turn(const moka_chat* chat, int32_t place) {
  memset(&turn, 0, sizeof turn);
  turn.struct_size = sizeof turn;
  const int32_t code = moka_chat_turn_at(chat, (size_t)place, &turn, &error);
  give(turn.text, turn.text_size);
  return code;
}
EXPORT(web_turn) double web_turn(int32_t which) {
  const double numbers[] = {(double)turn.id,
                            (double)turn.parent,
                            turn.role,
                            turn.end,
                            turn.kept,
                            (double)turn.position,
                            (double)(turn.token_count - turn.template_head - turn.template_tail)};
  return which >= 0 && which < 7 ? numbers[which] : NAN;
}
