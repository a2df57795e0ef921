#include "converter/flax_tree.h"

#include "converter/json.h"

namespace moka {

bool begins_with(const std::string& text, const std::string& start) {
  return text.compare(0, start.size(), start) == 0;
}

Status tree_extent(const SourceMap& map, const std::string& where, const std::string& name,
                   size_t axes, size_t axis, uint32_t* out) {
  const SourceTensor* tensor = map.find(name);
  if (tensor == nullptr) {
    return Status(StatusCode::kCorrupt, where + ": tensor " + in_quotes(name) + " is missing");
  }
  const bool right =
      tensor->shape.size() == axes && tensor->shape[axis] >= 1 && tensor->shape[axis] <= (1u << 24);
  if (!right) {
    return Status(StatusCode::kCorrupt, where + ": tensor " + in_quotes(name) + " has shape " +
                                            tensor->shape_string() + ", expected " +
                                            std::to_string(axes) + " extents from 1 to 16777216");
  }
  *out = static_cast<uint32_t>(tensor->shape[axis]);
  return Status();
}

std::optional<uint32_t> block_number(const std::string& path, const std::string& start) {
  const size_t slash = path.find('/', start.size());
  if (slash == std::string::npos) return std::nullopt;
  const std::string number = path.substr(start.size(), slash - start.size());
  if (number.empty() || number.size() > 4 ||
      number.find_first_not_of("0123456789") != std::string::npos) {
    return std::nullopt;
  }
  return static_cast<uint32_t>(std::stoul(number));
}

}  // namespace moka
