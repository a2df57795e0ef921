#include "moka/tokenizer.h"
#include "runtime/text/unicode.h"

namespace moka {

namespace {
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
}

std::string_view TextStream::push(TokenId id) {
  out_.clear();
  if (tokenizer_->is_control(id)) return out_;
  if (begun_ && tokenizer_->separates_words()) pending_.push_back(' ');
  begun_ = true;
  pending_.append(tokenizer_->piece(id));
  const std::string_view bytes = pending_;
  size_t done = 0;
  while (done < bytes.size()) {
    const text::Utf8Scan scan = text::scan_utf8(bytes.substr(done));
    if (scan.kind == text::Utf8Scan::kCut) break;
    out_.append(scan.kind == text::Utf8Scan::kValid ? bytes.substr(done, scan.length)
                                                    : kReplacement);
    done += scan.length;
  }
  pending_.erase(0, done);
  return out_;
}

std::string_view TextStream::finish() {
  out_.clear();
  if (!pending_.empty()) out_ = kReplacement;
  pending_.clear();
  begun_ = false;
  return out_;
}

}  // namespace moka
