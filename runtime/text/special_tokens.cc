#include "runtime/text/special_tokens.h"

#include <algorithm>

#include "runtime/text/unicode.h"

namespace moka::text {

namespace {

// The joiners are word characters for the program whose rules these are.
bool joins_word(CodePoint c) { return is_word(c) || c == 0x200C || c == 0x200D; }

bool word_before(std::string_view text, size_t position) {
  return position > 0 && joins_word(decode(text, step_back(text, position)).code_point);
}

bool word_after(std::string_view text, size_t position) {
  return position < text.size() && joins_word(decode(text, position).code_point);
}

}  // namespace

uint32_t SpecialTokens::child(uint32_t node, uint8_t byte) const {
  const std::vector<Edge>& edges = nodes_[node].edges;
  auto edge = std::lower_bound(edges.begin(), edges.end(), byte,
                               [](const Edge& e, uint8_t value) { return e.byte < value; });
  return edge != edges.end() && edge->byte == byte ? edge->node : 0;
}

Status SpecialTokens::add(const SpecialToken& token, std::string_view text) {
  if (text.empty()) {
    return Status(StatusCode::kCorrupt,
                  "tokenizer: special token " + std::to_string(token.id) + " has no text");
  }
  uint32_t node = 0;
  for (char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    uint32_t next = child(node, byte);
    if (next == 0) {
      next = static_cast<uint32_t>(nodes_.size());
      std::vector<Edge>& edges = nodes_[node].edges;
      edges.insert(
          std::find_if(edges.begin(), edges.end(), [byte](const Edge& e) { return e.byte > byte; }),
          Edge{byte, next});
      nodes_.emplace_back();
    }
    node = next;
  }
  if (nodes_[node].token >= 0) {
    return Status(StatusCode::kCorrupt,
                  "tokenizer: special tokens " +
                      std::to_string(tokens_[static_cast<size_t>(nodes_[node].token)].id) +
                      " and " + std::to_string(token.id) + " have the same text \"" + token.text +
                      "\"");
  }
  nodes_[node].token = static_cast<int32_t>(tokens_.size());
  tokens_.push_back(
      {token.id, token.control, token.strip_left, token.strip_right, token.single_word});
  return Status();
}

int32_t SpecialTokens::longest_at(std::string_view text, size_t start, size_t* end) const {
  int32_t longest = -1;
  uint32_t node = 0;
  for (size_t i = start; i < text.size(); ++i) {
    node = child(node, static_cast<uint8_t>(text[i]));
    if (node == 0) break;
    if (nodes_[node].token >= 0) {
      longest = nodes_[node].token;
      *end = i + 1;
    }
  }
  return longest;
}

bool SpecialTokens::find(std::string_view text, size_t start, bool control, Found* found) const {
  if (tokens_.empty()) return false;
  for (size_t at = start; at < text.size();) {
    size_t end = at;
    const int32_t index = longest_at(text, at, &end);
    if (index < 0) {
      ++at;
      continue;
    }
    const Token& token = tokens_[static_cast<size_t>(index)];
    const bool inside_word = token.single_word && (word_before(text, at) || word_after(text, end));
    if ((token.control && !control) || inside_word) {
      at = end;
      continue;
    }
    size_t begin = at;
    while (token.strip_left && begin > start) {
      const size_t before = step_back(text, begin);
      if (before < start || !is_space(decode(text, before).code_point)) break;
      begin = before;
    }
    while (token.strip_right && end < text.size()) {
      const Decoded d = decode(text, end);
      if (!is_space(d.code_point)) break;
      end += d.length;
    }
    *found = {token.id, begin, end};
    return true;
  }
  return false;
}

}  // namespace moka::text
