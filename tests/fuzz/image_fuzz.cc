// Whatever bytes come as a picture: an error, or one grey value from 0 to 255 per pixel. The first
// two bytes choose the size that is asked for.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "platforms/cli/image.h"
#include "tests/fuzz/targets.h"

void moka::fuzz::image_fuzz(const uint8_t* data, size_t size) {
  if (size < 2) return;
  const uint32_t width = 1 + data[0] % 33, height = 1 + data[1] % 33;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  const auto image = moka::cli::read_grey_image(bytes, "fuzz", width, height);
  if (!image.ok()) {
    if (image.status().message().empty()) std::abort();
    return;
  }
  if (image.value().size() != size_t{width} * height) std::abort();
  for (const float grey : image.value()) {
    if (!(grey >= 0.0f && grey <= 255.0f)) std::abort();
  }
}
