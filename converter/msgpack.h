// msgpack of unknown origin, read item by item from a file: nothing is built of it, and what the
// caller does not ask for is passed over by its length.
#ifndef MOKA_CONVERTER_MSGPACK_H_
#define MOKA_CONVERTER_MSGPACK_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "converter/file.h"
#include "moka/status.h"

namespace moka {

struct MsgpackItem {
  enum class Kind : uint8_t {
    kNil,
    kBool,
    kInteger,
    kFloat,
    kString,
    kBinary,
    kArray,
    kMap,
    kExtension,
  };

  Kind kind = Kind::kNil;
  int8_t extension = 0;   // type number of an extension
  bool negative = false;  // the integer is below zero: its bits are those of an int64
  uint64_t begin = 0;     // byte of the file where the item begins
  uint64_t content = 0;   // ... and where its bytes or its first element begin
  uint64_t count = 0;     // bytes of a string, binary or extension; elements; pairs of a map
  uint64_t integer = 0;   // value of an integer, 0 or 1 of a bool
  double number = 0;      // value of a float
};

const char* msgpack_kind_name(MsgpackItem::Kind kind);  // "a map", ...

// Walks bytes [begin, end) of a file. After an error it stays where it was. Holds 4 KiB.
class MsgpackReader {
 public:
  // Containers within containers; deeper ones are kCorrupt.
  static constexpr size_t kMaxDepth = 64;

  // `file` outlives the reader, and has the bytes.
  MsgpackReader(const InputFile* file, uint64_t begin, uint64_t end);

  uint64_t position() const { return position_; }
  uint64_t end() const { return end_; }
  void seek(uint64_t position) { position_ = position; }

  // The item at the position, which moves to the item's content. kCorrupt: there is none, no such
  // type, or it claims more bytes or elements than follow.
  Result<MsgpackItem> next();
  // Moves from the content of `item` to the item after it: over bytes, or over all elements.
  Status skip(const MsgpackItem& item);
  // The bytes of a string or binary of at most `max` bytes, and moves behind them. kCorrupt: another
  // kind, or longer. `what` names it in the message.
  Result<std::string> text(const MsgpackItem& item, size_t max, const char* what);

  // kCorrupt with file, byte and words.
  Status corrupt(uint64_t at, const std::string& what) const;

 private:
  Status read(void* out, size_t count);
  Result<uint64_t> big_endian(size_t bytes);
  // Sets kind, count and what is in the first byte or beside it.
  Status parse_head(uint8_t head, MsgpackItem* item);
  Status parse_number(uint8_t head, MsgpackItem* item);

  const InputFile* file_;
  uint64_t position_, end_;
  uint64_t buffer_begin_ = 0;  // what of the file is in the buffer
  std::vector<uint8_t> buffer_;
};

}  // namespace moka

#endif  // MOKA_CONVERTER_MSGPACK_H_
