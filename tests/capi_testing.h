// What tests of moka.h share: handles, models in memory, failures to expect.
#ifndef MOKA_TESTS_CAPI_TESTING_H_
#define MOKA_TESTS_CAPI_TESTING_H_

#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <vector>

#include "moka.h"
#include "tests/capi_handles.h"
#include "tests/model_file.h"
#include "tests/spec_builder.h"

namespace moka::test {

// The call succeeds, and says so in `error`, whatever stood there.
#define CAPI_OK(call)                                               \
  do {                                                              \
    moka_error error;                                               \
    std::memset(&error, 0x55, sizeof error);                        \
    const moka_status status = (call);                              \
    REQUIRE_MESSAGE(status == MOKA_OK, std::string(error.message)); \
    CHECK(error.code == MOKA_OK);                                   \
    CHECK(std::string(error.message).empty());                      \
  } while (false)

// The call fails with the code; then `check` looks at the words in `error.message`.
#define CAPI_FAILS_AND(call, expected, check) \
  do {                                        \
    moka_error error;                         \
    std::memset(&error, 0x55, sizeof error);  \
    const moka_status status = (call);        \
    CHECK(status == (expected));              \
    CHECK(error.code == (expected));          \
    check;                                    \
  } while (false)

// The call fails with the code and, word for word, the message.
#define CAPI_FAILS(call, expected, words) \
  CAPI_FAILS_AND(call, expected, CHECK(std::string(error.message) == (words)))

// The same, with a part of the message.
#define CAPI_FAILS_WITH(call, expected, words)                                              \
  CAPI_FAILS_AND(call, expected,                                                            \
                 CHECK_MESSAGE(std::string(error.message).find(words) != std::string::npos, \
                               std::string(error.message)))

// A model, and the file in memory that it stands on.
struct CModel {
  ModelBytes bytes;
  Handle<moka_model> handle;

  moka_model* get() const { return handle.get(); }
};

inline CModel open_test_model(const ModelSpec& spec) {
  CModel model{written(spec), nullptr};
  moka_open_options options;
  moka_open_options_init(&options, sizeof options);
  options.threads = 1;
  moka_model* opened = nullptr;
  CAPI_OK(
      moka_model_open_memory(model.bytes.data(), model.bytes.size(), &options, &opened, &error));
  model.handle.reset(opened);
  return model;
}

// Reads and writes bytes; 260 ids.
inline TestModel byte_language_model(uint32_t position_limit = 0) {
  TestModelOptions options;
  options.vocab_size = 260;
  options.bytes_tokenizer = true;
  if (position_limit != 0) {
    options.positions = PositionKind::kLearned;
    options.max_length = position_limit;
  }
  return make_test_model(options);
}

inline Handle<moka_session> new_session(const moka_model* model,
                                        const moka_executor* executor = nullptr) {
  moka_session* session = nullptr;
  CAPI_OK(moka_session_create(model, executor, &session, &error));
  return Handle<moka_session>(session);
}

inline Handle<moka_sampler> new_sampler(const moka_model* model, float temperature,
                                        uint64_t seed = 1) {
  moka_sampler_options options;
  moka_sampler_options_init(&options, sizeof options, model);
  options.temperature = temperature;
  options.seed = seed;
  moka_sampler* sampler = nullptr;
  CAPI_OK(moka_sampler_create(model, &options, &sampler, &error));
  return Handle<moka_sampler>(sampler);
}

inline std::vector<float> logits_of(const moka_session* session) {
  const float* row = nullptr;
  size_t count = 99;
  CAPI_OK(moka_session_logits(session, &row, &count, &error));
  return std::vector<float>(row, row + count);
}

inline void append(moka_session* session, const std::vector<moka_token>& tokens) {
  CAPI_OK(moka_session_append(session, tokens.data(), tokens.size(), &error));
}

inline std::vector<moka_token> tokens_of(const std::string& text) {
  std::vector<moka_token> tokens;
  for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
  return tokens;
}

}  // namespace moka::test

#endif  // MOKA_TESTS_CAPI_TESTING_H_
