// Loader: the bytes of a .moka file in, a checked ModelSpec out. schema/README.md has the layout.
//
// Nothing in the file is believed before it is checked: size prefix, identifier, header checksum,
// FlatBuffers structure, every enum and union member, every offset and size, then check_spec. The
// weights themselves are not read, so opening takes the time of the header whatever the model's
// size; verify_data() and verify_tiles() read them.
#ifndef MOKA_RUNTIME_LOADER_H_
#define MOKA_RUNTIME_LOADER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "moka/model.h"
#include "moka/span.h"
#include "moka/status.h"
#include "runtime/file_map.h"
#include "runtime/model_spec.h"

namespace moka {

constexpr uint64_t kMaxHeaderBytes = uint64_t{64} << 20;  // size prefix not counted
constexpr uint64_t kDataAlignment = 64;                   // of each tensor, snapshot and section
constexpr uint64_t kPageAlignment = 4096;                 // of the data section in the file
constexpr uint64_t kTailBytes = 128;                      // at least, after the last tensor

enum class SectionKind : uint8_t { kWeights = 0, kSnapshots = 1, kPackedWeights = 2 };
const char* section_name(SectionKind kind);  // "weights", "snapshots", "packed weights"

struct Section {
  SectionKind kind = SectionKind::kWeights;
  uint64_t offset = 0;  // from the start of the data section
  uint64_t size = 0;
  uint64_t xxh3 = 0;
  std::string key;
};

struct LoadedModel {
  ModelSpec spec;  // its tensors point into `bytes`
  // XXH3-64 of the header, which holds the checksums of the data; or what the header says it was
  // before snapshots were added or removed. A name, not a proof: anyone can write one into a header.
  uint64_t fingerprint = 0;
  uint32_t format_version = 0;
  std::vector<Section> sections;  // by offset
  uint64_t data_start = 0;        // where the data section begins in the file
  uint64_t data_size = 0;
  Span<const uint8_t> bytes;     // the whole file
  std::shared_ptr<FileMap> map;  // keeps `bytes` alive; null when the caller does
};

// `bytes` must be 64-byte aligned and outlive the result and its spec. `where` begins each message.
// kCorrupt: damaged, truncated, contradictory, or not a Moka file at all (the message says what it
// seems to be). kVersion: another format version. kUnsupported: needs a feature that this build
// does not know. kInvalidArgument: misaligned bytes. kOutOfRange: more than `limits`. kOutOfMemory.
// Any thread.
Result<LoadedModel> load_model(Span<const uint8_t> bytes, const std::string& where,
                               const ModelLimits& limits = {});

// Maps the file. Also kNotFound, kIo.
Result<LoadedModel> load_model_file(const std::string& path, const ModelLimits& limits = {});

// Told of the bytes checked so far; a failure that it returns ends the call with it.
using VerifyProgress = std::function<Status(uint64_t done, uint64_t total)>;

// Reads the whole data section and compares it with the checksums of its sections; bytes outside
// all sections must be zero. kCorrupt names the section or the byte. Memory stays flat: pages that
// were read are given back.
Status verify_data(const LoadedModel& model, const std::string& where,
                   const VerifyProgress& progress = {});

// Checks what a writer must put into the tiles of quantised matrices (runtime/tiles.h): scales are
// normal numbers, those of int8 positive; sums are the sums of their rows; what fills up a tile is
// zeros with scale 1. kCorrupt names tensor, tile and row. Progress counts bytes of matrices in
// tiles. verify_data first: it tells damage, this a faulty writer.
Status verify_tiles(const LoadedModel& model, const std::string& where,
                    const VerifyProgress& progress = {});

}  // namespace moka

#endif  // MOKA_RUNTIME_LOADER_H_
