#include "platforms/cli/terminal.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "platforms/cli/interrupt.h"

namespace moka::cli {
namespace {

int output_error = 0;  // errno of the first failed write to stdout

// False with errno set when the descriptor takes no more.
bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(fd, text.data(), text.size());
    if (count < 0) {
      if (errno != EINTR) return false;
      if (interrupted()) return false;  // a full pipe that nobody empties must not hold us
      continue;
    }
    text.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

std::string printf_double(const char* format, double value) {
  char buffer[64];
  std::snprintf(buffer, sizeof(buffer), format, value);
  return buffer;
}

bool inside_character(const std::string& text, size_t at) {
  return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
}

}  // namespace

bool write_output(std::string_view text) {
  if (output_error != 0) return false;
  if (write_all(STDOUT_FILENO, text)) return true;
  output_error = errno;
  return false;
}

Outcome output_outcome() {
  if (output_error == 0 || output_error == EPIPE) return {};
  if (output_error == EINTR) return {128 + interrupt_signal(), ""};
  return {kExitFailure, std::string("standard output: ") + std::strerror(output_error)};
}

bool output_closed() { return output_error != 0; }

void reopen_output() {
  if (output_error == EINTR) output_error = 0;
}

void say(std::string_view words) {
  const std::string line = printable(words) + "\n";
  (void)write_all(STDERR_FILENO, line);  // nobody is left to be told
}

void say_prompt(std::string_view words) { (void)write_all(STDERR_FILENO, printable(words)); }

std::string first_bytes(const std::string& text, size_t most) {
  size_t end = std::min(text.size(), most);
  while (end > 0 && inside_character(text, end)) --end;
  return text.substr(0, end) + (end < text.size() ? "..." : "");
}

std::string last_bytes(const std::string& text, size_t most) {
  size_t begin = text.size() - std::min(text.size(), most);
  while (inside_character(text, begin)) ++begin;
  return (begin > 0 ? "..." : "") + text.substr(begin);
}

std::string printable(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if ((static_cast<unsigned char>(c) < 0x20 && c != '\n') || c == 0x7f) c = '?';
  }
  return out;
}

bool is_terminal(int fd) { return ::isatty(fd) == 1; }

size_t terminal_width(int fd) {
  struct winsize size = {};
  if (::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20) return size.ws_col;
  return 80;
}

std::string with_commas(uint64_t number) {
  std::string text = std::to_string(number);
  for (size_t i = text.size(); i > 3;) text.insert(i -= 3, ",");
  return text;
}

std::string bytes_words(uint64_t bytes) {
  if (bytes < 1000) return std::to_string(bytes) + (bytes == 1 ? " byte" : " bytes");
  static const char* const kUnits[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
  double value = static_cast<double>(bytes) / 1000.0;
  size_t unit = 0;
  while (value >= 999.5 && unit + 1 < std::size(kUnits)) {
    value /= 1000.0;
    unit++;
  }
  return short_number(value) + " " + kUnits[unit];
}

std::string short_number(double number) {
  if (!std::isfinite(number)) return std::isnan(number) ? "nan" : number > 0 ? "inf" : "-inf";
  const double size = std::fabs(number);
  if (size == 0.0) return "0";
  if (size >= 999.5) {
    const std::string digits = size < 1e18 ? with_commas(static_cast<uint64_t>(std::llround(size)))
                                           : printf_double("%.3g", size);
    return (number < 0 ? "-" : "") + digits;
  }
  if (size >= 99.95) return printf_double("%.0f", number);
  if (size >= 9.995) return printf_double("%.1f", number);
  if (size >= 0.9995) return printf_double("%.2f", number);
  if (size >= 0.0001) return printf_double("%.3g", number);
  return printf_double("%.2e", number);
}

std::string float_text(float value) {
  char text[32] = "";
  for (int digits = 6; digits <= 9; digits++) {  // nine always suffice
    std::snprintf(text, sizeof(text), "%.*g", digits, static_cast<double>(value));
    if (std::strtof(text, nullptr) == value) break;
  }
  return text;
}

std::string seconds_words(double seconds) {
  if (seconds < 0.0009995) return short_number(seconds * 1e6) + " us";
  if (seconds < 0.9995) return short_number(seconds * 1e3) + " ms";
  if (seconds < 99.95) return short_number(seconds) + " s";
  const auto whole = static_cast<uint64_t>(std::llround(seconds));
  if (whole < 3600) {
    return std::to_string(whole / 60) + " min " + std::to_string(whole % 60) + " s";
  }
  return std::to_string(whole / 3600) + " h " + std::to_string(whole / 60 % 60) + " min";
}

std::string wrap(std::string_view text, size_t width, size_t indent) {
  width = std::max<size_t>(width, indent + 20);
  std::string out;
  size_t column = indent;
  bool line_start = true;
  size_t i = 0;
  while (i < text.size()) {
    if (text[i] == '\n') {
      out += '\n';
      out.append(indent, ' ');
      column = indent;
      line_start = true;
      i++;
      continue;
    }
    if (text[i] == ' ') {
      i++;
      continue;
    }
    size_t end = i;
    while (end < text.size() && text[end] != ' ' && text[end] != '\n') end++;
    if (!line_start && column + 1 + (end - i) > width) {
      out += '\n';
      out.append(indent, ' ');
      column = indent;
      line_start = true;
    }
    if (!line_start) {
      out += ' ';
      column++;
    }
    out += text.substr(i, end - i);
    column += end - i;
    line_start = false;
    i = end;
  }
  return out;
}

std::string Table::to_string(size_t width) const {
  std::vector<size_t> widths;
  for (const Column& column : columns_) widths.push_back(column.title.size());
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); i++) widths[i] = std::max(widths[i], row[i].size());
  }
  size_t total = 0;
  for (size_t w : widths) total += w + 2;
  total -= 2;
  if (width != 0 && total > width) {
    const size_t excess = total - width;
    widths[0] = std::max<size_t>(widths[0] > excess ? widths[0] - excess : 0, 12);
  }
  std::string out;
  const auto add_row = [&](const auto& text_of) {
    std::string line;
    for (size_t i = 0; i < columns_.size(); i++) {
      std::string cell = text_of(i);
      if (cell.size() > widths[i]) {
        const size_t keep = widths[i] - 3;
        cell = cell.substr(0, keep / 2) + "..." + cell.substr(cell.size() - (keep - keep / 2));
      }
      const std::string gap(widths[i] - cell.size(), ' ');
      if (i > 0) line += "  ";
      line += columns_[i].right ? gap + cell : cell + gap;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + '\n';
  };
  add_row([&](size_t i) { return columns_[i].title; });
  for (const auto& row : rows_) add_row([&](size_t i) { return i < row.size() ? row[i] : ""; });
  return out;
}

