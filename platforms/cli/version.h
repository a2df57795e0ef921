// What `moka --version` and `moka bench` say about this build and this machine.
#ifndef MOKA_PLATFORMS_CLI_VERSION_H_
#define MOKA_PLATFORMS_CLI_VERSION_H_

#include <cstdint>
#include <string>

namespace moka::cli {

// "moka 0.1.0", compiler, model format, kernel tables; several lines.
std::string version_text();

std::string compiler_name();  // "gcc 12.2.0"
std::string cpu_name();       // "AMD EPYC 7763", "unknown" where the system does not say
unsigned cpu_cores();
// Peak resident memory of this process in bytes; 0 where the system does not say.
uint64_t peak_resident_bytes();

}  // namespace moka::cli

#endif  // MOKA_PLATFORMS_CLI_VERSION_H_
