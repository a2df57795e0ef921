// The measurements of `moka bench`.
#include <algorithm>
#include <chrono>
#include <optional>
#include <set>

#include "platforms/cli/bench.h"
#include "platforms/cli/interrupt.h"
#include "platforms/cli/options.h"
#include "platforms/cli/task.h"
#include "platforms/cli/terminal.h"
#include "platforms/cli/version.h"
#include "runtime/plan.h"

namespace moka::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kSlice = 1024;  // tokens between two looks at the progress bar

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// A fixed sequence that visits the whole vocabulary; speed depends on the ids only through caches.
class TokenSource {
 public:
  explicit TokenSource(uint32_t vocab_size) : vocab_size_(vocab_size) {}
  std::vector<TokenId> take(size_t count) {
    std::vector<TokenId> ids(count);
    for (TokenId& id : ids) {
      state_ = state_ * 6364136223846793005u + 1442695040888963407u;  // Knuth's MMIX generator
      id = static_cast<TokenId>((state_ >> 33) % vocab_size_);
    }
    return ids;
  }

 private:
  uint32_t vocab_size_;
  uint64_t state_ = 1;
};

Result<Sampler> greedy_sampler(const ModelInfo& info) {
  SamplerOptions greedy;
  greedy.temperature = 0.0f;
  return Sampler::create(greedy, info.outputs);
}

class Measure {
 public:
  Measure(const BenchOptions& options, int threads, ThreadsResult* result)
      : options_(options), threads_(threads), result_(result) {}
  Outcome run();
  const ModelInfo& info() const { return model_->info(); }

 private:
  Outcome load();
  Status check_limit() const;
  Status advance(Session& session, uint64_t depth, Progress& bar);
  Status measure_depth(const Session& session, DepthResult* result);
  Status measure_prompt(const Session& session, PromptResult* result);
  Status measure_decode(const Session& session, Spread* speed);
  Status measure_sessions(const Session& session, SessionsResult* result);
  Result<std::vector<Session>> begin_batch(const Session& session, uint64_t count);
  Result<double> decode_batch(std::vector<Session>& sessions);
  Status record_prompt(const Session& session, size_t spans);
  Status record_decode(const Session& session, size_t spans);
  Status record_batch(const Session& session, size_t spans);
  Status record(const Session& session);
  Result<Session> begin_decode(const Session& session);
  Status decode(Session& session);

  const BenchOptions& options_;
  const int threads_;
  ThreadsResult* result_;
  std::optional<Model> model_;
  std::optional<Sampler> sampler_;
  std::optional<TokenSource> source_;
};

// Opens the model --repeat times, up to the first token each time, and keeps the last one.
Outcome Measure::load() {
  std::vector<double> seconds;
  for (uint64_t i = 0; i < options_.repeat && !interrupted(); i++) {
    model_.reset();
    const Clock::time_point start = Clock::now();
    OpenedModel opened = open_model(options_.model, threads_);
    if (!opened.model) return opened.outcome;
    model_ = std::move(opened.model);
    const ModelInfo& info = model_->info();
    const Outcome head = check_head(*model_, options_.model, "bench", {OutputKind::kLanguage});
    if (head.exit_code != kExitOk) return head;
    if (!info.causal || info.reads_memory) {
      return {kExitUnsupported, options_.model +
                                    ": `moka bench` needs a causal language model that " +
                                    "reads one sequence"};
    }
    MOKA_ASSIGN_OR_RETURN(Sampler sampler, greedy_sampler(info));
    MOKA_ASSIGN_OR_RETURN(Session session, model_->new_session());
    const CancelOnInterrupt cancel(&session);
    MOKA_RETURN_IF_ERROR(session.append(TokenSource(info.vocab_size).take(1)));
    MOKA_ASSIGN_OR_RETURN(const TokenId first, sampler.sample(session.logits()));
    (void)first;
    seconds.push_back(seconds_since(start));
  }
  if (interrupted()) return {kExitInterrupted, ""};
  result_->load = spread_of(seconds);
  return {};
}

