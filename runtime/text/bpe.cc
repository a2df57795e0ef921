#include "runtime/text/bpe.h"

#include <algorithm>

namespace moka::text {

namespace {

// Up to here looking through all pairs beats keeping a heap of them.
constexpr size_t kShortPiece = 48;

}  // namespace

bool MergeTable::build(const std::vector<uint32_t>& merges, size_t* repeated,
                       const std::vector<uint32_t>* ranks) {
  const size_t count = merges.size() / 3;
  unsigned bits = 1;
  while ((size_t{1} << bits) < 2 * count + 2) ++bits;
  slots_.assign(size_t{1} << bits, Slot());
  mask_ = slots_.size() - 1;
  shift_ = 64 - bits;
  for (size_t m = 0; m < count; ++m) {
    const uint64_t key = uint64_t{merges[3 * m]} << 32 | merges[3 * m + 1];
    size_t i = slot(key);
    while (slots_[i].merge.rank != kNone) {
      if (slots_[i].key == key) {
        *repeated = m;
        return false;
      }
      i = (i + 1) & mask_;
    }
    slots_[i].key = key;
    const auto rank = ranks != nullptr ? (*ranks)[m] : static_cast<uint32_t>(m);
    slots_[i].merge = {rank, merges[3 * m + 2]};
  }
  return true;
}

void Merger::merge(std::vector<uint32_t>* symbols) {
  if (symbols->size() <= kShortPiece) {
    merge_short(symbols);
  } else {
    merge_long(symbols);
  }
}

void Merger::merge_short(std::vector<uint32_t>* symbols) {
  std::vector<uint32_t>& s = *symbols;
  size_t n = s.size();
  if (n < 2) return;
  pairs_.resize(n - 1);  // pairs_[i] is the merge of s[i] and s[i + 1]
  for (size_t i = 0; i + 1 < n; ++i) pairs_[i] = merges_.find(s[i], s[i + 1]);
  while (n >= 2) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < n; ++i) {
      if (pairs_[i].rank < pairs_[best].rank) best = i;
    }
    if (pairs_[best].rank == MergeTable::kNone) break;
    s[best] = pairs_[best].merged;
    std::copy(s.begin() + best + 2, s.begin() + n, s.begin() + best + 1);
    std::copy(pairs_.begin() + best + 1, pairs_.begin() + (n - 1), pairs_.begin() + best);
    --n;
    if (best > 0) pairs_[best - 1] = merges_.find(s[best - 1], s[best]);
    if (best + 1 < n) pairs_[best] = merges_.find(s[best], s[best + 1]);
  }
  s.resize(n);
}

void Merger::offer(uint32_t left) {
  const uint32_t right = nodes_[left].next;
  if (right == kEnd) return;
  const uint32_t left_id = nodes_[left].id, right_id = nodes_[right].id;
  const MergeTable::Merge merge = merges_.find(left_id, right_id);
  if (merge.rank != MergeTable::kNone) heap_.push_back({merge.rank, left, left_id, right_id});
}

void Merger::merge_long(std::vector<uint32_t>* symbols) {
  const auto n = static_cast<uint32_t>(symbols->size());
  auto later = [](const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
  };
  nodes_.resize(n);
  for (uint32_t i = 0; i < n; ++i) {
    nodes_[i] = {(*symbols)[i], i == 0 ? kEnd : i - 1, i + 1 == n ? kEnd : i + 1};
  }
  heap_.clear();
  for (uint32_t i = 0; i + 1 < n; ++i) offer(i);
  std::make_heap(heap_.begin(), heap_.end(), later);
  auto offer_and_sift = [&](uint32_t left) {
    const size_t before = heap_.size();
    offer(left);
    if (heap_.size() > before) std::push_heap(heap_.begin(), heap_.end(), later);
  };

  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end(), later);
    const Candidate c = heap_.back();
    heap_.pop_back();
    // Stale if either symbol has been merged since. A node that was swallowed has id kNone.
    Node& left = nodes_[c.left];
    if (left.id != c.left_id || left.next == kEnd || nodes_[left.next].id != c.right_id) continue;
    const uint32_t right = left.next;
    left.id = merges_.find(c.left_id, c.right_id).merged;
    left.next = nodes_[right].next;
    nodes_[right].id = MergeTable::kNone;
    if (left.next != kEnd) nodes_[left.next].previous = c.left;
    if (left.previous != kEnd) offer_and_sift(left.previous);
    offer_and_sift(c.left);
  }

  symbols->clear();
  for (uint32_t i = 0; i != kEnd; i = nodes_[i].next) symbols->push_back(nodes_[i].id);
}

}  // namespace moka::text
