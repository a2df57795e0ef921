#include "converter/msgpack.h"

#include <algorithm>
#include <cstring>

#include "runtime/half.h"

namespace moka {
namespace {

using Kind = MsgpackItem::Kind;

constexpr size_t kBuffer = 4096;

std::string hex(uint8_t byte) {
  static const char* kDigits = "0123456789abcdef";
  return std::string("0x") + kDigits[byte >> 4] + kDigits[byte & 15];
}

}  // namespace

const char* msgpack_kind_name(Kind kind) {
  switch (kind) {
    case Kind::kNil: return "nil";
    case Kind::kBool: return "a boolean";
    case Kind::kInteger: return "an integer";
    case Kind::kFloat: return "a float";
    case Kind::kString: return "a string";
    case Kind::kBinary: return "a byte string";
    case Kind::kArray: return "an array";
    case Kind::kMap: return "a map";
    case Kind::kExtension: return "an extension";
  }
  return "unknown";
}

MsgpackReader::MsgpackReader(const InputFile* file, uint64_t begin, uint64_t end)
    : file_(file), position_(begin), end_(end) {}

Status MsgpackReader::corrupt(uint64_t at, const std::string& what) const {
  return Status(StatusCode::kCorrupt,
                file_->path() + ": the msgpack item at byte " + std::to_string(at) + " " + what);
}

// Small reads only: heads, keys, shapes. The content of arrays is read by whoever wants it.
Status MsgpackReader::read(void* out, size_t count) {
  if (count > end_ - position_) return corrupt(position_, "is cut short");
  auto* bytes = static_cast<uint8_t*>(out);
  while (count > 0) {
    const bool held = position_ >= buffer_begin_ && position_ - buffer_begin_ < buffer_.size();
    if (!held) {
      // Never beyond end_: the file is that long, and a part of it is all that may be looked at.
      buffer_.resize(static_cast<size_t>(std::min<uint64_t>(kBuffer, end_ - position_)));
      buffer_begin_ = position_;
      Status status = file_->read(position_, buffer_.data(), buffer_.size());
      if (!status.ok()) {
        buffer_.clear();
        return status;
      }
    }
    const auto at = static_cast<size_t>(position_ - buffer_begin_);
    const size_t step = std::min(count, buffer_.size() - at);
    std::memcpy(bytes, buffer_.data() + at, step);
    bytes += step;
    position_ += step;
    count -= step;
  }
  return Status();
}

Result<uint64_t> MsgpackReader::big_endian(size_t bytes) {
  uint8_t raw[8];
  MOKA_RETURN_IF_ERROR(read(raw, bytes));
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; ++i) value = value << 8 | raw[i];
  return value;
}

Status MsgpackReader::parse_number(uint8_t head, MsgpackItem* item) {
  item->kind = Kind::kInteger;
  if (head == 0xca || head == 0xcb) {  // float 32, float 64
    item->kind = Kind::kFloat;
    MOKA_ASSIGN_OR_RETURN(const uint64_t bits, big_endian(head == 0xca ? 4 : 8));
    if (head == 0xca) {
      item->number = static_cast<double>(float_from_bits(static_cast<uint32_t>(bits)));
    } else {
      std::memcpy(&item->number, &bits, sizeof bits);
    }
    return Status();
  }
  if (head <= 0xcf) {  // uint 8 to 64: 0xcc to 0xcf
    MOKA_ASSIGN_OR_RETURN(item->integer, big_endian(size_t{1} << (head - 0xcc)));
    return Status();
  }
  const size_t bytes = size_t{1} << (head - 0xd0);  // int 8 to 64: 0xd0 to 0xd3
  MOKA_ASSIGN_OR_RETURN(item->integer, big_endian(bytes));
  const uint64_t sign = uint64_t{1} << (8 * bytes - 1);
  if ((item->integer & sign) != 0) {
    item->negative = true;
    item->integer |= ~((sign << 1) - 1);  // zero for 8 bytes: sign << 1 is 0 there
  }
  return Status();
}

