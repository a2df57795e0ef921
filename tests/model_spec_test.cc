// check_supported, features, and the small helpers of specs and statuses.
#include "runtime/model_spec.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/spec_builder.h"

namespace moka::test {
namespace {

MacchiatoMixer& macchiato(ModelSpec& s) { return std::get<MacchiatoMixer>(s.blocks[1].mixer); }

TEST_CASE("check_supported: names the member that cannot run yet") {
  const struct {
    TestModelOptions options;
    void (*change)(ModelSpec&);
    const char* message;
  } cases[] = {
      {{},
       [](ModelSpec& s) { macchiato(s).latent_scope = LatentScope::kOutsideWindow; },
       "block 1 uses the mixer 'macchiato' with latent_scope 'outside_window'"},
      {{},
       [](ModelSpec& s) { macchiato(s).vapor_on_local = true; },
       "block 1 uses the mixer 'macchiato' with vapor_on_local"},
      {{},
       [](ModelSpec& s) { macchiato(s).kv_heads = 1; },
       "block 1 shares 1 kv_heads among 3 heads"},
      {{},
       [](ModelSpec& s) { s.tensors[0].dtype = DType::kI4; },
       "tensor 'tokens' has type i4 in rows"},
      {{},
       [](ModelSpec& s) {
         s.tensors[0].dtype = DType::kI8;
         s.tensors[0].quantization = Quantization::kPerBlock;
       },
       "tensor 'tokens' has type i8 with scales per block"},
      {{},
       [](ModelSpec& s) {
         s.tensors[0].dtype = DType::kI8;
         s.tensors[0].quantization = Quantization::kPerChannel;
         s.tensors[0].shape = {2, 65537};
       },
       "tensor 'tokens' has type i8 and 65537 columns, more than 65536"},
      {{},
       [](ModelSpec& s) {
         s.memory.emplace();
         s.memory->blocks.resize(2);
         s.memory->blocks[1].mixer = SoftmaxMixer();
       },
       "memory block 1 uses the mixer 'softmax'"},
  };
  for (const auto& entry : cases) {
    ModelSpec spec = make_test_model(entry.options).spec;
    REQUIRE(check_supported(spec, "x.moka").ok());
    entry.change(spec);
    const Status status = check_supported(spec, "x.moka");
    CHECK(status.code() == StatusCode::kUnsupported);
    CHECK(status.message() ==
          std::string("x.moka: ") + entry.message + ", which this version of Moka cannot run yet");
  }
  // Not a matter of the version: such a model means nothing.
  ModelSpec ahead = make_test_model().spec;
  LatteMixer both_ways;
  both_ways.causal = false;
  ahead.blocks[1].mixer = both_ways;
  const Status status = check_supported(ahead, "x.moka");
  CHECK(status.code() == StatusCode::kUnsupported);
  CHECK(status.message() ==
        "x.moka: block 1 sees ahead (latte), but the head is 'language': each token would see the "
        "next one, which it is to predict");
  ahead.head = std::monostate();
  CHECK(check_supported(ahead, "x.moka").ok());

  // int4 has kernels for tiles alone.
  TestModelOptions narrow;
  narrow.weights = DType::kI4;
  narrow.width = narrow.latents = 96;
  narrow.hidden = 64;
  CHECK(check_spec(make_test_model(narrow).spec, "x.moka").ok());
  CHECK(check_supported(make_test_model(narrow).spec, "x.moka").message() ==
        "x.moka: tensor 'tokens' has type i4 in rows, which this version of Moka cannot run yet");
  narrow.tiles = true;
  CHECK(check_supported(make_test_model(narrow).spec, "x.moka").ok());

  ModelSpec equal = make_test_model().spec;
  macchiato(equal).kv_heads = macchiato(equal).heads;
  CHECK(check_supported(equal, "x.moka").ok());
}

TEST_CASE("check_spec: features name what a model uses, sorted") {
  TestModelOptions options;
  options.weights = DType::kI8;
  options.front = FrontKind::kRgLru;
  options.vapor = true;
  options.vocab_size = 260;
  options.bytes_tokenizer = true;
  const std::vector<std::string> expected = {
      "front_rglru", "gated_ff",    "language_head",   "macchiato", "positions_sinusoidal",
      "rms_norm",    "token_input", "tokenizer_bytes", "vapor",     "weights_f32",
      "weights_i8"};
  CHECK(features_of(make_test_model(options).spec) == expected);
  // Rows and tiles of the same numbers mean the same, but who knows only rows would read nonsense.
  options.tiles = true;
  std::vector<std::string> tiled = expected;
  tiled.insert(tiled.begin() + 6, "tiles");
  CHECK(features_of(make_test_model(options).spec) == tiled);
}

TEST_CASE("tensors: sizes, shapes and names") {
  Tensor tensor;
  CHECK(tensor.elements() == 0);
  CHECK(tensor.rows() == 0);
  CHECK(tensor.shape_string() == "[]");
  tensor.shape = {8192, 384};
  CHECK(tensor.elements() == 8192 * 384);
  CHECK(tensor.shape_string() == "[8192, 384]");
  tensor.shape = {0xffffffff, 0xffffffff, 0xffffffff};
  CHECK(tensor.elements() == ~uint64_t{0});  // saturates, never wraps
  CHECK(tensor_data_size(DType::kF32, 3, 5) == 60);
  CHECK(tensor_data_size(DType::kF16, 3, 5) == 30);
  CHECK(tensor_data_size(DType::kBF16, 3, 5) == 30);
  CHECK(tensor_data_size(DType::kI8, 3, 5) == 15);
  CHECK(tensor_data_size(DType::kI4, 3, 5) == 9);  // rows are whole bytes
  CHECK(tensor_data_size(DType::kI32, 3, 5) == 60);
  CHECK(tensor_data_size(DType::kF32, uint64_t{1} << 40, uint64_t{1} << 40) == ~uint64_t{0});
  CHECK(std::string(dtype_name(DType::kBF16)) == "bf16");
}

TEST_CASE("status: names and text") {
  CHECK(Status().to_string() == "ok");
  CHECK(Status(StatusCode::kCorrupt, "a.moka: bad").to_string() == "corrupt: a.moka: bad");
  CHECK(std::string(status_code_name(StatusCode::kFailedPrecondition)) == "failed_precondition");
  CHECK(std::string(status_code_name(static_cast<StatusCode>(99))) == "unknown");
  CHECK(Result<int>(Status()).status().code() == StatusCode::kInternal);
}

}  // namespace
}  // namespace moka::test
