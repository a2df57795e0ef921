// `moka bench`: speed and memory, with what is needed to compare two measurements.
#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "moka/moka.h"
#include "platforms/cli/interrupt.h"
#include "platforms/cli/json.h"
#include "platforms/cli/options.h"
#include "platforms/cli/task.h"
#include "platforms/cli/terminal.h"
#include "platforms/cli/version.h"

namespace moka::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kSlice = 1024;  // tokens between two looks at the progress bar

const char kDescription[] =
    "Measures load time (from the start of opening the file to the first token; the system may "
    "have the file cached), prefill and decode speed at each depth, and peak memory. A depth is "
    "the number of tokens that the session has really read before. Tokens are made up, the same "
    "in every run; decoding takes the most likely token. Each figure is the median of --repeat "
    "runs, with the least and the most.";

const char kExamples[] =
    "  moka bench stories.moka\n"
    "  moka bench stories.moka --depth 0,1000,1000000 --threads 2 --repeat 9\n"
    "  MOKA_ISA=avx2 moka bench stories.moka --json > avx2.json\n";

struct BenchOptions {
  std::string model;
  std::vector<uint64_t> depths = {0, 4096, 32768};
  uint64_t prompt = 512;
  uint64_t count = 128;
  uint64_t repeat = 5;
  int threads = 0;
  bool json = false;
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Least, median and most of some measurements.
struct Spread {
  double low = 0, median = 0, high = 0;
};

Spread spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  const double median =
      values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
  return {values.front(), median, values.back()};
}

Json spread_json(const Spread& spread) {
  return {{"min", spread.low}, {"median", spread.median}, {"max", spread.high}};
}

