#include "converter/vocabulary.h"

#include <algorithm>
#include <array>

#include "runtime/text/tokenizer_check.h"
#include "runtime/text/unicode.h"

namespace moka::tokenizer_json {

namespace {

// GPT-2 writes each byte as a printable character: those that are printable as themselves, the
// others, in order, as U+0100 and up. Returns the byte of each character below U+0144, or -1.
std::array<int, 0x144> byte_of_character() {
  std::array<int, 0x144> bytes;
  bytes.fill(-1);
  int next = 0x100;
  for (int b = 0; b < 256; ++b) {
    const bool itself = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    bytes[static_cast<size_t>(itself ? b : next++)] = b;
  }
  return bytes;
}

}  // namespace

Status Vocabulary::put(uint64_t id, const Place& place) {
  const size_t end = std::min(most_, text::kMaxVocabulary);
  if (id >= end) {
    return place.corrupt("id " + std::to_string(id) + " is too large: the file has " +
                         std::to_string(most_) + " pieces, and ids have no holes");
  }
  if (id >= entries_.size()) entries_.resize(static_cast<size_t>(id) + 1);
  return Status();
}

Status Vocabulary::add(const std::string& written, uint64_t id, const Place& place) {
  MOKA_RETURN_IF_ERROR(put(id, place));
  Entry& entry = entries_[static_cast<size_t>(id)];
  if (entry.written != nullptr) {
    return place.corrupt("id " + std::to_string(id) + " belongs to both \"" + *entry.written +
                         "\" and \"" + written + "\"");
  }
  const auto [node, fresh] = ids_.emplace(written, static_cast<int64_t>(id));
  if (!fresh) {
    return place.corrupt("\"" + written + "\" has both id " + std::to_string(node->second) +
                         " and id " + std::to_string(id));
  }
  entry.written = &node->first;
  return Status();
}

Status Vocabulary::add_plain(const std::string& text, uint64_t id, const Place& place) {
  const int64_t* known = find(text);
  if (known == nullptr || static_cast<uint64_t>(*known) != id) {
    MOKA_RETURN_IF_ERROR(add(text, id, place));
  }
  entries_[static_cast<size_t>(id)].plain = true;
  return Status();
}

Status Vocabulary::finish(const Place& place, bool byte_level, TokenizerSpec* spec) const {
  const std::array<int, 0x144> bytes = byte_of_character();
  if (entries_.empty()) return place.corrupt("is empty");
  for (size_t id = 0; id < entries_.size(); ++id) {
    const Entry& entry = entries_[id];
    if (entry.written == nullptr) {
      return place.corrupt("id " + std::to_string(id) + " is missing; there are ids up to " +
                           std::to_string(entries_.size() - 1));
    }
    const std::string& written = *entry.written;
    for (size_t i = 0; i < written.size();) {
      if (entry.plain || !byte_level) {
        spec->pieces.push_back(static_cast<uint8_t>(written[i++]));
        continue;
      }
      const text::Decoded d = text::decode(written, i);
      if (d.code_point >= bytes.size() || bytes[d.code_point] < 0) {
        return place.unsupported("piece \"" + written + "\" (id " + std::to_string(id) +
                                 ") has a character that stands for no byte; only byte-level "
                                 "vocabularies are read");
      }
      spec->pieces.push_back(static_cast<uint8_t>(bytes[d.code_point]));
      i += d.length;
    }
    spec->piece_ends.push_back(static_cast<uint32_t>(spec->pieces.size()));
  }
  return Status();
}

}  // namespace moka::tokenizer_json
