// Memory that runs out in a call of moka.h: MOKA_OUT_OF_MEMORY with a message, no handle, nothing lost,
// nothing changed, and the same call works afterwards. allocation_trial.h says how.
#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "converter/snapshot.h"
#include "tests/allocation_trial.h"
#include "tests/capi_testing.h"
#include "tests/checkpoint_builder.h"
#include "tests/process.h"
#include "tests/task_models.h"

namespace moka::test {
namespace {

using Call = std::function<moka_status(moka_error* error)>;

// A trial of a C call. `check` and `drop` are as there.
void run_call(
    const std::string& name, const Call& call, const std::function<void(bool)>& check = [](bool) {},
    const std::function<void()>& prepare = [] {}, const std::function<void()>& drop = [] {}) {
  moka_error error{};
  run_trial({"moka_" + name,
             [&]() -> Status {
               const moka_status status = call(&error);
               return Status(static_cast<StatusCode>(status), "see error");  // takes no memory
             },
             [&](bool ok) {
               CHECK((error.code == MOKA_OK) == ok);
               CHECK((std::strlen(error.message) == 0) == ok);
               check(ok);
             },
             prepare, drop});
}

// A call that makes a handle.
template <class T>
void run_maker(const std::string& name,
               const std::function<moka_status(T** out, moka_error* error)>& make) {
  T* made = nullptr;
  run_call(
      name, [&](moka_error* error) { return make(&made, error); },
      [&](bool ok) { CHECK((made != nullptr) == ok); }, [] {},
      [&] {
        FreeHandle()(made);
        made = nullptr;
      });
}

std::vector<uint8_t> saved(const moka_session* session) {
  size_t size = 0;
  CAPI_OK(moka_session_save(session, nullptr, 0, &size, &error));
  std::vector<uint8_t> bytes(size);
  CAPI_OK(moka_session_save(session, bytes.data(), bytes.size(), nullptr, &error));
  return bytes;
}

std::vector<uint8_t> saved(const moka_sampler* sampler) {
  size_t size = 0;
  CAPI_OK(moka_sampler_save(sampler, nullptr, 0, &size, &error));
  std::vector<uint8_t> bytes(size);
  CAPI_OK(moka_sampler_save(sampler, bytes.data(), bytes.size(), nullptr, &error));
  return bytes;
}

std::vector<uint8_t> saved(const moka_chat* chat) {
  size_t size = 0;
  CAPI_OK(moka_chat_save(chat, nullptr, 0, &size, &error));
  std::vector<uint8_t> bytes(size);
  CAPI_OK(moka_chat_save(chat, bytes.data(), bytes.size(), nullptr, &error));
  return bytes;
}

// A model file with a prefix snapshot.
struct File {
  TemporaryFolder folder;
  std::string path = folder / "m.moka";
  moka_open_options options;

  explicit File(const TestModel& made = byte_language_model()) {
    write_task_model(path, made);
    SnapshotOptions one;
    one.threads = 1;
    REQUIRE(add_snapshot(path, {"coach", "You are a coach."}, one).ok());
    moka_open_options_init(&options, sizeof options);
    options.threads = 1;
    options.chunk = 8;
  }
  Handle<moka_model> open() const {
    moka_model* opened = nullptr;
    CAPI_OK(moka_model_open(path.c_str(), &options, &opened, &error));
    return Handle<moka_model>(opened);
  }
};

const std::vector<moka_token> kTokens = tokens_of("some text to read, longer than a chunk");

// A model with a session that has read something, a sampler, and a chat of two turns.
class Subject {
 public:
  explicit Subject(const File& file) : file_(file) {
    moka_generate_options_init(&how, sizeof how);
    how.max_tokens = 6;
    how.stop_at_end = 0;
  }
  void prepare() {
    model = file_.open();
    session = new_session(model.get());
    sampler = new_sampler(model.get(), 0.8f, 3);
    append(session.get(), kTokens);
    moka_chat_options options;
    moka_chat_options_init(&options, sizeof options);
    options.from = "coach";
    options.saved_states = 0;  // kept states are let go where memory is short, which a file would show
    moka_chat* made = nullptr;
    CAPI_OK(moka_chat_create(model.get(), &options, &made, &error));
    chat.reset(made);
    CAPI_OK(moka_chat_append(chat.get(), MOKA_ROLE_USER, "Hello", 5, nullptr, &error));
    CAPI_OK(moka_chat_generate(chat.get(), &how, nullptr, nullptr, &error));
    before_ = all();
  }
  void drop() {
    chat.reset();
    sampler.reset();
    session.reset();
    model.reset();
    before_ = {};
  }
  // Everything that the objects are.
  std::vector<std::vector<uint8_t>> all() const {
    return {saved(session.get()), saved(sampler.get()), saved(chat.get())};
  }
  bool unchanged() const { return all() == before_; }

