// Checkpoints of the sibling code give the numbers that its equations give, computed here plainly in
// double from the same parameters.
#include <algorithm>
#include <cmath>

#include "converter/convert.h"
#include "converter/sibling_checkpoint.h"
#include "doctest/doctest.h"
#include "moka/moka.h"
#include "tests/flax_run.h"
#include "tests/process.h"

namespace moka {
namespace {

using test::FlaxRun;
using test::TemporaryFolder;
using Matrix = std::vector<std::vector<double>>;  // [rows][columns]

constexpr size_t kD = 12, kH = 3, kEach = kD / kH;

// Parameter `path` as a matrix with `columns` columns.
Matrix matrix(const FlaxRun& run, const std::string& path, size_t columns) {
  const std::vector<float>& values = run.arrays.at(path).values;
  Matrix result(values.size() / columns, std::vector<double>(columns));
  for (size_t i = 0; i < values.size(); ++i) result[i / columns][i % columns] = values[i];
  return result;
}

Matrix transpose(const Matrix& a) {
  Matrix result(a[0].size(), std::vector<double>(a.size()));
  for (size_t i = 0; i < a.size(); ++i) {
    for (size_t j = 0; j < a[0].size(); ++j) result[j][i] = a[i][j];
  }
  return result;
}

// x (T, in) times w (in, out), plus a bias that may be empty.
Matrix product(const Matrix& x, const Matrix& w, const std::vector<double>& bias = {}) {
  Matrix y(x.size(), std::vector<double>(w[0].size(), 0.0));
  for (size_t t = 0; t < x.size(); ++t) {
    for (size_t o = 0; o < w[0].size(); ++o) {
      y[t][o] = bias.empty() ? 0.0 : bias[o];
      for (size_t i = 0; i < w.size(); ++i) y[t][o] += x[t][i] * w[i][o];
    }
  }
  return y;
}

Matrix columns_of(const Matrix& x, size_t first, size_t count) {
  Matrix y;
  for (const auto& row : x) {
    const auto begin = row.begin() + static_cast<std::ptrdiff_t>(first);
    y.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(count));
  }
  return y;
}

Matrix plain_norm(Matrix x) {
  for (auto& row : x) {
    double mean = 0, variance = 0;
    for (const double v : row) mean += v / kD;
    for (const double v : row) variance += (v - mean) * (v - mean) / kD;
    for (double& v : row) v = (v - mean) / std::sqrt(variance + 1e-6);
  }
  return x;
}

// Queries, keys and values (T, D); weight of step s for step t in head h by `weight`.
Matrix latte(const Matrix& q, const Matrix& k, const Matrix& v) {
  const double scale = 1 / std::sqrt(static_cast<double>(kEach));
  Matrix y(q.size(), std::vector<double>(kD, 0.0));
  for (size_t t = 0; t < q.size(); ++t) {
    for (size_t h = 0; h < kH; ++h) {
      double total = 0;
      for (size_t l = 0; l < kEach; ++l) total += std::exp(scale * q[t][h * kEach + l]);
      for (size_t l = 0; l < kEach; ++l) {
        const size_t at = h * kEach + l;
        double norm = 0;
        for (size_t s = 0; s <= t; ++s) norm += std::exp(scale * k[s][at]) + 1e-6;
        const double p = std::exp(scale * q[t][at]) / total / norm;
        for (size_t s = 0; s <= t; ++s) {
          const double w = p * (std::exp(scale * k[s][at]) + 1e-6);
          for (size_t c = 0; c < kEach; ++c) y[t][h * kEach + c] += w * v[s][h * kEach + c];
        }
      }
    }
  }
  return y;
}

// Scores are divided by the root of the whole width, as that code has it.
Matrix softmax_attention(const Matrix& q, const Matrix& k, const Matrix& v) {
  Matrix y(q.size(), std::vector<double>(kD, 0.0));
  for (size_t t = 0; t < q.size(); ++t) {
    for (size_t h = 0; h < kH; ++h) {
      std::vector<double> weights;
      double total = 0;
      for (size_t s = 0; s <= t; ++s) {
        double score = 0;
        for (size_t c = 0; c < kEach; ++c) score += q[t][h * kEach + c] * k[s][h * kEach + c];
        weights.push_back(std::exp(score / std::sqrt(static_cast<double>(kD))));
        total += weights.back();
      }
      for (size_t s = 0; s <= t; ++s) {
        for (size_t c = 0; c < kEach; ++c) {
          y[t][h * kEach + c] += weights[s] / total * v[s][h * kEach + c];
        }
      }
    }
  }
  return y;
}

Matrix mix(const FlaxRun& run, const std::string& block, const std::string& type, const Matrix& x) {
  if (type == "latte-wrap") {
    const std::string module = block + "SelfAttention_0/";
    const auto part = [&](const std::string& name) {
      return product(x, matrix(run, module + name + "/kernel", kD),
                     matrix(run, module + name + "/bias", kD)[0]);
    };
    return product(latte(part("query"), part("key"), part("value")),
                   matrix(run, module + "out/kernel", kD), matrix(run, module + "out/bias", kD)[0]);
  }
  const bool is_latte = type == "latte";
  const std::string module =
      block + (is_latte ? "CausalLatentAttention_0/" : "CausalSelfAttention_0/");
  const Matrix qkv = product(x, is_latte ? transpose(matrix(run, module + "w", kD))
                                         : matrix(run, module + "Dense_0/kernel", 3 * kD));
  const Matrix q = columns_of(qkv, 0, kD), k = columns_of(qkv, kD, kD),
               v = columns_of(qkv, 2 * kD, kD);
  return product(
      is_latte ? latte(q, k, v) : softmax_attention(q, k, v),
      matrix(run, module + (is_latte ? "output_projection" : "Dense_1") + "/kernel", kD));
}

void add_to(Matrix* x, const Matrix& y) {
  for (size_t t = 0; t < x->size(); ++t) {
    for (size_t i = 0; i < kD; ++i) (*x)[t][i] += y[t][i];
  }
}

Matrix logits_of(const FlaxRun& run, const std::string& type, const std::vector<TokenId>& ids) {
  const Matrix table = matrix(run, "params/Embed_0/embedding", kD);
  const Matrix positions = matrix(run, "params/Embed_1/embedding", kD);
  Matrix x;
  for (size_t t = 0; t < ids.size(); ++t) {
    x.push_back(table[static_cast<size_t>(ids[t])]);
    for (size_t i = 0; i < kD; ++i) x[t][i] += positions[t][i];
  }
  for (int layer = 0; layer < 2; ++layer) {
    const std::string block = "params/TransformerBlock_" + std::to_string(layer) + "/";
    add_to(&x, mix(run, block, type, plain_norm(x)));
    const std::string mlp = block + "MLP_0/Dense_";
    Matrix hidden = product(plain_norm(x), matrix(run, mlp + "0/kernel", 4 * kD),
                            matrix(run, mlp + "0/bias", 4 * kD)[0]);
    for (auto& row : hidden) {
      for (double& z : row) {
        z = 0.5 * z * (1 + std::tanh(std::sqrt(2 / M_PI) * (z + 0.044715 * z * z * z)));
      }
    }
    add_to(&x,
           product(hidden, matrix(run, mlp + "1/kernel", kD), matrix(run, mlp + "1/bias", kD)[0]));
  }
  return product(plain_norm(x), transpose(table));
}

ConvertOptions options_for(const std::string& input, const std::string& output) {
  ConvertOptions options;
  options.input = input;
  options.output = output;
  options.weights = WeightType::kF32;
  options.threads = 1;
  options.test_vector = TestVectorMode::kNever;
  return options;
}

}  // namespace

