// KeptStates: the states at the ends of turns, within a budget of memory.
//
// A state is a Session, or the bytes of Session::save() when it came from a file and was not used
// since: turning bytes into a session takes longer than all else of opening a file.
#ifndef MOKA_RUNTIME_CHAT_STATES_H_
#define MOKA_RUNTIME_CHAT_STATES_H_

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "moka/chat.h"

namespace moka {

class KeptStates {
 public:
  // When a state was used: the later, the higher.
  using Stamp = uint64_t;

  explicit KeptStates(uint64_t budget) : budget_(budget) {}

  Stamp now() { return ++clock_; }
  bool has(TurnId turn) const { return kept_.count(turn) != 0; }
  uint64_t bytes() const { return bytes_; }

  // Keeps a copy, used at `stamp`. States used before it are let go to make room, `live` first,
  // whose state is at hand anyway. Where the budget or the memory does not reach, it is not kept.
  void keep(TurnId turn, const Session& session, Stamp stamp, TurnId live);
  // The same for the bytes of a saved session.
  void keep_saved(TurnId turn, Span<const uint8_t> bytes, Stamp stamp);

  // Puts the state of `turn` into `session` and counts it as used. A state that turns out to be
  // damaged or at another position is let go; then the session is as it was.
  Status restore(TurnId turn, uint64_t position, Session* session);

  void drop(TurnId turn);

  // Turns by falling stamp.
  std::vector<TurnId> recent() const;
  // The state of `turn`, which must be kept, as Session::save() writes it.
  Result<std::vector<uint8_t>> save(TurnId turn) const;

 private:
  struct Kept {
    Stamp stamp;
    uint64_t bytes;
    std::optional<Session> session;
    std::vector<uint8_t> saved;  // when there is no session
  };

  // Lets states go until `bytes` fit; false when only later ones than `stamp` are left. The last
  // one let go is given out, its memory can be used again.
  bool make_room(uint64_t bytes, Stamp stamp, TurnId live, std::optional<Session>* freed);

  // Makes a session of the bytes of a saved one.
  Status unpack(Kept* kept, uint64_t position, const Session& like);

  const uint64_t budget_;
  uint64_t bytes_ = 0;
  Stamp clock_ = 0;
  std::map<TurnId, Kept> kept_;
};

// Memory that a copy of the session takes.
uint64_t session_bytes(const Session& session);

}  // namespace moka

#endif  // MOKA_RUNTIME_CHAT_STATES_H_
