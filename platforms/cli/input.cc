#include "platforms/cli/input.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstring>

#include "platforms/cli/interrupt.h"

namespace moka::cli {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 30;
constexpr size_t kReadBytes = 64 * 1024;

Result<std::string> read_descriptor(int fd, const std::string& name) {
  std::string text;
  std::string buffer(kReadBytes, '\0');
  for (;;) {
    const ssize_t count = ::read(fd, buffer.data(), buffer.size());
    if (count == 0) return text;
    if (count < 0) {
      if (interrupted()) return Status(StatusCode::kCancelled, "");
      if (errno == EINTR) continue;
      return Status(StatusCode::kIo, name + ": " + std::strerror(errno));
    }
    if (text.size() + static_cast<size_t>(count) > kMaxTextBytes) {
      return Status(StatusCode::kOutOfRange, name + ": more than 1 GiB of text");
    }
    text.append(buffer.data(), static_cast<size_t>(count));
  }
}

}  // namespace

Result<std::string> read_text(const std::string& path) {
  if (path == "-") return read_descriptor(STDIN_FILENO, "standard input");
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    const StatusCode code = errno == ENOENT ? StatusCode::kNotFound : StatusCode::kIo;
    return Status(code, path + ": " + std::strerror(errno));
  }
  Result<std::string> text = read_descriptor(fd, path);
  ::close(fd);
  return text;
}

}  // namespace moka::cli