TEST_CASE("sibling: all three kinds of attention give the equations' logits") {
  for (const char* type : {"latte", "latte-wrap", "standard"}) {
    CAPTURE(type);
    const TemporaryFolder folder;
    const FlaxRun run = test::sibling_run(type);
    run.write(folder.path());
    const std::string output = folder / "x.moka";
    const auto report = convert(options_for(folder.path(), output));
    REQUIRE_MESSAGE(report.ok(), report.status().message());
    const auto model = Model::open(output);
    REQUIRE_MESSAGE(model.ok(), model.status().message());
    CHECK(model.value().info().position_limit == 10);
    const std::vector<TokenId> ids = {3, 19, 0, 7, 7, 12, 1, 18, 5, 9};
    const Matrix want = logits_of(run, type, ids);
    auto session = model.value().new_session();
    REQUIRE(session.ok());
    double largest = 0;
    const Status status = session.value().append(
        ids, [&](size_t first, size_t rows, const float* logits, size_t stride) {
          for (size_t r = 0; r < rows; ++r) {
            for (size_t i = 0; i < 20; ++i) {
              largest = std::max(largest, std::fabs(logits[r * stride + i] - want[first + r][i]));
            }
          }
          return Status();
        });
    REQUIRE_MESSAGE(status.ok(), status.message());
    CHECK(largest < 2e-5);
  }
}

