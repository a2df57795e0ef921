#include "platforms/cli/exit_codes.h"

namespace moka::cli {

int exit_code_of(StatusCode code) {
  switch (code) {
    case StatusCode::kOk: return kExitOk;
    case StatusCode::kNotFound:
    case StatusCode::kIo:
    case StatusCode::kCorrupt: return kExitBadFile;
    case StatusCode::kVersion:
    case StatusCode::kUnsupported: return kExitUnsupported;
    case StatusCode::kOutOfMemory: return kExitOutOfMemory;
    case StatusCode::kCancelled: return kExitInterrupted;
    default: return kExitFailure;
  }
}

Outcome Outcome::of_arguments(const Status& status) {
  const bool argument =
      status.code() == StatusCode::kInvalidArgument || status.code() == StatusCode::kOutOfRange;
  return argument ? usage(status.message()) : Outcome(status);
}

}  // namespace moka::cli
