// Whatever bytes come as a msgpack checkpoint: an error or a sound result.
//
// No corpus is needed. The first byte chooses: below 128, the rest is the file. From 128 on, the
// rest are changes to a good training state, three bytes each: two of place, one of value.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "converter/checkpoint.h"
#include "tests/checkpoint_bytes.h"
#include "tests/fuzz/targets.h"

namespace {

using namespace moka::test;  // NOLINT

std::string good_state() {
  const std::string array = mp_ndarray({2, 1}, "float32", std::string(8, 'x'));
  return mp_map(
      {{"model", mp_map({{"step", mp_uint(300)},
                         {"opt_state", mp_array({mp_extension(9, "?"), array})},
                         {"params",
                          mp_map({{"a", array},
                                  {"b", mp_map({{"__msgpack_chunked_array__", "\xc3"},
                                                {"shape", mp_map({{"0", mp_uint(4)}})},
                                                {"chunks", mp_map({{"0", array}, {"1", array}})}})},
                                  {"c", "\xca????"}})},
                         {"batch_stats", mp_map({{"m", array}})}})}});
}

void read_everything(moka::Checkpoint& checkpoint) {
  std::vector<float> values;
  for (size_t i = 0; i < checkpoint.tensors().size(); ++i) {
    const moka::SourceTensor& tensor = checkpoint.tensors()[i];
    if (!moka::is_weight_type(tensor.type)) continue;
    // The data lies inside the input, so the size is bounded by it.
    values.resize(tensor.elements);
    if (!checkpoint.read(i, 0, values.size(), values.data()).ok()) std::abort();
    if (values.size() > 1 && !checkpoint.read(i, 1, values.size() - 1, values.data()).ok()) {
      std::abort();
    }
  }
}

// Whether the bytes are a checkpoint.
bool open_and_read(const std::string& file) {
  static const int descriptor = memfd_create("input", MFD_CLOEXEC);
  static const std::string path = "/proc/self/fd/" + std::to_string(descriptor);
  if (ftruncate(descriptor, 0) != 0 ||
      pwrite(descriptor, file.data(), file.size(), 0) != static_cast<ssize_t>(file.size())) {
    std::abort();
  }
  auto checkpoint = moka::open_flax_msgpack(path);
  if (checkpoint.ok()) read_everything(*checkpoint.value());
  return checkpoint.ok();
}

}  // namespace

void moka::fuzz::msgpack_fuzz(const uint8_t* data, size_t size) {
  // What the changes begin with must be sound, or they test little.
  static const bool kSound = open_and_read(good_state());
  if (!kSound) std::abort();
  static const std::string good = good_state();
  if (size == 0) return;
  std::string file(data + 1, data + size);
  if (data[0] >= 128) {
    file = good;
    for (size_t i = 1; i + 3 <= size; i += 3) {
      file[(data[i] * 256u + data[i + 1]) % file.size()] = static_cast<char>(data[i + 2]);
    }
  }
  (void)open_and_read(file);
}
