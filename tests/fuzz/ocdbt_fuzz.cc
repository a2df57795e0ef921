// Whatever bytes come as a tensor store: an error or a sound result.
//
// No corpus is needed. The first byte chooses what the rest is: the body of a manifest or of a tree
// node (their checksums, which no fuzzer could guess, are made right), the description of an array
// with a chunk, Zstandard data, or changes to a good store, three bytes each: two of place, one of
// value.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "converter/checkpoint.h"
#include "converter/key_value_store.h"
#include "converter/ocdbt_format.h"
#include "converter/zarr.h"
#include "converter/zstd_stream.h"
#include "tests/checkpoint_bytes.h"
#include "tests/fuzz/targets.h"

namespace {

using namespace moka::test;  // NOLINT

constexpr uint64_t kMaxRead = uint64_t{1} << 16;  // fill values make much of nothing

std::vector<uint8_t> as_bytes(const std::string& text) { return {text.begin(), text.end()}; }

// A store whose values are all the same bytes.
class OneValue : public moka::KeyValueStore {
 public:
  std::string description, chunk;
  bool v3 = false;
  moka::Result<std::optional<uint64_t>> size(const std::string& key) override {
    const std::string* value = find(key);
    if (value == nullptr) return std::optional<uint64_t>();
    return std::optional<uint64_t>(value->size());
  }
  moka::Status read(const std::string& key, uint64_t offset, uint8_t* out, size_t count) override {
    const std::string* value = find(key);
    if (value == nullptr || offset > value->size() || count > value->size() - offset) std::abort();
    std::memcpy(out, value->data() + offset, count);
    return moka::Status();
  }
  std::vector<std::string> keys(const std::string&) override { return {}; }
  const std::string& path() const override { return path_; }
  std::vector<std::string> files() const override { return {}; }

 private:
  const std::string* find(const std::string& key) const {
    if (key == (v3 ? "x/zarr.json" : "x/.zarray")) return &description;
    if (key == "x/.zarray" || key == "x/zarr.json") return nullptr;
    return &chunk;
  }
  std::string path_ = "fuzz";
};

void fuzz_array(const std::string& input, bool v3) {
  const size_t cut = input.find('\0');
  OneValue store;
  store.v3 = v3;
  store.description = input.substr(0, cut);
  if (cut != std::string::npos) store.chunk = input.substr(cut + 1);
  moka::ChunkReader chunks(&store);
  auto array = moka::ZarrArray::open(&chunks, "x", false);
  if (!array.ok() || array.value().tensor().elements == 0) return;
  const moka::SourceTensor tensor = array.value().tensor();
  const uint64_t count = std::min(tensor.elements, kMaxRead);
  std::vector<float> values(count);
  std::vector<uint8_t> bytes(count * moka::source_type_size(tensor.type));
  (void)array.value().read_bytes(tensor.elements - count, count, bytes.data()).ok();
  if (!moka::is_weight_type(tensor.type)) return;
  (void)array.value().read(0, count, values.data()).ok();
  (void)array.value().read(tensor.elements - count, count, values.data()).ok();
}

void write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

const std::string& folder() {
  static const std::string kFolder = [] {
    const char* const base = std::getenv("TMPDIR");
    std::string name = std::string(base != nullptr ? base : "/tmp") + "/moka-fuzz-XXXXXX";
    if (mkdtemp(name.data()) == nullptr || mkdir((name + "/d").c_str(), 0700) != 0) std::abort();
    return name;
  }();
  return kFolder;
}

// Opens a store of two files as a checkpoint, and reads what it has. Whether it is one.
bool open_store(const std::string& manifest, const std::string& node) {
  write(folder() + "/manifest.ocdbt", ocdbt_envelope(kOcdbtManifest, manifest));
  write(folder() + "/d/node", ocdbt_envelope(kOcdbtNode, node));
  auto checkpoint = moka::open_orbax(folder());
  if (!checkpoint.ok()) return false;
  for (size_t i = 0; i < checkpoint.value()->tensors().size(); ++i) {
    const moka::SourceTensor& tensor = checkpoint.value()->tensors()[i];
    if (!moka::is_weight_type(tensor.type)) continue;
    std::vector<float> values(std::min(tensor.elements, kMaxRead));
    (void)checkpoint.value()->read(i, 0, values.size(), values.data()).ok();
  }
  return true;
}

std::string good_leaf() {
  const std::string description =
      R"({"zarr_format":2,"shape":[2,3],"chunks":[2,2],"dtype":"<f4","order":"C",)"
      R"("compressor":{"id":"zstd"}})";
  const std::string chunk = zstd_frame(std::string(16, 'x'));
  return ocdbt_leaf_body({"d/node", "d/other"}, {{"params.w/.zarray", description, {}, 0},
                                                 {"params.w/0.0", chunk, {}, 0},
                                                 {"params.w/0.1", "", {0, 12, 25}, 0}});
}

bool fuzz_changes(const uint8_t* data, size_t size) {
  std::string node = good_leaf();
  const size_t length = ocdbt_envelope(kOcdbtNode, node).size();
  std::string manifest = ocdbt_manifest_body({"d/node"}, 0, {0, 0, length});
  for (size_t i = 0; i + 3 <= size; i += 3) {
    const size_t at = (data[i] * 256u + data[i + 1]) % (node.size() + manifest.size());
    (at < node.size() ? node[at] : manifest[at - node.size()]) = static_cast<char>(data[i + 2]);
  }
  return open_store(manifest, node);
}

}  // namespace

void moka::fuzz::ocdbt_fuzz(const uint8_t* data, size_t size) {
  // What the changes begin with must be sound, or they test little.
  static const bool kSound = fuzz_changes(nullptr, 0);
  if (!kSound) std::abort();
  if (size == 0) return;
  const std::string rest(data + 1, data + size);
  switch (data[0] % 7) {
    case 0:
      (void)moka::ocdbt::parse_manifest(as_bytes(ocdbt_envelope(kOcdbtManifest, rest)), "fuzz")
          .ok();
      (void)moka::ocdbt::parse_manifest(as_bytes(rest), "fuzz").ok();
      break;
    case 1:
      (void)moka::ocdbt::parse_node(as_bytes(ocdbt_envelope(kOcdbtNode, rest)), "base/", "fuzz")
          .ok();
      break;
    case 2: fuzz_array(rest, false); break;
    case 3: fuzz_array(rest, true); break;
    case 4: (void)moka::zstd_decode(data + 1, size - 1, kMaxRead, "fuzz").ok(); break;
    default: (void)fuzz_changes(data + 1, size - 1); break;
  }
}
