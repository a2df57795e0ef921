#include "runtime/chat_tree.h"

#include <algorithm>
#include <utility>

namespace moka {

const Turn* ChatTree::find(TurnId id) const {
  const auto at = std::lower_bound(turns_.begin(), turns_.end(), id,
                                   [](const Turn& turn, TurnId value) { return turn.id < value; });
  return at != turns_.end() && at->id == id ? &*at : nullptr;
}

uint64_t ChatTree::position(TurnId id) const {
  const Turn* turn = find(id);
  return turn == nullptr ? root_ : turn->position;
}

TurnId ChatTree::parent(TurnId id) const {
  const Turn* turn = find(id);
  return turn == nullptr ? kStartOfChat : turn->parent;
}

std::vector<const Turn*> ChatTree::path(TurnId ancestor, TurnId id) const {
  std::vector<const Turn*> path;
  for (; id != ancestor && id != kStartOfChat; id = path.back()->parent) path.push_back(find(id));
  std::reverse(path.begin(), path.end());
  return path;
}

void ChatTree::add(Turn turn) {
  current_ = turn.id;
  next_id_ = turn.id + 1;
  turns_.push_back(std::move(turn));
}

std::vector<TurnId> ChatTree::family(TurnId id) const {
  std::vector<TurnId> ids;
  for (const Turn& turn : turns_) {  // parents come first
    if (turn.id == id || std::binary_search(ids.begin(), ids.end(), turn.parent)) {
      ids.push_back(turn.id);
    }
  }
  return ids;
}

void ChatTree::remove(const std::vector<TurnId>& ids) {
  turns_.erase(std::remove_if(turns_.begin(), turns_.end(),
                              [&ids](const Turn& turn) {
                                return std::binary_search(ids.begin(), ids.end(), turn.id);
                              }),
               turns_.end());
}

}  // namespace moka
