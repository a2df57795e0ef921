#include "platforms/cli/input.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "platforms/cli/interrupt.h"
#include "platforms/cli/terminal.h"

namespace moka::cli {
namespace {

constexpr size_t kReadBytes = 64 * 1024;

}  // namespace

InputStream::InputStream(int fd, std::string name, uint64_t size)
    : fd_(fd), name_(std::move(name)), size_(size) {}

InputStream::InputStream(InputStream&& other) noexcept
    : fd_(other.fd_), name_(std::move(other.name_)), size_(other.size_) {
  other.fd_ = -1;
}

InputStream::~InputStream() {
  if (fd_ > STDIN_FILENO) ::close(fd_);
}

Result<InputStream> InputStream::open(const std::string& path) {
  if (path == "-") return InputStream(STDIN_FILENO, "standard input", 0);
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    const StatusCode code = errno == ENOENT ? StatusCode::kNotFound : StatusCode::kIo;
    return Status(code, path + ": " + std::strerror(errno));
  }
  struct stat facts = {};
  const bool plain = ::fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode);
  return InputStream(fd, path, plain ? static_cast<uint64_t>(facts.st_size) : 0);
}

Result<size_t> InputStream::read_some(char* buffer, size_t size) {
  for (;;) {
    const ssize_t count = ::read(fd_, buffer, size);
    if (count >= 0) return static_cast<size_t>(count);
    if (interrupted()) return Status(StatusCode::kCancelled, "");
    if (errno == EINTR) continue;
    return Status(StatusCode::kIo, name_ + ": " + std::strerror(errno));
  }
}

Result<size_t> InputStream::read(char* buffer, size_t size) {
  size_t done = 0;
  while (done < size) {
    MOKA_ASSIGN_OR_RETURN(const size_t count, read_some(buffer + done, size - done));
    if (count == 0) break;
    done += count;
  }
  return done;
}

Result<LineReader::Line> LineReader::next(std::string* line) {
  size_t searched = begin_;
  bool too_long = false;
  for (;;) {
    const size_t end = buffer_.find('\n', searched);
    if (end != std::string::npos) {
      const size_t size = end - begin_;
      too_long = too_long || size > kMaxLine;
      if (!too_long) line->assign(buffer_, begin_, size);
      begin_ = end + 1;
      break;
    }
    if (ended_) {
      if (begin_ == buffer_.size() && !too_long) return Line::kEnd;
      too_long = too_long || buffer_.size() - begin_ > kMaxLine;
      if (!too_long) line->assign(buffer_, begin_);
      begin_ = buffer_.size();
      break;
    }
    buffer_.erase(0, begin_);
    begin_ = 0;
    if (too_long || buffer_.size() > kMaxLine) {  // of such a line nothing is kept
      too_long = true;
      buffer_.clear();
    }
    const size_t before = buffer_.size();
    searched = before;
    buffer_.resize(before + kReadBytes);
    MOKA_ASSIGN_OR_RETURN(const size_t count, file_.read_some(&buffer_[before], kReadBytes));
    buffer_.resize(before + count);
    ended_ = count == 0;
  }
  number_++;
  if (too_long) return Line::kTooLong;
  if (!line->empty() && line->back() == '\r') line->pop_back();
  return Line::kRead;
}

Result<std::string> read_text(const std::string& path, uint64_t max_bytes) {
  MOKA_ASSIGN_OR_RETURN(InputStream file, InputStream::open(path));
  std::string text;
  std::string buffer(kReadBytes, '\0');
  for (;;) {
    MOKA_ASSIGN_OR_RETURN(const size_t count, file.read_some(buffer.data(), buffer.size()));
    if (count == 0) return text;
    if (text.size() + count > max_bytes) {
      return Status(StatusCode::kOutOfRange, file.name() + ": more than " + bytes_words(max_bytes) +
                                                 ", the most that is read");
    }
    text.append(buffer.data(), count);
  }
}

Result<std::string> read_prompt(const std::string& path) {
  MOKA_ASSIGN_OR_RETURN(std::string text, read_text(path));
  if (!text.empty() && text.back() == '\n') text.pop_back();
  if (!text.empty() && text.back() == '\r') text.pop_back();
  return text;
}

}  // namespace moka::cli
