// moka_chat.h: a conversation, or a text written in turns. A part of moka.h: include that.
//
// Turns form a tree: what is undone, edited or written anew stays in it until it is removed. One turn
// is the current one; append and generate put the next one behind it.
//
// Every call is a transaction: one that fails or is cancelled leaves the chat as it was. A turn that
// on_text, a stop or a budget ended is kept with what it has.
//
// The states at the ends of turns are kept as far as state_budget_bytes reach. Going to a turn whose
// state is kept takes a copy of memory; else what follows its nearest kept ancestor is read again,
// with the same bits, which progress and moka_chat_step tell of.
//
// Besides the common failures: MOKA_OUT_OF_RANGE beyond the model's position limit, MOKA_NOT_FOUND
// for a turn that is not there.
#include "moka.h"  // before the guard: it includes this file where its place is

#ifndef MOKA_C_MOKA_CHAT_H_
#define MOKA_C_MOKA_CHAT_H_

#ifdef __cplusplus
extern "C" {
#endif

typedef struct moka_chat moka_chat;
typedef uint64_t moka_turn_id;  // from 1, rising; none is used twice
#define MOKA_START_OF_CHAT 0u   // where nothing was read: the parent of first turns

enum { MOKA_ROLE_SYSTEM = 0, MOKA_ROLE_USER = 1, MOKA_ROLE_MODEL = 2 };

// Told before tokens are read, with done 0, and every few of them; `again` 1: they were read before
// and their state was let go. Anything but 0 ends the call: MOKA_CANCELLED.
typedef int32_t (*moka_chat_progress_fn)(void* user, uint64_t done, uint64_t total, int32_t again);

typedef struct moka_chat_options {
  uint32_t struct_size;
  uint32_t saved_states;        // that a file has beside the current one; default 2
  uint64_t state_budget_bytes;  // of memory, for kept states; default 64 MiB
  // What stands around the text of a turn of each role; NULL is nothing. Special tokens in these are
  // themselves, those in a text that is given are plain text. A file names template_id, and is opened
  // with an equal one only.
  const char* template_id;
  const char* system_prefix;
  const char* system_suffix;
  const char* user_prefix;
  const char* user_suffix;
  const char* model_prefix;
  const char* model_suffix;
  const moka_sampler_options* sampling;  // NULL: recommended by the model; a file brings its own
  const moka_executor* executor;         // NULL: the model's default one
  moka_chat_progress_fn progress;        // may be NULL; called for as long as the chat lives
  void* progress_user;
  // A prefix snapshot of the model, behind which the chat begins as if it had read that prefix. NULL:
  // none. A file names its own, which needs not be given; given, it must be the same one.
  const char* from;
} moka_chat_options;
MOKA_API void moka_chat_options_init(moka_chat_options* options, uint32_t struct_size);

// MOKA_UNSUPPORTED: no causal language model with a tokenizer. Of `from`: as
// moka_session_restore_snapshot.
MOKA_API moka_status moka_chat_create(const moka_model* model, const moka_chat_options* options,
                                      moka_chat** out, moka_error* error);
// A saved chat, from bytes or a file, which are not trusted: MOKA_CORRUPT, MOKA_VERSION;
// MOKA_FAILED_PRECONDITION: of another model, template or prefix, both are named; MOKA_NOT_FOUND: the
// model no longer has the prefix snapshot that it began from.
MOKA_API moka_status moka_chat_open(const moka_model* model, const void* bytes, size_t size,
                                    const moka_chat_options* options, moka_chat** out,
                                    moka_error* error);
MOKA_API moka_status moka_chat_open_file(const moka_model* model, const char* path,
                                         const moka_chat_options* options, moka_chat** out,
                                         moka_error* error);
MOKA_API moka_status moka_chat_save(const moka_chat* chat, void* bytes, size_t capacity,
                                    size_t* needed, moka_error* error);
// Written under another name, synced and renamed.
MOKA_API moka_status moka_chat_save_file(const moka_chat* chat, const char* path,
                                         moka_error* error);
MOKA_API void moka_chat_free(moka_chat* chat);

// What a call did; filled in when it succeeds, and may be NULL.
typedef struct moka_chat_step {
  uint32_t struct_size;
  uint32_t reserved;
  moka_turn_id turn;     // the current one after the call
  uint64_t tokens_read;  // new ones, those of the template and those written too
  uint64_t tokens_read_again;
  uint64_t drafted;   // guesses that were tried (moka_generate_options.lookup)
  uint64_t accepted;  // of these came true
} moka_chat_step;

// Puts a given turn behind the current one; behind any turn; or beside one, with its role.
// MOKA_INVALID_ARGUMENT: no role, or a text that cannot be encoded or has no tokens.
MOKA_API moka_status moka_chat_append(moka_chat* chat, int32_t role, const char* text, size_t size,
                                      moka_chat_step* step, moka_error* error);
MOKA_API moka_status moka_chat_branch(moka_chat* chat, moka_turn_id after, int32_t role,
                                      const char* text, size_t size, moka_chat_step* step,
                                      moka_error* error);
MOKA_API moka_status moka_chat_edit(moka_chat* chat, moka_turn_id turn, const char* text,
                                    size_t size, moka_chat_step* step, moka_error* error);
// Lets the model write a turn behind the current one, or beside it when it wrote that one.
// `sampling`, unless NULL, holds from this turn on, with a generator that starts at its seed.
MOKA_API moka_status moka_chat_generate(moka_chat* chat, const moka_generate_options* options,
                                        const moka_sampler_options* sampling, moka_chat_step* step,
                                        moka_error* error);
MOKA_API moka_status moka_chat_regenerate(moka_chat* chat, const moka_generate_options* options,
                                          const moka_sampler_options* sampling,
                                          moka_chat_step* step, moka_error* error);
// To the parent of the current turn, MOKA_FAILED_PRECONDITION at the start; to any turn.
MOKA_API moka_status moka_chat_undo(moka_chat* chat, moka_chat_step* step, moka_error* error);
MOKA_API moka_status moka_chat_switch_to(moka_chat* chat, moka_turn_id turn, moka_chat_step* step,
                                         moka_error* error);
// Removes a turn and all that follow it; MOKA_FAILED_PRECONDITION when the current one is of them.
MOKA_API moka_status moka_chat_remove(moka_chat* chat, moka_turn_id turn, moka_error* error);
// As moka_session_cancel. Any thread.
MOKA_API void moka_chat_cancel(moka_chat* chat);

// A turn. Pointers are valid until the next call that changes the chat.
typedef struct moka_turn {
  uint32_t struct_size;
  int32_t role;  // MOKA_ROLE_...
  int32_t end;   // MOKA_END_...; MOKA_END_NONE of a text that was given
  int32_t kept;  // 1: switching to it has nothing to read again
  moka_turn_id id, parent;
  uint64_t position;  // tokens from the start of the chat to the end of this turn
  const char* text;   // as it was given, or what the model wrote
  size_t text_size;
  // All that were read: template_head, those of the text, template_tail.
  const moka_token* tokens;
  size_t token_count;
  uint32_t template_head, template_tail;
} moka_turn;
MOKA_API size_t moka_chat_turn_count(const moka_chat* chat);
// By place, from 0 to the count, ids rising; and by id.
MOKA_API moka_status moka_chat_turn_at(const moka_chat* chat, size_t index, moka_turn* turn,
                                       moka_error* error);
MOKA_API moka_status moka_chat_find_turn(const moka_chat* chat, moka_turn_id id, moka_turn* turn,
                                         moka_error* error);
MOKA_API moka_turn_id moka_chat_current(const moka_chat* chat);
// The turns from the first to the current one.
MOKA_API moka_status moka_chat_path(const moka_chat* chat, moka_turn_id* turns, size_t capacity,
                                    size_t* needed, moka_error* error);
MOKA_API uint64_t moka_chat_kept_state_bytes(const moka_chat* chat);
// The prefix snapshot that it began from, "" if none; NULL for NULL. Lives as long as the chat.
MOKA_API const char* moka_chat_from(const moka_chat* chat);
// As moka_session_logits, at the end of the current turn.
MOKA_API moka_status moka_chat_logits(const moka_chat* chat, const float** logits, size_t* count,
                                      moka_error* error);

#ifdef __cplusplus
}
#endif

#endif  // MOKA_C_MOKA_CHAT_H_
