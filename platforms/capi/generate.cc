// Writing: the loop over a session's steps, and its options, which chats share.
#include <chrono>
#include <string>
#include <string_view>

#include "moka/loop_guard.h"
#include "platforms/capi/border.h"
#include "platforms/capi/handles.h"
#include "runtime/chat_text.h"

namespace moka::capi {
namespace {

using Clock = std::chrono::steady_clock;

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

// One call of moka_session_generate.
class Writing {
 public:
  Writing(Session* session, Sampler* sampler, const GenerateOptions& options)
      : session_(session),
        sampler_(sampler),
        options_(options),
        text_(session->model().tokenizer(), options.stop),
        whole_(session->model().tokenizer()),
        loop_(options.loop_tokens) {}

  // *result tells what was read even when this fails.
  Status run(moka_generate_result* result);

 private:
  bool is_over(uint64_t written, int32_t* end) const;
  Status write_token(TokenId* token, bool* stopped);
  bool give_out(std::string_view text) const {
    return text.empty() || !options_.on_text || options_.on_text(text);
  }

  Session* const session_;
  Sampler* const sampler_;
  const GenerateOptions& options_;
  const Clock::time_point begin_ = Clock::now();
  TurnText text_;
  TextStream whole_;  // the same tokens: knows at the end whether the last character is whole
  LoopGuard loop_;
};

bool Writing::is_over(uint64_t written, int32_t* end) const {
  const uint64_t limit = session_->model().info().position_limit;
  const auto passed = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin_);
  if (written >= options_.max_tokens) {
    *end = MOKA_END_TOKENS;
  } else if (limit != 0 && session_->position() >= limit) {
    *end = MOKA_END_POSITION;
  } else if (options_.max_ms != 0 && written > 0 &&
             static_cast<uint64_t>(passed.count()) >= options_.max_ms) {
    *end = MOKA_END_TIME;
  }
  return *end != MOKA_END_NONE;
}

// Draws a token and, unless it stops the writing, reads it. Both or none.
Status Writing::write_token(TokenId* token, bool* stopped) {
  const Sampler::Mark before = sampler_->mark();
  MOKA_ASSIGN_OR_RETURN(*token, sampler_->sample(session_->logits()));
  *stopped = is_stop_token(options_, session_->model().tokenizer(), *token);
  if (*stopped) return Status();
  const Status status = session_->append(Span<const TokenId>(token, 1));
  if (!status.ok()) sampler_->back_to(before);
  return status;
}

Status Writing::run(moka_generate_result* result) {
  bool listening = true;
  while (!is_over(result->tokens, &result->end)) {
    TokenId token = -1;
    bool stopped = false;
    MOKA_RETURN_IF_ERROR(write_token(&token, &stopped));
    if (stopped) {
      result->end = MOKA_END_STOP_TOKEN;
      break;
    }
    ++result->tokens;
    (void)whole_.push(token);
    listening = give_out(text_.push(token));
    if (text_.stopped() || !listening) {
      result->end = text_.stopped() ? MOKA_END_STOP_TEXT : MOKA_END_CALLBACK;
      break;
    }
    if (loop_.push(token)) {
      result->end = MOKA_END_LOOP;
      break;
    }
  }
  // It is over, whatever the callback answers now.
  if (listening && !text_.stopped()) {
    (void)(give_out(text_.finish()) && give_out(whole_.finish()));
  }
  return Status();
}

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

  moka_generate_result written{sizeof(moka_generate_result), MOKA_END_NONE, 0};

 private:
  static constexpr const char* kName = "moka_generate_result";
  moka_generate_result* const out_;
  bool good_ = false;
};

Status check_writing(const GenerateOptions& options, const Session& session) {
  MOKA_RETURN_IF_ERROR(check_generate(options, session.model().info().vocab_size));
  if (session.position() != 0) return Status();
  return Status(StatusCode::kFailedPrecondition,
                "nothing was read yet: append a token before writing");
}

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

moka_status moka_session_generate(moka_session* session, moka_sampler* sampler,
                                  const moka_generate_options* options,
                                  moka_generate_result* result, moka_error* error) {
  return border(error, [&]() -> Status {
    Report report(result);
    MOKA_RETURN_IF_ERROR(report.check());
    MOKA_RETURN_IF_ERROR(need(session, "session"));
    MOKA_RETURN_IF_ERROR(need(sampler, "sampler"));
    MOKA_RETURN_IF_ERROR(check_writes(session->session.model()));
    moka::GenerateOptions how;
    MOKA_RETURN_IF_ERROR(read_generate(options, &how));
    MOKA_RETURN_IF_ERROR(check_writing(how, session->session));
    return Writing(&session->session, &sampler->sampler, how).run(&report.written);
  });
}
