// check_supported: the line between what the format can say and what this version runs. When a
// member learns to run, its refusal here goes, and nothing else in the loader changes.
#include <string>

#include "runtime/features.h"
#include "runtime/kernels/dense.h"
#include "runtime/model_spec.h"

namespace moka {
namespace {

class SupportChecker {
 public:
  SupportChecker(const ModelSpec& spec, const std::string& where) : spec_(spec), where_(where) {}

  Status check() const {
    for (size_t i = 0; i < spec_.blocks.size(); ++i) {
      const std::string place = "block " + std::to_string(i);
      MOKA_RETURN_IF_ERROR(check_block(place, spec_.blocks[i]));
      if (std::holds_alternative<LanguageHead>(spec_.head) && sees_ahead(spec_.blocks[i].mixer)) {
        return Status(StatusCode::kUnsupported,
                      where_ + ": " + place + " sees ahead (" + member_name(spec_.blocks[i].mixer) +
                          "), but the head is 'language': each token would see the next one, "
                          "which it is to predict");
      }
    }
    for (size_t i = 0; spec_.memory && i < spec_.memory->blocks.size(); ++i) {
      const std::string place = "memory block " + std::to_string(i);
      MOKA_RETURN_IF_ERROR(check_block(place, spec_.memory->blocks[i]));
      if (std::holds_alternative<SoftmaxMixer>(spec_.memory->blocks[i].mixer)) {
        return refuse(place, "uses the mixer 'softmax'");
      }
    }
    return check_tensors();
  }

 private:
  Status refuse(const std::string& place, const std::string& what) const {
    return Status(StatusCode::kUnsupported, where_ + ": " + place + " " + what +
                                                ", which this version of Moka cannot run yet");
  }

  Status check_kv_heads(const std::string& place, uint32_t heads, uint32_t kv_heads) const {
    if (kv_heads == 0 || kv_heads == heads) return Status();
    return refuse(place, "shares " + std::to_string(kv_heads) + " kv_heads among " +
                             std::to_string(heads) + " heads");
  }

  Status check_block(const std::string& place, const Block& block) const {
    return std::visit([&](const auto& mixer) { return check_mixer(place, mixer); }, block.mixer);
  }

  Status check_mixer(const std::string&, const LatteMixer&) const { return Status(); }
  Status check_mixer(const std::string&, const SoftmaxMixer&) const { return Status(); }
  Status check_mixer(const std::string&, const LinformerMixer&) const { return Status(); }

  Status check_mixer(const std::string& place, const WindowMixer& mixer) const {
    return check_kv_heads(place, mixer.heads, mixer.kv_heads);
  }

  Status check_mixer(const std::string& place, const MacchiatoMixer& mixer) const {
    if (mixer.latent_scope != LatentScope::kAll) {
      return refuse(place, "uses the mixer 'macchiato' with latent_scope 'outside_window'");
    }
    if (mixer.vapor_on_local)
      return refuse(place, "uses the mixer 'macchiato' with vapor_on_local");
    return check_kv_heads(place, mixer.heads, mixer.kv_heads);
  }

  Status check_tensors() const {
    for (const Tensor& tensor : spec_.tensors) {
      const std::string place = "tensor '" + tensor.name + "'";
      const std::string type = std::string("has type ") + dtype_name(tensor.dtype);
      switch (tensor.dtype) {
        case DType::kF32:
        case DType::kF16:
        case DType::kBF16: break;
        case DType::kI8:
          if (tensor.quantization != Quantization::kPerChannel) {
            return refuse(place, type + " with scales per block");
          }
          break;
        case DType::kI4:
          if (tensor.layout != TensorLayout::kTiles) return refuse(place, type + " in rows");
          break;
        default: return refuse(place, type);
      }
      // Sums of products are kept in 32 bits.
      const bool integer = tensor.dtype == DType::kI8 || tensor.dtype == DType::kI4;
      if (integer && tensor.shape.size() == 2 && tensor.shape[1] > kDenseMaxInputs) {
        return refuse(place, type + " and " + std::to_string(tensor.shape[1]) +
                                 " columns, more than " + std::to_string(kDenseMaxInputs));
      }
    }
    const Tensor* positions = spec_.tensor(spec_.positions.table);
    if (positions != nullptr && positions->dtype != DType::kF32) {
      return refuse("the table of learned positions",
                    std::string("has type ") + dtype_name(positions->dtype));
    }
    return Status();
  }

  const ModelSpec& spec_;
  const std::string& where_;
};

}  // namespace

Status check_supported(const ModelSpec& spec, const std::string& where) {
  return SupportChecker(spec, where).check();
}

}  // namespace moka
