// What the layouts of Flax programs share: a tree of named tensors, looked at before it is mapped.
#ifndef MOKA_CONVERTER_FLAX_TREE_H_
#define MOKA_CONVERTER_FLAX_TREE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "converter/source_map.h"
#include "moka/status.h"

namespace moka {

bool begins_with(const std::string& text, const std::string& start);

// Extent `axis` of a tensor that must be there, with `axes` of them. kCorrupt, after `where`.
Status tree_extent(const SourceMap& map, const std::string& where, const std::string& name,
                   size_t axes, size_t axis, uint32_t* out);

// The number of the block whose module begins `path` after `start`: 12 of "TransBlock_12/Dense_0".
// Nothing when there is no number of up to four digits followed by a slash.
std::optional<uint32_t> block_number(const std::string& path, const std::string& start);

}  // namespace moka

#endif  // MOKA_CONVERTER_FLAX_TREE_H_
