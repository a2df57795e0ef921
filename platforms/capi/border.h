// The border between C and C++: what every call of moka.h goes through.
//
//   moka_status moka_thing_do(moka_thing* thing, const int32_t* a, size_t n, moka_error* error) {
//     return border(error, [&]() -> Status {
//       MOKA_RETURN_IF_ERROR(need(thing, "thing"));
//       MOKA_ASSIGN_OR_RETURN(const auto items, span_of(a, n, "a"));
//       return thing->value.run(items);
//     });
//   }
#ifndef MOKA_PLATFORMS_CAPI_BORDER_H_
#define MOKA_PLATFORMS_CAPI_BORDER_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <limits>
#include <new>
#include <string>
#include <string_view>

#include "moka.h"
#include "moka/span.h"
#include "moka/status.h"

namespace moka::capi {

// Stores code and message; allocates nothing, so that lack of memory can be told. Gives the code.
moka_status report(StatusCode code, std::string_view message, moka_error* error) noexcept;

// Runs a body that gives a Status; nothing that is thrown gets past it.
template <class Body>
moka_status border(moka_error* error, const Body& body) noexcept {
  try {
    const Status status = body();
    return report(status.code(), status.message(), error);
  } catch (const std::bad_alloc&) {
    return report(StatusCode::kOutOfMemory, "no memory for what the call needs", error);
  } catch (const std::exception& exception) {
    return report(StatusCode::kInternal, exception.what(), error);
  } catch (...) {
    return report(StatusCode::kInternal, "something was thrown that is no std::exception", error);
  }
}

inline Status invalid(std::string message) {
  return Status(StatusCode::kInvalidArgument, std::move(message));
}

inline Status need(const void* pointer, const char* name) {
  return pointer != nullptr ? Status() : invalid(std::string(name) + " is NULL");
}

// `count` elements at `data`, which may be null when there are none.
template <class T>
Result<Span<const T>> span_of(const T* data, size_t count, const char* name) {
  if (data == nullptr && count > 0) {
    return invalid(std::string(name) + " is NULL, but has " + std::to_string(count) + " elements");
  }
  // No object is larger; a negative number that became a size is.
  if (count > static_cast<size_t>(std::numeric_limits<ptrdiff_t>::max()) / sizeof(T)) {
    return Status(StatusCode::kOutOfRange, std::string(name) + " has " + std::to_string(count) +
                                               " elements, more than any memory");
  }
  return Span<const T>(data, count);
}

inline Result<Span<const uint8_t>> bytes_of(const void* data, size_t size, const char* name) {
  return span_of(static_cast<const uint8_t*>(data), size, name);
}

inline Result<std::string_view> text_of(const char* data, size_t size, const char* name) {
  MOKA_ASSIGN_OR_RETURN(const Span<const char> text, span_of(data, size, name));
  return std::string_view(text.data(), text.size());
}

// Whether the caller only asks for the number of elements.
inline bool only_asks(const void* buffer, size_t capacity) {
  return buffer == nullptr && capacity == 0;
}

// Tells `count`, and whether the buffer takes so many. A caller that only asks has ok, too.
Status check_room(const void* buffer, size_t capacity, size_t count, size_t* needed,
                  const char* name);

// Copies all of `items` to the buffer, or nothing.
template <class T>
Status give(Span<const T> items, T* buffer, size_t capacity, size_t* needed, const char* name) {
  MOKA_RETURN_IF_ERROR(check_room(buffer, capacity, items.size(), needed, name));
  if (buffer != nullptr && items.size() > 0) {
    std::memcpy(buffer, items.data(), items.size() * sizeof(T));
  }
  return Status();
}

inline Status give_bytes(Span<const uint8_t> items, void* buffer, size_t capacity, size_t* needed,
                         const char* name) {
  return give(items, static_cast<uint8_t*>(buffer), capacity, needed, name);
}

// Structs that grow. `size` is what this library knows of them. A size is a multiple of `alignment`,
// so that no field is cut in two (a struct whose alignment grows had other sizes before that).
Status check_size(uint32_t given, size_t alignment, const char* name, const char* remedy);
Status check_tail(const void* given, uint32_t given_size, size_t size, const char* name);

// The caller's options over `options`, which holds the defaults; `given` may be null.
template <class T>
Status read_options(const T* given, const char* name, T* options) {
  if (given == nullptr) return Status();
  const uint32_t size = given->struct_size;
  MOKA_RETURN_IF_ERROR(check_size(size, alignof(T), name, "_init()"));
  MOKA_RETURN_IF_ERROR(check_tail(given, size, sizeof(T), name));
  std::memcpy(static_cast<void*>(options), given, size < sizeof(T) ? size : sizeof(T));
  options->struct_size = sizeof(T);
  return Status();
}

// Copies as much of `value` as the caller's struct has room for.
template <class T>
Status write_struct(const T& value, const char* name, T* out) {
  MOKA_RETURN_IF_ERROR(need(out, name));
  const uint32_t size = out->struct_size;
  MOKA_RETURN_IF_ERROR(check_size(size, alignof(uint32_t), name, "sizeof"));
  if (size > sizeof(T)) std::memset(static_cast<void*>(out), 0, size);
  std::memcpy(static_cast<void*>(out), &value, size < sizeof(T) ? size : sizeof(T));
  out->struct_size = size;
  return Status();
}

// What _init functions do: `size` bytes of `value`, zeros where it ends.
template <class T>
void init_struct(const T& value, T* out, uint32_t size) {
  if (out == nullptr || size < sizeof(uint32_t)) return;
  std::memset(static_cast<void*>(out), 0, size);
  std::memcpy(static_cast<void*>(out), &value, size < sizeof(T) ? size : sizeof(T));
  out->struct_size = size;
}

// A switch of the options.
Status read_switch(int32_t value, const char* name, bool* out);

}  // namespace moka::capi

#endif  // MOKA_PLATFORMS_CAPI_BORDER_H_
