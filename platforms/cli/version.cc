#include "platforms/cli/version.h"

#include <sys/resource.h>

#include <fstream>
#include <thread>

#include "moka/version.h"
#include "runtime/kernels/dense.h"
#include "runtime/kernels/kernels.h"

namespace moka::cli {
namespace {

// The value behind `key` in a file of "key : value" lines, "" when there is none.
std::string value_of(const char* path, const std::string& key) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    if (line.compare(0, key.size(), key) != 0) continue;
    const size_t colon = line.find(':', key.size());
    if (colon == std::string::npos) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  while (!line.empty() && line.back() == '\0') line.pop_back();  // device tree strings end so
  return line;
}

}  // namespace

std::string compiler_name() {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "gcc " __VERSION__;
#else
  return "unknown compiler";
#endif
}

std::string cpu_name() {
  std::string name = value_of("/proc/cpuinfo", "model name");
  if (name.empty()) name = first_line("/proc/device-tree/model");  // Arm boards
  return name.empty() ? "unknown" : name;
}

unsigned cpu_cores() { return std::thread::hardware_concurrency(); }

uint64_t peak_resident_bytes() {
  const std::string text = value_of("/proc/self/status", "VmHWM");  // "12345 kB"
  if (!text.empty()) return std::strtoull(text.c_str(), nullptr, 10) * 1024;
  struct rusage usage = {};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
#if defined(__APPLE__)
  return static_cast<uint64_t>(usage.ru_maxrss);
#else
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
#endif
}

std::string version_text() {
  const Result<const Kernels*> chosen = select_kernels(nullptr);
  std::string kernels;
  for (const Kernels* table : compiled_kernels()) {
    kernels += std::string(kernels.empty() ? "" : ", ") + table->name;
    if (chosen.ok() && table == chosen.value()) {
      kernels += " (in use)";
    } else if (!select_kernels(table->name).ok()) {
      kernels += " (not on this CPU)";
    }
  }
  std::string text = "moka " MOKA_VERSION_STRING "\n";
  text += "compiler      " + compiler_name() + "\n";
  text += "model format  " + std::to_string(kFormatVersion) + "\n";
  text += "kernels       " + kernels + "\n";
  if (chosen.ok()) {
    // Quantised products have tables of their own: which one says what the CPU can multiply.
    text += std::string("products      ") + select_dense_kernels(*chosen.value()).name + "\n";
  } else {
    text += "              " + chosen.status().message() + "\n";
  }
  return text;
}

}  // namespace moka::cli
