#include "converter/checkpoint.h"

#include <cstring>

#include "runtime/half.h"

namespace moka {
namespace {

// Byte by byte, so that neither alignment nor the host's byte order matters; compilers make plain
// loads of it.
template <class T>
T little_endian(const uint8_t* bytes) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i)
    value |= static_cast<T>(static_cast<T>(bytes[i]) << (8 * i));
  return value;
}

struct TypeFacts {
  const char* name;
  size_t size;
};

TypeFacts facts(SourceType type) {
  switch (type) {
    case SourceType::kF32: return {"F32", 4};
    case SourceType::kF16: return {"F16", 2};
    case SourceType::kBF16: return {"BF16", 2};
    case SourceType::kF64: return {"F64", 8};
    case SourceType::kI8: return {"I8", 1};
    case SourceType::kI16: return {"I16", 2};
    case SourceType::kI32: return {"I32", 4};
    case SourceType::kI64: return {"I64", 8};
    case SourceType::kU8: return {"U8", 1};
    case SourceType::kU16: return {"U16", 2};
    case SourceType::kU32: return {"U32", 4};
    case SourceType::kU64: return {"U64", 8};
    case SourceType::kBool: return {"BOOL", 1};
    case SourceType::kF8E4M3: return {"F8_E4M3", 1};
    case SourceType::kF8E5M2: return {"F8_E5M2", 1};
  }
  return {"unknown", 1};
}

}  // namespace

const char* checkpoint_form_name(CheckpointForm form) {
  switch (form) {
    case CheckpointForm::kSafetensors: return "safetensors";
    case CheckpointForm::kPyTorch: return "PyTorch";
    case CheckpointForm::kMsgpack: return "msgpack";
    case CheckpointForm::kOrbax: return "Orbax";
  }
  return "unknown";
}

const char* source_type_name(SourceType type) { return facts(type).name; }
size_t source_type_size(SourceType type) { return facts(type).size; }

bool is_weight_type(SourceType type) {
  return type == SourceType::kF32 || type == SourceType::kF16 || type == SourceType::kBF16 ||
         type == SourceType::kF64;
}

std::string SourceTensor::shape_string() const {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i != 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

void weights_to_f32(SourceType type, const uint8_t* bytes, size_t count, float* out) {
  switch (type) {
    case SourceType::kF32:
      for (size_t i = 0; i < count; ++i)
        out[i] = float_from_bits(little_endian<uint32_t>(bytes + 4 * i));
      break;
    case SourceType::kF16:
      for (size_t i = 0; i < count; ++i)
        out[i] = half_to_float(little_endian<uint16_t>(bytes + 2 * i));
      break;
    case SourceType::kBF16:
      for (size_t i = 0; i < count; ++i) {
        out[i] = bfloat16_to_float(little_endian<uint16_t>(bytes + 2 * i));
      }
      break;
    case SourceType::kF64:
      for (size_t i = 0; i < count; ++i) {
        const auto bits = little_endian<uint64_t>(bytes + 8 * i);
        double value;
        std::memcpy(&value, &bits, sizeof value);
        // The largest double that rounds to a finite float; the conversion beyond it is undefined.
        constexpr double kLimit = 0x1.ffffffp127;
        out[i] = value >= kLimit    ? float_from_bits(0x7f800000u)
                 : value <= -kLimit ? float_from_bits(0xff800000u)
                                    : static_cast<float>(value);
      }
      break;
    default:  // is_weight_type() was asked before
      std::memset(out, 0, count * sizeof *out);
      break;
  }
}

}  // namespace moka
