// The writer: same input, same bytes; pieces of any size; nothing left behind when it fails.
#include "converter/writer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "runtime/loader.h"
#include "tests/spec_builder.h"
#include "tests/temp_folder.h"

namespace moka::test {
namespace {

std::vector<uint8_t> read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

bool equal(const ModelBytes& a, const std::vector<uint8_t>& b) {
  return std::equal(a.bytes().begin(), a.bytes().end(), b.begin(), b.end());
}

// Gives the tensors of `spec` in pieces of `piece` bytes, data and scales by turns.
TensorSource in_pieces(const ModelSpec& spec, size_t piece) {
  return [&spec, piece](size_t index, TensorSink& sink) -> Status {
    const Tensor& tensor = spec.tensors[index];
    const auto* data = static_cast<const uint8_t*>(tensor.data);
    const auto* scales = static_cast<const uint8_t*>(tensor.scales);
    size_t given = 0, given_scales = 0;
    while (given < tensor.size || given_scales < tensor.scale_size) {
      const size_t n = std::min<size_t>(piece, static_cast<size_t>(tensor.size) - given);
      const size_t m =
          std::min<size_t>(piece, static_cast<size_t>(tensor.scale_size) - given_scales);
      MOKA_RETURN_IF_ERROR(sink.data(data + given, n));
      if (m != 0) MOKA_RETURN_IF_ERROR(sink.scales(scales + given_scales, m));
      given += n;
      given_scales += m;
    }
    return Status();
  };
}

TEST_CASE("writer: the same model gives the same bytes, in memory, in a file, in pieces") {
  const TempFolder folder;
  const TestModel model = make_format_model(4);
  const ModelBytes bytes = write_model_to_memory(model.spec).value();
  REQUIRE(write_model(folder.file("a.moka"), model.spec).ok());
  CHECK(equal(bytes, read_file(folder.file("a.moka"))));
  for (const size_t piece : {size_t{1}, size_t{7}, size_t{4096}, size_t{1} << 24}) {
    const Result<ModelBytes> again =
        write_model_to_memory(model.spec, in_pieces(model.spec, piece));
    REQUIRE(again.ok());
    CHECK(std::equal(bytes.bytes().begin(), bytes.bytes().end(), again.value().bytes().begin(),
                     again.value().bytes().end()));
  }
}

TEST_CASE("writer: a described spec is written from its source alone") {
  const TestModel model = make_test_model();
  ModelSpec described = model.spec;
  for (Tensor& tensor : described.tensors) tensor.data = tensor.scales = nullptr;
  CHECK(write_model_to_memory(described).status().code() == StatusCode::kInvalidArgument);
  const Result<ModelBytes> bytes = write_model_to_memory(described, in_pieces(model.spec, 100));
  REQUIRE(bytes.ok());
  const Result<LoadedModel> loaded = load_model(bytes.value().bytes(), "x");
  REQUIRE(loaded.ok());
  CHECK(describe_spec(loaded.value().spec) == describe_spec(model.spec));
}

TEST_CASE("writer: a source that gives too little or too much leaves no file") {
  const TempFolder folder;
  TestModelOptions options;
  options.weights = DType::kI8;
  const TestModel model = make_test_model(options);
  const std::string path = folder.file("a.moka");
  const uint8_t bytes[8192] = {};
  const auto attempt = [&](const TensorSource& source) {
    const Status status = write_model(path, model.spec, {}, source);
    CHECK(folder.count() == 0);
    return status;
  };
  Status status = attempt([&](size_t, TensorSink& sink) { return sink.data(bytes, 100); });
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message() == path + ": tensor 'tokens' was given 100 bytes of data, expected 1200");
  status = attempt([&](size_t, TensorSink& sink) { return sink.data(bytes, 1201); });
  CHECK(status.code() == StatusCode::kInvalidArgument);
  status = attempt([&](size_t, TensorSink& sink) { return sink.data(bytes, 1200); });
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message() == path + ": tensor 'tokens' was given 0 bytes of scales, expected 200");
  status = attempt([&](size_t, TensorSink& sink) { return sink.scales(bytes, 201); });
  CHECK(status.code() == StatusCode::kInvalidArgument);
  status = attempt([](size_t, TensorSink&) { return Status(StatusCode::kIo, "disk"); });
  CHECK(status.code() == StatusCode::kIo);
}

