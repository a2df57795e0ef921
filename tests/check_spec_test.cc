// check_spec: one change to a valid model, one message that names it.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "runtime/model_spec.h"
#include "tests/spec_builder.h"

namespace moka::test {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Case {
  void (*change)(ModelSpec&);
  const char* message;  // all of it, after "x.moka: "; a trailing "*" stands for anything
};

bool matches(const std::string& text, const std::string& pattern) {
  if (!pattern.empty() && pattern.back() == '*') {
    return text.compare(0, pattern.size() - 1, pattern, 0, pattern.size() - 1) == 0;
  }
  return text == pattern;
}

template <size_t N>
void expect_each(const ModelSpec& valid, const Case (&cases)[N]) {
  const Status good = check_spec(valid, "x.moka");
  REQUIRE_MESSAGE(good.ok(), good.to_string());
  for (const Case& entry : cases) {
    ModelSpec spec = valid;
    entry.change(spec);
    const Status status = check_spec(spec, "x.moka");
    CHECK_MESSAGE(status.code() == StatusCode::kCorrupt, status.to_string());
    CHECK_MESSAGE(matches(status.message(), std::string("x.moka: ") + entry.message),
                  status.message(), "\nexpected: ", std::string(entry.message));
  }
}

MacchiatoMixer& macchiato(ModelSpec& s) { return std::get<MacchiatoMixer>(s.blocks[1].mixer); }
LatteMixer& latte(ModelSpec& s) { return std::get<LatteMixer>(s.blocks[0].mixer); }
Tensor& tensor(ModelSpec& s, TensorIndex index) { return s.tensors[static_cast<size_t>(index)]; }

// Gives a float32 tensor another shape, and the size that belongs to it.
void reshape(Tensor* tensor, const std::vector<uint32_t>& shape) {
  tensor->shape = shape;
  tensor->size = 4 * tensor->elements();
}

TEST_CASE("check_spec: every model of the builders is valid") {
  for (int which = 0; which < kFormatModels; ++which) {
    const Status status = check_spec(make_format_model(which).spec, "x.moka");
    CHECK_MESSAGE(status.ok(), status.to_string());
  }
  for (const TestMixer mixer : {TestMixer::kLatte, TestMixer::kWindow, TestMixer::kMacchiato}) {
    for (const TestBlock block : {TestBlock::kTransformer, TestBlock::kTransformerPost,
                                  TestBlock::kGlu, TestBlock::kRmsSwiglu}) {
      for (const FrontKind front :
           {FrontKind::kNone, FrontKind::kConv, FrontKind::kRgLru, FrontKind::kConvRgLru}) {
        TestModelOptions options;
        options.mixer = mixer;
        options.block = block;
        options.front = front;
        options.vapor = front == FrontKind::kConv;
        options.rope = front != FrontKind::kConv;
        options.positions = static_cast<PositionKind>(static_cast<int>(front) % 3);
        options.weights = static_cast<DType>(static_cast<int>(front));
        options.tied = block == TestBlock::kGlu;
        options.head = block != TestBlock::kTransformerPost;
        options.vocab_size = 260;
        options.bytes_tokenizer = true;
        const TestModel model = make_test_model(options);
        const Status valid = check_spec(model.spec, "x.moka");
        CHECK_MESSAGE(valid.ok(), valid.to_string());
        const Status supported = check_supported(model.spec, "x.moka");
        CHECK_MESSAGE(supported.ok(), supported.to_string());
      }
    }
  }
}

TEST_CASE("check_spec: tensors") {
  TestModelOptions options;
  options.weights = DType::kI8;
  static const Case cases[] = {
      {[](ModelSpec& s) { s.tensors[0].name.clear(); },
       "tensor 0: length of the name is 0, expected 1 to 512"},
      {[](ModelSpec& s) { s.tensors[0].name = "a\x1b[2J"; },
       "tensor 0: the name has control characters"},
      {[](ModelSpec& s) { s.tensors[0].name = s.tensors[5].name; },
       "two tensors are named 'blocks.0.mixer.o'"},
      {[](ModelSpec& s) { s.tensors[0].size += 1; },
       "tensor 'tokens': has 1201 bytes, expected 1200 for shape [50, 24] of i8"},
      {[](ModelSpec& s) {
         s.tensors[0].shape = {50, 0};
       },
       "tensor 'tokens': has shape [50, 0], but extents are at least 1 and their product at most "
       "2^48"},
      {[](ModelSpec& s) { s.tensors[0].scale_size -= 4; },
       "tensor 'tokens': has 196 bytes of scales, expected 200"},
      {[](ModelSpec& s) { s.tensors[0].block = 8; },
       "tensor 'tokens': has scales per channel, so block must be 0"},
      {[](ModelSpec& s) { s.tensors[0].quantization = Quantization::kNone; },
       "tensor 'tokens': has type i8, but no quantization that says what its numbers mean"},
      {[](ModelSpec& s) {
         s.tensors[0].quantization = Quantization::kPerBlock;
         s.tensors[0].block = 7;
       },
       "tensor 'tokens': has block 7, which does not divide its 24 columns"},
      {[](ModelSpec& s) { s.tensors[1].quantization = Quantization::kPerChannel; },
       "tensor 'blocks.0.norm1.scale': has type f32, so it has no quantization, block or scales"},
      {[](ModelSpec& s) {
         s.tensors[1].shape = {1, 1, 1, 1, 24};
       },
       "tensor 'blocks.0.norm1.scale': the number of extents is 5, expected 1 to 4"},
      {[](ModelSpec& s) {
         s.tensors.push_back(s.tensors[0]);
         s.tensors.back().name = "spare";
       },
       "tensor 'spare' of shape [50, 24] is used by nothing"},
      {[](ModelSpec& s) { s.final_norm.scale = s.blocks[0].before_mixer.scale; },
       "tensor 'final_norm.scale' of shape [24] is used by nothing"},
  };
  expect_each(make_test_model(options).spec, cases);
}

TEST_CASE("check_spec: matrices in tiles") {
  TestModelOptions options;
  options.weights = DType::kI8;
  options.tiles = true;
  static const Case i8[] = {
      {[](ModelSpec& s) { s.tensors[0].size -= 64; },
       "tensor 'tokens': has 1472 bytes, expected 1536 for shape [50, 24] of i8 in tiles"},
      {[](ModelSpec& s) { s.tensors[0].size = 1200; },  // what rows would need
       "tensor 'tokens': has 1200 bytes, expected 1536 for shape [50, 24] of i8 in tiles"},
      {[](ModelSpec& s) { s.tensors[0].scale_size = 200; },
       "tensor 'tokens': has 200 bytes of scales, expected 512 in tiles"},
      {[](ModelSpec& s) { s.tensors[0].layout = TensorLayout::kRows; },
       "tensor 'tokens': has 1536 bytes, expected 1200 for shape [50, 24] of i8"},
      {[](ModelSpec& s) { s.tensors[0].block = 32; },
       "tensor 'tokens': lies in tiles, so it must be a matrix of i8 with scales per channel or of "
       "i4 with scales at two levels and blocks of 32; it has shape [50, 24], type i8, "
       "quantization "
       "1 and block 32"},
      {[](ModelSpec& s) {
         s.tensors[0].quantization = Quantization::kPerBlock;
         s.tensors[0].block = 8;
       },
       "tensor 'tokens': lies in tiles, so it must be a matrix of i8 with scales per channel or of "
       "i4 with scales at two levels and blocks of 32; it has shape [50, 24], type i8, "
       "quantization "
       "2 and block 8"},
      {[](ModelSpec& s) { s.tensors[1].layout = TensorLayout::kTiles; },
       "tensor 'blocks.0.norm1.scale': lies in tiles, so it must be a matrix of i8 with scales per "
       "channel or of i4 with scales at two levels and blocks of 32; it has shape [24], type f32, "
       "quantization 0 and block 0"},
      {[](ModelSpec& s) {
         s.tensors[0].shape = {5, 10, 24};
       },
       "tensor 'tokens': lies in tiles, so it must be a matrix of i8 with scales per channel or of "
       "i4 with scales at two levels and blocks of 32; it has shape [5, 10, 24], type i8, "
       "quantization "
       "1 and block 0"},
      {[](ModelSpec& s) {
         s.tensors[0].shape = {0xffffffff, 0xffff};
       },
       "tensor 'tokens': has 1536 bytes, expected 281474976710656 for shape [4294967295, 65535] of "
       "i8 in tiles"},
  };
  expect_each(make_test_model(options).spec, i8);
  options.weights = DType::kI4;
  static const Case i4[] = {
      {[](ModelSpec& s) { s.tensors[0].size += 1; },
       "tensor 'tokens': has 1025 bytes, expected 1024 for shape [50, 24] of i4 in tiles"},
      {[](ModelSpec& s) { s.tensors[0].scale_size += 2; },
       "tensor 'tokens': has 578 bytes of scales, expected 576 in tiles"},
      {[](ModelSpec& s) { s.tensors[0].block = 64; },
       "tensor 'tokens': lies in tiles, so it must be a matrix of i8 with scales per channel or of "
       "i4 with scales at two levels and blocks of 32; it has shape [50, 24], type i4, "
       "quantization "
       "3 and block 64"},
      {[](ModelSpec& s) { s.tensors[0].quantization = Quantization::kPerChannel; },
       "tensor 'tokens': lies in tiles, so it must be a matrix of i8 with scales per channel or of "
       "i4 with scales at two levels and blocks of 32; it has shape [50, 24], type i4, "
       "quantization "
       "1 and block 32"},
      {[](ModelSpec& s) { s.tensors[0].layout = TensorLayout::kRows; },
       "tensor 'tokens': has 1024 bytes, expected 600 for shape [50, 24] of i4"},
  };
  expect_each(make_test_model(options).spec, i4);
}

TEST_CASE("check_spec: input, positions, head") {
  TestModelOptions options;
  options.positions = PositionKind::kLearned;
  static const Case cases[] = {
      {[](ModelSpec& s) { s.width = 0; }, "width is 0, expected 1 to 1048576"},
      {[](ModelSpec& s) { s.width = (1u << 20) + 1; }, "width is 1048577, expected 1 to 1048576"},
      {[](ModelSpec& s) { std::get<TokenInput>(s.input).vocab_size = 51; },
       "input (tokens): table 'tokens' has shape [50, 24], expected [51, 24] (vocab_size, width)"},
      {[](ModelSpec& s) { std::get<TokenInput>(s.input).vocab_size = 0; },
       "input (tokens): vocab_size is 0, expected 1 to 16777216"},
      {[](ModelSpec& s) { std::get<TokenInput>(s.input).table = -1; },
       "input (tokens): table is missing"},
      {[](ModelSpec& s) { std::get<TokenInput>(s.input).table = 1000; },
       "input (tokens): table names tensor 1000, but the model has *"},
      {[](ModelSpec& s) { std::get<TokenInput>(s.input).table = -2; },
       "input (tokens): table names tensor -2, but the model has *"},
      {[](ModelSpec& s) { s.positions.max_length = 65; },
       "positions: max_length, given the rows of the learned table, is 65, expected 1 to 64"},
      {[](ModelSpec& s) { s.positions.max_length = 0; },
       "positions: max_length, given the rows of the learned table, is 0, expected 1 to 64"},
      {[](ModelSpec& s) { s.positions.allow_extrapolation = true; },
       "positions: allow_extrapolation is set, but a learned table ends with its last row"},
      {[](ModelSpec& s) { s.positions.kind = PositionKind::kSinusoidal; },
       "positions: table names tensor 1, but has no use here and must be -1"},
      {[](ModelSpec& s) { std::get<LanguageHead>(s.head).projection.weight = 1; },
       "head (language): projection.weight 'positions' has shape [64, 24], expected [50, 24] "
       "(vocabulary, width)"},
      {[](ModelSpec& s) { s.head = LanguageHead(); },
       "head (language): projection.weight is missing"},
      {[](ModelSpec& s) { s.blocks.clear(); }, "the number of blocks is 0, expected 1 to 4096"},
  };
  expect_each(make_test_model(options).spec, cases);

  options.positions = PositionKind::kSinusoidal;
  options.width = 25;
  options.heads = 5;
  options.latents = 5;
  CHECK(check_spec(make_test_model(options).spec, "x.moka").message() ==
        "x.moka: positions: sinusoidal positions need an even width, which is 25");
}

TEST_CASE("check_spec: a macchiato mixer") {
  TestModelOptions options;
  options.latents = 12;
  static const Case cases[] = {
      {[](ModelSpec& s) { macchiato(s).q.weight = macchiato(s).v.weight; },
       "block 1 mixer (macchiato): q.weight 'blocks.1.mixer.v' has shape [24, 24], expected [12, "
       "24] "
       "(latents, width)"},
      {[](ModelSpec& s) { macchiato(s).heads = 5; },
       "block 1 mixer (macchiato): heads is 5, which does not divide the width 24"},
      {[](ModelSpec& s) { macchiato(s).heads = 0; },
       "block 1 mixer (macchiato): heads is 0, which does not divide the width 24"},
      {[](ModelSpec& s) { macchiato(s).heads = 8; },
       "block 1 mixer (macchiato): heads is 8, which does not divide the latents 12"},
      {[](ModelSpec& s) { macchiato(s).latents = 0; },
       "block 1 mixer (macchiato): latents is 0, expected 1 to 1048576"},
      {[](ModelSpec& s) { macchiato(s).kv_heads = 2; },
       "block 1 mixer (macchiato): kv_heads is 2, which does not divide heads 3"},
      {[](ModelSpec& s) { macchiato(s).kv_heads = 1; },
       "block 1 mixer (macchiato): local_k.weight 'blocks.1.mixer.local_k' has shape [24, 24], "
       "expected [8, 24] (width of the kv heads, width)"},
      {[](ModelSpec& s) { macchiato(s).gate = Linear(); },
       "block 1 mixer (macchiato): gate.weight is missing"},
      {[](ModelSpec& s) { macchiato(s).o.bias = 0; },
       "block 1 mixer (macchiato): o.bias 'tokens' has shape [50, 24], expected [24] (width)"},
      {[](ModelSpec& s) { macchiato(s).window.size = 0; },
       "block 1 mixer (macchiato): window.size is 0, expected 1 to 1048576"},
      {[](ModelSpec& s) { macchiato(s).window.size = (1u << 20) + 1; },
       "block 1 mixer (macchiato): window.size is 1048577, expected 1 to 1048576"},
      {[](ModelSpec& s) { macchiato(s).window.scale = -1; },
       "block 1 mixer (macchiato): window.scale is -1.000000, expected a number of at least *"},
      {[](ModelSpec& s) { macchiato(s).window.softcap = kNan; },
       "block 1 mixer (macchiato): window.softcap is *"},
      {[](ModelSpec& s) { macchiato(s).window.rope->theta = 0; },
       "block 1 mixer (macchiato): window.rope.theta is 0.000000, expected a number above "
       "0.000000"},
      {[](ModelSpec& s) { macchiato(s).window.rope->theta = std::nan(""); },
       "block 1 mixer (macchiato): window.rope.theta is *"},
      {[](ModelSpec& s) { macchiato(s).window.rope->sign = 0; },
       "block 1 mixer (macchiato): window.rope.sign is 0, expected 1 or -1"},
      {[](ModelSpec& s) { macchiato(s).score_scale = 0; },
       "block 1 mixer (macchiato): score_scale is 0.000000, expected a number above 0.000000"},
      {[](ModelSpec& s) { macchiato(s).score_scale = kInfinity; },
       "block 1 mixer (macchiato): score_scale is inf*"},
      {[](ModelSpec& s) { macchiato(s).key_eps = -1e-3f; },
       "block 1 mixer (macchiato): key_eps is -0.001000, expected a number of at least 0.000000"},
      {[](ModelSpec& s) { macchiato(s).key_eps = kNan; },
       "block 1 mixer (macchiato): key_eps is *"},
      {[](ModelSpec& s) { macchiato(s).vapor_on_local = true; },
       "block 1 mixer (macchiato): vapor_on_local is set, but vapor is not"},
      {[](ModelSpec& s) { macchiato(s).front.feeds_value = true; },
       "block 1 mixer (macchiato): front.feeds_value or feeds_local is set, but there is no front"},
      {[](ModelSpec& s) { macchiato(s).front.a_param = 2; },
       "block 1 mixer (macchiato): front.a_param names tensor 2, but has no use here and must be "
       "-1"},
  };
  expect_each(make_test_model(options).spec, cases);
}

TEST_CASE("check_spec: the front of a latte mixer") {
  TestModelOptions options;
  options.mixer = TestMixer::kLatte;
  options.front = FrontKind::kConvRgLru;
  static const Case cases[] = {
      {[](ModelSpec& s) { latte(s).front.conv_weight = -1; },
       "block 0 mixer (latte): front.conv_weight is missing"},
      {[](ModelSpec& s) {
         reshape(&tensor(s, latte(s).front.conv_weight), {1, 24});
       },
       "block 0 mixer (latte): taps of front.conv_weight is 1, expected 2 to 4096"},
      {[](ModelSpec& s) { latte(s).front.blocks = 5; },
       "block 0 mixer (latte): front.blocks is 5, which does not divide the width 24"},
      {[](ModelSpec& s) { latte(s).front.blocks = 4; },
       "block 0 mixer (latte): front.input_gate_weight 'blocks.0.mixer.front.input_gate' has shape "
       "[3, 8, 8], expected [4, 6, 6] (blocks, width / blocks, width / blocks)"},
      {[](ModelSpec& s) { latte(s).front.a_gate_bias = -1; },
       "block 0 mixer (latte): front.a_gate_bias is missing"},
      {[](ModelSpec& s) { latte(s).front.c = 0; },
       "block 0 mixer (latte): front.c is 0.000000, expected a number above 0.000000"},
      {[](ModelSpec& s) { latte(s).front.kind = FrontKind::kConv; },
       "block 0 mixer (latte): front.a_param names tensor *"},
      {[](ModelSpec& s) { latte(s).causal = false; },
       "block 0 mixer (latte): front is set, but the mixer is not causal"},
      {[](ModelSpec& s) {
         latte(s).causal = false;
         latte(s).vapor = Rotation();
       },
       "block 0 mixer (latte): vapor is set, but the mixer is not causal"},
      {[](ModelSpec& s) {
         Tensor& a = tensor(s, latte(s).front.a_param);
         a.dtype = DType::kF16;
         a.size /= 2;
       },
       "block 0 mixer (latte): front.a_param 'blocks.0.mixer.front.a' has type f16, expected f32"},
  };
  expect_each(make_test_model(options).spec, cases);
}

TEST_CASE("check_spec: norms and feed-forwards") {
  TestModelOptions options;
  options.block = TestBlock::kTransformer;
  static const Case cases[] = {
      {[](ModelSpec& s) { s.blocks[0].before_mixer.eps = 0; },
       "block 0: before_mixer.eps is 0.000000, expected a number above 0.000000"},
      {[](ModelSpec& s) { s.blocks[1].before_feed_forward.eps = kNan; },
       "block 1: before_feed_forward.eps is *"},
      {[](ModelSpec& s) { s.blocks[0].before_mixer.unit_offset = true; },
       "block 0: before_mixer.unit_offset is set, but belongs to rms norms only"},
      {[](ModelSpec& s) { s.blocks[0].before_mixer.kind = NormKind::kNone; },
       "block 0: before_mixer.scale names tensor 1, but has no use here and must be -1"},
      {[](ModelSpec& s) { s.blocks[0].before_mixer.kind = NormKind::kRmsNorm; },
       "block 0: before_mixer.bias names tensor 2, but has no use here and must be -1"},
      {[](ModelSpec& s) {
         s.blocks[0].before_mixer.kind = NormKind::kAffine;
         s.blocks[0].before_mixer.bias = -1;
       },
       "block 0: before_mixer.bias is missing"},
      {[](ModelSpec& s) { s.final_norm.scale = 0; },
       "final norm: final_norm.scale 'tokens' has shape [50, 24], expected [24] (width)"},
      {[](ModelSpec& s) { std::get<MlpFeedForward>(s.blocks[0].feed_forward).fc2.weight = 0; },
       "block 0 feed-forward (mlp): fc2.weight 'tokens' has shape [50, 24], expected [24, 40] "
       "(width, "
       "hidden width)"},
      {[](ModelSpec& s) { std::get<MlpFeedForward>(s.blocks[0].feed_forward).fc1.weight = -1; },
       "block 0 feed-forward (mlp): fc1.weight is missing"},
      {[](ModelSpec& s) { s.blocks[0].feed_forward = GluFeedForward(); },
       "block 0 feed-forward (glu): value.weight is missing"},
      {[](ModelSpec& s) { s.blocks[0].feed_forward = GatedFeedForward(); },
       "block 0 feed-forward (gated): gate.weight is missing"},
  };
  expect_each(make_test_model(options).spec, cases);
}

TEST_CASE("check_spec: heads of other tasks") {
  static const Case regression[] = {
      {[](ModelSpec& s) {
         std::get<RegressionHead>(s.head).quantiles = {0.5f, 0.5f, 0.9f};
       },
       "head (regression): quantiles must rise from above 0 to below 1, but 0.500000 follows "
       "0.500000"},
      {[](ModelSpec& s) { std::get<RegressionHead>(s.head).quantiles.pop_back(); },
       "head (regression): projection.weight 'head' has shape [24, 32], expected [16, 32] (steps x "
       "outputs x "
       "quantiles, width)"},
      {[](ModelSpec& s) { std::get<RegressionHead>(s.head).mean.pop_back(); },
       "head (regression): mean has 1 numbers, expected none or 2, one per output"},
      {[](ModelSpec& s) { std::get<FloatInput>(s.input).deviation[1] = 0; },
       "input (floats): deviation is 0.000000, expected a number above 0.000000"},
      {[](ModelSpec& s) { std::get<FloatInput>(s.input).mean[1] = kNan; },
       "input (floats): mean has a number that is not finite"},
      {[](ModelSpec& s) { s.tokenizer.emplace(); },
       "tokenizer: there is one, but the model does not read tokens"},
      {[](ModelSpec& s) {
         s.test_vector = TestVector{{1}, {1}};
       },
       "test vector: there is one, but the model does not read tokens"},
  };
  expect_each(make_format_model(1).spec, regression);
  static const Case classifier[] = {
      {[](ModelSpec& s) { std::get<ClassifierHead>(s.head).labels.pop_back(); },
       "head (classifier): there are 2 labels, expected none or 3, one per class"},
      {[](ModelSpec& s) { std::get<PixelDenseInput>(s.input).height = 0; },
       "input (pixels): image height is 0, expected 1 to 32768"},
  };
  expect_each(make_format_model(2).spec, classifier);
  static const Case convolved[] = {
      {[](ModelSpec& s) { std::get<PixelConvInput>(s.input).kernels.pop_back(); },
       "input (convolved pixels): the number of biases is 2, expected 1 to 1"},
      {[](ModelSpec& s) {
         std::swap(std::get<PixelConvInput>(s.input).kernels[0],
                   std::get<PixelConvInput>(s.input).kernels[1]);
       },
       "input (convolved pixels): kernels[0] 'conv1' has shape [32, 3, 3, 6], expected [32, 3, 3, "
       "1] "
       "(channels out, rows, columns, grey value)"},
  };
  expect_each(make_format_model(3).spec, convolved);
  static const Case pair[] = {
      {[](ModelSpec& s) { std::get<PairHead>(s.head).pad_id = 300; },
       "head (pair): pad_id is 300, but the vocabulary has 300 ids"},
      {[](ModelSpec& s) {
         std::get<PairHead>(s.head).hidden = std::get<PairHead>(s.head).projection;
       },
       "head (pair): hidden.weight 'head' has shape [2, 24], expected [2, 128] (hidden width, 4 x "
       "width)"},
  };
  expect_each(make_format_model(4).spec, pair);
}

TEST_CASE("check_spec: tokenizers") {
  static const Case bpe[] = {
      {[](ModelSpec& s) { s.tokenizer->piece_ends[1] = 0; },
       "tokenizer: piece 1 is bytes 1 to 0 of *"},
      {[](ModelSpec& s) { s.tokenizer->piece_ends[5] = 1000; },
       "tokenizer: piece 5 is bytes 7 to 1000 of *"},
      {[](ModelSpec& s) { s.tokenizer->pieces.push_back('x'); },
       "tokenizer: the pieces end at byte 12 of 13"},
      {[](ModelSpec& s) { s.tokenizer->piece_ends.assign(301, 0); },
       "tokenizer: the number of pieces is 301, expected 1 to 300"},
      {[](ModelSpec& s) { s.tokenizer->piece_ends.clear(); },
       "tokenizer: the number of pieces is 0, expected 1 to 300"},
      {[](ModelSpec& s) { s.tokenizer->merges.pop_back(); },
       "tokenizer: merges has 5 numbers, which are not triples"},
      {[](ModelSpec& s) { s.tokenizer->merges[4] = 6; },
       "tokenizer: merge 1 names id 6, but there are 6 pieces"},
      {[](ModelSpec& s) { s.tokenizer->merges[3] = 0; },
       "tokenizer: merge 1 makes piece 4, which is not piece 0 followed by piece 1"},
      {[](ModelSpec& s) {
         s.tokenizer->merges = {3, 0, 0};
       },
       "tokenizer: merge 0 makes piece 0, which is not piece 3 followed by piece 0"},
      {[](ModelSpec& s) { s.tokenizer->scores = {1.0f}; },
       "tokenizer: the number of scores is 1, expected 0 to 0"},
      {[](ModelSpec& s) { s.tokenizer->special_tokens[0].id = 300; },
       "tokenizer: a special token has id 300, but the vocabulary has 300 ids"},
      {[](ModelSpec& s) { s.tokenizer->special_tokens.push_back(s.tokenizer->special_tokens[0]); },
       "tokenizer: two special tokens have id 5"},
      {[](ModelSpec& s) { s.tokenizer->special_tokens[0].text.clear(); },
       "tokenizer: the special token of id 5 has 0 bytes, expected 1 to 4096"},
      {[](ModelSpec& s) { s.tokenizer->eos_id = 300; },
       "tokenizer: eos_id is 300, expected -1 or an id below 300"},
      {[](ModelSpec& s) { s.tokenizer->unknown_id = -2; },
       "tokenizer: unknown_id is -2, expected -1 or an id below 300"},
      {[](ModelSpec& s) { s.tokenizer->bos_id = -1; },
       "tokenizer: add_bos is set, but there is no bos_id"},
      {[](ModelSpec& s) { s.tokenizer->pre_tokenizers[0].pattern.clear(); },
       "tokenizer: a pre-tokenizer splits by an empty pattern"},
      {[](ModelSpec& s) { s.tokenizer->normalizers.resize(65); },
       "tokenizer: the number of normalizers is 65, expected 0 to 64"},
      {[](ModelSpec& s) { s.tokenizer->kind = TokenizerKind::kWords; },
       "tokenizer: there are merges, but it is no bpe tokenizer"},
      {[](ModelSpec& s) { s.tokenizer->kind = TokenizerKind::kBytes; },
       "tokenizer: the number of pieces is 6, expected 256 to 300"},
      {[](ModelSpec& s) { s.test_vector->prompt.clear(); },
       "test vector: length of prompt is 0, expected 1 to 1048576"},
      {[](ModelSpec& s) { s.test_vector->expected[1] = 300; },
       "test vector: expected has id 300, but the vocabulary has 300 ids"},
      {[](ModelSpec& s) { s.test_vector->expected[1] = -1; },
       "test vector: expected has id -1, but the vocabulary has 300 ids"},
      {[](ModelSpec& s) { s.metadata.sampling->top_p = 0; },
       "metadata: sampling.top_p is 0.000000, expected above 0 and at most 1"},
      {[](ModelSpec& s) { s.metadata.sampling->repeat_window = (1u << 20) + 1; },
       "metadata: sampling.repeat_window is 1048577, expected 0 to 1048576"},
      {[](ModelSpec& s) { s.metadata.sampling->temperature = 101; },
       "metadata: sampling.temperature or repeat_penalty is above 100"},
      {[](ModelSpec& s) { s.metadata.sampling->temperature = kNan; },
       "metadata: sampling.temperature is *"},
      {[](ModelSpec& s) { s.metadata.measurement->kl_mean = kInfinity; },
       "metadata: the measurement has a number that is not finite"},
      {[](ModelSpec& s) { s.prefix_snapshots[1].size = 0; }, "prefix snapshot 1: it has no bytes"},
  };
  expect_each(make_format_model(0).spec, bpe);
  static const Case unigram[] = {
      {[](ModelSpec& s) { s.tokenizer->scores[3] = kNan; },
       "tokenizer: the score of piece 3 is not finite"},
      {[](ModelSpec& s) { s.tokenizer->scores.pop_back(); },
       "tokenizer: the number of scores is 5, expected 6 to 6"},
  };
  expect_each(make_format_model(4).spec, unigram);

  TestModelOptions options;
  options.vocab_size = 260;
  options.bytes_tokenizer = true;
  ModelSpec bytes = make_test_model(options).spec;
  CHECK(check_spec(bytes, "x.moka").ok());
  bytes.tokenizer->pieces[65] = 'a';
  CHECK(check_spec(bytes, "x.moka").message() ==
        "x.moka: tokenizer: piece 65 is not the byte of that number");
}

}  // namespace
}  // namespace moka::test
