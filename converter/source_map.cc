#include "converter/source_map.h"

#include <algorithm>
#include <utility>

namespace moka {
namespace {

// Strides of a row-major tensor, in numbers.
std::vector<uint64_t> strides_of(const Shape& shape) {
  std::vector<uint64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  return strides;
}

Recipe view_of(const std::string& name, const Shape& shape, View view, const std::string& words) {
  Recipe recipe;
  recipe.uses.push_back({name, shape});
  recipe.view = std::move(view);
  recipe.words = words;
  return recipe;
}

std::string range_words(const char* what, uint32_t first, uint32_t count) {
  return std::string(what) + " " + std::to_string(first) + " to " +
         std::to_string(first + count - 1);
}

}  // namespace

std::string shape_text(const Shape& shape) {
  Tensor tensor;
  tensor.shape = shape;
  return tensor.shape_string();
}

uint64_t View::elements() const {
  uint64_t count = 1;
  for (const uint64_t extent : extents) count *= extent;
  return count;
}

bool View::contiguous() const {
  uint64_t expected = 1;
  for (size_t i = extents.size(); i-- > 0; expected *= extents[i]) {
    if (extents[i] != 1 && strides[i] != expected) return false;
  }
  return true;
}

Recipe copied(const std::string& name, const Shape& shape) {
  View view;
  view.extents.assign(shape.begin(), shape.end());
  view.strides = strides_of(shape);
  return view_of(name, shape, std::move(view), "");
}

Recipe permuted(const std::string& name, const Shape& shape, const std::vector<size_t>& order,
                const std::string& words) {
  const std::vector<uint64_t> strides = strides_of(shape);
  View view;
  for (const size_t axis : order) {
    view.extents.push_back(shape[axis]);
    view.strides.push_back(strides[axis]);
  }
  return view_of(name, shape, std::move(view), words);
}

Recipe transposed(const std::string& name, const Shape& shape, uint32_t in, uint32_t out) {
  return view_of(name, shape, {0, {out, in}, {1, out}}, "transposed");
}

Recipe columns(const std::string& name, uint32_t in, uint32_t total, uint32_t first,
               uint32_t count) {
  return view_of(name, {in, total}, {first, {count, in}, {1, total}},
                 range_words("columns", first, count) + " transposed");
}

Recipe rows(const std::string& name, uint32_t total, uint32_t in, uint32_t first, uint32_t count) {
  if (in == 0) {
    return view_of(name, {total}, {first, {count}, {1}}, range_words("numbers", first, count));
  }
  return view_of(name, {total, in}, {uint64_t{first} * in, {count, in}, {in, 1}},
                 range_words("rows", first, count));
}

Recipe ungated_rows(const std::string& name, uint32_t heads, uint32_t each, uint32_t in,
                    bool gate_last) {
  const uint64_t head = uint64_t{each + 1} * in;
  View view{gate_last ? 0 : uint64_t{in}, {heads, each, in}, {head, in, 1}};
  return view_of(
      name, {heads * (each + 1), in}, std::move(view),
      gate_last ? "all rows but the last of each head" : "all rows but the first of each head");
}

Recipe gate_rows(const std::string& name, uint32_t heads, uint32_t each, uint32_t in,
                 bool gate_last) {
  const uint64_t head = uint64_t{each + 1} * in;
  View view{gate_last ? uint64_t{each} * in : 0, {heads, in}, {head, 1}};
  return view_of(name, {heads * (each + 1), in}, std::move(view),
                 gate_last ? "last row of each head" : "first row of each head");
}

Recipe batch_norm_scale(const std::string& module, const std::string& stats, uint32_t width) {
  Recipe recipe;
  recipe.uses = {{module + "/scale", {width}}, {stats + "/var", {width}}};
  recipe.fold = Fold::kBatchNormScale;
  recipe.view = {0, {width}, {1}};
  recipe.words = "scale / sqrt(var + 1e-5)";
  return recipe;
}

Recipe batch_norm_bias(const std::string& module, const std::string& stats, uint32_t width) {
  Recipe recipe;
  recipe.uses = {{module + "/scale", {width}},
                 {stats + "/var", {width}},
                 {module + "/bias", {width}},
                 {stats + "/mean", {width}}};
  recipe.fold = Fold::kBatchNormBias;
  recipe.view = {0, {width}, {1}};
  recipe.words = "bias - mean * scale / sqrt(var + 1e-5)";
  return recipe;
}

SourceMap::SourceMap(const Checkpoint& checkpoint)
    : checkpoint_(checkpoint), used_(checkpoint.tensors().size(), false) {}

const SourceTensor* SourceMap::find(const std::string& name) const {
  const auto& all = checkpoint_.tensors();
  const auto found = std::lower_bound(
      all.begin(), all.end(), name,
      [](const SourceTensor& tensor, const std::string& n) { return tensor.name < n; });
  return found == all.end() || found->name != name ? nullptr : &*found;
}

std::optional<size_t> SourceMap::take(const SourceUse& use, const std::string& hint) {
  const SourceTensor* found = find(use.name);
  if (found == nullptr) {
    if (!missing_.insert(use.name).second) return std::nullopt;
    problems_.add(StatusCode::kCorrupt, "tensor " + in_quotes(use.name) +
                                            " is missing, expected shape " + shape_text(use.shape) +
                                            hint);
    return std::nullopt;
  }
  const auto index = static_cast<size_t>(found - checkpoint_.tensors().data());
  const bool again = used_[index];  // its problems were told
  used_[index] = true;
  if (!std::equal(use.shape.begin(), use.shape.end(), found->shape.begin(), found->shape.end())) {
    if (!again) {
      problems_.add(StatusCode::kCorrupt, "tensor " + in_quotes(use.name) + " has shape " +
                                              found->shape_string() + ", expected " +
                                              shape_text(use.shape));
    }
    return std::nullopt;
  }
  if (!is_weight_type(found->type)) {
    if (!again) {
      problems_.add(StatusCode::kUnsupported, "tensor " + in_quotes(use.name) + " has type " +
                                                  source_type_name(found->type) +
                                                  ", expected F32, F16, BF16 or F64");
    }
    return std::nullopt;
  }
  return index;
}

std::optional<TensorRecipe> SourceMap::resolve(const Recipe& recipe, const std::string& hint) {
  TensorRecipe result;
  for (const SourceUse& use : recipe.uses) {
    const std::optional<size_t> source = take(use, hint);
    if (source) result.sources.push_back(*source);
  }
  if (result.sources.size() != recipe.uses.size()) return std::nullopt;
  result.fold = recipe.fold;
  result.view = recipe.view;
  result.words = recipe.words;
  return result;
}

void SourceMap::report_unused(const std::string& explained_name, const std::string& why) {
  if (enough()) return;
  for (size_t i = 0; i < used_.size(); ++i) {
    if (used_[i]) continue;
    const SourceTensor& tensor = checkpoint_.tensors()[i];
    problems_.add(StatusCode::kCorrupt,
                  "tensor " + in_quotes(tensor.name) + " of shape " + tensor.shape_string() +
                      " has no place in this model" +
                      (tensor.name == explained_name && !why.empty() ? ": " + why : ""));
  }
}

}  // namespace moka
