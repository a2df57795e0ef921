#include "converter/ocdbt_format.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "converter/crc32c.h"
#include "converter/key_value_store.h"
#include "converter/zstd_stream.h"

namespace moka::ocdbt {
namespace {

constexpr uint32_t kManifestMagic = 0x0cdb3a2a;
constexpr uint32_t kNodeMagic = 0x0cdb20de;
constexpr size_t kMaxFiles = size_t{1} << 16;    // in one table
constexpr size_t kMaxPath = 4096;                // longer ones no system opens
constexpr size_t kMaxKey = 4096;                 // names of arrays are far shorter
constexpr size_t kMaxArity = size_t{1} << 18;    // entries of a node
constexpr size_t kMaxTextBytes = kMaxNodeBytes;  // of all paths or keys of a node, prefixes undone
constexpr uint64_t kMissing = std::numeric_limits<uint64_t>::max();

// Reads fields one after another. After the first error all reads give zero.
class Fields {
 public:
  explicit Fields(const std::vector<uint8_t>& bytes)
      : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  bool ok() const { return ok_; }
  bool at_end() const { return ok_ && at_ == end_; }
  size_t left() const { return static_cast<size_t>(end_ - at_); }
  void fail() {
    ok_ = false;
    at_ = end_;
  }

  uint8_t byte() {
    if (at_ == end_) {
      fail();
      return 0;
    }
    return *at_++;
  }

  // Least significant 7 bits first; the high bit says that more follow.
  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const uint8_t next = byte();
      const uint64_t bits = next & 0x7fu;
      if (shift == 63 && bits > 1) break;  // beyond 64 bits
      value |= bits << shift;
      if ((next & 0x80) == 0) return value;
    }
    fail();
    return 0;
  }

  // A varint of at most `max`.
  size_t bounded(size_t max) {
    const uint64_t value = varint();
    if (value <= max) return static_cast<size_t>(value);
    fail();
    return 0;
  }

  uint64_t little_endian(size_t bytes) {
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; ++i) value |= static_cast<uint64_t>(byte()) << (8 * i);
    return value;
  }

  std::string text(size_t count) {
    if (count > left()) {
      fail();
      return "";
    }
    std::string text(reinterpret_cast<const char*>(at_), count);
    at_ += count;
    return text;
  }

  // A column of `count` numbers, each at most `max`. A number takes a byte at least.
  std::vector<size_t> column(size_t count, size_t max) {
    std::vector<size_t> values;
    if (count > left()) {
      fail();
      return std::vector<size_t>(0);
    }
    values.reserve(count);
    for (size_t i = 0; i < count && ok_; ++i) values.push_back(bounded(max));
    return values;
  }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
  bool ok_ = true;
};

Status corrupt(const std::string& where, const std::string& what) {
  return Status(StatusCode::kCorrupt, where + ": " + what);
}

// Checks magic, length, version and checksum; gives the body, unpacked.
Result<std::vector<uint8_t>> open_envelope(const std::vector<uint8_t>& bytes, uint32_t magic,
                                           const char* kind, const std::string& where) {
  constexpr size_t kHead = 12, kTail = 4;
  if (bytes.size() < kHead + kTail + 2) {
    return corrupt(where, "is " + std::to_string(bytes.size()) + " bytes long, too short for " +
                              kind + " of OCDBT");
  }
  Fields head(bytes);
  uint32_t found = 0;
  for (int i = 0; i < 4; ++i) found = found << 8 | head.byte();  // big-endian, alone of all
  if (found != magic) return corrupt(where, std::string("is no ") + kind + " of OCDBT");
  const uint64_t length = head.little_endian(8);
  if (length != bytes.size()) {
    return corrupt(where, "says that it has " + std::to_string(length) + " bytes, there are " +
                              std::to_string(bytes.size()));
  }
  const size_t body_end = bytes.size() - kTail;
  uint32_t stored = 0;
  for (size_t i = 0; i < kTail; ++i) {
    stored |= static_cast<uint32_t>(bytes[body_end + i]) << (8 * i);
  }
  if (crc32c(bytes.data(), body_end) != stored) {
    return corrupt(where, "is damaged: its CRC-32C does not match");
  }
  const uint64_t version = head.varint();
  const uint64_t packing = head.varint();
  if (!head.ok() || head.left() < kTail) return corrupt(where, "ends within its header");
  if (version != 0) {
    return Status(StatusCode::kUnsupported,
                  where + ": has format version " + std::to_string(version) + ", expected 0");
  }
  const uint8_t* body = bytes.data() + (bytes.size() - head.left());
  const auto body_size = static_cast<size_t>(bytes.data() + body_end - body);
  if (packing == 0) return std::vector<uint8_t>(body, body + body_size);
  if (packing == 1) return zstd_decode(body, body_size, kMaxNodeBytes, where);
  return Status(StatusCode::kUnsupported, where + ": is packed by method " +
                                              std::to_string(packing) +
                                              ", expected 0 (not) or 1 (Zstandard)");
}

