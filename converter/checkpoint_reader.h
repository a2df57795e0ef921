// What the readers of checkpoints share: bounds, shapes, number types, reading.
#ifndef MOKA_CONVERTER_CHECKPOINT_READER_H_
#define MOKA_CONVERTER_CHECKPOINT_READER_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "converter/checkpoint.h"
#include "converter/file.h"
#include "converter/json.h"
#include "moka/status.h"

namespace moka {

// No checkpoint comes near these; a file that does would only cost memory.
constexpr size_t kMaxRank = 8;
constexpr size_t kMaxTensors = size_t{1} << 17;
constexpr size_t kMaxTensorName = 512;
constexpr uint64_t kMaxElements = uint64_t{1} << 48;  // so that bytes of any type fit 64 bits

// Sets tensor->elements from its shape. kCorrupt, after `where`: too many extents or numbers.
Status count_elements(const std::string& where, SourceTensor* tensor);

// Types as NumPy, JAX and zarr 3 call them: "float32", "bfloat16". False: none that is known.
bool numpy_source_type(std::string_view name, SourceType* type);

// The refusal of a number type after `where`: kUnsupported with the types that are read.
Status unknown_source_type(const std::string& where, std::string_view name);

// Numbers of a weight type that lie packed at `offset` of the file, to float32. In pieces of 64 KiB.
Status read_weights(const InputFile& file, uint64_t offset, SourceType type, size_t count,
                    float* out);

// The value of one little-endian integer of 4 or 8 bytes; none of another type or below zero.
std::optional<uint64_t> integer_value(SourceType type, const uint8_t* bytes);

// open_torch() with the names as the file has them: one of several files cannot tell what is before
// all of their names.
Result<std::unique_ptr<Checkpoint>> open_torch_unstripped(const std::string& path);

// Takes "module." and "_orig_mod." (of DataParallel and torch.compile) from the names if all of them
// begin so. The order of sorted names stays. Returns what was taken; empty: nothing.
std::string strip_wrappers(std::vector<SourceTensor>* tensors);

// Sorts tensors and what belongs to each by name. kCorrupt when two have one name.
template <class Place>
Status sort_tensors(const std::string& where, std::vector<SourceTensor>* tensors,
                    std::vector<Place>* places) {
  std::vector<size_t> order(tensors->size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return (*tensors)[a].name < (*tensors)[b].name; });
  std::vector<SourceTensor> sorted_tensors;
  std::vector<Place> sorted_places;
  sorted_tensors.reserve(order.size());
  sorted_places.reserve(order.size());
  for (const size_t i : order) {
    if (!sorted_tensors.empty() && sorted_tensors.back().name == (*tensors)[i].name) {
      return Status(StatusCode::kCorrupt,
                    where + ": has two tensors of the name " + in_quotes((*tensors)[i].name));
    }
    sorted_tensors.push_back(std::move((*tensors)[i]));
    sorted_places.push_back(std::move((*places)[i]));
  }
  *tensors = std::move(sorted_tensors);
  *places = std::move(sorted_places);
  return Status();
}

}  // namespace moka

#endif  // MOKA_CONVERTER_CHECKPOINT_READER_H_
