// verify_tiles: one wrong byte in what a writer derives or fills up, one message that names it.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <string>

#include "runtime/tiles.h"
#include "tests/model_file.h"

namespace moka::test {
namespace {

// A model in memory whose tiles may be changed.
class Tiled {
 public:
  explicit Tiled(DType dtype) {
    TestModelOptions options = small_options();
    options.weights = dtype;
    options.tiles = true;
    options.width = options.hidden = 40;  // int4: two blocks, the second with 24 numbers to fill
    options.vocab_size = 18;              // two tiles, the second with 14 rows to fill
    model_ = make_test_model(options);
    loaded_.spec = model_.spec;
  }

  const Tensor& tokens() const { return loaded_.spec.tensors[0]; }
  uint8_t* data() { return const_cast<uint8_t*>(static_cast<const uint8_t*>(tokens().data)); }
  uint8_t* scales() { return const_cast<uint8_t*>(static_cast<const uint8_t*>(tokens().scales)); }
  template <class T>
  void put(size_t at, T value) {
    std::memcpy(scales() + at, &value, sizeof value);
  }

  Status verify() const { return verify_tiles(loaded_, "x.moka"); }
  void expect(const std::string& message) const {
    const Status status = verify();
    CHECK(status.code() == StatusCode::kCorrupt);
    CHECK(status.message() == "x.moka: tensor 'tokens', " + message);
  }

