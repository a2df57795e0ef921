#include "converter/zarr.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "converter/checkpoint_reader.h"
#include "converter/crc32c.h"

namespace moka {
namespace {

constexpr uint64_t kMaxMetadata = uint64_t{1} << 20;
constexpr size_t kPiece = size_t{1} << 16;  // bytes that are converted at once
constexpr uint64_t kAbsent = std::numeric_limits<uint64_t>::max();

uint64_t little_endian(const uint8_t* bytes, size_t count) {
  uint64_t value = 0;
  for (size_t i = count; i-- > 0;) value = value << 8 | bytes[i];
  return value;
}

// The bytes of a fill value, for numbers of up to 8 bytes. Integers come as small numbers.
void put_fill(SourceType type, double fill, size_t count, uint8_t* out) {
  const size_t size = source_type_size(type);
  const auto integer = static_cast<uint64_t>(fill > 0 && fill < 9e18 ? fill : 0);
  for (size_t i = 0; i < count * size; ++i) {
    out[i] = static_cast<uint8_t>(integer >> (8 * (i % size)));
  }
}

}  // namespace

void ChunkReader::restart(const Chunk& chunk) {
  KeyValueStore* store = store_;
  stream_ = std::make_unique<ZstdStream>(
      [store, chunk](uint64_t offset, uint8_t* out, size_t count) {
        return store->read(chunk.key, chunk.begin + offset, out, count);
      },
      chunk.length, store_->path() + ": chunk " + in_quotes(chunk.key));
}

Status ChunkReader::hold(const Chunk& chunk) {
  if (key_ == chunk.key && begin_ == chunk.begin && (stream_ != nullptr || !held_.empty())) {
    return Status();
  }
  held_.clear();
  stream_.reset();
  key_ = chunk.key;
  begin_ = chunk.begin;
  restart(chunk);
  if (chunk.bytes > max_held_) return Status();
  std::vector<uint8_t> bytes(static_cast<size_t>(chunk.bytes));
  uint8_t more = 0;
  MOKA_ASSIGN_OR_RETURN(const size_t got, stream_->read(bytes.data(), bytes.size()));
  MOKA_ASSIGN_OR_RETURN(const size_t beyond, stream_->read(&more, 1));
  stream_.reset();
  if (got != bytes.size() || beyond != 0) {
    return Status(StatusCode::kCorrupt,
                  store_->path() + ": chunk " + in_quotes(chunk.key) + " holds " +
                      (beyond != 0 ? "more than " : "") + std::to_string(got) +
                      " bytes when it is unpacked, expected " + std::to_string(chunk.bytes));
  }
  held_ = std::move(bytes);
  return Status();
}

Status ChunkReader::read(const Chunk& chunk, uint64_t offset, uint8_t* out, size_t count) {
  if (!chunk.zstd) {
    if (chunk.length != chunk.bytes) {
      return Status(StatusCode::kCorrupt, store_->path() + ": chunk " + in_quotes(chunk.key) +
                                              " has " + std::to_string(chunk.length) +
                                              " bytes, expected " + std::to_string(chunk.bytes));
    }
    return store_->read(chunk.key, chunk.begin + offset, out, count);
  }
  MOKA_RETURN_IF_ERROR(hold(chunk));
  if (!held_.empty()) {
    std::copy_n(held_.data() + offset, count, out);
    return Status();
  }
  if (stream_->position() > offset) restart(chunk);
  uint8_t passed[kPiece];
  while (stream_->position() < offset) {
    const auto step = static_cast<size_t>(std::min<uint64_t>(kPiece, offset - stream_->position()));
    MOKA_ASSIGN_OR_RETURN(const size_t got, stream_->read(passed, step));
    if (got != step) break;
  }
  MOKA_ASSIGN_OR_RETURN(const size_t got, stream_->read(out, count));
  if (stream_->position() != offset + count || got != count) {
    return Status(StatusCode::kCorrupt, store_->path() + ": chunk " + in_quotes(chunk.key) +
                                            " holds only " + std::to_string(stream_->position()) +
                                            " bytes when it is unpacked, expected " +
                                            std::to_string(chunk.bytes));
  }
  return Status();
}

std::string ZarrArray::where() const {
  return chunks_->store()->path() + ": array " + in_quotes(name_);
}

Result<ZarrArray> ZarrArray::open(ChunkReader* chunks, const std::string& name, bool all_chunks) {
  ZarrArray array;
  array.chunks_ = chunks;
  array.name_ = name;
  array.all_chunks_ = all_chunks;
  KeyValueStore* store = chunks->store();
  for (const bool v3 : {false, true}) {
    const std::string key = name + (v3 ? "/zarr.json" : "/.zarray");
    MOKA_ASSIGN_OR_RETURN(const std::optional<uint64_t> size, store->size(key));
    if (!size) continue;
    if (*size > kMaxMetadata) {
      return Status(StatusCode::kOutOfRange, array.where() + " has a description of " +
                                                 std::to_string(*size) + " bytes, at most " +
                                                 std::to_string(kMaxMetadata) + " are read");
    }
    std::string text(static_cast<size_t>(*size), '\0');
    MOKA_RETURN_IF_ERROR(store->read(key, 0, reinterpret_cast<uint8_t*>(text.data()), text.size()));
    MOKA_ASSIGN_OR_RETURN(array.layout_, v3 ? parse_zarr_v3(text, array.where())
                                            : parse_zarr_v2(text, array.where()));
    array.merge_dimensions();
    return array;
  }
  return Status(StatusCode::kNotFound,
                array.where() + " is not in the store, expected its .zarray or zarr.json");
}

void ZarrArray::merge_dimensions() {
  const std::vector<uint64_t>& shape = layout_.tensor.shape;
  for (size_t i = 0; i < shape.size(); ++i) {
    const uint64_t shard = layout_.sharded ? layout_.shard[i] : 1;
    if (i > 0 && layout_.chunk[i] == shape[i] && shard == 1) {
      dimensions_.back().extent *= shape[i];
      dimensions_.back().chunk *= shape[i];
    } else {
      dimensions_.push_back({shape[i], layout_.chunk[i], shard, i});
    }
  }
  if (dimensions_.empty()) dimensions_.push_back({});  // a single number
}

std::string ZarrArray::chunk_key(const std::vector<uint64_t>& grid) const {
  const size_t rank = layout_.tensor.shape.size();
  std::string key = name_ + "/";
  if (layout_.key_begins_with_c) key += "c";
  if (rank == 0) return layout_.key_begins_with_c ? key : key + "0";
  size_t merged = 0;  // the next of dimensions_
  for (size_t i = 0; i < rank; ++i) {
    if (i > 0 || layout_.key_begins_with_c) key += layout_.separator;
    const bool own = merged < dimensions_.size() && dimensions_[merged].original == i;
    key += own ? std::to_string(grid[merged++]) : "0";
  }
  return key;
}

Status ZarrArray::read_shard_index(const std::string& key, uint64_t size) {
  if (shard_key_ == key) return Status();
  uint64_t chunks = 1;
  for (const uint64_t count : layout_.shard) chunks *= count;  // at most 2^20
  const uint64_t bytes = 16 * chunks + (layout_.index_has_crc ? 4 : 0);
  if (size < bytes) {
    return Status(StatusCode::kCorrupt,
                  where() + ": the shard " + in_quotes(key) + " has " + std::to_string(size) +
                      " bytes, too few for its index of " + std::to_string(bytes));
  }
  std::vector<uint8_t> raw(static_cast<size_t>(bytes));
  MOKA_RETURN_IF_ERROR(
      chunks_->store()->read(key, layout_.index_at_end ? size - bytes : 0, raw.data(), raw.size()));
  const auto covered = static_cast<size_t>(16 * chunks);
  if (layout_.index_has_crc &&
      crc32c(raw.data(), covered) != little_endian(raw.data() + covered, 4)) {
    return Status(StatusCode::kCorrupt, where() + ": the index of the shard " + in_quotes(key) +
                                            " is damaged: its CRC-32C does not match");
  }
  shard_index_.clear();
  for (size_t at = 0; at < covered; at += 8) {
    shard_index_.push_back(little_endian(raw.data() + at, 8));
  }
  shard_key_ = key;
  return Status();
}

Status ZarrArray::open_chunk(const std::vector<uint64_t>& index) {
  current_.clear();
  std::vector<uint64_t> grid(index.size());
  size_t in_shard = 0;
  chunk_ = ChunkReader::Chunk();
  chunk_.zstd = layout_.zstd;
  chunk_.bytes = source_type_size(layout_.tensor.type);
  for (size_t i = 0; i < index.size(); ++i) {
    const Dimension& dimension = dimensions_[i];
    grid[i] = index[i] / dimension.shard;
    in_shard = static_cast<size_t>(in_shard * dimension.shard + index[i] % dimension.shard);
    chunk_.bytes *= dimension.chunk;
  }
  chunk_.key = chunk_key(grid);
  MOKA_ASSIGN_OR_RETURN(const std::optional<uint64_t> size, chunks_->store()->size(chunk_.key));
  present_ = size.has_value();
  chunk_.length = size.value_or(0);
  if (present_ && layout_.sharded) {
    MOKA_RETURN_IF_ERROR(read_shard_index(chunk_.key, *size));
    chunk_.begin = shard_index_[2 * in_shard];
    chunk_.length = shard_index_[2 * in_shard + 1];
    present_ = chunk_.begin != kAbsent || chunk_.length != kAbsent;
    if (present_ && (chunk_.begin > *size || chunk_.length > *size - chunk_.begin)) {
      return Status(StatusCode::kCorrupt, where() + ": the index of the shard " +
                                              in_quotes(chunk_.key) + " places a chunk at byte " +
                                              std::to_string(chunk_.begin) + " of " +
                                              std::to_string(*size));
    }
  }
  if (!present_ && all_chunks_) {
    return Status(StatusCode::kCorrupt,
                  where() + ": the chunk " + in_quotes(chunk_.key) + " is missing");
  }
  current_ = index;
  return Status();
}

Result<size_t> ZarrArray::locate(uint64_t first, size_t count, uint64_t* in_chunk) {
  std::vector<uint64_t> index(dimensions_.size());
  uint64_t stride = 1, run = 0;
  *in_chunk = 0;
  for (size_t i = dimensions_.size(); i-- > 0; first /= dimensions_[i].extent) {
    const Dimension& dimension = dimensions_[i];
    const uint64_t at = first % dimension.extent;
    const uint64_t inside = at % dimension.chunk;
    index[i] = at / dimension.chunk;
    *in_chunk += inside * stride;
    stride *= dimension.chunk;
    if (i + 1 == dimensions_.size()) {
      run = std::min(dimension.extent - at, dimension.chunk - inside);
    }
  }
  if (current_ != index) MOKA_RETURN_IF_ERROR(open_chunk(index));
  return static_cast<size_t>(std::min<uint64_t>(run, count));
}

Status ZarrArray::read_bytes(uint64_t first, size_t count, uint8_t* out) {
  const size_t size = source_type_size(layout_.tensor.type);
  while (count > 0) {
    uint64_t in_chunk = 0;
    MOKA_ASSIGN_OR_RETURN(const size_t run, locate(first, count, &in_chunk));
    if (present_) {
      MOKA_RETURN_IF_ERROR(chunks_->read(chunk_, in_chunk * size, out, run * size));
    } else {
      put_fill(layout_.tensor.type, layout_.fill, run, out);
    }
    first += run;
    count -= run;
    out += run * size;
  }
  return Status();
}

Status ZarrArray::read(uint64_t first, size_t count, float* out) {
  const SourceType type = layout_.tensor.type;
  const size_t size = source_type_size(type);
  uint8_t piece[kPiece];
  while (count > 0) {
    uint64_t in_chunk = 0;
    MOKA_ASSIGN_OR_RETURN(const size_t run,
                          locate(first, std::min(count, kPiece / size), &in_chunk));
    if (present_) {
      MOKA_RETURN_IF_ERROR(chunks_->read(chunk_, in_chunk * size, piece, run * size));
      weights_to_f32(type, piece, run, out);
    } else {
      // As a weight of float64 would be: beyond float32 it is infinite.
      uint64_t bits;
      std::memcpy(&bits, &layout_.fill, sizeof bits);
      for (size_t i = 0; i < sizeof bits; ++i) piece[i] = static_cast<uint8_t>(bits >> (8 * i));
      float fill;
      weights_to_f32(SourceType::kF64, piece, 1, &fill);
      std::fill_n(out, run, fill);
    }
    first += run;
    count -= run;
    out += run;
  }
  return Status();
}

}  // namespace moka
