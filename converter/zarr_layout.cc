#include "converter/zarr_layout.h"

#include <limits>
#include <string_view>

#include "converter/checkpoint_reader.h"

namespace moka {
namespace {

using nlohmann::json;

Status corrupt(const std::string& where, const std::string& what) {
  return Status(StatusCode::kCorrupt, where + ": " + what);
}

// The member of an object, null when it has none or is no object.
const json* find(const json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

bool is_text(const json* value, std::string_view expected) {
  return value != nullptr && value->is_string() && value->get_ref<const std::string&>() == expected;
}

// What a value is called in a refusal.
std::string shown(const json* value) {
  if (value == nullptr) return "missing";
  if (value->is_string()) return in_quotes(value->get_ref<const std::string&>());
  return in_quotes(value->dump(-1, ' ', true, json::error_handler_t::replace));
}

Status read_extents(const json* value, const char* name, const std::string& where,
                    std::vector<uint64_t>* extents) {
  if (value == nullptr || !value->is_array() || value->size() > kMaxRank) {
    return corrupt(where, std::string(name) + " is no list of at most " + std::to_string(kMaxRank) +
                              " numbers");
  }
  for (const json& extent : *value) {
    if (!extent.is_number_unsigned()) {
      return corrupt(where, std::string(name) + " has an extent that is no number");
    }
    extents->push_back(extent.get<uint64_t>());
  }
  return Status();
}

// A chunk's extents: as many as the array's, none zero, of a bounded product.
Status check_chunk(const std::string& where, const SourceTensor& tensor,
                   const std::vector<uint64_t>& chunk) {
  SourceTensor unit;
  unit.type = tensor.type;
  unit.shape = chunk;
  if (chunk.size() != tensor.shape.size()) {
    return corrupt(where, "has chunks of shape " + unit.shape_string() + ", the array's is " +
                              tensor.shape_string());
  }
  for (const uint64_t extent : chunk) {
    if (extent == 0) return corrupt(where, "has chunks of no numbers: " + unit.shape_string());
  }
  return count_elements(where + ": a chunk", &unit);
}

Result<double> parse_fill(const json* value, const std::string& where) {
  if (value == nullptr || value->is_null()) return 0.0;
  if (value->is_number()) return value->get<double>();
  if (value->is_boolean()) return value->get<bool>() ? 1.0 : 0.0;
  if (is_text(value, "NaN")) return std::numeric_limits<double>::quiet_NaN();
  if (is_text(value, "Infinity")) return std::numeric_limits<double>::infinity();
  if (is_text(value, "-Infinity")) return -std::numeric_limits<double>::infinity();
  return Status(StatusCode::kUnsupported,
                where + ": fill_value is " + shown(value) + ", expected a number");
}

// NumPy's short names: "<f4". TensorStore writes "bfloat16" in full.
Status parse_v2_type(const json* value, const std::string& where, SourceType* type) {
  struct Name {
    std::string_view name;
    SourceType type;
  };
  constexpr Name kNames[] = {
      {"<f4", SourceType::kF32},
      {"<f2", SourceType::kF16},
      {"<f8", SourceType::kF64},
      {"|i1", SourceType::kI8},
      {"<i2", SourceType::kI16},
      {"<i4", SourceType::kI32},
      {"<i8", SourceType::kI64},
      {"|u1", SourceType::kU8},
      {"<u2", SourceType::kU16},
      {"<u4", SourceType::kU32},
      {"<u8", SourceType::kU64},
      {"|b1", SourceType::kBool},
      {"bfloat16", SourceType::kBF16},
      {"float8_e4m3fn", SourceType::kF8E4M3},
      {"float8_e5m2", SourceType::kF8E5M2},
  };
  if (value == nullptr || !value->is_string()) return corrupt(where, "has no dtype");
  const auto& name = value->get_ref<const std::string&>();
  for (const Name& known : kNames) {
    if (known.name != name) continue;
    *type = known.type;
    return Status();
  }
  return unknown_source_type(where, name);
}

// The codecs of a chunk: "bytes", then "zstd" or nothing.
Status parse_chunk_codecs(const json& codecs, const std::string& where, ZarrLayout* layout) {
  bool has_bytes = false;
  for (const json& codec : codecs) {
    const json* name = find(codec, "name");
    const json* configuration = find(codec, "configuration");
    if (is_text(name, "bytes") && !has_bytes) {
      has_bytes = true;
      const json* endian = configuration == nullptr ? nullptr : find(*configuration, "endian");
      if (endian != nullptr && !is_text(endian, "little")) {
        return Status(StatusCode::kUnsupported,
                      where + ": its bytes are " + shown(endian) + " endian, expected \"little\"");
      }
    } else if (is_text(name, "zstd") && has_bytes && !layout->zstd) {
      layout->zstd = true;
    } else {
      return Status(StatusCode::kUnsupported,
                    where + ": has the codec " + shown(name) +
                        " in this place, expected \"bytes\", then \"zstd\" or nothing");
    }
  }
  if (!has_bytes) return corrupt(where, "has no codec \"bytes\"");
  return Status();
}

Status parse_index_codecs(const json* codecs, const std::string& where, ZarrLayout* layout) {
  if (codecs == nullptr || !codecs->is_array()) return corrupt(where, "has no index_codecs");
  for (const json& codec : *codecs) {
    const json* name = find(codec, "name");
    if (is_text(name, "bytes")) continue;
    if (!is_text(name, "crc32c")) {
      return Status(StatusCode::kUnsupported, where + ": its index has the codec " + shown(name) +
                                                  ", expected \"bytes\" and \"crc32c\"");
    }
    layout->index_has_crc = true;
  }
  return Status();
}

// On entry layout->chunk is the grid's: that of a shard.
Status parse_sharding(const json* configuration, const std::string& where, ZarrLayout* layout) {
  constexpr uint64_t kMaxChunks = uint64_t{1} << 20;  // of a shard: its index has 16 bytes for each
  const json* codecs = configuration == nullptr ? nullptr : find(*configuration, "codecs");
  if (codecs == nullptr || !codecs->is_array()) return corrupt(where, "has shards without codecs");
  const std::vector<uint64_t> grid = layout->chunk;
  layout->chunk.clear();
  MOKA_RETURN_IF_ERROR(
      read_extents(find(*configuration, "chunk_shape"), "chunk_shape", where, &layout->chunk));
  MOKA_RETURN_IF_ERROR(check_chunk(where, layout->tensor, layout->chunk));
  uint64_t chunks = 1;
  for (size_t i = 0; i < grid.size(); ++i) {
    const uint64_t count = grid[i] / layout->chunk[i];
    if (count * layout->chunk[i] != grid[i] || chunks > kMaxChunks / count) {
      return corrupt(where, "has shards that are no multiple of its chunks, or of more than " +
                                std::to_string(kMaxChunks) + " chunks");
    }
    chunks *= count;
    layout->shard.push_back(count);
  }
  layout->sharded = true;
  MOKA_RETURN_IF_ERROR(parse_chunk_codecs(*codecs, where, layout));
  MOKA_RETURN_IF_ERROR(parse_index_codecs(find(*configuration, "index_codecs"), where, layout));
  const json* place = find(*configuration, "index_location");
  layout->index_at_end = place == nullptr || !is_text(place, "start");
  return Status();
}

Status parse_key_encoding(const json* encoding, const std::string& where, ZarrLayout* layout) {
  const json* name = encoding == nullptr ? nullptr : find(*encoding, "name");
  const bool plain = is_text(name, "v2");
  if (!plain && !is_text(name, "default")) {
    return Status(StatusCode::kUnsupported, where + ": chunk_key_encoding is " + shown(name) +
                                                ", expected \"default\" or \"v2\"");
  }
  layout->key_begins_with_c = !plain;
  layout->separator = plain ? '.' : '/';
  const json* configuration = find(*encoding, "configuration");
  const json* separator = configuration == nullptr ? nullptr : find(*configuration, "separator");
  if (is_text(separator, "/")) layout->separator = '/';
  if (is_text(separator, ".")) layout->separator = '.';
  return Status();
}

}  // namespace

Result<ZarrLayout> parse_zarr_v2(const std::string& text, const std::string& where) {
  MOKA_ASSIGN_OR_RETURN(const json array, parse_json(text, where));
  ZarrLayout layout;
  const json* format = find(array, "zarr_format");
  if (format == nullptr || *format != 2) {
    return corrupt(where, "zarr_format is " + shown(format) + ", expected 2");
  }
  MOKA_RETURN_IF_ERROR(parse_v2_type(find(array, "dtype"), where, &layout.tensor.type));
  MOKA_RETURN_IF_ERROR(read_extents(find(array, "shape"), "shape", where, &layout.tensor.shape));
  MOKA_RETURN_IF_ERROR(count_elements(where, &layout.tensor));
  MOKA_RETURN_IF_ERROR(read_extents(find(array, "chunks"), "chunks", where, &layout.chunk));
  MOKA_RETURN_IF_ERROR(check_chunk(where, layout.tensor, layout.chunk));
  const json* compressor = find(array, "compressor");
  if (compressor != nullptr && !compressor->is_null()) {
    const json* id = find(*compressor, "id");
    if (!is_text(id, "zstd")) {
      return Status(StatusCode::kUnsupported,
                    where + ": is compressed by " + shown(id) + ", expected \"zstd\" or nothing");
    }
    layout.zstd = true;
  }
  const json* filters = find(array, "filters");
  if (filters != nullptr && !filters->is_null() && !filters->empty()) {
    return Status(StatusCode::kUnsupported, where + ": has filters, expected none");
  }
  const json* order = find(array, "order");
  if (!is_text(order, "C") && layout.tensor.shape.size() > 1) {
    return Status(StatusCode::kUnsupported,
                  where + ": order is " + shown(order) + ", expected \"C\"");
  }
  if (is_text(find(array, "dimension_separator"), "/")) layout.separator = '/';
  MOKA_ASSIGN_OR_RETURN(layout.fill, parse_fill(find(array, "fill_value"), where));
  return layout;
}

Result<ZarrLayout> parse_zarr_v3(const std::string& text, const std::string& where) {
  MOKA_ASSIGN_OR_RETURN(const json array, parse_json(text, where));
  ZarrLayout layout;
  const json* format = find(array, "zarr_format");
  if (format == nullptr || *format != 3 || !is_text(find(array, "node_type"), "array")) {
    return corrupt(where, "is no array of zarr_format 3");
  }
  const json* type = find(array, "data_type");
  if (type == nullptr || !type->is_string()) return corrupt(where, "has no data_type");
  const auto& type_name = type->get_ref<const std::string&>();
  if (!numpy_source_type(type_name, &layout.tensor.type)) {
    return unknown_source_type(where, type_name);
  }
  MOKA_RETURN_IF_ERROR(read_extents(find(array, "shape"), "shape", where, &layout.tensor.shape));
  MOKA_RETURN_IF_ERROR(count_elements(where, &layout.tensor));
  const json* grid = find(array, "chunk_grid");
  const json* configuration = grid == nullptr ? nullptr : find(*grid, "configuration");
  if (grid == nullptr || !is_text(find(*grid, "name"), "regular") || configuration == nullptr) {
    return Status(StatusCode::kUnsupported, where + ": chunk_grid is not \"regular\"");
  }
  MOKA_RETURN_IF_ERROR(
      read_extents(find(*configuration, "chunk_shape"), "chunk_shape", where, &layout.chunk));
  MOKA_RETURN_IF_ERROR(check_chunk(where, layout.tensor, layout.chunk));
  MOKA_RETURN_IF_ERROR(parse_key_encoding(find(array, "chunk_key_encoding"), where, &layout));
  const json* codecs = find(array, "codecs");
  if (codecs == nullptr || !codecs->is_array()) return corrupt(where, "has no codecs");
  if (codecs->size() == 1 && is_text(find((*codecs)[0], "name"), "sharding_indexed")) {
    MOKA_RETURN_IF_ERROR(parse_sharding(find((*codecs)[0], "configuration"), where, &layout));
  } else {
    MOKA_RETURN_IF_ERROR(parse_chunk_codecs(*codecs, where, &layout));
  }
  MOKA_ASSIGN_OR_RETURN(layout.fill, parse_fill(find(array, "fill_value"), where));
  return layout;
}

}  // namespace moka
