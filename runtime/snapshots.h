// Prefix snapshots of a model: names, and which one a name means.
//
// A snapshot is the state of a session that has read a fixed prefix. It lies in the model file
// (schema/README.md) and belongs to weights, not to a file: PrefixSnapshot::weights says to which.
#ifndef MOKA_RUNTIME_SNAPSHOTS_H_
#define MOKA_RUNTIME_SNAPSHOTS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "moka/span.h"
#include "moka/status.h"
#include "runtime/model_spec.h"

namespace moka {

constexpr size_t kMaxSnapshotNameBytes = 64;

// What is wrong with a name, empty if nothing: it is 1 to 64 bytes of UTF-8 without control
// characters, because it appears in messages, on terminals and in chat files.
std::string snapshot_name_error(std::string_view name);

// "'coach', 'poet'", or "none": for messages.
std::string snapshot_names(const ModelSpec& spec);

// The snapshot of that name, or null.
const PrefixSnapshot* find_snapshot(const ModelSpec& spec, std::string_view name);

// The same for using it. kNotFound says which names there are; kFailedPrecondition: it was made with
// other weights than the model has, or does not say what was read.
Result<const PrefixSnapshot*> usable_snapshot(const ModelSpec& spec, std::string_view name);

// XXH3-64 of the tokens as little-endian 32-bit numbers: names what a chat began with.
uint64_t snapshot_check(Span<const TokenId> tokens);

}  // namespace moka

#endif  // MOKA_RUNTIME_SNAPSHOTS_H_