Status MsgpackReader::parse_head(uint8_t head, MsgpackItem* item) {
  const auto sized = [&](Kind kind, size_t bytes) -> Status {
    item->kind = kind;
    MOKA_ASSIGN_OR_RETURN(item->count, big_endian(bytes));
    return Status();
  };
  const auto of = [&](Kind kind, uint64_t count) {
    item->kind = kind;
    item->count = count;
    return Status();
  };
  if (head <= 0x7f || head >= 0xe0) {  // the byte is the integer
    item->kind = Kind::kInteger;
    item->negative = head >= 0xe0;
    item->integer = item->negative ? ~uint64_t{0xff} | head : head;
    return Status();
  }
  if (head <= 0x8f) return of(Kind::kMap, head & 0x0f);
  if (head <= 0x9f) return of(Kind::kArray, head & 0x0f);
  if (head <= 0xbf) return of(Kind::kString, head & 0x1f);
  switch (head) {
    case 0xc0: return of(Kind::kNil, 0);
    case 0xc2:
    case 0xc3: item->integer = head & 1; return of(Kind::kBool, 0);
    case 0xc4: return sized(Kind::kBinary, 1);
    case 0xc5: return sized(Kind::kBinary, 2);
    case 0xc6: return sized(Kind::kBinary, 4);
    case 0xc7: return sized(Kind::kExtension, 1);
    case 0xc8: return sized(Kind::kExtension, 2);
    case 0xc9: return sized(Kind::kExtension, 4);
    case 0xd4: return of(Kind::kExtension, 1);
    case 0xd5: return of(Kind::kExtension, 2);
    case 0xd6: return of(Kind::kExtension, 4);
    case 0xd7: return of(Kind::kExtension, 8);
    case 0xd8: return of(Kind::kExtension, 16);
    case 0xd9: return sized(Kind::kString, 1);
    case 0xda: return sized(Kind::kString, 2);
    case 0xdb: return sized(Kind::kString, 4);
    case 0xdc: return sized(Kind::kArray, 2);
    case 0xdd: return sized(Kind::kArray, 4);
    case 0xde: return sized(Kind::kMap, 2);
    case 0xdf: return sized(Kind::kMap, 4);
    case 0xc1: return corrupt(item->begin, "has the type " + hex(head) + ", which msgpack lacks");
    default: return parse_number(head, item);
  }
}

Result<MsgpackItem> MsgpackReader::next() {
  MsgpackItem item;
  item.begin = position_;
  const auto parse = [&]() -> Status {
    uint8_t head = 0;
    MOKA_RETURN_IF_ERROR(read(&head, 1));
    MOKA_RETURN_IF_ERROR(parse_head(head, &item));
    if (item.kind == Kind::kExtension) {
      uint8_t type = 0;
      MOKA_RETURN_IF_ERROR(read(&type, 1));
      item.extension = static_cast<int8_t>(type < 128 ? type : type - 256);
    }
    item.content = position_;
    // An element takes one byte at least, so a count says how much must follow.
    const uint64_t least = item.kind == Kind::kMap ? 2 * item.count : item.count;
    if (least > end_ - position_) {
      return corrupt(item.begin, "is " + std::string(msgpack_kind_name(item.kind)) + " of " +
                                     std::to_string(item.count) + ", but only " +
                                     std::to_string(end_ - position_) + " bytes follow");
    }
    return Status();
  };
  const Status status = parse();
  if (!status.ok()) {
    position_ = item.begin;
    return status;
  }
  return item;
}

Status MsgpackReader::skip(const MsgpackItem& item) {
  // Without recursion: `open` counts the items still to come of each container around.
  std::vector<uint64_t> open;
  const auto enter = [&](const MsgpackItem& i) -> Status {
    if (i.kind == Kind::kArray || i.kind == Kind::kMap) {
      if (open.size() == kMaxDepth) {
        return corrupt(i.begin, "nests deeper than " + std::to_string(kMaxDepth));
      }
      open.push_back(i.kind == Kind::kMap ? 2 * i.count : i.count);
    } else {
      position_ += i.count;  // next() saw that so many bytes follow
    }
    return Status();
  };
  position_ = item.content;
  MOKA_RETURN_IF_ERROR(enter(item));
  while (!open.empty()) {
    if (open.back() == 0) {
      open.pop_back();
      continue;
    }
    --open.back();
    MOKA_ASSIGN_OR_RETURN(const MsgpackItem inner, next());
    MOKA_RETURN_IF_ERROR(enter(inner));
  }
  return Status();
}

Result<std::string> MsgpackReader::text(const MsgpackItem& item, size_t max, const char* what) {
  if (item.kind != Kind::kString && item.kind != Kind::kBinary) {
    return corrupt(item.begin, std::string("is ") + msgpack_kind_name(item.kind) + ", expected " +
                                   what + ", a string");
  }
  if (item.count > max) {
    return corrupt(item.begin, "is " + std::string(what) + " of " + std::to_string(item.count) +
                                   " bytes, expected at most " + std::to_string(max));
  }
  position_ = item.content;
  std::string text(static_cast<size_t>(item.count), '\0');
  MOKA_RETURN_IF_ERROR(read(text.data(), text.size()));
  return text;
}

}  // namespace moka
