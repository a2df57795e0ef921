#include "converter/torch_archive.h"

#include <algorithm>
#include <vector>

#include "converter/json.h"

namespace moka {
namespace {

// Sizes and signatures of the zip format's records (PKWARE's APPNOTE, 4.3 and 4.5).
constexpr size_t kEndSize = 22, kLocatorSize = 20, kEnd64Size = 56, kEntrySize = 46,
                 kLocalSize = 30;
constexpr uint32_t kEnd = 0x06054b50, kLocator = 0x07064b50, kEnd64 = 0x06064b50;
constexpr uint32_t kEntry = 0x02014b50, kLocal = 0x04034b50;
constexpr uint16_t kZip64Extra = 1;

constexpr uint64_t kMaxDirectory = uint64_t{64} << 20;
constexpr size_t kMaxMembers = size_t{1} << 18;

uint64_t number(const uint8_t* bytes, size_t size) {
  uint64_t value = 0;
  for (size_t i = size; i-- > 0;) value = value << 8 | bytes[i];
  return value;
}

// Replaces those of the three numbers that say "look into the extra field" by what is there, in
// their fixed order. False: the field does not have them.
bool apply_zip64(const uint8_t* extra, size_t size, uint64_t* unpacked, uint64_t* packed,
                 uint64_t* header) {
  constexpr uint64_t kElsewhere = 0xffffffffu;
  const bool wanted = *unpacked == kElsewhere || *packed == kElsewhere || *header == kElsewhere;
  if (!wanted) return true;
  while (size >= 4) {
    const uint64_t id = number(extra, 2);
    auto length = static_cast<size_t>(number(extra + 2, 2));
    extra += 4;
    size -= 4;
    if (length > size) return false;
    if (id != kZip64Extra) {
      extra += length;
      size -= length;
      continue;
    }
    for (uint64_t* value : {unpacked, packed, header}) {
      if (*value != kElsewhere) continue;
      if (length < 8) return false;
      *value = number(extra, 8);
      extra += 8;
      length -= 8;
    }
    return true;
  }
  return false;
}

}  // namespace

Status TorchArchive::corrupt(const std::string& what) const {
  return Status(StatusCode::kCorrupt, file_.path() + ": " + what);
}

Result<TorchArchive::Directory> TorchArchive::read_zip64(uint64_t locator) const {
  uint8_t record[kEnd64Size];
  MOKA_RETURN_IF_ERROR(file_.read(locator, record, kLocatorSize));
  const uint64_t at = number(record + 8, 8);
  if (at > locator || locator - at < kEnd64Size) {
    return corrupt("is a zip archive whose zip64 record lies outside of it");
  }
  MOKA_RETURN_IF_ERROR(file_.read(at, record, kEnd64Size));
  if (number(record, 4) != kEnd64) return corrupt("is a zip archive with a damaged zip64 record");
  return Directory{number(record + 48, 8), number(record + 40, 8), number(record + 32, 8)};
}

Result<TorchArchive::Directory> TorchArchive::find_directory() const {
  // The end record is the last thing in the file but for a comment of at most 65535 bytes.
  const auto tail =
      static_cast<size_t>(std::min<uint64_t>(file_.size(), kEndSize + uint64_t{65535}));
  if (tail < kEndSize) return corrupt("is too short for a zip archive");
  std::vector<uint8_t> bytes(tail);
  const uint64_t base = file_.size() - tail;
  MOKA_RETURN_IF_ERROR(file_.read(base, bytes.data(), tail));
  size_t at = tail - kEndSize;
  const auto is_end = [&](size_t i) {
    return number(&bytes[i], 4) == kEnd && number(&bytes[i + 20], 2) == tail - kEndSize - i;
  };
  while (at > 0 && !is_end(at)) --at;
  if (!is_end(at)) return corrupt("has no end of a zip archive; it is cut short or none");
  const uint8_t* end = &bytes[at];
  if (number(end + 4, 2) != number(end + 6, 2)) {
    return Status(StatusCode::kUnsupported, file_.path() + ": is one of several zip volumes");
  }
  if (base + at >= kLocatorSize) {
    uint8_t signature[4];
    MOKA_RETURN_IF_ERROR(file_.read(base + at - kLocatorSize, signature, sizeof signature));
    if (number(signature, 4) == kLocator) return read_zip64(base + at - kLocatorSize);
  }
  return Directory{number(end + 16, 4), number(end + 12, 4), number(end + 10, 2)};
}

Status TorchArchive::read_directory(const Directory& directory) {
  if (directory.offset > file_.size() || directory.size > file_.size() - directory.offset) {
    return corrupt("has its zip directory at byte " + std::to_string(directory.offset) +
                   ", outside of the file");
  }
  if (directory.size > kMaxDirectory || directory.count > kMaxMembers) {
    return Status(StatusCode::kOutOfRange,
                  file_.path() + ": has a zip directory of " + std::to_string(directory.count) +
                      " members, expected at most " + std::to_string(kMaxMembers));
  }
  std::vector<uint8_t> bytes(static_cast<size_t>(directory.size));
  MOKA_RETURN_IF_ERROR(file_.read(directory.offset, bytes.data(), bytes.size()));
  size_t at = 0;
  for (uint64_t i = 0; i < directory.count; ++i) {
    const uint8_t* entry = bytes.data() + at;
    if (bytes.size() - at < kEntrySize || number(entry, 4) != kEntry) {
      return corrupt("has a damaged zip directory");
    }
    const auto name_size = static_cast<size_t>(number(entry + 28, 2));
    const auto extra_size = static_cast<size_t>(number(entry + 30, 2));
    const size_t size = kEntrySize + name_size + extra_size +
                        static_cast<size_t>(number(entry + 32, 2));  // and the comment
    if (size > bytes.size() - at) return corrupt("has a damaged zip directory");
    const std::string name(reinterpret_cast<const char*>(entry + kEntrySize), name_size);
    uint64_t packed = number(entry + 20, 4), unpacked = number(entry + 24, 4);
    uint64_t header = number(entry + 42, 4);
    if (!apply_zip64(entry + kEntrySize + name_size, extra_size, &unpacked, &packed, &header)) {
      return corrupt("has a damaged zip64 field of the member " + in_quotes(name));
    }
    const bool stored =
        (number(entry + 8, 2) & 1) == 0 && number(entry + 10, 2) == 0 && packed == unpacked;
    if (!members_.emplace(name, Entry{header, unpacked, stored}).second) {
      return corrupt("has two members of the name " + in_quotes(name));
    }
    at += size;
  }
  return Status();
}

Result<TorchArchive> TorchArchive::open(const std::string& path) {
  MOKA_ASSIGN_OR_RETURN(InputFile file, InputFile::open(path));
  TorchArchive archive(std::move(file));
  MOKA_ASSIGN_OR_RETURN(const Directory directory, archive.find_directory());
  MOKA_RETURN_IF_ERROR(archive.read_directory(directory));
  const std::string pickle = "data.pkl";
  for (const auto& [name, entry] : archive.members_) {
    const size_t slash = name.find('/');
    if (slash == std::string::npos || name.compare(slash + 1, std::string::npos, pickle) != 0) {
      continue;
    }
    archive.folder_ = name.substr(0, slash + 1);
    if (archive.has("constants.pkl")) {
      return Status(StatusCode::kUnsupported,
                    path +
                        ": is a TorchScript program; save the state_dict() of its module "
                        "with torch.save");
    }
    return archive;
  }
  return Status(StatusCode::kUnsupported,
                path + ": is a zip archive without data.pkl, so torch.save did not write it");
}

Result<TorchArchive::Member> TorchArchive::find(const std::string& name) const {
  const auto found = members_.find(folder_ + name);
  if (found == members_.end()) {
    return Status(StatusCode::kNotFound,
                  file_.path() + ": has no member " + in_quotes(folder_ + name));
  }
  const Entry& entry = found->second;
  if (!entry.stored) {
    return Status(StatusCode::kUnsupported,
                  file_.path() + ": the member " + in_quotes(found->first) +
                      " is compressed or encrypted, as torch.save never has it; unpack the "
                      "archive and pack it again without (zip -0)");
  }
  const auto outside = [&]() {
    return corrupt("the member " + in_quotes(found->first) + " of " + std::to_string(entry.size) +
                   " bytes does not lie in the file");
  };
  uint8_t local[kLocalSize];
  if (entry.header > file_.size() || file_.size() - entry.header < kLocalSize) return outside();
  MOKA_RETURN_IF_ERROR(file_.read(entry.header, local, kLocalSize));
  if (number(local, 4) != kLocal) return outside();
  // Its name and extra field, which PyTorch pads so that the data is aligned.
  const uint64_t skip = kLocalSize + number(local + 26, 2) + number(local + 28, 2);
  const uint64_t left = file_.size() - entry.header;
  if (skip > left || entry.size > left - skip) return outside();
  return Member{entry.header + skip, entry.size};
}

}  // namespace moka
