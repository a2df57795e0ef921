#include "platforms/capi/border.h"

#include <algorithm>

#include "moka/version.h"

namespace moka::capi {
namespace {

// The largest struct that is believed: a struct_size that was never set is rarely as small.
constexpr uint32_t kMaxStructSize = 4096;

// The longest prefix of at most `size` bytes that ends between code points.
size_t cut(std::string_view text, size_t size) {
  while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xC0u) == 0x80u) --size;
  return size;
}

}  // namespace

moka_status report(StatusCode code, std::string_view message, moka_error* error) noexcept {
  if (error != nullptr) {
    constexpr size_t kRoom = sizeof(error->message) - 1;
    constexpr std::string_view kMore = "...";
    error->code = static_cast<moka_status>(code);
    const bool whole = message.size() <= kRoom;
    const size_t size = whole ? message.size() : cut(message, kRoom - kMore.size());
    std::copy_n(message.data(), size, error->message);
    size_t end = size;
    if (!whole) end += kMore.copy(error->message + size, kMore.size());
    error->message[end] = '\0';
  }
  return static_cast<moka_status>(code);
}

Status check_room(const void* buffer, size_t capacity, size_t count, size_t* needed,
                  const char* name) {
  if (needed != nullptr) *needed = count;
  if (only_asks(buffer, capacity)) {
    return needed != nullptr ? Status()
                             : invalid(std::string(name) + " and needed are NULL, one is needed");
  }
  if (buffer == nullptr) {
    return invalid(std::string(name) + " is NULL, but its capacity is " + std::to_string(capacity));
  }
  if (count <= capacity) return Status();
  return Status(StatusCode::kOutOfRange, std::string(name) + " has room for " +
                                             std::to_string(capacity) + " elements, needed are " +
                                             std::to_string(count));
}

Status check_size(uint32_t given, size_t alignment, const char* name, const char* remedy) {
  if (given >= 2 * sizeof(uint32_t) && given % alignment == 0 && given <= kMaxStructSize) {
    return Status();
  }
  return invalid(std::string(name) + ".struct_size is " + std::to_string(given) +
                 ", which is no size of this struct; set it with " + remedy);
}

Status check_tail(const void* given, uint32_t given_size, size_t size, const char* name) {
  const auto* bytes = static_cast<const uint8_t*>(given);
  for (size_t i = size; i < given_size; ++i) {
    if (bytes[i] == 0) continue;
    return Status(StatusCode::kUnsupported,
                  std::string(name) + " sets a field at byte " + std::to_string(i) +
                      ", which this version of Moka (" MOKA_VERSION_STRING
                      ") does not know; its struct has " +
                      std::to_string(size) + " bytes, the caller's " + std::to_string(given_size));
  }
  return Status();
}

Status read_switch(int32_t value, const char* name, bool* out) {
  if (value != 0 && value != 1) {
    return invalid(std::string(name) + " is " + std::to_string(value) + ", must be 0 or 1");
  }
  *out = value == 1;
  return Status();
}

}  // namespace moka::capi

using moka::StatusCode;

const char* moka_version(void) { return MOKA_VERSION_STRING; }
uint32_t moka_abi_version(void) { return MOKA_ABI_VERSION; }
uint32_t moka_format_version(void) { return moka::kFormatVersion; }

const char* moka_status_name(moka_status code) {
  if (code < MOKA_OK || code > MOKA_INTERNAL) return "unknown";
  return moka::status_code_name(static_cast<StatusCode>(code));
}

// The codes are one list with two spellings.
static_assert(MOKA_OK == static_cast<int>(StatusCode::kOk));
static_assert(MOKA_INVALID_ARGUMENT == static_cast<int>(StatusCode::kInvalidArgument));
static_assert(MOKA_NOT_FOUND == static_cast<int>(StatusCode::kNotFound));
static_assert(MOKA_IO == static_cast<int>(StatusCode::kIo));
static_assert(MOKA_CORRUPT == static_cast<int>(StatusCode::kCorrupt));
static_assert(MOKA_VERSION == static_cast<int>(StatusCode::kVersion));
static_assert(MOKA_UNSUPPORTED == static_cast<int>(StatusCode::kUnsupported));
static_assert(MOKA_OUT_OF_MEMORY == static_cast<int>(StatusCode::kOutOfMemory));
static_assert(MOKA_OUT_OF_RANGE == static_cast<int>(StatusCode::kOutOfRange));
static_assert(MOKA_FAILED_PRECONDITION == static_cast<int>(StatusCode::kFailedPrecondition));
static_assert(MOKA_CANCELLED == static_cast<int>(StatusCode::kCancelled));
static_assert(MOKA_INTERNAL == static_cast<int>(StatusCode::kInternal));
