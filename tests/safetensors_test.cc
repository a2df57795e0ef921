// Containers of checkpoints, and .npy files.
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "converter/checkpoint.h"
#include "converter/npy.h"
#include "doctest/doctest.h"
#include "tests/checkpoint_builder.h"
#include "tests/process.h"

namespace moka {
namespace {

using test::RawTensor;
using test::safetensors_bytes;
using test::TemporaryFolder;
using test::write_file;

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

Status open_bytes(const std::string& bytes) {
  const TemporaryFolder folder;
  write_file(folder / "model.safetensors", bytes);
  return open_safetensors(folder / "model.safetensors").status();
}

void check_fails(const std::string& bytes, StatusCode code, const std::string& message) {
  const Status status = open_bytes(bytes);
  CAPTURE(status.message());
  CHECK(status.code() == code);
  CHECK(status.message().find(message) != std::string::npos);
}

std::string entry(const std::string& fields) { return "{\"a\":{" + fields + "}}"; }

TEST_CASE("safetensors: weights of four types are read as float32") {
  const TemporaryFolder folder;
  std::map<std::string, RawTensor> tensors;
  tensors["f32"] = test::raw_f32({2, 2}, {1.0f, -2.5f, 1e-40f, 3e38f});
  tensors["f16"] = {"F16", {3}, bytes_of<uint16_t>({0x3c00, 0xc000, 0x0001})};
  tensors["bf16"] = {"BF16", {2, 1}, bytes_of<uint16_t>({0x3f80, 0xc040})};
  tensors["f64"] = {"F64", {5}, bytes_of<double>({1.0 / 3, -1e300, 1e300, 3.4028235e38, 1e-60})};
  tensors["scalar"] = {"F32", {}, bytes_of<float>({7.0f})};
  tensors["empty"] = {"F32", {0, 3}, ""};
  tensors["ids"] = {"I64", {1}, bytes_of<int64_t>({5})};
  write_file(folder / "x.safetensors", safetensors_bytes(tensors));
  auto opened = open_safetensors(folder / "x.safetensors");
  REQUIRE(opened.ok());
  Checkpoint& checkpoint = *opened.value();
  REQUIRE(checkpoint.tensors().size() == tensors.size());
  CHECK(checkpoint.files() == std::vector<std::string>{folder / "x.safetensors"});

  const auto read = [&](const std::string& name) {
    for (size_t i = 0; i < checkpoint.tensors().size(); ++i) {
      if (checkpoint.tensors()[i].name != name) continue;
      std::vector<float> values(checkpoint.tensors()[i].elements);
      CHECK(checkpoint.read(i, 0, values.size(), values.data()).ok());
      return values;
    }
    FAIL("no tensor " << name);
    return std::vector<float>();
  };
  CHECK(read("f32") == std::vector<float>{1.0f, -2.5f, 1e-40f, 3e38f});
  CHECK(read("f16") == std::vector<float>{1.0f, -2.0f, 0x1p-24f});
  CHECK(read("bf16") == std::vector<float>{1.0f, -3.0f});
  CHECK(read("f64") == std::vector<float>{1.0f / 3, -INFINITY, INFINITY, 3.4028235e38f, 0.0f});
  CHECK(read("scalar") == std::vector<float>{7.0f});
  CHECK(read("empty").empty());
  CHECK_FALSE(is_weight_type(SourceType::kI64));
  CHECK(checkpoint.tensors()[0].name == "bf16");  // sorted
}

TEST_CASE("safetensors: pieces of a tensor are its middle") {
  const TemporaryFolder folder;
  std::vector<float> values(40000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  write_file(folder / "x.safetensors", safetensors_bytes({{"a", test::raw_f32({40000}, values)}}));
  auto opened = open_safetensors(folder / "x.safetensors");
  REQUIRE(opened.ok());
  for (const auto& [first, count] :
       {std::pair{0u, 1u}, {39999u, 1u}, {16380u, 10u}, {5u, 39990u}}) {
    std::vector<float> piece(count);
    REQUIRE(opened.value()->read(0, first, count, piece.data()).ok());
    CHECK(piece.front() == static_cast<float>(first));
    CHECK(piece.back() == static_cast<float>(first + count - 1));
  }
}

TEST_CASE("safetensors: a file that shrinks after it was opened is an error") {
  const TemporaryFolder folder;
  const std::string path = folder / "x.safetensors";
  const std::string bytes = safetensors_bytes({{"a", test::raw_f32({4}, {1, 2, 3, 4})}});
  write_file(path, bytes);
  auto opened = open_safetensors(path);
  REQUIRE(opened.ok());
  write_file(path, bytes.substr(0, bytes.size() - 3));
  float values[4];
  const Status status = opened.value()->read(0, 0, 4, values);
  CHECK(status.code() == StatusCode::kIo);
  CHECK(status.message().find("ends at byte") != std::string::npos);
}

TEST_CASE("safetensors: damaged files are refused by name") {
  const StatusCode corrupt = StatusCode::kCorrupt;
  const std::string four(4, '\0');
  check_fails("", corrupt, "is 0 bytes long, too short");
  check_fails("1234567", corrupt, "is 7 bytes long, too short");
  check_fails(std::string(8, '\xff'), corrupt, "it is cut short or no safetensors file");
  check_fails(safetensors_bytes("", ""), corrupt, "is not JSON at byte");
  check_fails(safetensors_bytes("{", ""), corrupt, "is not JSON at byte");
  check_fails(safetensors_bytes("[]", ""), corrupt, "no JSON object");
  check_fails(safetensors_bytes("{} x", ""), corrupt, "is not JSON at byte");
  check_fails(safetensors_bytes("{\"a\":1}", ""), corrupt, "tensor \"a\": is no JSON object");
  check_fails(safetensors_bytes(entry(""), ""), corrupt, "tensor \"a\": has no dtype");
  check_fails(safetensors_bytes(entry("\"dtype\":\"F32\""), ""), corrupt, "has no shape");
  check_fails(safetensors_bytes(entry("\"dtype\":\"F32\",\"shape\":[1]"), four), corrupt,
              "data_offsets is missing");
  check_fails(
      safetensors_bytes(entry("\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]"), four),
      corrupt, "an extent that is no number");
  check_fails(
      safetensors_bytes(entry("\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]"), four),
      corrupt, "an extent that is no number");
  check_fails(
      safetensors_bytes(
          entry("\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]"), four),
      corrupt, "has 9 extents, expected at most 8");
  check_fails(
      safetensors_bytes(
          entry("\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]"),
          four),
      corrupt, "has more than 2^48 numbers");
  check_fails(
      safetensors_bytes(entry("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]"), four),
      corrupt, "lies at bytes 0 to 8, the file has 4 bytes of data");
  check_fails(
      safetensors_bytes(entry("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]"), four),
      corrupt, "lies at bytes 4 to 0");
  check_fails(
      safetensors_bytes(
          entry("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[18446744073709551615,3]"), four),
      corrupt, "lies at bytes 18446744073709551615 to 3");
  check_fails(
      safetensors_bytes(entry("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]"), four),
      corrupt, "has 4 bytes, F32 [2] needs 8");
  check_fails(safetensors_bytes(entry("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]"),
                                four + "x"),
              corrupt, "has 5 bytes of data, its tensors take 4");
  check_fails(safetensors_bytes("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                                "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
                                four),
              corrupt,
              "tensor \"b\": begins at byte 0 of the data, the tensor before it ends at 4");
  check_fails(safetensors_bytes("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                                "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
                                four),
              corrupt, "the key \"a\" appears twice");
  check_fails(safetensors_bytes(std::string(40, '['), ""), corrupt, "nests deeper than 32");
  check_fails(
      safetensors_bytes(entry("\"dtype\":\"F4\",\"shape\":[1],\"data_offsets\":[0,4]"), four),
      StatusCode::kUnsupported, "dtype is \"F4\", expected \"F32\"");
  check_fails(safetensors_bytes(std::string((size_t{32} << 20) + 1, ' '), ""),
              StatusCode::kOutOfRange, "expected at most 33554432");
}

TEST_CASE("safetensors: names of tensors are shown without their control characters") {
  const std::string header = "{\"\\u001b[2J" + std::string(200, 'n') + "\":1}";
  const Status status = open_bytes(safetensors_bytes(header, ""));
  CHECK(status.message().find("\"\\x1b[2Jnnn") != std::string::npos);
  CHECK(status.message().find('\x1b') == std::string::npos);
  CHECK(status.message().find("nnn...\"") != std::string::npos);
  CHECK(status.message().size() < 300);
}

TEST_CASE("safetensors: every cut and every flipped byte of a header is survived") {
  const std::string good = safetensors_bytes(
      {{"a", test::raw_f32({2, 2}, {1, 2, 3, 4})}, {"b", test::raw_f32({1}, {5})}});
  REQUIRE(open_bytes(good).ok());
  for (size_t length = 0; length < good.size(); length += 3) {
    CHECK_FALSE(open_bytes(good.substr(0, length)).ok());
  }
  const size_t header_end = good.size() - 20;
  for (size_t i = 0; i < header_end; i += 2) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x10);
    const Status status = open_bytes(bad);  // some flips are harmless: a name, a space
    CHECK((status.ok() || !status.message().empty()));
  }
}

TEST_CASE("safetensors: an index joins the files that it names") {
  const TemporaryFolder folder;
  write_file(folder / "one.safetensors", safetensors_bytes({{"b", test::raw_f32({1}, {2})}}));
  write_file(folder / "two.safetensors",
             safetensors_bytes({{"a", test::raw_f32({1}, {1})}, {"c", test::raw_f32({1}, {3})}}));
  const std::string index = folder / "model.safetensors.index.json";
  const auto status_of = [&](const std::string& text) {
    write_file(index, text);
    return open_checkpoint_index(index).status();
  };
  write_file(index, R"({"metadata":{"total_size":12},
    "weight_map":{"a":"two.safetensors","b":"one.safetensors","c":"two.safetensors"}})");
  auto opened = open_checkpoint(folder.path());
  REQUIRE(opened.ok());
  REQUIRE(opened.value()->tensors().size() == 3);
  for (size_t i = 0; i < 3; ++i) {
    float value = 0;
    CHECK(opened.value()->tensors()[i].name == std::string(1, static_cast<char>('a' + i)));
    REQUIRE(opened.value()->read(i, 0, 1, &value).ok());
    CHECK(value == static_cast<float>(i + 1));
  }
  CHECK(opened.value()->files().size() == 3);