TEST_CASE("sibling: a run as its trainer leaves it converts without a word more") {
  using Form = FlaxRun::StateForm;
  const FlaxRun run = test::sibling_run("latte");
  const TemporaryFolder plain;
  run.write(plain.path());
  REQUIRE(convert(options_for(plain.path(), plain / "x.moka")).ok());
  const auto expected = Model::open(plain / "x.moka");
  REQUIRE(expected.ok());
  auto want = expected.value().new_session();
  REQUIRE(want.ok());
  const std::vector<TokenId> ids = {3, 19, 0, 7};
  REQUIRE(want.value().append(ids).ok());
  FlaxRun half = run;
  half.config["dtype"] = "bfloat16";
  const TemporaryFolder rounded;
  half.write_sibling(rounded.path(), Form::kMsgpack);
  const auto plan = plan_conversion(options_for(rounded.path(), ""));
  REQUIRE_MESSAGE(plan.ok(), plan.status().message());
  CHECK(std::count(plan.value().notes.begin(), plan.value().notes.end(),
                   "dtype is \"bfloat16\": the original computes in it, Moka in float32") == 1);
  for (const Form form : {Form::kMsgpack, Form::kOcdbt, Form::kDescribedOcdbt}) {
    CAPTURE(static_cast<int>(form));
    const TemporaryFolder folder;
    run.write_sibling(folder.path(), form);
    const auto report = convert(options_for(folder.path(), folder / "x.moka"));
    REQUIRE_MESSAGE(report.ok(), report.status().message());
    const auto model = Model::open(folder / "x.moka");
    REQUIRE_MESSAGE(model.ok(), model.status().message());
    auto session = model.value().new_session();
    REQUIRE(session.ok());
    REQUIRE(session.value().append(ids).ok());
    const Span<const float> got = session.value().logits(), same = want.value().logits();
    REQUIRE(got.size() == same.size());
    CHECK(std::equal(got.begin(), got.end(), same.begin()));
  }
}

TEST_CASE("sibling: what the weights do not tell is asked for, what contradicts them refused") {
  const TemporaryFolder folder;
  FlaxRun run = test::sibling_run("latte");
  const auto refused = [&](const std::string& key, const std::string& value) {
    FlaxRun changed = run;
    changed.config[key] = value;
    if (value.empty()) changed.config.erase(key);
    changed.write(folder.path());
    const Status status = plan_conversion(options_for(folder.path(), "")).status();
    CHECK(status.code() == StatusCode::kInvalidArgument);
    const std::string where = folder / "config.yaml: ";
    CHECK(status.message().substr(0, where.size()) == where);
    return status.message().substr(std::min(where.size(), status.message().size()));
  };
  CHECK(refused("num_heads", "") ==
        "num_heads is missing, expected the number of heads, which weights do not tell");
  CHECK(refused("num_heads", "5") ==
        "embedding_size is 12, expected a multiple of num_heads, which is 5");
  CHECK(refused("embedding_size", "16") == "embedding_size is 16, but the weights have 12");
  CHECK(refused("num_layers", "3") == "num_layers is 3, but the weights have 2");
  CHECK(refused("context_size", "11") == "context_size is 11, but the weights have 10");
  CHECK(refused("attention_type", "standard") ==
        "attention_type is \"standard\", but the weights have CausalLatentAttention_0, which is "
        "\"latte\"");
  CHECK(refused("rope", "True") ==
        "the key \"rope\" is not known (its value is true); remove it if it does not change what "
        "the model computes");

  // Flax's own attention layer has its heads in its shapes.
  const TemporaryFolder wrapped;
  FlaxRun wrap = test::sibling_run("latte-wrap");
  wrap.config.clear();
  wrap.write(wrapped.path());
  CHECK(plan_conversion(options_for(wrapped.path(), "")).ok());
  const TemporaryFolder bare;
  run.config.clear();
  run.write(bare.path());
  const Status none = plan_conversion(options_for(bare.path(), "")).status();
  CHECK(none.code() == StatusCode::kNotFound);
  CHECK(none.message() ==
        bare /
            "checkpoints/60/default/checkpoint: there is neither metadata/metadata in its step nor "
            "config.yaml beside it or its run, and weights do not tell the number of heads; "
            "--config names a file with num_heads");
}

}  // namespace moka
