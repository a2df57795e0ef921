// Guesses what a file is that is not a Moka file, so that the error can say what went wrong.
#ifndef MOKA_RUNTIME_LOADER_FOREIGN_H_
#define MOKA_RUNTIME_LOADER_FOREIGN_H_

#include <cstdint>
#include <string>

#include "moka/span.h"

namespace moka {

// "a GGUF file (llama.cpp)", "an empty file", ...; looks at the first bytes only.
std::string describe_foreign_file(Span<const uint8_t> bytes);

}  // namespace moka

#endif  // MOKA_RUNTIME_LOADER_FOREIGN_H_