Progress::Progress(std::string label, uint64_t total, std::string unit)
    : label_(std::move(label)),
      total_(total),
      unit_(std::move(unit)),
      start_(Clock::now()),
      last_(start_) {
  const char* term = std::getenv("TERM");
  enabled_ = is_terminal(STDERR_FILENO) && (term == nullptr || std::strcmp(term, "dumb") != 0);
}

Progress::~Progress() { clear(); }

void Progress::clear() {
  if (drawn_) (void)write_all(STDERR_FILENO, "\r\x1b[K");
  drawn_ = false;
}

void Progress::update(uint64_t done) {
  if (!enabled_) return;
  const Clock::time_point now = Clock::now();
  const auto since = [&](Clock::time_point then) {
    return std::chrono::duration<double>(now - then).count();
  };
  if (since(start_) < 0.3 || since(last_) < 0.1) return;
  last_ = now;
  draw(done, since(start_));
}

void Progress::draw(uint64_t done, double elapsed) {
  const bool is_bytes = unit_ == "bytes";
  const double share =
      total_ == 0 ? 0.0 : std::min(1.0, static_cast<double>(done) / static_cast<double>(total_));
  const double rate = static_cast<double>(done) / elapsed;
  const bool endless = total_ == 0;  // a pipe
  std::string tail = endless ? "  " : " " + std::to_string(static_cast<int>(share * 100)) + "%  ";
  tail += is_bytes ? bytes_words(done) : with_commas(done);
  if (!endless) tail += " of " + (is_bytes ? bytes_words(total_) : with_commas(total_));
  if (!is_bytes) tail += " " + unit_;
  tail += is_bytes ? "  " + bytes_words(static_cast<uint64_t>(rate)) + "/s"
                   : "  " + short_number(rate) + "/s";
  if (done > 0 && done < total_) {
    const double left = std::ceil(static_cast<double>(total_ - done) / rate);
    const bool short_time = left < 100;
    tail += "  " +
            (short_time ? std::to_string(static_cast<int>(left)) + " s" : seconds_words(left)) +
            " left";
  }
  const size_t width = terminal_width(STDERR_FILENO) - 3;  // room for the echo of ^C
  std::string line = label_ + " ";
  if (!endless && width > line.size() + tail.size() + 12) {
    const size_t bar = std::min<size_t>(width - line.size() - tail.size() - 2, 40);
    const auto full = static_cast<size_t>(share * static_cast<double>(bar));
    line += "[" + std::string(full, '#') + std::string(bar - full, '-') + "]";
  }
  line += tail;
  line.resize(std::min(line.size(), width));
  (void)write_all(STDERR_FILENO, "\r" + line + "\x1b[K");
  drawn_ = true;
}

}  // namespace moka::cli
