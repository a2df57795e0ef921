// moka_session_generate: where writing ends, what is given out, what stays after a failure.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "tests/capi_testing.h"
#include "tests/task_models.h"

namespace moka::test {
namespace {

// A session behind a prompt, a sampler, and the text that comes.
struct Writer {
  explicit Writer(const CModel& model, const std::string& prompt = "once", uint64_t seed = 5)
      : session(new_session(model.get())), sampler(new_sampler(model.get(), 1.0f, seed)) {
    append(session.get(), tokens_of(prompt));
    moka_generate_options_init(&options, sizeof options);
    options.stop_at_end = 0;
    options.on_text = [](void* user, const char* piece, size_t size) -> int32_t {
      Writer& writer = *static_cast<Writer*>(user);
      writer.text.append(piece, size);
      if (writer.pieces++ == writer.cancel_at) moka_session_cancel(writer.session.get());
      return writer.pieces > writer.most ? 1 : 0;
    };
    options.user = this;
    result.struct_size = sizeof result;
  }

  moka_status run(moka_error* error) {
    return moka_session_generate(session.get(), sampler.get(), &options, &result, error);
  }
  moka_status check(moka_error* error) {
    return moka_session_check_generate(session.get(), &options, error);
  }

  Handle<moka_session> session;
  Handle<moka_sampler> sampler;
  moka_generate_options options;
  moka_generate_result result{};
  std::string text;
  int pieces = 0, most = 1 << 30, cancel_at = -1;
};

// The tokens of 30 single steps: what every call below has to write a part of.
std::vector<moka_token> plain_steps(const CModel& model) {
  const Writer writer(model);
  std::vector<moka_token> tokens(30);
  for (moka_token& token : tokens) {
    CAPI_OK(moka_session_step(writer.session.get(), writer.sampler.get(), &token, &error));
  }
  return tokens;
}

void check_same_place(const Writer& writer, const CModel& model,
                      const std::vector<moka_token>& tokens, size_t count) {
  Writer fresh(model);
  for (size_t i = 0; i < count; ++i) append(fresh.session.get(), {tokens[i]});
  CHECK(logits_of(writer.session.get()) == logits_of(fresh.session.get()));
}

}  // namespace

TEST_CASE("capi: writing ends at its budget, and its text is that of the tokens") {
  const CModel model = open_test_model(byte_language_model().spec);
  const std::vector<moka_token> tokens = plain_steps(model);
  Writer writer(model);
  writer.options.max_tokens = 30;
  CAPI_OK(writer.run(&error));
  CHECK(writer.result.end == MOKA_END_TOKENS);
  CHECK(writer.result.tokens == 30);
  check_same_place(writer, model, tokens, 30);

  moka_text_stream* created = nullptr;
  CAPI_OK(moka_text_stream_create(model.get(), &created, &error));
  const Handle<moka_text_stream> stream(created);
  std::string expected;
  const char* text = nullptr;
  size_t size = 0;
  for (const moka_token token : tokens) {
    CAPI_OK(moka_text_stream_push(stream.get(), token, &text, &size, &error));
    expected.append(text, size);
  }
  CAPI_OK(moka_text_stream_finish(stream.get(), &text, &size, &error));
  expected.append(text, size);
  CHECK(writer.text == expected);
  CHECK(!expected.empty());
}

TEST_CASE("capi: writing ends at a token, at a text and at the callback's word") {
  const CModel model = open_test_model(byte_language_model().spec);
  const std::vector<moka_token> tokens = plain_steps(model);
  {
    Writer writer(model);
    const size_t place =
        static_cast<size_t>(std::find(tokens.begin(), tokens.end(), tokens[20]) - tokens.begin());
    writer.options.stop_tokens = &tokens[20];
    writer.options.stop_token_count = 1;
    CAPI_OK(writer.run(&error));
    CHECK(writer.result.end == MOKA_END_STOP_TOKEN);
    CHECK(writer.result.tokens == place);
    check_same_place(writer, model, tokens, place);
  }
  {
    // Printable bytes, so that text and tokens are the same.
    Writer first(model);
    first.options.max_tokens = 30;
    CAPI_OK(first.run(&error));
    const size_t half = first.text.size() / 2;
    const size_t from = first.text.find_first_not_of("\xef\xbf\xbd", half);
    REQUIRE(from != std::string::npos);
    const std::string stop = first.text.substr(from, 1);
    const char* stops[] = {"never written, surely", stop.c_str()};
    Writer writer(model);
    writer.options.stop_texts = stops;
    writer.options.stop_text_count = 2;
    if (static_cast<unsigned char>(stop[0]) < 0x80) {
      CAPI_OK(writer.run(&error));
      CHECK(writer.result.end == MOKA_END_STOP_TEXT);
      CHECK(writer.text == first.text.substr(0, first.text.find(stop)));
    }
  }
  {
    Writer writer(model);
    writer.most = 3;
    CAPI_OK(writer.run(&error));
    CHECK(writer.result.end == MOKA_END_CALLBACK);
    CHECK(writer.pieces == 4);  // and is not asked again
    check_same_place(writer, model, tokens, static_cast<size_t>(writer.result.tokens));
  }
}

TEST_CASE("capi: writing that goes round in circles ends") {
  // All scores are 0, so the greedy choice is token 0 for ever.
  TestModel same = byte_language_model();
  const Tensor& scale = *same.spec.tensor(same.spec.final_norm.scale);
  std::memset(const_cast<void*>(scale.data), 0, static_cast<size_t>(scale.size));
  const CModel model = open_test_model(same.spec);
  for (const uint64_t guard : {256, 16, 0}) {
    Writer writer(model);
    writer.sampler = new_sampler(model.get(), 0.0f, 5);
    CHECK(writer.options.loop_tokens == 256);
    writer.options.loop_tokens = guard;
    writer.options.max_tokens = 300;
    CAPI_OK(writer.run(&error));
    CHECK(writer.result.end == (guard != 0 ? MOKA_END_LOOP : MOKA_END_TOKENS));
    CHECK(writer.result.tokens == (guard != 0 ? guard : 300));
  }
  Writer writer(model);
  writer.options.loop_tokens = 65537;
  moka_error error;
  CHECK(writer.run(&error) == MOKA_INVALID_ARGUMENT);
  CHECK(std::string(error.message) == "loop_tokens is 65537, must be at most 65536");
}

TEST_CASE("capi: writing ends at the position limit, and in time") {
  const CModel model = open_test_model(byte_language_model(10).spec);
  Writer writer(model);
  CAPI_OK(writer.run(&error));
  CHECK(writer.result.end == MOKA_END_POSITION);
  CHECK(writer.result.tokens == 6);
  CHECK(moka_session_position(writer.session.get()) == 10);

  const CModel endless = open_test_model(byte_language_model().spec);
  Writer timed(endless);
  timed.options.max_tokens = UINT64_MAX;
  timed.options.max_ms = 20;
  CAPI_OK(timed.run(&error));
  CHECK(timed.result.end == MOKA_END_TIME);
  CHECK(timed.result.tokens > 0);
}

TEST_CASE("capi: cancelled writing keeps whole tokens, and its sampler") {
  const CModel model = open_test_model(byte_language_model().spec);
  const std::vector<moka_token> tokens = plain_steps(model);
  Writer writer(model);
  writer.cancel_at = 4;
  writer.options.max_tokens = 30;
  CAPI_FAILS(writer.run(&error), MOKA_CANCELLED, "cancelled before the first token was read");
  CHECK(writer.result.end == MOKA_END_NONE);
  const size_t read = static_cast<size_t>(writer.result.tokens);
  CHECK(read >= 5);
  CHECK(read < 30);
  check_same_place(writer, model, tokens, read);
  // The draw that was not read is drawn again: the text goes on as if nothing had happened.
  writer.options.max_tokens = 30 - read;
  CAPI_OK(writer.run(&error));
  check_same_place(writer, model, tokens, 30);
}

TEST_CASE("capi: writing refuses what cannot be") {
  const CModel model = open_test_model(byte_language_model().spec);
  Writer writer(model);
  writer.options.max_tokens = 0;
  CAPI_FAILS(writer.run(&error), MOKA_INVALID_ARGUMENT, "max_tokens is 0, must be at least 1");
  writer.options.max_tokens = 1;
  const moka_token wrong = 260;
  writer.options.stop_tokens = &wrong;
  writer.options.stop_token_count = 1;
  CAPI_FAILS(writer.run(&error), MOKA_OUT_OF_RANGE, "stop_tokens[0] is 260, ids are 0 to 259");
  CAPI_FAILS(writer.check(&error), MOKA_OUT_OF_RANGE, "stop_tokens[0] is 260, ids are 0 to 259");
  writer.options.stop_tokens = nullptr;
  CAPI_FAILS(writer.run(&error), MOKA_INVALID_ARGUMENT, "stop_tokens is NULL, but has 1 elements");
  writer.options.stop_token_count = 0;
  const char* stops[] = {"a", nullptr};
  writer.options.stop_texts = stops;
  writer.options.stop_text_count = 2;
  CAPI_FAILS(writer.run(&error), MOKA_INVALID_ARGUMENT, "stop_texts[1] is NULL");
  stops[1] = "";
  CHECK(writer.run(nullptr) == MOKA_INVALID_ARGUMENT);
  writer.options.stop_text_count = 0;
  writer.options.stop_at_end = -1;
  CAPI_FAILS(writer.run(&error), MOKA_INVALID_ARGUMENT, "stop_at_end is -1, must be 0 or 1");
  writer.options.stop_at_end = 1;
  writer.result.struct_size = 1;
  CAPI_FAILS(writer.run(&error), MOKA_INVALID_ARGUMENT,
             "moka_generate_result.struct_size is 1, which is no size of this struct; set it with "
             "sizeof");
  CHECK(moka_session_position(writer.session.get()) == 4);
  moka_session_reset(writer.session.get());
  writer.result.struct_size = sizeof writer.result;
  CAPI_FAILS(writer.run(&error), MOKA_FAILED_PRECONDITION,
             "nothing was read yet: append a token before writing");
  CAPI_OK(writer.check(&error));
  writer.options.max_tokens = 0;
  CAPI_FAILS(writer.check(&error), MOKA_INVALID_ARGUMENT, "max_tokens is 0, must be at least 1");
  CHECK(moka_session_check_generate(nullptr, nullptr, nullptr) == MOKA_INVALID_ARGUMENT);
  CHECK(moka_session_generate(nullptr, writer.sampler.get(), nullptr, nullptr, nullptr) ==
        MOKA_INVALID_ARGUMENT);
  CHECK(moka_session_generate(writer.session.get(), nullptr, nullptr, nullptr, nullptr) ==
        MOKA_INVALID_ARGUMENT);

  const CModel classes = open_test_model(classifier_model().spec);
  const Handle<moka_session> session = new_session(classes.get());
  CAPI_FAILS_WITH(
      moka_session_generate(session.get(), writer.sampler.get(), nullptr, nullptr, &error),
      MOKA_UNSUPPORTED, "only language models with a tokenizer write");
  CAPI_FAILS_WITH(moka_session_check_generate(session.get(), nullptr, &error), MOKA_UNSUPPORTED,
                  "only language models with a tokenizer write");
}

}  // namespace moka::test
