// Writing: the loop over a session's steps, and its options, which chats share.
#include <string>
#include <string_view>

#include "platforms/capi/border.h"
#include "platforms/capi/handles.h"
#include "runtime/writing.h"

namespace moka::capi {
namespace {

moka_generate_options default_generate() {
  const GenerateOptions defaults;
  moka_generate_options options{};
  options.struct_size = sizeof options;
  options.stop_at_end = defaults.stop_at_end ? 1 : 0;
  options.max_tokens = defaults.max_tokens;
  options.max_ms = defaults.max_ms;
  options.loop_tokens = defaults.loop_tokens;
  return options;
}

// One call of moka_session_generate. *result tells what was read even when it fails.
class SessionWriting final : public Writing {
 public:
  SessionWriting(Session* session, Sampler* sampler, const GenerateOptions& options,
                 moka_generate_result* result)
      : Writing(*session, *sampler, options), options_(options), result_(result) {}

  Status run() {
    MOKA_RETURN_IF_ERROR(reserve_lookup(0));
    const Result<TurnEnd> end = Writing::run(options_.max_tokens);
    result_->drafted = lookups().drafted;
    result_->accepted = lookups().accepted;
    if (!end.ok()) return end.status();
    result_->end = static_cast<int32_t>(end.value());
    // It is over, whatever the callback answers now.
    if (listening() && !stopped()) (void)(hand_over(finish()) && hand_over(finish_character()));
    return Status();
  }

 private:
  bool hand_over(std::string_view text) const {
    return text.empty() || !options_.on_text || options_.on_text(text);
  }
  void was_read(TokenId) override { ++result_->tokens; }
  bool give_out(TokenId, std::string_view text) override { return hand_over(text); }

  const GenerateOptions& options_;
  moka_generate_result* const result_;
};

// The caller's result, which is filled in however the call ends.
class Report {
 public:
  explicit Report(moka_generate_result* out) : out_(out) {}
  Report(const Report&) = delete;
  Report& operator=(const Report&) = delete;
  ~Report() {
    if (good_) (void)write_struct(written, kName, out_);
  }

  // To be called first: until then nothing is written.
  Status check() {
    if (out_ == nullptr) return Status();
    MOKA_RETURN_IF_ERROR(write_struct(written, kName, out_));
    good_ = true;
    return Status();
  }

  moka_generate_result written{sizeof(moka_generate_result), MOKA_END_NONE, 0, 0, 0};

 private:
  static constexpr const char* kName = "moka_generate_result";
  moka_generate_result* const out_;
  bool good_ = false;
};

Status check_writes(const Model& model) {
  if (model.info().output == OutputKind::kLanguage && model.has_tokenizer()) return Status();
  return Status(StatusCode::kUnsupported, "the model is a " + model.info().architecture +
                                              (model.has_tokenizer() ? "" : " without tokenizer") +
                                              "; only language models with a tokenizer write");
}

}  // namespace

Status read_generate(const moka_generate_options* given, GenerateOptions* options) {
  moka_generate_options read = default_generate();
  MOKA_RETURN_IF_ERROR(read_options(given, "moka_generate_options", &read));
  MOKA_RETURN_IF_ERROR(read_switch(read.stop_at_end, "stop_at_end", &options->stop_at_end));
  options->max_tokens = read.max_tokens;
  options->max_ms = read.max_ms;
  if (read.loop_tokens > LoopGuard::kMostTokens) {
    return invalid("loop_tokens is " + std::to_string(read.loop_tokens) + ", must be at most " +
                   std::to_string(LoopGuard::kMostTokens));
  }
  options->loop_tokens = static_cast<uint32_t>(read.loop_tokens);
  if (read.lookup > Session::kMostGuesses) {
    return invalid("lookup is " + std::to_string(read.lookup) + ", must be at most " +
                   std::to_string(Session::kMostGuesses));
  }
  options->lookup = static_cast<uint32_t>(read.lookup);
  MOKA_ASSIGN_OR_RETURN(const auto looked_up,
                        span_of(read.lookup_tokens, read.lookup_token_count, "lookup_tokens"));
  options->lookup_tokens.assign(looked_up.begin(), looked_up.end());
  MOKA_ASSIGN_OR_RETURN(const auto tokens,
                        span_of(read.stop_tokens, read.stop_token_count, "stop_tokens"));
  options->stop_tokens.assign(tokens.begin(), tokens.end());
  MOKA_ASSIGN_OR_RETURN(const auto texts,
                        span_of(read.stop_texts, read.stop_text_count, "stop_texts"));
  for (size_t i = 0; i < texts.size(); ++i) {
    if (texts[i] == nullptr) return invalid("stop_texts[" + std::to_string(i) + "] is NULL");
    options->stop.emplace_back(texts[i]);
  }
  if (read.on_text != nullptr) {
    options->on_text = [fn = read.on_text, user = read.user](std::string_view text) {
      return fn(user, text.data(), text.size()) == 0;
    };
  }
  return Status();
}

namespace {

// What can be said before anything is read: the model writes, and the options are right.
Status read_writing(const Model& model, const moka_generate_options* given,
                    GenerateOptions* options) {
  MOKA_RETURN_IF_ERROR(check_writes(model));
  MOKA_RETURN_IF_ERROR(read_generate(given, options));
  return check_generate(*options, model.info().vocab_size);
}

}  // namespace

static_assert(MOKA_END_NONE == static_cast<int>(TurnEnd::kGiven));
static_assert(MOKA_END_STOP_TOKEN == static_cast<int>(TurnEnd::kStopToken));
static_assert(MOKA_END_STOP_TEXT == static_cast<int>(TurnEnd::kStopText));
static_assert(MOKA_END_TOKENS == static_cast<int>(TurnEnd::kTokenBudget));
static_assert(MOKA_END_TIME == static_cast<int>(TurnEnd::kTimeBudget));
static_assert(MOKA_END_CALLBACK == static_cast<int>(TurnEnd::kCallback));
static_assert(MOKA_END_POSITION == static_cast<int>(TurnEnd::kPositionLimit));
static_assert(MOKA_END_LOOP == static_cast<int>(TurnEnd::kLoop));

}  // namespace moka::capi

using namespace moka::capi;  // NOLINT: every function below is one of the C interface
using moka::Status;

void moka_generate_options_init(moka_generate_options* options, uint32_t struct_size) {
  init_struct(default_generate(), options, struct_size);
}

moka_status moka_session_check_generate(const moka_session* session,
                                        const moka_generate_options* options, moka_error* error) {
  return border(error, [&]() -> Status {
    MOKA_RETURN_IF_ERROR(need(session, "session"));
    moka::GenerateOptions how;
    return read_writing(session->session.model(), options, &how);
  });
}

moka_status moka_session_generate(moka_session* session, moka_sampler* sampler,
                                  const moka_generate_options* options,
                                  moka_generate_result* result, moka_error* error) {
  return border(error, [&]() -> Status {
    Report report(result);
    MOKA_RETURN_IF_ERROR(report.check());
    MOKA_RETURN_IF_ERROR(need(session, "session"));
    MOKA_RETURN_IF_ERROR(need(sampler, "sampler"));
    moka::GenerateOptions how;
    MOKA_RETURN_IF_ERROR(read_writing(session->session.model(), options, &how));
    if (session->session.position() == 0) {
      return Status(moka::StatusCode::kFailedPrecondition,
                    "nothing was read yet: append a token before writing");
    }
    return SessionWriting(&session->session, &sampler->sampler, how, &report.written).run();
  });
}
