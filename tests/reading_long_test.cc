// Sequences beyond kArchiveTokens (1024), where latent sums move to the archive, against the
// equations of the family written plainly in double precision: one layer, looking ahead, and one
// that answers from a memory.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "moka/moka.h"
#include "tests/spec_builder.h"

namespace moka::test {
namespace {

using Vector = std::vector<double>;
using Matrix = std::vector<Vector>;

constexpr size_t kHeads = 3;

Matrix matrix_of(const ModelSpec& spec, TensorIndex index) {
  const Tensor& tensor = spec.tensors[static_cast<size_t>(index)];
  REQUIRE(tensor.dtype == DType::kF32);
  const size_t rows = tensor.rows(), columns = static_cast<size_t>(tensor.elements()) / rows;
  const auto* data = static_cast<const float*>(tensor.data);
  Matrix matrix;
  for (size_t r = 0; r < rows; ++r) {
    matrix.emplace_back(data + r * columns, data + (r + 1) * columns);
  }
  return matrix;
}

Vector vector_of(const ModelSpec& spec, TensorIndex index) {
  Vector all;
  for (const Vector& row : matrix_of(spec, index)) all.insert(all.end(), row.begin(), row.end());
  return all;
}

// Each row of x times the transposed weight.
Matrix project(const ModelSpec& spec, const Linear& linear, const Matrix& x) {
  REQUIRE(linear.bias == kNoTensor);
  const Matrix weight = matrix_of(spec, linear.weight);
  Matrix out;
  for (const Vector& row : x) {
    Vector y;
    for (const Vector& w : weight) {
      double sum = 0;
      for (size_t i = 0; i < row.size(); ++i) sum += w[i] * row[i];
      y.push_back(sum);
    }
    out.push_back(y);
  }
  return out;
}

Matrix rms_norm(const ModelSpec& spec, const Norm& norm, const Matrix& x) {
  REQUIRE(norm.kind == NormKind::kRmsNorm);
  const Vector scale = vector_of(spec, norm.scale);
  Matrix out = x;
  for (Vector& row : out) {
    double square = 0;
    for (const double value : row) square += value * value;
    const double factor =
        1.0 / std::sqrt(square / static_cast<double>(row.size()) + static_cast<double>(norm.eps));
    for (size_t i = 0; i < row.size(); ++i) row[i] *= factor * scale[i];
  }
  return out;
}

// y_t = sum over latents of softmax(q_t)_l * (sum_s exp(k_sl) v_s) / (sum_s exp(k_sl)), all s.
Matrix latte(const ModelSpec& spec, const LatteMixer& mixer, const Matrix& readers,
             const Matrix& source) {
  const Matrix q = project(spec, mixer.q, readers), k = project(spec, mixer.k, source);
  const Matrix v = project(spec, mixer.v, source);
  const size_t latents = mixer.latents, width = spec.width;
  const size_t lh = latents / kHeads, dh = width / kHeads;
  Matrix mean(latents, Vector(dh, 0.0));
  for (size_t l = 0; l < latents; ++l) {
    double top = k[0][l], norm = 0;
    for (const Vector& row : k) top = std::max(top, row[l]);
    for (size_t s = 0; s < k.size(); ++s) {
      const double weight = std::exp(k[s][l] - top);
      norm += weight;
      for (size_t d = 0; d < dh; ++d) mean[l][d] += weight * v[s][l / lh * dh + d];
    }
    for (double& value : mean[l]) value /= norm;
  }
  Matrix mixed(readers.size(), Vector(width, 0.0));
  for (size_t t = 0; t < readers.size(); ++t) {
    for (size_t h = 0; h < kHeads; ++h) {
      double total = 0;
      for (size_t l = h * lh; l < (h + 1) * lh; ++l) total += std::exp(q[t][l]);
      for (size_t l = h * lh; l < (h + 1) * lh; ++l) {
        const double p = std::exp(q[t][l]) / total;
        for (size_t d = 0; d < dh; ++d) mixed[t][h * dh + d] += p * mean[l][d];
      }
    }
  }
  return project(spec, mixer.o, mixed);
}

// A pre-norm block with gated SiLU; a memory is read instead of x where there is one.
Matrix run_block(const ModelSpec& spec, const Block& block, Matrix x, const Matrix* memory) {
  const Matrix z = rms_norm(spec, block.before_mixer, x);
  const Matrix mixed =
      latte(spec, std::get<LatteMixer>(block.mixer), z, memory != nullptr ? *memory : z);
  for (size_t t = 0; t < x.size(); ++t) {
    for (size_t d = 0; d < x[t].size(); ++d) x[t][d] += mixed[t][d];
  }
  const auto& ff = std::get<GatedFeedForward>(block.feed_forward);
  const Matrix u = rms_norm(spec, block.before_feed_forward, x);
  Matrix hidden = project(spec, ff.gate, u);
  const Matrix up = project(spec, ff.up, u);
  for (size_t t = 0; t < hidden.size(); ++t) {
    for (size_t i = 0; i < hidden[t].size(); ++i) {
      const double gate = hidden[t][i];
      hidden[t][i] = gate / (1.0 + std::exp(-gate)) * up[t][i];
    }
  }
  const Matrix down = project(spec, ff.down, hidden);
  for (size_t t = 0; t < x.size(); ++t) {
    for (size_t d = 0; d < x[t].size(); ++d) x[t][d] += down[t][d];
  }
  return x;
}

Matrix embed(const ModelSpec& spec, const std::vector<TokenId>& tokens) {
  const Matrix table = matrix_of(spec, std::get<TokenInput>(spec.input).table);
  Matrix x;
  for (const TokenId token : tokens) x.push_back(table[static_cast<size_t>(token)]);
  return x;
}

// One layer that looks ahead, without positions; hidden states are the output.
TestModel ahead_model() {
  TestModelOptions options;
  options.mixer = TestMixer::kLatte;
  options.layers = 1;
  options.positions = PositionKind::kNone;
  options.head = false;
  TestModel model = make_test_model(options);
  std::get<LatteMixer>(model.spec.blocks[0].mixer).causal = false;
  model.spec.required_features = features_of(model.spec);
  return model;
}

double worst_difference(const TestModel& test, const std::vector<TokenId>& tokens,
                        const ReadOptions& options, const Matrix& expected, uint32_t chunk) {
  OpenOptions open;
  open.executor.chunk = chunk;
  open.executor.threads = 1;
  const Result<Model> model = Model::from_spec(test.spec, open);
  REQUIRE_MESSAGE(model.ok(), model.status().to_string());
  double worst = 0;
  size_t rows = 0;
  const LogitsSink sink = [&](size_t first, size_t count, const float* row, size_t stride) {
    for (size_t i = 0; i < count; ++i, ++rows) {
      const Vector& want = expected[first + i];
      for (size_t d = 0; d < want.size(); ++d) {
        worst = std::max(worst, std::fabs(static_cast<double>(row[i * stride + d]) - want[d]));
      }
    }
    return Status();
  };
  const Status status = read_sequence(model.value(), tokens, sink, options);
  REQUIRE_MESSAGE(status.ok(), status.to_string());
  CHECK(rows == expected.size());
  return worst;
}

}  // namespace

TEST_CASE("reading: sequences beyond the archive, looking ahead, against double precision") {
  const TestModel test = ahead_model();
  const ModelSpec& spec = test.spec;
  for (const size_t count : {size_t{1023}, size_t{1024}, size_t{1025}, size_t{3000}}) {
    CAPTURE(count);
    const std::vector<TokenId> tokens = some_tokens(count, 50, 5);
    const Matrix x = run_block(spec, spec.blocks[0], embed(spec, tokens), nullptr);
    const Matrix expected = rms_norm(spec, spec.final_norm, x);
    for (const uint32_t chunk : {64u, 7u, 1024u}) {
      CHECK(worst_difference(test, tokens, {}, expected, chunk) <= 2e-5);
    }
  }
}

TEST_CASE("reading: a memory beyond the archive, against double precision") {
  TestModel test = ahead_model();
  ModelSpec& spec = test.spec;
  MemoryEncoder encoder;
  encoder.blocks = {spec.blocks[0]};
  encoder.final_norm = spec.final_norm;
  spec.memory = encoder;
  std::get<LatteMixer>(spec.blocks[0].mixer).source = Source::kMemory;
  spec.required_features = features_of(spec);
  const std::vector<TokenId> tokens = some_tokens(20, 50, 9);
  for (const size_t count : {size_t{1024}, size_t{2500}}) {
    CAPTURE(count);
    const std::vector<TokenId> memory_tokens = some_tokens(count, 50, 5);
    const Matrix encoded = run_block(spec, encoder.blocks[0], embed(spec, memory_tokens), nullptr);
    const Matrix memory = rms_norm(spec, encoder.final_norm, encoded);
    const Matrix x = run_block(spec, spec.blocks[0], embed(spec, tokens), &memory);
    const Matrix expected = rms_norm(spec, spec.final_norm, x);
    ReadOptions options;
    options.memory = memory_tokens;
    for (const uint32_t chunk : {64u, 7u}) {
      CHECK(worst_difference(test, tokens, options, expected, chunk) <= 2e-5);
    }
  }
}

}  // namespace moka::test