 private:
  TestModel model_;
  LoadedModel loaded_;
};

TEST_CASE("loader: verify_tiles finds what is wrong in tiles of int8") {
  Tiled tiled(DType::kI8);
  REQUIRE(tiled.tokens().name == "tokens");
  REQUIRE(tiled.tokens().size == 2 * 640);
  REQUIRE(tiled.verify().ok());

  SUBCASE("a number that changed") {
    float row[40];
    read_tile_row(tiled.tokens(), 3, row);
    const auto sum = [&] {
      int32_t stored = 0;
      std::memcpy(&stored, tiled.scales() + 64 + 3 * 4, 4);
      return stored;
    }();
    auto* q = reinterpret_cast<int8_t*>(tiled.data()) + 64 + 3 * 4 + 2;  // row 3, column 6
    *q = static_cast<int8_t>(*q < 0 ? *q + 1 : *q - 1);
    const int32_t found = row[6] < 0 ? sum + 1 : sum - 1;
    tiled.expect("tile 0, row 3: its sum is " + std::to_string(sum) +
                 ", but its numbers add up to " + std::to_string(found));
  }
  SUBCASE("a sum") {
    tiled.put<int32_t>(128 + 64 + 4, 1000000);  // row 17
    const Status status = tiled.verify();
    CHECK(status.code() == StatusCode::kCorrupt);
    CHECK(status.message().find("tile 1, row 17: its sum is 1000000, but its numbers") !=
          std::string::npos);
  }
  SUBCASE("scales that are no positive normal number") {
    tiled.put(4, -0.5f);
    tiled.expect("tile 0, row 1: its scale is -0.5, expected a positive normal number");
    tiled.put(4, 0.0f);
    tiled.expect("tile 0, row 1: its scale is 0, expected a positive normal number");
    tiled.put(4, 1e-40f);
    tiled.expect("tile 0, row 1: its scale is 9.9999461e-41, expected a positive normal number");
    tiled.put<uint32_t>(4, 0x7fc00000u);
    tiled.expect("tile 0, row 1: its scale is nan, expected a positive normal number");
  }
  SUBCASE("rows that only fill up") {
    tiled.put(128 + 4 * 4, 2.0f);
    tiled.expect("tile 1, row 20: only fills up the tile, but its scale is 2, expected 1");
    tiled.put(128 + 4 * 4, 1.0f);
    tiled.data()[640 + 4 * 4] = 9;
    tiled.expect("tile 1, row 20: holds 9 at column 0, which only fills up the tile: expected 0");
    tiled.data()[640 + 4 * 4] = 0;
    tiled.put<int32_t>(128 + 64 + 4 * 4, -5);
    tiled.expect("tile 1, row 20: its sum is -5, but its numbers add up to 0");
  }
}

TEST_CASE("loader: verify_tiles finds what is wrong in tiles of int4") {
  Tiled tiled(DType::kI4);
  REQUIRE(tiled.tokens().size == 2 * 512);
  REQUIRE(tiled.tokens().scale_size == 2 * (128 + 32));
  REQUIRE(tiled.verify().ok());

  SUBCASE("a number that changed") {
    tiled.data()[5 * 4] ^= 0x40;  // row 5, column 4
    const Status status = tiled.verify();
    CHECK(status.code() == StatusCode::kCorrupt);
    CHECK(status.message().find("x.moka: tensor 'tokens', tile 0, row 5: its sum is ") == 0);
  }
  SUBCASE("a number beyond the columns") {
    tiled.put<uint8_t>(128 + 16 + 6, tile_code(2, 8));
    tiled.data()[256 + 64 + 6 * 4] = 0x81;  // row 6, columns 40 (low half) and 44
    tiled.expect("tile 0, row 6: holds -14 at column 40, which only fills up the tile: expected 0");
  }
  SUBCASE("scales") {
    tiled.put(2 * 4, -0.5f);
    tiled.expect("tile 0, row 2: its scale is -0.5, expected a positive normal number");
  }
  SUBCASE("codes") {
    tiled.put<uint8_t>(128 + 16 + 2, tile_code(0, 8));  // row 2, block 1
    tiled.expect(
        "tile 0, row 2: the code of block 1 has multiplier 0, expected 1 to 16 with zero 8");
    tiled.put<uint8_t>(128 + 16 + 2, tile_code(17, 8));
    tiled.expect(
        "tile 0, row 2: the code of block 1 has multiplier 17, expected 1 to 16 with zero 8");
    tiled.put<uint8_t>(128 + 16 + 2, tile_code(12, 11));
    tiled.expect(
        "tile 0, row 2: the code of block 1 has multiplier 12, expected 1 to 11 with zero 11");
  }
  SUBCASE("a code that changed, and the sum with it") {
    const uint8_t before = tiled.scales()[128 + 3];
    REQUIRE(code_multiplier(before) < 16);
    tiled.put<uint8_t>(128 + 3, static_cast<uint8_t>(before + 1));
    CHECK(tiled.verify().code() == StatusCode::kCorrupt);
    int32_t sum = 0;
    std::memcpy(&sum, tiled.scales() + 64 + 3 * 4, 4);
    float row[40];
    read_tile_row(tiled.tokens(), 3, row);
    float scale = 0;
    std::memcpy(&scale, tiled.scales() + 3 * 4, 4);
    double total = 0;
    for (const float value : row) total += static_cast<double>(value / scale);
    tiled.put<int32_t>(64 + 3 * 4, static_cast<int32_t>(std::lrint(total)));
    CHECK(tiled.verify().ok());
    tiled.put<int32_t>(64 + 3 * 4, static_cast<int32_t>(std::lrint(total)) + 1);
    CHECK(tiled.verify().code() == StatusCode::kCorrupt);
  }
  SUBCASE("rows that only fill up") {
    tiled.put(160 + 4 * 4, 2.0f);
    tiled.expect("tile 1, row 20: only fills up the tile, but its scale is 2, expected 1");
  }
}

TEST_CASE("loader: verify_tiles reports progress and can be ended") {
  TestModelOptions options = small_options();
  options.weights = DType::kI8;
  options.tiles = true;
  const ModelBytes bytes = written(make_test_model(options).spec);
  const Result<LoadedModel> loaded = load_model(bytes.bytes(), "x.moka");
  REQUIRE(loaded.ok());
  uint64_t expected = 0, last = 0;
  for (const Tensor& tensor : loaded.value().spec.tensors) {
    if (tensor.layout == TensorLayout::kTiles) expected += tensor.size;
  }
  CHECK(expected > 0);
  CHECK(verify_tiles(loaded.value(), "x.moka", [&](uint64_t done, uint64_t total) {
          CHECK(done > last);
          CHECK(total == expected);
          last = done;
          return Status();
        }).ok());
  CHECK(last == expected);
  const Status stopped = verify_tiles(loaded.value(), "x.moka", [](uint64_t, uint64_t) {
    return Status(StatusCode::kCancelled, "enough");
  });
  CHECK(stopped.code() == StatusCode::kCancelled);
}

}  // namespace
}  // namespace moka::test
