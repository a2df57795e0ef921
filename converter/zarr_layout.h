// What .zarray (version 2) and zarr.json (version 3) say of an array. Inside of the zarr reader.
#ifndef MOKA_CONVERTER_ZARR_LAYOUT_H_
#define MOKA_CONVERTER_ZARR_LAYOUT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "converter/checkpoint.h"
#include "moka/status.h"

namespace moka {

struct ZarrLayout {
  SourceTensor tensor;  // without a name
  // Extents of a chunk: of the smallest unit that is packed by itself. At the array's end a chunk
  // reaches beyond it. Product and bytes are bounded as a tensor's.
  std::vector<uint64_t> chunk;
  bool zstd = false;  // chunks are packed

  // Sharded: a value holds `shard` chunks in each dimension and an index of them.
  bool sharded = false;
  std::vector<uint64_t> shard;
  bool index_at_end = true;
  bool index_has_crc = false;

  // Keys of chunks: "0.1", or "c/0/1" of version 3.
  bool key_begins_with_c = false;
  char separator = '.';
  double fill = 0;  // of a chunk that is not stored
};

// `text` is the JSON. kCorrupt: it is not what the form asks for; kUnsupported: a compression, filter
// or order that is not read, by its name.
Result<ZarrLayout> parse_zarr_v2(const std::string& text, const std::string& where);
Result<ZarrLayout> parse_zarr_v3(const std::string& text, const std::string& where);

}  // namespace moka

#endif  // MOKA_CONVERTER_ZARR_LAYOUT_H_
