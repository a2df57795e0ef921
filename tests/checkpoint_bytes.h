// Bytes of checkpoint containers, as tests and fuzz targets need them.
#ifndef MOKA_TESTS_CHECKPOINT_BYTES_H_
#define MOKA_TESTS_CHECKPOINT_BYTES_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace moka::test {

// Numbers, as they lie in memory.
template <class T>
std::string raw(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

// ---- msgpack ----
std::string mp_text(const std::string& text);
std::string mp_binary(const std::string& bytes);
std::string mp_uint(uint64_t value);
std::string mp_array(const std::vector<std::string>& elements);
std::string mp_map(const std::vector<std::pair<std::string, std::string>>& pairs);  // text keys
std::string mp_extension(int8_t type, const std::string& payload);
// flax.serialization's array.
std::string mp_ndarray(const std::vector<uint64_t>& shape, const std::string& type,
                       const std::string& bytes);

// A tree of maps with encoded values at its leaves.
struct MsgpackTree {
  std::map<std::string, MsgpackTree> children;
  std::string leaf;

  void put(const std::string& path, const std::string& value);  // "params/Dense_0/kernel"
  std::string bytes() const;
};

// ---- zip, members stored ----
struct ZipMember {
  std::string name, bytes;
  uint16_t method = 0;
};
std::string zip(const std::vector<ZipMember>& members, bool zip64 = false);

// ---- Zstandard, blocks as they are ----
std::string zstd_frame(const std::string& bytes);

// ---- OCDBT ----
std::string little_endian(uint64_t value, size_t bytes);
std::string varint(uint64_t value);
constexpr uint32_t kOcdbtManifest = 0x0cdb3a2a, kOcdbtNode = 0x0cdb20de;
// The frame of manifests and nodes: magic, length, version, packing, body, checksum.
std::string ocdbt_envelope(uint32_t magic, const std::string& body, uint64_t packing = 0,
                           uint64_t version = 0);
std::string ocdbt_files(const std::vector<std::string>& paths);  // no base paths
struct OcdbtPlace {
  size_t file = 0;
  uint64_t offset = 0, length = 0;
};
std::string ocdbt_manifest_body(const std::vector<std::string>& files, uint8_t height,
                                const OcdbtPlace& root, uint64_t kind = 0);
struct OcdbtEntry {
  std::string key;
  std::string value;         // inline, unless `place` has a length
  OcdbtPlace place;          // of the value or the child
  size_t common_prefix = 0;  // of a child
};
std::string ocdbt_leaf_body(const std::vector<std::string>& files,
                            const std::vector<OcdbtEntry>& entries);
std::string ocdbt_interior_body(const std::vector<std::string>& files, uint8_t height,
                                const std::vector<OcdbtEntry>& entries);

}  // namespace moka::test

#endif  // MOKA_TESTS_CHECKPOINT_BYTES_H_