Status Measure::check_limit() const {
  const uint64_t limit = model_->info().position_limit;
  const uint64_t deepest = *std::max_element(options_.depths.begin(), options_.depths.end());
  const uint64_t longest = *std::max_element(options_.prompts.begin(), options_.prompts.end());
  const uint64_t needed = deepest + std::max(longest, options_.count + 1);
  if (limit == 0 || needed <= limit) return {};
  return {StatusCode::kInvalidArgument,
          "--depth: " + with_commas(deepest) + " and the tokens measured there are " +
              with_commas(needed) + "; the model reads at most " + with_commas(limit)};
}

Status Measure::advance(Session& session, uint64_t depth, Progress& bar) {
  const CancelOnInterrupt cancel(&session);
  while (session.position() < depth) {
    const auto count = static_cast<size_t>(std::min<uint64_t>(kSlice, depth - session.position()));
    MOKA_RETURN_IF_ERROR(session.append(source_->take(count)));
    bar.update(session.position());
  }
  return {};
}

// As a user's prompt: one row of output comes of it.
Status Measure::measure_prompt(const Session& session, PromptResult* result) {
  std::vector<double> speeds;
  for (uint64_t i = 0; i < options_.repeat; i++) {
    MOKA_ASSIGN_OR_RETURN(Session copy, session.fork());
    const CancelOnInterrupt cancel(&copy);
    const std::vector<TokenId> prompt = source_->take(static_cast<size_t>(result->tokens));
    const Clock::time_point start = Clock::now();
    MOKA_RETURN_IF_ERROR(copy.append(prompt));
    speeds.push_back(static_cast<double>(result->tokens) / seconds_since(start));
  }
  result->speed = spread_of(speeds);
  return {};
}

// A copy that has read one token that is not counted: at depth 0 there is nothing to sample from yet.
Result<Session> Measure::begin_decode(const Session& session) {
  MOKA_ASSIGN_OR_RETURN(Session copy, session.fork());
  MOKA_RETURN_IF_ERROR(copy.append(source_->take(1)));
  return copy;
}

Status Measure::decode(Session& session) {
  const CancelOnInterrupt cancel(&session);
  for (uint64_t n = 0; n < options_.count; n++) {
    MOKA_ASSIGN_OR_RETURN(const TokenId id, session.step(*sampler_));
    (void)id;
  }
  return {};
}

Status Measure::measure_decode(const Session& session, Spread* speed) {
  std::vector<double> speeds;
  for (uint64_t i = 0; i < options_.repeat; i++) {
    MOKA_ASSIGN_OR_RETURN(Session copy, begin_decode(session));
    const Clock::time_point start = Clock::now();
    MOKA_RETURN_IF_ERROR(decode(copy));
    speeds.push_back(static_cast<double>(options_.count) / seconds_since(start));
  }
  *speed = spread_of(speeds);
  return {};
}

// Sessions at the same depth that go on differently.
Result<std::vector<Session>> Measure::begin_batch(const Session& session, uint64_t count) {
  std::vector<Session> sessions;
  for (uint64_t i = 0; i < count; i++) {
    MOKA_ASSIGN_OR_RETURN(Session copy, begin_decode(session));
    sessions.push_back(std::move(copy));
  }
  return sessions;
}

// The seconds of --tokens steps of all of them.
Result<double> Measure::decode_batch(std::vector<Session>& sessions) {
  std::vector<Sampler> samplers(sessions.size(), *sampler_);
  std::vector<SessionDraw> batch;
  for (size_t i = 0; i < sessions.size(); i++) batch.push_back({&sessions[i], &samplers[i]});
  const CancelOnInterrupt cancel(&sessions[0]);  // which ends the step of all
  const Clock::time_point start = Clock::now();
  for (uint64_t n = 0; n < options_.count; n++) {
    MOKA_RETURN_IF_ERROR(model_->executor().step(batch));
  }
  return seconds_since(start);
}

Status Measure::measure_sessions(const Session& session, SessionsResult* result) {
  std::vector<double> speeds;
  for (uint64_t i = 0; i < options_.repeat; i++) {
    MOKA_ASSIGN_OR_RETURN(std::vector<Session> sessions, begin_batch(session, result->sessions));
    MOKA_ASSIGN_OR_RETURN(const double seconds, decode_batch(sessions));
    speeds.push_back(static_cast<double>(options_.count * result->sessions) / seconds);
  }
  result->total = spread_of(speeds);
  return {};
}

