#include "runtime/loader.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <optional>
#include <string_view>

#include "moka/version.h"
#include "runtime/check_limits.h"
#include "runtime/checksum.h"
#include "runtime/features.h"
#include "runtime/loader_foreign.h"
#include "runtime/loader_header.h"
#include "runtime/spec_checker.h"
#include "schema/moka_generated.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "Model files are little-endian and used as they lie in memory"
#endif

namespace moka {
namespace {

constexpr uint64_t kPrefixBytes = 4;
constexpr uint64_t kChecksumBytes = 8;
constexpr size_t kIdentifierAt = 8;  // size prefix, root offset, identifier

// Tables in the largest header that the limits of spec_checker.h allow, with room; deeper nesting
// than Model, Block, mixer, Window, Rotation does not exist.
constexpr flatbuffers::uoffset_t kMaxTables = 2000000;
constexpr flatbuffers::uoffset_t kMaxDepth = 16;

Status corrupt(const std::string& where, const std::string& what) {
  return Status(StatusCode::kCorrupt, where + ": " + what);
}

uint64_t read_u64(const uint8_t* p) {
  uint64_t value = 0;
  std::memcpy(&value, p, sizeof value);
  return value;
}

std::string hex(uint64_t value) {
  std::string text(16, '0');
  for (size_t i = 16; i-- > 0; value >>= 4) text[i] = "0123456789abcdef"[value & 15];
  return text;
}

// A name of a file that is not trusted yet, fit for a terminal.
std::string printable(std::string_view name) {
  std::string text(name.substr(0, kMaxNameBytes));
  for (char& c : text) {
    if (c < 0x20 || c > 0x7e) c = '?';
  }
  return text;
}

// The bytes that the header's checksum covers: size prefix and FlatBuffer.
Result<Span<const uint8_t>> find_header(Span<const uint8_t> bytes, const std::string& where,
                                        const ModelLimits& limits) {
  if (bytes.size() < kIdentifierAt + 4 ||
      std::memcmp(bytes.data() + kIdentifierAt, fb::ModelIdentifier(), 4) != 0) {
    return corrupt(where, "not a Moka model; it seems to be " + describe_foreign_file(bytes));
  }
  uint32_t prefix = 0;
  std::memcpy(&prefix, bytes.data(), sizeof prefix);
  constexpr uint64_t kMost = 0x7fffffff;  // of a FlatBuffer
  const uint64_t most = std::min(std::max(kMaxHeaderBytes, limits.header_bytes), kMost);
  if (prefix < kIdentifierAt || prefix > most) {
    return corrupt(where, "its size prefix gives a header of " + std::to_string(prefix) +
                              " bytes, expected 8 to " + std::to_string(most));
  }
  MOKA_RETURN_IF_ERROR(
      check_limit(where, "bytes in its header", prefix, limits.header_bytes, "header_bytes"));
  const uint64_t needed = kPrefixBytes + prefix + kChecksumBytes;
  if (bytes.size() < needed) {
    return corrupt(where, "has " + std::to_string(bytes.size()) +
                              " bytes, but its header alone needs " + std::to_string(needed) +
                              "; the file was cut short");
  }
  return bytes.subspan(0, static_cast<size_t>(kPrefixBytes + prefix));
}

// The first field of the root table, which stays first in every version, so that a file of another
// version is recognised before anything else of it is believed.
std::optional<uint32_t> find_version(Span<const uint8_t> header,
                                     const flatbuffers::Verifier::Options& options) {
  flatbuffers::Verifier verifier(header.data(), header.size(), options);
  const size_t root = verifier.VerifyOffset(kPrefixBytes);
  if (root == 0) return std::nullopt;
  const auto* table =
      reinterpret_cast<const flatbuffers::Table*>(header.data() + kPrefixBytes + root);
  constexpr auto kField = fb::Model::VT_FORMAT_VERSION;
  if (!table->VerifyTableStart(verifier) ||
      !table->VerifyField<uint32_t>(verifier, kField, sizeof(uint32_t))) {
    return std::nullopt;
  }
  return table->GetField<uint32_t>(kField, 0);
}

Result<const fb::Model*> verify_header(Span<const uint8_t> header, const std::string& where) {
  const uint64_t stored = read_u64(header.end());
  const uint64_t computed = xxh3_64(header.data(), header.size());
  if (stored != computed) {
    return corrupt(where, "the header is damaged: its checksum is " + hex(computed) +
                              ", but the file says " + hex(stored));
  }
  flatbuffers::Verifier::Options options;
  options.max_depth = kMaxDepth;
  options.max_tables = kMaxTables;
  const std::optional<uint32_t> version = find_version(header, options);
  if (version && *version != kFormatVersion) {
    return Status(StatusCode::kVersion, where + ": has format version " + std::to_string(*version) +
                                            ", but this version of Moka reads version " +
                                            std::to_string(kFormatVersion));
  }
  flatbuffers::Verifier verifier(header.data(), header.size(), options);
  if (!version || !fb::VerifySizePrefixedModelBuffer(verifier)) {
    return corrupt(where, "the header is no valid FlatBuffer of the Moka schema");
  }
  const fb::Model* model = fb::GetSizePrefixedModel(header.data());
  if (const auto* features = model->required_features()) {
    for (const flatbuffers::String* name : *features) {
      if (is_known_feature(name->string_view())) continue;
      return Status(StatusCode::kUnsupported,
                    where + ": needs the feature '" + printable(name->string_view()) +
                        "', which this version of Moka does not know; a newer one may");
    }
  }
  return model;
}

// Fills in the place and size of the data section; it must be exactly what is left of the file.
Status find_data(Span<const uint8_t> bytes, uint64_t header_end, uint64_t data_size,
                 const std::string& where, LoadedModel* model) {
  model->data_start = (header_end + kPageAlignment - 1) / kPageAlignment * kPageAlignment;
  model->data_size = data_size;
  const uint64_t present = bytes.size() < model->data_start ? 0 : bytes.size() - model->data_start;
  if (present != data_size) {
    return corrupt(where, "has " + std::to_string(present) +
                              " bytes of data, but its header describes " +
                              std::to_string(data_size) +
                              (present < data_size ? "; the file was cut short"
                                                   : "; something was appended to the file"));
  }
  for (uint64_t i = header_end; i < std::min<uint64_t>(model->data_start, bytes.size()); ++i) {
    if (bytes[static_cast<size_t>(i)] != 0) {
      return corrupt(where, "byte " + std::to_string(i) + ", between header and data, is not zero");
    }
  }
  return Status();
}

Result<LoadedModel> load_checked(Span<const uint8_t> bytes, const std::string& where,
                                 const ModelLimits& limits) {
  if (reinterpret_cast<uintptr_t>(bytes.data()) % kDataAlignment != 0) {
    return Status(StatusCode::kInvalidArgument,
                  where + ": the bytes of a model must be aligned to 64 bytes in memory");
  }
  MOKA_ASSIGN_OR_RETURN(const Span<const uint8_t> header, find_header(bytes, where, limits));
  MOKA_ASSIGN_OR_RETURN(const fb::Model* const root, verify_header(header, where));
  MOKA_RETURN_IF_ERROR(
      check_limit(where, "tensors", root->tensors()->size(), limits.tensors, "tensors"));
  LoadedModel model;
  model.bytes = bytes;
  model.fingerprint = root->fingerprint() != 0 ? root->fingerprint() : read_u64(header.end());
  model.format_version = root->format_version();
  MOKA_RETURN_IF_ERROR(
      find_data(bytes, header.size() + kChecksumBytes, root->data_size(), where, &model));
  const Span<const uint8_t> data =
      bytes.subspan(static_cast<size_t>(model.data_start), static_cast<size_t>(model.data_size));
  HeaderReader reader(where, header.size());
  reader.read(*root, data, &model);
  MOKA_RETURN_IF_ERROR(reader.status());
  MOKA_RETURN_IF_ERROR(check_spec(model.spec, where));
  MOKA_RETURN_IF_ERROR(check_vocabulary(model.spec, limits, where));
  return model;
}

Status verify_zeros(const LoadedModel& model, uint64_t begin, uint64_t end,
                    const std::string& where) {
  for (uint64_t i = begin; i < end; ++i) {
    if (model.bytes[static_cast<size_t>(model.data_start + i)] != 0) {
      return corrupt(where, "byte " + std::to_string(model.data_start + i) +
                                ", which belongs to no section, is not zero");
    }
  }
  return Status();
}

}  // namespace

Result<LoadedModel> load_model(Span<const uint8_t> bytes, const std::string& where,
                               const ModelLimits& limits) {
  // The copies of a header are bounded, but a small device may lack even that much.
  try {
    return load_checked(bytes, where, limits);
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::kOutOfMemory, "no memory for the model's header");
  }
}

