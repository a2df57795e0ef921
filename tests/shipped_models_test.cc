// The two shipped models beside the demo model, a ListOps classifier and an ECG forecaster, against
// the PyTorch models that they were converted from.
//
// *_parity_int8.npy holds PyTorch's output (float64 arithmetic) from the int8 weights widened to
// float: Moka computing in float32 from the same numbers must agree closely. *_logits.npy and
// *_numbers.npy are from the weights before rounding. Users run int8 activations, which differ from
// both: those tolerances were measured and left about twice the room. Made by
// converter/pytorch/make_parity.py.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <list>
#include <string>
#include <vector>

#include "converter/npy.h"
#include "moka/moka.h"
#include "runtime/loader.h"
#include "runtime/model_spec.h"
#include "tests/widen.h"

namespace moka {
namespace {

const std::string kModels = MOKA_SOURCE_DIR "/models/";
const std::string kData = MOKA_SOURCE_DIR "/tests/data/";

NpyArray load(const std::string& name) {
  auto array = read_npy(kData + name);
  REQUIRE_MESSAGE(array.ok(), array.status().message());
  return std::move(array).value();
}

// A model file whose int8 matrices are widened to float32; the memory belongs to this.
struct WideModel {
  LoadedModel loaded;
  std::list<std::vector<float>> storage;

  explicit WideModel(const std::string& file) {
    auto opened = load_model_file(file);
    REQUIRE_MESSAGE(opened.ok(), opened.status().message());
    loaded = std::move(opened).value();
    for (Tensor& tensor : loaded.spec.tensors) test::widen_tensor(&tensor, &storage);
  }