// The session stays at its depth: each repetition runs on a copy.
Status Measure::measure_depth(const Session& session, DepthResult* result) {
  MOKA_ASSIGN_OR_RETURN(result->bytes, token_bytes(model_->spec(), result->depth));
  for (const uint64_t tokens : options_.prompts) {
    result->prompts.push_back({tokens, {}});
    MOKA_RETURN_IF_ERROR(measure_prompt(session, &result->prompts.back()));
  }
  MOKA_RETURN_IF_ERROR(measure_decode(session, &result->decode));
  for (const uint64_t sessions : options_.sessions) {
    result->sessions.push_back({sessions, {}});
    MOKA_RETURN_IF_ERROR(measure_sessions(session, &result->sessions.back()));
  }
  return {};
}

Status Measure::record_prompt(const Session& session, size_t spans) {
  const uint64_t count = options_.prompts.front();
  ProfileResult result;
  result.key = "prompt";
  result.what = "prompt of " + with_commas(count) + " tokens";
  result.tokens = count;
  result.depth = session.position();
  MOKA_ASSIGN_OR_RETURN(Session copy, session.fork());
  const CancelOnInterrupt cancel(&copy);
  const std::vector<TokenId> tokens = source_->take(static_cast<size_t>(count));
  MOKA_RETURN_IF_ERROR(model_->executor().start_profile(spans));
  const Clock::time_point start = Clock::now();
  MOKA_RETURN_IF_ERROR(copy.append(tokens));
  result.seconds = seconds_since(start);
  result.profile = model_->executor().stop_profile();
  result_->profiles.push_back(std::move(result));
  return {};
}

Status Measure::record_decode(const Session& session, size_t spans) {
  ProfileResult result;
  result.key = "decode";
  result.what = with_commas(options_.count) + " tokens decoded";
  result.tokens = options_.count;
  result.depth = session.position();
  MOKA_ASSIGN_OR_RETURN(Session copy, begin_decode(session));
  MOKA_RETURN_IF_ERROR(model_->executor().start_profile(spans));
  const Clock::time_point start = Clock::now();
  MOKA_RETURN_IF_ERROR(decode(copy));
  result.seconds = seconds_since(start);
  result.profile = model_->executor().stop_profile();
  result_->profiles.push_back(std::move(result));
  return {};
}

Status Measure::record_batch(const Session& session, size_t spans) {
  const uint64_t most = *std::max_element(options_.sessions.begin(), options_.sessions.end());
  ProfileResult result;
  result.key = "batch";
  result.what = with_commas(options_.count) + " tokens of each of " + with_commas(most) +
                (most == 1 ? " session decoded" : " sessions decoded together");
  result.tokens = options_.count * most;
  result.depth = session.position();
  MOKA_ASSIGN_OR_RETURN(std::vector<Session> sessions, begin_batch(session, most));
  MOKA_RETURN_IF_ERROR(model_->executor().start_profile(spans));
  MOKA_ASSIGN_OR_RETURN(result.seconds, decode_batch(sessions));
  result.profile = model_->executor().stop_profile();
  result_->profiles.push_back(std::move(result));
  return {};
}

// Passes of their own, because recording takes time too.
Status Measure::record(const Session& session) {
  constexpr uint64_t kLeastSpans = 65536, kMostSpans = uint64_t{1} << 20;
  const uint64_t per_step = uint64_t{48} * (model_->info().layers + 1);
  const auto spans =
      static_cast<size_t>(std::clamp(options_.count * per_step, kLeastSpans, kMostSpans));
  MOKA_RETURN_IF_ERROR(record_prompt(session, spans));
  MOKA_RETURN_IF_ERROR(record_decode(session, spans));
  return options_.sessions.empty() ? Status() : record_batch(session, spans);
}

