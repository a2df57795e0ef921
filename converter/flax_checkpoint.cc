// msgpack documents of flax.serialization (spec 19.1): a training state of the authors' code under
// "model", one of the sibling code with its variables under "weights", variables {"params",
// "batch_stats"}, or parameters alone.
//
// Arrays are extension 1, single numbers extension 3; both hold [shape, type name, bytes], row-major
// and little-endian. One of more than 2^30 bytes is a map of flat pieces.
#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <utility>

#include "converter/checkpoint_reader.h"
#include "converter/key_value_store.h"
#include "converter/msgpack.h"
#include "converter/readers.h"
#include "converter/zarr.h"

namespace moka {
namespace {

using Kind = MsgpackItem::Kind;

constexpr int8_t kExtArray = 1, kExtScalar = 3;
constexpr const char* kChunked = "__msgpack_chunked_array__";
constexpr const char* kPlaceholder = "PLACEHOLDER://";
constexpr size_t kMaxChunks = size_t{1} << 16;
constexpr size_t kMaxKeys = 4 * kMaxTensors;  // of all maps that are looked at
constexpr size_t kMaxNotes = 8;               // of leaves that were passed over

// Numbers that lie side by side in the file.
struct Run {
  uint64_t offset = 0;  // bytes
  uint64_t elements = 0;
};

constexpr size_t kNoArray = static_cast<size_t>(-1);

// Where a tensor's numbers are: in an array outside of the file, in runs in the tensor's order, or,
// with neither, in `number`.
struct Place {
  size_t array = kNoArray;
  std::vector<Run> runs;
  double number = 0;
};

// What [shape, type name, bytes] says.
struct FlaxArray {
  SourceTensor tensor;  // without a name
  uint64_t data = 0;    // byte of the file
};

class FlaxCheckpoint : public Checkpoint {
 public:
  explicit FlaxCheckpoint(InputFile file)
      : Checkpoint(CheckpointForm::kMsgpack),
        file_(std::move(file)),
        reader_(&file_, 0, file_.size()) {
    files_ = {file_.path()};
  }

  Status open();
  Status read(size_t tensor, uint64_t first, size_t count, float* out) override;

 private:
  using Keys = std::map<std::string, uint64_t>;  // key to the byte where its value begins

  // The keys of the map at `position`; empty when it is none.
  Result<Keys> keys_at(uint64_t position);
  Status read_training_state(const Keys& keys);
  Status read_step(uint64_t position);
  // Everything below `position` to tensors whose names begin with `name`.
  Status walk(uint64_t position, const std::string& name, size_t depth);
  Status walk_map(const MsgpackItem& map, const std::string& name, size_t depth);
  Status walk_elements(const MsgpackItem& array, const std::string& name, size_t depth);
  Status walk_text(const MsgpackItem& item, const std::string& name);
  Result<std::string> child_name(const MsgpackItem& at, const std::string& name,
                                 const std::string& key) const;
  Result<FlaxArray> parse_array(const MsgpackItem& extension, const std::string& where);
  Status add_chunked(const Keys& keys, const std::string& name);
  Result<std::vector<uint64_t>> chunk_positions(uint64_t position, const std::string& where);
  // Finds the arrays that lie in a tensor store beside the file.
  Status open_outside();
  Status add(const MsgpackItem& at, SourceTensor tensor, Place place);
  void pass_over(const MsgpackItem& item, const std::string& name);
  std::string where(const std::string& name) const {
    return file_.path() + ": tensor " + in_quotes(name);
  }

