#include "runtime/snapshots.h"

#include <vector>

#include "runtime/checksum.h"
#include "runtime/little_endian.h"
#include "runtime/text/unicode.h"

namespace moka {

std::string snapshot_name_error(std::string_view name) {
  if (name.empty() || name.size() > kMaxSnapshotNameBytes) {
    return "the name has " + std::to_string(name.size()) + " bytes, expected 1 to " +
           std::to_string(kMaxSnapshotNameBytes);
  }
  while (!name.empty()) {
    const text::Utf8Scan scan = text::scan_utf8(name);
    if (scan.kind != text::Utf8Scan::kValid) return "the name is not UTF-8";
    const text::CodePoint code_point = text::decode(name, 0).code_point;
    // C0, DEL and C1.
    if (code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0)) {
      return "the name has control characters";
    }
    name.remove_prefix(scan.length);
  }
  return {};
}

std::string snapshot_names(const ModelSpec& spec) {
  constexpr size_t kMost = 20;
  std::string names;
  for (size_t i = 0; i < spec.prefix_snapshots.size() && i < kMost; ++i) {
    names += (i == 0 ? "'" : ", '") + spec.prefix_snapshots[i].name + "'";
  }
  if (spec.prefix_snapshots.size() > kMost) {
    names += " and " + std::to_string(spec.prefix_snapshots.size() - kMost) + " more";
  }
  return names.empty() ? "none" : names;
}

const PrefixSnapshot* find_snapshot(const ModelSpec& spec, std::string_view name) {
  for (const PrefixSnapshot& snapshot : spec.prefix_snapshots) {
    if (snapshot.name == name) return &snapshot;
  }
  return nullptr;
}

Result<const PrefixSnapshot*> usable_snapshot(const ModelSpec& spec, std::string_view name) {
  const PrefixSnapshot* snapshot = find_snapshot(spec, name);
  if (snapshot == nullptr) {
    // A wrong name may be any text, so it is not repeated.
    const std::string what = snapshot_name_error(name).empty() ? "'" + std::string(name) + "'"
                                                               : std::string("of such a name");
    return Status(StatusCode::kNotFound,
                  "the model has no prefix snapshot " + what + "; it has: " + snapshot_names(spec));
  }
  const auto refuse = [snapshot](const char* why) {
    return Status(StatusCode::kFailedPrecondition,
                  "prefix snapshot '" + snapshot->name + "': " + why);
  };
  if (snapshot->stale) {
    return refuse(
        "it was made with other weights than this model has; make it anew with `moka snapshot "
        "add --force`");
  }
  if (snapshot->tokens.empty()) return refuse("it does not say which tokens were read");
  return snapshot;
}

uint64_t snapshot_check(Span<const TokenId> tokens) {
  std::vector<uint8_t> bytes(sizeof(TokenId) * tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    put_little_endian(tokens[i], bytes.data() + sizeof(TokenId) * i);
  }
  return xxh3_64(bytes.data(), bytes.size());
}

}  // namespace moka
