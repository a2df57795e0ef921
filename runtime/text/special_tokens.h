// Finds special and added tokens in text, so that they are not cut or merged like the rest.
#ifndef MOKA_RUNTIME_TEXT_SPECIAL_TOKENS_H_
#define MOKA_RUNTIME_TEXT_SPECIAL_TOKENS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "moka/status.h"
#include "runtime/model_spec.h"

namespace moka::text {

// A byte trie of token texts. Immutable; any thread.
class SpecialTokens {
 public:
  struct Found {
    uint32_t id;
    size_t begin, end;  // with the space that the token swallows
  };

  SpecialTokens() = default;
  // `text` is what is looked for: the token's own text, or its normalized form.
  // kCorrupt: the text is empty or another token's.
  Status add(const SpecialToken& token, std::string_view text);

  bool empty() const { return tokens_.empty(); }
  // The first token that begins at or after `start`, the longest of those that begin there. Control
  // tokens count only when `control`; their place in the text is skipped otherwise. False: none.
  bool find(std::string_view text, size_t start, bool control, Found* found) const;

 private:
  struct Edge {
    uint8_t byte;
    uint32_t node;
  };
  struct Node {
    std::vector<Edge> edges;  // by byte
    int32_t token = -1;       // index in tokens_
  };
  struct Token {
    uint32_t id;
    bool control, strip_left, strip_right, single_word;
  };

  uint32_t child(uint32_t node, uint8_t byte) const;  // 0: none; the root is nobody's child
  int32_t longest_at(std::string_view text, size_t start, size_t* end) const;

  std::vector<Node> nodes_ = std::vector<Node>(1);
  std::vector<Token> tokens_;
};

}  // namespace moka::text

#endif  // MOKA_RUNTIME_TEXT_SPECIAL_TOKENS_H_
