#include "platforms/cli/sampling.h"

#include <random>

namespace moka::cli {

bool SamplingArguments::given() const {
  return temperature || top_p || min_p || repeat_penalty || top_k || repeat_window || seed ||
         greedy;
}

void add_sampling_options(CLI::App* app, SamplingArguments* arguments) {
  SamplingArguments* a = arguments;
  CLI::Option* temperature = add_number(
      app, "--temperature", [a](double x) { a->temperature = static_cast<float>(x); },
      "0 takes the most likely token; higher is more varied", 0, 100);
  add_whole(
      app, "--top-k", [a](uint64_t n) { a->top_k = static_cast<uint32_t>(n); },
      "Choose among the N most likely tokens; 0 is all", 0, UINT32_MAX);
  add_number(
      app, "--top-p", [a](double x) { a->top_p = static_cast<float>(x); },
      "Choose among the most likely tokens that together have probability X; 1 is all", 0, 1);
  add_number(
      app, "--min-p", [a](double x) { a->min_p = static_cast<float>(x); },
      "Leave out tokens less than X times as likely as the most likely one; 0 is none", 0, 1);
  add_number(
      app, "--repeat-penalty", [a](double x) { a->repeat_penalty = static_cast<float>(x); },
      "Make recent tokens less likely; 1 is off, 1.1 is mild", 0.01, 100);
  add_whole(
      app, "--repeat-window", [a](uint64_t n) { a->repeat_window = static_cast<uint32_t>(n); },
      "How many recent tokens the penalty looks at", 0, 65536);
  app->add_flag("--greedy", a->greedy, "The same as --temperature 0")->excludes(temperature);
  add_whole(
      app, "--seed", [a](uint64_t n) { a->seed = n; },
      "Seed of the random choices (default: another one each time)");
}

SamplerOptions sampling_of(const SamplingArguments& arguments, const SamplerOptions& base) {
  SamplerOptions sampling = base;
  if (arguments.temperature) sampling.temperature = *arguments.temperature;
  if (arguments.greedy) sampling.temperature = 0.0f;
  if (arguments.top_k) sampling.top_k = *arguments.top_k;
  if (arguments.top_p) sampling.top_p = *arguments.top_p;
  if (arguments.min_p) sampling.min_p = *arguments.min_p;
  if (arguments.repeat_penalty) sampling.repeat_penalty = *arguments.repeat_penalty;
  if (arguments.repeat_window) sampling.repeat_window = *arguments.repeat_window;
  sampling.seed = arguments.seed ? *arguments.seed : std::random_device{}();
  return sampling;
}

}  // namespace moka::cli
