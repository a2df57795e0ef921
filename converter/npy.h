// NumPy's .npy files: one array, C order, little-endian. Used by `moka logits` and by the tests.
//
// Reads int32, int64, float32 and float64 in format versions 1 to 3; writes float32 in version 1.
// The header and the size of the array are checked against the size of the file before memory is
// taken. Pure functions; any thread.
#ifndef MOKA_CONVERTER_NPY_H_
#define MOKA_CONVERTER_NPY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "moka/span.h"
#include "moka/status.h"
#include "runtime/atomic_file.h"

namespace moka {

enum class NpyType : uint8_t { kI32 = 0, kI64 = 1, kF32 = 2, kF64 = 3 };

const char* npy_type_name(NpyType type);  // "int32", ...

struct NpyArray {
  NpyType type = NpyType::kF32;
  std::vector<uint64_t> shape;  // empty: one number
  std::vector<uint8_t> data;    // elements() numbers, C order, little-endian as in the file

  uint64_t elements() const;
  std::string shape_string() const;  // "(2, 3)"
  // Conversions. kInvalidArgument when the type does not fit: integers for to_int32, floats for
  // to_float32. to_int32: kOutOfRange for an int64 beyond 32 bits, naming its index.
  Result<std::vector<int32_t>> to_int32() const;
  Result<std::vector<float>> to_float32() const;  // float64 beyond float32 becomes infinite
};

// kNotFound, kIo; kCorrupt: not a .npy file, or cut short, or too long; kUnsupported: another
// type, byte order or Fortran order, or a later format version; kOutOfRange: a file larger than
// `max_bytes`.
Result<NpyArray> read_npy(const std::string& path, uint64_t max_bytes = uint64_t{1} << 31);
// The same from memory; `name` begins messages.
Result<NpyArray> parse_npy(Span<const uint8_t> bytes, const std::string& name);

// Writes a float32 array piece by piece, so that logits of any size need no memory. The file
// appears under its name when finish() has been called; a writer that goes before leaves nothing.
class NpyWriter {
 public:
  // kInvalidArgument for a shape of 2^60 numbers and more; otherwise as AtomicFile::create.
  static Result<NpyWriter> create(const std::string& path, const std::vector<uint64_t>& shape,
                                  Existing existing = Existing::kReplace);

  // Appends numbers in C order. kOutOfRange past the shape.
  Status write(Span<const float> values);
  // kFailedPrecondition when numbers are missing.
  Status finish();

 private:
  NpyWriter(std::string path, AtomicFile file, uint64_t total);
  std::string path_;
  AtomicFile file_;
  uint64_t written_ = 0, total_ = 0;
};

// The whole array in one call.
Status write_npy(const std::string& path, const std::vector<uint64_t>& shape,
                 Span<const float> values, Existing existing = Existing::kReplace);

}  // namespace moka

#endif  // MOKA_CONVERTER_NPY_H_
