// The safetensors container: 8 bytes of little-endian header length, a JSON header
// {"name": {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {...}}, then the data,
// which the tensors cover without gap or overlap.
#include <algorithm>
#include <utility>

#include "converter/checkpoint.h"
#include "converter/file.h"
#include "converter/json.h"

namespace moka {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxHeader = uint64_t{32} << 20;
constexpr size_t kMaxRank = 8;
constexpr size_t kPieceBytes = size_t{1} << 16;  // of the file, held while it is converted

struct Extent {
  uint64_t begin = 0, end = 0;  // within the data
};

Status corrupt(const std::string& where, const std::string& what) {
  return Status(StatusCode::kCorrupt, where + ": " + what);
}

Result<SourceType> parse_type(const json& entry, const std::string& where) {
  const auto found = entry.find("dtype");
  if (found == entry.end() || !found->is_string()) return corrupt(where, "has no dtype");
  const auto& name = found->get_ref<const std::string&>();
  for (int i = 0; i <= static_cast<int>(SourceType::kF8E5M2); ++i) {
    const auto type = static_cast<SourceType>(i);
    if (name == source_type_name(type)) return type;
  }
  return Status(StatusCode::kUnsupported, where + ": dtype is " + in_quotes(name) +
                                              ", expected \"F32\", \"F16\", \"BF16\" or \"F64\"");
}

// Fills shape and elements. Products are bounded, so that sizes of any type fit 64 bits.
Status parse_shape(const json& entry, const std::string& where, SourceTensor* tensor) {
  const auto shape = entry.find("shape");
  if (shape == entry.end() || !shape->is_array()) return corrupt(where, "has no shape");
  if (shape->size() > kMaxRank) {
    return corrupt(where, "has " + std::to_string(shape->size()) + " extents, expected at most " +
                              std::to_string(kMaxRank));
  }
  constexpr uint64_t kMaxElements = uint64_t{1} << 48;
  tensor->elements = 1;
  for (const json& extent : *shape) {
    if (!extent.is_number_unsigned()) return corrupt(where, "has an extent that is no number");
    const auto value = extent.get<uint64_t>();
    if (value != 0 && tensor->elements > kMaxElements / value) {
      return corrupt(where, "has more than 2^48 numbers");
    }
    tensor->shape.push_back(value);
    tensor->elements *= value;
  }
  return Status();
}

Status parse_extent(const json& entry, const std::string& where, uint64_t data_size,
                    const SourceTensor& tensor, Extent* extent) {
  const auto offsets = entry.find("data_offsets");
  if (offsets == entry.end() || !offsets->is_array() || offsets->size() != 2 ||
      !(*offsets)[0].is_number_unsigned() || !(*offsets)[1].is_number_unsigned()) {
    return corrupt(where, "data_offsets is missing, expected two numbers");
  }
  *extent = {(*offsets)[0].get<uint64_t>(), (*offsets)[1].get<uint64_t>()};
  if (extent->begin > extent->end || extent->end > data_size) {
    return corrupt(where, "lies at bytes " + std::to_string(extent->begin) + " to " +
                              std::to_string(extent->end) + ", the file has " +
                              std::to_string(data_size) + " bytes of data");
  }
  if (extent->end - extent->begin != tensor.bytes()) {
    return corrupt(where, "has " + std::to_string(extent->end - extent->begin) + " bytes, " +
                              source_type_name(tensor.type) + " " + tensor.shape_string() +
                              " needs " + std::to_string(tensor.bytes()));
  }
  return Status();
}

class SafetensorsFile : public Checkpoint {
 public:
  explicit SafetensorsFile(InputFile file)
      : Checkpoint(CheckpointForm::kSafetensors), file_(std::move(file)) {
    files_ = {file_.path()};
  }

