// moka.h: Moka for C, and for every language that calls C. This header is the manual; with
// moka_session.h, moka_tasks.h and moka_chat.h, which it includes, it has the whole interface. C99.
//
//   moka_error error;
//   moka_model* model = NULL;
//   if (moka_model_open("stories.moka", NULL, &model, &error) != MOKA_OK) {
//     fprintf(stderr, "%s: %s\n", moka_status_name(error.code), error.message);
//   }
//
// Status.  Calls that can fail return a code and take a moka_error last, which may be NULL. After a
//   failure it says in words for people what was wrong and what would be right; after MOKA_OK it is
//   empty. Branch on codes, never on words. No call throws, prints or ends the process. Unless its
//   text says more, a call can fail with MOKA_INVALID_ARGUMENT (NULL where something is needed, an
//   option out of range), MOKA_OUT_OF_MEMORY and MOKA_INTERNAL (a defect of Moka).
// Ownership.  moka_X_create and moka_X_open give a handle, which moka_X_free takes; free takes NULL
//   too. A failed call stores NULL. Objects keep what they need of each other alive, so handles may
//   be freed in any order. Arguments are read during the call only, except where it says so.
// Buffers.  Where a call fills a buffer of the caller's, `capacity` is its size in elements, and
//   *needed, which may be NULL, becomes the number that there are. With fewer than that nothing is
//   written and the call fails with MOKA_OUT_OF_RANGE. With a NULL buffer and capacity 0 it only
//   tells the number, successfully. Both ways nothing else changes.
// Text.  UTF-8 in bytes with a length, and no NUL at the end. `const char*` without a length beside
//   it ends with NUL.
// Structs that begin with struct_size may grow at their end. Options are filled in by their _init
//   function, called with sizeof: it stores struct_size and the defaults. An older, smaller struct
//   is accepted; the defaults stand for what it lacks. A larger one is accepted when what this
//   library does not know is zero, else MOKA_UNSUPPORTED. In structs that are filled in by Moka the
//   caller sets struct_size; no more than that is written, and what is not known becomes zero. Other
//   structs never change. NULL for options means the defaults.
// Switches are int32_t, 0 or 1.
// Threads.  A moka_model, its text functions and a moka_executor: any number of threads. A session,
//   sampler, text stream or chat: one thread at a time, no matter which; moka_session_cancel and
//   moka_chat_cancel come from any thread, or from a signal handler. Free a handle when no call uses
//   it. Callbacks run on the thread that called, must not throw or jump out, and may call nothing
//   that uses the same session, sampler, chat or executor, except for cancel.
#ifndef MOKA_C_MOKA_H_
#define MOKA_C_MOKA_H_

#include <stddef.h>
#include <stdint.h>

// Programs on Windows that use the shared library define MOKA_SHARED.
#if defined(_WIN32) && defined(MOKA_BUILDS_SHARED)
#define MOKA_API __declspec(dllexport)
#elif defined(_WIN32) && defined(MOKA_SHARED)
#define MOKA_API __declspec(dllimport)
#elif !defined(_WIN32) && defined(MOKA_BUILDS_SHARED)
#define MOKA_API __attribute__((visibility("default")))
#else
#define MOKA_API
#endif

// Changes when something is taken away or altered; functions, codes and fields are added without.
// It is the number in the name of the shared library.
#define MOKA_ABI_VERSION 1

