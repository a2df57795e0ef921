#include "tests/checkpoint_bytes.h"

#include <algorithm>
#include <initializer_list>

#include "converter/crc32c.h"

namespace moka::test {
namespace {

std::string big_endian(uint64_t value, size_t bytes) {
  std::string out;
  for (size_t i = bytes; i-- > 0;) out += static_cast<char>(value >> (8 * i) & 0xff);
  return out;
}

std::string byte(unsigned value) { return std::string(1, static_cast<char>(value)); }

// Numbers of so many bytes each, little-endian.
std::string fields(std::initializer_list<std::pair<uint64_t, size_t>> values) {
  std::string out;
  for (const auto& [value, size] : values) out += little_endian(value, size);
  return out;
}

// Lengths of the prefixes in common, lengths of what is left, then (later) what is left.
struct KeyColumns {
  std::string lengths, suffixes;
};

KeyColumns key_columns(const std::vector<std::string>& keys) {
  std::string prefix_lengths, suffix_lengths, suffixes, previous;
  for (size_t i = 0; i < keys.size(); ++i) {
    size_t common = 0;
    while (i > 0 && common < keys[i].size() && common < previous.size() &&
           keys[i][common] == previous[common]) {
      ++common;
    }
    if (i > 0) prefix_lengths += varint(common);
    suffix_lengths += varint(keys[i].size() - common);
    suffixes += keys[i].substr(common);
    previous = keys[i];
  }
  return {prefix_lengths + suffix_lengths, suffixes};
}

KeyColumns key_columns(const std::vector<OcdbtEntry>& entries) {
  std::vector<std::string> keys;
  keys.reserve(entries.size());
  for (const OcdbtEntry& entry : entries) keys.push_back(entry.key);
  return key_columns(keys);
}

}  // namespace

std::string mp_text(const std::string& text) {
  return byte(0xdb) + big_endian(text.size(), 4) + text;
}
std::string mp_binary(const std::string& bytes) {
  return byte(0xc6) + big_endian(bytes.size(), 4) + bytes;
}
std::string mp_uint(uint64_t value) {
  return value < 128 ? byte(static_cast<unsigned>(value)) : byte(0xcf) + big_endian(value, 8);
}
std::string mp_array(const std::vector<std::string>& elements) {
  std::string out = byte(0xdd) + big_endian(elements.size(), 4);
  for (const std::string& element : elements) out += element;
  return out;
}
std::string mp_map(const std::vector<std::pair<std::string, std::string>>& pairs) {
  std::string out = byte(0xdf) + big_endian(pairs.size(), 4);
  for (const auto& [key, value] : pairs) out += mp_text(key) + value;
  return out;
}
void MsgpackTree::put(const std::string& path, const std::string& value) {
  const size_t slash = path.find('/');
  MsgpackTree& child = children[path.substr(0, slash)];
  if (slash == std::string::npos) {
    child.leaf = value;
  } else {
    child.put(path.substr(slash + 1), value);
  }
}

std::string MsgpackTree::bytes() const {
  if (!leaf.empty()) return leaf;
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const auto& [name, child] : children) pairs.emplace_back(name, child.bytes());
  return mp_map(pairs);
}

std::string mp_extension(int8_t type, const std::string& payload) {
  return byte(0xc9) + big_endian(payload.size(), 4) + byte(static_cast<uint8_t>(type)) + payload;
}
std::string mp_ndarray(const std::vector<uint64_t>& shape, const std::string& type,
                       const std::string& bytes) {
  std::vector<std::string> extents;
  extents.reserve(shape.size());
  for (const uint64_t extent : shape) extents.push_back(mp_uint(extent));
  return mp_extension(1, mp_array({mp_array(extents), mp_text(type), mp_binary(bytes)}));
}

