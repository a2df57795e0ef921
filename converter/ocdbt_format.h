// OCDBT's encoding of manifests and nodes, after the format's public description in TensorStore's
// documentation. Inside of the OCDBT reader.
#ifndef MOKA_CONVERTER_OCDBT_FORMAT_H_
#define MOKA_CONVERTER_OCDBT_FORMAT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "moka/status.h"

namespace moka::ocdbt {

// Of a manifest or node, packed or unpacked. Orbax asks for nodes of up to 100 MB.
constexpr size_t kMaxNodeBytes = size_t{128} << 20;

// A data file, by its path below the store's folder.
struct File {
  std::string path;
  std::string base;  // the leading part of `path` that paths inside a node there are relative to
};

struct Location {
  size_t file = 0;  // of the manifest's or node's table
  uint64_t offset = 0, length = 0;
};

struct Manifest {
  bool numbered = false;  // the versions are in files manifest.<16 hex digits>, and not here
  std::vector<File> files;
  uint8_t height = 0;            // of the tree of the newest version
  std::optional<Location> root;  // its root; none: the store is empty
};

// A child of an interior node, or a key of a leaf. Keys are relative to the node's prefix.
struct Entry {
  std::string key;
  size_t common_prefix = 0;  // child: how much of `key` all keys below begin with
  Location location;         // child, or a value that lies in a data file
  bool is_inline = false;    // the value is `value`
  std::string value;
};

struct Node {
  uint8_t height = 0;  // 0: a leaf
  std::vector<File> files;
  std::vector<Entry> entries;  // at least one, keys ascending
  size_t text_bytes = 0;       // of all paths, keys and values
};

// `where` begins messages. kCorrupt: damaged; kUnsupported: a version or packing that is not known.
Result<Manifest> parse_manifest(const std::vector<uint8_t>& bytes, const std::string& where);
// `base` is File::base of the file that the node lies in.
Result<Node> parse_node(const std::vector<uint8_t>& bytes, const std::string& base,
                        const std::string& where);

}  // namespace moka::ocdbt

#endif  // MOKA_CONVERTER_OCDBT_FORMAT_H_
