// The vocabulary of a tokenizer while its file is read. Used by tokenizer_json.cc alone.
#ifndef MOKA_CONVERTER_VOCABULARY_H_
#define MOKA_CONVERTER_VOCABULARY_H_

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "converter/tokenizer_rules.h"

namespace moka::tokenizer_json {

// The ids while they are gathered: what a file writes for a piece, and the bytes that it means.
class Vocabulary {
 public:
  // `most`: how many entries the file has; a larger id leaves a hole.
  explicit Vocabulary(size_t most) : most_(most) {}
  // An entry of "vocab". Its bytes are looked at in finish(), when the added tokens are known.
  Status add(const std::string& written, uint64_t id, const Place& place);
  // The entry is an added token: its bytes are its text as it stands.
  Status add_plain(const std::string& text, uint64_t id, const Place& place);
  const int64_t* find(const std::string& written) const {
    const auto found = ids_.find(written);
    return found == ids_.end() ? nullptr : &found->second;
  }
  // Appends pieces and piece_ends. Ids without holes, every piece as bytes; with `byte_level` they
  // are written in GPT-2's letters.
  Status finish(const Place& place, bool byte_level, TokenizerSpec* spec) const;

 private:
  struct Entry {
    const std::string* written = nullptr;
    bool plain = false;
  };
  Status put(uint64_t id, const Place& place);

  size_t most_;
  std::unordered_map<std::string, int64_t> ids_;  // nodes stay where they are
  std::vector<Entry> entries_;                    // by id
};

}  // namespace moka::tokenizer_json

#endif  // MOKA_CONVERTER_VOCABULARY_H_