#ifdef __cplusplus
extern "C" {
#endif

// ---- status --------------------------------------------------------------------------------------

typedef int32_t moka_status;
enum {  // Appended, never renumbered.
  MOKA_OK = 0,
  MOKA_INVALID_ARGUMENT = 1,  // something was passed that can never work
  MOKA_NOT_FOUND = 2,         // no such file, turn, ...
  MOKA_IO = 3,                // the operating system failed to read or write
  MOKA_CORRUPT = 4,           // the bytes are not what they claim to be
  MOKA_VERSION = 5,           // a format version that this library does not know
  MOKA_UNSUPPORTED = 6,       // valid, but not for this build or this model
  MOKA_OUT_OF_MEMORY = 7,
  MOKA_OUT_OF_RANGE = 8,         // an index, position or size beyond its bound; a buffer too small
  MOKA_FAILED_PRECONDITION = 9,  // the right call at the wrong moment
  MOKA_CANCELLED = 10,           // by cancel, or by a callback
  MOKA_INTERNAL = 11             // a defect of Moka
};

typedef struct moka_error {
  moka_status code;
  char message[1020];  // ends with NUL; a longer one is cut between characters and ends with "..."
} moka_error;

MOKA_API const char* moka_version(void);      // "1.2.3", of the library that runs
MOKA_API uint32_t moka_abi_version(void);     // its MOKA_ABI_VERSION
MOKA_API uint32_t moka_format_version(void);  // of the model files that it reads
// "ok", "invalid_argument", ...; "unknown" for a code that there is none of.
MOKA_API const char* moka_status_name(moka_status code);

// ---- memory --------------------------------------------------------------------------------------

// Where the large buffers come from: packed weights, states of sessions, scratch. `allocate` gives
// `size` bytes (above 0) aligned to `alignment` (a power of two), or NULL when there are none;
// `release` takes them back with their size. Both may be called by any thread at any time.
typedef struct moka_allocator {
  void* (*allocate)(void* user, size_t size, size_t alignment);
  void (*release)(void* user, void* memory, size_t size);
  void* user;
} moka_allocator;

// For the whole process, once, before anything is opened, by a library as well as by the program:
// later, or a second time, it is refused with MOKA_FAILED_PRECONDITION. The struct is copied. Small
// things come from the C++ allocator all the same.
MOKA_API moka_status moka_set_allocator(const moka_allocator* allocator, moka_error* error);

// ---- models --------------------------------------------------------------------------------------

typedef int32_t moka_token;
typedef struct moka_model moka_model;        // an opened file; immutable
typedef struct moka_executor moka_executor;  // threads and scratch that run a model

// Told the share of the work that is done, 0 to 1. Anything but 0 ends the call: MOKA_CANCELLED.
typedef int32_t (*moka_progress_fn)(void* user, double share);

typedef struct moka_executor_options {
  uint32_t struct_size;
  int32_t threads;  // 0, the default: one per core, at most 4; else 1 to 256
  uint32_t chunk;   // tokens of a prompt read at once, 1 to 1024; default 128
} moka_executor_options;
MOKA_API void moka_executor_options_init(moka_executor_options* options, uint32_t struct_size);

typedef struct moka_open_options {
  uint32_t struct_size;
  int32_t threads;  // these two of the model's default executor, as above
  uint32_t chunk;
  // 1: read the whole file and compare it with its checksums before it is used, MOKA_CORRUPT.
  // 0, the default: check the header alone, which takes no time.
  int32_t check_data;
  // Kernels: "scalar", "avx2", "avx512", "neon" or "wasm"; MOKA_UNSUPPORTED where they do not run.
  // NULL, the default: what the environment variable MOKA_ISA names, else the best of this CPU.
  const char* kernels;
  moka_progress_fn progress;  // of check_data; may be NULL
  void* progress_user;
  // What a file may ask of this process, for models that nobody vouches for; 0, the default: what the
  // format itself allows. They are compared before anything of that size is read or allocated:
  // MOKA_OUT_OF_RANGE names the limit, its value and what the file asks.
  uint64_t limit_header_bytes;  // 0: 64 MiB; may be raised up to 2^31 - 1
  uint64_t limit_tensors;       // 0: 1000000; this and the next can only be lowered
  uint64_t limit_vocab_size;    // 0: 2^24
  // Packed weights, the state of one session and the working rows of the default executor, but no
  // mapped pages; 0: no limit.
  uint64_t limit_memory_bytes;
} moka_open_options;
MOKA_API void moka_open_options_init(moka_open_options* options, uint32_t struct_size);

// Maps the file, whose name is UTF-8, checks it and packs its weights. The file may be renamed or
// deleted meanwhile, but must not be overwritten in place. MOKA_NOT_FOUND, MOKA_IO, MOKA_CORRUPT,
// MOKA_VERSION, MOKA_UNSUPPORTED; the message names the part. MOKA_OUT_OF_RANGE: above a limit.
MOKA_API moka_status moka_model_open(const char* path, const moka_open_options* options,
                                     moka_model** out, moka_error* error);
// From memory, which is used in place: it must be aligned to 64 bytes and stay unchanged until the
// model and all that was made from it are freed.
MOKA_API moka_status moka_model_open_memory(const void* bytes, size_t size,
                                            const moka_open_options* options, moka_model** out,
                                            moka_error* error);
// From `length` bytes at `offset` of an open file, or from all of its rest with length 0: a model
// inside a package, as AAsset_openFileDescriptor64 of Android gives it. The descriptor may be closed
// after the call, which neither closes nor moves it. The model is mapped if `offset` is a multiple of
// 64, else read into memory. MOKA_INVALID_ARGUMENT: no regular file; MOKA_OUT_OF_RANGE: it ends
// before; MOKA_UNSUPPORTED on Windows.
MOKA_API moka_status moka_model_open_fd(int fd, uint64_t offset, uint64_t length,
                                        const moka_open_options* options, moka_model** out,
                                        moka_error* error);
MOKA_API void moka_model_free(moka_model* model);

// What a model reads, step by step.
enum {
  MOKA_INPUT_TOKENS = 0,  // a token id
  MOKA_INPUT_VALUES = 1,  // info.features numbers
  MOKA_INPUT_PIXELS = 2   // a grey value; a sequence is an image, row by row
};
// What a row of output is.
enum {
  MOKA_OUTPUT_HIDDEN = 0,      // the hidden state of a step
  MOKA_OUTPUT_LANGUAGE = 1,    // scores of the next token
  MOKA_OUTPUT_CLASSIFIER = 2,  // scores of the classes, for everything read
  MOKA_OUTPUT_PAIR = 3,        // scores of the classes, for two sequences
  MOKA_OUTPUT_REGRESSION = 4,  // [forecast_steps][forecast_outputs][forecast_quantiles] numbers
  MOKA_OUTPUT_EMBEDDING = 5    // a vector for everything read
};

typedef struct moka_model_info {
  uint32_t struct_size;
  int32_t input;          // MOKA_INPUT_...
  int32_t output;         // MOKA_OUTPUT_...
  int32_t causal;         // 1: sessions read it; 0: only whole sequences do (moka_tasks.h)
  int32_t reads_memory;   // 1: it answers from a second sequence, which is read first
  int32_t has_tokenizer;  // 1: it reads text
  uint32_t width;
  uint32_t layers;
  uint32_t vocab_size;  // ids are 0 to vocab_size - 1; 0: it reads no tokens
  uint32_t features;    // floats of a step; 0: it reads tokens
  uint32_t image_width;
  uint32_t image_height;
  uint32_t outputs;  // floats in a row of output
  uint32_t classes;  // of a classifier or pair model, else 0
  // Of a regression head, else 0: steps told at once, numbers per step, and quantiles of each number,
  // 1 when it is the mean.
  uint32_t forecast_steps;
  uint32_t forecast_outputs;
  uint32_t forecast_quantiles;
  int32_t threads;           // of the default executor
  moka_token padding;        // left out by a pooling head; -1: none, as in the next three
  moka_token begin_token;    // of the tokenizer
  moka_token end_token;      // "
  moka_token unknown_token;  // "
  uint64_t parameters;       // numbers in the tensors, shared ones once
  uint64_t weight_bytes;     // of the tensors in the file
  // Memory of a session's state, whatever it has read, and what each token adds to it: 0, except
  // for softmax attention.
  uint64_t state_bytes;
  uint64_t state_bytes_per_token;
  uint64_t position_limit;  // tokens that a session may read; 0: no limit
  uint64_t fingerprint;     // of the file; sessions are restored into an equal one only
  const char* name;         // these three live as long as the model
  const char* architecture;
  const char* kernels;  // those in use
} moka_model_info;
MOKA_API moka_status moka_model_get_info(const moka_model* model, moka_model_info* info,
                                         moka_error* error);
// Of class 0 to info.classes - 1, "0", "1", ... where the file has no names; NULL for others. Lives
// as long as the model.
MOKA_API const char* moka_model_class_name(const moka_model* model, uint32_t index);

// A prefix snapshot: the state behind a text that the file ships, so that sessions and chats begin
// there without reading (`moka snapshot` makes them). moka_session_restore_snapshot uses one, and the
// option `from` of a chat.
typedef struct moka_snapshot {
  uint32_t struct_size;
  int32_t usable;     // 0: it was made with other weights, or does not say which tokens were read
  uint64_t position;  // tokens that were read
  uint64_t bytes;     // of its state in the file
  const char* name;   // this and the text live as long as the model
  const char* text;   // what was read
  size_t text_size;
} moka_snapshot;
MOKA_API size_t moka_model_snapshot_count(const moka_model* model);  // 0 for NULL
// By place, from 0 to the count: MOKA_OUT_OF_RANGE.
MOKA_API moka_status moka_model_snapshot_at(const moka_model* model, size_t index,
                                            moka_snapshot* snapshot, moka_error* error);

// ---- text ----------------------------------------------------------------------------------------
// All of these fail with MOKA_UNSUPPORTED for a model without a tokenizer.

// The ids of a text. parse_special 1: special tokens that stand in it, such as <|endoftext|>, become
// their ids; 0: they are plain text, as they should be in what a stranger wrote. No begin_token or
// end_token is added. MOKA_INVALID_ARGUMENT gives the offset of bytes that the model cannot read.
MOKA_API moka_status moka_model_tokenize(const moka_model* model, const char* text, size_t size,
                                         int32_t parse_special, moka_token* tokens, size_t capacity,
                                         size_t* needed, moka_error* error);
// The bytes of a sequence of ids; control tokens have none. MOKA_OUT_OF_RANGE: no such id.
MOKA_API moka_status moka_model_detokenize(const moka_model* model, const moka_token* tokens,
                                           size_t count, char* text, size_t capacity,
                                           size_t* needed, moka_error* error);
// The bytes of one token, of a special one its name. They live as long as the model, and need not be
// whole characters: streams are for that. MOKA_OUT_OF_RANGE: no such id.
MOKA_API moka_status moka_model_token_text(const moka_model* model, moka_token token,
                                           const char** text, size_t* size, moka_error* error);

// Makes text from tokens as they come, in whole characters.
typedef struct moka_text_stream moka_text_stream;
MOKA_API moka_status moka_text_stream_create(const moka_model* model, moka_text_stream** out,
                                             moka_error* error);
// The text that the token completes, which may be none. Valid until the next call.
MOKA_API moka_status moka_text_stream_push(moka_text_stream* stream, moka_token token,
                                           const char** text, size_t* size, moka_error* error);
// What is left at the end; a character that is not whole becomes U+FFFD. Then it begins afresh.
MOKA_API moka_status moka_text_stream_finish(moka_text_stream* stream, const char** text,
                                             size_t* size, moka_error* error);
MOKA_API void moka_text_stream_free(moka_text_stream* stream);

// ---- executors -----------------------------------------------------------------------------------
// Calls on one executor wait for each other; make more to run side by side. Weights are shared.

MOKA_API moka_status moka_executor_create(const moka_model* model,
                                          const moka_executor_options* options, moka_executor** out,
                                          moka_error* error);
// A handle of the executor that the model has from the start.
MOKA_API moka_status moka_executor_of_model(const moka_model* model, moka_executor** out,
                                            moka_error* error);
MOKA_API int32_t moka_executor_threads(const moka_executor* executor);  // 0 for NULL
MOKA_API uint64_t moka_executor_scratch_bytes(const moka_executor* executor);
MOKA_API void moka_executor_free(moka_executor* executor);

#ifdef __cplusplus
}
#endif

// Each needs those before it.
// clang-format off
#include "moka_session.h"  // IWYU pragma: export
#include "moka_tasks.h"    // IWYU pragma: export
#include "moka_chat.h"     // IWYU pragma: export
// clang-format on

#endif  // MOKA_C_MOKA_H_
