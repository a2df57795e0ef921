// What the writer writes, the loader reads; damaged and foreign files it refuses.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include "tests/model_file.h"
#include "tests/temp_folder.h"

namespace moka::test {

TEST_CASE("loader: a model is read back as it was written, field by field") {
  std::vector<TestModel> models;
  for (int which = 0; which < kFormatModels; ++which) models.push_back(make_format_model(which));
  for (const TestMixer mixer : {TestMixer::kLatte, TestMixer::kWindow, TestMixer::kMacchiato}) {
    for (const DType weights : {DType::kF32, DType::kF16, DType::kBF16, DType::kI8}) {
      TestModelOptions options;
      options.mixer = mixer;
      options.weights = weights;
      options.tied = weights == DType::kI8;
      models.push_back(make_test_model(options));
    }
    for (const DType weights : {DType::kI8, DType::kI4}) {
      TestModelOptions options;
      options.mixer = mixer;
      options.weights = weights;
      options.tiles = true;
      models.push_back(make_test_model(options));
    }
  }
  for (const TestModel& model : models) {
    const ModelBytes bytes = written(model.spec);
    const Result<LoadedModel> loaded = load_model(bytes.bytes(), "x.moka");
    REQUIRE_MESSAGE(loaded.ok(), loaded.status().to_string());
    CHECK(describe_spec(loaded.value().spec) == describe_spec(model.spec));
    CHECK(loaded.value().format_version == 1);
    CHECK(loaded.value().data_start % kPageAlignment == 0);
    CHECK(loaded.value().data_start + loaded.value().data_size == bytes.size());
    CHECK(loaded.value().fingerprint == xxh3_64(bytes.bytes().data(), header_size(bytes)));
    for (const Tensor& tensor : loaded.value().spec.tensors) {
      CHECK(reinterpret_cast<uintptr_t>(tensor.data) % kDataAlignment == 0);
      CHECK(reinterpret_cast<uintptr_t>(tensor.scales) % kDataAlignment == 0);
      const auto* end = static_cast<const uint8_t*>(tensor.data) + tensor.size;
      CHECK(bytes.bytes().end() - end >= static_cast<ptrdiff_t>(kTailBytes));
    }
    const Status verified = verify_data(loaded.value(), "x.moka");
    CHECK_MESSAGE(verified.ok(), verified.to_string());
    const Status tiles = verify_tiles(loaded.value(), "x.moka");
    CHECK_MESSAGE(tiles.ok(), tiles.to_string());
  }
}

TEST_CASE("loader: every tokenizer kind survives") {
  TestModel model = make_format_model(0);
  for (int kind = 0; kind <= static_cast<int>(TokenizerKind::kWords); ++kind) {
    TokenizerSpec& tokenizer = *model.spec.tokenizer;
    tokenizer.kind = static_cast<TokenizerKind>(kind);
    if (tokenizer.kind != TokenizerKind::kBpe) tokenizer.merges.clear();
    tokenizer.scores.assign(tokenizer.kind == TokenizerKind::kUnigram ? 6 : 0, -1.0f);
    const std::vector<uint8_t> pieces = tokenizer.pieces;
    const std::vector<uint32_t> ends = tokenizer.piece_ends;
    if (tokenizer.kind == TokenizerKind::kBytes) {
      tokenizer.pieces.clear();
      tokenizer.piece_ends.clear();
      for (uint32_t byte = 0; byte < 256; ++byte) {
        tokenizer.pieces.push_back(static_cast<uint8_t>(byte));
        tokenizer.piece_ends.push_back(byte + 1);
      }
    }
    model.spec.required_features = features_of(model.spec);
    const ModelBytes bytes = written(model.spec);
    const Result<LoadedModel> loaded = load_model(bytes.bytes(), "x.moka");
    REQUIRE_MESSAGE(loaded.ok(), loaded.status().to_string());
    CHECK(describe_spec(loaded.value().spec) == describe_spec(model.spec));
    tokenizer.pieces = pieces;
    tokenizer.piece_ends = ends;
  }
}

TEST_CASE("loader: a file is mapped and outlives its name") {
  const TempFolder folder;
  const std::string path = folder.file("a.moka");
  const TestModel model = make_test_model();
  REQUIRE(write_model(path, model.spec).ok());
  const Result<LoadedModel> loaded = load_model_file(path);
  REQUIRE_MESSAGE(loaded.ok(), loaded.status().to_string());
  std::filesystem::remove(path);
  CHECK(describe_spec(loaded.value().spec) == describe_spec(model.spec));
  CHECK(loaded.value().map != nullptr);

  CHECK(load_model_file(path).status().code() == StatusCode::kNotFound);
  CHECK(load_model_file(path).status().message().find(path) != std::string::npos);
  CHECK(load_model_file(folder.path()).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("loader: cut files are corrupt at every length") {
  const ModelBytes whole = written(make_test_model(small_options()).spec);
  std::vector<size_t> lengths;
  const size_t header = header_size(whole);
  for (const size_t border : {size_t{0}, header, header + 8, data_start(whole), whole.size()}) {
    const size_t first = border < 300 ? 0 : border - 300;
    for (size_t n = first; n < std::min(border + 40, whole.size()); ++n) lengths.push_back(n);
  }
  for (size_t n = 0; n < whole.size(); n += 61) lengths.push_back(n);
  for (const size_t n : lengths) {
    // A copy of exactly n bytes, so that a sanitizer sees any read beyond.
    const ModelBytes cut(whole.bytes().subspan(0, n));
    const Status status = load_status(cut.bytes());
    CHECK_MESSAGE(status.code() == StatusCode::kCorrupt, n, ": ", status.to_string());
  }
  const ModelBytes cut(whole.bytes().subspan(0, whole.size() - 1));
  expect_corrupt(load_status(cut.bytes()), "the file was cut short");
  std::vector<uint8_t> longer(whole.bytes().begin(), whole.bytes().end());
  longer.push_back(0);
  expect_corrupt(load_status(ModelBytes(longer).bytes()), "something was appended");
}

TEST_CASE("loader: a flipped bit anywhere before the data is found") {
  ModelBytes bytes = written(make_test_model(small_options()).spec);
  for (size_t i = 0; i < data_start(bytes); ++i) {
    const uint8_t bit = static_cast<uint8_t>(1u << (i * 5 % 8));
    const size_t at = i;
    bytes.data()[at] ^= bit;
    const Status status = load_status(bytes.bytes());
    if (status.code() != StatusCode::kCorrupt) FAIL_CHECK("byte ", i, ": ", status.to_string());
    bytes.data()[at] ^= bit;
  }
  CHECK(load_status(bytes.bytes()).ok());
}

TEST_CASE("loader: a size prefix is bounded before it is used") {
  ModelBytes bytes = written(make_test_model(small_options()).spec);
  for (const uint32_t prefix : {0u, 7u, (64u << 20) + 1, 0x7fffffffu, 0xffffffffu}) {
    std::memcpy(bytes.data(), &prefix, sizeof prefix);
    expect_corrupt(load_status(bytes.bytes()),
                   "size prefix gives a header of " + std::to_string(prefix) + " bytes");
  }
  const uint32_t beyond = static_cast<uint32_t>(bytes.size());
  std::memcpy(bytes.data(), &beyond, sizeof beyond);
  expect_corrupt(load_status(bytes.bytes()), "the file was cut short");
}

TEST_CASE("loader: bytes in memory must be aligned") {
  const ModelBytes bytes = written(make_test_model(small_options()).spec);
  std::vector<uint8_t> shifted(bytes.size() + 128);
  uint8_t* p = shifted.data() + (64 - reinterpret_cast<uintptr_t>(shifted.data()) % 64) + 8;
  std::memcpy(p, bytes.bytes().data(), bytes.size());
  CHECK(load_status({p, bytes.size()}).code() == StatusCode::kInvalidArgument);
}

TEST_CASE("loader: another format version is refused by number") {
  ModelBytes bytes = written(make_test_model(small_options()).spec);
  // The first field of the root table, found as FlatBuffers lays it out.
  const size_t root = 4 + u32_at(bytes, 4);
  const size_t vtable = root - u32_at(bytes, root);
  uint16_t field = 0;
  std::memcpy(&field, bytes.data() + vtable + 4, sizeof field);
  REQUIRE(u32_at(bytes, root + field) == 1);
  const uint32_t version = 2;
  std::memcpy(bytes.data() + root + field, &version, sizeof version);
  reseal(&bytes);
  const Status status = load_status(bytes.bytes());
  CHECK(status.code() == StatusCode::kVersion);
  CHECK(status.message() ==
        "x.moka: has format version 2, but this version of Moka reads version 1");
}

TEST_CASE("loader: an unknown feature is refused by name") {
  ModelBytes bytes = written(make_test_model(small_options()).spec);
  const std::string known = "macchiato";
  uint8_t* end = bytes.data() + header_size(bytes);
  uint8_t* at = std::search(bytes.data(), end, known.begin(), known.end());
  REQUIRE(at != end);
  std::memcpy(at, "moonshine", known.size());
  reseal(&bytes);
  const Status status = load_status(bytes.bytes());
  CHECK(status.code() == StatusCode::kUnsupported);
  CHECK(status.message() ==
        "x.moka: needs the feature 'moonshine', which this version of Moka does "
        "not know; a newer one may");
}

TEST_CASE("loader: a foreign file is told what it seems to be") {
  const std::string zeros(64, '\0');
  const struct {
    std::string bytes;
    const char* what;
  } cases[] = {
      {"", "an empty file"},
      {"GGUF" + zeros, "GGUF"},
      {std::string("\x10\0\0\0\0\0\0\0{\"a\": 1}", 16) + zeros, "safetensors"},
      {"PK\x03\x04" + zeros, "PyTorch"},
      {std::string("\x80\x02", 2) + zeros, "pickle"},
      {std::string("\x1c\0\0\0TFL3", 8) + zeros, "TensorFlow Lite"},
      {std::string("\x08\x08\x12\x07pytorch", 11) + zeros, "ONNX"},
      {"version https://git-lfs.github.com/spec/v1\noid", "Git LFS"},
      {"<!DOCTYPE html><html><body>404</body></html>", "a web page"},
      {"{\"model_type\": \"latte\"}", "JSON"},
      {"Once upon a time there was a text file.\n", "a text file"},
      {"\x1f\x8b" + zeros, "gzip"},
      {zeros, "zeros"},
      {"\x01\x02" + zeros, "unknown"},
      {"short", "a text file"},
  };
  for (const auto& entry : cases) {
    const std::vector<uint8_t> content(entry.bytes.begin(), entry.bytes.end());
    const ModelBytes bytes(content);
    const Status status = load_status(bytes.bytes());
    expect_corrupt(status, "not a Moka model");
    expect_corrupt(status, entry.what);
  }
}

TEST_CASE("loader: damaged data is found by verify_data and not by opening") {
  const TestModel model = make_format_model(0);
  ModelBytes bytes = written(model.spec);
  const size_t start = data_start(bytes);
  const size_t size = bytes.size() - start;
  uint64_t random = 9;
  std::vector<size_t> places = {0, size - 1, size - kTailBytes, size - kTailBytes - 64};
  for (int i = 0; i < 60; ++i) places.push_back(next_random(&random) % size);
  for (const size_t place : places) {
    bytes.data()[start + place] ^= 0x10;
    const Result<LoadedModel> loaded = load_model(bytes.bytes(), "x.moka");
    REQUIRE(loaded.ok());
    const Status status = verify_data(loaded.value(), "x.moka");
    CHECK_MESSAGE(status.code() == StatusCode::kCorrupt, place, ": ", status.to_string());
    bytes.data()[start + place] ^= 0x10;
  }
  const Result<LoadedModel> loaded = load_model(bytes.bytes(), "x.moka");
  REQUIRE(loaded.ok());
  bytes.data()[start] ^= 1;
  expect_corrupt(verify_data(loaded.value(), "x.moka"), "the section 'weights' is damaged");
  bytes.data()[start] ^= 1;
  REQUIRE(loaded.value().sections.size() == 2);
  bytes.data()[start + loaded.value().sections[1].offset] ^= 1;
  expect_corrupt(verify_data(loaded.value(), "x.moka"), "the section 'snapshots' is damaged");
  bytes.data()[start + loaded.value().sections[1].offset] ^= 1;
  bytes.data()[bytes.size() - 1] = 1;
  expect_corrupt(verify_data(loaded.value(), "x.moka"), "belongs to no section");
}

TEST_CASE("loader: verify_data reports progress and can be ended") {
  const ModelBytes bytes = written(make_test_model().spec);
  const Result<LoadedModel> loaded = load_model(bytes.bytes(), "x.moka");
  REQUIRE(loaded.ok());
  uint64_t last = 0;
  CHECK(verify_data(loaded.value(), "x.moka", [&](uint64_t done, uint64_t total) {
          CHECK(done >= last);
          CHECK(total == loaded.value().data_size);
          last = done;
          return Status();
        }).ok());
  CHECK(last == loaded.value().data_size);
  const Status stopped = verify_data(loaded.value(), "x.moka", [](uint64_t, uint64_t) {
    return Status(StatusCode::kCancelled, "enough");
  });
  CHECK(stopped.code() == StatusCode::kCancelled);
}

TEST_CASE("loader: files of more than 4 GiB") {
  if (sizeof(size_t) < 8) return;
  const TempFolder folder;
  const std::string path = folder.file("large.moka");
  TestModelOptions options = small_options();
  options.width = 160;
  options.latents = 16;
  TestModel model = make_test_model(options);
  // A token table of 4.5 GB that is all holes on the disk.
  constexpr uint32_t kVocab = 7000000;
  std::get<TokenInput>(model.spec.input).vocab_size = kVocab;
  auto& head = std::get<LanguageHead>(model.spec.head);
  model.spec.tensors.erase(model.spec.tensors.begin() + head.projection.weight);
  head.projection = {0, kNoTensor};
  model.spec.tensors[0].shape[0] = kVocab;
  model.spec.tensors[0].size = uint64_t{kVocab} * 160 * 4;
  const DataLayout layout = plan_layout(model.spec);
  const uint64_t last = layout.tensors.back().data;
  REQUIRE(last > uint64_t{1} << 32);

  const Result<std::vector<uint8_t>> header = build_header(model.spec, layout, path);
  REQUIRE(header.ok());
  {
    std::ofstream out(path, std::ios::binary);
    out.write(reinterpret_cast<const char*>(header.value().data()),
              static_cast<std::streamsize>(header.value().size()));
  }
  std::error_code error;
  const uint64_t size = header.value().size() + layout.data_size;
  std::filesystem::resize_file(path, size, error);
  if (error) {
    MESSAGE("skipped: this file system has no sparse files: ", error.message());
    return;
  }
  {
    std::fstream out(path, std::ios::binary | std::ios::in | std::ios::out);
    out.seekp(static_cast<std::streamoff>(header.value().size() + last));
    out.write("\x2a", 1);
  }
  const Result<LoadedModel> loaded = load_model_file(path);
  REQUIRE_MESSAGE(loaded.ok(), loaded.status().to_string());
  CHECK(loaded.value().bytes.size() == size);
  CHECK(*static_cast<const uint8_t*>(loaded.value().spec.tensors.back().data) == 0x2a);
  CHECK(loaded.value().spec.tensors[0].size == model.spec.tensors[0].size);
}

}  // namespace moka::test
