#include "converter/checkpoint_reader.h"

namespace moka {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 16;  // of the file, held while it is converted

}  // namespace

Status count_elements(const std::string& where, SourceTensor* tensor) {
  if (tensor->shape.size() > kMaxRank) {
    return Status(StatusCode::kCorrupt, where + ": has " + std::to_string(tensor->shape.size()) +
                                            " extents, expected at most " +
                                            std::to_string(kMaxRank));
  }
  tensor->elements = 1;
  for (const uint64_t extent : tensor->shape) {
    if (extent != 0 && tensor->elements > kMaxElements / extent) {
      return Status(StatusCode::kCorrupt, where + ": has more than 2^48 numbers");
    }
    tensor->elements *= extent;
  }
  return Status();
}

bool numpy_source_type(std::string_view name, SourceType* type) {
  struct Name {
    std::string_view name;
    SourceType type;
  };
  constexpr Name kNames[] = {
      {"float32", SourceType::kF32},
      {"float16", SourceType::kF16},
      {"bfloat16", SourceType::kBF16},
      {"float64", SourceType::kF64},
      {"int8", SourceType::kI8},
      {"int16", SourceType::kI16},
      {"int32", SourceType::kI32},
      {"int64", SourceType::kI64},
      {"uint8", SourceType::kU8},
      {"uint16", SourceType::kU16},
      {"uint32", SourceType::kU32},
      {"uint64", SourceType::kU64},
      {"bool", SourceType::kBool},
      {"float8_e4m3fn", SourceType::kF8E4M3},
      {"float8_e5m2", SourceType::kF8E5M2},
  };
  for (const Name& known : kNames) {
    if (known.name != name) continue;
    *type = known.type;
    return true;
  }
  return false;
}

Status unknown_source_type(const std::string& where, std::string_view name) {
  return Status(StatusCode::kUnsupported, where + ": is of the number type " + in_quotes(name) +
                                              ", expected float32, float16, bfloat16 or float64");
}

Status read_weights(const InputFile& file, uint64_t offset, SourceType type, size_t count,
                    float* out) {
  const size_t size = source_type_size(type);
  uint8_t piece[kPieceBytes];
  while (count > 0) {
    const size_t step = std::min(count, kPieceBytes / size);
    MOKA_RETURN_IF_ERROR(file.read(offset, piece, step * size));
    weights_to_f32(type, piece, step, out);
    offset += step * size;
    count -= step;
    out += step;
  }
  return Status();
}

std::optional<uint64_t> integer_value(SourceType type, const uint8_t* bytes) {
  const bool is_signed = type == SourceType::kI32 || type == SourceType::kI64;
  if (!is_signed && type != SourceType::kU32 && type != SourceType::kU64) return std::nullopt;
  const size_t size = source_type_size(type);
  if (is_signed && (bytes[size - 1] & 0x80) != 0) return std::nullopt;
  uint64_t value = 0;
  for (size_t i = size; i-- > 0;) value = value << 8 | bytes[i];
  return value;
}

std::string strip_wrappers(std::vector<SourceTensor>* tensors) {
  std::string taken;
  for (bool again = !tensors->empty(); again;) {
    again = false;
    for (const char* wrapper : {"module.", "_orig_mod."}) {
      const std::string prefix = wrapper;
      if (!std::all_of(tensors->begin(), tensors->end(), [&](const SourceTensor& tensor) {
            return tensor.name.size() > prefix.size() && tensor.name.rfind(prefix, 0) == 0;
          })) {
        continue;
      }
      for (SourceTensor& tensor : *tensors) tensor.name.erase(0, prefix.size());
      taken += prefix;
      again = true;
    }
  }
  return taken;
}

}  // namespace moka
