// The data section as the header describes it: sections, tensors, snapshots. Every offset is
// checked against the bytes that are there, and nothing may overlap by accident.
#include <algorithm>

#include "runtime/loader_header.h"
#include "runtime/spec_checker.h"

namespace moka {
const char* section_name(SectionKind kind) {
  switch (kind) {
    case SectionKind::kWeights: return "weights";
    case SectionKind::kSnapshots: return "snapshots";
    case SectionKind::kPackedWeights: return "packed weights";
  }
  return "unknown";
}

void HeaderReader::read_sections(const fb::Model& header, LoadedModel* model) {
  const auto& entries = *header.sections();
  if (!require(entries.size() <= 64, "more than 64 sections")) return;
  if (!require(model->data_size >= kTailBytes, "no room for the tail of the data section")) return;
  for (const fb::Section* entry : entries) {
    Section section;
    section.kind = enumeration<SectionKind::kPackedWeights>("section.kind", entry->kind());
    section.offset = entry->offset();
    section.size = entry->size();
    section.xxh3 = entry->xxh3();
    section.key = text(entry->key());
    sections_.push_back(std::move(section));
  }
  std::stable_sort(sections_.begin(), sections_.end(),
                   [](const Section& a, const Section& b) { return a.offset < b.offset; });
  const uint64_t limit = model->data_size - kTailBytes;
  uint64_t end = 0;
  int weights = 0, snapshots = 0;
  for (const Section& section : sections_) {
    weights += section.kind == SectionKind::kWeights;
    snapshots += section.kind == SectionKind::kSnapshots;
    const std::string name = std::string("section '") + section_name(section.kind) + "'";
    if (section.offset % kDataAlignment != 0) {
      fail(name + " begins at byte " + std::to_string(section.offset) +
           " of the data, which is not a multiple of " + std::to_string(kDataAlignment));
    } else if (section.offset < end) {
      fail(name + " overlaps the section before it");
    } else if (section.offset > limit || section.size > limit - section.offset) {
      fail(name + " has offset " + std::to_string(section.offset) + " and size " +
           std::to_string(section.size) + ", but sections end by byte " + std::to_string(limit));
    }
    if (!status_.ok()) return;
    end = section.offset + section.size;
  }
  require(weights == 1, "there must be one section of weights");
  require(snapshots <= 1, "there is more than one section of snapshots");
  model->sections = sections_;
}

const uint8_t* HeaderReader::locate(const std::string& what, SectionKind kind, uint64_t offset,
                                    uint64_t size, Span<const uint8_t> data) {
  if (offset % kDataAlignment != 0) {
    fail(what + " begins at byte " + std::to_string(offset) +
         " of the data, which is not a multiple of " + std::to_string(kDataAlignment));
    return nullptr;
  }
  for (const Section& section : sections_) {
    // read_sections has bounded section.offset + section.size by the data's size.
    if (section.kind != kind || offset < section.offset) continue;
    const uint64_t end = section.offset + section.size;
    if (offset <= end && size <= end - offset) {
      ranges_.push_back({offset, size});
      return data.data() + offset;
    }
  }
  fail(what + " is " + std::to_string(size) + " bytes at offset " + std::to_string(offset) +
       ", which lies outside the section '" + section_name(kind) + "'");
  return nullptr;
}

Tensor HeaderReader::tensor(const fb::Tensor& tensor, Span<const uint8_t> data) {
  Tensor result;
  result.name = text(tensor.name());
  result.dtype = enumeration<DType::kI32>("tensor.dtype", tensor.dtype());
  if (require(tensor.shape()->size() <= 4, "a tensor has more than 4 extents")) {
    result.shape = numbers(tensor.shape());
  }
  result.quantization =
      enumeration<Quantization::kTwoLevel>("tensor.quantization", tensor.quantization());
  result.block = tensor.block();
  result.layout = enumeration<TensorLayout::kTiles>("tensor.layout", tensor.layout());
  result.size = tensor.size();
  result.scale_size = tensor.scale_size();
  if (!status_.ok()) return result;
  const std::string name = "tensor '" + result.name + "'";
  result.data = locate(name, SectionKind::kWeights, tensor.offset(), result.size, data);
  if (result.scale_size != 0) {
    result.scales = locate("scales of " + name, SectionKind::kWeights, tensor.scale_offset(),
                           result.scale_size, data);
  } else if (tensor.scale_offset() != 0) {
    fail(name + " has an offset of scales, but no scales");
  }
  return result;
}

void HeaderReader::read_tensors(const fb::Model& header, Span<const uint8_t> data,
                                LoadedModel* model) {
  const auto& entries = *header.tensors();
  if (!require(entries.size() <= kMaxTensors, "more than 1000000 tensors")) return;
  for (const fb::Tensor* entry : entries) {
    model->spec.tensors.push_back(tensor(*entry, data));
    if (!status_.ok()) return;
  }
  check_overlaps();
}

void HeaderReader::read_snapshots(const fb::Model& header, Span<const uint8_t> data,
                                  LoadedModel* model) {
  const auto* entries = header.prefix_snapshots();
  if (entries == nullptr) return;
  if (!require(entries->size() <= kMaxLayers, "more than 4096 prefix snapshots")) return;
  ranges_.clear();
  for (const fb::PrefixSnapshot* entry : *entries) {
    PrefixSnapshot snapshot;
    snapshot.name = text(entry->name());
    snapshot.text = text(entry->text());
    snapshot.position = entry->position();
    snapshot.size = entry->size();
    snapshot.tokens = token_ids("prefix snapshot", entry->tokens());
    snapshot.weights = entry->weights();
    snapshot.chunk = entry->chunk();
    snapshot.isa = text(entry->isa());
    for (const Section& section : sections_) {
      if (section.kind == SectionKind::kWeights) snapshot.stale = section.xxh3 != snapshot.weights;
    }
    if (!status_.ok()) return;
    snapshot.data = locate("prefix snapshot '" + snapshot.name + "'", SectionKind::kSnapshots,
                           entry->offset(), snapshot.size, data);
    model->spec.prefix_snapshots.push_back(std::move(snapshot));
  }
  if (status_.ok()) check_overlaps();
}

// Equal ranges are two names of one thing; any other overlap is damage or malice.
void HeaderReader::check_overlaps() {
  std::sort(ranges_.begin(), ranges_.end(), [](const Range& a, const Range& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.size < b.size;
  });
  for (size_t i = 1; i < ranges_.size(); ++i) {
    const Range& a = ranges_[i - 1];
    const Range& b = ranges_[i];
    if ((a.offset == b.offset && a.size == b.size) || b.offset - a.offset >= a.size) continue;
    fail("bytes " + std::to_string(b.offset) + " of the data belong to two things: one of " +
         std::to_string(a.size) + " bytes at " + std::to_string(a.offset) + " and one of " +
         std::to_string(b.size) + " bytes at " + std::to_string(b.offset));
    return;
  }
}

}  // namespace moka