Result<LoadedModel> load_model_file(const std::string& path, const ModelLimits& limits) {
  MOKA_ASSIGN_OR_RETURN(std::shared_ptr<FileMap> map, FileMap::open(path));
  MOKA_ASSIGN_OR_RETURN(LoadedModel model, load_model(map->bytes(), path, limits));
  model.map = std::move(map);
  return model;
}

Status verify_data(const LoadedModel& model, const std::string& where,
                   const VerifyProgress& progress) {
  constexpr uint64_t kPiece = uint64_t{4} << 20;
  uint64_t done = 0;
  for (const Section& section : model.sections) {
    MOKA_RETURN_IF_ERROR(verify_zeros(model, done, section.offset, where));
    done = section.offset;
    const uint64_t end = section.offset + section.size;
    Xxh3Stream hash;
    while (done < end) {
      const uint64_t piece = std::min(kPiece, end - done);
      const uint8_t* begin = model.bytes.data() + model.data_start + done;
      hash.update(begin, static_cast<size_t>(piece));
      if (model.map) model.map->release(begin, static_cast<size_t>(piece));
      done += piece;
      if (progress) MOKA_RETURN_IF_ERROR(progress(done, model.data_size));
    }
    if (hash.digest() != section.xxh3) {
      return corrupt(where, std::string("the section '") + section_name(section.kind) +
                                "' is damaged: its checksum is " + hex(hash.digest()) +
                                ", but the header says " + hex(section.xxh3));
    }
  }
  MOKA_RETURN_IF_ERROR(verify_zeros(model, done, model.data_size, where));
  return progress ? progress(model.data_size, model.data_size) : Status();
}

}  // namespace moka
