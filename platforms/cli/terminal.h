// stdout, stderr and what people read: progress, tables, numbers with units.
//
// stdout carries data only, stderr carries words. Progress is drawn on stderr, and only if that is
// a terminal.
#ifndef MOKA_PLATFORMS_CLI_TERMINAL_H_
#define MOKA_PLATFORMS_CLI_TERMINAL_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "platforms/cli/exit_codes.h"

namespace moka::cli {

// Writes to stdout at once, without a buffer. False when it cannot be written any more; then the
// verb stops, and output_outcome() says how it ends: quietly, with success, when the reader of a
// pipe has gone (as in `moka run ... | head`), with a message and exit code 1 otherwise.
bool write_output(std::string_view text);
Outcome output_outcome();
bool output_closed();  // nothing can be written any more
// For verbs that go on after an interrupt: a write that it ended no longer counts as the end.
void reopen_output();

// A line of words on stderr; "\n" is added, and what could steer a terminal is taken out.
void say(std::string_view words);

// The same without the end of the line, for what is answered on it.
void say_prompt(std::string_view words);

// Text from a file whose control characters must not reach a terminal: each becomes "?", except
// newlines.
std::string printable(std::string_view text);

// The first or last `most` bytes of a text, or a little fewer so that no character is cut, with
// "..." where there was more.
std::string first_bytes(const std::string& text, size_t most);
std::string last_bytes(const std::string& text, size_t most);

// Columns of the terminal behind a file descriptor, 80 if it is none.
size_t terminal_width(int fd);
bool is_terminal(int fd);

// "1,234,567"
std::string with_commas(uint64_t number);
// "19.8 MB" (powers of 1000), exact below 1000: "512 bytes"
std::string bytes_words(uint64_t bytes);
// Three significant digits, no exponent: "0.0123", "12.3", "1,234"
std::string short_number(double number);
// The shortest decimal that reads back as the same float32: "0.1", "-2.5e-07", "nan"
std::string float_text(float value);
// "850 us", "12.3 ms", "4.56 s", "3 min 12 s"
std::string seconds_words(double seconds);

// `text` in lines of at most `width` columns, each but the first begun with `indent` spaces.
std::string wrap(std::string_view text, size_t width, size_t indent);

// Text in columns. Numbers are set to the right. When the lines are wider than `width` (0: any),
// the first column is cut in the middle.
class Table {
 public:
  struct Column {
    std::string title;
    bool right = false;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  std::string to_string(size_t width = 0) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// A bar on stderr with rate and remaining time. It shows itself when the work takes longer than a
// blink, is redrawn ten times a second at most, and leaves no trace.
class Progress {
 public:
  // `unit`: what is counted, in the plural; "bytes" are written with their prefixes. A total of 0 is
  // not known.
  Progress(std::string label, uint64_t total, std::string unit);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(uint64_t done);
  void clear();
  const std::string& label() const { return label_; }

 private:
  using Clock = std::chrono::steady_clock;
  void draw(uint64_t done, double elapsed);

  std::string label_;
  uint64_t total_;
  std::string unit_;
  bool enabled_;
  bool drawn_ = false;
  Clock::time_point start_;
  Clock::time_point last_;
};

}  // namespace moka::cli

#endif  // MOKA_PLATFORMS_CLI_TERMINAL_H_
