#include "converter/writer.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "converter/writer_header.h"
#include "runtime/atomic_file.h"
#include "runtime/checksum.h"
#include "runtime/loader.h"

namespace moka {
namespace {

// Files are written in pieces that end at multiples of this. Systems with large pages for files
// then keep them in such pages, which a model that is mapped is opened from in half of the time.
constexpr size_t kPiece = size_t{4} << 20;

size_t piece_at(uint64_t file_offset) { return kPiece - static_cast<size_t>(file_offset % kPiece); }
using Progress = std::function<Status(uint64_t done, uint64_t total)>;

// Where the file's bytes go.
class Output {
 public:
  virtual ~Output() = default;
  virtual Status append(const void* data, size_t size) = 0;
  virtual Status overwrite_start(const void* data, size_t size) = 0;
};

class FileOutput : public Output {
 public:
  explicit FileOutput(AtomicFile* file) : file_(file) {}
  Status append(const void* data, size_t size) override { return file_->write(data, size); }
  Status overwrite_start(const void* data, size_t size) override {
    return file_->write_at(0, data, size);
  }

 private:
  AtomicFile* file_;
};

class MemoryOutput : public Output {
 public:
  Status append(const void* data, size_t size) override {
    const auto* bytes = static_cast<const uint8_t*>(data);
    bytes_.insert(bytes_.end(), bytes, bytes + size);
    return Status();
  }
  Status overwrite_start(const void* data, size_t size) override {
    std::memcpy(bytes_.data(), data, size);
    return Status();
  }
  const std::vector<uint8_t>& bytes() const { return bytes_; }

 private:
  std::vector<uint8_t> bytes_;
};

// The data section: gathers small pieces, hashes them, passes them on.
class DataWriter {
 public:
  // The section begins at `start` in the file.
  DataWriter(Output* output, uint64_t start, uint64_t total, const Progress& progress)
      : output_(output), start_(start), total_(total), progress_(progress) {
    buffer_.reserve(static_cast<size_t>(std::min<uint64_t>(kPiece, total)));
  }

  Status write(const void* data, size_t size) {
    const auto* bytes = static_cast<const uint8_t*>(data);
    while (size > 0) {
      const size_t piece = piece_at(start_ + flushed_);
      const size_t part = std::min(size, piece - buffer_.size());
      buffer_.insert(buffer_.end(), bytes, bytes + part);
      bytes += part;
      size -= part;
      if (buffer_.size() == piece) MOKA_RETURN_IF_ERROR(flush());
    }
    return Status();
  }

  // Zeros up to `offset` of the data section.
  Status pad_to(uint64_t offset) {
    static constexpr uint8_t kZeros[256] = {};
    for (uint64_t here = position(); here < offset; here = position()) {
      MOKA_RETURN_IF_ERROR(
          write(kZeros, static_cast<size_t>(std::min<uint64_t>(sizeof kZeros, offset - here))));
    }
    return Status();
  }

  Status flush() {
    hash_.update(buffer_.data(), buffer_.size());
    MOKA_RETURN_IF_ERROR(output_->append(buffer_.data(), buffer_.size()));
    flushed_ += buffer_.size();
    buffer_.clear();
    return progress_ ? progress_(flushed_, total_) : Status();
  }

  // Checksum of what was written since the last call, or the start.
  Status take_checksum(uint64_t* checksum) {
    MOKA_RETURN_IF_ERROR(flush());
    *checksum = hash_.digest();
    hash_.reset();
    return Status();
  }
  void skip_checksum() { hash_.reset(); }

  uint64_t position() const { return flushed_ + buffer_.size(); }

 private:
  Output* output_;
  uint64_t start_;
  uint64_t total_;
  const Progress& progress_;
  std::vector<uint8_t> buffer_;
  uint64_t flushed_ = 0;
  Xxh3Stream hash_;
};

// Takes one tensor: data goes on, scales wait until the data is complete.
class OneTensorSink : public TensorSink {
 public:
  OneTensorSink(const Tensor& tensor, const std::string& where, DataWriter* writer)
      : tensor_(tensor), where_(where), writer_(writer) {}

