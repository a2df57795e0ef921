// Arrays of zarr 2 and 3: chunks, shards, fill values, refusals.
#include "converter/zarr.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "converter/crc32c.h"
#include "converter/key_value_store.h"
#include "doctest/doctest.h"
#include "tests/checkpoint_testing.h"
#include "tests/process.h"

namespace moka {
namespace {

using namespace test;  // NOLINT: the builders of bytes
namespace fs = std::filesystem;

std::string zarray(const std::string& shape, const std::string& chunks, const std::string& more) {
  return "{\"zarr_format\":2,\"shape\":" + shape + ",\"chunks\":" + chunks +
         ",\"dtype\":\"<f4\",\"order\":\"C\",\"filters\":null" + more + "}";
}

// An array of the store in a folder; its numbers, or the message.
struct ArrayFolder {
  TemporaryFolder folder;
  std::unique_ptr<KeyValueStore> store;
  std::unique_ptr<ChunkReader> chunks;
  uint64_t max_held = ChunkReader::kMaxHeld;

  ArrayFolder() { fs::create_directories(folder / "x"); }
  // Afresh: an open store may hold files as they were.
  Result<ZarrArray> open(bool all_chunks = false) {
    store = open_folder_store(folder.path());
    chunks = std::make_unique<ChunkReader>(store.get(), max_held);
    return ZarrArray::open(chunks.get(), "x", all_chunks);
  }
  Result<std::vector<float>> numbers(bool all_chunks = false) {
    MOKA_ASSIGN_OR_RETURN(ZarrArray array, open(all_chunks));
    std::vector<float> values(array.tensor().elements);
    MOKA_RETURN_IF_ERROR(array.read(0, values.size(), values.data()));
    // Every range is the same as its place in the whole.
    for (size_t first = 0; first < values.size(); ++first) {
      std::vector<float> rest(values.size() - first);
      MOKA_RETURN_IF_ERROR(array.read(first, rest.size(), rest.data()));
      const bool same =
          std::equal(rest.begin(), rest.end(), values.begin() + first,
                     [](float a, float b) { return raw<float>({a}) == raw<float>({b}); });
      if (!same) return Status(StatusCode::kInternal, "range from " + std::to_string(first));
    }
    return values;
  }
  std::vector<float> must() {
    auto values = numbers();
    REQUIRE_MESSAGE(values.ok(), values.status().message());
    return values.value();
  }
};

std::vector<float> ramp(size_t count) {
  std::vector<float> values;
  for (size_t i = 0; i < count; ++i) values.push_back(static_cast<float>(i) + 0.5f);
  return values;
}

// Chunk (r, c) of an array [rows, columns] of ramp(), beyond its end -1.
std::vector<float> chunk_of(size_t rows, size_t columns, size_t height, size_t width, size_t r,
                            size_t c) {
  std::vector<float> values;
  for (size_t i = r * height; i < (r + 1) * height; ++i) {
    for (size_t j = c * width; j < (c + 1) * width; ++j) {
      values.push_back(i < rows && j < columns ? static_cast<float>(i * columns + j) + 0.5f : -1);
    }
  }
  return values;
}

TEST_CASE("zarr: chunks of every shape give the array row by row") {
  struct Shape {
    size_t height, width;
  };
  for (const Shape shape : {Shape{5, 7}, {2, 7}, {5, 3}, {2, 3}, {1, 1}, {8, 8}}) {
    const size_t height = shape.height, width = shape.width;
    for (const bool packed : {false, true}) {
      CAPTURE(height);
      CAPTURE(width);
      ArrayFolder array;
      write_file(array.folder / "x/.zarray",
                 zarray("[5,7]", "[" + std::to_string(height) + "," + std::to_string(width) + "]",
                        packed ? ",\"compressor\":{\"id\":\"zstd\",\"level\":1}" : ""));
      for (size_t r = 0; r * height < 5; ++r) {
        for (size_t c = 0; c * width < 7; ++c) {
          const std::string bytes = raw(chunk_of(5, 7, height, width, r, c));
          write_file(array.folder / ("x/" + std::to_string(r) + "." + std::to_string(c)),
                     packed ? zstd_frame(bytes) : bytes);
        }
      }
      // Held whole, and as a stream that goes back and forth.
      for (const uint64_t max_held : {ChunkReader::kMaxHeld, uint64_t{0}}) {
        array.max_held = max_held;
        auto values = array.numbers(true);
        CAPTURE(values.status().message());
        REQUIRE(values.ok());
        CHECK(values.value() == ramp(35));
      }
    }
  }
}

TEST_CASE("zarr: a chunk that was not stored is the fill value, or damage") {
  ArrayFolder array;
  write_file(array.folder / "x/.zarray", zarray("[4]", "[2]", ",\"fill_value\":1.5"));
  write_file(array.folder / "x/1", raw<float>({3, 4}));
  CHECK(array.must() == std::vector<float>{1.5f, 1.5f, 3, 4});
  check_message(array.numbers(true).status(), StatusCode::kCorrupt, "the chunk \"x/0\" is missing");
  write_file(array.folder / "x/.zarray", zarray("[4]", "[2]", ",\"fill_value\":null"));
  CHECK(array.must() == std::vector<float>{0, 0, 3, 4});
  write_file(array.folder / "x/.zarray", zarray("[4]", "[2]", ",\"fill_value\":\"-Infinity\""));
  CHECK(array.must()[0] == -INFINITY);
  write_file(array.folder / "x/.zarray", zarray("[]", "[]", ""));
  write_file(array.folder / "x/0", raw<float>({9}));
  CHECK(array.must() == std::vector<float>{9});
}

TEST_CASE("zarr: version 3, plain and sharded") {
  const auto description = [](const std::string& chunk, const std::string& codecs) {
    return "{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":[4,6],\"data_type\":\"float32\","
           "\"chunk_grid\":{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":" +
           chunk + "}},\"chunk_key_encoding\":{\"name\":\"default\"},\"fill_value\":0,\"codecs\":" +
           codecs + "}";
  };
  const std::string little = R"({"name":"bytes","configuration":{"endian":"little"}})";
  ArrayFolder array;
  fs::create_directories(array.folder / "x/c/0");
  fs::create_directories(array.folder / "x/c/1");
  write_file(array.folder / "x/zarr.json",
             description("[4,3]", "[" + little + ",{\"name\":\"zstd\"}]"));
  for (size_t c = 0; c < 2; ++c) {
    write_file(array.folder / ("x/c/0/" + std::to_string(c)),
               zstd_frame(raw(chunk_of(4, 6, 4, 3, 0, c))));
  }
  auto plain = array.numbers(true);
  CAPTURE(plain.status().message());
  REQUIRE(plain.ok());
  CHECK(plain.value() == ramp(24));

  // Shards of 2 x 6 with chunks of 2 x 3, one of them absent, and an index with its checksum.
  write_file(
      array.folder / "x/zarr.json",
      description("[2,6]", R"([{"name":"sharding_indexed","configuration":{"chunk_shape":[2,3],
                 "codecs":[)" + little +
                               R"(,{"name":"zstd"}],"index_codecs":[)" + little +
                               R"(,{"name":"crc32c"}],"index_location":"end"}}])"));
  const auto shard = [&](size_t r, bool whole) {
    const std::string a = zstd_frame(raw(chunk_of(4, 6, 2, 3, r, 0)));
    const std::string b = zstd_frame(raw(chunk_of(4, 6, 2, 3, r, 1)));
    const uint64_t none = ~uint64_t{0};
    std::string index = little_endian(b.size(), 8) + little_endian(a.size(), 8) +
                        little_endian(whole ? 0 : none, 8) +
                        little_endian(whole ? b.size() : none, 8);
    index += little_endian(crc32c(reinterpret_cast<const uint8_t*>(index.data()), 32), 4);
    return b + a + index;
  };
  write_file(array.folder / "x/c/0/0", shard(0, true));
  write_file(array.folder / "x/c/1/0", shard(1, false));
  auto sharded = array.numbers();
  CAPTURE(sharded.status().message());
  REQUIRE(sharded.ok());
  std::vector<float> expected = ramp(24);
  for (const size_t i : {15, 16, 17, 21, 22, 23}) expected[i] = 0;
  CHECK(sharded.value() == expected);

  std::string bad = shard(0, true);
  bad[bad.size() - 10] = static_cast<char>(bad[bad.size() - 10] ^ 1);
  write_file(array.folder / "x/c/0/0", bad);
  check_message(array.numbers().status(), StatusCode::kCorrupt, "its CRC-32C does not match");
  write_file(array.folder / "x/c/0/0", "short");
  check_message(array.numbers().status(), StatusCode::kCorrupt, "too few for its index of 36");
}

TEST_CASE("zarr: what is not read is refused by its name") {
  const auto fails = [](const std::string& description, StatusCode code,
                        const std::string& message) {
    ArrayFolder array;
    write_file(array.folder / "x/.zarray", description);
    check_message(array.open().status(), code, message);
  };
  const StatusCode corrupt = StatusCode::kCorrupt, unsupported = StatusCode::kUnsupported;
  fails("{", corrupt, "is not JSON");
  fails("{}", corrupt, "zarr_format is missing, expected 2");
  fails(zarray("[4]", "[0]", ""), corrupt, "has chunks of no numbers: [0]");
  fails(zarray("[4]", "[4,4]", ""), corrupt, "has chunks of shape [4, 4], the array's is [4]");
  fails(zarray("[4,4]", "[16777216,1073741824]", ""), corrupt, "has more than 2^48 numbers");
  fails(zarray("[-4]", "[4]", ""), corrupt, "shape has an extent that is no number");
  fails(zarray("[4]", "[4]", ",\"compressor\":{\"id\":\"blosc\"}"), unsupported,
        "is compressed by \"blosc\", expected \"zstd\" or nothing");
  fails("{\"zarr_format\":2,\"dtype\":\">f4\"}", unsupported, "is of the number type \">f4\"");
  ArrayFolder none;
  check_message(none.open().status(), StatusCode::kNotFound, "expected its .zarray or zarr.json");

  // A chunk that claims to be more than the description says is not unpacked any further.
  for (const size_t size : {3, 5}) {
    ArrayFolder bomb;
    write_file(bomb.folder / "x/.zarray",
               zarray("[4]", "[4]", ",\"compressor\":{\"id\":\"zstd\"}"));
    write_file(bomb.folder / "x/0", zstd_frame(raw(ramp(size))));
    check_message(bomb.numbers().status(), corrupt, "bytes when it is unpacked, expected 16");
    bomb.max_held = 0;
    CHECK(bomb.numbers().ok() == (size == 5));  // a stream is read as far as it is needed
  }
}

}  // namespace
}  // namespace moka
