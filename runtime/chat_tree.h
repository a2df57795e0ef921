// ChatTree: the turns of a chat. No state of the model is here.
//
// I1  ids rise in turns(), and a parent's id is below its child's: there are no cycles.
// I2  every parent is in the tree or is kStartOfChat; so is the current turn.
// I3  a turn's position is its parent's plus its own tokens; that of the start is 0, or behind the
//     prefix that the chat began from.
#ifndef MOKA_RUNTIME_CHAT_TREE_H_
#define MOKA_RUNTIME_CHAT_TREE_H_

#include <vector>

#include "moka/chat.h"

namespace moka {

class ChatTree {
 public:
  Span<const Turn> turns() const { return turns_; }
  const Turn* find(TurnId id) const;
  bool has(TurnId id) const { return id == kStartOfChat || find(id) != nullptr; }
  TurnId current() const { return current_; }
  TurnId next_id() const { return next_id_; }

  // Of turns that are there, or the start.
  uint64_t position(TurnId id) const;
  TurnId parent(TurnId id) const;
  // The turns behind `ancestor`, up to and with `id`.
  std::vector<const Turn*> path(TurnId ancestor, TurnId id) const;

  // Makes room, so that the next add() cannot fail.
  void reserve() {
    if (turns_.size() == turns_.capacity()) turns_.reserve(2 * turns_.size() + 8);
  }
  // The turn's id is at least next_id() and its parent is there; it becomes the current one.
  void add(Turn turn);
  void set_current(TurnId id) { current_ = id; }
  void set_next_id(TurnId id) { next_id_ = id; }
  // Tokens that are read before the first turn; set while there are no turns.
  void set_root(uint64_t position) { root_ = position; }

  // The turn and all behind it, by rising id.
  std::vector<TurnId> family(TurnId id) const;
  void remove(const std::vector<TurnId>& ids);  // by rising id

 private:
  std::vector<Turn> turns_;
  TurnId current_ = kStartOfChat;
  TurnId next_id_ = 1;
  uint64_t root_ = 0;
};

}  // namespace moka

#endif  // MOKA_RUNTIME_CHAT_TREE_H_
