// Prefix snapshots and limits through moka.h. What they do is tested in C++ (snapshot_test.cc,
// chat_snapshot_test.cc, limits_test.cc); here, that it gets across.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "converter/snapshot.h"
#include "tests/capi_testing.h"
#include "tests/process.h"
#include "tests/task_models.h"

namespace moka::test {
namespace {

const std::string kText = "You are a patient coach.";

// A model file with two snapshots, opened.
struct Fixture {
  TemporaryFolder folder;
  std::string path = folder / "m.moka";
  Handle<moka_model> model;

  Fixture() {
    write_task_model(path, byte_language_model());
    SnapshotOptions one;
    one.threads = 1;
    REQUIRE(add_snapshot(path, {"coach", kText}, one).ok());
    REQUIRE(add_snapshot(path, {"poet", "In rhymes."}, one).ok());
    model = open();
  }
  Handle<moka_model> open() const {
    moka_open_options options;
    moka_open_options_init(&options, sizeof options);
    options.threads = 1;
    moka_model* opened = nullptr;
    CAPI_OK(moka_model_open(path.c_str(), &options, &opened, &error));
    return Handle<moka_model>(opened);
  }
};

moka_snapshot snapshot_at(const moka_model* model, size_t index) {
  moka_snapshot snapshot{};
  snapshot.struct_size = sizeof snapshot;
  CAPI_OK(moka_model_snapshot_at(model, index, &snapshot, &error));
  return snapshot;
}

// The prefix as the model reads it.
std::vector<moka_token> prefix_tokens(const std::string& text) {
  std::vector<moka_token> tokens = tokens_of(text);
  tokens.insert(tokens.begin(), 258);  // begins a text
  return tokens;
}

}  // namespace

TEST_CASE_FIXTURE(Fixture, "capi: the prefix snapshots of a model") {
  REQUIRE(moka_model_snapshot_count(model.get()) == 2);
  const moka_snapshot coach = snapshot_at(model.get(), 0);
  CHECK(std::string(coach.name) == "coach");
  CHECK(std::string(coach.text, coach.text_size) == kText);
  CHECK(coach.usable == 1);
  CHECK(coach.position == prefix_tokens(kText).size());
  CHECK(coach.bytes > 0);
  CHECK(std::string(snapshot_at(model.get(), 1).name) == "poet");

  CHECK(moka_model_snapshot_count(nullptr) == 0);
  moka_snapshot snapshot{};
  snapshot.struct_size = sizeof snapshot;
  CAPI_FAILS(moka_model_snapshot_at(model.get(), 2, &snapshot, &error), MOKA_OUT_OF_RANGE,
             "index is 2, the model has 2 prefix snapshots");
  CAPI_FAILS(moka_model_snapshot_at(nullptr, 0, &snapshot, &error), MOKA_INVALID_ARGUMENT,
             "model is NULL");
  CAPI_FAILS(moka_model_snapshot_at(model.get(), 0, nullptr, &error), MOKA_INVALID_ARGUMENT,
             "moka_snapshot is NULL");
  snapshot.struct_size = 5;
  CAPI_FAILS(moka_model_snapshot_at(model.get(), 0, &snapshot, &error), MOKA_INVALID_ARGUMENT,
             "moka_snapshot.struct_size is 5, which is no size of this struct; set it with sizeof");
  const CModel none = open_test_model(byte_language_model().spec);
  CHECK(moka_model_snapshot_count(none.get()) == 0);
}

TEST_CASE_FIXTURE(Fixture, "capi: a session that begins behind a prefix snapshot") {
  const Handle<moka_session> read = new_session(model.get());
  append(read.get(), prefix_tokens(kText));
  const Handle<moka_session> session = new_session(model.get());
  append(session.get(), tokens_of("something else"));
  CAPI_OK(moka_session_restore_snapshot(session.get(), "coach", &error));
  CHECK(moka_session_position(session.get()) == prefix_tokens(kText).size());
  CHECK(logits_of(session.get()) == logits_of(read.get()));
  append(session.get(), tokens_of("Hello"));
  append(read.get(), tokens_of("Hello"));
  CHECK(logits_of(session.get()) == logits_of(read.get()));

  // A refusal leaves the session where it is.
  CAPI_FAILS(moka_session_restore_snapshot(session.get(), "couch", &error), MOKA_NOT_FOUND,
             "the model has no prefix snapshot 'couch'; it has: 'coach', 'poet'");
  CAPI_FAILS(moka_session_restore_snapshot(session.get(), nullptr, &error), MOKA_INVALID_ARGUMENT,
             "name is NULL");
  CAPI_FAILS(moka_session_restore_snapshot(nullptr, "coach", &error), MOKA_INVALID_ARGUMENT,
             "session is NULL");
  CHECK(logits_of(session.get()) == logits_of(read.get()));
}

TEST_CASE_FIXTURE(Fixture, "capi: a snapshot of other weights is listed and not used") {
  auto loaded = load_model_file(path);
  REQUIRE(loaded.ok());
  ModelSpec spec = loaded.value().spec;
  spec.fingerprint = loaded.value().fingerprint;
  spec.prefix_snapshots[1].weights ^= 1;
  WriteOptions replace;
  replace.replace = true;
  REQUIRE(write_model(path, spec, replace).ok());
  const Handle<moka_model> changed = open();
  CHECK(snapshot_at(changed.get(), 0).usable == 1);
  CHECK(snapshot_at(changed.get(), 1).usable == 0);
  const Handle<moka_session> session = new_session(changed.get());
  CAPI_FAILS(moka_session_restore_snapshot(session.get(), "poet", &error), MOKA_FAILED_PRECONDITION,
             "prefix snapshot 'poet': it was made with other weights than this model has; make it "
             "anew with `moka snapshot add --force`");
}

TEST_CASE_FIXTURE(Fixture, "capi: a chat that begins behind a prefix snapshot") {
  moka_chat_options options;
  moka_chat_options_init(&options, sizeof options);
  CHECK(options.from == nullptr);
  options.from = "coach";
  moka_chat* made = nullptr;
  CAPI_OK(moka_chat_create(model.get(), &options, &made, &error));
  const Handle<moka_chat> chat(made);
  CHECK(std::string(moka_chat_from(chat.get())) == "coach");
  CHECK(moka_chat_from(nullptr) == nullptr);
  CAPI_OK(moka_chat_append(chat.get(), MOKA_ROLE_USER, "Hello", 5, nullptr, &error));
  moka_turn turn{};
  turn.struct_size = sizeof turn;
  CAPI_OK(moka_chat_turn_at(chat.get(), 0, &turn, &error));
  CHECK(turn.position == prefix_tokens(kText).size() + 5);
  CHECK(turn.token_count == 5);

  // Its file knows where it began.
  const std::string file = folder / "a.chat";
  CAPI_OK(moka_chat_save_file(chat.get(), file.c_str(), &error));
  CAPI_OK(moka_chat_open_file(model.get(), file.c_str(), nullptr, &made, &error));
  const Handle<moka_chat> again(made);
  CHECK(std::string(moka_chat_from(again.get())) == "coach");
  options.from = "poet";
  CAPI_FAILS_WITH(moka_chat_open_file(model.get(), file.c_str(), &options, &made, &error),
                  MOKA_FAILED_PRECONDITION, "'coach'");
  CHECK(made == nullptr);

  options.from = "couch";
  CAPI_FAILS(moka_chat_create(model.get(), &options, &made, &error), MOKA_NOT_FOUND,
             "the model has no prefix snapshot 'couch'; it has: 'coach', 'poet'");
  options.from = "";
  CAPI_OK(moka_chat_create(model.get(), &options, &made, &error));
  CHECK(std::string(moka_chat_from(Handle<moka_chat>(made).get())).empty());

  // A caller whose struct ends before `from` has none, whatever lies there.
  options.struct_size = offsetof(moka_chat_options, from);
  options.from = reinterpret_cast<const char*>(uintptr_t{16});
  CAPI_OK(moka_chat_create(model.get(), &options, &made, &error));
  CHECK(std::string(moka_chat_from(Handle<moka_chat>(made).get())).empty());
}

TEST_CASE_FIXTURE(Fixture, "capi: limits for models that nobody vouches for") {
  moka_open_options options;
  moka_open_options_init(&options, sizeof options);
  CHECK(options.limit_header_bytes == 0);
  CHECK(options.limit_tensors == 0);
  CHECK(options.limit_vocab_size == 0);
  CHECK(options.limit_memory_bytes == 0);
  options.threads = 1;
  moka_model* opened = nullptr;
  const auto open_with = [&](uint64_t moka_open_options::*limit, uint64_t value,
                             moka_error* error) {
    moka_open_options limited = options;
    limited.*limit = value;
    moka_model_free(opened);
    return moka_model_open(path.c_str(), &limited, &opened, error);
  };
  const size_t tensors = byte_language_model().spec.tensors.size();
  CAPI_OK(open_with(&moka_open_options::limit_tensors, tensors, &error));
  CAPI_FAILS(open_with(&moka_open_options::limit_tensors, tensors - 1, &error), MOKA_OUT_OF_RANGE,
             path + ": has " + std::to_string(tensors) + " tensors, more than the limit of " +
                 std::to_string(tensors - 1) + " (moka_open_options.limit_tensors)");
  CHECK(opened == nullptr);
  CAPI_OK(open_with(&moka_open_options::limit_vocab_size, 260, &error));
  CAPI_FAILS(open_with(&moka_open_options::limit_vocab_size, 259, &error), MOKA_OUT_OF_RANGE,
             path +
                 ": has 260 tokens in its vocabulary, more than the limit of 259 "
                 "(moka_open_options.limit_vocab_size)");
  CAPI_FAILS_WITH(open_with(&moka_open_options::limit_header_bytes, 100, &error), MOKA_OUT_OF_RANGE,
                  "bytes in its header, more than the limit of 100 "
                  "(moka_open_options.limit_header_bytes)");
  CAPI_FAILS_WITH(open_with(&moka_open_options::limit_memory_bytes, 1, &error), MOKA_OUT_OF_RANGE,
                  "bytes of memory for packed weights, one session and the rows of a chunk, more "
                  "than the limit of 1 (moka_open_options.limit_memory_bytes)");
  // A caller whose struct ends before them has none.
  options.struct_size = offsetof(moka_open_options, limit_header_bytes);
  CAPI_OK(open_with(&moka_open_options::limit_memory_bytes, 1, &error));
  moka_model_free(opened);
}

}  // namespace moka::test