// Paths with prefixes in common with the one before: three columns of lengths, then the bytes.
std::vector<File> read_files(Fields* in, const std::string& transitive, size_t* text_bytes) {
  const size_t count = in->bounded(kMaxFiles);
  if (count == 0) return {};
  std::vector<size_t> prefixes = in->column(count - 1, kMaxPath);
  prefixes.insert(prefixes.begin(), 0);
  const std::vector<size_t> suffixes = in->column(count, kMaxPath);
  const std::vector<size_t> bases = in->column(count, kMaxPath);
  std::vector<File> files;
  std::string previous;
  for (size_t i = 0; i < count && in->ok(); ++i) {
    if (prefixes[i] > previous.size()) in->fail();
    if (!in->ok()) break;
    const std::string path = previous.substr(0, prefixes[i]) + in->text(suffixes[i]);
    if (bases[i] > path.size()) in->fail();
    *text_bytes += transitive.size() + path.size();
    if (!is_safe_relative_path(transitive + path) || *text_bytes > kMaxTextBytes) in->fail();
    if (!in->ok()) break;
    files.push_back({transitive + path, transitive + path.substr(0, bases[i])});
    previous = path;
  }
  if (!in->ok()) files.clear();
  return files;
}

// Columns of file number, offset and, for nodes, length, into `targets`.
void read_locations(Fields* in, size_t files, bool with_length,
                    const std::vector<Location*>& targets) {
  for (Location* target : targets) {
    target->file = in->bounded(kMaxFiles);
    if (target->file >= files) in->fail();
    if (!in->ok()) return;
  }
  for (Location* target : targets) target->offset = in->varint();
  if (!with_length) return;
  for (Location* target : targets) target->length = in->varint();
}

bool is_missing(const Location& location) {
  return location.offset == kMissing && location.length == kMissing;
}

// The columns of the manifest's inline versions; takes the newest.
Status read_versions(Fields* in, const std::string& where, Manifest* manifest) {
  const size_t count = in->bounded(kMaxArity);
  if (!in->ok() || count == 0 || count > in->left()) return corrupt(where, "has no versions");
  std::vector<uint64_t> generations(count);
  std::vector<uint8_t> heights(count);
  std::vector<Location> locations(count);
  std::vector<Location*> targets;
  targets.reserve(count);
  for (uint64_t& generation : generations) generation = in->varint();
  for (uint8_t& height : heights) height = in->byte();
  for (Location& location : locations) targets.push_back(&location);
  read_locations(in, manifest->files.size(), true, targets);
  for (size_t i = 0; i < 3 * count; ++i) in->varint();      // statistics
  for (size_t i = 0; i < count; ++i) in->little_endian(8);  // times
  if (!in->ok()) return corrupt(where, "has a damaged list of versions");
  for (size_t i = 0; i < count; ++i) {
    if (generations[i] == 0 || (i > 0 && generations[i] <= generations[i - 1])) {
      return corrupt(where, "has versions that do not ascend");
    }
  }
  manifest->height = heights.back();
  if (!is_missing(locations.back())) manifest->root = locations.back();
  return Status();
}