  Status data(const void* bytes, size_t size) override {
    if (size > tensor_.size - data_) return wrong("data", data_ + size, tensor_.size);
    data_ += size;
    return writer_->write(bytes, size);
  }

  Status scales(const void* bytes, size_t size) override {
    const uint64_t total = scales_.size() + size;
    if (total > tensor_.scale_size) return wrong("scales", total, tensor_.scale_size);
    const auto* from = static_cast<const uint8_t*>(bytes);
    scales_.insert(scales_.end(), from, from + size);
    return Status();
  }

  Status finish(const DataLayout::Place& place) {
    if (data_ != tensor_.size) return wrong("data", data_, tensor_.size);
    if (scales_.size() != tensor_.scale_size) {
      return wrong("scales", scales_.size(), tensor_.scale_size);
    }
    if (scales_.empty()) return Status();
    MOKA_RETURN_IF_ERROR(writer_->pad_to(place.scales));
    return writer_->write(scales_.data(), scales_.size());
  }

 private:
  Status wrong(const char* what, uint64_t found, uint64_t expected) const {
    return Status(StatusCode::kInvalidArgument,
                  where_ + ": tensor '" + tensor_.name + "' was given " + std::to_string(found) +
                      " bytes of " + what + ", expected " + std::to_string(expected));
  }

