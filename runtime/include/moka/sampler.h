// Sampler: draws the next token from a row of logits.
//
// The order is fixed: logit bias, repetition penalty, temperature, top-k, top-p, min-p, draw. All
// arithmetic after the logits is IEEE double without fused operations and with Moka's own exp, and
// the generator is Moka's own, so equal logits and seed give equal tokens on every platform.
// A Sampler serves one thread at a time. It allocates when it is made, not when it draws.
#ifndef MOKA_SAMPLER_H_
#define MOKA_SAMPLER_H_

#include <cstdint>
#include <vector>

#include "moka/span.h"
#include "moka/status.h"
#include "moka/tokenizer.h"

namespace moka {

struct LogitBias {
  TokenId token = 0;
  float bias = 0.0f;  // added to the logit; -infinity bans the token
};

struct SamplerOptions {
  float temperature = 0.8f;  // 0: greedy, the lowest id wins a tie
  uint32_t top_k = 0;        // keep the k most likely; 0: all
  float top_p = 1.0f;        // keep the smallest set whose probability is at least top_p
  float min_p = 0.0f;        // keep tokens at least min_p times as likely as the most likely
  float repeat_penalty =
      1.0f;  // positive logits of recent tokens are divided by it, others multiplied
  uint32_t repeat_window = 64;  // how many recent tokens count
  uint64_t seed = 0;
  std::vector<LogitBias> bias;
};

class Sampler {
 public:
  // vocab_size: logits per row. kInvalidArgument names the option, its value and its range.
  static Result<Sampler> create(const SamplerOptions& options, size_t vocab_size);

  // Draws from `logits` (vocab_size floats, not changed) and records the token as recent.
  // kFailedPrecondition when every token is banned; kInvalidArgument for a wrong length or a NaN.
  Result<TokenId> sample(Span<const float> logits);

  // Records a token that was not drawn here, such as one of the prompt.
  void accept(TokenId token);

  // Forgets recent tokens; the generator goes on.
  void forget() { recent_count_ = 0; }

  // Forgets recent tokens and restarts the generator from the seed.
  void reset();

  // Generator and recent tokens as bytes; restore() continues exactly there.
  std::vector<uint8_t> save() const;
  Status restore(Span<const uint8_t> bytes);

  // What one sample() changes: who cannot use the token takes the draw back. Cheaper than save().
  struct Mark {
    uint64_t random[4];
    size_t recent_count;
    TokenId recent;  // in the place that the next token takes
  };
  Mark mark() const;
  void back_to(const Mark& mark);  // one sample() after mark()

  const SamplerOptions& options() const { return options_; }

 private:
  struct Candidate {
    double weight;  // logit, then probability
    TokenId token;
  };

  friend class ExecutorImpl;
  friend class Session;

  Sampler() = default;

  static Status check(const SamplerOptions& options, size_t vocab_size);
  static bool better(const Candidate& a, const Candidate& b);
  TokenId most_likely(Span<const float> logits) const;
  Status load(Span<const float> logits);
  void penalise_recent();
  Result<TokenId> pick(double best);
  void keep_top_k();
  double weigh_all(double best);
  double keep_at_least(double weight);
  void keep_enough(double total);
  void keep_top_p(double total);
  TokenId draw_from_all(double total);
  TokenId draw_from_candidates();
  double next_uniform();

  SamplerOptions options_;
  size_t vocab_size_ = 0;
  uint64_t random_[4] = {};            // xoshiro256** state
  std::vector<TokenId> recent_;        // ring of repeat_window tokens
  size_t recent_count_ = 0;            // below two rings; modulo the ring, where the next goes
  std::vector<double> weights_;        // per token: logit, then weight
  std::vector<double> block_sums_;     // of weights_
  std::vector<Candidate> candidates_;  // what the cuts left, in the order of ids
  std::vector<Candidate> scratch_;
  std::vector<uint8_t> penalised_;  // one flag per token while a row is prepared
};

}  // namespace moka

#endif  // MOKA_SAMPLER_H_
