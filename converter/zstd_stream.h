// Zstandard data as a stream of bytes. The only file that knows the library.
#ifndef MOKA_CONVERTER_ZSTD_STREAM_H_
#define MOKA_CONVERTER_ZSTD_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "moka/status.h"

namespace moka {

// Decodes forwards. Holds 64 KiB of packed bytes and the window of the data, at most 128 MiB.
class ZstdStream {
 public:
  // Exactly `count` packed bytes from `offset`.
  using Source = std::function<Status(uint64_t offset, uint8_t* out, size_t count)>;

  // `size` packed bytes come from `source`. `where` begins messages.
  ZstdStream(Source source, uint64_t size, std::string where);
  ~ZstdStream();
  ZstdStream(const ZstdStream&) = delete;
  ZstdStream& operator=(const ZstdStream&) = delete;

  // The next `count` decoded bytes; fewer only at the end. kCorrupt: no Zstandard data, damaged, or
  // cut short. kOutOfMemory; and what the source says.
  Result<size_t> read(uint8_t* out, size_t count);
  // Decoded bytes read so far.
  uint64_t position() const { return position_; }

 private:
  struct Decoder;
  Status fill();

  Source source_;
  uint64_t size_;
  std::string where_;
  std::unique_ptr<Decoder> decoder_;
  std::vector<uint8_t> packed_;
  size_t used_ = 0;     // of packed_
  uint64_t taken_ = 0;  // packed bytes read from the source
  uint64_t position_ = 0;
  bool frame_open_ = false;  // a frame was begun and has not ended
};

// All of the data at `bytes`. kOutOfRange when it is more than `max` bytes.
Result<std::vector<uint8_t>> zstd_decode(const uint8_t* bytes, size_t count, size_t max,
                                         const std::string& where);

}  // namespace moka

#endif  // MOKA_CONVERTER_ZSTD_STREAM_H_
