// Where everything lies in the data section.
#include "converter/writer_header.h"

namespace moka {

namespace {

uint64_t align_up(uint64_t value) {
  return (value + kDataAlignment - 1) / kDataAlignment * kDataAlignment;
}

}  // namespace

DataLayout plan_layout(const ModelSpec& spec) {
  DataLayout layout;
  uint64_t end = 0;
  const auto place = [&end](uint64_t size) {
    const uint64_t offset = align_up(end);
    end = offset + size;
    return offset;
  };
  for (const Tensor& tensor : spec.tensors) {
    DataLayout::Place where;
    where.data = place(tensor.size);
    if (tensor.scale_size != 0) where.scales = place(tensor.scale_size);
    layout.tensors.push_back(where);
  }
  layout.sections.push_back({SectionKind::kWeights, 0, end, 0, ""});
  if (!spec.prefix_snapshots.empty()) {
    const uint64_t begin = align_up(end);
    for (const PrefixSnapshot& snapshot : spec.prefix_snapshots) {
      layout.snapshots.push_back(place(snapshot.size));
    }
    layout.sections.push_back({SectionKind::kSnapshots, begin, end - begin, 0, ""});
  }
  layout.data_size = align_up(end + kTailBytes);
  return layout;
}

DataLayout layout_of(const LoadedModel& model) {
  const uint8_t* data = model.bytes.data() + model.data_start;
  const auto offset = [data](const void* p) {
    return p == nullptr ? 0 : static_cast<uint64_t>(static_cast<const uint8_t*>(p) - data);
  };
  DataLayout layout;
  for (const Tensor& tensor : model.spec.tensors) {
    layout.tensors.push_back({offset(tensor.data), offset(tensor.scales)});
  }
  for (const PrefixSnapshot& snapshot : model.spec.prefix_snapshots) {
    layout.snapshots.push_back(offset(snapshot.data));
  }
  layout.sections = model.sections;
  layout.data_size = model.data_size;
  return layout;
}

}  // namespace moka
