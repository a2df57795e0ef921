// Writer: a ModelSpec in, a .moka file out. schema/README.md has the layout.
//
// The same spec and bytes give the same file, to the bit. Memory holds the header and one tensor's
// scales; tensor bytes pass through in pieces as small as their source gives them.
#ifndef MOKA_CONVERTER_WRITER_H_
#define MOKA_CONVERTER_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "moka/span.h"
#include "moka/status.h"
#include "runtime/model_spec.h"

namespace moka {

// Takes the bytes of one tensor, in pieces of any size. data() and scales() may alternate; in the
// end each must have received exactly Tensor::size and Tensor::scale_size bytes.
class TensorSink {
 public:
  virtual ~TensorSink() = default;
  virtual Status data(const void* bytes, size_t size) = 0;
  virtual Status scales(const void* bytes, size_t size) = 0;
};

// Gives the bytes of tensor `index` to `sink`. Called once per tensor, in the order of the spec. A
// failure ends the writing with it, and no file appears.
using TensorSource = std::function<Status(size_t index, TensorSink& sink)>;

struct WriteOptions {
  bool replace = false;  // an existing file; without it one is kFailedPrecondition
  // Told of the data bytes written so far; a failure that it returns ends the writing with it.
  std::function<Status(uint64_t done, uint64_t total)> progress;
};

// Writes `spec`, which check_spec must accept. required_features are those of features_of(spec),
// whatever the spec says. Without a source, tensors are taken from Tensor::data and scales; prefix
// snapshots always from their data. kCorrupt: check_spec's word. kInvalidArgument: a tensor without
// data, or a source that gives too few or too many bytes. kOutOfRange: the header would exceed its
// limit. kFailedPrecondition, kNotFound, kIo: see AtomicFile.
Status write_model(const std::string& path, const ModelSpec& spec, const WriteOptions& options = {},
                   const TensorSource& source = {});

// A whole file in memory, 64-byte aligned as Model::open_memory and load_model ask.
class ModelBytes {
 public:
  ModelBytes() = default;
  explicit ModelBytes(Span<const uint8_t> bytes);  // a copy
  Span<const uint8_t> bytes() const { return {data_.get(), size_}; }
  uint8_t* data() { return data_.get(); }
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(uint8_t* p) const;
  };
  std::unique_ptr<uint8_t[], Free> data_;
  size_t size_ = 0;
};

// The same file in memory; for tests and small models.
Result<ModelBytes> write_model_to_memory(const ModelSpec& spec, const TensorSource& source = {});

// Rewrites the header of an existing file with another description and test vector, and copies its
// data, which is verified on the way. The file is replaced as a whole or not at all; its
// fingerprint changes, unless states in it (prefix snapshots) need the one that they were made
// with. Errors as load_model_file, verify_data and write_model.
Status replace_header(const std::string& path, const Metadata& metadata,
                      const std::optional<TestVector>& test_vector);

}  // namespace moka

#endif  // MOKA_CONVERTER_WRITER_H_
