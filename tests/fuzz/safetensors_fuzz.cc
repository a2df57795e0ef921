// Whatever bytes come as a checkpoint, a .npy file or a configuration: an error or a sound result.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "converter/checkpoint.h"
#include "converter/json.h"
#include "converter/latte_config.h"
#include "converter/latte_layout.h"
#include "converter/npy.h"
#include "tests/fuzz/targets.h"

namespace {

void read_everything(moka::Checkpoint& checkpoint) {
  std::vector<float> values;
  for (size_t i = 0; i < checkpoint.tensors().size(); ++i) {
    const moka::SourceTensor& tensor = checkpoint.tensors()[i];
    if (!moka::is_weight_type(tensor.type)) continue;
    // The data lies inside the input, so the size is bounded by it.
    values.resize(tensor.elements);
    if (!checkpoint.read(i, 0, values.size(), values.data()).ok()) std::abort();
  }
}

void fuzz_safetensors(const uint8_t* data, size_t size) {
  static const int file = memfd_create("input", MFD_CLOEXEC);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  if (ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) != static_cast<ssize_t>(size))
    std::abort();
  auto checkpoint = moka::open_safetensors(path);
  if (!checkpoint.ok()) return;
  read_everything(*checkpoint.value());
  moka::LatteConfig config;
  config.vocab_size = 4;
  config.width = config.heads = config.latents = config.layers = config.hidden = 1;
  (void)moka::latte_layout(config, moka::LatteNames(config), *checkpoint.value(),
                           moka::WeightType::kInt8, "fuzz")
      .ok();
}

void fuzz_config(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto json = moka::parse_json(text, "fuzz");
  if (!json.ok()) return;
  (void)moka::parse_latte_config(json.value(), "fuzz").ok();
  (void)moka::parse_sampling(json.value(), "fuzz").ok();
}

void fuzz_npy(const uint8_t* data, size_t size) {
  const auto array = moka::parse_npy({data, size}, "fuzz");
  if (!array.ok()) return;
  (void)array.value().to_int32().ok();
  (void)array.value().to_float32().ok();
}

}  // namespace

void moka::fuzz::safetensors_fuzz(const uint8_t* data, size_t size) {
  fuzz_safetensors(data, size);
  fuzz_config(data, size);
  fuzz_npy(data, size);
}
