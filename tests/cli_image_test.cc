// Pictures: PNG of every colour type, PGM and PPM, and what is refused.
#include <cstdint>
#include <string>
#include <vector>

#include "doctest/doctest.h"
#include "platforms/cli/image.h"
#include "tests/png_builder.h"
#include "tests/process.h"

namespace moka::test {
namespace {

using cli::image_format;
using cli::ImageFormat;
using cli::read_grey_image;

std::vector<float> good(const std::string& bytes, uint32_t width, uint32_t height) {
  Result<std::vector<float>> image = read_grey_image(bytes, "x", width, height);
  REQUIRE_MESSAGE(image.ok(), image.status().to_string());
  return std::move(image).value();
}

void bad(const std::string& bytes, uint32_t width, uint32_t height, StatusCode code,
         const std::string& message) {
  const Result<std::vector<float>> image = read_grey_image(bytes, "x", width, height);
  CHECK(image.status().code() == code);
  CHECK(image.status().message() == "x: " + message);
}

float grey(double r, double g, double b) {
  return static_cast<float>(0.2989 * r + 0.5870 * g + 0.1140 * b);
}

std::string bytes(std::initializer_list<int> values) {
  std::string out;
  for (const int value : values) out += static_cast<char>(value);
  return out;
}

}  // namespace

TEST_CASE("image: PNG in grey, colour, palette, 16 bits, 1 bit") {
  CHECK(good(make_png(2, 2, 8, 0, {bytes({0, 10}), bytes({200, 255})}), 2, 2) ==
        std::vector<float>{0.0f, 10.0f, 200.0f, 255.0f});
  CHECK(good(make_png(2, 1, 8, 2, {bytes({255, 0, 0, 10, 20, 30})}), 2, 1) ==
        std::vector<float>{grey(255, 0, 0), grey(10, 20, 30)});
  // White has 254.97, as in training.
  CHECK(good(make_png(1, 1, 8, 2, {bytes({255, 255, 255})}), 1, 1)[0] == doctest::Approx(254.9745));
  CHECK(good(make_png(1, 1, 8, 6, {bytes({1, 2, 3, 255})}), 1, 1) ==
        std::vector<float>{grey(1, 2, 3)});
  CHECK(good(make_png(1, 1, 16, 0, {bytes({0x80, 0x00})}), 1, 1)[0] ==
        doctest::Approx(0x8000 / 257.0));
  CHECK(good(make_png(2, 1, 1, 0, {bytes({0x40})}), 2, 1) == std::vector<float>{0.0f, 255.0f});
  const std::string palette = bytes({9, 8, 7, 1, 1, 1});
  CHECK(good(make_png(2, 1, 8, 3, {bytes({0, 1})}, palette), 2, 1) ==
        std::vector<float>{grey(9, 8, 7), grey(1, 1, 1)});
}

TEST_CASE("image: PNG that is refused") {
  const std::string png = make_png(2, 2, 8, 0, {bytes({0, 10}), bytes({200, 255})});
  bad(png, 3, 2, StatusCode::kInvalidArgument,
      "an image of 2 x 2; this model reads images of 3 x 2");
  bad(make_png(1, 1, 8, 6, {bytes({1, 2, 3, 254})}), 1, 1, StatusCode::kUnsupported,
      "has transparent pixels; put it on a background first, the model knows none");
  // A size that only claims to be large costs nothing.
  bad(make_png(0x7fffffff, 0x7fffffff, 8, 0, {}), 28, 28, StatusCode::kInvalidArgument,
      "an image of 2147483647 x 2147483647; this model reads images of 28 x 28");
  // A bomb: the right size, but it unpacks to far more.
  const std::vector<std::string> rows(20000, std::string(64, 'x'));
  const Result<std::vector<float>> bomb = read_grey_image(make_png(4, 4, 8, 0, rows), "x", 4, 4);
  CHECK(bomb.status().code() == StatusCode::kCorrupt);
  for (size_t size = 0; size < png.size(); ++size) {
    const Result<std::vector<float>> cut = read_grey_image(png.substr(0, size), "x", 2, 2);
    const bool named = size < 4;  // not even recognised
    CHECK(cut.status().code() == (named ? StatusCode::kInvalidArgument : StatusCode::kCorrupt));
  }
  for (size_t at = 8; at < png.size(); ++at) {  // damaged bytes never crash
    std::string damaged = png;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x55);
    const Result<std::vector<float>> image = read_grey_image(damaged, "x", 2, 2);
    CHECK((image.ok() || !image.status().message().empty()));
  }
}

TEST_CASE("image: PGM and PPM, text and binary, 8 and 16 bits") {
  CHECK(good("P2\n# made by hand\n2 2 # size\n255\n0 10\n200 255\n", 2, 2) ==
        std::vector<float>{0.0f, 10.0f, 200.0f, 255.0f});
  CHECK(good("P5 2 1 255\n" + bytes({7, 255}), 2, 1) == std::vector<float>{7.0f, 255.0f});
  CHECK(good("P5 1 1 65535\n" + bytes({0x80, 0x00}), 1, 1)[0] == doctest::Approx(127.5019));
  CHECK(good("P2 2 1 15 0 15", 2, 1) == std::vector<float>{0.0f, 255.0f});
  CHECK(good("P3 1 1 255 10 20 30", 1, 1) == std::vector<float>{grey(10, 20, 30)});
  CHECK(good("P6 1 1 255\n" + bytes({10, 20, 30}), 1, 1) == std::vector<float>{grey(10, 20, 30)});
}

TEST_CASE("image: PGM and PPM that are refused") {
  bad("P5 3 1 255\nabc", 2, 1, StatusCode::kInvalidArgument,
      "an image of 3 x 1; this model reads images of 2 x 1");
  bad("P5 2 1 255\na", 2, 1, StatusCode::kCorrupt, "cut short: 1 of 2 pixels");
  bad("P5 2 1 255", 2, 1, StatusCode::kCorrupt, "cut short: no pixels");
  bad("P2 2 1", 2, 1, StatusCode::kCorrupt, "the header of a PGM or PPM is cut short");
  bad("P2 2 1 255 1 x", 2, 1, StatusCode::kCorrupt, "cut short: 1 of 2 pixels");
  bad("P2 2 1 15 1 16", 2, 1, StatusCode::kCorrupt,
      "pixel 1 is 16, more than the largest value of 15");
  bad("P5 2 1 0\nab", 2, 1, StatusCode::kCorrupt, "the largest value is 0, expected 1 to 65535");
  bad("P5 99999999999 1 255\n", 2, 1, StatusCode::kCorrupt,
      "the header of a PGM or PPM is cut short");
  bad("P1 1 1 0", 1, 1, StatusCode::kUnsupported,
      "a bitmap (PBM); this reads grey (PGM) and colour (PPM)");
  bad("GIF89a", 1, 1, StatusCode::kInvalidArgument,
      "neither a PNG, PGM or PPM image nor a .npy array");
  bad("", 1, 1, StatusCode::kInvalidArgument, "neither a PNG, PGM or PPM image nor a .npy array");
  CHECK(image_format("P5\n") == ImageFormat::kNetpbm);
  CHECK(image_format("P7\n") == ImageFormat::kNone);
  CHECK(image_format("Pages of text") == ImageFormat::kNone);
}

}  // namespace moka::test
