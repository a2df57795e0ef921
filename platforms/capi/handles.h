// What the handles of moka.h are.
//
// Each holds, beside its C++ object, all that the object needs to live, so that users may free their
// handles in any order.
#ifndef MOKA_PLATFORMS_CAPI_HANDLES_H_
#define MOKA_PLATFORMS_CAPI_HANDLES_H_

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "moka.h"
#include "moka/chat.h"
#include "moka/model.h"
#include "moka/sampler.h"
#include "moka/session.h"
#include "moka/tokenizer.h"

namespace moka::capi {

struct OpenedModel {
  Model model;
  std::vector<std::string> class_names;
};
using ModelPtr = std::shared_ptr<const OpenedModel>;

}  // namespace moka::capi

struct moka_model {
  moka::capi::ModelPtr shared;

  const moka::Model& model() const { return shared->model; }
};

struct moka_executor {
  moka::capi::ModelPtr shared;
  moka::Executor executor;
  // Batches in the form of C++, which keep their memory from call to call.
  std::mutex mutex;
  std::vector<moka::SessionSteps> steps;
  std::vector<moka::SessionDraw> draws;

  moka_executor(moka::capi::ModelPtr model, moka::Executor value)
      : shared(std::move(model)), executor(std::move(value)) {}
};

struct moka_sampler {
  moka::Sampler sampler;
};

struct moka_text_stream {
  moka::capi::ModelPtr shared;
  moka::TextStream stream;
};

struct moka_session {
  moka::Session session;  // keeps its model
};

namespace moka::capi {

// border.h's checks for handles and what they hold.
Status need_tokenizer(const moka_model* model);
Result<SamplerOptions> sampling_from(const moka_sampler_options* given, const Model& model);

// The sequence of a pointer, of tokens or of values; `name` begins messages.
struct Steps {
  Span<const TokenId> tokens;
  Span<const float> values;
};
Result<Steps> steps_of(const moka_sequence* sequence, const char* name);
Result<Steps> steps_of(const moka_sequence& sequence, const char* name);
// What a C callback of rows is in C++.
LogitsSink sink_of(moka_rows_fn rows, void* user);

// Options of writing, checked but for what only a chat or a session can refuse.
Status read_generate(const moka_generate_options* given, GenerateOptions* options);

// Puts a new handle into *out; `out` is not null.
template <class T, class... Args>
Status hand_out(T** out, Args&&... args) {
  *out = new (std::nothrow) T{std::forward<Args>(args)...};
  if (*out != nullptr) return Status();
  return Status(StatusCode::kOutOfMemory, "no memory for a handle");
}

// For calls that make something: checks `out` and stores null there first.
template <class T>
Status begin_out(T** out) {
  if (out == nullptr) return Status(StatusCode::kInvalidArgument, "out is NULL");
  *out = nullptr;
  return Status();
}

}  // namespace moka::capi

#endif  // MOKA_PLATFORMS_CAPI_HANDLES_H_