  const auto fails = [&](const std::string& text, StatusCode code, const std::string& message) {
    const Status status = status_of(text);
    CAPTURE(status.message());
    CHECK(status.code() == code);
    CHECK(status.message().find(message) != std::string::npos);
  };
  const StatusCode corrupt = StatusCode::kCorrupt;
  fails("{}", corrupt, "weight_map is missing");
  fails("[]", corrupt, "weight_map is missing");
  fails(R"({"weight_map":{"a":1}})", corrupt, "weight_map of \"a\" is no file name");
  fails(R"({"weight_map":{"a":"../two.safetensors"}})", corrupt,
        "the name of a file in the same folder");
  fails(R"({"weight_map":{"a":".."}})", corrupt, "the name of a file in the same folder");
  fails(R"({"weight_map":{"a":"none.safetensors"}})", StatusCode::kNotFound, "none.safetensors");
  fails(R"({"weight_map":{"a":"two.safetensors"}})", corrupt,
        "has \"c\", which weight_map does not place");
  fails(R"({"weight_map":{"b":"one.safetensors","z":"one.safetensors"}})", corrupt,
        "\"z\" is not in \"one.safetensors\"");
}

TEST_CASE("safetensors: what is no file of it") {
  const TemporaryFolder folder;
  CHECK(open_safetensors(folder.path()).status().code() == StatusCode::kIo);
  CHECK(open_safetensors(folder / "none").status().code() == StatusCode::kNotFound);
}