Outcome Measure::run() {
  Outcome outcome = load();
  if (outcome.exit_code != kExitOk) return outcome;
  const Status limit = check_limit();
  if (!limit.ok()) return Outcome::usage(limit.message());
  result_->threads = model_->info().threads;

  MOKA_ASSIGN_OR_RETURN(Sampler sampler, greedy_sampler(model_->info()));
  sampler_.emplace(std::move(sampler));
  source_.emplace(model_->info().vocab_size);
  MOKA_ASSIGN_OR_RETURN(Session session, model_->new_session());
  // One walk, from the shallowest to the deepest.
  const std::set<uint64_t> depths(options_.depths.begin(), options_.depths.end());
  Progress bar("reading", *depths.rbegin(), "tokens");
  for (const uint64_t depth : depths) {
    MOKA_RETURN_IF_ERROR(advance(session, depth, bar));
    DepthResult result;
    result.depth = depth;
    MOKA_RETURN_IF_ERROR(measure_depth(session, &result));
    result_->depths.push_back(std::move(result));
  }
  result_->peak_memory = peak_resident_bytes();
  if (options_.profile || !options_.trace.empty()) MOKA_RETURN_IF_ERROR(record(session));
  if (options_.bandwidth) {
    const uint64_t bytes = result_->depths.front().bytes.weights;
    MOKA_ASSIGN_OR_RETURN(result_->limit,
                          measure_read_speed(result_->threads, bytes, options_.repeat));
  }
  return {};
}

// What a step reads of the state of one layer, in floats; the writes are not counted.
uint64_t state_floats(const MixerPlan& mixer, size_t width, uint64_t depth) {
  uint64_t floats = 0;
  if (mixer.latent) {
    const uint64_t latents = uint64_t{mixer.heads} * mixer.lh * (2 + mixer.dh_pad);
    floats += latents * (depth >= kArchiveTokens ? 2 : 1);
  }
  if (mixer.window) {
    const uint64_t kept = mixer.growing ? depth : std::min<uint64_t>(depth, mixer.capacity);
    floats += window_floats(mixer, kept * mixer.heads * (mixer.dh + mixer.dh_pad));
  }
  if (mixer.front.conv) floats += uint64_t{mixer.front.taps - 1} * width;
  if (mixer.front.rglru) floats += width;
  return floats;
}

// As the kernels hold it: quantised numbers as they are stored, others widened to float32.
uint64_t stored_bytes(const DenseLayer& layer) {
  const Tensor& weight = *layer.weights[0];
  if (layer.kind == DenseKind::kFloat32) return uint64_t{layer.in} * layer.out * sizeof(float);
  return weight.size + weight.scale_size;
}

}  // namespace

Spread spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  const double median =
      values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
  return {values.front(), median, values.back()};
}

Result<TokenBytes> token_bytes(const ModelSpec& spec, uint64_t depth) {
  MOKA_ASSIGN_OR_RETURN(std::unique_ptr<PackedWeights> weights, PackedWeights::create());
  const Plan plan = make_plan(spec, *weights);
  TokenBytes bytes;
  std::set<const Tensor*> counted;
  for (const DenseLayer& layer : weights->layers()) {
    bytes.weights += stored_bytes(layer);
    counted.insert(layer.weights.begin(), layer.weights.end());
  }
  // One row of a table, even where the head reads all of the same tensor.
  for (const Tensor* table : {plan.input.token_table, plan.position_table}) {
    if (table == nullptr) continue;
    bytes.weights += (table->size + table->scale_size) / table->rows();
    counted.insert(table);
  }
  for (const Tensor& tensor : spec.tensors) {  // norms, biases, fronts
    if (counted.count(&tensor) == 0) bytes.weights += tensor.size + tensor.scale_size;
  }
  for (const BlockPlan& block : plan.blocks) {
    bytes.state += state_floats(block.mixer, plan.width, depth) * sizeof(float);
  }
  return bytes;
}

Outcome measure_threads(const BenchOptions& options, int threads, ModelInfo* info,
                        ThreadsResult* result) {
  Measure measure(options, threads, result);
  const Outcome outcome = measure.run();
  if (outcome.exit_code == kExitOk) *info = measure.info();
  return outcome;
}

}  // namespace moka::cli
