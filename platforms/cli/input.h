// Text that a verb reads whole: a file or stdin.
#ifndef MOKA_PLATFORMS_CLI_INPUT_H_
#define MOKA_PLATFORMS_CLI_INPUT_H_

#include <string>

#include "moka/status.h"

namespace moka::cli {

// The bytes of `path`, "-" for stdin. kNotFound, kIo; kOutOfRange beyond 1 GiB; kCancelled when an
// interrupt comes while it waits.
Result<std::string> read_text(const std::string& path);

}  // namespace moka::cli

#endif  // MOKA_PLATFORMS_CLI_INPUT_H_
