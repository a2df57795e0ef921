// The options that say how the next token is drawn, for verbs that write.
#ifndef MOKA_PLATFORMS_CLI_SAMPLING_H_
#define MOKA_PLATFORMS_CLI_SAMPLING_H_

#include <cstdint>
#include <optional>

#include "moka/sampler.h"
#include "platforms/cli/options.h"

namespace moka::cli {

struct SamplingArguments {
  std::optional<float> temperature, top_p, min_p, repeat_penalty;
  std::optional<uint32_t> top_k, repeat_window;
  std::optional<uint64_t> seed;
  bool greedy = false;

  bool given() const;  // any of them
};

// --temperature, --top-k, --top-p, --min-p, --repeat-penalty, --repeat-window, --greedy, --seed.
void add_sampling_options(CLI::App* app, SamplingArguments* arguments);

// `base` with what was given; without --seed a seed of 32 random bits, short enough to be typed
// again and exact in every JSON reader.
SamplerOptions sampling_of(const SamplingArguments& arguments, const SamplerOptions& base);

}  // namespace moka::cli

#endif  // MOKA_PLATFORMS_CLI_SAMPLING_H_
