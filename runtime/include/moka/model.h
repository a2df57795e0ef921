// Model: an opened .moka file. Executor: threads, operators and scratch that run it.
//
// A Model is a cheap handle to immutable, reference-counted data; any number of threads may use it.
// An Executor runs one call at a time and locks itself, so sessions on several threads may share
// one; make more Executors to run calls side by side. Packed weights belong to the Model and are
// shared by all its Executors.
#ifndef MOKA_MODEL_H_
#define MOKA_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "moka/sampler.h"
#include "moka/span.h"
#include "moka/status.h"
#include "moka/tokenizer.h"

namespace moka {

class Session;
struct SessionSteps;  // session.h
struct SessionDraw;   // session.h
struct Profile;       // profile.h
struct ModelSpec;     // runtime/model_spec.h: the model as data
struct ModelData;     // runtime/model_data.h
class ExecutorImpl;

struct ExecutorOptions {
  int threads = 0;       // 0: one per core, at most 4
  uint32_t chunk = 128;  // prompt tokens read at once, 1 to 1024
};

// What a model may ask of this process, for files that nobody vouches for. Checked before anything of
// that size is read or allocated; kOutOfRange names the limit, its value and what the model asks.
// What the format itself allows is the default: tensors and vocab_size can be lowered but not raised,
// header_bytes may be raised up to 2^31 - 1.
struct ModelLimits {
  uint64_t header_bytes = uint64_t{64} << 20;  // the copies made of a header never exceed its size
  uint64_t tensors = 1000000;
  uint64_t vocab_size = uint64_t{1} << 24;
  // Packed copies of weights, the state of one session and the working rows of the default Executor
  // together, mapped pages and the header's copies not counted; 0: no limit.
  uint64_t memory_bytes = 0;
};

struct OpenOptions {
  ExecutorOptions executor;  // of the model's default Executor
  ModelLimits limits;
  const char* isa =
      nullptr;  // "scalar", "avx2", "avx512", "neon", "wasm"; null: MOKA_ISA, else the best here
  // Reads all of the file and compares it with its checksums before anything of it is used: kCorrupt.
  // Without it only the header is checked, and opening does not wait for the disk.
  bool check_data = false;
  // Told the share of that check that is done, 0 to 1; false ends the call with kCancelled.
  std::function<bool(double)> progress;
};

// What a model reads, one step at a time.
enum class InputKind : uint8_t {
  kTokens,  // a token id
  kValues,  // `features` numbers
  kPixels,  // a grey value; a sequence is one image of image_width x image_height, row by row
};

// What a row of output is.
enum class OutputKind : uint8_t {
  kHidden,      // the hidden state of a step
  kLanguage,    // scores of the next token
  kClassifier,  // scores of the classes, for everything read
  kPair,        // scores of the classes, for two sequences
  kRegression,  // [steps][outputs][quantiles] numbers about the steps that follow
  kEmbedding,   // a vector for everything read
};

// A session's state behind a fixed prefix, which the file ships: Model::new_session_from().
struct SnapshotInfo {
  std::string name;
  uint64_t tokens = 0;  // read by it
  uint64_t bytes = 0;   // in the file
};

struct ModelInfo {
  std::string name;
  std::string architecture;  // "macchiato language model, 8 layers of width 384"
  uint32_t width = 0;        // D
  uint32_t layers = 0;
  InputKind input = InputKind::kTokens;
  uint32_t vocab_size = 0;                     // 0 for models that do not read tokens
  uint32_t features = 0;                       // floats in a step; 0 for models that read tokens
  uint32_t image_width = 0, image_height = 0;  // of models that read images, as pixels or tokens
  OutputKind output = OutputKind::kHidden;
  uint32_t outputs = 0;       // floats in a row of output
  int32_t pad_id = -1;        // a token that a pooling head leaves out; -1: none
  bool causal = false;        // sessions can read it; otherwise whole sequences only (reading.h)
  bool reads_memory = false;  // answers from a second sequence that is read first
  uint64_t parameters = 0;    // numbers in the tensors, shared ones once
  uint64_t weight_bytes = 0;  // of the tensors in the file
  uint64_t state_bytes = 0;   // memory of one session's state, whatever it has read
  uint64_t state_bytes_per_token =
      0;                        // what each token adds to it: 0, except for softmax attention
  uint64_t position_limit = 0;  // tokens a session may read; 0: no limit
  // Of the file; sessions are restored only into an equal one. Adding and removing snapshots keeps it.
  uint64_t fingerprint = 0;
  std::vector<SnapshotInfo> snapshots;
  const char* isa = "";         // kernel table in use
  int threads = 0;              // of the default Executor
  SamplerOptions sampling;      // recommended by the model's author
};

class Executor {
 public:
  Executor() = default;
  // Bytes of scratch memory, packed weights not counted.
  size_t scratch_bytes() const;
  int threads() const;
  uint32_t chunk() const;  // prompt tokens read at once

