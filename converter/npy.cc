// The .npy format: "\x93NUMPY", version (2 bytes), header length (little-endian, 2 bytes in version
// 1, else 4), a dictionary {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }, data.
#include "converter/npy.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string_view>
#include <utility>

#include "converter/checkpoint.h"
#include "converter/file.h"

namespace moka {
namespace {

constexpr char kMagic[] = "\x93NUMPY";
constexpr size_t kMagicSize = 6;
constexpr size_t kMaxHeader = size_t{1} << 16;
constexpr size_t kMaxRank = 8;
constexpr uint64_t kMaxElements = uint64_t{1} << 60;

struct TypeFacts {
  const char* name;
  const char* descr;  // little-endian, as the header spells it
  size_t size;
};
constexpr TypeFacts kTypes[] = {
    {"int32", "<i4", 4}, {"int64", "<i8", 8}, {"float32", "<f4", 4}, {"float64", "<f8", 8}};

const TypeFacts& facts(NpyType type) { return kTypes[static_cast<size_t>(type)]; }

uint64_t little_endian(const uint8_t* bytes, size_t size) {
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) value |= static_cast<uint64_t>(bytes[i]) << (8 * i);
  return value;
}

// Reads the few forms of Python literal that NumPy writes. Any other is an error.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& name) : rest_(text), name_(name) {}

  Status parse(NpyArray* array) {
    bool descr = false, order = false, shape = false;
    if (!take('{')) return malformed();
    while (!take('}')) {
      std::string key;
      if (!string(&key) || !take(':')) return malformed();
      if (key == "descr" && !descr) {
        descr = true;
        MOKA_RETURN_IF_ERROR(parse_type(array));
      } else if (key == "fortran_order" && !order) {
        order = true;
        MOKA_RETURN_IF_ERROR(parse_order());
      } else if (key == "shape" && !shape) {
        shape = true;
        MOKA_RETURN_IF_ERROR(parse_shape(array));
      } else {
        return malformed();
      }
      if (!take(',') && (skip_spaces(), rest_.empty() || rest_[0] != '}')) return malformed();
    }
    skip_spaces();
    return rest_.empty() && descr && order && shape ? Status() : malformed();
  }

 private:
  Status malformed() const {
    return Status(StatusCode::kCorrupt,
                  name_ +
                      ": the .npy header is malformed, expected a dictionary of descr, "
                      "fortran_order and shape");
  }

  void skip_spaces() {
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\n' || rest_[0] == '\t')) {
      rest_.remove_prefix(1);
    }
  }

  bool take(char c) {
    skip_spaces();
    if (rest_.empty() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    return true;
  }

  bool word(std::string_view text) {
    skip_spaces();
    if (rest_.substr(0, text.size()) != text) return false;
    rest_.remove_prefix(text.size());
    return true;
  }

  bool string(std::string* out) {
    skip_spaces();
    if (rest_.empty() || (rest_[0] != '\'' && rest_[0] != '"')) return false;
    const size_t end = rest_.find(rest_[0], 1);
    if (end == std::string_view::npos) return false;
    out->assign(rest_.substr(1, end - 1));
    rest_.remove_prefix(end + 1);
    return true;
  }

  Status parse_type(NpyArray* array) {
    std::string descr;
    skip_spaces();
    if (!rest_.empty() && rest_[0] == '[') {
      return Status(StatusCode::kUnsupported,
                    name_ + ": has records, expected int32, int64, float32 or float64");
    }
    if (!string(&descr)) return malformed();
    for (size_t i = 0; i < std::size(kTypes); ++i) {
      if (descr == kTypes[i].descr) {
        array->type = static_cast<NpyType>(i);
        return Status();
      }
    }
    return Status(StatusCode::kUnsupported,
                  name_ + ": has numbers of type \"" + descr.substr(0, 16) +
                      "\", expected \"<i4\", \"<i8\", \"<f4\" or \"<f8\"");
  }

  Status parse_order() {
    if (word("False")) return Status();
    if (word("True")) {
      return Status(StatusCode::kUnsupported,
                    name_ + ": is in Fortran order, expected C order (numpy.ascontiguousarray)");
    }
    return malformed();
  }

  Status parse_shape(NpyArray* array) {
    if (!take('(')) return malformed();
    uint64_t elements = 1;
    while (!take(')')) {
      skip_spaces();
      uint64_t extent = 0;
      size_t digits = 0;
      for (; digits < rest_.size() && rest_[digits] >= '0' && rest_[digits] <= '9'; ++digits) {
        extent = extent * 10 + static_cast<uint64_t>(rest_[digits] - '0');
        if (extent > kMaxElements) return malformed();
      }
      rest_.remove_prefix(digits);
      if (digits == 0 || array->shape.size() == kMaxRank) return malformed();
      if (extent != 0 && elements > kMaxElements / extent) return malformed();
      elements *= extent;
      array->shape.push_back(extent);
      if (!take(',') && (rest_.empty() || rest_[0] != ')')) return malformed();
    }
    return Status();
  }

  std::string_view rest_;
  const std::string& name_;
};

