// Memory that runs out at any allocation of a call: the call says kOutOfMemory, or gets on without and
// gives what it always gives; nothing is lost, nothing is changed, and the same call works afterwards.
// allocation_trial.h says how. Here: models, sessions, tokenizers, conversion.
#include <doctest/doctest.h>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/wait.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "converter/convert.h"
#include "converter/writer.h"
#include "moka/moka.h"
#include "tests/allocation_counter.h"
#include "tests/allocation_trial.h"
#include "tests/cli_model.h"
#include "tests/model_file.h"
#include "tests/task_models.h"

namespace moka {
namespace {

using test::campaign;
using test::TemporaryFolder;
using test::TestModel;

using Bytes = std::vector<uint8_t>;

Model open_spec(const TestModel& made, int threads = 1) {
  OpenOptions options;
  options.executor.threads = threads;
  options.executor.chunk = 8;
  auto model = Model::from_spec(made.spec, options);
  REQUIRE_MESSAGE(model.ok(), model.status().to_string());
  return std::move(model).value();
}

Bytes saved(const Session& session) {
  auto bytes = session.save();
  REQUIRE(bytes.ok());
  return std::move(bytes).value();
}

Bytes read_alone(const Model& model, Span<const TokenId> ids) {
  auto session = model.new_session();
  REQUIRE(session.ok());
  REQUIRE(session.value().append(ids).ok());
  return saved(session.value());
}

std::vector<TokenId> bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

// A language model with latents and window, and one whose cache grows.
std::vector<TestModel> session_models() { return {test::text_model(false), test::softmax_model()}; }

std::vector<TokenId> tokens_for(const Model& model, size_t count) {
  return test::some_tokens(count, model.info().vocab_size);
}

}  // namespace

TEST_CASE("allocation failure: opening a model") {
  if (!test::can_fail_allocations()) return;
  const TemporaryFolder folder;
  for (const DType weights : {DType::kF32, DType::kI8}) {
    test::TestModelOptions made;
    made.vocab_size = 260, made.weights = weights;
    TestModel model = test::make_test_model(made);
    model.spec.tokenizer = test::text_model(false).spec.tokenizer;
    const std::string path = folder / "model.moka";
    const ModelBytes file = test::written(model.spec);
    test::write_file(path, std::string(file.bytes().begin(), file.bytes().end()));
    const std::vector<TokenId> ids = bytes_of("allocation");
    const Bytes want = read_alone(Model::open(path).value(), ids);
    for (const int threads : {1, 2}) {
      OpenOptions options;
      options.executor.threads = threads;
      const std::string kind =
          dtype_name(weights) + std::string(", threads ") + std::to_string(threads);
      test::run_trial({"open, " + kind, [&] { return Model::open(path, options).status(); }});
    }
    // What opened although something failed must be the model.
    Bytes got;
    test::run_trial({"open and read, " + std::string(dtype_name(weights)), [&]() -> Status {
                       MOKA_ASSIGN_OR_RETURN(const Model opened,
                                             Model::open_memory(file.bytes(), {}));
                       MOKA_ASSIGN_OR_RETURN(Session session, opened.new_session());
                       MOKA_RETURN_IF_ERROR(session.append(ids));
                       MOKA_ASSIGN_OR_RETURN(const Bytes bytes, session.save());
                       if (bytes != want) return Status(StatusCode::kInternal, "other bytes");
                       return Status();
                     }});
  }
}

TEST_CASE("allocation failure: executors and sessions of a model") {
  if (!test::can_fail_allocations()) return;
  for (const TestModel& made : session_models()) {
    const Model model = open_spec(made);
    const std::vector<TokenId> ids = tokens_for(model, 20);
    const Bytes want = read_alone(model, ids);
    const auto still_reads = [&](bool) { CHECK(read_alone(model, ids) == want); };
    ExecutorOptions two;
    two.threads = 2, two.chunk = 16;
    test::run_trial(
        {"new_executor", [&] { return model.new_executor(two).status(); }, still_reads});
    test::run_trial({"new_session", [&] { return model.new_session().status(); }, still_reads});
  }
}

// A session with five tokens read, and all that the calls under test do to it.
class Subject {
 public:
  explicit Subject(const TestModel& made) : made_(made) {}
  void prepare() {
    model.emplace(open_spec(made_));
    session.emplace(std::move(model->new_session()).value());
    other.emplace(std::move(model->new_session()).value());
    ids = tokens_for(*model, 300);
    rows.assign(11 * model->info().outputs, 0.0f);
    REQUIRE(session->append(some(5)).ok());
    SamplerOptions options;
    options.temperature = 0.9f, options.top_p = 0.9f, options.seed = 3;
    options.repeat_penalty = 1.1f, options.repeat_window = 16;
    sampler.emplace(std::move(Sampler::create(options, model->info().vocab_size)).value());
    before_ = saved(*session);
    sampler_before_ = sampler->save();
  }
  void drop() {
    session.reset();
    other.reset();
    sampler.reset();
    model.reset();
    before_ = {}, sampler_before_ = {}, ids = {}, rows = {};
  }
  // After a call that was to leave the session as it was, or to bring it to `want`; then it goes on.
  void check(bool moved, const Bytes& want) {
    CHECK(saved(*session) == (moved ? want : before_));
    if (!moved) CHECK(sampler->save() == sampler_before_);
    if (!moved) CHECK(session->append(some(3)).ok());
  }
  Span<const TokenId> some(size_t count) const { return {ids.data(), count}; }

