// Whatever bytes come as a file of torch.save: an error or a sound result, and nothing executed.
//
// No corpus is needed. The first byte chooses: below 64, the rest is the archive. Below 128, it is
// the pickle of a good archive. From 128 on, the rest are changes to a good archive, three bytes
// each: two of place, one of value.
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

constexpr uint64_t kMaxRead = uint64_t{1} << 18;  // a stride of zero makes much of little

std::string archive(const std::string& pickle) {
  return zip(
      {{"a/data.pkl", pickle}, {"a/byteorder", "little"}, {"a/data/0", std::string(64, 'x')}},
      true);
}

std::string text(const std::string& words) { return "X" + little_endian(words.size(), 4) + words; }

// {"model": {"w": tensor}} of 2 x 3 numbers, not contiguous.
std::string good_pickle() {
  const std::string storage =
      "(" + text("storage") + "ctorch\nFloatStorage\n" + text("0") + text("cpu") + "K\x10tQ";
  const std::string tensor = "ctorch._utils\n_rebuild_tensor_v2\n(" + storage +
                             "K\x01K\x02K\x03\x86K\x01K\x02\x86\x89" +
                             "ccollections\nOrderedDict\n)RtR";
  return "\x80\x02}" + text("model") + "}" + text("w") + tensor + "ss.";
}

void read_everything(moka::Checkpoint& checkpoint) {
  std::vector<float> values;
  for (size_t i = 0; i < checkpoint.tensors().size(); ++i) {
    const moka::SourceTensor& tensor = checkpoint.tensors()[i];
    if (!moka::is_weight_type(tensor.type)) continue;
    values.resize(std::min(tensor.elements, kMaxRead));
    const uint64_t last = tensor.elements - values.size();
    for (const uint64_t first : {uint64_t{0}, last}) {
      if (!checkpoint.read(i, first, values.size(), values.data()).ok()) std::abort();
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
  auto checkpoint = moka::open_torch(path);
  if (checkpoint.ok()) read_everything(*checkpoint.value());
  return checkpoint.ok();
}

}  // namespace

void moka::fuzz::torch_fuzz(const uint8_t* data, size_t size) {
  // What the changes begin with must be sound, or they test little.
  static const bool kSound = open_and_read(archive(good_pickle()));
  if (!kSound) std::abort();
  static const std::string good = archive(good_pickle());
  if (size == 0) return;
  std::string file(data + 1, data + size);
  if (data[0] >= 128) {
    file = good;
    for (size_t i = 1; i + 3 <= size; i += 3) {
      file[(data[i] * 256u + data[i + 1]) % file.size()] = static_cast<char>(data[i + 2]);
    }
  } else if (data[0] >= 64) {
    file = archive(file);
  }
  (void)open_and_read(file);
}
