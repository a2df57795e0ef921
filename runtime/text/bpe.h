// Byte-pair encoding: from the bytes or characters of one piece of text to ids, by ranked merges of
// neighbours.
#ifndef MOKA_RUNTIME_TEXT_BPE_H_
#define MOKA_RUNTIME_TEXT_BPE_H_

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "moka/status.h"
#include "moka/tokenizer.h"

namespace moka::text {

// (left id, right id) to (rank, merged id): an open hash table, at most half full.
class MergeTable {
 public:
  struct Merge {
    uint32_t rank = kNone;
    uint32_t merged = 0;
  };
  static constexpr uint32_t kNone = 0xFFFFFFFF;

  // `merges`: (left, right, merged) per merge, best rank first. With `ranks`, one per merge, those
  // are the ranks, and merges of equal rank go from left to right. False: merge `*repeated` is an
  // earlier one again.
  bool build(const std::vector<uint32_t>& merges, size_t* repeated,
             const std::vector<uint32_t>* ranks = nullptr);

  Merge find(uint32_t left, uint32_t right) const {
    const uint64_t key = uint64_t{left} << 32 | right;
    for (size_t i = slot(key);; i = (i + 1) & mask_) {
      if (slots_[i].merge.rank == kNone) return {};
      if (slots_[i].key == key) return slots_[i].merge;
    }
  }

 private:
  struct Slot {
    uint64_t key = 0;
    Merge merge;
  };
  size_t slot(uint64_t key) const {
    return static_cast<size_t>(key * 0x9E3779B97F4A7C15u >> shift_);
  }
  std::vector<Slot> slots_ = std::vector<Slot>(2);
  size_t mask_ = 1;
  unsigned shift_ = 63;
};

// Merges the symbols of one piece after the other; keeps its memory. One thread.
class Merger {
 public:
  explicit Merger(const MergeTable& merges) : merges_(merges) {}

  // Replaces `symbols` (ids of single bytes or characters) by what is left when no merge applies: at each turn
  // the merge of the best rank, the leftmost of equals.
  void merge(std::vector<uint32_t>* symbols);

 private:
  struct Node {
    uint32_t id;
    uint32_t previous, next;  // kEnd at the ends
  };
  struct Candidate {
    uint32_t rank, left;  // `left`: node of the left symbol
    uint32_t left_id, right_id;
  };
  static constexpr uint32_t kEnd = 0xFFFFFFFF;

  void merge_short(std::vector<uint32_t>* symbols);
  void merge_long(std::vector<uint32_t>* symbols);
  void offer(uint32_t left);

  const MergeTable& merges_;
  std::vector<MergeTable::Merge> pairs_;
  std::vector<Node> nodes_;
  std::vector<Candidate> heap_;
};

}  // namespace moka::text

#endif  // MOKA_RUNTIME_TEXT_BPE_H_
