// Prefix snapshots: putting them into model files, taking them out, and checking them.
//
// A snapshot is a text and the state of a session that has read it; schema/README.md has its bytes.
// Each call writes the whole file anew beside the old one and renames it: weights and all else of the
// data are copied as they are, at the places where they are, and the file's fingerprint stays. So
// sessions and chats that were saved before open afterwards. One thread at a time per file.
#ifndef MOKA_CONVERTER_SNAPSHOT_H_
#define MOKA_CONVERTER_SNAPSHOT_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "moka/model.h"
#include "moka/span.h"
#include "moka/status.h"
#include "runtime/model_spec.h"

namespace moka {

struct SnapshotText {
  std::string name;  // 1 to 64 bytes of UTF-8 without control characters
  std::string text;  // at most 1 MiB; special tokens in it are read as such
};

struct SnapshotOptions {
  bool replace = false;  // add: a snapshot of that name; else it is kFailedPrecondition
  int threads = 0;       // of the runtime while it reads; 0: its default
  // Told of the tokens read so far; false ends the call with kCancelled. May be empty.
  std::function<bool(uint64_t done, uint64_t total)> progress;
};

// Reads the text with the model and adds its state to the file at `path`.
// kInvalidArgument: a bad name, an empty text, one that cannot be encoded. kOutOfRange: more tokens than
// the model reads, or than 2^20. kUnsupported: a model that is not causal, reads no text, or answers
// from a second sequence. Else as load_model_file, verify_data, AtomicFile.
Result<SnapshotInfo> add_snapshot(const std::string& path, const SnapshotText& text,
                                  const SnapshotOptions& options = {});

// kNotFound names the snapshots that there are. Without its last one a file that add_snapshot made is
// again what it was, to the byte.
Status remove_snapshot(const std::string& path, const std::string& name);

// For the converter. The model at `from`, with snapshots of `texts` in this order instead of its own,
// goes to `to`, which is replaced. Errors name the snapshot.
Status write_with_snapshots(const std::string& from, const std::vector<SnapshotText>& texts,
                            const std::string& to, const SnapshotOptions& options = {});

// Whether `texts` can become snapshots of such a model, as far as that can be said without weights:
// kUnsupported and kInvalidArgument, which name the snapshot. Takes the time of making a tokenizer.
Status check_snapshot_texts(const ModelSpec& spec, const std::vector<SnapshotText>& texts);

// What became of reading a snapshot's tokens again.
struct SnapshotCheck {
  bool same_bits = false;  // of the whole state
  // Largest relative_rms() of a row of output, at the end of the prefix and after each of the 8 most
  // likely tokens behind it (of language models).
  double difference = 0;
  // What different instruction sets may differ by: 0.01, or 0.1 where matrices are int8 or int4, whose
  // inputs are rounded to 8 bits, so that a last bit can become a step that later tokens build upon.
  double tolerance = 0;
  bool ok() const { return same_bits || difference <= tolerance; }
};

// How far a row of output is from what it should be, whatever its scale: the root mean square of the
// differences over that of `expected`. With `scores` both are taken without their means, for a number
// that is added to all scores changes nothing. 0 for equal rows; infinite for rows of different
// lengths, with numbers that are not finite, or where all of `expected` is its mean and `found` is not.
double relative_rms(Span<const float> found, Span<const float> expected, bool scores);

// With the snapshot's own chunk. Errors: as Session::restore_snapshot and append.
Result<SnapshotCheck> check_snapshot(const Model& model, const PrefixSnapshot& snapshot,
                                     const SnapshotOptions& options = {});

}  // namespace moka

#endif  // MOKA_CONVERTER_SNAPSHOT_H_