std::string zip(const std::vector<ZipMember>& members, bool zip64) {
  std::string file, directory;
  for (const ZipMember& member : members) {
    const uint64_t at = file.size(), size = member.bytes.size(), name = member.name.size();
    // Flags, method, time, checksum.
    const std::string head = fields({{0, 2}, {member.method, 2}, {0, 8}});
    const std::string sizes = fields({{size, 4}, {size, 4}});
    const std::string extra = fields({{1, 2}, {24, 2}, {size, 8}, {size, 8}, {at, 8}});
    file.append("PK\3\4").append(fields({{45, 2}})).append(head).append(sizes);
    file.append(fields({{name, 2}, {0, 2}})).append(member.name).append(member.bytes);
    directory.append("PK\1\2").append(fields({{45, 2}, {45, 2}})).append(head);
    directory.append(zip64 ? std::string(8, '\xff') : sizes);
    directory.append(fields({{name, 2}, {zip64 ? extra.size() : 0, 2}, {0, 10}}));
    directory.append(fields({{zip64 ? 0xffffffffu : at, 4}})).append(member.name);
    if (zip64) directory.append(extra);
  }
  const uint64_t start = file.size(), count = members.size(), size = directory.size();
  file += directory;
  if (zip64) {
    const uint64_t end64 = file.size();
    file.append("PK\6\6").append(fields({{44, 8}, {45, 2}, {45, 2}, {0, 8}, {count, 8}}));
    file.append(fields({{count, 8}, {size, 8}, {start, 8}}));
    file.append("PK\6\7").append(fields({{0, 4}, {end64, 8}, {1, 4}}));
  }
  file.append("PK\5\6").append(fields({{0, 4}, {count, 2}, {count, 2}, {size, 4}}));
  return file + fields({{zip64 ? 0xffffffffu : start, 4}, {0, 2}});
}

std::string zstd_frame(const std::string& bytes) {
  constexpr size_t kBlock = size_t{1} << 16;
  // Single segment, content size in 4 bytes.
  std::string frame = "\x28\xb5\x2f\xfd\xa0" + little_endian(bytes.size(), 4);
  size_t at = 0;
  do {
    const size_t size = std::min(kBlock, bytes.size() - at);
    const bool last = at + size == bytes.size();
    frame += little_endian(size << 3 | (last ? 1 : 0), 3) + bytes.substr(at, size);
    at += size;
  } while (at < bytes.size());
  return frame;
}

std::string little_endian(uint64_t value, size_t bytes) {
  std::string out;
  for (size_t i = 0; i < bytes; ++i) {
    out += static_cast<char>(i < 8 ? value >> (8 * i) & 0xff : 0);
  }
  return out;
}

std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}

std::string ocdbt_envelope(uint32_t magic, const std::string& body, uint64_t packing,
                           uint64_t version) {
  const std::string rest = varint(version) + varint(packing) + body;
  std::string all = big_endian(magic, 4) + little_endian(12 + rest.size() + 4, 8) + rest;
  return all + little_endian(crc32c(reinterpret_cast<const uint8_t*>(all.data()), all.size()), 4);
}

std::string ocdbt_files(const std::vector<std::string>& paths) {
  const KeyColumns columns = key_columns(paths);
  std::string bases;
  for (size_t i = 0; i < paths.size(); ++i) bases += varint(0);
  return varint(paths.size()) + columns.lengths + bases + columns.suffixes;
}

std::string ocdbt_manifest_body(const std::vector<std::string>& files, uint8_t height,
                                const OcdbtPlace& root, uint64_t kind) {
  std::string body = std::string(16, 'u') + varint(kind) + varint(1024) + varint(1 << 20) +
                     byte(4) + varint(1) + little_endian(0, 4);
  if (kind == 1) return body;
  return body + ocdbt_files(files) + varint(1) + varint(7) + byte(height) + varint(root.file) +
         varint(root.offset) + varint(root.length) + varint(0) + varint(0) + varint(0) +
         little_endian(0, 8) + varint(0);
}

std::string ocdbt_leaf_body(const std::vector<std::string>& files,
                            const std::vector<OcdbtEntry>& entries) {
  const KeyColumns keys = key_columns(entries);
  std::string lengths, kinds, ids, offsets, values;
  for (const OcdbtEntry& entry : entries) {
    const bool inside = entry.place.length == 0;
    lengths += varint(inside ? entry.value.size() : entry.place.length);
    kinds += varint(inside ? 0 : 1);
    if (inside) {
      values += entry.value;
    } else {
      ids += varint(entry.place.file);
      offsets += varint(entry.place.offset);
    }
  }
  return byte(0) + ocdbt_files(files) + varint(entries.size()) + keys.lengths + keys.suffixes +
         lengths + kinds + ids + offsets + values;
}

std::string ocdbt_interior_body(const std::vector<std::string>& files, uint8_t height,
                                const std::vector<OcdbtEntry>& entries) {
  const KeyColumns keys = key_columns(entries);
  std::string prefixes, ids, offsets, lengths, statistics;
  for (const OcdbtEntry& entry : entries) {
    prefixes += varint(entry.common_prefix);
    ids += varint(entry.place.file);
    offsets += varint(entry.place.offset);
    lengths += varint(entry.place.length);
    statistics += varint(0) + varint(0) + varint(0);
  }
  return byte(height) + ocdbt_files(files) + varint(entries.size()) + keys.lengths + prefixes +
         keys.suffixes + ids + offsets + lengths + statistics;
}

}  // namespace moka::test
