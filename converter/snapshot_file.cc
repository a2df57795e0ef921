#include "converter/snapshot_file.h"

#include <algorithm>
#include <cstring>

#include "converter/writer_header.h"
#include "runtime/atomic_file.h"
#include "runtime/checksum.h"

namespace moka {
namespace {

constexpr uint64_t kPiece = uint64_t{4} << 20;
constexpr uint8_t kZeros[4096] = {};

uint64_t align_up(uint64_t value) {
  return (value + kDataAlignment - 1) / kDataAlignment * kDataAlignment;
}

// Gives the snapshots their places behind all other sections, and their section its checksum.
void place_snapshots(const std::vector<PrefixSnapshot>& snapshots, DataLayout* layout) {
  std::vector<Section>& sections = layout->sections;
  sections.erase(std::remove_if(sections.begin(), sections.end(),
                                [](const Section& s) { return s.kind == SectionKind::kSnapshots; }),
                 sections.end());
  uint64_t end = 0;
  for (const Section& section : sections) end = std::max(end, section.offset + section.size);
  layout->snapshots.clear();
  if (!snapshots.empty()) {
    Section section{SectionKind::kSnapshots, align_up(end), 0, 0, ""};
    Xxh3Stream hash;
    end = section.offset;
    for (const PrefixSnapshot& snapshot : snapshots) {
      const uint64_t begin = align_up(end);
      hash.update(kZeros, static_cast<size_t>(begin - end));
      hash.update(snapshot.data, static_cast<size_t>(snapshot.size));
      layout->snapshots.push_back(begin);
      end = begin + snapshot.size;
    }
    section.size = end - section.offset;
    section.xxh3 = hash.digest();
    sections.push_back(section);
  }
  layout->data_size = align_up(end + kTailBytes);
}

// XXH3-64 of the header, which stands behind it.
uint64_t checksum_of(const std::vector<uint8_t>& header) {
  uint32_t size;
  std::memcpy(&size, header.data(), sizeof size);
  return xxh3_64(header.data(), sizeof size + size);
}

// The file keeps its fingerprint. A header that has it by itself does not need to say it: then the
// file is the very one that it was before it had snapshots.
Result<std::vector<uint8_t>> header_of(ModelSpec* spec, const DataLayout& layout,
                                       uint64_t fingerprint, const std::string& where) {
  if (spec->prefix_snapshots.empty()) {
    spec->fingerprint = 0;
    MOKA_ASSIGN_OR_RETURN(std::vector<uint8_t> header, build_header(*spec, layout, where));
    if (checksum_of(header) == fingerprint) return header;
  }
  spec->fingerprint = fingerprint;
  return build_header(*spec, layout, where);
}

// Writes the data section: bytes at rising offsets, zeros between them.
class DataCopy {
 public:
  explicit DataCopy(AtomicFile* file) : file_(file) {}

  Status pad_to(uint64_t offset) {
    while (at_ < offset) {
      const uint64_t piece = std::min<uint64_t>(sizeof kZeros, offset - at_);
      MOKA_RETURN_IF_ERROR(file_->write(kZeros, static_cast<size_t>(piece)));
      at_ += piece;
    }
    return Status();
  }

  // Of a mapped file, whose pages are given back behind it; `map` may be null.
  Status put(uint64_t offset, const void* data, uint64_t size, FileMap* map) {
    MOKA_RETURN_IF_ERROR(pad_to(offset));
    const auto* bytes = static_cast<const uint8_t*>(data);
    for (uint64_t done = 0; done < size;) {
      const auto piece = static_cast<size_t>(std::min(kPiece, size - done));
      MOKA_RETURN_IF_ERROR(file_->write(bytes + done, piece));
      if (map != nullptr) map->release(bytes + done, piece);
      done += piece;
    }
    at_ += size;
    return Status();
  }

 private:
  AtomicFile* file_;
  uint64_t at_ = 0;
};

}  // namespace

Result<SnapshotFile> SnapshotFile::open(const std::string& path) {
  MOKA_ASSIGN_OR_RETURN(LoadedModel file, load_model_file(path));
  MOKA_RETURN_IF_ERROR(verify_data(file, path));
  return SnapshotFile(std::move(file));
}

uint64_t SnapshotFile::weights_checksum() const {
  for (const Section& section : file_.sections) {
    if (section.kind == SectionKind::kWeights) return section.xxh3;
  }
  return 0;  // the loader has seen to it that there is one
}

void SnapshotFile::put(MadeSnapshot snapshot) {
  states_.push_back(std::move(snapshot.state));
  PrefixSnapshot entry = std::move(snapshot.entry);
  entry.data = states_.back().data();
  entry.size = states_.back().size();
  for (PrefixSnapshot& old : file_.spec.prefix_snapshots) {
    if (old.name != entry.name) continue;
    old = std::move(entry);
    return;
  }
  file_.spec.prefix_snapshots.push_back(std::move(entry));
}

void SnapshotFile::remove(const std::string& name) {
  std::vector<PrefixSnapshot>& all = file_.spec.prefix_snapshots;
  all.erase(std::remove_if(all.begin(), all.end(),
                           [&name](const PrefixSnapshot& s) { return s.name == name; }),
            all.end());
}

Status SnapshotFile::write(const std::string& path) {
  ModelSpec& spec = file_.spec;
  MOKA_RETURN_IF_ERROR(check_spec(spec, path));
  std::vector<PrefixSnapshot> snapshots;
  snapshots.swap(spec.prefix_snapshots);  // some lie elsewhere, and all get new places
  DataLayout layout = layout_of(file_);
  snapshots.swap(spec.prefix_snapshots);
  place_snapshots(spec.prefix_snapshots, &layout);
  MOKA_ASSIGN_OR_RETURN(const std::vector<uint8_t> header,
                        header_of(&spec, layout, file_.fingerprint, path));
  MOKA_ASSIGN_OR_RETURN(AtomicFile out, AtomicFile::create(path, Existing::kReplace));
  MOKA_RETURN_IF_ERROR(out.write(header.data(), header.size()));
  DataCopy copy(&out);
  const uint8_t* data = file_.bytes.data() + file_.data_start;
  for (const Section& section : layout.sections) {
    if (section.kind == SectionKind::kSnapshots) continue;
    MOKA_RETURN_IF_ERROR(
        copy.put(section.offset, data + section.offset, section.size, file_.map.get()));
  }
  for (size_t i = 0; i < layout.snapshots.size(); ++i) {
    const PrefixSnapshot& snapshot = spec.prefix_snapshots[i];
    MOKA_RETURN_IF_ERROR(copy.put(layout.snapshots[i], snapshot.data, snapshot.size, nullptr));
  }
  MOKA_RETURN_IF_ERROR(copy.pad_to(layout.data_size));
  file_ = LoadedModel();  // Windows does not replace a file that is mapped.
  return out.commit();
}

}  // namespace moka
