// Checkpoint: named tensors of trained weights, whatever container they come in.
//
// One file per container form implements this interface (safetensors.cc, safetensors_index.cc) and
// is listed in open_checkpoint. What the names mean is not known here: latte_layout.cc maps them.
#ifndef MOKA_CONVERTER_CHECKPOINT_H_
#define MOKA_CONVERTER_CHECKPOINT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "moka/status.h"

namespace moka {

// Number types of checkpoints. Weights are of the first four; the others are known so that the
// message about them can say what they are.
enum class SourceType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kF64,
  kI8,
  kI16,
  kI32,
  kI64,
  kU8,
  kU16,
  kU32,
  kU64,
  kBool,
  kF8E4M3,
  kF8E5M2,
};

const char* source_type_name(SourceType type);  // "F32", as safetensors spells it
size_t source_type_size(SourceType type);       // bytes
bool is_weight_type(SourceType type);           // read() gives these as float32

struct SourceTensor {
  std::string name;
  SourceType type = SourceType::kF32;
  std::vector<uint64_t> shape;  // row-major; empty: one number
  uint64_t elements = 0;        // product of shape, checked
  uint64_t bytes() const { return elements * source_type_size(type); }
  std::string shape_string() const;  // "[384, 384]"
};

class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  // Sorted by name, which is unique.
  const std::vector<SourceTensor>& tensors() const { return tensors_; }
  // Files that make up the checkpoint, for the record.
  const std::vector<std::string>& files() const { return files_; }

  // Reads numbers [first, first + count) of a tensor as float32. float64 is rounded to nearest and
  // becomes infinite beyond float32. The tensor is of a weight type, the range inside it.
  // kIo when the file cannot be read. One thread at a time.
  virtual Status read(size_t tensor, uint64_t first, size_t count, float* out) = 0;

 protected:
  std::vector<SourceTensor> tensors_;
  std::vector<std::string> files_;
};

// Opens the weights in a folder: model.safetensors or model.safetensors.index.json. Reads headers
// only. kNotFound when there are none, kUnsupported for a known form that is not read (the message
// says what to do), and what the container's reader says.
Result<std::unique_ptr<Checkpoint>> open_checkpoint(const std::string& folder);

// One .safetensors file. kCorrupt: the header is not what the form asks for, tensors overlap, leave
// gaps or end outside the file. kUnsupported: a number type that is not known. kOutOfRange: a
// header beyond 32 MiB.
Result<std::unique_ptr<Checkpoint>> open_safetensors(const std::string& path);

// A model.safetensors.index.json and the files it names, which lie beside it. Also kCorrupt when
// index and files do not name the same tensors.
Result<std::unique_ptr<Checkpoint>> open_safetensors_index(const std::string& path);

// Little-endian numbers of a weight type, as they lie in a file, to float32.
void weights_to_f32(SourceType type, const uint8_t* bytes, size_t count, float* out);

}  // namespace moka

#endif  // MOKA_CONVERTER_CHECKPOINT_H_