// Everything before the data. `size` is the whole file's, of which `bytes` has the first part.
// Sets the offset of the data; the shape needs exactly what follows it.
Status parse_header(Span<const uint8_t> bytes, uint64_t size, const std::string& name,
                    NpyArray* array, size_t* data_offset) {
  const auto corrupt = [&](const std::string& what) {
    return Status(StatusCode::kCorrupt, name + ": " + what);
  };
  if (bytes.size() < kMagicSize + 4 || std::memcmp(bytes.data(), kMagic, kMagicSize) != 0) {
    return corrupt("is no .npy file");
  }
  const unsigned version = bytes[kMagicSize];
  if (version < 1 || version > 3) {
    return Status(StatusCode::kUnsupported,
                  name + ": is .npy version " + std::to_string(version) + ", expected 1 to 3");
  }
  const size_t length_size = version == 1 ? 2 : 4;
  const size_t begin = kMagicSize + 2 + length_size;
  if (bytes.size() < begin) return corrupt("is cut short in its header");
  const uint64_t length = little_endian(bytes.data() + kMagicSize + 2, length_size);
  if (length > kMaxHeader || length > bytes.size() - begin) {
    return corrupt("is cut short in its header, or the header is longer than 65536 bytes");
  }
  const auto* text = reinterpret_cast<const char*>(bytes.data() + begin);
  HeaderParser parser({text, static_cast<size_t>(length)}, name);
  MOKA_RETURN_IF_ERROR(parser.parse(array));
  *data_offset = begin + static_cast<size_t>(length);
  const uint64_t needed = array->elements() * facts(array->type).size;
  if (size - *data_offset != needed) {
    return corrupt("has " + std::to_string(size - *data_offset) + " bytes of data, " +
                   npy_type_name(array->type) + " " + array->shape_string() + " needs " +
                   std::to_string(needed));
  }
  return Status();
}

}  // namespace

const char* npy_type_name(NpyType type) { return facts(type).name; }

uint64_t NpyArray::elements() const {
  uint64_t product = 1;
  for (const uint64_t extent : shape) product *= extent;
  return product;
}

std::string NpyArray::shape_string() const {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + (shape.size() == 1 ? ",)" : ")");
}

Result<std::vector<int32_t>> NpyArray::to_int32() const {
  if (type != NpyType::kI32 && type != NpyType::kI64) {
    return Status(StatusCode::kInvalidArgument,
                  std::string("the array is ") + npy_type_name(type) + ", expected int32 or int64");
  }
  const size_t size = facts(type).size;
  std::vector<int32_t> values(data.size() / size);
  for (size_t i = 0; i < values.size(); ++i) {
    const uint64_t bits = little_endian(data.data() + i * size, size);
    const int64_t value = type == NpyType::kI32 ? static_cast<int32_t>(static_cast<uint32_t>(bits))
                                                : static_cast<int64_t>(bits);
    if (value < std::numeric_limits<int32_t>::min() ||
        value > std::numeric_limits<int32_t>::max()) {
      return Status(StatusCode::kOutOfRange, "number " + std::to_string(i) + " of the array is " +
                                                 std::to_string(value) +
                                                 ", which does not fit 32 bits");
    }
    values[i] = static_cast<int32_t>(value);
  }
  return values;
}

Result<std::vector<float>> NpyArray::to_float32() const {
  if (type != NpyType::kF32 && type != NpyType::kF64) {
    return Status(StatusCode::kInvalidArgument, std::string("the array is ") + npy_type_name(type) +
                                                    ", expected float32 or float64");
  }
  std::vector<float> values(data.size() / facts(type).size);
  weights_to_f32(type == NpyType::kF32 ? SourceType::kF32 : SourceType::kF64, data.data(),
                 values.size(), values.data());
  return values;
}