TEST_CASE("writer: progress ends at the total and can end the writing") {
  const TempFolder folder;
  const TestModel model = make_test_model();
  WriteOptions options;
  uint64_t last = 0, all = 0;
  options.progress = [&](uint64_t done, uint64_t total) {
    CHECK(done >= last);
    last = done;
    all = total;
    return Status();
  };
  REQUIRE(write_model(folder.file("a.moka"), model.spec, options).ok());
  CHECK(last == all);
  CHECK(all > 0);
  options.progress = [](uint64_t, uint64_t) { return Status(StatusCode::kCancelled, "enough"); };
  CHECK(write_model(folder.file("b.moka"), model.spec, options).code() == StatusCode::kCancelled);
  CHECK(folder.count() == 1);
}

TEST_CASE("writer: an existing file is replaced only on request") {
  const TempFolder folder;
  const std::string path = folder.file("a.moka");
  const TestModel model = make_test_model();
  REQUIRE(write_model(path, model.spec).ok());
  CHECK(write_model(path, model.spec).code() == StatusCode::kFailedPrecondition);
  WriteOptions options;
  options.replace = true;
  CHECK(write_model(path, model.spec, options).ok());
  CHECK(write_model(folder.file("no/such/a.moka"), model.spec).code() == StatusCode::kNotFound);
  CHECK(folder.count() == 1);
}

TEST_CASE("writer: an invalid spec is not written") {
  const TempFolder folder;
  TestModel model = make_test_model();
  model.spec.blocks[1].after_mixer.eps = -1.0f;
  CHECK(write_model(folder.file("a.moka"), model.spec).code() == StatusCode::kCorrupt);
  CHECK(folder.count() == 0);
  model = make_test_model();
  model.spec.metadata.training = std::string(size_t{65} << 20, 'x');
  const Status status = write_model(folder.file("a.moka"), model.spec);
  CHECK(status.code() == StatusCode::kOutOfRange);
  CHECK(folder.count() == 0);
}

TEST_CASE("writer: replace_header changes description and test vector, and nothing else") {
  const TempFolder folder;
  const std::string path = folder.file("a.moka");
  for (const int which : {0, 2}) {
    const TestModel model = make_format_model(which);
    WriteOptions options;
    options.replace = true;
    REQUIRE(write_model(path, model.spec, options).ok());
    const uint64_t before = load_model_file(path).value().fingerprint;
    ModelSpec expected = model.spec;
    expected.metadata.name = std::string(9000, 'n');  // more pages than before
    expected.metadata.measurement.reset();
    if (which == 0) expected.test_vector = TestVector{{9}, {8, 7}};
    const Status status = replace_header(path, expected.metadata, expected.test_vector);
    REQUIRE_MESSAGE(status.ok(), status.to_string());
    const Result<LoadedModel> loaded = load_model_file(path);
    REQUIRE_MESSAGE(loaded.ok(), loaded.status().to_string());
    CHECK(describe_spec(loaded.value().spec) == describe_spec(expected));
    CHECK(verify_data(loaded.value(), path).ok());
    CHECK(loaded.value().fingerprint != before);
    // The same as if it had been written so at once.
    CHECK(equal(write_model_to_memory(expected).value(), read_file(path)));
    CHECK(folder.count() == 1);
  }
}

TEST_CASE("writer: replace_header refuses damaged data and bad values, and leaves the file") {
  const TempFolder folder;
  const std::string path = folder.file("a.moka");
  const TestModel model = make_test_model();
  REQUIRE(write_model(path, model.spec).ok());
  const std::vector<uint8_t> before = read_file(path);
  CHECK(replace_header(path, {}, TestVector{{50}, {1}}).code() == StatusCode::kCorrupt);
  CHECK(read_file(path) == before);
  {
    std::fstream out(path, std::ios::binary | std::ios::in | std::ios::out);
    out.seekp(static_cast<std::streamoff>(before.size() - 1000));
    out.put(static_cast<char>(before[before.size() - 1000] ^ 1));
  }
  CHECK(replace_header(path, {}, std::nullopt).code() == StatusCode::kCorrupt);
  CHECK(replace_header(folder.file("none"), {}, std::nullopt).code() == StatusCode::kNotFound);
  CHECK(folder.count() == 1);
}

}  // namespace
}  // namespace moka::test
