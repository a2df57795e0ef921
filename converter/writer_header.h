// The header of a model file: a ModelSpec and the places of its bytes, as a FlatBuffer.
#ifndef MOKA_CONVERTER_WRITER_HEADER_H_
#define MOKA_CONVERTER_WRITER_HEADER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "moka/status.h"
#include "runtime/loader.h"
#include "runtime/model_spec.h"

namespace moka {

// Where things lie in the data section; offsets are from its start.
struct DataLayout {
  struct Place {
    uint64_t data = 0;
    uint64_t scales = 0;  // 0 without scales
  };
  std::vector<Place> tensors;
  std::vector<uint64_t> snapshots;
  std::vector<Section> sections;
  uint64_t data_size = 0;
};

// Tensors in the order of the spec, each followed by its scales, then snapshots, then the tail.
// The sections' checksums are 0.
DataLayout plan_layout(const ModelSpec& spec);

// Where things lie in a file that was loaded.
DataLayout layout_of(const LoadedModel& model);

// Everything before the data section: size prefix, FlatBuffer, checksum, zeros up to the page. The
// size depends on the spec only, not on offsets and checksums. kOutOfRange beyond kMaxHeaderBytes.
Result<std::vector<uint8_t>> build_header(const ModelSpec& spec, const DataLayout& layout,
                                          const std::string& where);

}  // namespace moka

#endif  // MOKA_CONVERTER_WRITER_HEADER_H_
