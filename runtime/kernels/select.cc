// Chooses the kernel table: by name, by the environment, or the best that this CPU runs.
#include <cstdlib>
#include <cstring>
#include <string>

#include "runtime/kernels/isa.h"
#include "runtime/kernels/kernels.h"

namespace moka {
namespace {

constexpr const char* kNames[] = {"avx512", "avx2", "neon", "wasm", "scalar"};

struct Tables {
  const Kernels* list[5] = {};
  size_t count = 0;
  Tables() {
    for (const Kernels* table :
         {kernels_avx512(), kernels_avx2(), kernels_neon(), kernels_wasm(), kernels_scalar()}) {
      if (table != nullptr) list[count++] = table;
    }
  }
};

const Tables& tables() {
  static const Tables kTables;
  return kTables;
}

bool runs_here(const Kernels& table) { return (table.needs & ~cpu_features()) == 0; }

std::string usable_names() {
  std::string names;
  for (const Kernels* table : compiled_kernels()) {
    if (!runs_here(*table)) continue;
    if (!names.empty()) names += ", ";
    names += table->name;
  }
  return names;
}

}  // namespace

Span<const Kernels* const> compiled_kernels() {
  return Span<const Kernels* const>(tables().list, tables().count);
}

Result<const Kernels*> select_kernels(const char* isa) {
  const char* origin = "the ISA option";
  if (isa == nullptr || *isa == '\0') {
    isa = std::getenv("MOKA_ISA");
    origin = "MOKA_ISA";
  }
  if (isa == nullptr || *isa == '\0') {
    for (const Kernels* table : compiled_kernels()) {
      if (runs_here(*table)) return table;
    }
    return Status(StatusCode::kInternal, "no kernel table runs on this CPU");
  }
  for (const Kernels* table : compiled_kernels()) {
    if (std::strcmp(table->name, isa) != 0) continue;
    if (runs_here(*table)) return table;
    return Status(StatusCode::kUnsupported,
                  std::string(origin) + " asks for '" + isa +
                      "', which this CPU lacks; it runs: " + usable_names());
  }
  for (const char* name : kNames) {
    if (std::strcmp(name, isa) == 0) {
      return Status(StatusCode::kUnsupported,
                    std::string(origin) + " asks for '" + isa +
                        "', which is for another architecture; this one runs: " + usable_names());
    }
  }
  return Status(StatusCode::kInvalidArgument,
                std::string(origin) + " is '" + isa + "'; this machine runs: " + usable_names());
}

}  // namespace moka
