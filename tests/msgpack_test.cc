// msgpack, and the training states and parameters that Flax writes with it.
#include "converter/msgpack.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "converter/checkpoint.h"
#include "doctest/doctest.h"
#include "tests/checkpoint_testing.h"
#include "tests/process.h"

namespace moka {
namespace {

using namespace test;  // NOLINT: the builders of bytes

using Kind = MsgpackItem::Kind;

struct Opened {
  TemporaryFolder folder;
  std::unique_ptr<Checkpoint> checkpoint;
};

std::unique_ptr<Opened> open_bytes(const std::string& bytes) {
  auto opened = std::make_unique<Opened>();
  write_file(opened->folder / "x.msgpack", bytes);
  auto result = open_flax_msgpack(opened->folder / "x.msgpack");
  CAPTURE(result.status().message());
  REQUIRE(result.ok());
  opened->checkpoint = std::move(result).value();
  return opened;
}

void check_fails(const std::string& bytes, StatusCode code, const std::string& message) {
  const TemporaryFolder folder;
  write_file(folder / "x.msgpack", bytes);
  const Status status = open_flax_msgpack(folder / "x.msgpack").status();
  CAPTURE(status.message());
  CHECK(status.code() == code);
  CHECK(status.message().find(message) != std::string::npos);
}

std::string f32(const std::vector<float>& values) {
  return mp_ndarray({values.size()}, "float32", raw(values));
}

std::string names(const Checkpoint& checkpoint) {
  std::string text;
  for (const SourceTensor& tensor : checkpoint.tensors()) text += tensor.name + " ";
  return text;
}

TEST_CASE("msgpack: every type of item is read and passed over") {
  const TemporaryFolder folder;
  struct Case {
    std::string bytes;
    Kind kind;
    uint64_t count, integer;
  };
  const std::vector<Case> cases = {
      {"\xc0", Kind::kNil, 0, 0},
      {"\xc3", Kind::kBool, 0, 1},
      {"\x7f", Kind::kInteger, 0, 127},
      {"\xff", Kind::kInteger, 0, ~uint64_t{0}},
      {"\xcc\xfe", Kind::kInteger, 0, 254},
      {std::string("\xcd\x01\x00", 3), Kind::kInteger, 0, 256},
      {std::string("\xce\x80\x00\x00\x00", 5), Kind::kInteger, 0, 0x80000000u},
      {"\xcf\x80" + std::string(7, '\0'), Kind::kInteger, 0, uint64_t{1} << 63},
      {"\xd0\x80", Kind::kInteger, 0, ~uint64_t{127}},
      {std::string("\xd1\x01\x00", 3), Kind::kInteger, 0, 256},
      {std::string("\xd2\xff\xff\xff\xfe", 5), Kind::kInteger, 0, ~uint64_t{1}},
      {"\xd3" + std::string(8, '\xff'), Kind::kInteger, 0, ~uint64_t{0}},
      {std::string("\xca\x3f\xc0\x00\x00", 5), Kind::kFloat, 0, 0},
      {std::string("\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00", 9), Kind::kFloat, 0, 0},
      {"\xa2xy", Kind::kString, 2, 0},
      {"\xd9\x02xy", Kind::kString, 2, 0},
      {std::string("\xda\x00\x02xy", 5), Kind::kString, 2, 0},
      {std::string("\xdb\x00\x00\x00\x02xy", 7), Kind::kString, 2, 0},
      {"\xc4\x02xy", Kind::kBinary, 2, 0},
      {std::string("\xc5\x00\x02xy", 5), Kind::kBinary, 2, 0},
      {std::string("\xc6\x00\x00\x00\x02xy", 7), Kind::kBinary, 2, 0},
      {"\xd4\x01x", Kind::kExtension, 1, 0},
      {"\xd5\x01xy", Kind::kExtension, 2, 0},
      {"\xd6\x01xyzw", Kind::kExtension, 4, 0},
      {"\xd7\x01xyzwxyzw", Kind::kExtension, 8, 0},
      {"\xd8\x01xyzwxyzwxyzwxyzw", Kind::kExtension, 16, 0},
      {"\xc7\x03\x01xyz", Kind::kExtension, 3, 0},
      {std::string("\xc8\x00\x03\x01xyz", 7), Kind::kExtension, 3, 0},
      {std::string("\xc9\x00\x00\x00\x03\x01xyz", 9), Kind::kExtension, 3, 0},
      {"\x92\x01\xa1z", Kind::kArray, 2, 0},
      {std::string("\xdc\x00\x01\x91\x90", 5), Kind::kArray, 1, 0},
      {std::string("\xdd\x00\x00\x00\x01\xc0", 6), Kind::kArray, 1, 0},
      {"\x81\xa1k\x81\xa1k\x90", Kind::kMap, 1, 0},
      {std::string("\xde\x00\x01\x01\x02", 5), Kind::kMap, 1, 0},
      {std::string("\xdf\x00\x00\x00\x01\x01\x02", 7), Kind::kMap, 1, 0},
  };
  for (const Case& c : cases) {
    write_file(folder / "x", c.bytes + "\x2a");
    auto file = InputFile::open(folder / "x");
    REQUIRE(file.ok());
    MsgpackReader reader(&file.value(), 0, file.value().size());
    auto item = reader.next();
    CAPTURE(static_cast<int>(static_cast<uint8_t>(c.bytes[0])));
    REQUIRE(item.ok());
    CHECK(item.value().kind == c.kind);
    CHECK(item.value().count == c.count);
    CHECK(item.value().integer == c.integer);
    CHECK(item.value().negative == (c.kind == Kind::kInteger && c.integer > uint64_t{1} << 63));
    if (c.kind == Kind::kFloat) CHECK(item.value().number == 1.5);
    if (c.kind == Kind::kExtension) CHECK(item.value().extension == 1);
    CHECK(reader.skip(item.value()).ok());
    CHECK(reader.position() == c.bytes.size());

    // No byte less will do, and none of the cut forms is read beyond its end.
    for (size_t size = 0; size < c.bytes.size(); ++size) {
      MsgpackReader cut(&file.value(), 0, size);
      auto head = cut.next();
      CHECK((!head.ok() || !cut.skip(head.value()).ok()));
    }
  }
}

TEST_CASE("msgpack: a training state gives params, batch_stats and step") {
  const std::string state = mp_map({
      {"step", mp_ndarray({}, "int32", little_endian(30, 4))},
      {"opt_state", mp_map({{"0", mp_extension(77, "what nobody knows")},
                            {"mu", mp_map({{"w", f32({9, 9})}})}})},
      {"params", mp_map({{"Dense_0", mp_map({{"kernel", mp_ndarray({2, 3}, "float32",
                                                                   raw<float>({1, 2, 3, 4, 5, 6}))},
                                             {"bias", f32({0.5f, -0.5f, 8})}})}})},
      {"batch_stats", mp_map({{"BatchNorm_0", mp_map({{"mean", f32({7})}})}})},
      {"key", mp_ndarray({2}, "uint32", std::string(8, 'k'))},
  });
  const auto opened = open_bytes(mp_map({{"model", state}}));
  Checkpoint& checkpoint = *opened->checkpoint;
  CHECK(checkpoint.form() == CheckpointForm::kMsgpack);
  CHECK(names(checkpoint) ==
        "batch_stats/BatchNorm_0/mean params/Dense_0/bias params/Dense_0/kernel ");
  CHECK(checkpoint.step() == uint64_t{30});
  CHECK(checkpoint.tensors()[2].shape == std::vector<uint64_t>{2, 3});
  CHECK(numbers_of(checkpoint, "params/Dense_0/kernel") == std::vector<float>{1, 2, 3, 4, 5, 6});
  CHECK(numbers_of(checkpoint, "batch_stats/BatchNorm_0/mean") == std::vector<float>{7});
  float middle[2];
  REQUIRE(checkpoint.read(2, 3, 2, middle).ok());
  CHECK(middle[0] == 4);
  CHECK(middle[1] == 5);
  CHECK(checkpoint.notes().empty());

  // The same tree without "model", and parameters alone, have the same names.
  CHECK(names(*open_bytes(state)->checkpoint) == names(checkpoint));
  const std::string tree = mp_map({{"Dense_0", mp_map({{"bias", f32({1})}})}});
  CHECK(names(*open_bytes(tree)->checkpoint) == "params/Dense_0/bias ");
  CHECK(names(*open_bytes(mp_map({{"params", tree}}))->checkpoint) == "params/Dense_0/bias ");
  // Parameters that lie beside a training state are not it, whichever program wrote that.
  const std::string other = mp_map({{"Dense_9", mp_map({{"bias", f32({1})}})}});
  for (const char* name : {"model", "weights"}) {
    CAPTURE(name);
    const std::string inside = mp_map({{"params", tree}});
    CHECK(names(*open_bytes(mp_map({{"params", other}, {name, inside}}))->checkpoint) ==
          "params/Dense_0/bias ");
  }
  // A parameter that is called "model" is no training state.
  CHECK(names(*open_bytes(mp_map({{"model", tree}}))->checkpoint) == "params/model/Dense_0/bias ");
}

TEST_CASE("msgpack: numbers of all types, scalars, chunks, lists") {
  const std::string scalar =
      mp_extension(3, mp_array({mp_array({}), mp_binary("float32"), mp_text(raw<float>({4}))}));
  const std::string chunked = mp_map({
      {"__msgpack_chunked_array__", "\xc3"},
      {"shape", mp_map({{"0", mp_uint(2)}, {"1", mp_uint(6)}})},
      {"chunks", mp_map({{"1", f32({5, 6, 7, 8, 9})},
                         {"10", f32({11})},
                         {"2", f32({10})},
                         {"0", f32({0, 1, 2, 3, 4})},
                         {"3", f32({})},
                         {"4", f32({})},
                         {"5", f32({})},
                         {"6", f32({})},
                         {"7", f32({})},
                         {"8", f32({})},
                         {"9", f32({})}})},
  });
  const auto opened = open_bytes(mp_map({
      {"f16", mp_ndarray({2}, "float16", raw<uint16_t>({0x3c00, 0xc000}))},
      {"bf16", mp_ndarray({1}, "bfloat16", raw<uint16_t>({0xc040}))},
      {"f64", mp_ndarray({2}, "float64", raw<double>({1.0 / 3, 1e300}))},
      {"ids", mp_ndarray({1}, "int64", raw<int64_t>({3}))},
      {"ext_scalar", scalar},
      {"native", std::string("\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00", 9)},
      {"chunked", chunked},
      {"list", mp_array({f32({1}), f32({2})})},
      {"nothing", "\xc0"},
      {"words", mp_text("hello")},
      {"complex", mp_extension(2, "xx")},
  }));
  Checkpoint& checkpoint = *opened->checkpoint;
  CHECK(names(checkpoint) ==
        "params/bf16 params/chunked params/ext_scalar params/f16 params/f64 params/ids "
        "params/list/0 params/list/1 params/native ");
  CHECK(numbers_of(checkpoint, "params/f16") == std::vector<float>{1, -2});
  CHECK(numbers_of(checkpoint, "params/bf16") == std::vector<float>{-3});
  CHECK(numbers_of(checkpoint, "params/f64") == std::vector<float>{1.0f / 3, INFINITY});
  CHECK(numbers_of(checkpoint, "params/ext_scalar") == std::vector<float>{4});
  CHECK(numbers_of(checkpoint, "params/native") == std::vector<float>{1.5f});
  CHECK(numbers_of(checkpoint, "params/list/1") == std::vector<float>{2});
  CHECK(numbers_of(checkpoint, "params/chunked") ==
        std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  float across[4];
  REQUIRE(checkpoint.read(1, 3, 4, across).ok());
  CHECK(across[0] == 3);
  CHECK(across[3] == 6);
  CHECK(checkpoint.tensors()[5].type == SourceType::kI64);
  REQUIRE(checkpoint.notes().size() == 2);
  CHECK(checkpoint.notes()[0] ==
        "\"params/complex\" is an extension and no array; it was passed over");
}

TEST_CASE("msgpack: damaged and hostile documents are refused by name") {
  const StatusCode corrupt = StatusCode::kCorrupt;
  check_fails("", corrupt, "the msgpack item at byte 0 is cut short");
  check_fails("\x93", corrupt, "is an array of 3, but only 0 bytes follow");
  check_fails("\xc1", corrupt, "has the type 0xc1, which msgpack lacks");
  check_fails(mp_array({f32({1})}), corrupt, "is an array, expected the map of a Flax checkpoint");
  check_fails(mp_map({{"a", f32({1})}}) + "x", corrupt, "has 1 bytes after the msgpack document");
  check_fails(mp_map({}), corrupt, "has no arrays where parameters belong");
  check_fails(mp_map({{"a", f32({1})}, {"a", f32({2})}}), corrupt,
              "is the key \"a\" for the second time");
  check_fails("\x81\x01" + f32({1}), corrupt, "is an integer, expected the key of a map, a string");
  check_fails(std::string("\xdf\xff\xff\xff\xff\xc0", 6), corrupt,
              "is a map of 4294967295, but only 1 bytes follow");
  check_fails(mp_map({{"a", mp_ndarray({2}, "float32", raw<float>({1}))}}), corrupt,
              "tensor \"params/a\": has 4 bytes, F32 [2] needs 8");
  check_fails(mp_map({{"a", mp_ndarray({uint64_t{1} << 40, uint64_t{1} << 40}, "float32", "")}}),
              corrupt, "has more than 2^48 numbers");
  check_fails(mp_map({{"a", mp_ndarray({1, 1, 1, 1, 1, 1, 1, 1, 1}, "float32", "")}}), corrupt,
              "has 9 extents, expected at most 8");
  check_fails(mp_map({{"a", mp_ndarray({1}, "complex64", "12345678")}}), StatusCode::kUnsupported,
              "tensor \"params/a\": is of the number type \"complex64\"");
  check_fails(mp_map({{"a", mp_extension(1, mp_array({mp_array({})}))}}), corrupt,
              "is no array of shape, type and bytes");
  check_fails(mp_map({{"a", mp_extension(
                                1, mp_array({mp_array({}), mp_text("float32"), mp_binary("1234")}) +
                                       "x")}}),
              corrupt, "has bytes after its data");
  check_fails(mp_map({{std::string(600, 'n'), f32({1})}}), corrupt,
              "is the key of a map of 600 bytes, expected at most 512");

  std::string deep = f32({1});
  for (int i = 0; i < 70; ++i) deep = mp_map({{"k", deep}});
  check_fails(deep, corrupt, "nests deeper than 64");

  const auto chunked = [](const std::string& shape, const std::string& chunks) {
    return mp_map(
        {{"a",
          mp_map({{"__msgpack_chunked_array__", "\xc3"}, {"shape", shape}, {"chunks", chunks}})}});
  };
  check_fails(chunked(mp_map({{"0", mp_uint(3)}}), mp_map({{"0", f32({1, 2})}})), corrupt,
              "has pieces of 2 numbers, the shape [3] needs 3");
  check_fails(chunked(mp_map({{"0", mp_uint(2)}}), mp_map({{"0", f32({1})}, {"2", f32({2})}})),
              corrupt, "has 2 pieces, but none of the number 1");
  check_fails(chunked(mp_map({{"0", mp_uint(2)}}),
                      mp_map({{"0", f32({1})}, {"1", mp_ndarray({1}, "float16", "xx")}})),
              corrupt, "piece 1: is F16, the first one is F32");
}

TEST_CASE("msgpack: a document cut at any byte is refused") {
  const std::string whole =
      mp_map({{"model", mp_map({{"params", mp_map({{"w", f32({1, 2})}})}, {"step", mp_uint(3)}})}});
  const TemporaryFolder folder;
  for (size_t size = 0; size < whole.size(); ++size) {
    write_file(folder / "x", whole.substr(0, size));
    CHECK(open_flax_msgpack(folder / "x").status().code() == StatusCode::kCorrupt);
  }
}

}  // namespace
}  // namespace moka
