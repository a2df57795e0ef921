// Pictures as models read them: one grey value per pixel, row by row, from 0 to 255.
//
// Reads PNG and the Netpbm formats PGM and PPM, text and binary. Colours become
//   grey = 0.2989 red + 0.5870 green + 0.1140 blue
// as the models were trained (white is 254.97); a picture that is grey in the file keeps its values.
// More than 8 bits are scaled to 0 to 255. Sizes are compared with the model's before anything is
// unpacked.
#ifndef MOKA_PLATFORMS_CLI_IMAGE_H_
#define MOKA_PLATFORMS_CLI_IMAGE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "moka/status.h"

namespace moka::cli {

enum class ImageFormat { kNone, kPng, kNetpbm };

// By the first bytes.
ImageFormat image_format(std::string_view bytes);

// `width` x `height` grey values. `name` begins messages. kInvalidArgument: neither format, or an
// image of another size, which the message tells. kUnsupported: transparent pixels, bitmaps (PBM),
// which have no grey. kCorrupt: damaged, cut short.
Result<std::vector<float>> read_grey_image(std::string_view bytes, const std::string& name,
                                           uint32_t width, uint32_t height);

}  // namespace moka::cli

#endif  // MOKA_PLATFORMS_CLI_IMAGE_H_
