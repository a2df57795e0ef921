#include "converter/zstd_stream.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "zstd.h"

namespace moka {
namespace {

constexpr size_t kPacked = size_t{1} << 16;
constexpr size_t kDecoded = size_t{1} << 16;  // what zstd_decode() grows by
constexpr int kWindowLog = 27;                // what the library itself allows without a wish

}  // namespace

struct ZstdStream::Decoder {
  ZSTD_DCtx* context = ZSTD_createDCtx();
  Decoder() = default;
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  ~Decoder() { ZSTD_freeDCtx(context); }
};

ZstdStream::ZstdStream(Source source, uint64_t size, std::string where)
    : source_(std::move(source)), size_(size), where_(std::move(where)) {}

ZstdStream::~ZstdStream() = default;

Status ZstdStream::fill() {
  const auto count = static_cast<size_t>(std::min<uint64_t>(kPacked, size_ - taken_));
  packed_.resize(count);
  used_ = 0;
  Status status = source_(taken_, packed_.data(), count);
  if (!status.ok()) {
    packed_.clear();
    return status;
  }
  taken_ += count;
  return Status();
}

Result<size_t> ZstdStream::read(uint8_t* out, size_t count) {
  if (decoder_ == nullptr) {
    decoder_ = std::make_unique<Decoder>();
    if (decoder_->context == nullptr) {
      return Status(StatusCode::kOutOfMemory, where_ + ": no memory for a Zstandard decoder");
    }
    (void)ZSTD_DCtx_setParameter(decoder_->context, ZSTD_d_windowLogMax, kWindowLog);
  }
  ZSTD_outBuffer output = {out, count, 0};
  while (output.pos < output.size) {
    if (used_ == packed_.size() && taken_ < size_) MOKA_RETURN_IF_ERROR(fill());
    if (used_ == packed_.size() && !frame_open_) break;
    ZSTD_inBuffer input = {packed_.data(), packed_.size(), used_};
    const size_t before = output.pos;
    const size_t result = ZSTD_decompressStream(decoder_->context, &output, &input);
    if (ZSTD_isError(result) != 0) {
      return Status(StatusCode::kCorrupt, where_ + ": is damaged Zstandard data after " +
                                              std::to_string(position_ + output.pos) +
                                              " bytes: " + ZSTD_getErrorName(result));
    }
    const bool moved = input.pos != used_ || output.pos != before;
    used_ = input.pos;
    frame_open_ = result != 0;
    if (!moved && frame_open_ && taken_ == size_) {
      return Status(StatusCode::kCorrupt, where_ + ": Zstandard data is cut short after " +
                                              std::to_string(position_ + output.pos) + " bytes");
    }
  }
  position_ += output.pos;
  return output.pos;
}

Result<std::vector<uint8_t>> zstd_decode(const uint8_t* bytes, size_t count, size_t max,
                                         const std::string& where) {
  ZstdStream stream(
      [bytes](uint64_t offset, uint8_t* out, size_t n) {
        std::memcpy(out, bytes + offset, n);
        return Status();
      },
      count, where);
  std::vector<uint8_t> decoded;
  while (true) {
    const size_t before = decoded.size();
    // One byte more than may be tells "too much" from "just enough".
    decoded.resize(before + std::min(kDecoded, max - before + 1));
    MOKA_ASSIGN_OR_RETURN(const size_t got,
                          stream.read(decoded.data() + before, decoded.size() - before));
    decoded.resize(before + got);
    if (decoded.size() > max) {
      return Status(StatusCode::kOutOfRange, where + ": holds more than " + std::to_string(max) +
                                                 " bytes when it is unpacked");
    }
    if (got == 0) return decoded;
  }
}

}  // namespace moka
