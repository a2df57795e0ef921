// Exit codes of `moka`, and the outcome of a verb. Scripts rely on the numbers: they never change.
#ifndef MOKA_PLATFORMS_CLI_EXIT_CODES_H_
#define MOKA_PLATFORMS_CLI_EXIT_CODES_H_

#include <string>
#include <utility>

#include "moka/status.h"

namespace moka::cli {

constexpr int kExitOk = 0;
constexpr int kExitFailure = 1;
constexpr int kExitUsage = 2;
constexpr int kExitBadFile = 3;      // corrupt, missing or unreadable
constexpr int kExitUnsupported = 4;  // valid, but this build cannot run it
constexpr int kExitOutOfMemory = 5;
constexpr int kExitInterrupted = 130;  // 128 + SIGINT; another signal adds its own number

// The exit code of a failure of the library. A failure that the user caused by an argument has the
// same codes as others (kInvalidArgument, kOutOfRange): the verb knows, and says Outcome::usage.
int exit_code_of(StatusCode code);

// What a verb ends with: an exit code and, for a failure, the words that main() puts on stderr.
struct Outcome {
  int exit_code = kExitOk;
  std::string message;  // empty: nothing to say

  Outcome() = default;
  Outcome(int code, std::string words) : exit_code(code), message(std::move(words)) {}
  Outcome(const Status& status)  // NOLINT: conversion is the point
      : exit_code(exit_code_of(status.code())), message(status.ok() ? "" : status.message()) {}

  static Outcome usage(std::string words) { return {kExitUsage, std::move(words)}; }
  // A failure whose code says nothing about a file that was read, such as a full disk.
  static Outcome failure(const Status& status) { return {kExitFailure, status.message()}; }
  // For calls whose invalid or out-of-range arguments can only be the user's.
  static Outcome of_arguments(const Status& status);
};

}  // namespace moka::cli

#endif  // MOKA_PLATFORMS_CLI_EXIT_CODES_H_
