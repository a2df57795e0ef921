// Headers with right checksums and wrong contents, as a hostile writer would make them.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <string>
#include <vector>

#include "tests/model_file.h"

namespace moka::test {

TEST_CASE("loader: a hostile header with a right checksum is refused or a valid model") {
  for (const int which : {0, 3}) {
    const TestModel model = make_format_model(which);
    ModelBytes bytes = written(model.spec);
    const std::vector<uint8_t> original(bytes.bytes().begin(), bytes.bytes().end());
    const size_t header = header_size(bytes);
    size_t refused = 0, accepted = 0;
    const auto attempt = [&](size_t at) {
      reseal(&bytes);
      const Result<LoadedModel> loaded = load_model(bytes.bytes(), "x.moka");
      if (loaded.ok()) {
        // What is accepted must be safe to use: every byte that it names is there.
        ++accepted;
        CHECK(!describe_spec(loaded.value().spec).empty());
      } else {
        ++refused;
        const StatusCode code = loaded.status().code();
        const bool expected = code == StatusCode::kCorrupt || code == StatusCode::kVersion ||
                              code == StatusCode::kUnsupported;
        CHECK_MESSAGE(expected, at, ": ", loaded.status().to_string());
      }
      std::memcpy(bytes.data(), original.data(), header + 8);
    };
    for (size_t i = 4; i < header; ++i) {
      bytes.data()[i] ^= static_cast<uint8_t>(1u << (i * 3 % 8));
      attempt(i);
    }
    static constexpr uint32_t kWords[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffffc};
    uint64_t random = 5;
    for (int n = 0; n < 3000; ++n) {
      const size_t at = 4 + next_random(&random) % (header - 8) / 4 * 4;
      const uint32_t word = kWords[next_random(&random) % std::size(kWords)];
      std::memcpy(bytes.data() + at, &word, sizeof word);
      attempt(at);
    }
    CHECK(refused > 2000);
    CHECK(accepted > 100);  // text and flags may change without harm
  }
}

TEST_CASE("loader: hostile offsets and sizes") {
  const TestModel model = make_test_model(small_options());
  const DataLayout good = plan_layout(model.spec);
  REQUIRE(load_status(assembled(model.spec, good, good.data_size).bytes()).ok());
  const auto attempt = [&](const DataLayout& layout) {
    return load_status(assembled(model.spec, layout, good.data_size).bytes());
  };
  constexpr uint64_t kHuge = ~uint64_t{0};

  DataLayout layout = good;
  layout.tensors[1].data += 1;
  expect_corrupt(attempt(layout), "not a multiple of 64");
  layout.tensors[1].data = (kHuge / 64) * 64;
  expect_corrupt(attempt(layout), "lies outside the section 'weights'");
  layout.tensors[1].data = good.data_size - kTailBytes;
  expect_corrupt(attempt(layout), "lies outside the section 'weights'");
  layout.tensors[1].data = good.tensors[0].data + 64;  // inside tensor 0, which has 160 bytes
  expect_corrupt(attempt(layout), "belong to two things");

  layout = good;
  layout.tensors[2].data = good.tensors[3].data;  // equal sizes: two names of one range
  REQUIRE(model.spec.tensors[2].size == model.spec.tensors[3].size);
  CHECK(attempt(layout).ok());

  layout = good;
  layout.tensors[0].scales = 64;
  expect_corrupt(attempt(layout), "has an offset of scales, but no scales");

  layout = good;
  layout.sections[0].size = kHuge;
  expect_corrupt(attempt(layout), "section 'weights'");
  layout.sections[0].size = good.data_size - kTailBytes + 1;
  expect_corrupt(attempt(layout), "sections end by byte");
  layout = good;
  layout.sections[0].offset = 1;
  expect_corrupt(attempt(layout), "not a multiple of 64");
  layout = good;
  layout.sections[0].offset = kHuge - 63;
  expect_corrupt(attempt(layout), "sections end by byte");
  layout = good;
  layout.sections.push_back(layout.sections[0]);
  expect_corrupt(attempt(layout), "overlaps");
  layout = good;
  layout.sections.clear();
  expect_corrupt(attempt(layout), "there must be one section of weights");
  layout = good;
  layout.sections[0].kind = static_cast<SectionKind>(3);
  expect_corrupt(attempt(layout), "section.kind is 3");

  for (const uint64_t size :
       {uint64_t{0}, uint64_t{64}, good.data_size - 1, good.data_size + 1, kHuge, kHuge - 4095}) {
    layout = good;
    layout.data_size = size;
    expect_corrupt(attempt(layout), "bytes of data");
  }
}

TEST_CASE("loader: a data section without room for its tail is refused") {
  const TestModel model = make_test_model(small_options());
  DataLayout layout = plan_layout(model.spec);
  layout.data_size = 64;
  expect_corrupt(load_status(assembled(model.spec, layout, 64).bytes()), "no room for the tail");
}

TEST_CASE("loader: hostile values of tensors and enums") {
  const TestModel model = make_test_model(small_options());
  const auto attempt = [](const ModelSpec& spec) {
    const DataLayout layout = plan_layout(spec);
    return load_status(
        assembled(spec, layout, std::min<uint64_t>(layout.data_size, 1 << 20)).bytes());
  };
  ModelSpec spec = model.spec;
  spec.tensors[0].dtype = static_cast<DType>(6);
  expect_corrupt(attempt(spec), "tensor.dtype is 6");
  spec = model.spec;
  spec.tensors[0].layout = static_cast<TensorLayout>(2);
  expect_corrupt(attempt(spec), "tensor.layout is 2, which format version 1 does not have");
  spec = model.spec;
  spec.tensors[0].shape = {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff};
  expect_corrupt(attempt(spec), "their product at most 2^48");
  spec.tensors[0].shape = {0, 8};
  expect_corrupt(attempt(spec), "extents are at least 1");
  spec.tensors[0].shape.clear();
  expect_corrupt(attempt(spec), "the number of extents is 0");
  spec.tensors[0].shape = {1, 1, 1, 1, 1};
  expect_corrupt(attempt(spec), "more than 4 extents");
  spec = model.spec;
  spec.tensors[0].size -= 4;
  expect_corrupt(attempt(spec), "bytes, expected 160");
  spec = model.spec;
  spec.tensors[0].size = ~uint64_t{0} - 200;
  CHECK(attempt(spec).code() == StatusCode::kCorrupt);
  spec = model.spec;
  spec.tensors[1].name = spec.tensors[0].name;
  expect_corrupt(attempt(spec), "two tensors are named 'tokens'");
  spec = model.spec;
  spec.blocks[0].before_mixer.kind = static_cast<NormKind>(200);
  expect_corrupt(attempt(spec), "norm.kind is 200, which format version 1 does not have");
  spec = model.spec;
  spec.positions.kind = static_cast<PositionKind>(3);
  expect_corrupt(attempt(spec), "positions.kind is 3");
  spec = model.spec;
  spec.blocks.assign(4097, spec.blocks[0]);
  expect_corrupt(attempt(spec), "more than 4096 blocks");
  spec = model.spec;
  spec.test_vector = TestVector{{-1}, {1}};
  expect_corrupt(attempt(spec), "token id 4294967295");
}

// A header of a few kilobytes whose label vector names one long string again and again.
TEST_CASE("loader: strings shared inside a header do not multiply in memory") {
  TestModel model = make_format_model(2);
  auto& head = std::get<ClassifierHead>(model.spec.head);
  uint64_t random = 1;
  constexpr uint32_t kClasses = 500;
  constexpr uint32_t kLong = 5000;
  const Tensor& old = model.spec.tensors[static_cast<size_t>(head.projection.weight)];
  const TensorIndex made =
      add_random_tensor(&model, "wide", DType::kF32, {kClasses, 32}, 1.0f, 0.0f, &random);
  Tensor wide = model.spec.tensors[static_cast<size_t>(made)];
  wide.name = old.name;
  model.spec.tensors.pop_back();
  model.spec.tensors[static_cast<size_t>(head.projection.weight)] = wide;
  if (head.projection.bias != kNoTensor) {
    model.spec.tensors.erase(model.spec.tensors.begin() + head.projection.bias);
    head.projection.bias = kNoTensor;
  }
  head.labels.assign(kClasses, "x");
  head.labels[0] = std::string(kLong, 'y');
  ModelBytes bytes = written(model.spec);
  REQUIRE(load_status(bytes.bytes()).ok());

  const size_t header = header_size(bytes);
  size_t vector = 0;
  for (size_t at = 4; at + 4 * kClasses < header && vector == 0; at += 4) {
    const size_t target = at + 4 + u32_at(bytes, at + 4);
    if (u32_at(bytes, at) == kClasses && target + 4 < header && u32_at(bytes, target) == kLong) {
      vector = at;
    }
  }
  REQUIRE(vector != 0);
  const size_t target = vector + 4 + u32_at(bytes, vector + 4);
  for (uint32_t i = 0; i < kClasses; ++i) {
    const size_t at = vector + 4 + 4 * i;
    const uint32_t offset = static_cast<uint32_t>(target - at);
    std::memcpy(bytes.data() + at, &offset, sizeof offset);
  }
  reseal(&bytes);
  expect_corrupt(load_status(bytes.bytes()), "larger than the header itself");
}

}  // namespace moka::test
