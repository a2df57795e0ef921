// A byte trie of vocabulary pieces: every piece that begins at a place, in one walk.
#ifndef MOKA_RUNTIME_TEXT_PIECE_TRIE_H_
#define MOKA_RUNTIME_TEXT_PIECE_TRIE_H_

#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace moka::text {

// The children of a node lie side by side, in the order of their bytes. Crowded nodes have a table
// of 256 besides; there are so few that memory stays proportional to the bytes of the pieces.
// Immutable after build(); any thread.
class PieceTrie {
 public:
  static constexpr uint32_t kNoNode = 0;  // the root is nobody's child
  static constexpr uint32_t kRoot = 0;

  // (piece, value), values below 2^31; of equal pieces the least value stays. Empty pieces are left
  // out. Less than 2^32 - 1 bytes of pieces in all.
  void build(std::vector<std::pair<std::string_view, uint32_t>> pieces);

  bool empty() const { return nodes_.size() <= 1; }

  // The child by `byte`, or kNoNode.
  uint32_t child(uint32_t node, uint8_t byte) const {
    const Node& n = nodes_[node];
    if (n.count > kCrowded) return tables_[n.table * size_t{256} + byte];
    const uint8_t* labels = labels_.data() + n.first;
    for (uint32_t i = 0; i < n.count; ++i) {
      if (labels[i] == byte) return n.first + i;
    }
    return kNoNode;
  }
  // The value of the piece that ends at the node; -1: none does.
  int32_t value(uint32_t node) const { return nodes_[node].value; }

  // The longest piece that begins at `begin`: its value, and where it ends; -1: none.
  int32_t longest(std::string_view text, size_t begin, size_t* end) const;
  // The value of the piece that is `text`; -1: none is.
  int32_t find(std::string_view text) const;

 private:
  static constexpr uint32_t kCrowded = 24;
  struct Node {
    uint32_t first = 0;  // of its children
    uint32_t count = 0;
    uint32_t table = 0;  // only with more than kCrowded children
    int32_t value = -1;
  };

  std::vector<Node> nodes_ = std::vector<Node>(1);
  std::vector<uint8_t> labels_ = std::vector<uint8_t>(1);  // the byte that leads to each node
  std::vector<uint32_t> tables_;
};

}  // namespace moka::text

#endif  // MOKA_RUNTIME_TEXT_PIECE_TRIE_H_
