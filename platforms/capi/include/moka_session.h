// moka_session.h: samplers, sessions and batches of them. A part of moka.h: include that.
#include "moka.h"  // before the guard: it includes this file where its place is

#ifndef MOKA_C_MOKA_SESSION_H_
#define MOKA_C_MOKA_SESSION_H_

#ifdef __cplusplus
extern "C" {
#endif

// ---- samplers ------------------------------------------------------------------------------------
// Equal scores, options and seed draw equal tokens on every platform.

typedef struct moka_sampler moka_sampler;

typedef struct moka_logit_bias {
  moka_token token;
  float bias;  // added to the score; -INFINITY bans the token
} moka_logit_bias;

typedef struct moka_sampler_options {
  uint32_t struct_size;
  float temperature;       // 0: always the likeliest, the lowest id of equal ones
  uint32_t top_k;          // draw from the k likeliest; 0: from all
  float top_p;             // from the fewest that have this probability together; 1: from all
  float min_p;             // from those at least min_p times as likely as the likeliest
  float repeat_penalty;    // above 1 makes recent tokens less likely
  uint32_t repeat_window;  // how many tokens are recent
  uint32_t bias_count;
  uint64_t seed;
  const moka_logit_bias* bias;
} moka_sampler_options;
// What the author of the model recommends; with a NULL model Moka's own defaults.
MOKA_API void moka_sampler_options_init(moka_sampler_options* options, uint32_t struct_size,
                                        const moka_model* model);

// For rows of info.outputs scores.
MOKA_API moka_status moka_sampler_create(const moka_model* model,
                                         const moka_sampler_options* options, moka_sampler** out,
                                         moka_error* error);
// Draws from `count` scores, info.outputs of them. MOKA_FAILED_PRECONDITION when all are banned;
// MOKA_INVALID_ARGUMENT for a NaN.
MOKA_API moka_status moka_sampler_sample(moka_sampler* sampler, const float* logits, size_t count,
                                         moka_token* token, moka_error* error);
// Tells of tokens that were not drawn here, such as those of the prompt, for repeat_penalty.
MOKA_API moka_status moka_sampler_accept(moka_sampler* sampler, const moka_token* tokens,
                                         size_t count, moka_error* error);
// Forgets recent tokens and starts again from the seed.
MOKA_API void moka_sampler_reset(moka_sampler* sampler);
// Generator and recent tokens as bytes, and back into a sampler of equal options: MOKA_CORRUPT.
MOKA_API moka_status moka_sampler_save(const moka_sampler* sampler, void* bytes, size_t capacity,
                                       size_t* needed, moka_error* error);
MOKA_API moka_status moka_sampler_restore(moka_sampler* sampler, const void* bytes, size_t size,
                                          moka_error* error);
MOKA_API void moka_sampler_free(moka_sampler* sampler);

// ---- sessions ------------------------------------------------------------------------------------
// One sequence that is read and written. Its state has constant size. A call that fails or is
// cancelled leaves session and sampler as they were; moka_session_generate says itself what it keeps.
// Reading tokens allocates nothing, except with softmax attention.

typedef struct moka_session moka_session;

// A sequence; a model reads tokens, or values in the units of the data, [steps][info.features].
typedef struct moka_sequence {
  const moka_token* tokens;
  size_t token_count;
  const float* values;
  size_t value_count;  // floats
} moka_sequence;

// `executor` may be NULL, for the model's default one. MOKA_FAILED_PRECONDITION: a model that sees
// ahead, or that compares two sequences, has no sessions; moka_tasks.h runs it.
MOKA_API moka_status moka_session_create(const moka_model* model, const moka_executor* executor,
                                         moka_session** out, moka_error* error);
// An independent copy; costs a copy of the state.
MOKA_API moka_status moka_session_fork(const moka_session* session, moka_session** out,
                                       moka_error* error);
MOKA_API void moka_session_free(moka_session* session);

// Reads on, in chunks; cancel is noticed between them. MOKA_OUT_OF_RANGE: a token outside the
// vocabulary, or beyond info.position_limit. MOKA_INVALID_ARGUMENT: tokens for a model that reads
// values or the reverse, values that are not finite or not whole steps.
MOKA_API moka_status moka_session_append(moka_session* session, const moka_token* tokens,
                                         size_t count, moka_error* error);
MOKA_API moka_status moka_session_append_values(moka_session* session, const float* values,
                                                size_t count, moka_error* error);
// Gets `rows` rows of output, info.outputs floats each and `stride` floats apart; row i is that of the
// step `first + i` of those given. Anything but 0 ends the call: MOKA_CANCELLED.
typedef int32_t (*moka_rows_fn)(void* user, size_t first, size_t rows, const float* output,
                                size_t stride);
// Reads on and gives out the output after every step.
MOKA_API moka_status moka_session_append_rows(moka_session* session, const moka_sequence* steps,
                                              moka_rows_fn rows, void* user, moka_error* error);
// Reads the sequence that the model answers from, if info.reads_memory; before all else.
MOKA_API moka_status moka_session_append_memory(moka_session* session, const moka_sequence* memory,
                                                moka_error* error);

// The output for everything read so far: info.outputs floats, valid until the next call that changes
// the session. Nothing read: *count is 0 and *logits NULL.
MOKA_API moka_status moka_session_logits(const moka_session* session, const float** logits,
                                         size_t* count, moka_error* error);
// Draws from them, reads that token, and gives it. MOKA_FAILED_PRECONDITION before anything was read.
MOKA_API moka_status moka_session_step(moka_session* session, moka_sampler* sampler,
                                       moka_token* token, moka_error* error);

// Gets text in whole characters. Anything but 0 ends the writing, successfully: MOKA_END_CALLBACK.
typedef int32_t (*moka_text_fn)(void* user, const char* text, size_t size);

typedef struct moka_generate_options {
  uint32_t struct_size;
  int32_t stop_at_end;  // 1, the default: the model's begin_token and end_token stop it
  uint64_t max_tokens;  // at least 1; default 512
  uint64_t max_ms;      // 0, the default: no limit in time
  // So many tokens at the end that are one cycle, again and again, end it; 0: never. Default 256.
  uint64_t loop_tokens;
  const moka_token* stop_tokens;  // more tokens that stop it
  const char* const* stop_texts;  // texts that stop it, each of 1 to 4096 bytes; at most 64
  uint32_t stop_token_count, stop_text_count;
  moka_text_fn on_text;  // may be NULL
  void* user;
  // Guesses of what comes next that go through the model in one pass with a token, at most 16; 0, the
  // default: none. They are looked up in what is written and before it in `lookup_tokens`, such as those
  // that the session has read; chats know theirs themselves. What is written is the same to the bit; a
  // text that repeats itself, or `lookup_tokens`, is written in fewer passes over the weights.
  const moka_token* lookup_tokens;
  size_t lookup_token_count;
  uint64_t lookup;
} moka_generate_options;
MOKA_API void moka_generate_options_init(moka_generate_options* options, uint32_t struct_size);

// Why writing ended.
enum {
  MOKA_END_NONE = 0,        // it did not: the call failed, or this is a text that was given
  MOKA_END_STOP_TOKEN = 1,  // the token was not read
  MOKA_END_STOP_TEXT = 2,   // its tokens were read, but neither it nor what follows was given out
  MOKA_END_TOKENS = 3,      // max_tokens
  MOKA_END_TIME = 4,        // max_ms
  MOKA_END_CALLBACK = 5,    // on_text
  MOKA_END_POSITION = 6,    // the model reads no more
  MOKA_END_LOOP = 7         // loop_tokens
};

typedef struct moka_generate_result {
  uint32_t struct_size;
  int32_t end;      // MOKA_END_...
  uint64_t tokens;  // written and read
  // Guesses that were tried, and that came true: 0 without options.lookup.
  uint64_t drafted, accepted;
} moka_generate_result;

// Writes token after token; needs a language model with a tokenizer, else MOKA_UNSUPPORTED, and
// something that was read before. A token is read or it is not: after cancel (MOKA_CANCELLED) or
// an error, session and sampler stand behind the last whole token, and `result`, which may be NULL,
// counts those. Text that was held back is given out at the end, except after a failure; a character
// that is not whole by then becomes U+FFFD. (To write on in pieces, use moka_session_step with a text
// stream, or a chat: these carry it over.)
MOKA_API moka_status moka_session_generate(moka_session* session, moka_sampler* sampler,
                                           const moka_generate_options* options,
                                           moka_generate_result* result, moka_error* error);

// What moka_session_generate would say of the model and of these options, without doing anything: for
// callers who read a prompt first, and want none of it read when the writing cannot begin.
MOKA_API moka_status moka_session_check_generate(const moka_session* session,
                                                 const moka_generate_options* options,
                                                 moka_error* error);

MOKA_API uint64_t moka_session_position(const moka_session* session);  // tokens read; 0 for NULL
MOKA_API uint64_t moka_session_memory_position(const moka_session* session);

// The session as bytes, which are the same on every platform. MOKA_CORRUPT: damaged bytes;
// MOKA_FAILED_PRECONDITION: of another model. To ask for the size costs as much as saving.
MOKA_API moka_status moka_session_save(const moka_session* session, void* bytes, size_t capacity,
                                       size_t* needed, moka_error* error);
MOKA_API moka_status moka_session_restore(moka_session* session, const void* bytes, size_t size,
                                          moka_error* error);
// The same with a file, which is written under another name, synced and renamed.
MOKA_API moka_status moka_session_save_file(const moka_session* session, const char* path,
                                            moka_error* error);
MOKA_API moka_status moka_session_restore_file(moka_session* session, const char* path,
                                               moka_error* error);

// Becomes a session that has read the prefix of a snapshot of the model, whose name this is
// (moka_model_snapshot_at): one pass over the bytes of the state, however long the prefix. Where many
// sessions begin there, restore one and fork it. MOKA_NOT_FOUND names the snapshots that there are;
// MOKA_FAILED_PRECONDITION: it was made with other weights; MOKA_CORRUPT.
MOKA_API moka_status moka_session_restore_snapshot(moka_session* session, const char* name,
                                                   moka_error* error);

MOKA_API void moka_session_reset(moka_session* session);  // to where nothing was read
// Ends the running call with MOKA_CANCELLED at its next chunk or token; if none runs, the next call.
// Any thread.
MOKA_API void moka_session_cancel(moka_session* session);

// ---- batches -------------------------------------------------------------------------------------
// Several sessions through one read of the weights, each with the bits that it would have alone. All
// sessions and samplers move or none; no other call may use them meanwhile. After a failure *culprit,
// which may be NULL, is the place of the entry that the message names, or `count` when there is none.
// MOKA_INVALID_ARGUMENT: one named twice, or one of another model. Cancel of one ends it for all.

typedef struct moka_batch_append {
  moka_session* session;
  moka_sequence steps;  // what it reads; nothing: it stays where it is
} moka_batch_append;
MOKA_API moka_status moka_executor_append(moka_executor* executor, const moka_batch_append* batch,
                                          size_t count, size_t* culprit, moka_error* error);

typedef struct moka_batch_step {
  moka_session* session;
  moka_sampler* sampler;  // may serve several; they draw in the order of the batch
  moka_token token;       // set by the call
  int32_t reserved;       // 0
} moka_batch_step;
MOKA_API moka_status moka_executor_step(moka_executor* executor, moka_batch_step* batch,
                                        size_t count, size_t* culprit, moka_error* error);

#ifdef __cplusplus
}
#endif

#endif  // MOKA_C_MOKA_SESSION_H_
