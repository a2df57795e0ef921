// The shipped demo model against the PyTorch model that it was converted from, on 1,000 tokens of
// text that it was not trained on.
//
// stories_parity_int8.npy has PyTorch's logits (float64 arithmetic) from the shipped int8 weights
// widened to float: Moka computing in float32 from the same numbers must agree closely. Computing
// with int8 activations, as users run it, is then compared with that by its KL divergence. Columns:
// 32 fixed tokens and the logsumexp of the row. Made by converter/pytorch/make_parity.py.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <list>
#include <nlohmann/json.hpp>
#include <vector>

#include "converter/convert.h"
#include "converter/npy.h"
#include "moka/moka.h"
#include "runtime/loader.h"
#include "runtime/model_spec.h"
#include "tests/widen.h"

namespace moka {
namespace {

const char kModel[] = MOKA_SOURCE_DIR "/models/stories.moka";
const char kData[] = MOKA_SOURCE_DIR "/tests/data/";

struct Parity {
  std::vector<TokenId> ids;
  std::vector<size_t> columns;
  std::vector<float> logits;  // [ids][columns + 1]
};

Parity load_parity(const char* logits_file) {
  Parity parity;
  const auto ids = read_npy(std::string(kData) + "stories_parity_ids.npy");
  const auto logits = read_npy(std::string(kData) + logits_file);
  REQUIRE((ids.ok() && logits.ok()));
  parity.ids = ids.value().to_int32().value();
  parity.logits = logits.value().to_float32().value();
  std::ifstream file(std::string(kData) + "stories_parity.json");
  parity.columns = nlohmann::json::parse(file).at("columns").get<std::vector<size_t>>();
  REQUIRE(parity.logits.size() == parity.ids.size() * (parity.columns.size() + 1));
  return parity;
}

double log_sum_exp(const float* row, size_t n) {
  const double top = static_cast<double>(*std::max_element(row, row + n));
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(row[i]) - top);
  return top + std::log(sum);
}

std::vector<float> all_logits(const Model& model, const std::vector<TokenId>& ids) {
  const size_t outputs = model.info().outputs;
  std::vector<float> rows(ids.size() * outputs);
  auto session = model.new_session();
  REQUIRE(session.ok());
  const Status status = session.value().append(
      ids, [&rows, outputs](size_t first, size_t count, const float* logits, size_t stride) {
        for (size_t r = 0; r < count; ++r) {
          std::copy_n(logits + r * stride, outputs, rows.data() + (first + r) * outputs);
        }
        return Status();
      });
  REQUIRE_MESSAGE(status.ok(), status.message());
  return rows;
}

float worst_difference(const Parity& parity, const std::vector<float>& rows, size_t outputs) {
  double worst = 0;
  const size_t width = parity.columns.size() + 1;
  for (size_t t = 0; t < parity.ids.size(); ++t) {
    const float* row = rows.data() + t * outputs;
    const float* want = parity.logits.data() + t * width;
    for (size_t c = 0; c + 1 < width; ++c) {
      worst = std::max(worst, std::fabs(static_cast<double>(row[parity.columns[c]]) - want[c]));
    }
    worst = std::max(worst, std::fabs(log_sum_exp(row, outputs) - want[width - 1]));
  }
  return static_cast<float>(worst);
}

// Mean over tokens of KL(p || q), nats.
double mean_divergence(const std::vector<float>& p, const std::vector<float>& q, size_t outputs) {
  double total = 0;
  const size_t count = p.size() / outputs;
  for (size_t t = 0; t < count; ++t) {
    const float* a = p.data() + t * outputs;
    const float* b = q.data() + t * outputs;
    const double la = log_sum_exp(a, outputs), lb = log_sum_exp(b, outputs);
    for (size_t i = 0; i < outputs; ++i) {
      const double log_p = static_cast<double>(a[i]) - la;
      total += std::exp(log_p) * (log_p - (static_cast<double>(b[i]) - lb));
    }
  }
  return total / static_cast<double>(count);
}

}  // namespace

TEST_CASE("stories: logits equal PyTorch's in float32, and int8 stays close") {
  const Parity parity = load_parity("stories_parity_int8.npy");
  REQUIRE(parity.ids.size() == 1000);
  auto loaded = load_model_file(kModel);
  REQUIRE_MESSAGE(loaded.ok(), loaded.status().message());
  ModelSpec wide = loaded.value().spec;
  std::list<std::vector<float>> storage;
  for (Tensor& tensor : wide.tensors) test::widen_tensor(&tensor, &storage);
  auto float_model = Model::from_spec(std::move(wide));
  REQUIRE_MESSAGE(float_model.ok(), float_model.status().message());
  const size_t outputs = float_model.value().info().outputs;
  REQUIRE(outputs == 8192);
  const std::vector<float> float_rows = all_logits(float_model.value(), parity.ids);
  const float worst = worst_difference(parity, float_rows, outputs);
  INFO("largest difference of a logit: " << worst);
  CHECK(worst <= 1e-4f);

  auto model = Model::open(kModel);
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  const std::vector<float> int8_rows = all_logits(model.value(), parity.ids);
  const double divergence = mean_divergence(float_rows, int8_rows, outputs);
  INFO("KL(float32 || int8 activations), nats per token: " << divergence);
  CHECK(divergence <= 2e-3);
  CHECK(divergence >= 0.0);
}

TEST_CASE("stories: the tokenizer in the file gives the ids that the trainer's gave") {
  const Parity parity = load_parity("stories_parity_logits.npy");
  auto model = Model::open(kModel);
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  const Tokenizer& tokenizer = model.value().tokenizer();
  CHECK(parity.ids[0] == tokenizer.eos_id());
  const auto text = tokenizer.decode(Span<const TokenId>(parity.ids));
  REQUIRE(text.ok());
  CHECK(text.value().substr(0, 43) == "The house was three miles from the station,");
  std::vector<TokenId> ids = {tokenizer.eos_id()};
  REQUIRE(tokenizer.encode(text.value(), &ids).ok());
  CHECK(ids == parity.ids);
}

// The float32 checkpoint is too large to ship. Where it is at hand, it must convert to a model that
// gives PyTorch's logits.
TEST_CASE("stories: the float32 checkpoint, where it is at hand") {
  const std::string folder = MOKA_SOURCE_DIR "/models/stories-hf";
  if (!std::filesystem::exists(folder + "/model.safetensors")) {
    MESSAGE("skipped: models/stories-hf is not here");
    return;
  }
  const Parity parity = load_parity("stories_parity_logits.npy");
  const std::string output =
      (std::filesystem::temp_directory_path() / "moka-stories-f32.moka").string();
  ConvertOptions options;
  options.input = folder;
  options.output = output;
  options.weights = WeightType::kF32;
  options.force = true;
  options.test_vector = TestVectorMode::kNever;
  const auto report = convert(options);
  REQUIRE_MESSAGE(report.ok(), report.status().message());
  auto model = Model::open(output);
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  const float worst =
      worst_difference(parity, all_logits(model.value(), parity.ids), model.value().info().outputs);
  INFO("largest difference of a logit: " << worst);
  CHECK(worst <= 1e-4f);
  std::filesystem::remove(output);
}

}  // namespace moka