// The key columns: common prefix with the key before, length of the rest, for children the part
// that all keys below share; then the bytes.
void read_keys(Fields* in, Node* node) {
  std::vector<Entry>* entries = &node->entries;
  const size_t count = entries->size();
  std::vector<size_t> prefixes = in->column(count - 1, kMaxKey);
  prefixes.insert(prefixes.begin(), 0);
  const std::vector<size_t> suffixes = in->column(count, kMaxKey);
  std::vector<size_t> common(count, 0);
  if (node->height > 0) common = in->column(count, kMaxKey);
  for (size_t i = 0; i < count && in->ok(); ++i) {
    Entry& entry = (*entries)[i];
    const std::string* previous = i == 0 ? nullptr : &(*entries)[i - 1].key;
    if (previous != nullptr && prefixes[i] > previous->size()) in->fail();
    if (!in->ok()) return;
    if (previous != nullptr) entry.key = previous->substr(0, prefixes[i]);
    entry.key += in->text(suffixes[i]);
    entry.common_prefix = common[i];
    node->text_bytes += entry.key.size();
    const bool ascends = previous == nullptr || *previous < entry.key;
    if (!ascends || entry.common_prefix > entry.key.size() || node->text_bytes > kMaxTextBytes) {
      in->fail();
    }
  }
}

void read_leaf(Fields* in, Node* node) {
  std::vector<Location*> indirect;
  std::vector<Entry>* entries = &node->entries;
  for (Entry& entry : *entries) entry.location.length = in->varint();
  for (Entry& entry : *entries) {
    const uint64_t kind = in->varint();
    if (kind > 1) in->fail();
    entry.is_inline = kind == 0;
    if (!entry.is_inline) indirect.push_back(&entry.location);
  }
  read_locations(in, node->files.size(), false, indirect);
  for (Entry& entry : *entries) {
    if (!entry.is_inline) continue;
    if (entry.location.length > in->left()) in->fail();
    if (!in->ok()) return;
    entry.value = in->text(static_cast<size_t>(entry.location.length));
    node->text_bytes += entry.value.size();  // bytes of the node itself: bounded by it
  }
}

void read_children(Fields* in, Node* node) {
  std::vector<Location*> targets;
  for (Entry& entry : node->entries) targets.push_back(&entry.location);
  read_locations(in, node->files.size(), true, targets);
  for (size_t i = 0; i < 3 * targets.size() && in->ok(); ++i) in->varint();  // statistics
}

}  // namespace

Result<Manifest> parse_manifest(const std::vector<uint8_t>& bytes, const std::string& where) {
  MOKA_ASSIGN_OR_RETURN(const auto body, open_envelope(bytes, kManifestMagic, "manifest", where));
  Fields in(body);
  in.text(16);  // the store's identifier
  const uint64_t kind = in.varint();
  in.varint();  // largest inline value
  in.varint();  // largest node
  in.byte();    // arity of the tree of versions
  const uint64_t packing = in.varint();
  if (packing == 1) in.little_endian(4);  // level
  if (!in.ok() || kind > 1) return corrupt(where, "has a damaged configuration");
  if (packing > 1) {
    return Status(StatusCode::kUnsupported, where + ": packs by method " + std::to_string(packing) +
                                                ", expected 0 (not) or 1 (Zstandard)");
  }
  Manifest manifest;
  manifest.numbered = kind == 1;
  if (manifest.numbered) return manifest;
  size_t text_bytes = 0;
  manifest.files = read_files(&in, "", &text_bytes);
  if (!in.ok()) return corrupt(where, "has a damaged table of files");
  MOKA_RETURN_IF_ERROR(read_versions(&in, where, &manifest));
  return manifest;  // older versions follow; they are of no use here
}

Result<Node> parse_node(const std::vector<uint8_t>& bytes, const std::string& base,
                        const std::string& where) {
  MOKA_ASSIGN_OR_RETURN(const auto body, open_envelope(bytes, kNodeMagic, "tree node", where));
  Fields in(body);
  Node node;
  node.height = in.byte();
  node.files = read_files(&in, base, &node.text_bytes);
  if (!in.ok()) return corrupt(where, "has a damaged table of files");
  const size_t count = in.bounded(kMaxArity);
  if (count == 0 || count > in.left()) return corrupt(where, "is a tree node without entries");
  node.entries.resize(count);
  read_keys(&in, &node);
  if (!in.ok()) return corrupt(where, "has damaged keys");
  if (node.height > 0) {
    read_children(&in, &node);
  } else {
    read_leaf(&in, &node);
  }
  if (!in.at_end()) return corrupt(where, "has damaged entries");
  return node;
}

}  // namespace moka::ocdbt