  InputFile file_;
  MsgpackReader reader_;
  std::vector<Place> places_;
  std::vector<std::pair<std::string, std::string>> outside_;  // tensor, name in the store
  std::unique_ptr<KeyValueStore> store_;
  std::unique_ptr<ChunkReader> chunks_;
  std::vector<ZarrArray> arrays_;
  size_t keys_seen_ = 0;
  size_t passed_over_ = 0;
};

Result<FlaxCheckpoint::Keys> FlaxCheckpoint::keys_at(uint64_t position) {
  Keys keys;
  reader_.seek(position);
  MOKA_ASSIGN_OR_RETURN(const MsgpackItem map, reader_.next());
  if (map.kind != Kind::kMap) return keys;
  for (uint64_t i = 0; i < map.count; ++i) {
    MOKA_ASSIGN_OR_RETURN(const MsgpackItem key, reader_.next());
    MOKA_ASSIGN_OR_RETURN(std::string text, reader_.text(key, kMaxTensorName, "the key of a map"));
    if (++keys_seen_ > kMaxKeys) {
      return reader_.corrupt(
          key.begin, "is one of more than " + std::to_string(kMaxKeys) + " keys of the parameters");
    }
    const std::string quoted = in_quotes(text);
    if (!keys.emplace(std::move(text), reader_.position()).second) {
      return reader_.corrupt(key.begin, "is the key " + quoted + " for the second time in a map");
    }
    MOKA_ASSIGN_OR_RETURN(const MsgpackItem value, reader_.next());
    MOKA_RETURN_IF_ERROR(reader_.skip(value));
  }
  return keys;
}

Status FlaxCheckpoint::open() {
  MOKA_ASSIGN_OR_RETURN(const MsgpackItem root, reader_.next());
  if (root.kind != Kind::kMap) {
    return reader_.corrupt(0, "is " + std::string(msgpack_kind_name(root.kind)) +
                                  ", expected the map of a Flax checkpoint");
  }
  MOKA_RETURN_IF_ERROR(reader_.skip(root));
  if (reader_.position() != file_.size()) {
    return Status(StatusCode::kCorrupt, file_.path() + ": has " +
                                            std::to_string(file_.size() - reader_.position()) +
                                            " bytes after the msgpack document");
  }
  MOKA_ASSIGN_OR_RETURN(const Keys keys, keys_at(0));
  Keys state = keys;
  for (const char* name : {"model", "weights"}) {
    const auto below = keys.find(name);
    if (below == keys.end()) continue;
    MOKA_ASSIGN_OR_RETURN(Keys inside, keys_at(below->second));
    if (inside.count("params") == 0) continue;
    const auto step = keys.find("step");  // the sibling code has it beside its variables
    if (step != keys.end()) inside.emplace(*step);
    state = std::move(inside);
    break;
  }
  if (state.count("params") != 0) {
    MOKA_RETURN_IF_ERROR(read_training_state(state));
  } else {
    MOKA_RETURN_IF_ERROR(walk(0, "params", 0));
  }
  MOKA_RETURN_IF_ERROR(open_outside());
  if (passed_over_ > kMaxNotes) {
    notes_.push_back("and " + std::to_string(passed_over_ - kMaxNotes) +
                     " more values that are no arrays were passed over");
  }
  if (tensors_.empty()) {
    return Status(StatusCode::kCorrupt, file_.path() + ": has no arrays where parameters belong");
  }
  return sort_tensors(file_.path(), &tensors_, &places_);
}

Status FlaxCheckpoint::read_training_state(const Keys& keys) {
  for (const char* part : {"params", "batch_stats"}) {
    const auto found = keys.find(part);
    if (found != keys.end()) MOKA_RETURN_IF_ERROR(walk(found->second, part, 0));
  }
  const auto step = keys.find("step");
  return step == keys.end() ? Status() : read_step(step->second);
}

Status FlaxCheckpoint::read_step(uint64_t position) {
  reader_.seek(position);
  MOKA_ASSIGN_OR_RETURN(const MsgpackItem item, reader_.next());
  if (item.kind == Kind::kInteger && !item.negative) step_ = item.integer;
  if (item.kind != Kind::kExtension ||
      (item.extension != kExtArray && item.extension != kExtScalar))
    return Status();
  MOKA_ASSIGN_OR_RETURN(const FlaxArray array, parse_array(item, file_.path() + ": step"));
  if (array.tensor.elements != 1) return Status();
  uint8_t bytes[8] = {};
  MOKA_RETURN_IF_ERROR(file_.read(array.data, bytes, source_type_size(array.tensor.type)));
  step_ = integer_value(array.tensor.type, bytes);
  return Status();
}

Status FlaxCheckpoint::walk(uint64_t position, const std::string& name, size_t depth) {
  reader_.seek(position);
  MOKA_ASSIGN_OR_RETURN(const MsgpackItem item, reader_.next());
  if (depth > MsgpackReader::kMaxDepth) {
    return reader_.corrupt(item.begin,
                           "nests deeper than " + std::to_string(MsgpackReader::kMaxDepth));
  }
  switch (item.kind) {
    case Kind::kMap: return walk_map(item, name, depth);
    case Kind::kArray: return walk_elements(item, name, depth);
    case Kind::kString:
    case Kind::kBinary: return walk_text(item, name);
    case Kind::kNil: return Status();  // an empty place of the tree
    case Kind::kInteger:
    case Kind::kFloat: {
      SourceTensor tensor;
      tensor.name = name;
      tensor.type = item.kind == Kind::kFloat ? SourceType::kF64 : SourceType::kI64;
      tensor.elements = 1;
      Place place;
      place.number = item.number;
      return add(item, std::move(tensor), std::move(place));
    }
    case Kind::kExtension: {
      if (item.extension != kExtArray && item.extension != kExtScalar) break;
      MOKA_ASSIGN_OR_RETURN(FlaxArray array, parse_array(item, where(name)));
      array.tensor.name = name;
      Place place;
      place.runs = {{array.data, array.tensor.elements}};
      return add(item, std::move(array.tensor), std::move(place));
    }
    case Kind::kBool: break;
  }
  pass_over(item, name);
  return Status();
}

void FlaxCheckpoint::pass_over(const MsgpackItem& item, const std::string& name) {
  if (passed_over_++ < kMaxNotes) {
    notes_.push_back(in_quotes(name) + " is " + msgpack_kind_name(item.kind) +
                     " and no array; it was passed over");
  }
}

Result<std::string> FlaxCheckpoint::child_name(const MsgpackItem& at, const std::string& name,
                                               const std::string& key) const {
  if (name.size() + 1 + key.size() > kMaxTensorName) {
    return reader_.corrupt(at.begin, "has a name of more than " + std::to_string(kMaxTensorName) +
                                         " bytes, below " + in_quotes(name));
  }
  return name + "/" + key;
}

Status FlaxCheckpoint::walk_map(const MsgpackItem& map, const std::string& name, size_t depth) {
  MOKA_ASSIGN_OR_RETURN(const Keys keys, keys_at(map.begin));
  if (keys.count(kChunked) != 0) return add_chunked(keys, name);
  for (const auto& [key, position] : keys) {
    MOKA_ASSIGN_OR_RETURN(const std::string child, child_name(map, name, key));
    MOKA_RETURN_IF_ERROR(walk(position, child, depth + 1));
  }
  return Status();
}

Status FlaxCheckpoint::walk_elements(const MsgpackItem& array, const std::string& name,
                                     size_t depth) {
  if (array.count > kMaxTensors) {
    return reader_.corrupt(array.begin,
                           "is an array of more than " + std::to_string(kMaxTensors) + " elements");
  }
  uint64_t position = array.content;
  for (uint64_t i = 0; i < array.count; ++i) {
    MOKA_ASSIGN_OR_RETURN(const std::string child, child_name(array, name, std::to_string(i)));
    MOKA_RETURN_IF_ERROR(walk(position, child, depth + 1));
    reader_.seek(position);
    MOKA_ASSIGN_OR_RETURN(const MsgpackItem element, reader_.next());
    MOKA_RETURN_IF_ERROR(reader_.skip(element));
    position = reader_.position();
  }
  return Status();
}

Status FlaxCheckpoint::walk_text(const MsgpackItem& item, const std::string& name) {
  if (item.count > kMaxTensorName) {
    pass_over(item, name);
    return Status();
  }
  MOKA_ASSIGN_OR_RETURN(const std::string text, reader_.text(item, kMaxTensorName, "a leaf"));
  if (text.rfind(kPlaceholder, 0) != 0) {
    pass_over(item, name);
    return Status();
  }
  if (outside_.size() == kMaxTensors) {
    return reader_.corrupt(item.begin,
                           "is one of more than " + std::to_string(kMaxTensors) + " tensors");
  }
  // Orbax's name of the array in the store beside the file.
  outside_.emplace_back(name, text.substr(std::strlen(kPlaceholder)));
  return Status();
}

Status FlaxCheckpoint::open_outside() {
  if (outside_.empty()) return Status();
  std::vector<std::string> prefixes;
  for (const auto& [name, key] : outside_) prefixes.push_back(key + "/");
  MOKA_ASSIGN_OR_RETURN(store_, open_array_store(folder_of(file_.path()), prefixes));
  chunks_ = std::make_unique<ChunkReader>(store_.get());
  for (const auto& [name, key] : outside_) {
    MOKA_ASSIGN_OR_RETURN(ZarrArray array, ZarrArray::open(chunks_.get(), key, false));
    SourceTensor tensor = array.tensor();
    tensor.name = name;
    Place place;
    place.array = arrays_.size();
    arrays_.push_back(std::move(array));
    tensors_.push_back(std::move(tensor));
    places_.push_back(std::move(place));
  }
  const std::vector<std::string> more = store_->files();
  files_.insert(files_.end(), more.begin(), more.end());
  return Status();
}

Result<FlaxArray> FlaxCheckpoint::parse_array(const MsgpackItem& extension,
                                              const std::string& where) {
  // A reader of its own: nothing in the array reaches beyond the extension's bytes.
  MsgpackReader inner(&file_, extension.content, extension.content + extension.count);
  FlaxArray array;
  MOKA_ASSIGN_OR_RETURN(const MsgpackItem parts, inner.next());
  if (parts.kind != Kind::kArray || parts.count != 3) {
    return Status(StatusCode::kCorrupt, where + ": is no array of shape, type and bytes");
  }
  MOKA_ASSIGN_OR_RETURN(const MsgpackItem shape, inner.next());
  if (shape.kind != Kind::kArray) return Status(StatusCode::kCorrupt, where + ": has no shape");
  if (shape.count > kMaxRank) {
    return Status(StatusCode::kCorrupt, where + ": has " + std::to_string(shape.count) +
                                            " extents, expected at most " +
                                            std::to_string(kMaxRank));
  }
  for (uint64_t i = 0; i < shape.count; ++i) {
    MOKA_ASSIGN_OR_RETURN(const MsgpackItem extent, inner.next());
    if (extent.kind != Kind::kInteger || extent.negative) {
      return Status(StatusCode::kCorrupt, where + ": has an extent that is no number");
    }
    array.tensor.shape.push_back(extent.integer);
  }
  MOKA_RETURN_IF_ERROR(count_elements(where, &array.tensor));
  MOKA_ASSIGN_OR_RETURN(const MsgpackItem type, inner.next());
  MOKA_ASSIGN_OR_RETURN(const std::string type_name, inner.text(type, 64, "a number type"));
  if (!numpy_source_type(type_name, &array.tensor.type)) {
    return unknown_source_type(where, type_name);
  }
  MOKA_ASSIGN_OR_RETURN(const MsgpackItem bytes, inner.next());
  if (bytes.kind != Kind::kBinary && bytes.kind != Kind::kString) {
    return Status(StatusCode::kCorrupt, where + ": has no bytes");
  }
  if (bytes.count != array.tensor.bytes()) {
    return Status(StatusCode::kCorrupt, where + ": has " + std::to_string(bytes.count) +
                                            " bytes, " + source_type_name(array.tensor.type) + " " +
                                            array.tensor.shape_string() + " needs " +
                                            std::to_string(array.tensor.bytes()));
  }
  if (bytes.content + bytes.count != inner.end()) {
    return Status(StatusCode::kCorrupt, where + ": has bytes after its data");
  }
  array.data = bytes.content;
  return array;
}

// The values of a map {"0": .., "1": .., ...} in the order of its keys as numbers.
Result<std::vector<uint64_t>> FlaxCheckpoint::chunk_positions(uint64_t position,
                                                              const std::string& where) {
  MOKA_ASSIGN_OR_RETURN(const Keys keys, keys_at(position));
  if (keys.size() > kMaxChunks) {
    return Status(StatusCode::kCorrupt, where + ": has " + std::to_string(keys.size()) +
                                            " pieces, expected at most " +
                                            std::to_string(kMaxChunks));
  }
  std::vector<uint64_t> positions;
  for (size_t i = 0; i < keys.size(); ++i) {
    const auto found = keys.find(std::to_string(i));
    if (found == keys.end()) {
      return Status(StatusCode::kCorrupt, where + ": has " + std::to_string(keys.size()) +
                                              " pieces, but none of the number " +
                                              std::to_string(i));
    }
    positions.push_back(found->second);
  }
  return positions;
}

Status FlaxCheckpoint::add_chunked(const Keys& keys, const std::string& name) {
  const auto shape = keys.find("shape"), chunks = keys.find("chunks");
  if (shape == keys.end() || chunks == keys.end()) {
    return Status(StatusCode::kCorrupt, where(name) + ": is in pieces without shape or chunks");
  }
  SourceTensor tensor;
  tensor.name = name;
  MOKA_ASSIGN_OR_RETURN(const auto extents, chunk_positions(shape->second, where(name)));
  for (const uint64_t position : extents) {
    reader_.seek(position);
    MOKA_ASSIGN_OR_RETURN(const MsgpackItem extent, reader_.next());
    if (extent.kind != Kind::kInteger || extent.negative) {
      return Status(StatusCode::kCorrupt, where(name) + ": has an extent that is no number");
    }
    tensor.shape.push_back(extent.integer);
  }
  MOKA_RETURN_IF_ERROR(count_elements(where(name), &tensor));
  Place place;
  uint64_t elements = 0;
  MOKA_ASSIGN_OR_RETURN(const auto pieces, chunk_positions(chunks->second, where(name)));
  for (size_t i = 0; i < pieces.size(); ++i) {
    const std::string piece = where(name) + ": piece " + std::to_string(i);
    reader_.seek(pieces[i]);
    MOKA_ASSIGN_OR_RETURN(const MsgpackItem item, reader_.next());
    if (item.kind != Kind::kExtension || item.extension != kExtArray) {
      return Status(StatusCode::kCorrupt,
                    piece + ": is " + msgpack_kind_name(item.kind) + ", expected an array");
    }
    MOKA_ASSIGN_OR_RETURN(const FlaxArray array, parse_array(item, piece));
    if (i > 0 && array.tensor.type != tensor.type) {
      return Status(StatusCode::kCorrupt, piece + ": is " + source_type_name(array.tensor.type) +
                                              ", the first one is " +
                                              source_type_name(tensor.type));
    }
    tensor.type = array.tensor.type;
    place.runs.push_back({array.data, array.tensor.elements});
    elements += array.tensor.elements;  // pieces lie in the file: no overflow
  }
  if (elements != tensor.elements) {
    return Status(StatusCode::kCorrupt, where(name) + ": has pieces of " +
                                            std::to_string(elements) + " numbers, the shape " +
                                            tensor.shape_string() + " needs " +
                                            std::to_string(tensor.elements));
  }
  reader_.seek(shape->second);
  MOKA_ASSIGN_OR_RETURN(const MsgpackItem at, reader_.next());
  return add(at, std::move(tensor), std::move(place));
}

Status FlaxCheckpoint::add(const MsgpackItem& at, SourceTensor tensor, Place place) {
  if (tensors_.size() == kMaxTensors) {
    return reader_.corrupt(at.begin,
                           "is one of more than " + std::to_string(kMaxTensors) + " tensors");
  }
  tensors_.push_back(std::move(tensor));
  places_.push_back(std::move(place));
  return Status();
}

Status FlaxCheckpoint::read(size_t tensor, uint64_t first, size_t count, float* out) {
  const Place& place = places_[tensor];
  const SourceType type = tensors_[tensor].type;
  if (place.array != kNoArray) return arrays_[place.array].read(first, count, out);
  if (place.runs.empty() && count == 1) {
    uint64_t bits;
    std::memcpy(&bits, &place.number, sizeof bits);
    uint8_t bytes[8];
    for (size_t i = 0; i < sizeof bytes; ++i) bytes[i] = static_cast<uint8_t>(bits >> (8 * i));
    weights_to_f32(SourceType::kF64, bytes, 1, out);
    return Status();
  }
  for (const Run& run : place.runs) {
    if (first >= run.elements) {
      first -= run.elements;
      continue;
    }
    const auto step = static_cast<size_t>(std::min<uint64_t>(count, run.elements - first));
    MOKA_RETURN_IF_ERROR(
        read_weights(file_, run.offset + first * source_type_size(type), type, step, out));
    out += step;
    count -= step;
    first = 0;
    if (count == 0) break;
  }
  return Status();
}

}  // namespace

Result<std::unique_ptr<Checkpoint>> open_flax_msgpack(const std::string& path) {
  if constexpr (!kReadsFlax) {
    return reader_left_out(path, "Flax");
  } else {
    MOKA_ASSIGN_OR_RETURN(InputFile file, InputFile::open(path));
    auto checkpoint = std::make_unique<FlaxCheckpoint>(std::move(file));
    MOKA_RETURN_IF_ERROR(checkpoint->open());
    return std::unique_ptr<Checkpoint>(std::move(checkpoint));
  }
}

}  // namespace moka