std::string spread_words(const Spread& spread) {
  return short_number(spread.median) + "  (" + short_number(spread.low) + " to " +
         short_number(spread.high) + ")";
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

struct DepthResult {
  uint64_t depth = 0;
  Spread prefill, decode;  // tokens per second
};

class Bench {
 public:
  explicit Bench(const BenchOptions& options) : options_(options) {}
  Outcome run();

 private:
  Outcome measure_load();
  Status check_limit() const;
  Status advance(Session& session, uint64_t depth, TokenSource& source, Progress& bar);
  Status measure_depth(const Session& session, Sampler& sampler, TokenSource& source,
                       DepthResult* result);
  void print_text() const;
  void print_json() const;

  const BenchOptions& options_;
  std::optional<Model> model_;
  Spread load_;
  std::vector<DepthResult> results_;
};

// Opens the model --repeat times, up to the first token each time, and keeps the last one.
Outcome Bench::measure_load() {
  std::vector<double> seconds;
  for (uint64_t i = 0; i < options_.repeat && !interrupted(); i++) {
    model_.reset();
    const Clock::time_point start = Clock::now();
    OpenedModel opened = open_model(options_.model, options_.threads);
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
    SamplerOptions greedy;
    greedy.temperature = 0.0f;
    MOKA_ASSIGN_OR_RETURN(Sampler sampler, Sampler::create(greedy, info.outputs));
    MOKA_ASSIGN_OR_RETURN(Session session, model_->new_session());
    const CancelOnInterrupt cancel(&session);
    MOKA_RETURN_IF_ERROR(session.append(TokenSource(info.vocab_size).take(1)));
    MOKA_ASSIGN_OR_RETURN(const TokenId first, sampler.sample(session.logits()));
    (void)first;
    seconds.push_back(seconds_since(start));
  }
  load_ = spread_of(seconds);
  return {};
}

Status Bench::check_limit() const {
  const uint64_t limit = model_->info().position_limit;
  const uint64_t deepest = *std::max_element(options_.depths.begin(), options_.depths.end());
  const uint64_t needed = deepest + std::max(options_.prompt, options_.count + 1);
  if (limit == 0 || needed <= limit) return {};
  return {StatusCode::kInvalidArgument,
          "--depth: " + with_commas(deepest) + " and the tokens measured there are " +
              with_commas(needed) + "; the model reads at most " + with_commas(limit)};
}

Status Bench::advance(Session& session, uint64_t depth, TokenSource& source, Progress& bar) {
  while (session.position() < depth) {
    const auto count = static_cast<size_t>(std::min<uint64_t>(kSlice, depth - session.position()));
    MOKA_RETURN_IF_ERROR(session.append(source.take(count)));
    bar.update(session.position());
  }
  return {};
}

// The session stays at its depth: each repetition runs on a copy.
Status Bench::measure_depth(const Session& session, Sampler& sampler, TokenSource& source,
                            DepthResult* result) {
  std::vector<double> prefill, decode;
  for (uint64_t i = 0; i < options_.repeat; i++) {
    MOKA_ASSIGN_OR_RETURN(Session copy, session.fork());
    const CancelOnInterrupt cancel(&copy);
    const std::vector<TokenId> prompt = source.take(static_cast<size_t>(options_.prompt));
    Clock::time_point start = Clock::now();
    MOKA_RETURN_IF_ERROR(copy.append(prompt));
    prefill.push_back(static_cast<double>(options_.prompt) / seconds_since(start));

    MOKA_ASSIGN_OR_RETURN(copy, session.fork());
    // One token that is not counted: at depth 0 there is nothing to sample from yet.
    MOKA_RETURN_IF_ERROR(copy.append(source.take(1)));
    start = Clock::now();
    for (uint64_t n = 0; n < options_.count; n++) {
      MOKA_ASSIGN_OR_RETURN(const TokenId id, copy.step(sampler));
      (void)id;
    }
    decode.push_back(static_cast<double>(options_.count) / seconds_since(start));
  }
  result->prefill = spread_of(prefill);
  result->decode = spread_of(decode);
  return {};
}

Outcome Bench::run() {
  Outcome outcome = measure_load();
  if (outcome.exit_code != kExitOk) return outcome;
  if (interrupted()) return {kExitInterrupted, ""};
  const Status limit = check_limit();
  if (!limit.ok()) return Outcome::usage(limit.message());

  SamplerOptions greedy;
  greedy.temperature = 0.0f;
  MOKA_ASSIGN_OR_RETURN(Sampler sampler, Sampler::create(greedy, model_->info().outputs));
  MOKA_ASSIGN_OR_RETURN(Session session, model_->new_session());
  TokenSource source(model_->info().vocab_size);
  std::vector<uint64_t> depths = options_.depths;  // one walk, from the shallowest to the deepest
  std::sort(depths.begin(), depths.end());
  depths.erase(std::unique(depths.begin(), depths.end()), depths.end());
  {
    Progress bar("reading", depths.back(), "tokens");
    for (uint64_t depth : depths) {
      {
        const CancelOnInterrupt cancel(&session);
        MOKA_RETURN_IF_ERROR(advance(session, depth, source, bar));
      }
      DepthResult result;
      result.depth = depth;
      MOKA_RETURN_IF_ERROR(measure_depth(session, sampler, source, &result));
      results_.push_back(result);
    }
  }
  options_.json ? print_json() : print_text();
  return {};
}

void Bench::print_text() const {
  const ModelInfo& info = model_->info();
  std::string out = "machine      " + cpu_name() + ", " + std::to_string(cpu_cores()) +
                    " cores; kernels " + info.isa + ", " + std::to_string(info.threads) +
                    (info.threads == 1 ? " thread" : " threads") + "\n";
  out += "build        moka " MOKA_VERSION_STRING ", " + compiler_name() + "\n";
  out += "model        " + options_.model + ": " + info.architecture + ", " +
         with_commas(info.parameters) + " parameters, " + bytes_words(info.weight_bytes) + "\n";
  out += "load         " + seconds_words(load_.median) + "  (" + seconds_words(load_.low) + " to " +
         seconds_words(load_.high) + ") to the first token\n";
  out += "peak memory  " + bytes_words(peak_resident_bytes()) + "\n";
  out += "state        " + bytes_words(info.state_bytes) + " per session\n\n";
  Table table({{"depth", true},
               {"prefill tokens/s", true},
               {"decode tokens/s", true},
               {"per token", true}});
  for (const DepthResult& result : results_) {
    table.add({with_commas(result.depth), spread_words(result.prefill), spread_words(result.decode),
               seconds_words(1.0 / result.decode.median)});
  }
  write_output(out + table.to_string());
}

void Bench::print_json() const {
  const ModelInfo& info = model_->info();
  Json depths = Json::array();
  for (const DepthResult& result : results_) {
    depths.push_back({{"depth", result.depth},
                      {"prefill_tokens_per_second", spread_json(result.prefill)},
                      {"decode_tokens_per_second", spread_json(result.decode)}});
  }
  write_output(json_document({{"model", options_.model},
                              {"architecture", info.architecture},
                              {"parameters", info.parameters},
                              {"weight_bytes", info.weight_bytes},
                              {"state_bytes", info.state_bytes},
                              {"cpu", cpu_name()},
                              {"cores", cpu_cores()},
                              {"isa", info.isa},
                              {"threads", info.threads},
                              {"version", MOKA_VERSION_STRING},
                              {"compiler", compiler_name()},
                              {"prompt_tokens", options_.prompt},
                              {"decode_tokens", options_.count},
                              {"repeat", options_.repeat},
                              {"load_seconds", spread_json(load_)},
                              {"peak_resident_bytes", peak_resident_bytes()},
                              {"depths", depths}}));
}

// "0,4096,32768"
void parse_depths(const std::string& text, std::vector<uint64_t>* depths) {
  depths->clear();
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    const std::optional<uint64_t> depth = parse_whole(word, 0, 1'000'000'000'000);
    if (!depth) {
      throw CLI::ValidationError("--depth", "'" + word + "' in '" + text +
                                                "' is not a whole number up to 1000000000000; "
                                                "an example is 0,4096,32768");
    }
    depths->push_back(*depth);
    begin = end + 1;
  }
}

}  // namespace

Verb add_bench(CLI::App& moka) {
  auto options = std::make_shared<BenchOptions>();
  BenchOptions* o = options.get();
  CLI::App* app = add_verb(moka, "bench", "Measure speed and memory", kDescription, kExamples);
  add_model_argument(app, &o->model);
  app->add_option_function<std::string>(
         "--depth", [o](const std::string& text) { parse_depths(text, &o->depths); },
         "Tokens read before measuring, separated by commas (default: 0,4096,32768)")
      ->take_last()
      ->type_name("LIST");
  add_whole(
      app, "--prompt", [o](uint64_t n) { o->prompt = n; },
      "Tokens read at once when prefill is measured (default: 512)", 1, 1'000'000);
  add_whole(
      app, "-n,--tokens", [o](uint64_t n) { o->count = n; },
      "Tokens written when decoding is measured (default: 128)", 1, 1'000'000);
  add_whole(
      app, "--repeat", [o](uint64_t n) { o->repeat = n; }, "Runs of each measurement (default: 5)",
      1, 1000);
  add_threads_option(app, &o->threads);
  add_json_flag(app, &o->json, "One JSON object on stdout");
  return {app, [options] { return Bench(*options).run(); }};
}

}  // namespace moka::cli