  const Tensor& tensor_;
  const std::string& where_;
  DataWriter* writer_;
  uint64_t data_ = 0;
  std::vector<uint8_t> scales_;
};

// The source of tensors that lie in memory.
Status give_from_memory(const Tensor& tensor, const std::string& where, TensorSink* sink) {
  if (tensor.data == nullptr || (tensor.scale_size != 0 && tensor.scales == nullptr)) {
    return Status(StatusCode::kInvalidArgument,
                  where + ": tensor '" + tensor.name + "' has no data to write");
  }
  MOKA_RETURN_IF_ERROR(sink->data(tensor.data, static_cast<size_t>(tensor.size)));
  return tensor.scale_size == 0
             ? Status()
             : sink->scales(tensor.scales, static_cast<size_t>(tensor.scale_size));
}

Status write_data(const ModelSpec& spec, const std::string& where, const TensorSource& source,
                  DataWriter* writer, DataLayout* layout) {
  for (size_t i = 0; i < spec.tensors.size(); ++i) {
    MOKA_RETURN_IF_ERROR(writer->pad_to(layout->tensors[i].data));
    OneTensorSink sink(spec.tensors[i], where, writer);
    MOKA_RETURN_IF_ERROR(source ? source(i, sink)
                                : give_from_memory(spec.tensors[i], where, &sink));
    MOKA_RETURN_IF_ERROR(sink.finish(layout->tensors[i]));
  }
  MOKA_RETURN_IF_ERROR(writer->take_checksum(&layout->sections[0].xxh3));
  if (!spec.prefix_snapshots.empty()) {
    MOKA_RETURN_IF_ERROR(writer->pad_to(layout->sections[1].offset));
    MOKA_RETURN_IF_ERROR(writer->flush());
    writer->skip_checksum();  // The gap between two sections belongs to neither.
    for (size_t i = 0; i < spec.prefix_snapshots.size(); ++i) {
      const PrefixSnapshot& snapshot = spec.prefix_snapshots[i];
      if (snapshot.data == nullptr) {
        return Status(StatusCode::kInvalidArgument,
                      where + ": prefix snapshot '" + snapshot.name + "' has no data to write");
      }
      MOKA_RETURN_IF_ERROR(writer->pad_to(layout->snapshots[i]));
      MOKA_RETURN_IF_ERROR(writer->write(snapshot.data, static_cast<size_t>(snapshot.size)));
    }
    MOKA_RETURN_IF_ERROR(writer->take_checksum(&layout->sections[1].xxh3));
  }
  MOKA_RETURN_IF_ERROR(writer->pad_to(layout->data_size));
  return writer->flush();
}

// The header stands before the data but holds its checksums: it is written twice, first to take
// its room.
Status write_to(Output* output, const ModelSpec& spec, const std::string& where,
                const TensorSource& source, const Progress& progress) {
  DataLayout layout = plan_layout(spec);
  MOKA_ASSIGN_OR_RETURN(const std::vector<uint8_t> draft, build_header(spec, layout, where));
  MOKA_RETURN_IF_ERROR(output->append(draft.data(), draft.size()));
  DataWriter writer(output, draft.size(), layout.data_size, progress);
  MOKA_RETURN_IF_ERROR(write_data(spec, where, source, &writer, &layout));
  MOKA_ASSIGN_OR_RETURN(const std::vector<uint8_t> header, build_header(spec, layout, where));
  if (header.size() != draft.size()) {
    return Status(StatusCode::kInternal, where + ": the header's size depends on its checksums");
  }
  return output->overwrite_start(header.data(), header.size());
}

}  // namespace

Status write_model(const std::string& path, const ModelSpec& spec, const WriteOptions& options,
                   const TensorSource& source) {
  MOKA_RETURN_IF_ERROR(check_spec(spec, path));
  MOKA_ASSIGN_OR_RETURN(
      AtomicFile file,
      AtomicFile::create(path, options.replace ? Existing::kReplace : Existing::kRefuse));
  FileOutput output(&file);
  MOKA_RETURN_IF_ERROR(write_to(&output, spec, path, source, options.progress));
  return file.commit();
}

Status replace_header(const std::string& path, const Metadata& metadata,
                      const std::optional<TestVector>& test_vector) {
  MOKA_ASSIGN_OR_RETURN(LoadedModel model, load_model_file(path));
  MOKA_RETURN_IF_ERROR(verify_data(model, path));
  model.spec.metadata = metadata;
  model.spec.test_vector = test_vector;
  // Another description, another file; but states in the file name the fingerprint that they knew.
  if (model.spec.prefix_snapshots.empty()) model.spec.fingerprint = 0;
  MOKA_RETURN_IF_ERROR(check_spec(model.spec, path));
  MOKA_ASSIGN_OR_RETURN(const std::vector<uint8_t> header,
                        build_header(model.spec, layout_of(model), path));
  MOKA_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path, Existing::kReplace));
  MOKA_RETURN_IF_ERROR(file.write(header.data(), header.size()));
  const Span<const uint8_t> data = model.bytes.subspan(static_cast<size_t>(model.data_start),
                                                       static_cast<size_t>(model.data_size));
  for (size_t done = 0; done < data.size();) {
    const size_t piece = std::min(piece_at(header.size() + done), data.size() - done);
    MOKA_RETURN_IF_ERROR(file.write(data.data() + done, piece));
    model.map->release(data.data() + done, piece);
    done += piece;
  }
  model = LoadedModel();  // Windows does not replace a file that is mapped.
  return file.commit();
}

void ModelBytes::Free::operator()(uint8_t* p) const {
  ::operator delete(p, std::align_val_t(kDataAlignment));
}

ModelBytes::ModelBytes(Span<const uint8_t> bytes)
    : data_(static_cast<uint8_t*>(
          ::operator new(bytes.size() + 1, std::align_val_t(kDataAlignment)))),
      size_(bytes.size()) {
  if (size_ != 0) std::memcpy(data_.get(), bytes.data(), size_);
}

Result<ModelBytes> write_model_to_memory(const ModelSpec& spec, const TensorSource& source) {
  const std::string where = "model in memory";
  MOKA_RETURN_IF_ERROR(check_spec(spec, where));
  MemoryOutput output;
  const Progress no_progress;
  MOKA_RETURN_IF_ERROR(write_to(&output, spec, where, source, no_progress));
  return ModelBytes(output.bytes());
}

}  // namespace moka
