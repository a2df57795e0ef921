// Bytes that a verb reads: a file or stdin, whole, in pieces or in lines.
#ifndef MOKA_PLATFORMS_CLI_INPUT_H_
#define MOKA_PLATFORMS_CLI_INPUT_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "moka/status.h"

namespace moka::cli {

// A file, or stdin for the path "-". Reading ends with kCancelled when an interrupt comes while it
// waits.
class InputStream {
 public:
  // kNotFound, kIo.
  static Result<InputStream> open(const std::string& path);
  InputStream(InputStream&& other) noexcept;
  InputStream& operator=(InputStream&&) = delete;
  ~InputStream();

  // Fills `buffer` as far as the input reaches; fewer bytes than `size` only at its end.
  Result<size_t> read(char* buffer, size_t size);
  // The same, but gives what there is as soon as there is something.
  Result<size_t> read_some(char* buffer, size_t size);
  // Of a plain file; 0 for pipes and terminals.
  uint64_t size() const { return size_; }
  // For messages: the path, "standard input" for stdin.
  const std::string& name() const { return name_; }

 private:
  InputStream(int fd, std::string name, uint64_t size);
  int fd_ = -1;
  std::string name_;
  uint64_t size_ = 0;
};

// Lines of an input, without their ends ("\n" or "\r\n"); the last one needs none.
class LineReader {
 public:
  static constexpr size_t kMaxLine = size_t{64} << 20;

  explicit LineReader(InputStream file) : file_(std::move(file)) {}

  enum class Line { kRead, kTooLong, kEnd };
  // kTooLong: a line of more than kMaxLine bytes was passed over.
  Result<Line> next(std::string* line);
  uint64_t number() const { return number_; }  // of the line that was read last, from 1

 private:
  InputStream file_;
  std::string buffer_;
  size_t begin_ = 0;  // of what has not been given out
  uint64_t number_ = 0;
  bool ended_ = false;
};

// The bytes of `path`, "-" for stdin. kNotFound, kIo; kOutOfRange beyond `max_bytes`; kCancelled when
// an interrupt comes while it waits.
constexpr uint64_t kMaxTextBytes = uint64_t{1} << 30;
Result<std::string> read_text(const std::string& path, uint64_t max_bytes = kMaxTextBytes);

// The same without one newline at its end, which editors put there.
Result<std::string> read_prompt(const std::string& path);

}  // namespace moka::cli

#endif  // MOKA_PLATFORMS_CLI_INPUT_H_
