#include "runtime/loader_foreign.h"

#include <algorithm>
#include <cstring>
#include <string_view>

namespace moka {
namespace {

struct Magic {
  size_t offset;
  std::string_view bytes;
  const char* what;
};

// Longer and surer signs first.
constexpr Magic kMagics[] = {
    {0, "version https://git-lfs", "a Git LFS pointer: the file itself was not downloaded"},
    {0, "<!DOCTYPE", "a web page"},
    {0, "<!doctype", "a web page"},
    {0, "<html", "a web page"},
    {0, "\x89HDF", "an HDF5 file (Keras)"},
    {0, "\x93NUMPY", "a NumPy array"},
    {0, "GGUF", "a GGUF file (llama.cpp)"},
    {0, "tjgg", "an old GGML file (llama.cpp)"},
    {0, "lmgg", "an old GGML file (llama.cpp)"},
    {0, "PK\x03\x04", "a zip archive, as PyTorch's .pt and .bin files are; convert it first"},
    {0, "\x1f\x8b", "gzip-compressed; decompress it first"},
    {0,
     "\xfd"
     "7zXZ",
     "xz-compressed; decompress it first"},
    {0, "\x28\xb5\x2f\xfd", "Zstandard-compressed; decompress it first"},
    {0, "\x80\x02", "a Python pickle, as old PyTorch files are; convert it first"},
    {4, "TFL3", "a TensorFlow Lite model"},
    {4, "ET12", "an ExecuTorch program"},
    {0, "\x08\x07\x12", "an ONNX model"},
    {0, "\x08\x08\x12", "an ONNX model"},
    {0, "\x08\x09\x12", "an ONNX model"},
    {0, "\x08\x0a\x12", "an ONNX model"},
};

// safetensors: eight bytes of length, little-endian, then that much JSON.
bool looks_like_safetensors(Span<const uint8_t> bytes) {
  if (bytes.size() < 10 || bytes[8] != '{') return false;
  uint64_t length = 0;
  for (size_t i = 8; i-- > 0;) length = length << 8 | bytes[i];
  return length >= 2 && length <= bytes.size() - 8;
}

bool looks_like_text(Span<const uint8_t> bytes) {
  const size_t count = std::min<size_t>(bytes.size(), 256);
  return std::all_of(bytes.begin(), bytes.begin() + count, [](uint8_t c) {
    return c >= 0x20 ? c != 0x7f : c == '\n' || c == '\r' || c == '\t';
  });
}

}  // namespace

std::string describe_foreign_file(Span<const uint8_t> bytes) {
  if (bytes.empty()) return "an empty file";
  for (const Magic& magic : kMagics) {
    if (bytes.size() >= magic.offset + magic.bytes.size() &&
        std::memcmp(bytes.data() + magic.offset, magic.bytes.data(), magic.bytes.size()) == 0) {
      return magic.what;
    }
  }
  if (looks_like_safetensors(bytes)) return "a safetensors file; convert it with its config.json";
  const size_t zeros = std::min<size_t>(bytes.size(), 256);
  if (std::all_of(bytes.begin(), bytes.begin() + zeros, [](uint8_t c) { return c == 0; })) {
    return "zeros, as a download that was only reserved";
  }
  if (looks_like_text(bytes)) return bytes[0] == '{' ? "JSON text" : "a text file";
  return "unknown: bytes 8 to 11 are not 'MOKA'";
}

}  // namespace moka
