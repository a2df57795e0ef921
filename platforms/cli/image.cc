#include "platforms/cli/image.h"

#include <cstdlib>
#include <memory>
#include <optional>

#include "lodepng.h"

namespace moka::cli {
namespace {

constexpr char kPngMagic[] = "\x89PNG\r\n\x1a\n";

float grey_of(double red, double green, double blue) {
  return static_cast<float>(0.2989 * red + 0.5870 * green + 0.1140 * blue);
}

Status corrupt(const std::string& name, const std::string& words) {
  return Status(StatusCode::kCorrupt, name + ": " + words);
}

Status check_size(const std::string& name, uint64_t width, uint64_t height, uint32_t right_width,
                  uint32_t right_height) {
  if (width == right_width && height == right_height) return Status();
  return Status(StatusCode::kInvalidArgument,
                name + ": an image of " + std::to_string(width) + " x " + std::to_string(height) +
                    "; this model reads images of " + std::to_string(right_width) + " x " +
                    std::to_string(right_height));
}

// ---- PNG ---------------------------------------------------------------------------------------

struct PngState {
  LodePNGState state;
  PngState() { lodepng_state_init(&state); }
  ~PngState() { lodepng_state_cleanup(&state); }
  PngState(const PngState&) = delete;
  PngState& operator=(const PngState&) = delete;
};

Result<std::vector<float>> read_png(std::string_view bytes, const std::string& name,
                                    uint32_t right_width, uint32_t right_height) {
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  PngState png;
  unsigned width = 0, height = 0;
  unsigned error = lodepng_inspect(&width, &height, &png.state, data, bytes.size());
  if (error != 0)
    return corrupt(name, std::string("not a whole PNG: ") + lodepng_error_text(error));
  MOKA_RETURN_IF_ERROR(check_size(name, width, height, right_width, right_height));
  const bool grey = png.state.info_png.color.colortype == LCT_GREY ||
                    png.state.info_png.color.colortype == LCT_GREY_ALPHA;
  // 16 bits of 4 channels keep all that any PNG holds. The size of the picture is known to be the
  // model's, so nothing that unpacks to more than its rows (with 8 bytes per pixel, a byte of
  // filter per row, and as much again for the passes of interlacing) is an honest file.
  const size_t pixels = size_t{width} * height;
  png.state.decoder.zlibsettings.max_output_size = 16 * pixels + 16 * size_t{height} + 4096;
  png.state.info_raw.colortype = LCT_RGBA;
  png.state.info_raw.bitdepth = 16;
  unsigned char* raw = nullptr;
  error = lodepng_decode(&raw, &width, &height, &png.state, data, bytes.size());
  const std::unique_ptr<unsigned char, decltype(&std::free)> owner(raw, &std::free);
  if (error == 83) return Status(StatusCode::kOutOfMemory, name + ": out of memory");
  if (error != 0) return corrupt(name, std::string("a damaged PNG: ") + lodepng_error_text(error));

  std::vector<float> values(pixels);
  for (size_t i = 0; i < pixels; i++) {
    const unsigned char* p = raw + 8 * i;
    const auto channel = [p](size_t c) { return (p[2 * c] * 256 + p[2 * c + 1]) / 257.0; };
    if (channel(3) != 255.0) {
      return Status(StatusCode::kUnsupported,
                    name +
                        ": has transparent pixels; put it on a background first, the model "
                        "knows none");
    }
    values[i] = grey ? static_cast<float>(channel(0)) : grey_of(channel(0), channel(1), channel(2));
  }
  return values;
}

// ---- PGM and PPM -------------------------------------------------------------------------------

class NetpbmReader {
 public:
  NetpbmReader(std::string_view bytes, const std::string& name)
      : rest_(bytes.substr(2)), kind_(bytes[1]), name_(name) {}

