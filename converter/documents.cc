// DocumentReader: a text file cut at its separator lines, one document in memory at a time.
#include <algorithm>
#include <string_view>
#include <utility>

#include "converter/evaluate.h"
#include "converter/file.h"

namespace moka {
namespace {

constexpr std::string_view kSeparator = "<|endoftext|>";
constexpr size_t kBlock = size_t{1} << 18;
constexpr size_t kMaxDocument = size_t{1} << 30;

}  // namespace

struct DocumentReader::Impl {
  explicit Impl(InputFile input) : file(std::move(input)) {}

  // Makes `block` hold unread bytes; false at the end of the file.
  Result<bool> fill() {
    if (position < block.size()) return true;
    block.resize(static_cast<size_t>(std::min<uint64_t>(kBlock, file.size() - offset)));
    position = 0;
    if (block.empty()) return false;
    MOKA_RETURN_IF_ERROR(file.read(offset, block.data(), block.size()));
    offset += block.size();
    return true;
  }

  InputFile file;
  std::string block;
  size_t position = 0;  // of the first unread byte in `block`
  uint64_t offset = 0;  // in the file, of the end of `block`
};

DocumentReader::DocumentReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DocumentReader::DocumentReader(DocumentReader&&) noexcept = default;
DocumentReader& DocumentReader::operator=(DocumentReader&&) noexcept = default;
DocumentReader::~DocumentReader() = default;

Result<DocumentReader> DocumentReader::open(const std::string& path) {
  MOKA_ASSIGN_OR_RETURN(InputFile file, InputFile::open(path));
  return DocumentReader(std::make_unique<Impl>(std::move(file)));
}

Result<bool> DocumentReader::next(Document* document) {
  std::string& text = document->text;
  text.clear();
  document->ended = false;
  size_t line = 0;  // where the line begins that is being read
  const auto ends_with_separator = [&](size_t newline) {
    return std::string_view(text).substr(line, text.size() - line - newline) == kSeparator;
  };
  while (true) {
    MOKA_ASSIGN_OR_RETURN(const bool more, impl_->fill());
    if (!more) break;
    const size_t newline = impl_->block.find('\n', impl_->position);
    const size_t end = newline == std::string::npos ? impl_->block.size() : newline + 1;
    if (end - impl_->position > kMaxDocument - text.size()) {
      return Status(StatusCode::kOutOfRange,
                    impl_->file.path() +
                        ": a document is longer than 1 GiB; documents end at lines "
                        "that are exactly <|endoftext|>");
    }
    text.append(impl_->block, impl_->position, end - impl_->position);
    impl_->position = end;
    if (newline == std::string::npos) continue;
    if (ends_with_separator(1)) {
      text.resize(line);
      document->ended = true;
      return true;
    }
    line = text.size();
  }
  if (ends_with_separator(0)) {  // the file's last line, without a newline
    text.resize(line);
    document->ended = true;
    return true;
  }
  return !text.empty();
}

uint64_t DocumentReader::bytes_read() const {
  return impl_->offset - (impl_->block.size() - impl_->position);
}

uint64_t DocumentReader::file_bytes() const { return impl_->file.size(); }

}  // namespace moka
