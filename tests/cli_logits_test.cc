// `moka logits` for every kind of model: shapes, numbers, and what it says about wrong files.
#include <filesystem>
#include <string>
#include <vector>

#include "converter/npy.h"
#include "doctest/doctest.h"
#include "moka/moka.h"
#include "tests/cli_model.h"
#include "tests/process.h"
#include "tests/task_models.h"

namespace moka::test {
namespace {

// A version 1 .npy of int32.
std::string ids_npy(const std::string& shape, const std::vector<int32_t>& ids) {
  std::string header = "{'descr': '<i4', 'fortran_order': False, 'shape': " + shape + ", }";
  while ((10 + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  std::string bytes = "\x93NUMPY";
  bytes += '\1';
  bytes += '\0';
  bytes += static_cast<char>(header.size() & 0xff);
  bytes += static_cast<char>(header.size() >> 8);
  bytes += header;
  for (const int32_t id : ids) {
    for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(id >> shift & 0xff);
  }
  return bytes;
}

struct Array {
  std::vector<uint64_t> shape;
  std::vector<float> values;
};

Array output_of(const std::vector<std::string>& arguments, const std::string& path) {
  std::vector<std::string> all = arguments;
  all.insert(all.end(), {"-o", path, "--force"});
  const ProcessResult result = moka_command(all);
  CHECK(result.exit_code == 0);
  CHECK(result.out == "");
  const Result<NpyArray> array = read_npy(path);
  REQUIRE_MESSAGE(array.ok(), array.status().to_string(), result.err);
  CHECK(result.err.rfind(path + ": float32 (", 0) == 0);
  return {array.value().shape, array.value().to_float32().value()};
}

Model open_spec(const TestModel& model) {
  Result<Model> opened = Model::from_spec(model.spec);
  REQUIRE_MESSAGE(opened.ok(), opened.status().to_string());
  return std::move(opened).value();
}

std::vector<float> row_of(const Model& model, const SequenceInput& input) {
  std::vector<float> all;
  const LogitsSink sink = [&](size_t, size_t rows, const float* logits, size_t stride) {
    for (size_t i = 0; i < rows; ++i) {
      all.insert(all.end(), logits + i * stride, logits + i * stride + model.info().outputs);
    }
    return Status();
  };
  const Status status = read_sequence(model, input, sink);
  REQUIRE_MESSAGE(status.ok(), status.to_string());
  return all;
}

void check_refused(const ProcessResult& result, int exit_code, const std::string& words) {
  CHECK(result.exit_code == exit_code);
  CHECK(result.out == "");
  CHECK(result.err ==
        "moka logits: " + words + "\n" + (exit_code == 2 ? "Try 'moka logits --help'.\n" : ""));
}

}  // namespace

TEST_CASE("cli logits: a row for each sequence of a classifier, padding left out") {
  const TemporaryFolder folder;
  const std::string m = folder / "m.moka", x = folder / "x.npy", y = folder / "y.npy";
  for (const bool causal : {true, false}) {
    TaskModelOptions options;
    options.causal = causal;
    const TestModel test = classifier_model(options);
    write_task_model(m, test);
    const Model model = open_spec(test);
    write_file(x, ids_npy("(2, 4)", {65, 66, 67, 68, 70, 71, 256, 256}));
    const Array array = output_of({"logits", m, "--ids", x}, y);
    CHECK(array.shape == std::vector<uint64_t>{2, 3});
    std::vector<float> expected = row_of(model, std::vector<TokenId>{65, 66, 67, 68});
    const std::vector<float> second = row_of(model, std::vector<TokenId>{70, 71, 256, 256});
    expected.insert(expected.end(), second.begin(), second.end());
    CHECK(array.values == expected);
    write_file(x, ids_npy("(4,)", {65, 66, 67, 68}));
    CHECK(output_of({"logits", m, "--ids", x}, y).shape == std::vector<uint64_t>{3});
  }
}

TEST_CASE("cli logits: pairs, embeddings, values, pixels, a model that looks ahead") {
  const TemporaryFolder folder;
  const std::string m = folder / "m.moka", x = folder / "x.npy", y = folder / "y.npy";

  const TestModel pair = pair_model();
  write_task_model(m, pair);
  write_file(x, ids_npy("(2, 2, 3)", {65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76}));
  const Array pairs = output_of({"logits", m, "--ids", x}, y);
  CHECK(pairs.shape == std::vector<uint64_t>{2, 2});
  const Result<std::vector<float>> expected = read_pair(
      open_spec(pair), std::vector<TokenId>{71, 72, 73}, std::vector<TokenId>{74, 75, 76});
  REQUIRE(expected.ok());
  CHECK(std::vector<float>(pairs.values.begin() + 2, pairs.values.end()) == expected.value());
  write_file(x, ids_npy("(2, 3)", {65, 66, 67, 68, 69, 70}));
  CHECK(output_of({"logits", m, "--ids", x}, y).shape == std::vector<uint64_t>{2});

  const TestModel embedder = embedding_model();
  write_task_model(m, embedder);
  CHECK(output_of({"logits", m, "--ids", x}, y).shape == std::vector<uint64_t>{2, 24});

  const TestModel forecaster = forecast_model(2, 3, {0.1f, 0.9f});
  write_task_model(m, forecaster);
  std::vector<float> series;
  for (int i = 0; i < 10; ++i) series.push_back(static_cast<float>(i));
  REQUIRE(write_npy(x, {5, 2}, series).ok());
  const Array values = output_of({"logits", m, "--values", x}, y);
  CHECK(values.shape == std::vector<uint64_t>{5, 12});
  CHECK(values.values == row_of(open_spec(forecaster), series));
  REQUIRE(write_npy(x, {1, 5, 2}, series).ok());
  CHECK(output_of({"logits", m, "--values", x}, y).shape == std::vector<uint64_t>{1, 5, 12});

  const TestModel images = image_model(false);
  write_task_model(m, images);
  std::vector<float> pixels;
  for (int i = 0; i < 24; ++i) pixels.push_back(static_cast<float>(i * 10));
  const std::vector<float> first(pixels.begin(), pixels.begin() + 12);
  const std::vector<float> row = row_of(open_spec(images), first);
  const std::vector<std::vector<uint64_t>> shapes = {{2, 12}, {2, 12, 1}, {2, 3, 4}};
  for (const std::vector<uint64_t>& shape : shapes) {
    REQUIRE(write_npy(x, shape, pixels).ok());
    const Array array = output_of({"logits", m, "--pixels", x}, y);
    CHECK(array.shape == std::vector<uint64_t>{2, 4});
    CHECK(std::vector<float>(array.values.begin(), array.values.begin() + 4) == row);
  }
  for (const std::vector<uint64_t>& shape :
       std::vector<std::vector<uint64_t>>{{12}, {3, 4}, {12, 1}}) {
    REQUIRE(write_npy(x, shape, first).ok());
    CHECK(output_of({"logits", m, "--pixels", x}, y).shape == std::vector<uint64_t>{4});
  }
}

TEST_CASE("cli logits: sequences longer than the model reads are refused before any work") {
  const TemporaryFolder folder;
  const std::string model = folder / "m.moka", x = folder / "x.npy", y = folder / "y.npy";
  const auto run = [&] { return moka_command({"logits", model, "--ids", x, "-o", y}); };
  TaskModelOptions options;
  options.position_limit = 10;
  write_task_model(model, classifier_model(options));
  write_file(x, ids_npy("(1, 11)", std::vector<int32_t>(11, 65)));
  check_refused(run(), 1, x + ": sequences of 11 tokens; the model reads at most 10");
  write_task_model(model, linformer_model(10));
  check_refused(run(), 1, x + ": sequences of 11 tokens; the model reads at most 10");
  CHECK_FALSE(std::filesystem::exists(y));
}

TEST_CASE("cli logits: the wrong option, shape, type and ids") {
  const TemporaryFolder folder;
  const std::string cls = folder / "c.moka", img = folder / "i.moka", fc = folder / "f.moka",
                    pair = folder / "p.moka", x = folder / "x.npy", y = folder / "y.npy";
  write_task_model(cls, classifier_model());
  write_task_model(img, image_model(false));
  write_task_model(fc, forecast_model(2, 1, {}));
  write_task_model(pair, pair_model());
  REQUIRE(write_npy(x, {2, 3}, std::vector<float>(6, 1.0f)).ok());
  const auto run = [&](const std::string& model, const std::string& option) {
    return moka_command({"logits", model, option, x, "-o", y});
  };
  check_refused(run(cls, "--pixels"), 2, "--pixels: this model reads token ids: give --ids");
  check_refused(run(img, "--ids"), 2, "--ids: this model reads images of 4 x 3: give --pixels");
  check_refused(run(fc, "--pixels"), 2,
                "--pixels: this model reads 2 numbers per step: give --values");
  check_refused(moka_command({"logits", img, "-o", y}), 2,
                "this model reads images of 4 x 3: give --pixels");
  check_refused(moka_command({"logits", cls, "--ids", x, "--values", x, "-o", y}), 2,
                "--ids, --pixels and --values exclude each other");
  check_refused(moka_command({"logits", cls, "--ids", x, "--memory-ids", x, "-o", y}), 1,
                x + ": the array is float32, expected int32 or int64");
  check_refused(run(img, "--pixels"), 1,
                x + ": the shape is (2, 3); this model reads images of 4 x 3: (B, 12) or (B, 3, "
                    "4), B may be left out");
  check_refused(run(fc, "--values"), 1,
                x + ": the shape is (2, 3); this model reads 2 numbers per step: (B, T, 2), B may "
                    "be left out");
  write_file(x, ids_npy("(3, 3)", {1, 2, 3, 4, 5, 6, 7, 8, 9}));
  check_refused(run(pair, "--ids"), 1,
                x + ": the shape is (3, 3); this model reads token ids: (B, 2, T), B may be left "
                    "out");
  check_refused(moka_command({"logits", cls, "--ids", x, "--memory-ids", x, "-o", y}), 2,
                "--memory-ids: this model reads one sequence and no memory");
  write_file(x, ids_npy("(2, 2)", {1, 2, 3, 260}));
  check_refused(run(cls, "--ids"), 1, x + ": ids[1, 1] is 260; this model's ids are 0 to 259");
  write_file(x, ids_npy("(1, 2)", {256, 256}));
  check_refused(run(cls, "--ids"), 1,
                "all 2 tokens are padding (id 256): there is nothing to read");
  write_file(x, ids_npy("(0, 2)", {}));
  CHECK(run(cls, "--ids").exit_code == 1);
  CHECK(moka_command({"logits", cls, "--ids", folder / "none.npy", "-o", y}).exit_code == 3);
  CHECK_FALSE(read_npy(y).ok());  // nothing half-written
}

}  // namespace moka::test