  std::optional<Model> model;
  std::optional<Session> session, other;
  std::optional<Sampler> sampler;
  std::vector<TokenId> ids;
  std::vector<float> rows;  // 11 of logits

 private:
  const TestModel& made_;
  Bytes before_, sampler_before_;
};

// The call is made once with all memory there, for the state that it leads to.
void run_on_session(const std::string& name, const TestModel& made,
                    const std::function<Status(Subject&)>& call) {
  Subject subject(made);
  subject.prepare();
  REQUIRE(call(subject).ok());
  const Bytes want = saved(*subject.session);
  subject.drop();
  test::run_trial({name, [&] { return call(subject); }, [&](bool ok) { subject.check(ok, want); },
                   [&] { subject.prepare(); }, [&] { subject.drop(); }});
}

TEST_CASE("allocation failure: reading and stepping leave the session as it was") {
  if (!test::can_fail_allocations()) return;
  for (const TestModel& made : session_models()) {
    for (const size_t count : {size_t{3}, size_t{21}}) {  // a chunk, and several
      run_on_session("append " + std::to_string(count), made,
                     [&](Subject& s) { return s.session->append(s.some(count)); });
    }
    run_on_session("append with a sink", made, [](Subject& s) {
      return s.session->append(s.some(11),
                               [&](size_t first, size_t n, const float* row, size_t stride) {
                                 std::copy_n(row, n * stride, s.rows.data() + first * stride);
                                 return Status();
                               });
    });
    run_on_session("step", made, [](Subject& s) { return s.session->step(*s.sampler).status(); });
    run_on_session("a pass over guesses", made, [](Subject& s) -> Status {
      MOKA_ASSIGN_OR_RETURN(const size_t read,
                            s.session->append_with_guesses(1, s.some(7), *s.sampler));
      return read >= 1 ? Status() : Status(StatusCode::kInternal, "no token was read");
    });
    run_on_session("300 tokens", made, [](Subject& s) {  // beyond the first room of a cache
      return s.session->append(s.some(300));
    });
  }
}

TEST_CASE("allocation failure: batches move all sessions or none") {
  if (!test::can_fail_allocations()) return;
  for (const TestModel& made : session_models()) {
    run_on_session("batch append", made, [](Subject& s) {
      const SessionSteps batch[] = {{&*s.session, s.some(12), {}}, {&*s.other, s.some(20), {}}};
      return s.model->executor().append(Span<const SessionSteps>(batch, 2));
    });
    run_on_session("batch step, a sampler for two", made, [](Subject& s) -> Status {
      MOKA_ASSIGN_OR_RETURN(Session fork, s.session->fork());
      SessionDraw batch[] = {{&*s.session, &*s.sampler}, {&fork, &*s.sampler}};
      return s.model->executor().step(Span<SessionDraw>(batch, 2));
    });
  }
}

TEST_CASE("allocation failure: saving, restoring and forking") {
  if (!test::can_fail_allocations()) return;
  const TemporaryFolder folder;
  for (const TestModel& made : session_models()) {
    Subject source(made);
    source.prepare();
    REQUIRE(source.session->append(tokens_for(*source.model, 290)).ok());
    const Bytes longer = saved(*source.session);
    run_on_session("save", made, [](Subject& s) { return s.session->save().status(); });
    run_on_session("fork", made, [](Subject& s) { return s.session->fork().status(); });
    run_on_session("restore", made, [&](Subject& s) { return s.session->restore(longer); });

    const std::string path = folder / "kept.session";
    const std::string old = "what was there before";
    const auto write_old = [&] { test::write_file(path, old); };
    Bytes want = saved(*source.session);
    test::run_trial({"save_file", [&] { return source.session->save_file(path); },
                     [&](bool ok) {
                       const std::string now = test::read_file(path);
                       const bool is_new = now == std::string(want.begin(), want.end());
                       CHECK((is_new || (!ok && now == old)));
                       size_t files = 0;
                       for (const auto& entry :
                            std::filesystem::directory_iterator(folder.path())) {
                         files += entry.is_regular_file() ? 1 : 0;
                       }
                       CHECK(files == 1);
                     },
                     write_old});
    test::write_file(path, std::string(longer.begin(), longer.end()));
    run_on_session("restore_file", made, [&](Subject& s) { return s.session->restore_file(path); });
  }
}

TEST_CASE("allocation failure: text to tokens and back") {
  if (!test::can_fail_allocations()) return;
  auto made = Tokenizer::create(*test::text_model(false).spec.tokenizer);
  REQUIRE(made.ok());
  const std::string text = "Once upon a time there was a phone with no memory left.";
  std::vector<TokenId> ids;
  const auto only_before = [&](bool ok) {
    CHECK(ids.size() == (ok ? text.size() + 1 : 1));
    CHECK(ids[0] == 7);
  };
  test::run_trial({"encode", [&] { return made.value().encode(text, &ids); }, only_before,
                   [&] { ids = std::vector<TokenId>{7}; }, [&] { ids = std::vector<TokenId>(); }});
  std::vector<TokenId> all;
  REQUIRE(made.value().encode(text, &all).ok());
  test::run_trial({"decode", [&]() -> Status {
                     MOKA_ASSIGN_OR_RETURN(const std::string back, made.value().decode(all));
                     return back == text ? Status() : Status(StatusCode::kInternal, "another text");
                   }});
  SamplerOptions options;
  test::run_trial({"sampler", [&] { return Sampler::create(options, 260).status(); }});
}

#if defined(__unix__) || defined(__APPLE__)
// In a process of its own each time, because the JSON library takes memory in its destructors, which
// have no way to say that there is none: a failure just there ends the process, and only there.
enum ChildEnd { kWorked = 0, kRefused = 3, kOtherError = 4, kLeaked = 5, kNothingFailed = 6 };

int convert_in_child(const ConvertOptions& options, uint64_t nth, bool all_after) {
  std::fflush(stdout);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    (void)std::freopen("/dev/null", "w", stderr);  // what std::terminate says
    std::signal(SIGABRT, SIG_DFL);
    const int64_t before = test::live_allocations();
    StatusCode code = StatusCode::kOk;
    test::fail_allocations(nth, all_after);
    {
      const Status status = convert(options).status();
      code = status.code();
    }
    const uint64_t failed = test::stop_failing();
    if (test::live_allocations() != before) _exit(kLeaked);
    if (code == StatusCode::kOk) _exit(failed == 0 ? kNothingFailed : kWorked);
    _exit(code == StatusCode::kOutOfMemory ? kRefused : kOtherError);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST_CASE("allocation failure: converting leaves the old file or the new one") {
  if (!test::can_fail_allocations()) return;
  const TemporaryFolder folder;
  ConvertOptions options;
  options.input = std::string(MOKA_SOURCE_DIR) + "/tests/data/hf/macchiato_width43_tied";
  options.output = folder / "out.moka";
  options.threads = 1;
  options.force = true;
  for (int i = 0; i < 2; ++i) REQUIRE(convert(options).ok());
  const std::string want = test::read_file(options.output), old = "an older model";
  for (const bool all_after : {false, true}) {
    uint64_t refused = 0, survived = 0, ended = 0;
    for (uint64_t n = 1;; n += campaign() ? 1 : 1 + n / 12) {
      INFO("allocation " << n << std::string(all_after ? " and all after it" : " alone"));
      test::write_file(options.output, old);
      const int end = convert_in_child(options, n, all_after);
      const bool aborted = end == 128 + SIGABRT;
      const bool known = end == kWorked || end == kRefused || end == kNothingFailed || aborted;
      CHECK_MESSAGE(known, "the conversion ended with ", end);
      const std::string now = test::read_file(options.output);
      const bool must_be_new = end == kWorked || end == kNothingFailed;
      CHECK((now == want || (!must_be_new && now == old)));
      size_t files = 0;
      for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
        const bool temporary = aborted && entry.path() != options.output;
        if (temporary) std::filesystem::remove(entry.path());
        files += temporary ? 0 : 1;
      }
      CHECK(files == 1);
      if (end == kNothingFailed) break;
      refused += end == kRefused, survived += end == kWorked, ended += aborted;
    }
    CHECK(refused > ended);
    if (campaign()) {
      std::printf(
          "%-34s %-9s %7llu failures: %llu out_of_memory, %llu got on without, %llu ended\n",
          "convert", all_after ? "all after" : "alone",
          static_cast<unsigned long long>(refused + survived + ended),
          static_cast<unsigned long long>(refused), static_cast<unsigned long long>(survived),
          static_cast<unsigned long long>(ended));
    }
  }
}
#endif

}  // namespace moka
