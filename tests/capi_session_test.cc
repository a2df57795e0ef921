// Sessions, samplers and batches through moka.h: the same numbers as in C++, and every refusal.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <string>
#include <thread>
#include <vector>

#include "moka/session.h"
#include "tests/allocation_counter.h"
#include "tests/capi_testing.h"
#include "tests/task_models.h"
#include "tests/temp_folder.h"

namespace moka::test {
namespace {

std::vector<uint8_t> saved(const moka_session* session) {
  size_t needed = 0;
  CAPI_OK(moka_session_save(session, nullptr, 0, &needed, &error));
  std::vector<uint8_t> bytes(needed);
  CAPI_OK(moka_session_save(session, bytes.data(), bytes.size(), &needed, &error));
  CHECK(needed == bytes.size());
  return bytes;
}

std::vector<moka_token> steps(moka_session* session, moka_sampler* sampler, int count) {
  std::vector<moka_token> tokens;
  for (int i = 0; i < count; ++i) {
    moka_token token = -1;
    CAPI_OK(moka_session_step(session, sampler, &token, &error));
    tokens.push_back(token);
  }
  return tokens;
}

}  // namespace

TEST_CASE("capi: a session reads and writes what one of C++ does") {
  CModel model = open_test_model(byte_language_model().spec);
  const Handle<moka_session> session = new_session(model.get());
  const Handle<moka_sampler> sampler = new_sampler(model.get(), 0.9f, 7);
  CHECK(logits_of(session.get()).empty());
  append(session.get(), tokens_of("a prompt"));
  CHECK(moka_session_position(session.get()) == 8);
  CHECK(moka_session_memory_position(session.get()) == 0);

  const Result<Model> same = Model::open_memory(model.bytes.bytes());
  REQUIRE(same.ok());
  Result<Session> expected = same.value().new_session();
  REQUIRE(expected.value().append(tokens_of("a prompt")).ok());
  SamplerOptions options = same.value().info().sampling;
  options.temperature = 0.9f;
  options.seed = 7;
  Result<Sampler> drawing = Sampler::create(options, 260);
  model.handle.reset();  // the session and the sampler go on without it
  for (const moka_token token : steps(session.get(), sampler.get(), 20)) {
    CHECK(token == expected.value().step(drawing.value()).value());
  }
  const Span<const float> row = expected.value().logits();
  CHECK(logits_of(session.get()) == std::vector<float>(row.begin(), row.end()));
  moka_session_reset(session.get());
  CHECK(moka_session_position(session.get()) == 0);
}

TEST_CASE("capi: a session and its sampler step without allocating") {
  if (!counts_allocations()) {
    MESSAGE("skipped: allocations are not counted here");
    return;
  }
  const CModel model = open_test_model(byte_language_model().spec);
  const Handle<moka_session> session = new_session(model.get());
  const Handle<moka_sampler> sampler = new_sampler(model.get(), 1.0f);
  append(session.get(), tokens_of("abc"));
  moka_token token = -1;
  moka_session_step(session.get(), sampler.get(), &token, nullptr);
  const uint64_t before = allocations();
  for (int i = 0; i < 20; ++i) moka_session_step(session.get(), sampler.get(), &token, nullptr);
  CHECK(allocations() == before);
}

TEST_CASE("capi: forks, saved bytes and files go on alike") {
  const TempFolder folder;
  const CModel model = open_test_model(byte_language_model().spec);
  const Handle<moka_session> session = new_session(model.get());
  append(session.get(), tokens_of("once upon"));
  moka_session* forked = nullptr;
  CAPI_OK(moka_session_fork(session.get(), &forked, &error));
  const Handle<moka_session> fork(forked);
  const std::vector<uint8_t> bytes = saved(session.get());
  const std::string path = folder.file("session");
  CAPI_OK(moka_session_save_file(session.get(), path.c_str(), &error));

  const Handle<moka_session> from_bytes = new_session(model.get());
  CAPI_OK(moka_session_restore(from_bytes.get(), bytes.data(), bytes.size(), &error));
  const Handle<moka_session> from_file = new_session(model.get());
  CAPI_OK(moka_session_restore_file(from_file.get(), path.c_str(), &error));
  append(session.get(), tokens_of(" a time"));
  for (moka_session* other : {fork.get(), from_bytes.get(), from_file.get()}) {
    CHECK(moka_session_position(other) == 9);
    append(other, tokens_of(" a time"));
    CHECK(logits_of(other) == logits_of(session.get()));
  }

  std::vector<uint8_t> small(bytes.size() - 1, 0x55);
  size_t needed = 0;
  CAPI_FAILS(moka_session_save(fork.get(), small.data(), small.size(), &needed, &error),
             MOKA_OUT_OF_RANGE,
             "bytes has room for " + std::to_string(small.size()) + " elements, needed are " +
                 std::to_string(needed));
  CHECK(small == std::vector<uint8_t>(small.size(), 0x55));
  std::vector<uint8_t> damaged = bytes;
  damaged[damaged.size() / 2] ^= 1;
  CHECK(moka_session_restore(fork.get(), damaged.data(), damaged.size(), nullptr) == MOKA_CORRUPT);
  CHECK(moka_session_restore(fork.get(), nullptr, 5, nullptr) == MOKA_INVALID_ARGUMENT);
  CHECK(logits_of(fork.get()) == logits_of(session.get()));
  CAPI_FAILS_WITH(moka_session_restore_file(fork.get(), folder.file("none").c_str(), &error),
                  MOKA_NOT_FOUND, "none: cannot open");
}

TEST_CASE("capi: sessions refuse what the model does not read") {
  const CModel model = open_test_model(byte_language_model(8).spec);
  const Handle<moka_session> session = new_session(model.get());
  const Handle<moka_sampler> sampler = new_sampler(model.get(), 0.0f);
  const moka_token wrong = 260;
  CAPI_FAILS_WITH(moka_session_append(session.get(), &wrong, 1, &error), MOKA_OUT_OF_RANGE, "260");
  CAPI_FAILS(moka_session_append(session.get(), nullptr, 3, &error), MOKA_INVALID_ARGUMENT,
             "tokens is NULL, but has 3 elements");
  CAPI_OK(moka_session_append(session.get(), nullptr, 0, &error));
  const float value = 1.0f;
  CHECK(moka_session_append_values(session.get(), &value, 1, nullptr) == MOKA_INVALID_ARGUMENT);
  moka_token token = -1;
  CAPI_FAILS_WITH(moka_session_step(session.get(), sampler.get(), &token, &error),
                  MOKA_FAILED_PRECONDITION, "nothing was read yet");
  const std::vector<moka_token> nine(9, 'a');
  CAPI_FAILS_WITH(moka_session_append(session.get(), nine.data(), 9, &error), MOKA_OUT_OF_RANGE,
                  "8");
  const moka_sequence both = {nine.data(), 2, &value, 1};
  CAPI_FAILS(moka_session_append_memory(session.get(), &both, &error), MOKA_INVALID_ARGUMENT,
             "memory has tokens and values; a model reads one of them");
  CAPI_FAILS(moka_session_append_memory(session.get(), nullptr, &error), MOKA_INVALID_ARGUMENT,
             "memory is NULL");
  const moka_sequence some = {nine.data(), 2, nullptr, 0};
  CAPI_FAILS(moka_session_append_memory(session.get(), &some, &error), MOKA_INVALID_ARGUMENT,
             "the model reads one sequence; it has no memory");
  CHECK(moka_session_position(session.get()) == 0);

  moka_session* none = session.get();
  CAPI_FAILS(moka_session_create(nullptr, nullptr, &none, &error), MOKA_INVALID_ARGUMENT,
             "model is NULL");
  CHECK(none == nullptr);
  const CModel ahead = open_test_model(image_model(false).spec);
  CAPI_FAILS_WITH(moka_session_create(ahead.get(), nullptr, &none, &error),
                  MOKA_FAILED_PRECONDITION, "the model sees ahead");
  moka_executor* executor = nullptr;
  CAPI_OK(moka_executor_of_model(ahead.get(), &executor, &error));
  const Handle<moka_executor> of_other(executor);
  CAPI_FAILS(moka_session_create(model.get(), executor, &none, &error), MOKA_INVALID_ARGUMENT,
             "the executor was made by another model");

  for (const moka_status status :
       {moka_session_append(nullptr, nullptr, 0, nullptr),
        moka_session_step(nullptr, sampler.get(), &token, nullptr),
        moka_session_step(session.get(), nullptr, &token, nullptr),
        moka_session_step(session.get(), sampler.get(), nullptr, nullptr),
        moka_session_fork(nullptr, &none, nullptr),
        moka_session_fork(session.get(), nullptr, nullptr),
        moka_session_save(nullptr, nullptr, 0, nullptr, nullptr),
        moka_session_save_file(session.get(), nullptr, nullptr),
        moka_session_restore_file(nullptr, "a", nullptr),
        moka_session_append_rows(session.get(), &some, nullptr, nullptr, nullptr)}) {
    CHECK(status == MOKA_INVALID_ARGUMENT);
  }
  CHECK(moka_session_position(nullptr) == 0);
  moka_session_cancel(nullptr);
  moka_session_reset(nullptr);
  moka_session_free(nullptr);
}

TEST_CASE("capi: rows of output, and values, and a memory") {
  const CModel model = open_test_model(byte_language_model().spec);
  const Handle<moka_session> session = new_session(model.get());
  const std::vector<moka_token> tokens = tokens_of("rows");
  const moka_sequence sequence = {tokens.data(), tokens.size(), nullptr, 0};
  struct Rows {
    std::vector<std::vector<float>> rows;
    size_t most = 99;
  } got;
  const auto take = [](void* user, size_t first, size_t rows, const float* output,
                       size_t stride) -> int32_t {
    Rows& all = *static_cast<Rows*>(user);
    CHECK(first == all.rows.size());
    for (size_t i = 0; i < rows; ++i) {
      all.rows.emplace_back(output + i * stride, output + i * stride + 260);
    }
    return all.rows.size() > all.most ? 1 : 0;
  };
  got.most = 2;
  CAPI_FAILS(moka_session_append_rows(session.get(), &sequence, take, &got, &error), MOKA_CANCELLED,
             "the callback of the rows ended the call");
  CHECK(moka_session_position(session.get()) == 0);
  got = Rows();
  CAPI_OK(moka_session_append_rows(session.get(), &sequence, take, &got, &error));
  REQUIRE(got.rows.size() == 4);
  CHECK(got.rows[3] == logits_of(session.get()));

  const CModel numbers = open_test_model(forecast_model(2, 3, {}).spec);
  const Handle<moka_session> series = new_session(numbers.get());
  const std::vector<float> values = some_values(8);
  CAPI_OK(moka_session_append_values(series.get(), values.data(), values.size(), &error));
  CHECK(moka_session_position(series.get()) == 4);
  CHECK(logits_of(series.get()).size() == 6);
  CHECK(moka_session_append_values(series.get(), values.data(), 3, nullptr) ==
        MOKA_INVALID_ARGUMENT);

  const CModel answers = open_test_model(memory_model(true).spec);
  const Handle<moka_session> question = new_session(answers.get());
  CHECK(moka_session_append(question.get(), tokens.data(), 1, nullptr) == MOKA_FAILED_PRECONDITION);
  CAPI_OK(moka_session_append_memory(question.get(), &sequence, &error));
  CHECK(moka_session_memory_position(question.get()) == 4);
  append(question.get(), tokens);
}

TEST_CASE("capi: samplers") {
  const CModel model = open_test_model(byte_language_model().spec);
  moka_sampler_options options;
  moka_sampler_options_init(&options, sizeof options, model.get());
  std::vector<moka_logit_bias> bias;
  for (moka_token token = 0; token < 260; ++token) {
    if (token != 'x') bias.push_back({token, -INFINITY});
  }
  options.bias = bias.data();
  options.bias_count = static_cast<uint32_t>(bias.size());
  moka_sampler* created = nullptr;
  CAPI_OK(moka_sampler_create(model.get(), &options, &created, &error));
  const Handle<moka_sampler> only_x(created);
  const std::vector<float> logits(260, 0.5f);
  moka_token token = -1;
  CAPI_OK(moka_sampler_sample(only_x.get(), logits.data(), logits.size(), &token, &error));
  CHECK(token == 'x');
  CHECK(moka_sampler_sample(only_x.get(), logits.data(), 259, &token, nullptr) ==
        MOKA_INVALID_ARGUMENT);

  // Generator and recent tokens come back.
  const Handle<moka_sampler> first = new_sampler(model.get(), 1.0f, 3);
  const Handle<moka_sampler> second = new_sampler(model.get(), 1.0f, 3);
  const std::vector<moka_token> recent = tokens_of("recent");
  CAPI_OK(moka_sampler_accept(first.get(), recent.data(), recent.size(), &error));
  moka_sampler_sample(first.get(), logits.data(), 260, &token, nullptr);
  size_t needed = 0;
  CAPI_OK(moka_sampler_save(first.get(), nullptr, 0, &needed, &error));
  std::vector<uint8_t> bytes(needed);
  CAPI_OK(moka_sampler_save(first.get(), bytes.data(), needed, nullptr, &error));
  CAPI_OK(moka_sampler_restore(second.get(), bytes.data(), bytes.size(), &error));
  for (int i = 0; i < 10; ++i) {
    moka_token other = -2;
    moka_sampler_sample(first.get(), logits.data(), 260, &token, nullptr);
    moka_sampler_sample(second.get(), logits.data(), 260, &other, nullptr);
    CHECK(token == other);
  }
  CHECK(moka_sampler_restore(second.get(), bytes.data(), 3, nullptr) == MOKA_CORRUPT);
  moka_sampler_reset(second.get());
  moka_sampler_reset(nullptr);

  options.temperature = -1;
  CAPI_FAILS_WITH(moka_sampler_create(model.get(), &options, &created, &error),
                  MOKA_INVALID_ARGUMENT, "temperature");
  CHECK(created == nullptr);
  options.temperature = 1;
  options.bias = nullptr;
  CAPI_FAILS(moka_sampler_create(model.get(), &options, &created, &error), MOKA_INVALID_ARGUMENT,
             "bias is NULL, but has 259 elements");
  CHECK(moka_sampler_create(nullptr, nullptr, &created, nullptr) == MOKA_INVALID_ARGUMENT);
  CAPI_OK(moka_sampler_create(model.get(), nullptr, &created, &error));  // the author's
  moka_sampler_free(created);
}

TEST_CASE("capi: cancel from another thread") {
  const CModel model = open_test_model(byte_language_model().spec);
  const Handle<moka_session> session = new_session(model.get());
  append(session.get(), tokens_of("before"));
  const std::vector<float> before = logits_of(session.get());
  std::atomic<bool> over{false};
  std::thread other([&] {
    while (!over.load()) {
      moka_session_cancel(session.get());
      std::this_thread::yield();
    }
  });
  // Longer than the test may take, were it not cancelled.
  const std::vector<moka_token> many(10000000, 'a');
  moka_error error;
  const moka_status status = moka_session_append(session.get(), many.data(), many.size(), &error);
  over.store(true);
  other.join();
  CHECK(status == MOKA_CANCELLED);
  CHECK(std::string(error.message).find("cancelled") == 0);
  CHECK(moka_session_position(session.get()) == 6);
  CHECK(logits_of(session.get()) == before);
}

TEST_CASE("capi: batches move all sessions or none") {
  const CModel model = open_test_model(byte_language_model().spec);
  moka_executor_options options;
  moka_executor_options_init(&options, sizeof options);
  options.threads = 2;
  moka_executor* created = nullptr;
  CAPI_OK(moka_executor_create(model.get(), &options, &created, &error));
  const Handle<moka_executor> executor(created);
  CHECK(moka_executor_threads(created) == 2);
  CHECK(moka_executor_scratch_bytes(created) > 0);

  const std::vector<std::string> prompts = {"one", "another", "a third"};
  std::vector<std::vector<moka_token>> tokens;
  std::vector<Handle<moka_session>> sessions, alone;
  std::vector<Handle<moka_sampler>> samplers, lone_samplers;
  std::vector<moka_batch_append> batch;
  std::vector<moka_batch_step> draws;
  for (const std::string& prompt : prompts) tokens.push_back(tokens_of(prompt));
  for (size_t i = 0; i < prompts.size(); ++i) {
    sessions.push_back(new_session(model.get(), executor.get()));
    alone.push_back(new_session(model.get(), executor.get()));
    samplers.push_back(new_sampler(model.get(), 1.0f, i));
    lone_samplers.push_back(new_sampler(model.get(), 1.0f, i));
    append(alone[i].get(), tokens[i]);
    batch.push_back({sessions[i].get(), {tokens[i].data(), tokens[i].size(), nullptr, 0}});
    draws.push_back({sessions[i].get(), samplers[i].get(), -1, 0});
  }
  size_t culprit = 99;
  CAPI_OK(moka_executor_append(executor.get(), batch.data(), batch.size(), &culprit, &error));
  CHECK(culprit == 3);
  for (int round = 0; round < 5; ++round) {
    CAPI_OK(moka_executor_step(executor.get(), draws.data(), draws.size(), nullptr, &error));
    for (size_t i = 0; i < draws.size(); ++i) {
      CHECK(draws[i].token == steps(alone[i].get(), lone_samplers[i].get(), 1)[0]);
    }
  }
  for (size_t i = 0; i < draws.size(); ++i) {
    CHECK(logits_of(sessions[i].get()) == logits_of(alone[i].get()));
  }

  const moka_token wrong = -5;
  batch[1].steps.tokens = &wrong;
  batch[1].steps.token_count = 1;
  CAPI_FAILS_WITH(moka_executor_append(executor.get(), batch.data(), 3, &culprit, &error),
                  MOKA_OUT_OF_RANGE, "session 1: ");
  CHECK(culprit == 1);
  batch[2].steps.tokens = nullptr;
  batch[1].steps.token_count = 0;
  CAPI_FAILS(moka_executor_append(executor.get(), batch.data(), 3, &culprit, &error),
             MOKA_INVALID_ARGUMENT, "session 2: steps.tokens is NULL, but has 7 elements");
  CHECK(culprit == 2);
  draws[2].sampler = nullptr;
  CAPI_FAILS_WITH(moka_executor_step(executor.get(), draws.data(), 3, &culprit, &error),
                  MOKA_INVALID_ARGUMENT, "session 2: ");
  CHECK(culprit == 2);
  draws[0].session = nullptr;
  CHECK(moka_executor_step(executor.get(), draws.data(), 3, &culprit, nullptr) ==
        MOKA_INVALID_ARGUMENT);
  CHECK(culprit == 0);
  for (size_t i = 0; i < draws.size(); ++i) {
    CHECK(logits_of(sessions[i].get()) == logits_of(alone[i].get()));
  }
  CHECK(moka_executor_step(nullptr, draws.data(), 3, nullptr, nullptr) == MOKA_INVALID_ARGUMENT);
  CHECK(moka_executor_append(executor.get(), nullptr, 3, nullptr, nullptr) ==
        MOKA_INVALID_ARGUMENT);
  CHECK(moka_executor_threads(nullptr) == 0);
  CHECK(moka_executor_scratch_bytes(nullptr) == 0);
}

}  // namespace moka::test
