// Any bytes as a model file: an error or a model that is safe to use, never a crash.
//
// No corpus is needed. The first byte chooses: below 128, the rest is a file as it is. From 128 on,
// the rest are changes to the header of a good model, five bytes each (three of place, one of
// width, one of value), and the checksum is made right again, which no fuzzer could guess.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "converter/writer.h"
#include "runtime/checksum.h"
#include "runtime/loader.h"
#include "tests/fuzz/targets.h"
#include "tests/spec_builder.h"

namespace {

// Touches every byte that the model names.
uint64_t read_everything(const moka::LoadedModel& model) {
  uint64_t sum = 0;
  for (const moka::Tensor& tensor : model.spec.tensors) {
    sum += moka::xxh3_64(tensor.data, static_cast<size_t>(tensor.size));
    if (tensor.scales != nullptr) {
      sum += moka::xxh3_64(tensor.scales, static_cast<size_t>(tensor.scale_size));
    }
  }
  for (const moka::PrefixSnapshot& snapshot : model.spec.prefix_snapshots) {
    sum += moka::xxh3_64(snapshot.data, static_cast<size_t>(snapshot.size));
  }
  return sum;
}

void load(const moka::ModelBytes& file) {
  const moka::Result<moka::LoadedModel> model = moka::load_model(file.bytes(), "fuzz");
  if (!model.ok()) return;
  const moka::Status verified = moka::verify_data(model.value(), "fuzz");
  const moka::Status filled = moka::verify_tiles(model.value(), "fuzz");
  const moka::Status supported = moka::check_supported(model.value().spec, "fuzz");
  // A comparison that the compiler cannot leave out, and that never holds.
  if (read_everything(model.value()) + verified.message().size() + filled.message().size() +
          supported.message().size() ==
      1) {
    std::abort();
  }
  // What was accepted can be written and read again.
  const moka::Result<moka::ModelBytes> again = moka::write_model_to_memory(model.value().spec);
  if (!again.ok() || !moka::load_model(again.value().bytes(), "fuzz").ok()) std::abort();
}

std::vector<moka::ModelBytes>& good_models() {
  static std::vector<moka::ModelBytes> models = [] {
    std::vector<moka::ModelBytes> result;
    for (int which = 0; which < moka::test::kFormatModels; ++which) {
      const moka::test::TestModel model = moka::test::make_format_model(which);
      result.push_back(moka::write_model_to_memory(model.spec).value());
    }
    return result;
  }();
  return models;
}

// The file is as it was when this ends: a copy of its data each time would be most of the work.
void load_changed(moka::ModelBytes& file, const uint8_t* data, size_t size) {
  uint32_t prefix = 0;
  std::memcpy(&prefix, file.data(), sizeof prefix);
  const size_t header = size_t{4} + prefix;
  const std::vector<uint8_t> good(file.data(), file.data() + header + sizeof(uint64_t));
  for (; size >= 5; data += 5, size -= 5) {
    const size_t place = 4 + (data[0] | data[1] << 8 | data[2] << 16) % (header - 8);
    // One byte, or a word that is small, large or negative.
    uint32_t value = data[4];
    if (data[3] & 1) value = ~value;
    if (data[3] & 2) value <<= 24;
    std::memcpy(file.data() + place, &value, data[3] & 4 ? 4 : 1);
  }
  const uint64_t checksum = moka::xxh3_64(file.data(), header);
  std::memcpy(file.data() + header, &checksum, sizeof checksum);
  load(file);
  std::memcpy(file.data(), good.data(), good.size());
}

}  // namespace

void moka::fuzz::loader_fuzz(const uint8_t* data, size_t size) {
  if (size == 0) return;
  if (data[0] < 128) {
    load(moka::ModelBytes({data + 1, size - 1}));
  } else {
    std::vector<moka::ModelBytes>& models = good_models();
    load_changed(models[data[0] % models.size()], data + 1, size - 1);
  }
}
