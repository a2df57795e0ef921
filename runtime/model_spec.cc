#include "runtime/model_spec.h"

#include <limits>

namespace moka {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

uint64_t multiply(uint64_t a, uint64_t b) { return b != 0 && a > kMax / b ? kMax : a * b; }

}  // namespace

const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kF32: return "f32";
    case DType::kF16: return "f16";
    case DType::kBF16: return "bf16";
    case DType::kI8: return "i8";
    case DType::kI4: return "i4";
    case DType::kI32: return "i32";
  }
  return "unknown";
}

uint64_t Tensor::elements() const {
  if (shape.empty()) return 0;
  uint64_t product = 1;
  for (const uint32_t extent : shape) product = multiply(product, extent);
  return product;
}

std::string Tensor::shape_string() const {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i != 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

uint64_t tensor_data_size(DType dtype, uint64_t rows, uint64_t columns) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32: return multiply(multiply(rows, columns), 4);
    case DType::kF16:
    case DType::kBF16: return multiply(multiply(rows, columns), 2);
    case DType::kI8: return multiply(rows, columns);
    case DType::kI4: return multiply(rows, columns / 2 + columns % 2);
  }
  return kMax;
}

bool reads_from_memory(const Mixer& mixer) {
  const auto* latte = std::get_if<LatteMixer>(&mixer);
  return latte != nullptr && latte->source == Source::kMemory;
}

bool sees_ahead(const Mixer& mixer) {
  const auto* latte = std::get_if<LatteMixer>(&mixer);
  return (latte != nullptr && latte->source == Source::kSelf && !latte->causal) ||
         std::holds_alternative<LinformerMixer>(mixer);
}

}  // namespace moka
