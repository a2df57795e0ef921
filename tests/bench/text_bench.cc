// Speed of the text side: cutting, encoding, sampling over GPT-2's vocabulary.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "converter/tokenizer_source.h"
#include "moka/sampler.h"
#include "moka/tokenizer.h"

namespace {

constexpr size_t kVocabulary = 50257;

// About English in the lengths of its words; `size` bytes.
std::string words(size_t size) {
  const char* const kWords[] = {"the",     "once", "upon", "little", "said", "rabbit's", "and",
                                "morning", "I'll", "find", "it,",    "12",   "forest.",  "Why?\n"};
  std::string text;
  for (uint32_t state = 1; text.size() < size;) {
    state = state * 1664525u + 1013904223u;
    text += std::string(" ") + kWords[(state >> 16) % 14];
  }
  return text;
}

// `source` under tests/data/tokenizers.
void encode(benchmark::State& state, const char* source) {
  moka::TokenizerRequest request;
  request.source = std::string(MOKA_SOURCE_DIR) + "/tests/data/tokenizers/" + source;
  auto read = moka::read_tokenizer(request);
  auto tokenizer = read.ok() ? moka::Tokenizer::create(std::move(read).value().spec)
                             : moka::Result<moka::Tokenizer>(read.status());
  if (!tokenizer.ok()) return state.SkipWithError(tokenizer.status().message().c_str());
  const std::string text = words(1 << 20);
  std::vector<moka::TokenId> ids;
  for (auto _ : state) {
    ids.clear();
    if (!tokenizer.value().encode(text, &ids).ok()) state.SkipWithError("encode failed");
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * text.size()));
}
BENCHMARK_CAPTURE(encode, gpt2, "gpt2-vocab.bpe")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, sentencepiece_unigram, "sentencepiece/unigram-bytes.model")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, sentencepiece_bpe, "sentencepiece/bpe.model")
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, json_unigram, "sentencepiece/hf-always.json")
    ->Unit(benchmark::kMillisecond);

void sample(benchmark::State& state, const moka::SamplerOptions& options) {
  std::vector<float> logits(kVocabulary);
  uint32_t random = 1;
  for (float& logit : logits) {  // bell-shaped, as logits are
    float sum = 0.0f;
    for (int i = 0; i < 4; ++i) {
      random = random * 1664525u + 1013904223u;
      sum += static_cast<float>(random >> 8) / 16777216.0f;
    }
    logit = 5.0f * (sum - 2.0f);
  }
  auto sampler = moka::Sampler::create(options, kVocabulary);
  if (!sampler.ok()) return state.SkipWithError(sampler.status().message().c_str());
  for (auto _ : state) benchmark::DoNotOptimize(sampler.value().sample(logits));
}

moka::SamplerOptions options(float temperature, uint32_t top_k, float top_p, float min_p) {
  moka::SamplerOptions o;
  o.temperature = temperature;
  o.top_k = top_k;
  o.top_p = top_p;
  o.min_p = min_p;
  return o;
}
BENCHMARK_CAPTURE(sample, greedy, options(0.0f, 0, 1.0f, 0.0f))->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(sample, temperature, options(0.8f, 0, 1.0f, 0.0f))->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(sample, top_k_40, options(0.8f, 40, 1.0f, 0.0f))->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(sample, top_p_0_9, options(0.8f, 0, 0.9f, 0.0f))->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(sample, min_p_0_05, options(0.8f, 0, 1.0f, 0.05f))->Unit(benchmark::kMicrosecond);

}  // namespace