// ---- .npy ------------------------------------------------------------------------------------

std::string npy_bytes(const std::string& dictionary, const std::string& data, char version = 1) {
  std::string header = dictionary + "\n";
  std::string bytes = std::string("\x93NUMPY") + version + std::string(1, '\0');
  bytes += static_cast<char>(header.size() & 0xff);
  bytes += static_cast<char>(header.size() >> 8);
  if (version > 1) bytes += std::string(2, '\0');
  return bytes + header + data;
}

Result<NpyArray> parse(const std::string& bytes) {
  return parse_npy({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, "x.npy");
}

TEST_CASE("npy: arrays of four types are read") {
  auto ids = parse(npy_bytes("{'descr': '<i8', 'fortran_order': False, 'shape': (2, 2), }",
                             bytes_of<int64_t>({1, -2, 2147483647, -2147483648LL})));
  REQUIRE(ids.ok());
  CHECK(ids.value().shape == std::vector<uint64_t>{2, 2});
  CHECK(ids.value().to_int32().value() == std::vector<int32_t>{1, -2, 2147483647, -2147483647 - 1});
  CHECK(ids.value().to_float32().status().code() == StatusCode::kInvalidArgument);

  auto small = parse(npy_bytes("{\"shape\":(3,),\"fortran_order\":False,\"descr\":\"<i4\"}",
                               bytes_of<int32_t>({7, -8, 9}), 2));
  REQUIRE(small.ok());
  CHECK(small.value().to_int32().value() == std::vector<int32_t>{7, -8, 9});

  auto wide = parse(npy_bytes("{'descr': '<f8', 'fortran_order': False, 'shape': ()}",
                              bytes_of<double>({0.25}), 3));
  REQUIRE(wide.ok());
  CHECK(wide.value().elements() == 1);
  CHECK(wide.value().to_float32().value() == std::vector<float>{0.25f});
  CHECK(wide.value().to_int32().status().code() == StatusCode::kInvalidArgument);

  auto large = parse(npy_bytes("{'descr': '<i8', 'fortran_order': False, 'shape': (1,)}",
                               bytes_of<int64_t>({1LL << 31})));
  REQUIRE(large.ok());
  CHECK(large.value().to_int32().status().code() == StatusCode::kOutOfRange);
}

TEST_CASE("npy: what is written is read again, and is as NumPy writes it") {
  const TemporaryFolder folder;
  const std::string path = folder / "x.npy";
  const std::vector<float> values = {1, -2, 3.5f, 1e-30f, 0, 6};
  REQUIRE(write_npy(path, {2, 3}, values).ok());
  const std::string bytes = test::read_file(path);
  CHECK(bytes.size() == 128 + 24);
  CHECK(bytes.substr(0, 10) == std::string("\x93NUMPY\x01\x00\x76\x00", 10));
  CHECK(bytes.find("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }  ") == 10);
  CHECK(bytes[127] == '\n');
  auto array = read_npy(path);
  REQUIRE(array.ok());
  CHECK(array.value().shape == std::vector<uint64_t>{2, 3});
  CHECK(array.value().to_float32().value() == values);
  CHECK(read_npy(path, 100).status().code() == StatusCode::kOutOfRange);
  CHECK(read_npy(folder / "none").status().code() == StatusCode::kNotFound);
}

TEST_CASE("npy: a writer keeps to its shape and leaves nothing when it is dropped") {
  const TemporaryFolder folder;
  const std::vector<float> values(3, 1.0f);
  {
    auto writer = NpyWriter::create(folder / "x.npy", {4});
    REQUIRE(writer.ok());
    CHECK(writer.value().write(values).ok());
    CHECK(writer.value().write(values).code() == StatusCode::kOutOfRange);
    CHECK(writer.value().finish().code() == StatusCode::kFailedPrecondition);
  }
  CHECK(test::names_in(folder.path()).empty());
  CHECK(NpyWriter::create(folder / "x.npy", {1ull << 40, 1ull << 40}).status().code() ==
        StatusCode::kInvalidArgument);
  CHECK(test::names_in(folder.path()).empty());
}

TEST_CASE("npy: damaged and foreign files are refused") {
  const auto fails = [](const std::string& bytes, StatusCode code, const std::string& message) {
    const Status status = parse(bytes).status();
    CAPTURE(status.message());
    CHECK(status.code() == code);
    CHECK(status.message().find(message) != std::string::npos);
  };
  const StatusCode corrupt = StatusCode::kCorrupt, unsupported = StatusCode::kUnsupported;
  const std::string four(4, '\0');
  fails("", corrupt, "is no .npy file");
  fails("PK\3\4 a zip of arrays", corrupt, "is no .npy file");
  fails(npy_bytes("", four).substr(0, 9), corrupt, "is no .npy file");
  fails(npy_bytes("{}", four, 4), unsupported, "is .npy version 4");
  fails(npy_bytes("{}", four), corrupt, "malformed");
  fails(npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)", four), corrupt,
        "malformed");
  fails(npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x", four), corrupt,
        "malformed");
  fails(npy_bytes("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", four),
        corrupt, "malformed");
  fails(npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}", four), corrupt,
        "malformed");
  fails(npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (1", four), corrupt,
        "malformed");
  fails(npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", four), corrupt,
        "malformed");
  fails(npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (1 1)}", four), corrupt,
        "malformed");
  fails(
      npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", four),
      corrupt, "malformed");
  fails(npy_bytes(
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1073741824,1073741824,1073741824)}",
            four),
        corrupt, "malformed");
  fails(npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", four), corrupt,
        "has 4 bytes of data, float32 (2,) needs 8");
  fails(npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", four + "x"), corrupt,
        "has 5 bytes of data");
  fails(npy_bytes("{'descr': '>f4', 'fortran_order': False, 'shape': (1,)}", four), unsupported,
        "\">f4\"");
  fails(npy_bytes("{'descr': '|u1', 'fortran_order': False, 'shape': (4,)}", four), unsupported,
        "\"|u1\"");
  fails(npy_bytes("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", four),
        unsupported, "records");
  fails(npy_bytes("{'descr': '<f4', 'fortran_order': True, 'shape': (1,)}", four), unsupported,
        "Fortran order");
}

}  // namespace
}  // namespace moka
