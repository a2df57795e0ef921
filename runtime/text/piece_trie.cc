#include "runtime/text/piece_trie.h"

#include <algorithm>

namespace moka::text {

void PieceTrie::build(std::vector<std::pair<std::string_view, uint32_t>> pieces) {
  std::sort(pieces.begin(), pieces.end());
  // A node for each byte that a piece does not share with the one before it: room is taken once,
  // because a large vocabulary is built whenever a model is opened.
  size_t count = 1;
  std::string_view before;
  for (const auto& piece : pieces) {
    const size_t most = std::min(before.size(), piece.first.size());
    const auto ends = std::mismatch(before.begin(), before.begin() + most, piece.first.begin());
    count += piece.first.size() - static_cast<size_t>(ends.first - before.begin());
    before = piece.first;
  }
  nodes_.assign(1, Node());
  nodes_.reserve(count);
  labels_.assign(1, 0);
  labels_.reserve(count);
  tables_.clear();

  // Breadth first, so that children lie side by side. A node stands for the sorted pieces
  // [begin, end), which share their first `depth` bytes.
  struct Work {
    uint32_t begin, end, depth;
  };
  std::vector<Work> work;
  work.reserve(count);
  work.push_back({0, static_cast<uint32_t>(pieces.size()), 0});
  for (size_t node = 0; node < work.size(); ++node) {
    auto [begin, end, depth] = work[node];
    if (begin < end && pieces[begin].first.size() == depth) {
      if (depth > 0) nodes_[node].value = static_cast<int32_t>(pieces[begin].second);
      while (begin < end && pieces[begin].first.size() == depth) ++begin;
    }
    nodes_[node].first = static_cast<uint32_t>(nodes_.size());
    while (begin < end) {
      const char byte = pieces[begin].first[depth];
      uint32_t next = begin + 1;
      while (next < end && pieces[next].first[depth] == byte) ++next;
      work.push_back({begin, next, depth + 1});
      nodes_.emplace_back();
      labels_.push_back(static_cast<uint8_t>(byte));
      ++nodes_[node].count;
      begin = next;
    }
  }
  for (Node& node : nodes_) {
    if (node.count <= kCrowded) continue;
    node.table = static_cast<uint32_t>(tables_.size() / 256);
    tables_.resize(tables_.size() + 256, kNoNode);
    uint32_t* table = tables_.data() + node.table * size_t{256};
    for (uint32_t i = 0; i < node.count; ++i) table[labels_[node.first + i]] = node.first + i;
  }
}

int32_t PieceTrie::longest(std::string_view text, size_t begin, size_t* end) const {
  int32_t found = -1;
  uint32_t node = kRoot;
  for (size_t i = begin; i < text.size(); ++i) {
    node = child(node, static_cast<uint8_t>(text[i]));
    if (node == kNoNode) break;
    if (value(node) >= 0) {
      found = value(node);
      *end = i + 1;
    }
  }
  return found;
}

int32_t PieceTrie::find(std::string_view text) const {
  uint32_t node = kRoot;
  for (const char c : text) {
    node = child(node, static_cast<uint8_t>(c));
    if (node == kNoNode) return -1;
  }
  return value(node);
}

}  // namespace moka::text
