#include "runtime/chat_text.h"

#include <algorithm>

#include "moka/loop_guard.h"
#include "runtime/text/unicode.h"

namespace moka {
namespace {

constexpr size_t kMaxStops = 64;
constexpr size_t kMaxStopBytes = 4096;

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const text::Utf8Scan scan = text::scan_utf8(text);
    if (scan.kind != text::Utf8Scan::kValid) return false;
    text.remove_prefix(scan.length);
  }
  return true;
}

// Bytes at the end of `text` that begin `stop` but are not all of it.
size_t overlap(std::string_view text, std::string_view stop) {
  size_t size = std::min(text.size(), stop.size() - 1);
  while (size > 0 && text.substr(text.size() - size) != stop.substr(0, size)) --size;
  return size;
}

Status check_stop_texts(const std::vector<std::string>& stop) {
  if (stop.size() > kMaxStops) {
    return Status(StatusCode::kInvalidArgument, "stop: " + std::to_string(stop.size()) +
                                                    " texts, at most " + std::to_string(kMaxStops));
  }
  for (size_t i = 0; i < stop.size(); ++i) {
    const std::string name = "stop[" + std::to_string(i) + "]: ";
    if (stop[i].empty() || stop[i].size() > kMaxStopBytes) {
      return Status(StatusCode::kInvalidArgument, name + std::to_string(stop[i].size()) +
                                                      " bytes, not 1 to " +
                                                      std::to_string(kMaxStopBytes));
    }
    if (!is_utf8(stop[i])) {
      return Status(StatusCode::kInvalidArgument, name + "is not UTF-8, so no text can have it");
    }
  }
  return Status();
}

Status check_token_list(const char* name, Span<const TokenId> tokens, uint32_t vocab_size) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= 0 && static_cast<uint32_t>(tokens[i]) < vocab_size) continue;
    return Status(StatusCode::kOutOfRange, std::string(name) + "[" + std::to_string(i) + "] is " +
                                               std::to_string(tokens[i]) + ", ids are 0 to " +
                                               std::to_string(vocab_size - 1));
  }
  return Status();
}

}  // namespace

Status check_generate(const GenerateOptions& options, uint32_t vocab_size) {
  if (options.max_tokens == 0) {
    return Status(StatusCode::kInvalidArgument, "max_tokens is 0, must be at least 1");
  }
  MOKA_RETURN_IF_ERROR(check_token_list("stop_tokens", options.stop_tokens, vocab_size));
  if (options.loop_tokens > LoopGuard::kMostTokens) {
    return Status(StatusCode::kInvalidArgument,
                  "loop_tokens is " + std::to_string(options.loop_tokens) + ", must be at most " +
                      std::to_string(LoopGuard::kMostTokens));
  }
  if (options.lookup > Session::kMostGuesses) {
    return Status(StatusCode::kInvalidArgument, "lookup is " + std::to_string(options.lookup) +
                                                    ", must be at most " +
                                                    std::to_string(Session::kMostGuesses));
  }
  MOKA_RETURN_IF_ERROR(check_token_list("lookup_tokens", options.lookup_tokens, vocab_size));
  return check_stop_texts(options.stop);
}

bool is_stop_token(const GenerateOptions& options, const Tokenizer& tokenizer, TokenId token) {
  if (options.stop_at_end && (token == tokenizer.eos_id() || token == tokenizer.bos_id())) {
    return true;
  }
  const auto& stops = options.stop_tokens;
  return std::find(stops.begin(), stops.end(), token) != stops.end();
}

std::string_view TurnText::push(TokenId token) {
  held_.append(stream_.push(token));
  size_t end = std::string::npos;
  for (const std::string& stop : *stop_) end = std::min(end, held_.find(stop));
  if (end != std::string::npos) {
    stopped_ = true;
    held_.resize(end);
    out_.swap(held_);
    held_.clear();
    return out_;
  }
  size_t held = 0;
  for (const std::string& stop : *stop_) held = std::max(held, overlap(held_, stop));
  out_.assign(held_, 0, held_.size() - held);
  held_.erase(0, held_.size() - held);
  return out_;
}

std::string_view TurnText::finish() {
  out_.swap(held_);
  held_.clear();
  return out_;
}

}  // namespace moka