  Status parse_header() {
    const std::string& path = file_.path();
    uint8_t prefix[8];
    if (file_.size() < sizeof prefix) {
      return corrupt(path, "is " + std::to_string(file_.size()) +
                               " bytes long, too short for a safetensors file");
    }
    MOKA_RETURN_IF_ERROR(file_.read(0, prefix, sizeof prefix));
    uint64_t length = 0;
    for (size_t i = 0; i < sizeof prefix; ++i)
      length |= static_cast<uint64_t>(prefix[i]) << (8 * i);
    if (length > file_.size() - sizeof prefix) {
      return corrupt(path, "says that its header has " + std::to_string(length) +
                               " bytes, the file has " + std::to_string(file_.size()) +
                               "; it is cut short or no safetensors file");
    }
    if (length > kMaxHeader) {
      return Status(StatusCode::kOutOfRange, path + ": has a header of " + std::to_string(length) +
                                                 " bytes, expected at most " +
                                                 std::to_string(kMaxHeader));
    }
    std::string text(static_cast<size_t>(length), '\0');
    MOKA_RETURN_IF_ERROR(file_.read(sizeof prefix, text.data(), text.size()));
    data_start_ = sizeof prefix + length;
    MOKA_ASSIGN_OR_RETURN(const json header, parse_json(text, path + ": header"));
    if (!header.is_object()) return corrupt(path, "has a header that is no JSON object");
    return parse_entries(header);
  }

  Status read(size_t tensor, uint64_t first, size_t count, float* out) override {
    const SourceType type = tensors_[tensor].type;
    const size_t size = source_type_size(type);
    uint8_t piece[kPieceBytes];
    while (count > 0) {
      const size_t step = std::min(count, kPieceBytes / size);
      const uint64_t offset = data_start_ + extents_[tensor].begin + first * size;
      MOKA_RETURN_IF_ERROR(file_.read(offset, piece, step * size));
      weights_to_f32(type, piece, step, out);
      first += step;
      count -= step;
      out += step;
    }
    return Status();
  }

 private:
  Status parse_entries(const json& header) {
    const uint64_t data_size = file_.size() - data_start_;
    for (const auto& [name, entry] : header.items()) {  // sorted by name
      const std::string where = file_.path() + ": tensor " + in_quotes(name);
      if (name == "__metadata__") continue;  // free text of the program that wrote the file
      if (!entry.is_object()) return corrupt(where, "is no JSON object");
      SourceTensor tensor;
      tensor.name = name;
      Extent extent;
      MOKA_ASSIGN_OR_RETURN(tensor.type, parse_type(entry, where));
      MOKA_RETURN_IF_ERROR(parse_shape(entry, where, &tensor));
      MOKA_RETURN_IF_ERROR(parse_extent(entry, where, data_size, tensor, &extent));
      tensors_.push_back(std::move(tensor));
      extents_.push_back(extent);
    }
    return check_cover(data_size);
  }

  // Every byte of the data belongs to exactly one tensor.
  Status check_cover(uint64_t data_size) const {
    std::vector<size_t> order(extents_.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return std::pair(extents_[a].begin, extents_[a].end) <
             std::pair(extents_[b].begin, extents_[b].end);
    });
    uint64_t covered = 0;
    for (const size_t i : order) {
      if (extents_[i].begin != covered) {
        return corrupt(file_.path() + ": tensor " + in_quotes(tensors_[i].name),
                       "begins at byte " + std::to_string(extents_[i].begin) +
                           " of the data, the tensor before it ends at " + std::to_string(covered));
      }
      covered = extents_[i].end;
    }
    if (covered != data_size) {
      return corrupt(file_.path(), "has " + std::to_string(data_size) +
                                       " bytes of data, its tensors take " +
                                       std::to_string(covered));
    }
    return Status();
  }

  InputFile file_;
  uint64_t data_start_ = 0;
  std::vector<Extent> extents_;
};

}  // namespace

Result<std::unique_ptr<Checkpoint>> open_safetensors(const std::string& path) {
  MOKA_ASSIGN_OR_RETURN(InputFile file, InputFile::open(path));
  auto checkpoint = std::make_unique<SafetensorsFile>(std::move(file));
  MOKA_RETURN_IF_ERROR(checkpoint->parse_header());
  return std::unique_ptr<Checkpoint>(std::move(checkpoint));
}

}  // namespace moka