  // Many sessions through one read of the weights, see session.h.
  Status append(Span<const SessionSteps> batch, size_t* culprit = nullptr) const;
  Status step(Span<SessionDraw> batch, size_t* culprit = nullptr) const;

  // Records where the time of all further calls goes, up to so many spans of each thread (1 to 2^24);
  // what an earlier start recorded is lost. kOutOfMemory.
  Status start_profile(size_t spans_per_thread = 65536) const;
  // Ends the recording and hands it over; empty when there was none.
  Profile stop_profile() const;

 private:
  friend class Model;
  friend class Session;
  friend struct ExecutorAccess;
  explicit Executor(std::shared_ptr<ExecutorImpl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<ExecutorImpl> impl_;
};

class Model {
 public:
  // Maps and checks the file, packs its weights, makes the default Executor.
  // kNotFound, kIo, kCorrupt, kVersion, kUnsupported (the message names the member), kOutOfMemory,
  // kOutOfRange (the message names the limit).
  static Result<Model> open(const std::string& path, const OpenOptions& options = {});
  // The same from memory, which must outlive the Model and be 64-byte aligned.
  static Result<Model> open_memory(Span<const uint8_t> bytes, const OpenOptions& options = {});
  // The model that lies in an open file from `offset` on, in `length` bytes or, with 0, in all the
  // rest: one inside a package, such as an asset of an app. The descriptor stays open and may be closed
  // at once. Mapped where `offset` is a multiple of 64, else read into memory. `name` begins messages.
  // kInvalidArgument: no descriptor of a regular file; kOutOfRange: the file ends before. POSIX only.
  static Result<Model> open_descriptor(int descriptor, uint64_t offset, uint64_t length,
                                       const std::string& name, const OpenOptions& options = {});
  // From a specification whose tensors point at memory that outlives the Model.
  static Result<Model> from_spec(ModelSpec spec, const OpenOptions& options = {});

  const ModelInfo& info() const;
  const ModelSpec& spec() const;
  bool has_tokenizer() const;
  const Tokenizer& tokenizer() const;  // only when has_tokenizer()
  const Executor& executor() const;    // the default one

  Result<Executor> new_executor(const ExecutorOptions& options) const;
  // A session on the default Executor, or on `executor`, which must be of this model.
  // kFailedPrecondition for models that are not info().causal, and for pair models: reading.h.
  Result<Session> new_session() const;
  Result<Session> new_session(const Executor& executor) const;
  // A session that has read the prefix of a snapshot of the file, without reading it: see
  // Session::restore_snapshot for bits, cost and errors.
  Result<Session> new_session_from(std::string_view snapshot) const;
  Result<Session> new_session_from(std::string_view snapshot, const Executor& executor) const;

 private:
  friend class Session;
  static Result<Model> finish_open(std::shared_ptr<ModelData> data, const OpenOptions& options,
                                   const std::string& where);
  explicit Model(std::shared_ptr<const ModelData> data, Executor executor)
      : data_(std::move(data)), executor_(std::move(executor)) {}
  std::shared_ptr<const ModelData> data_;
  Executor executor_;
};

}  // namespace moka

#endif  // MOKA_MODEL_H_