  Handle<moka_model> model;
  Handle<moka_session> session;
  Handle<moka_sampler> sampler;
  Handle<moka_chat> chat;
  moka_generate_options how;

 private:
  const File& file_;
  std::vector<std::vector<uint8_t>> before_;
};

// After a failure all objects are as they were, and the call then does what it does.
void run_on(const File& file, const std::string& name,
            const std::function<moka_status(Subject&, moka_error*)>& call) {
  Subject subject(file);
  subject.prepare();
  CAPI_OK(call(subject, &error));
  const std::vector<std::vector<uint8_t>> want = subject.all();
  subject.drop();
  run_call(
      name, [&](moka_error* error) { return call(subject, error); },
      [&](bool ok) {
        if (!ok) CHECK(subject.unchanged());
        if (!ok) CAPI_OK(call(subject, &error));
        CHECK(subject.all() == want);
      },
      [&] { subject.prepare(); }, [&] { subject.drop(); });
}

}  // namespace

TEST_CASE("allocation failure: calls of moka.h that make something") {
  if (!can_fail_allocations()) return;
  const File file;
  run_maker<moka_model>("model_open", [&](moka_model** out, moka_error* error) {
    return moka_model_open(file.path.c_str(), &file.options, out, error);
  });
  const Handle<moka_model> model = file.open();
  const Handle<moka_session> session = new_session(model.get());
  append(session.get(), kTokens);
  run_maker<moka_executor>("executor_create", [&](moka_executor** out, moka_error* error) {
    return moka_executor_create(model.get(), nullptr, out, error);
  });
  run_maker<moka_executor>("executor_of_model", [&](moka_executor** out, moka_error* error) {
    return moka_executor_of_model(model.get(), out, error);
  });
  run_maker<moka_session>("session_create", [&](moka_session** out, moka_error* error) {
    return moka_session_create(model.get(), nullptr, out, error);
  });
  run_maker<moka_session>("session_fork", [&](moka_session** out, moka_error* error) {
    return moka_session_fork(session.get(), out, error);
  });
  run_maker<moka_sampler>("sampler_create", [&](moka_sampler** out, moka_error* error) {
    return moka_sampler_create(model.get(), nullptr, out, error);
  });
  run_maker<moka_text_stream>("text_stream_create", [&](moka_text_stream** out, moka_error* error) {
    return moka_text_stream_create(model.get(), out, error);
  });
  moka_chat_options options;
  moka_chat_options_init(&options, sizeof options);
  options.from = "coach";
  options.template_id = "a template whose name is not short";
  options.user_prefix = "<|a prefix that is long enough to need memory|>";
  run_maker<moka_chat>("chat_create", [&](moka_chat** out, moka_error* error) {
    return moka_chat_create(model.get(), &options, out, error);
  });
  moka_chat* made = nullptr;
  CAPI_OK(moka_chat_create(model.get(), &options, &made, &error));
  const Handle<moka_chat> chat(made);
  CAPI_OK(moka_chat_append(chat.get(), MOKA_ROLE_USER, "Hello", 5, nullptr, &error));
  const std::vector<uint8_t> bytes = saved(chat.get());
  run_maker<moka_chat>("chat_open", [&](moka_chat** out, moka_error* error) {
    return moka_chat_open(model.get(), bytes.data(), bytes.size(), &options, out, error);
  });
}

TEST_CASE("allocation failure: calls of moka.h on sessions and samplers") {
  if (!can_fail_allocations()) return;
  const File file;
  const std::string kept = file.folder / "kept.session";
  run_on(file, "session_append", [](Subject& s, moka_error* error) {
    return moka_session_append(s.session.get(), kTokens.data(), kTokens.size(), error);
  });
  run_on(file, "session_append_rows", [](Subject& s, moka_error* error) {
    const moka_sequence steps = {kTokens.data(), kTokens.size(), nullptr, 0};
    const auto rows = [](void*, size_t, size_t, const float*, size_t) -> int32_t { return 0; };
    return moka_session_append_rows(s.session.get(), &steps, rows, nullptr, error);
  });
  run_on(file, "session_step", [](Subject& s, moka_error* error) {
    moka_token token = 0;
    return moka_session_step(s.session.get(), s.sampler.get(), &token, error);
  });
  run_on(file, "session_restore_snapshot", [](Subject& s, moka_error* error) {
    return moka_session_restore_snapshot(s.session.get(), "coach", error);
  });
  run_on(file, "session_save", [](Subject& s, moka_error* error) {
    size_t size = 0;
    return moka_session_save(s.session.get(), nullptr, 0, &size, error);
  });
  run_on(file, "session_save_file", [&](Subject& s, moka_error* error) {
    return moka_session_save_file(s.session.get(), kept.c_str(), error);
  });
  run_on(file, "session_restore_file", [&](Subject& s, moka_error* error) {
    return moka_session_restore_file(s.session.get(), kept.c_str(), error);
  });
  run_on(file, "sampler_accept", [](Subject& s, moka_error* error) {
    return moka_sampler_accept(s.sampler.get(), kTokens.data(), kTokens.size(), error);
  });
  run_on(file, "sampler_sample", [](Subject& s, moka_error* error) {
    const float* row = nullptr;
    size_t count = 0;
    const moka_status found = moka_session_logits(s.session.get(), &row, &count, error);
    moka_token token = 0;
    return found != MOKA_OK ? found
                            : moka_sampler_sample(s.sampler.get(), row, count, &token, error);
  });
  CHECK(names_in(file.folder.path()) == std::vector<std::string>{"kept.session", "m.moka"});
}

TEST_CASE("allocation failure: writing through moka.h keeps the tokens that it tells of") {
  if (!can_fail_allocations()) return;
  const File file;
  Subject subject(file);
  const char* stop = "a text that does not come, as it is too long";
  subject.how.stop_texts = &stop;
  subject.how.stop_text_count = 1;
  moka_generate_result result{};
  uint64_t position = 0;
  run_call(
      "session_generate",
      [&](moka_error* error) {
        result.struct_size = sizeof result;
        return moka_session_generate(subject.session.get(), subject.sampler.get(), &subject.how,
                                     &result, error);
      },
      [&](bool ok) {
        CHECK(moka_session_position(subject.session.get()) == position + result.tokens);
        CHECK(result.end == (ok ? MOKA_END_TOKENS : MOKA_END_NONE));
        CHECK((result.tokens == 6) >= ok);
        append(subject.session.get(), kTokens);
      },
      [&] {
        subject.prepare();
        position = moka_session_position(subject.session.get());
      },
      [&] { subject.drop(); });
}

TEST_CASE("allocation failure: calls of moka.h on chats") {
  if (!can_fail_allocations()) return;
  const File file;
  run_on(file, "chat_append", [](Subject& s, moka_error* error) {
    return moka_chat_append(s.chat.get(), MOKA_ROLE_USER, "More?", 5, nullptr, error);
  });
  run_on(file, "chat_generate", [](Subject& s, moka_error* error) {
    return moka_chat_generate(s.chat.get(), &s.how, nullptr, nullptr, error);
  });
  run_on(file, "chat_undo", [](Subject& s, moka_error* error) {
    return moka_chat_undo(s.chat.get(), nullptr, error);
  });
  run_on(file, "chat_edit", [](Subject& s, moka_error* error) {
    return moka_chat_edit(s.chat.get(), 1, "Other", 5, nullptr, error);
  });
  run_on(file, "chat_path", [](Subject& s, moka_error* error) {
    size_t count = 0;
    return moka_chat_path(s.chat.get(), nullptr, 0, &count, error);
  });
  run_on(file, "chat_turn_at", [](Subject& s, moka_error* error) {
    moka_turn turn{};
    turn.struct_size = sizeof turn;
    return moka_chat_turn_at(s.chat.get(), 1, &turn, error);
  });
  run_on(file, "chat_save", [](Subject& s, moka_error* error) {
    size_t size = 0;
    return moka_chat_save(s.chat.get(), nullptr, 0, &size, error);
  });
}

TEST_CASE("allocation failure: calls of moka.h that answer") {
  if (!can_fail_allocations()) return;
  const File file;
  const Handle<moka_model> model = file.open();
  const std::string text = "a text that is longer than what fits without memory";
  std::vector<moka_token> tokens(100);
  size_t count = 0;
  run_call("model_tokenize", [&](moka_error* error) {
    return moka_model_tokenize(model.get(), text.data(), text.size(), 1, tokens.data(),
                               tokens.size(), &count, error);
  });
  CHECK(count == text.size());
  std::string back(100, ' ');
  size_t size = 0;
  run_call("model_detokenize", [&](moka_error* error) {
    return moka_model_detokenize(model.get(), tokens.data(), count, &back[0], back.size(), &size,
                                 error);
  });
  CHECK(back.substr(0, size) == text);

  moka_snapshot snapshot{};
  snapshot.struct_size = sizeof snapshot;
  run_call("model_snapshot_at", [&](moka_error* error) {
    return moka_model_snapshot_at(model.get(), 0, &snapshot, error);
  });
  double likelihood = 0, want = 0;
  CAPI_OK(moka_score(model.get(), tokens.data(), count, 1, nullptr, &want, nullptr, nullptr, 0,
                     &error));
  run_call(
      "score",
      [&](moka_error* error) {
        return moka_score(model.get(), tokens.data(), count, 1, nullptr, &likelihood, nullptr,
                          nullptr, 0, error);
      },
      [&](bool ok) { CHECK(likelihood == (ok ? want : 0)); }, [&] { likelihood = 0; });

  const CModel classifier = open_test_model(classifier_model().spec);
  const moka_sequence input = {tokens.data(), count, nullptr, 0};
  float logits[3] = {}, probabilities[3] = {};
  uint32_t best = 9, likeliest = 9;
  CAPI_OK(moka_classify(classifier.get(), &input, nullptr, logits, probabilities, 3, &likeliest,
                        &error));
  run_call(
      "classify",
      [&](moka_error* error) {
        return moka_classify(classifier.get(), &input, nullptr, logits, probabilities, 3, &best,
                             error);
      },
      [&](bool ok) { CHECK(best == (ok ? likeliest : 9)); }, [&] { best = 9; });

  const CModel embedder = open_test_model(embedding_model().spec);
  float vector[24] = {};
  run_call("embed", [&](moka_error* error) {
    return moka_embed(embedder.get(), &input, nullptr, vector, 24, nullptr, error);
  });
}

TEST_CASE("allocation failure: a text stream of moka.h loses no character") {
  if (!can_fail_allocations()) return;
  const File file;
  const Handle<moka_model> model = file.open();
  Handle<moka_text_stream> stream;
  const char* text = nullptr;
  size_t size = 0;
  run_call(
      "text_stream_push",
      [&](moka_error* error) {
        return moka_text_stream_push(stream.get(), 0xac, &text, &size, error);
      },
      [&](bool ok) {
        if (!ok) CAPI_OK(moka_text_stream_push(stream.get(), 0xac, &text, &size, &error));
        CHECK(std::string(text, size) == "\xe2\x82\xac");
      },
      [&] {
        moka_text_stream* made = nullptr;
        CAPI_OK(moka_text_stream_create(model.get(), &made, &error));
        stream.reset(made);
        for (const moka_token byte : {0xe2, 0x82}) {
          CAPI_OK(moka_text_stream_push(stream.get(), byte, &text, &size, &error));
          CHECK(size == 0);
        }
      },
      [&] { stream.reset(); });
}

}  // namespace moka::test
