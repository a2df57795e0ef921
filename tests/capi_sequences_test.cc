// Calls of moka.h in random order, with right and wrong arguments: each succeeds or says why not, and
// what the objects hold is what the successful calls made of them.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/capi_testing.h"
#include "tests/model_file.h"

namespace moka::test {
namespace {

constexpr uint32_t kLimit = 40;  // positions

// A session, and the tokens that it must have read.
struct Known {
  Handle<moka_session> session;
  std::vector<moka_token> tokens;
};

class Caller {
 public:
  Caller(const CModel& model, uint64_t seed) : model_(model.get()), random_(seed) {
    moka_executor* executor = nullptr;
    CAPI_OK(moka_executor_create(model_, nullptr, &executor, &error));
    executor_.reset(executor);
    for (int i = 0; i < 3; ++i) {
      sessions_.push_back({new_session(model_, i == 0 ? executor : nullptr), {}});
      samplers_.push_back(new_sampler(model_, 1.0f, seed));
    }
  }

  void call();
  // Every session has the output of a fresh one that reads its tokens. Chunks differ, so nearly.
  void check_sessions() const;
  size_t successes() const { return successes_; }
  size_t failures() const { return failures_; }

 private:
  size_t below(size_t n) { return static_cast<size_t>(next_random(&random_) % n); }
  bool rarely() { return below(8) == 0; }
  moka_session* handle(const Known& known) { return rarely() ? nullptr : known.session.get(); }
  std::vector<moka_token> some() {
    std::vector<moka_token> tokens(below(12));
    for (moka_token& token : tokens) token = static_cast<moka_token>(below(256));
    if (rarely() && !tokens.empty()) tokens.back() = below(2) == 0 ? -1 : 260;
    return tokens;
  }
  // Looks at how a call ended; true when it succeeded.
  bool ended(moka_status status);

  void append();
  void step();
  void batch();
  void generate();
  void fork();
  void save_and_restore();

