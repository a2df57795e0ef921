// Small models made from random numbers, for tests: every block and mixer that the runtime runs.
//
//   TestModelOptions options;
//   options.weights = DType::kI8;
//   TestModel model = make_test_model(options);
//   auto opened = Model::from_spec(model.spec);
//
// The same settings and seed give the same numbers on every platform.
#ifndef MOKA_TESTS_SPEC_BUILDER_H_
#define MOKA_TESTS_SPEC_BUILDER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/model_spec.h"

namespace moka::test {

enum class TestMixer { kLatte, kWindow, kMacchiato };
enum class TestBlock {
  kTransformer,      // LayerNorm before, biased MLP with GELU
  kTransformerPost,  // LayerNorm after
  kGlu,              // one LayerNorm before the mixer, GLU
  kRmsSwiglu,        // RMSNorm before, gated SiLU
};

struct TestModelOptions {
  TestMixer mixer = TestMixer::kMacchiato;
  TestBlock block = TestBlock::kRmsSwiglu;
  DType weights = DType::kF32;  // of the matrices: kF32, kF16, kBF16, kI8 (per channel) or kI4
  bool tiles = false;           // kI8 and kI4 in tiles; kI4 runs in tiles alone
  uint32_t layers = 2;
  uint32_t width = 24;
  uint32_t heads = 3;
  uint32_t latents = 24;
  uint32_t hidden = 40;  // of the feed-forward
  uint32_t vocab_size = 50;
  uint32_t window = 5;
  PositionKind positions = PositionKind::kSinusoidal;
  uint32_t max_length = 64;  // of learned positions; otherwise no limit
  FrontKind front = FrontKind::kNone;
  bool vapor = false;
  bool rope = true;              // of the window
  bool tied = false;             // the head reads the token table
  bool head = true;              // false: hidden states are the output
  bool bytes_tokenizer = false;  // needs vocab_size >= 260
  float key_eps = 0.0f;
  float score_scale = 1.0f;
  uint64_t seed = 1;
};

// A spec and the memory that its tensors point to. Copies share the memory.
struct TestModel {
  ModelSpec spec;
  std::vector<std::shared_ptr<void>> memory;
};

TestModel make_test_model(const TestModelOptions& options = {});

// A valid spec that uses every member and field of the format once, most of which no build runs
// yet: for round trips and checks, not for running. `which` 0 .. kFormatModels - 1.
constexpr int kFormatModels = 5;
TestModel make_format_model(int which);

// Token ids below `vocab` that look random; equal on every platform.
std::vector<TokenId> some_tokens(size_t count, uint32_t vocab, uint64_t seed = 5);
// Numbers from 0 to 16 likewise.
std::vector<float> some_values(size_t count);

// A tensor of random numbers (weights of the given type; scales of 1/127 and the like), 64-byte
// aligned and followed by 64 readable bytes. Appends it to the spec and gives its index.
TensorIndex add_random_tensor(TestModel* model, const std::string& name, DType dtype,
                              const std::vector<uint32_t>& shape, float spread, float centre,
                              uint64_t* random_state);

// Puts every int8 matrix with scales per channel and every int4 one with blocks of 32 into tiles.
void tile_matrices(TestModel* model);

// Every field of the spec in text, one per line, tensors with the checksum of their bytes; equal
// texts mean equal specs. A field added to a struct does not compile until it is added here.
std::string describe_spec(const ModelSpec& spec);

}  // namespace moka::test

#endif  // MOKA_TESTS_SPEC_BUILDER_H_