Result<NpyArray> parse_npy(Span<const uint8_t> bytes, const std::string& name) {
  NpyArray array;
  size_t offset = 0;
  MOKA_RETURN_IF_ERROR(parse_header(bytes, bytes.size(), name, &array, &offset));
  array.data.assign(bytes.begin() + offset, bytes.end());
  return array;
}

Result<NpyArray> read_npy(const std::string& path, uint64_t max_bytes) {
  MOKA_ASSIGN_OR_RETURN(const InputFile file, InputFile::open(path));
  if (file.size() > max_bytes) {
    return Status(StatusCode::kOutOfRange, path + ": is " + std::to_string(file.size()) +
                                               " bytes long, expected at most " +
                                               std::to_string(max_bytes));
  }
  std::vector<uint8_t> head(static_cast<size_t>(std::min<uint64_t>(file.size(), kMaxHeader + 64)));
  MOKA_RETURN_IF_ERROR(file.read(0, head.data(), head.size()));
  NpyArray array;
  size_t offset = 0;
  MOKA_RETURN_IF_ERROR(parse_header(head, file.size(), path, &array, &offset));
  array.data.resize(static_cast<size_t>(file.size()) - offset);
  MOKA_RETURN_IF_ERROR(file.read(offset, array.data.data(), array.data.size()));
  return array;
}

NpyWriter::NpyWriter(std::string path, AtomicFile file, uint64_t total)
    : path_(std::move(path)), file_(std::move(file)), total_(total) {}

Result<NpyWriter> NpyWriter::create(const std::string& path, const std::vector<uint64_t>& shape,
                                    Existing existing) {
  NpyArray described;
  uint64_t total = 1;
  for (const uint64_t extent : shape) {
    if (extent != 0 && total >= kMaxElements / extent) {
      return Status(StatusCode::kInvalidArgument, path + ": the array would be too large");
    }
    total *= extent;
  }
  described.shape = shape;
  std::string header =
      "{'descr': '<f4', 'fortran_order': False, 'shape': " + described.shape_string() + ", }";
  // Padded so that the data begins at a multiple of 64, as NumPy does it.
  const size_t begin = kMagicSize + 4;
  header.append(63 - (begin + header.size()) % 64, ' ');
  header += '\n';
  std::string bytes(kMagic, kMagicSize);
  bytes +=
      {'\1', '\0', static_cast<char>(header.size() & 0xff), static_cast<char>(header.size() >> 8)};
  bytes += header;
  MOKA_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path, existing));
  MOKA_RETURN_IF_ERROR(file.write(bytes.data(), bytes.size()));
  return NpyWriter(path, std::move(file), total);
}

Status NpyWriter::write(Span<const float> values) {
  if (values.size() > total_ - written_) {
    return Status(StatusCode::kOutOfRange,
                  path_ + ": more numbers than the shape has, which is " + std::to_string(total_));
  }
  uint8_t piece[4096];
  for (size_t i = 0; i < values.size();) {
    const size_t count = std::min(values.size() - i, sizeof piece / 4);
    for (size_t j = 0; j < count; ++j) {
      uint32_t bits;
      std::memcpy(&bits, &values[i + j], sizeof bits);
      for (size_t b = 0; b < 4; ++b) piece[4 * j + b] = static_cast<uint8_t>(bits >> (8 * b));
    }
    MOKA_RETURN_IF_ERROR(file_.write(piece, 4 * count));
    i += count;
    written_ += count;
  }
  return Status();
}

Status NpyWriter::finish() {
  if (written_ != total_) {
    return Status(StatusCode::kFailedPrecondition, path_ + ": " + std::to_string(written_) +
                                                       " numbers were written, the shape has " +
                                                       std::to_string(total_));
  }
  return file_.commit();
}

Status write_npy(const std::string& path, const std::vector<uint64_t>& shape,
                 Span<const float> values, Existing existing) {
  MOKA_ASSIGN_OR_RETURN(NpyWriter writer, NpyWriter::create(path, shape, existing));
  MOKA_RETURN_IF_ERROR(writer.write(values));
  return writer.finish();
}

}  // namespace moka
