// Status and Result: how every call of Moka reports failure.
//
// A Status has a code for programs and a message for people. The message says what was expected and
// what was found: the file, tensor, field or argument, its value, and what would be right. Nothing in
// the runtime prints, aborts or throws. Status and Result are values; any thread may hold one.
#ifndef MOKA_STATUS_H_
#define MOKA_STATUS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace moka {

// Codes are a contract: they are appended, never renumbered. Write a `default:` in every switch.
enum class StatusCode : int32_t {
  kOk = 0,
  kInvalidArgument = 1,  // the caller passed something that can never work
  kNotFound = 2,         // no such file, tensor, token, ...
  kIo = 3,               // the operating system failed to read or write
  kCorrupt = 4,          // the bytes are not what they claim to be
  kVersion = 5,          // a format version that this library does not know
  kUnsupported = 6,      // valid, but this build cannot run it; the message names the member
  kOutOfMemory = 7,
  kOutOfRange = 8,          // an index, position or size beyond its bound
  kFailedPrecondition = 9,  // right call, wrong moment
  kCancelled = 10,          // Session::cancel ended the call
  kInternal = 11,           // a defect in Moka
};

// The code's name as it is written in messages and JSON: "ok", "invalid_argument", ...
const char* status_code_name(StatusCode code);

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }
  // "corrupt: stories.moka: ..." for people; "ok" when there is no failure.
  std::string to_string() const;

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

// A value or the reason why there is none. value() may be called only when ok() is true.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}  // NOLINT: conversion is the point
  Result(Status status) : status_(std::move(status)) {
    if (status_.ok()) {  // An ok status without a value is a defect of the callee.
      status_ = Status(StatusCode::kInternal, "a Result was made from an ok status");
    }
  }

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return std::move(*value_); }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace moka

#define MOKA_CONCAT_INNER(a, b) a##b
#define MOKA_CONCAT(a, b) MOKA_CONCAT_INNER(a, b)

#define MOKA_RETURN_IF_ERROR(expression)                               \
  do {                                                                 \
    ::moka::Status MOKA_CONCAT(moka_status_, __LINE__) = (expression); \
    if (!MOKA_CONCAT(moka_status_, __LINE__).ok()) {                   \
      return MOKA_CONCAT(moka_status_, __LINE__);                      \
    }                                                                  \
  } while (false)

// MOKA_ASSIGN_OR_RETURN(auto model, Model::open(path));
#define MOKA_ASSIGN_OR_RETURN(declaration, expression)     \
  auto MOKA_CONCAT(moka_result_, __LINE__) = (expression); \
  if (!MOKA_CONCAT(moka_result_, __LINE__).ok()) {         \
    return MOKA_CONCAT(moka_result_, __LINE__).status();   \
  }                                                        \
  declaration = std::move(MOKA_CONCAT(moka_result_, __LINE__)).value()

#endif  // MOKA_STATUS_H_