  const moka_model* model_;
  uint64_t random_;
  Handle<moka_executor> executor_;
  std::vector<Known> sessions_;
  std::vector<Handle<moka_sampler>> samplers_;
  moka_error error_{};
  size_t successes_ = 0, failures_ = 0;
};

bool Caller::ended(moka_status status) {
  REQUIRE(status >= MOKA_OK);
  REQUIRE(status < MOKA_INTERNAL);
  CHECK(error_.code == status);
  CHECK((error_.message[0] == '\0') == (status == MOKA_OK));
  ++(status == MOKA_OK ? successes_ : failures_);
  return status == MOKA_OK;
}

void Caller::append() {
  Known& known = sessions_[below(3)];
  const std::vector<moka_token> tokens = some();
  const moka_token* data = rarely() ? nullptr : tokens.data();
  if (rarely()) moka_session_cancel(known.session.get());
  const bool empty = tokens.empty();
  if (ended(moka_session_append(handle(known), data, tokens.size(), &error_)) && !empty) {
    known.tokens.insert(known.tokens.end(), tokens.begin(), tokens.end());
  }
}

void Caller::step() {
  Known& known = sessions_[below(3)];
  moka_sampler* sampler = rarely() ? nullptr : samplers_[below(3)].get();
  moka_token token = -1;
  if (ended(moka_session_step(handle(known), sampler, &token, &error_))) {
    known.tokens.push_back(token);
  }
}

void Caller::batch() {
  std::vector<moka_batch_step> steps;
  std::vector<Known*> moved;
  for (size_t i = below(3); i < 3; ++i) {
    Known& known = sessions_[rarely() ? 0 : i];
    moved.push_back(&known);
    steps.push_back({handle(known), samplers_[i].get(), -1, 0});
  }
  size_t culprit = 99;
  const bool good =
      ended(moka_executor_step(executor_.get(), steps.data(), steps.size(), &culprit, &error_));
  CHECK(culprit <= steps.size());
  for (size_t i = 0; good && i < steps.size(); ++i) moved[i]->tokens.push_back(steps[i].token);
}

void Caller::generate() {
  Known& known = sessions_[below(3)];
  moka_generate_options options;
  moka_generate_options_init(&options, sizeof options);
  options.max_tokens = below(6);
  options.stop_at_end = 0;
  moka_generate_result result{};
  result.struct_size = sizeof result;
  moka_session* session = handle(known);
  // What is read is not told one by one: a copy that steps alike tells it.
  moka_session* copy = nullptr;
  moka_sampler* sampler = samplers_[0].get();
  std::vector<uint8_t> before(4096);
  size_t size = 0;
  REQUIRE(moka_sampler_save(sampler, before.data(), before.size(), &size, nullptr) == MOKA_OK);
  REQUIRE(moka_session_fork(known.session.get(), &copy, nullptr) == MOKA_OK);
  const Handle<moka_session> owned(copy);
  const Handle<moka_sampler> same = new_sampler(model_, 1.0f);
  REQUIRE(moka_sampler_restore(same.get(), before.data(), size, nullptr) == MOKA_OK);
  (void)ended(moka_session_generate(session, sampler, &options, &result, &error_));
  for (uint64_t i = 0; i < result.tokens; ++i) {
    moka_token token = -1;
    REQUIRE(moka_session_step(copy, same.get(), &token, nullptr) == MOKA_OK);
    known.tokens.push_back(token);
  }
}

void Caller::fork() {
  const Known& from = sessions_[below(3)];
  moka_session* copy = nullptr;
  if (!ended(moka_session_fork(handle(from), &copy, &error_))) {
    CHECK(copy == nullptr);
    return;
  }
  Handle<moka_session> owned(copy);
  std::vector<moka_token> tokens = from.tokens;
  sessions_[below(3)] = {std::move(owned), std::move(tokens)};
}

void Caller::save_and_restore() {
  const size_t from = below(3), to = below(3);
  std::vector<uint8_t> bytes(rarely() ? 100 : 1 << 16);
  size_t size = 0;
  if (!ended(
          moka_session_save(handle(sessions_[from]), bytes.data(), bytes.size(), &size, &error_))) {
    return;
  }
  if (rarely()) bytes[below(size)] ^= 0x40;
  if (ended(moka_session_restore(handle(sessions_[to]), bytes.data(), size, &error_))) {
    sessions_[to].tokens = sessions_[from].tokens;
  }
}

void Caller::call() {
  switch (below(7)) {
    case 0: append(); break;
    case 1: step(); break;
    case 2: batch(); break;
    case 3: generate(); break;
    case 4: fork(); break;
    case 5: save_and_restore(); break;
    default: {
      Known& known = sessions_[below(3)];
      if (!rarely()) break;
      moka_session_reset(known.session.get());
      known.tokens.clear();
    }
  }
  for (const Known& known : sessions_) {
    REQUIRE(moka_session_position(known.session.get()) == known.tokens.size());
  }
}

void Caller::check_sessions() const {
  for (const Known& known : sessions_) {
    const Handle<moka_session> fresh = new_session(model_);
    test::append(fresh.get(), known.tokens);
    const std::vector<float> expected = logits_of(fresh.get()),
                             found = logits_of(known.session.get());
    REQUIRE(found.size() == expected.size());
    for (size_t i = 0; i < found.size(); ++i) {
      if (std::abs(found[i] - expected[i]) > 1e-4f) FAIL("output " << i << " differs");
    }
  }
}

}  // namespace

TEST_CASE("capi: calls in random order, with right and wrong arguments") {
  const CModel model = open_test_model(byte_language_model(kLimit).spec);
  size_t successes = 0, failures = 0;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    Caller caller(model, seed);
    for (int i = 0; i < 120; ++i) caller.call();
    caller.check_sessions();
    successes += caller.successes();
    failures += caller.failures();
  }
  // Both sides are reached, again and again.
  CHECK(successes > 400);
  CHECK(failures > 200);
}

}  // namespace moka::test
