#include "platforms/cli/batch.h"

#include "platforms/cli/terminal.h"

namespace moka::cli {
namespace {

constexpr uint64_t kAny = 0;  // an extent that the file may choose

// The forms that one sequence may have, best first.
std::vector<std::vector<uint64_t>> sequence_forms(const ModelInfo& info) {
  const uint64_t width = info.image_width, height = info.image_height;
  switch (info.input) {
    case InputKind::kTokens:
      if (width == 0) return {{kAny}};
      return {{width * height}, {height, width}};
    case InputKind::kPixels: return {{width * height}, {width * height, 1}, {height, width}};
    case InputKind::kValues:
      if (info.features == 1) return {{kAny, 1}, {kAny}};
      return {{kAny, info.features}};
  }
  return {};
}

std::string forms_words(const ModelInfo& info) {
  const std::string t =
      info.image_width == 0 ? "T" : std::to_string(uint64_t{info.image_width} * info.image_height);
  const std::string image =
      std::to_string(info.image_height) + ", " + std::to_string(info.image_width);
  const std::string pair = info.output == OutputKind::kPair ? "2, " : "";
  const std::string b = "(B, " + pair;
  std::string words;
  if (info.input == InputKind::kValues) {
    words = b + "T, " + std::to_string(info.features) + ")";
  } else {
    words = b + t + ")";
    if (info.image_width != 0) words += " or " + b + image + ")";
  }
  return words + ", B may be left out";
}

// True when the last dimensions of `shape` are `form` and those before them are {} or {B}, for
// pairs {2} or {B, 2}.
bool matches(const std::vector<uint64_t>& shape, const std::vector<uint64_t>& form, bool pair,
             bool* batched) {
  const size_t own = form.size() + (pair ? 1 : 0);
  if (shape.size() != own && shape.size() != own + 1) return false;
  const size_t first = shape.size() - form.size();
  for (size_t i = 0; i < form.size(); i++) {
    if (form[i] != kAny && shape[first + i] != form[i]) return false;
  }
  if (pair && shape[first - 1] != 2) return false;
  *batched = shape.size() == own + 1;
  return true;
}

Status check_ids(const Batch& batch, const NpyArray& array, const ModelInfo& info,
                 const std::string& name) {
  for (size_t i = 0; i < batch.ids.size(); i++) {
    const TokenId id = batch.ids[i];
    if (id >= 0 && static_cast<uint32_t>(id) < info.vocab_size) continue;
    std::string place;
    size_t rest = i;
    for (size_t d = array.shape.size(); d-- > 0;) {
      const auto extent = static_cast<size_t>(array.shape[d]);
      place = std::to_string(rest % extent) + (place.empty() ? "" : ", ") + place;
      rest /= extent;
    }
    return Status(StatusCode::kOutOfRange, name + ": ids[" + place + "] is " + std::to_string(id) +
                                               "; this model's ids are 0 to " +
                                               std::to_string(info.vocab_size - 1));
  }
  return {};
}

}  // namespace

SequenceInput Batch::sequence(size_t index) const {
  if (!ids.empty()) return Span<const TokenId>(ids.data() + index * steps, steps);
  const size_t size = values.size() / sequences;
  return Span<const float>(values.data() + index * size, size);
}

std::string reads_words(const ModelInfo& info) {
  if (info.image_width != 0) {
    return "images of " + std::to_string(info.image_width) + " x " +
           std::to_string(info.image_height);
  }
  if (info.input == InputKind::kTokens) return "token ids";
  return std::to_string(info.features) + (info.features == 1 ? " number" : " numbers") +
         " per step";
}

Result<Batch> batch_of(const NpyArray& array, const ModelInfo& info, const std::string& name) {
  const bool pair = info.output == OutputKind::kPair;
  Batch batch;
  bool found = false;
  size_t own = 0;
  if (array.elements() != 0) {
    for (const std::vector<uint64_t>& form : sequence_forms(info)) {
      found = matches(array.shape, form, pair, &batch.batched);
      own = form.size();
      if (found) break;
    }
  }
  if (!found) {
    return Status(StatusCode::kInvalidArgument, name + ": the shape is " + array.shape_string() +
                                                    "; this model reads " + reads_words(info) +
                                                    ": " + forms_words(info));
  }
  const bool integers = array.type == NpyType::kI32 || array.type == NpyType::kI64;
  if (info.input == InputKind::kTokens || integers) {
    Result<std::vector<int32_t>> ids = array.to_int32();
    if (!ids.ok()) return Status(ids.status().code(), name + ": " + ids.status().message());
    batch.ids = std::move(ids).value();
  } else {
    MOKA_ASSIGN_OR_RETURN(batch.values, array.to_float32());
  }
  uint64_t sequences = 1;
  for (size_t i = 0; i + own < array.shape.size(); i++) sequences *= array.shape[i];
  batch.sequences = static_cast<size_t>(sequences);
  uint64_t steps = array.elements() / sequences;
  if (info.input != InputKind::kTokens) {
    if (integers) batch.values.assign(batch.ids.begin(), batch.ids.end());
    if (integers) batch.ids.clear();
    if (info.input == InputKind::kValues) steps /= info.features;
  } else {
    MOKA_RETURN_IF_ERROR(check_ids(batch, array, info, name));
  }
  batch.steps = static_cast<size_t>(steps);
  if (info.position_limit != 0 && steps > info.position_limit) {
    const char* unit = info.input == InputKind::kTokens ? " tokens" : " steps";
    return Status(StatusCode::kOutOfRange, name + ": sequences of " + with_commas(steps) + unit +
                                               "; the model reads at most " +
                                               with_commas(info.position_limit));
  }
  return batch;
}

}  // namespace moka::cli