  Model open() const {
    auto model = Model::from_spec(loaded.spec);
    REQUIRE_MESSAGE(model.ok(), model.status().message());
    return std::move(model).value();
  }
};

Model open_file(const std::string& file) {
  auto model = Model::open(file);
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  return std::move(model).value();
}

std::vector<float> rows_of(const Model& model, const SequenceInput& input) {
  std::vector<float> rows;
  const Status status =
      read_sequence(model, input, [&](size_t, size_t count, const float* row, size_t stride) {
        for (size_t i = 0; i < count; ++i) {
          rows.insert(rows.end(), row + i * stride, row + i * stride + model.info().outputs);
        }
        return Status();
      });
  REQUIRE_MESSAGE(status.ok(), status.message());
  return rows;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  REQUIRE(!a.empty());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    REQUIRE(std::isfinite(a[i]));
    worst = std::max(worst, std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  }
  return worst;
}

// ---- ListOps ------------------------------------------------------------------------------------

struct ListOps {
  size_t length = 0;
  std::vector<TokenId> ids;  // [3][length], padding on the right
  std::vector<float> logits, int8_logits;
};

ListOps load_listops() {
  ListOps data;
  const NpyArray ids = load("listops_parity_ids.npy");
  REQUIRE(ids.shape.size() == 2);
  REQUIRE(ids.shape[0] == 3);
  data.length = static_cast<size_t>(ids.shape[1]);
  data.ids = ids.to_int32().value();
  data.logits = load("listops_parity_logits.npy").to_float32().value();
  data.int8_logits = load("listops_parity_int8.npy").to_float32().value();
  REQUIRE(data.logits.size() == 30);
  REQUIRE(data.int8_logits.size() == 30);
  return data;
}

std::vector<float> classify_all(const Model& model, const ListOps& data) {
  std::vector<float> rows;
  for (size_t i = 0; i < 3; ++i) {
    const std::vector<float> row =
        rows_of(model, Span<const TokenId>(data.ids.data() + i * data.length, data.length));
    rows.insert(rows.end(), row.begin(), row.end());
  }
  return rows;
}

size_t best_of(const std::vector<float>& rows, size_t row) {
  const float* at = rows.data() + row * 10;
  return static_cast<size_t>(std::max_element(at, at + 10) - at);
}

// ---- forecaster ---------------------------------------------------------------------------------

constexpr size_t kNumbers = 540;  // 180 steps of three quantiles

// Rows 99, 199, ... as the network made them: without the model's scaling.
std::vector<float> unscaled_rows(const Model& model, const std::vector<float>& rows) {
  const RegressionHead& head = std::get<RegressionHead>(model.spec().head);
  REQUIRE(head.mean.size() == 1);
  REQUIRE(head.deviation.size() == 1);
  std::vector<float> kept;
  for (size_t t = 99; t < rows.size() / kNumbers; t += 100) {
    for (size_t i = 0; i < kNumbers; ++i) {
      kept.push_back((rows[t * kNumbers + i] - head.mean[0]) / head.deviation[0]);
    }
  }
  return kept;
}

// What `moka verify` asks of a file.
void check_verifies(const std::string& file, uint64_t weight_bytes_at_most) {
  const Model model = open_file(file);
  CHECK(model.info().weight_bytes <= weight_bytes_at_most);
  auto loaded = load_model_file(file);
  REQUIRE_MESSAGE(loaded.ok(), loaded.status().message());
  const Status sound = verify_data(loaded.value(), file);
  CHECK_MESSAGE(sound.ok(), sound.message());
  const ModelSpec& spec = loaded.value().spec;
  CHECK(check_spec(spec, file).ok());
  CHECK(check_supported(spec, file).ok());
  CHECK(features_of(spec) == spec.required_features);
  CHECK(!spec.metadata.name.empty());
  CHECK(!spec.metadata.license.empty());
}

}  // namespace

TEST_CASE("shipped: listops equals PyTorch in float32, and int8 activations stay close") {
  const ListOps data = load_listops();
  const WideModel wide(kModels + "listops.moka");
  const std::vector<float> floats = classify_all(wide.open(), data);
  const double float_difference = largest_difference(floats, data.int8_logits);
  INFO("float32 differs from float64 by " << float_difference);
  CHECK(float_difference <= 2e-5);  // measured 3e-6

  const Model model = open_file(kModels + "listops.moka");
  const std::vector<float> rows = classify_all(model, data);
  const double from_rounded = largest_difference(rows, data.int8_logits);
  const double from_float = largest_difference(rows, data.logits);
  INFO("int8 activations differ by " << from_rounded << ", from float weights by " << from_float);
  CHECK(from_rounded <= 0.12);  // measured 0.055; the ten logits span 12
  CHECK(from_float <= 0.15);    // measured 0.073
  for (size_t i = 0; i < 3; ++i) CHECK(best_of(rows, i) == best_of(data.logits, i));
}

TEST_CASE("shipped: listops reads tokens, alone or padded, in one call or step by step") {
  const ListOps data = load_listops();
  const Model model = open_file(kModels + "listops.moka");
  const ModelInfo& info = model.info();
  CHECK(info.output == OutputKind::kClassifier);
  CHECK(info.outputs == 10);
  CHECK(info.causal);
  REQUIRE(info.pad_id == 1);
  size_t padded = 0;
  for (size_t i = 0; i < 3; ++i) {
    const TokenId* ids = data.ids.data() + i * data.length;
    const size_t count = static_cast<size_t>(std::find(ids, ids + data.length, 1) - ids);
    padded += count < data.length ? 1 : 0;
    const std::vector<float> whole = rows_of(model, Span<const TokenId>(ids, data.length));
    CHECK(rows_of(model, Span<const TokenId>(ids, count)) == whole);
    auto session = model.new_session();
    REQUIRE(session.ok());
    REQUIRE(session.value().append(Span<const TokenId>(ids, count)).ok());
    const Span<const float> logits = session.value().logits();
    CHECK(std::vector<float>(logits.begin(), logits.end()) == whole);
  }
  CHECK(padded == 2);
}

TEST_CASE("shipped: forecaster equals PyTorch in float32, and int8 activations stay close") {
  const std::vector<float> values = load("forecaster_parity_values.npy").to_float32().value();
  const std::vector<float> numbers = load("forecaster_parity_numbers.npy").to_float32().value();
  const std::vector<float> int8_numbers = load("forecaster_parity_int8.npy").to_float32().value();
  REQUIRE(values.size() == 600);
  REQUIRE(numbers.size() == 6 * kNumbers);
  const WideModel wide(kModels + "forecaster.moka");
  const Model wide_model = wide.open();
  REQUIRE(wide_model.info().outputs == kNumbers);
  const double float_difference =
      largest_difference(unscaled_rows(wide_model, rows_of(wide_model, values)), int8_numbers);
  INFO("float32 differs from float64 by " << float_difference);
  CHECK(float_difference <= 2e-5);  // measured 3e-6

  const Model model = open_file(kModels + "forecaster.moka");
  const std::vector<float> rows = unscaled_rows(model, rows_of(model, values));
  const double from_rounded = largest_difference(rows, int8_numbers);
  const double from_float = largest_difference(rows, numbers);
  INFO("int8 activations differ by " << from_rounded << ", from float weights by " << from_float);
  CHECK(from_rounded <= 0.08);  // measured 0.040, in standard deviations of the series
  CHECK(from_float <= 0.18);    // measured 0.088
}

TEST_CASE("shipped: the files are sound and what they should be") {
  check_verifies(kModels + "listops.moka", 4 << 20);
  check_verifies(kModels + "forecaster.moka", 2 << 20);
}

}  // namespace moka
