// PNG files for tests: rows as they are, packed without compression.
#ifndef MOKA_TESTS_PNG_BUILDER_H_
#define MOKA_TESTS_PNG_BUILDER_H_

#include <cstdint>
#include <string>
#include <vector>

namespace moka::test {

// `color`: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA. Each row holds its bytes without the
// filter; there may be too many or too few of them. `palette`: RGB, RGB, ...
std::string make_png(uint32_t width, uint32_t height, int depth, int color,
                     const std::vector<std::string>& rows, const std::string& palette = "");

}  // namespace moka::test

#endif  // MOKA_TESTS_PNG_BUILDER_H_
