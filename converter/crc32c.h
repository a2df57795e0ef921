// CRC-32C (Castagnoli), as OCDBT and zarr 3 use it.
#ifndef MOKA_CONVERTER_CRC32C_H_
#define MOKA_CONVERTER_CRC32C_H_

#include <cstddef>
#include <cstdint>

namespace moka {

uint32_t crc32c(const uint8_t* bytes, size_t count);

}  // namespace moka

#endif  // MOKA_CONVERTER_CRC32C_H_
