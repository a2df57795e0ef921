// Arrays of zarr 2 and 3 in a key-value store, read range by range.
#ifndef MOKA_CONVERTER_ZARR_H_
#define MOKA_CONVERTER_ZARR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "converter/key_value_store.h"
#include "converter/zarr_layout.h"
#include "converter/zstd_stream.h"
#include "moka/status.h"

namespace moka {

// Unpacks chunks, and holds the one it was asked for last: whole if it is small enough, otherwise as
// a stream that begins anew when a reader goes back.
class ChunkReader {
 public:
  static constexpr uint64_t kMaxHeld = uint64_t{64} << 20;  // bytes

  // A range of a value that holds a chunk.
  struct Chunk {
    std::string key;
    uint64_t begin = 0, length = 0;
    bool zstd = false;
    uint64_t bytes = 0;  // when it is unpacked
  };

  // `store` outlives the reader. Chunks of up to `max_held` bytes are held whole.
  explicit ChunkReader(KeyValueStore* store, uint64_t max_held = kMaxHeld)
      : store_(store), max_held_(max_held) {}

  KeyValueStore* store() const { return store_; }
  // Bytes [offset, offset + count) of the unpacked chunk, which has them. kCorrupt: it is damaged or
  // has another size.
  Status read(const Chunk& chunk, uint64_t offset, uint8_t* out, size_t count);

 private:
  Status hold(const Chunk& chunk);
  void restart(const Chunk& chunk);

  KeyValueStore* store_;
  uint64_t max_held_;
  std::string key_;  // of the chunk that is held, and where it begins there
  uint64_t begin_ = 0;
  std::vector<uint8_t> held_;
  std::unique_ptr<ZstdStream> stream_;
};

class ZarrArray {
 public:
  // The array `name`: <name>/.zarray or <name>/zarr.json and the chunks beside. kNotFound: neither.
  // With `all_chunks` a chunk that is missing is damage; without, it is the fill value. `chunks`
  // outlives the array.
  static Result<ZarrArray> open(ChunkReader* chunks, const std::string& name, bool all_chunks);

  // Type and shape; without a name.
  const SourceTensor& tensor() const { return layout_.tensor; }
  // Numbers [first, first + count): as float32, of a weight type; or as they lie in the chunks,
  // little-endian.
  Status read(uint64_t first, size_t count, float* out);
  Status read_bytes(uint64_t first, size_t count, uint8_t* out);

 private:
  ZarrArray() = default;
  void merge_dimensions();
  // The part of [first, first + count) that lies side by side in one chunk: its length; makes that
  // chunk the current one, and gives the number's place in it.
  Result<size_t> locate(uint64_t first, size_t count, uint64_t* in_chunk);
  Status open_chunk(const std::vector<uint64_t>& index);
  std::string chunk_key(const std::vector<uint64_t>& grid) const;
  Status read_shard_index(const std::string& key, uint64_t size);
  std::string where() const;

  ChunkReader* chunks_ = nullptr;
  std::string name_;
  bool all_chunks_ = false;
  ZarrLayout layout_;
  // Dimensions that every chunk has whole are one with the dimension before, so that runs are long.
  struct Dimension {
    uint64_t extent = 1, chunk = 1, shard = 1;
    size_t original = 0;  // the first of layout_'s dimensions that it stands for
  };
  std::vector<Dimension> dimensions_;

  std::vector<uint64_t> current_;  // index of the current chunk in dimensions_; empty: none
  bool present_ = false;           // it is stored
  ChunkReader::Chunk chunk_;
  std::string shard_key_;              // of the index that is held
  std::vector<uint64_t> shard_index_;  // offset, length for each chunk
};

}  // namespace moka

#endif  // MOKA_CONVERTER_ZARR_H_