  Result<std::vector<float>> read(uint32_t right_width, uint32_t right_height) {
    if (kind_ == '1' || kind_ == '4') {
      return Status(StatusCode::kUnsupported,
                    name_ + ": a bitmap (PBM); this reads grey (PGM) and colour (PPM)");
    }
    const auto width = number(), height = number(), most = number();
    if (!width || !height || !most)
      return corrupt(name_, "the header of a PGM or PPM is cut short");
    MOKA_RETURN_IF_ERROR(check_size(name_, *width, *height, right_width, right_height));
    if (*most == 0 || *most > 65535) {
      return corrupt(name_,
                     "the largest value is " + std::to_string(*most) + ", expected 1 to 65535");
    }
    const bool text = kind_ == '2' || kind_ == '3';
    if (!text) {
      if (rest_.empty()) return corrupt(name_, "cut short: no pixels");
      rest_.remove_prefix(1);  // one white space ends the header
    }
    const size_t channels = kind_ == '2' || kind_ == '5' ? 1 : 3;
    const size_t pixels = size_t{right_width} * right_height;
    std::vector<float> values(pixels);
    for (size_t i = 0; i < pixels; i++) {
      double color[3] = {};
      for (size_t c = 0; c < channels; c++) {
        const std::optional<uint32_t> value = text ? number() : binary(*most);
        if (!value) {
          return corrupt(name_, "cut short: " + std::to_string(i) + " of " +
                                    std::to_string(pixels) + " pixels");
        }
        if (*value > *most) {
          return corrupt(name_, "pixel " + std::to_string(i) + " is " + std::to_string(*value) +
                                    ", more than the largest value of " + std::to_string(*most));
        }
        color[c] = *value * 255.0 / *most;
      }
      values[i] =
          channels == 1 ? static_cast<float>(color[0]) : grey_of(color[0], color[1], color[2]);
    }
    return values;
  }

 private:
  static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

  // The next decimal number; comments go from # to the end of the line.
  std::optional<uint32_t> number() {
    while (!rest_.empty() && (is_space(rest_[0]) || rest_[0] == '#')) {
      if (rest_[0] == '#') {
        const size_t end = rest_.find('\n');
        rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end);
      } else {
        rest_.remove_prefix(1);
      }
    }
    uint32_t value = 0;
    size_t digits = 0;
    for (; digits < rest_.size() && rest_[digits] >= '0' && rest_[digits] <= '9'; digits++) {
      if (digits == 9) return std::nullopt;
      value = value * 10 + static_cast<uint32_t>(rest_[digits] - '0');
    }
    rest_.remove_prefix(digits);
    return digits == 0 ? std::nullopt : std::optional(value);
  }

  std::optional<uint32_t> binary(uint32_t most) {
    const size_t size = most < 256 ? 1 : 2;
    if (rest_.size() < size) return std::nullopt;
    uint32_t value = 0;
    for (size_t i = 0; i < size; i++) value = value * 256 + static_cast<unsigned char>(rest_[i]);
    rest_.remove_prefix(size);
    return value;
  }

  std::string_view rest_;
  char kind_;
  const std::string& name_;
};

}  // namespace

ImageFormat image_format(std::string_view bytes) {
  if (bytes.substr(0, 4) == std::string_view(kPngMagic, 4)) return ImageFormat::kPng;
  const bool netpbm =
      bytes.size() >= 3 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '6' &&
      (bytes[2] == '#' || bytes[2] == ' ' || (bytes[2] >= '\t' && bytes[2] <= '\r'));
  return netpbm ? ImageFormat::kNetpbm : ImageFormat::kNone;
}

Result<std::vector<float>> read_grey_image(std::string_view bytes, const std::string& name,
                                           uint32_t width, uint32_t height) {
  switch (image_format(bytes)) {
    case ImageFormat::kPng: return read_png(bytes, name, width, height);
    case ImageFormat::kNetpbm: return NetpbmReader(bytes, name).read(width, height);
    case ImageFormat::kNone: break;
  }
  return Status(StatusCode::kInvalidArgument,
                name + ": neither a PNG, PGM or PPM image nor a .npy array");
}

}  // namespace moka::cli
